"""What is there already: inputs stay, results are replaced as a whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import zarr

from support.label_images import labels_up_to as _labels
from unet_studio.axes import Axes
from unet_studio.errors import Cancelled, ImageError, OutputError
from unet_studio.images import zarr_levels, zarr_marker
from unet_studio.images.ome_zarr import write_chunked
from unet_studio.images.readers import is_image, read_image
from unet_studio.images.writers import record_path, write_labels

OURS = {"versions": {"napari-unet-studio": "0"}}


def test_the_record_goes_before_its_labels_are_replaced(tmp_path: Path, monkeypatch) -> None:
    path = write_labels(_labels(3), Axes("YX"), tmp_path / "a.tif", record=OURS)
    assert record_path(path).exists()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError):
        write_labels(_labels(4), Axes("YX"), path, record=OURS)
    assert [p.name for p in tmp_path.iterdir()] == ["a.tif"]


def test_a_png_and_the_tiff_in_its_place_are_never_both_there(tmp_path: Path) -> None:
    for largest, name in ((70_000, "a.png.tif"), (5, "a.png"), (70_000, "a.png.tif")):
        write_labels(_labels(largest), Axes("YX"), tmp_path / "a.png", record=OURS)
        assert sorted(p.name for p in tmp_path.iterdir()) == [name, f"{name}.json"]


def test_somebody_elses_json_stays_until_it_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.png.json").write_text('{"outputs": ["a.png"]}')
    (tmp_path / "a.png.tif").write_text("mine")
    (tmp_path / "a.png.tif.json").write_text("[1]")
    write_labels(_labels(3), Axes("YX"), tmp_path / "a.png")
    assert (tmp_path / "a.png.json").exists()
    assert (tmp_path / "a.png.tif").read_text() == "mine"


@pytest.mark.parametrize("suffix", [".tif", ".png", ".nii.gz"])
def test_the_input_is_never_overwritten(suffix: str, tmp_path: Path) -> None:
    source = write_labels(_labels(3), Axes("YX"), tmp_path / f"a{suffix}")
    before = source.read_bytes()
    volume = read_image(source)
    hard = tmp_path / f"hard{suffix}"
    os.link(source, hard)
    for target in (source, tmp_path / "x" / ".." / source.name, hard):
        with pytest.raises(OutputError, match="is the input itself"):
            write_labels(np.squeeze(_labels(4)), Axes("YX"), target, metadata=volume.metadata)
    assert source.read_bytes() == before


def test_the_input_store_is_never_replaced(tmp_path: Path) -> None:
    source = write_labels(_labels(3), Axes("YX"), tmp_path / "a.ome.zarr")
    metadata = read_image(source).metadata
    with pytest.raises(OutputError, match="is the input itself"):
        write_labels(_labels(4), Axes("YX"), source, metadata=metadata)
    assert read_image(source).read().max() == 3


def test_a_link_at_the_target_is_replaced_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (tmp_path / "a.tif").symlink_to(precious)
    (tmp_path / "a.tif.json").symlink_to(precious)
    write_labels(_labels(3), Axes("YX"), tmp_path / "a.tif", record={})
    assert precious.read_text() == "mine"
    assert not (tmp_path / "a.tif").is_symlink()
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "file").write_text("mine")
    (tmp_path / "b.ome.zarr").symlink_to(folder, target_is_directory=True)
    write_labels(_labels(3), Axes("YX"), tmp_path / "b.ome.zarr")
    assert (folder / "file").read_text() == "mine"
    assert not (tmp_path / "b.ome.zarr").is_symlink()


def test_only_our_own_stores_are_replaced(tmp_path: Path) -> None:
    own = write_labels(_labels(3), Axes("YX"), tmp_path / "own.ome.zarr")
    write_labels(_labels(4), Axes("YX"), own)
    assert read_image(own).read().max() == 4
    other = tmp_path / "other.ome.zarr"
    zarr.create_array(other, data=np.ones((3, 3)))
    with pytest.raises(OutputError, match=r"other\.ome\.zarr exists"):
        write_labels(_labels(4), Axes("YX"), other)
    assert read_image(other).read().min() == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["other.ome.zarr", "own.ome.zarr"]


@pytest.mark.parametrize("suffix", [".tif", ".png", ".nii.gz", ".ome.zarr"])
def test_a_failure_leaves_the_old_result(
    suffix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_labels(_labels(3), Axes("YX"), tmp_path / f"a{suffix}")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=f"a{suffix} could not be written: No space left"):
        write_labels(_labels(4), Axes("YX"), path)
    monkeypatch.undo()
    assert np.squeeze(read_image(path).read()).max() == 3
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_an_output_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for suffix in (".tif", ".ome.zarr"):
        with pytest.raises(OutputError, match="another output folder"):
            write_labels(_labels(3), Axes("YX"), tmp_path / "file" / f"a{suffix}")
    with pytest.raises(OutputError, match="no suffix that can be written"):
        write_labels(_labels(3), Axes("YX"), tmp_path / "a.xyz")
    (tmp_path / "dir.tif").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        write_labels(_labels(3), Axes("YX"), tmp_path / "dir.tif")


def test_an_unfinished_store_is_told_from_a_finished_one(tmp_path: Path) -> None:
    path = write_labels(_labels(3, (4, 600, 600)), Axes("ZYX"), tmp_path / "a.ome.zarr")
    assert zarr_marker.is_complete(path)
    chunk = path / "0" / "c" / "0" / "1" / "2"
    chunk.unlink()
    assert not zarr_marker.is_complete(path)
    with pytest.raises(ImageError, match="chunk 0/c/0/1/2 is missing"):
        read_image(path)
    del zarr.open_group(path, mode="r+").attrs[zarr_marker.MARKER]
    assert not zarr_marker.is_ours(path)
    assert not zarr_marker.is_complete(path)
    assert not is_image(path.rename(tmp_path / "a.ome.zarr.partial-1"))


def test_a_slab_that_is_written_after_a_cancel_brings_nothing_back(tmp_path, monkeypatch):
    """Workers on other machines go on for a while: what they were at is gone."""
    monkeypatch.setattr(zarr_levels, "_SLAB_BYTES", 4096)
    late = []

    def each(work, items):
        yield work(next(items))
        late.append(lambda: work(next(items)))
        raise Cancelled

    image = np.arange(12 * 64 * 64, dtype=np.uint8).reshape(12, 64, 64)
    with pytest.raises(Cancelled):
        write_chunked(
            image, Axes("TYX"), tmp_path / "x.ome.zarr", dtype=image.dtype, metadata={},
            labels=True, each=each,
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ImageError, match="removed"):
        late[0]()
    assert list(tmp_path.iterdir()) == []
