"""Odd names and folders that come and go: every image gets its own result, or says why not."""

from __future__ import annotations

import io
import os
import shutil
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unet_studio import run_batch
from unet_studio.batch.run import plan_batch
from unet_studio.recipe import Recipe

RECIPE = Recipe(model="random:unet-tiny", precision="float32", backend="torch", device="cpu")
ODD = [
    "plain.tif", "with space.tif", "-o.tif", "new\nline.tif", "a'b\"c.tif", "%s {0} $HOME.tif",
    unicodedata.normalize("NFC", "é.tif"), unicodedata.normalize("NFD", "é.tif"),
    "ü" * 120 + ".tif", "x" * 251 + ".tif", "PLAIN.TIF", "plain.png", "plain_labels.tif",
    "@list.tif", "[a-z]*.tif", "名前.tif", ".tif.tif",
]  # fmt: skip


def content(number: int) -> np.ndarray:
    """An image that has a shape of its own, so that its labels can be told by it."""
    shape = (24, 24 + number)
    return np.random.default_rng(number).integers(0, 255, shape).astype(np.uint8)


@pytest.fixture
def odd(tmp_path) -> dict[str, int]:
    """Images with odd names in tmp_path / "images": their widths by name."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = {}
    for number, name in enumerate(ODD):
        if name.startswith(".") or (folder / name).exists():
            continue  # hidden; or a file system that takes two names for one
        if name.lower().endswith(".png"):
            Image.fromarray(content(number)).save(folder / name)
        else:
            tifffile.imwrite(folder / name, content(number))
        names[name] = 24 + number
    return names


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_F92_F95_each_odd_name_gets_a_result_of_its_own(odd, tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    report = run_batch(RECIPE, [images], out)
    assert [r.reason for r in report.failed] == []
    assert report.done == len(odd) >= 14
    tasks = plan_batch([images], out).tasks
    assert {task.item.path.name for task in tasks} == set(odd)
    for task in tasks:
        if task.target.suffix == ".png":
            with Image.open(task.target) as picture:
                width = picture.size[0]
        else:
            width = tifffile.imread(task.target).shape[1]
        assert width == odd[task.item.path.name], task.item.path.name
    assert run_batch(RECIPE, [images], out).skipped == len(odd)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such names")
def test_F95_a_name_that_is_no_text_is_done_too(tmp_path):
    folder, file = os.fsencode(tmp_path / "images"), io.BytesIO()
    tifffile.imwrite(file, content(1))
    os.mkdir(folder)  # noqa: PTH102
    try:
        with open(folder + b"/caf\xe9.tif", "wb") as stream:  # noqa: PTH123
            stream.write(file.getvalue())
    except OSError:
        return  # this file system takes text only, so there can be no such name
    report = run_batch(RECIPE, [tmp_path / "images"], tmp_path / "out", overlays=True)
    assert report.ok, report.failed
    assert report.done == 1


def test_F94_an_output_that_vanishes_is_made_again_and_the_next_run_completes_it(tmp_path):
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    for number in range(8):
        tifffile.imwrite(images / f"{number}.tif", content(number))
    gone = []

    def vanish(_result, _report):
        if not gone:
            # Results are being written into it meanwhile.
            gone.append(shutil.rmtree(out, ignore_errors=True))

    report = run_batch(RECIPE, [images], out, on_result=vanish)
    assert report.total == 8
    assert report.done + len(report.failed) == 8
    again = run_batch(RECIPE, [images], out)
    assert again.ok
    assert again.done >= 1, "what vanished is done again"
    assert len(list(out.glob("*_labels.tif"))) == 8


def test_F94_an_output_that_can_not_be_made_is_refused_at_once(tmp_path):
    from unet_studio.errors import OutputError

    tifffile.imwrite(tmp_path / "a.tif", content(0))
    (tmp_path / "file").write_text("mine")
    for output in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match="file"):
            run_batch(RECIPE, [tmp_path / "a.tif"], output)
    assert (tmp_path / "file").read_text() == "mine"
    assert sorted(p.name for p in Path(tmp_path).iterdir()) == ["a.tif", "file"]


def test_F94_a_folder_that_takes_no_file_is_refused_at_once(tmp_path):
    """Not by root either, who may write into folders that are read-only."""
    from unet_studio.errors import OutputError

    if not Path("/proc/self").is_dir():
        pytest.skip("no /proc on this system")
    tifffile.imwrite(tmp_path / "a.tif", content(0))
    for output in ("/proc/self", "/proc/unet-studio", "/proc/self/below"):
        with pytest.raises(OutputError, match=f"{output} can not be .*Choose another"):
            run_batch(RECIPE, [tmp_path / "a.tif"], Path(output))


def test_F95_a_folder_with_a_loop_a_pipe_and_a_dangling_link_is_done(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    tifffile.imwrite(images / "a.tif", content(0))
    for name in ("loop", "again"):  # with two, each round doubles the ways
        (images / name).symlink_to(images)
    (images / "gone.tif").symlink_to(tmp_path / "nothing.tif")
    if hasattr(os, "mkfifo"):
        os.mkfifo(images / "pipe.tif")
    report = run_batch(RECIPE, [images], tmp_path / "out")
    assert report.done == 1
    assert [r.name for r in report.failed] == ["gone.tif"]
    assert "link to a file that does not exist" in report.failed[0].reason
    if hasattr(os, "mkfifo"):  # named, it is refused; reading it would never end
        named = run_batch(RECIPE, [images / "pipe.tif", images / "a.tif"], tmp_path / "other")
        assert [r.name for r in named.failed] == ["pipe.tif"]
