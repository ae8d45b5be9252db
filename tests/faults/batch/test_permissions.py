"""Files and folders of others among the inputs: each is a problem of its own, no more."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")


def batch(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a batch as somebody whom permissions bind: root is not, with all capabilities."""
    bound = []
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root needs setpriv to give up its rights")
        bound = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    command = [*bound, sys.executable, "-m", "unet_studio", "batch", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture
def images(tmp_path):
    """A folder of two images, with a folder and a file that can not be opened."""
    folder = tmp_path / "images"
    for name in ("a.tif", "closed/b.tif", "unread.tif", "z.tif"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(folder / name, np.zeros((24, 32), np.uint8))
    text = 'model = "random:unet-tiny"\nprecision = "float32"\ndevice = "cpu"\n'
    (tmp_path / "recipe.toml").write_text(text)
    yield folder
    (folder / "closed").chmod(0o700)


def pattern_of(folder: Path) -> str:
    return f"{folder}/**/*.tif"


@pytest.mark.parametrize("mode", [0, 0o400, 0o100])
@pytest.mark.parametrize("given", [Path, pattern_of])
def test_a_folder_that_can_not_be_read_is_one_problem(images, tmp_path, given, mode):
    (images / "closed").chmod(mode)
    ended = batch(tmp_path / "recipe.toml", given(images), "-o", tmp_path / "out", "--dry-run")
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.count("can not be read: Permission denied.") == 1
    assert "Traceback" not in ended.stderr
    assert "3 images to do, 0 that can not be done" in ended.stdout


def test_a_file_that_can_not_be_read_fails_alone(images, tmp_path):
    (images / "unread.tif").chmod(0)
    (images / "closed").chmod(0)
    common = (tmp_path / "recipe.toml", images, "-o", tmp_path / "out")
    ended = batch(*common, "--dry-run")
    assert ended.returncode == 2, ended.stderr
    assert "2 images to do, 1 that can not be done" in ended.stdout
    assert "Traceback" not in ended.stderr
    assert "unread.tif can not be read: Permission denied. Check" in ended.stderr.replace(
        "\n", " "
    )
    ended = batch(*common)
    assert ended.returncode == 2, ended.stderr
    assert "2 done, 0 complete already, 1 failed, of 3" in ended.stdout
    assert "Traceback" not in ended.stderr
