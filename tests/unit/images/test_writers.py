"""Labels that leave the program come back the same."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from support.label_images import labels_up_to as _labels
from unet_studio.axes import Axes
from unet_studio.errors import AxesError, OutputError
from unet_studio.images.formats import READERS
from unet_studio.images.readers import read_image
from unet_studio.images.volume import as_volume
from unet_studio.images.writers import (
    labels_path,
    record_path,
    write_array,
    write_labels,
    write_record,
)

SUFFIXES = (".tif", ".ome.tif", ".ome.zarr", ".nii", ".nii.gz", ".png")
EDGES = (0, 1, 255, 256, 65_535, 65_536, 70_000, 2**31 - 1, 2**31, 2**32 - 1, 2**32)


@pytest.mark.parametrize("largest", EDGES)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_P08_ids_of_any_size_survive(largest: int, suffix: str, tmp_path: Path) -> None:
    labels = _labels(largest)
    path = write_labels(labels, Axes("YX"), tmp_path / f"a{suffix}")
    back = read_image(path).read()
    assert back.max() == largest
    np.testing.assert_array_equal(np.squeeze(back), labels)
    if suffix == ".png":
        # Never a.tif, which may be the result of another input.
        assert path.name == ("a.png" if largest < 2**16 else "a.png.tif")
    else:
        assert path == tmp_path / f"a{suffix}"


@pytest.mark.parametrize("dtype", ["bool", "i4", "i8", ">u2", "u1"])
def test_labels_of_any_whole_type(dtype: str, tmp_path: Path) -> None:
    labels = (_labels(1) > 0).astype(dtype)
    for suffix in SUFFIXES:
        back = read_image(write_labels(labels, Axes("YX"), tmp_path / f"a{suffix}"))
        np.testing.assert_array_equal(np.squeeze(back.read()), labels)
        assert np.issubdtype(back.info.dtype, np.integer)


@pytest.mark.parametrize("bad", [np.zeros((3, 3)), np.full((3, 3), -1)])
def test_what_is_no_label_is_refused(bad: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="Labels"):
        write_labels(bad, Axes("YX"), tmp_path / "a.tif")
    with pytest.raises(AxesError, match="channel"):
        write_labels(np.zeros((2, 3, 3), int), Axes("CYX"), tmp_path / "a.tif")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr", ".nii.gz"])
@pytest.mark.parametrize("names", ["YX", "ZYX", "TYX", "TZYX"])
def test_scale_and_units_survive(names: str, suffix: str, tmp_path: Path) -> None:
    scale = {"T": 3.0, "Z": 2.0, "Y": 0.5, "X": 0.25}
    axes = Axes(
        names,
        tuple(scale[a] for a in names),
        (),
        tuple("second" if a == "T" else "micrometer" for a in names),
    )
    labels = _labels(9, (2, 3, 30, 40)[-len(names) :])
    back = read_image(write_labels(labels, axes, tmp_path / f"a{suffix}")).axes
    for axis in names:
        assert back.scale[back.index(axis)] == pytest.approx(scale[axis])
        assert back.units[back.index(axis)] == axes.units[axes.index(axis)]


def test_pixels_stay_pixels(tmp_path: Path) -> None:
    back = read_image(write_labels(_labels(3, (4, 30, 40)), Axes("ZYX"), tmp_path / "a.tif"))
    assert (set(back.axes.units), set(back.axes.scale)) == ({"pixel"}, {1.0})


def test_tiff_is_ome_with_zlib_and_can_be_read_elsewhere(tmp_path: Path) -> None:
    path = write_labels(_labels(300, (3, 30, 40)), Axes("ZYX"), tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert file.pages[0].compression.name == "ADOBE_DEFLATE"
        assert file.series[0].dtype == np.uint16
    with Image.open(path) as image:
        assert image.n_frames == 3


@pytest.mark.parametrize("names", ["YX", "XY", "XZY"])
def test_a_name_that_promises_ome_keeps_it(names: str, tmp_path: Path) -> None:
    labels = _labels(300, (30, 40)) if len(names) == 2 else _labels(300, (30, 3, 40))
    path = write_labels(labels, Axes(names), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
    back = read_image(path)
    order = [names.index(a) for a in back.axes.names]
    np.testing.assert_array_equal(np.asarray(back.array), labels.transpose(order))
    assert (set(back.axes.units), set(back.axes.scale)) == ({"pixel"}, {1.0})


def test_large_tiff_is_tiled(tmp_path: Path) -> None:
    labels = np.zeros((2048, 2100), np.uint16)
    path = write_labels(labels, Axes("YX"), tmp_path / "a.tif")
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].is_tiled


def test_ome_zarr_labels_follow_the_specification(tmp_path: Path) -> None:
    import yaozarrs

    labels = np.zeros((2, 1500, 1100), np.uint16)
    labels[1, 100:300, 200:500] = 7
    axes = Axes("ZYX", (2.0, 0.5, 0.5), (1.0, 2.0, 3.0), ("micrometer",) * 3)
    path = write_labels(labels, axes, tmp_path / "a.ome.zarr", record={"model": "x"})
    yaozarrs.validate_zarr_store(str(path))
    group = zarr.open_group(path, mode="r")
    assert "image-label" in group.attrs["ome"]
    assert "crc32c" in json.dumps(group["0"].metadata.to_dict(), default=str)
    assert read_image(path).axes == axes
    coarse = read_image(path, level=1)
    assert coarse.axes.scale == (2.0, 1.0, 1.0)
    np.testing.assert_array_equal(coarse.read()[0], labels[:, ::2, ::2])
    assert (group["1"].dtype, sorted(group.array_keys())) == (np.uint16, ["0", "1"])
    assert json.loads(record_path(path).read_text()) == {"model": "x"}


def test_probabilities_of_every_family(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((3, 4, 30, 40)).astype(np.float16)
    axes = Axes("CZYX", (1.0, 2.0, 0.5, 0.5), (), ("pixel", *("micrometer",) * 3))
    for suffix in (".tif", ".ome.zarr", ".nii.gz", ".png"):
        path = write_array(values, axes, tmp_path / f"p{suffix}")
        back = read_image(path)
        assert back.info.dtype.kind == "f"
        assert back.info.channels == 3
        stored = back.read({"T": 0} if "T" in back.axes else None)
        np.testing.assert_array_equal(stored, values)
    assert path.suffix == ".tif"


def test_nifti_labels_lie_where_the_image_lies(shared_data: Path, tmp_path: Path) -> None:
    import nibabel

    source = next((shared_data / "msd_hippocampus_3d" / "val" / "images").glob("*.nii.gz"))
    volume = read_image(source)
    labels = (np.asarray(volume.array[...]) > 100).astype(np.int32)
    path = write_labels(
        labels, volume.axes, labels_path(source, tmp_path), metadata=volume.metadata
    )
    assert path.name == source.name.replace(".nii.gz", "_labels.nii.gz")
    before, after = nibabel.load(source), nibabel.load(path)
    np.testing.assert_array_equal(after.affine, before.affine)
    assert after.header.get_zooms() == before.header.get_zooms()
    assert after.header.get_xyzt_units() == before.header.get_xyzt_units()
    for code in ("qform_code", "sform_code"):
        assert after.header[code] == before.header[code]
    assert after.get_data_dtype() == np.uint8
    np.testing.assert_array_equal(np.asarray(after.dataobj), labels)


def test_nifti_keeps_an_oblique_affine_and_drops_intensity_scaling(tmp_path: Path) -> None:
    import nibabel

    turn, flip = np.eye(4), np.diag([-1.0, 1.0, 1.0, 1.0])
    turn[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
    affine = turn @ flip @ np.diag([0.5, 0.6, 2.0, 1.0])
    affine[:3, 3] = (10, -20, 30)
    image = nibabel.Nifti1Image(np.zeros((9, 8, 7), np.int16), affine)
    image.header.set_slope_inter(0.01, 5)
    image.to_filename(tmp_path / "in.nii.gz")
    volume = read_image(tmp_path / "in.nii.gz")
    labels = np.arange(9 * 8 * 7).reshape(9, 8, 7)
    path = write_labels(labels, volume.axes, tmp_path / "o.nii.gz", metadata=volume.metadata)
    np.testing.assert_allclose(nibabel.load(path).affine, affine, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), labels)


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".nii.gz", ".png", ".ome.zarr"])
def test_same_labels_same_bytes(suffix: str, tmp_path: Path) -> None:
    trees = []
    for name in ("a", "b"):
        path = write_labels(_labels(5), Axes("YX"), tmp_path / name / f"l{suffix}")
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        trees.append({f.relative_to(path): f.read_bytes() for f in files if f.is_file()})
    assert trees[0] == trees[1]


def test_record_lies_beside_the_labels(tmp_path: Path) -> None:
    record = {"model": "nuclei", "objects": np.int64(3), "scale": np.array([0.5, 0.5]), "ü": "µm"}
    path = write_labels(_labels(3), Axes("YX"), tmp_path / "a.tif", record=record)
    assert json.loads((tmp_path / "a.tif.json").read_text(encoding="utf-8")) == {
        "model": "nuclei",
        "objects": 3,
        "scale": [0.5, 0.5],
        "ü": "µm",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == [path.name, "a.tif.json"]


def test_long_names(tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 120}.tif"
    assert write_labels(_labels(3), Axes("YX"), path).is_file()
    with pytest.raises(OutputError, match="could not be written"):
        write_record({}, tmp_path / ("x" * 300))


def test_gzip_holds_no_name_and_no_time(tmp_path: Path) -> None:
    path = write_labels(_labels(3), Axes("YX"), tmp_path / "patient.nii.gz")
    assert path.read_bytes()[3:8] == b"\0" * 5
    assert len(gzip.decompress(path.read_bytes())) == 352 + 30 * 40


def test_an_image_that_a_plugin_reads_gets_results_of_a_kind_that_can_be_written(
    tmp_path, monkeypatch
):
    """Its reader alone makes the suffix known; nobody writes such files."""

    def read(path, axes, series, level):
        return as_volume(np.loadtxt(path, np.float32), axes or "YX")

    read.suffixes = (".rows",)
    monkeypatch.setitem(READERS._targets, "rows", "nowhere:read")
    monkeypatch.setitem(READERS._loaded, "rows", read)
    path = tmp_path / "cells.rows"
    np.savetxt(path, np.eye(8))
    volume = read_image(path)
    labels = volume.array[:].astype(np.uint16)
    written = write_labels(
        labels, volume.axes, labels_path(path, tmp_path), metadata=volume.metadata
    )
    assert written.name == "cells_labels.ome.zarr"
    assert (read_image(written).array[:] == labels).all()
