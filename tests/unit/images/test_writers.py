"""Labels that leave the program come back the same, and never over somebody's file."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from random import Random

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from unet_studio.axes import Axes
from unet_studio.errors import AxesError, Cancelled, ImageError, OutputError
from unet_studio.images import ome_zarr, zarr_marker
from unet_studio.images.formats import READERS
from unet_studio.images.ome_zarr import write_chunked
from unet_studio.images.readers import is_image, read_image
from unet_studio.images.volume import as_volume
from unet_studio.images.writers import (
    beside_labels,
    labels_path,
    labels_paths,
    output_path,
    record_path,
    write_array,
    write_labels,
    write_record,
)

SUFFIXES = (".tif", ".ome.tif", ".ome.zarr", ".nii", ".nii.gz", ".png")
EDGES = (0, 1, 255, 256, 65_535, 65_536, 70_000, 2**31 - 1, 2**31, 2**32 - 1, 2**32)


def _labels(largest: int, shape: tuple[int, ...] = (30, 40)) -> np.ndarray:
    labels = np.zeros(shape, np.uint64)
    labels[..., 3:9, 4:12] = largest
    labels[..., 20:22, 30:33] = largest // 2
    return labels


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


# --- names -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.tif", "a_labels.tif"),
        ("a.b.OME.TIFF", "a.b_labels.OME.TIFF"),
        ("a.jpg", "a_labels.png"),
        ("a.png", "a_labels.png"),
        ("a.nii.gz", "a_labels.nii.gz"),
        ("a.ome.zarr", "a_labels.ome.zarr"),
        ("-weird ü.tif", "-weird ü_labels.tif"),
        ("field", "field_labels.ome.zarr"),
    ],
)
def test_names_of_results(name: str, expected: str) -> None:
    assert labels_path(Path("in") / name, "out") == Path("out") / expected
    assert output_path(name, "out", "probabilities").name == expected.replace(
        "_labels", "_probabilities"
    )


def _every_output(target: Path) -> set[str]:
    files = [
        target, target.with_name(target.name + ".tif"), beside_labels(target, "objects", ".csv"),
        beside_labels(target, "probabilities"),
    ]  # fmt: skip
    return {name.casefold() for f in files for name in (f.name, record_path(f).name)}


def test_no_two_inputs_share_a_result() -> None:
    inputs = ["a.png", "a.jpg", "a.tif", "a.ome.tif", "A.TIF", "x/b.png", "y/b.png", "c_png.tif",
              "c.png", "c.tif", "d.nii", "d.nii.gz", "alone.png"]  # fmt: skip
    paths = labels_paths(inputs, "out")
    assert {str(k): p.name for k, p in paths.items()} == {
        "a.png": "a_png_labels.png",
        "a.jpg": "a_jpg_labels.png",
        "a.tif": "a_tif_labels.tif",
        "a.ome.tif": "a_ome_tif_labels.ome.tif",
        "A.TIF": "A_tif_2_labels.TIF",
        "x/b.png": "b_labels.png",
        "y/b.png": "b_2_labels.png",
        "c_png.tif": "c_png_labels.tif",
        "c.png": "c_png_2_labels.png",
        "c.tif": "c_tif_labels.tif",
        "d.nii": "d_nii_labels.nii",
        "d.nii.gz": "d_nii_gz_labels.nii.gz",
        "alone.png": "alone_labels.png",
    }
    assert len(labels_paths(["a.png", "a.png"], "out")) == 1


# --- records, atomicity, other people's files --------------------------------


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


def test_long_names(tmp_path: Path) -> None:
    path = tmp_path / f"{'ü' * 120}.tif"
    assert write_labels(_labels(3), Axes("YX"), path).is_file()
    with pytest.raises(OutputError, match="could not be written"):
        write_record({}, tmp_path / ("x" * 300))


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


def test_gzip_holds_no_name_and_no_time(tmp_path: Path) -> None:
    path = write_labels(_labels(3), Axes("YX"), tmp_path / "patient.nii.gz")
    assert path.read_bytes()[3:8] == b"\0" * 5
    assert len(gzip.decompress(path.read_bytes())) == 352 + 30 * 40


@given(st.lists(st.text("aAü._-", min_size=1, max_size=4), max_size=8), st.randoms())
def test_names_of_results_are_never_shared(stems: list[str], random: Random) -> None:
    suffixes = (".png", ".jpg", ".JPEG", ".tif", ".TIFF", ".nii", ".nii.gz", ".zarr", "")
    inputs = [Path(stem + random.choice(suffixes)) for stem in stems]
    paths = labels_paths(inputs, "out")
    assert list(paths) == list(dict.fromkeys(inputs))
    outputs = [_every_output(p) for p in paths.values()]
    assert len(set().union(*outputs)) == sum(map(len, outputs))
    assert all("_labels" in p.name for p in paths.values())


def test_a_file_of_the_user_with_a_results_name_stays(tmp_path):
    """Hand-made labels beside the image: no record lists them, so they are not ours."""
    (tmp_path / "a_labels.tif").write_bytes(b"by hand")
    target = labels_paths(["a.tif"], tmp_path)[Path("a.tif")]
    assert target == tmp_path / "a_2_labels.tif"
    record = {"versions": {"napari-unet-studio": "0.1.0"}, "outputs": ["a_labels.tif"]}
    (tmp_path / "a_labels.tif.json").write_text(json.dumps(record))
    assert labels_paths(["a.tif"], tmp_path)[Path("a.tif")] == tmp_path / "a_labels.tif"


def test_a_slab_that_is_written_after_a_cancel_brings_nothing_back(tmp_path, monkeypatch):
    """Workers on other machines go on for a while: what they were at is gone."""
    monkeypatch.setattr(ome_zarr, "_SLAB_BYTES", 4096)
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
