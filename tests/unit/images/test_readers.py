"""The table of formats: what counts as an image, and what plugins add."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import zarr

from unet_studio.images.formats import FORMATS, READERS, WRITERS
from unet_studio.images.readers import image_suffixes, is_image, read_image


@pytest.mark.parametrize("name", [f.name for f in FORMATS])
def test_every_format_has_reader_and_writer(name: str) -> None:
    assert callable(READERS.load(name))
    assert callable(WRITERS.load(name))


def test_what_counts_as_an_image(tmp_path: Path) -> None:
    for name in ("a.tif", "B.OME.TIFF", "c.png", "d.jpeg", "e.nii.gz"):
        (tmp_path / name).touch()
        assert is_image(tmp_path / name)
    for name in ("a.txt", "._a.tif", "a.tif.partial-1", "a.csv", "noext", "a.gz"):
        (tmp_path / name).touch()
        assert not is_image(tmp_path / name)
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.ome.zarr").mkdir()
    assert not is_image(tmp_path / "folder")
    assert not is_image(tmp_path / "empty.ome.zarr")
    zarr.create_array(tmp_path / "real.zarr", data=np.zeros((3, 3)))
    assert is_image(tmp_path / "real.zarr")
    assert {".ome.tif", ".nii.gz", ".zarr", ".jpg"} <= set(image_suffixes())


def test_a_format_of_a_plugin_can_be_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from unet_studio.images.volume import as_volume

    def read(path: Path, axes: str | None, series: int, level: int) -> object:
        return as_volume(np.array(json.loads(path.read_text())), axes)

    read.suffixes = (".grid",)
    monkeypatch.setattr(READERS, "_targets", dict(READERS._targets))
    monkeypatch.setattr(READERS, "_loaded", dict(READERS._loaded))
    READERS.register("grid", read)
    (tmp_path / "a.grid").write_text("[[1, 2], [3, 4]]")
    assert read_image(tmp_path / "a.grid").read().tolist() == [[[1, 2], [3, 4]]]
    assert is_image(tmp_path / "a.grid")


def test_importing_is_cheap() -> None:
    code = (
        "import sys, unet_studio.images.readers, unet_studio.images.writers;"
        "heavy = {'torch', 'zarr', 'tifffile', 'nibabel', 'PIL', 'dask', 'yaozarrs'};"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
