"""Real and synthetic files of every family, as a user would open them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from unet_studio.axes import AmbiguousAxes, Axes
from unet_studio.errors import AxesError, ImageError
from unet_studio.images.formats import FORMATS, READERS, WRITERS
from unet_studio.images.readers import image_suffixes, is_image, read_image
from unet_studio.images.writers import write_array

RNG = np.random.default_rng(1)


@pytest.fixture
def stack() -> np.ndarray:
    return RNG.integers(0, 60_000, (4, 40, 50), dtype=np.uint16)


# --- real data ---------------------------------------------------------------


def test_real_ome_tiff_has_its_axes_and_voxel_size(shared_data: Path) -> None:
    path = shared_data / "ovule_nuclei_3d" / "images" / "1135_mini.tif"
    volume = read_image(path)
    assert volume.axes.names == "ZYX"
    assert volume.axes.scale == pytest.approx(
        (0.28371836501901143, 0.1267864206672, 0.1267864206672)
    )
    assert volume.axes.units == ("micrometer",) * 3
    assert volume.metadata["family"] == "ome-tiff"
    np.testing.assert_array_equal(volume.read()[0], tifffile.imread(path))
    np.testing.assert_array_equal(
        volume.read({"Z": slice(10, 12), "Y": slice(5, 9)})[0], tifffile.imread(path)[10:12, 5:9]
    )


def test_real_nuclei_png_and_histology_rgb(shared_data: Path) -> None:
    grey = next((shared_data / "dsb2018_fluo" / "val" / "images").glob("*.png"))
    colour = next((shared_data / "dsb2018_histology" / "val" / "images").glob("*.png"))
    mask = next((shared_data / "dsb2018_histology" / "val" / "masks").glob("*.png"))
    volume = read_image(grey)
    assert (volume.axes.names, volume.rgb, volume.info.channels) == ("YX", False, 1)
    np.testing.assert_array_equal(volume.read()[0], np.array(Image.open(grey)))
    volume = read_image(colour)
    assert (volume.axes.names, volume.rgb, volume.info.channels) == ("YXC", True, 3)
    np.testing.assert_array_equal(volume.read(), np.moveaxis(np.array(Image.open(colour)), -1, 0))
    assert read_image(mask).info.dtype == np.uint16


def test_real_nifti_is_lazy_and_keeps_its_affine(shared_data: Path) -> None:
    import nibabel

    path = shared_data / "mni152_3d" / "images" / "mni152_t1.nii.gz"
    volume = read_image(path)
    reference = nibabel.load(path)
    assert volume.axes.names == "XYZ"
    assert volume.info.shape == (197, 233, 189)
    np.testing.assert_array_equal(volume.metadata["affine"], reference.affine)
    plane = volume.read({"Z": slice(90, 91)})
    np.testing.assert_array_equal(plane[0, 0], np.asarray(reference.dataobj)[:, :, 90].T)


def test_every_real_hippocampus_can_be_read(shared_data: Path) -> None:
    import nibabel

    for path in sorted((shared_data / "msd_hippocampus_3d" / "val").glob("*/*.nii.gz")):
        volume = read_image(path)
        assert volume.axes.scale == pytest.approx(nibabel.load(path).header.get_zooms())
        known = nibabel.load(path).header.get_xyzt_units()[0] == "mm"
        assert set(volume.axes.units) == {"millimeter" if known else "pixel"}
        block = volume.read({"X": slice(3, 5)})
        expected = np.asarray(nibabel.load(path).dataobj)[3:5]
        np.testing.assert_allclose(np.moveaxis(block[0], (0, 1, 2), (2, 1, 0)), expected)


# --- TIFF --------------------------------------------------------------------


@pytest.mark.parametrize("compression", [None, "zlib", "lzw", "zstd"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_tiff_is_read_in_parts(
    stack: np.ndarray, compression: str | None, tile: tuple[int, int] | None, tmp_path: Path
) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, stack, compression=compression, tile=tile, metadata={"axes": "ZYX"})
    volume = read_image(path)
    assert not isinstance(volume.array, np.ndarray) or isinstance(volume.array, np.memmap)
    part = volume.read({"Z": slice(1, 3), "Y": slice(7, 33), "X": slice(20, 50)})
    np.testing.assert_array_equal(part[0], stack[1:3, 7:33, 20:50])


@pytest.mark.parametrize(("unit", "expected"), [("µm", "micrometer"), ("nm", "nanometer")])
def test_ome_tiff_metadata(stack: np.ndarray, unit: str, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    data = stack.reshape(2, 2, 40, 50)
    fields = {
        "axes": "TCYX",
        "PhysicalSizeX": 0.1,
        "PhysicalSizeXUnit": unit,
        "PhysicalSizeY": 0.2,
        "PhysicalSizeYUnit": unit,
        "TimeIncrement": 3.0,
        "TimeIncrementUnit": "s",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(path, data, metadata=fields)
    volume = read_image(path)
    assert volume.axes.names == "TCYX"
    assert volume.axes.scale == (3.0, 1.0, 0.2, 0.1)
    assert volume.axes.units == ("second", "pixel", expected, expected)
    assert volume.channel_names == ("DAPI", "GFP")


def test_imagej_tiff_metadata(stack: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    data = stack.reshape(2, 2, 40, 50)
    tifffile.imwrite(
        path,
        data,
        imagej=True,
        resolution=(4.0, 2.0),
        metadata={"axes": "ZCYX", "spacing": 0.7, "unit": "um"},
    )
    volume = read_image(path)
    assert volume.axes.names == "ZCYX"
    assert volume.axes.scale == pytest.approx((0.7, 1.0, 0.5, 0.25))
    assert volume.axes.units == ("micrometer", "pixel", "micrometer", "micrometer")


def test_plain_stack_asks_what_its_first_axis_is(stack: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, stack, metadata=None, photometric="minisblack")
    with pytest.raises(AmbiguousAxes, match=r"plain\.tif.*--axes ZYX.*axes='ZYX'") as caught:
        read_image(path)
    assert caught.value.candidates[:2] == ("ZYX", "TYX")
    assert "YXC" not in caught.value.candidates  # the file does say which are Y and X
    np.testing.assert_array_equal(read_image(path, "TYX").read()[:, 0], stack)


def test_given_axes_must_fit(stack: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "plain.tif"
    tifffile.imwrite(path, stack, metadata=None, photometric="minisblack")
    with pytest.raises(AxesError, match=r"plain\.tif has 3 dimensions"):
        read_image(path, "YX")


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_tiff(samples: int, planar: str, tmp_path: Path) -> None:
    path = tmp_path / "rgb.tif"
    image = RNG.integers(0, 255, (40, 50, samples), dtype=np.uint8)
    stored = image if planar == "contig" else np.moveaxis(image, -1, 0)
    extra = {"extrasamples": ["unassalpha"]} if samples == 4 else {}
    tifffile.imwrite(path, stored, photometric="rgb", planarconfig=planar, **extra)
    volume = read_image(path)
    assert (volume.rgb, volume.info.channels) == (True, 3)  # alpha does not count
    np.testing.assert_array_equal(volume.read(), np.moveaxis(image, -1, 0)[:3])
    assert read_image(path, volume.axes.names).rgb


def test_one_bit_tiff(tmp_path: Path) -> None:
    path = tmp_path / "bits.tif"
    image = RNG.integers(0, 2, (33, 41)).astype(bool)
    tifffile.imwrite(path, image, photometric="minisblack")
    np.testing.assert_array_equal(read_image(path).read()[0], image)


def test_pyramid_level_has_its_own_scale(tmp_path: Path) -> None:
    path = tmp_path / "pyramid.ome.tif"
    image = RNG.integers(0, 255, (256, 512), dtype=np.uint8)
    with tifffile.TiffWriter(path) as writer:
        fields = {"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25}
        writer.write(image, subifds=1, tile=(64, 64), metadata=fields)
        writer.write(image[::2, ::2], subfiletype=1, tile=(64, 64))
    volume = read_image(path, level=1)
    assert volume.axes.scale == (0.5, 1.0)
    np.testing.assert_array_equal(volume.read()[0], image[::2, ::2])
    with pytest.raises(ImageError, match=r"pyramid\.ome\.tif has 2 resolution"):
        read_image(path, level=2)
    with pytest.raises(ImageError, match="no series 5"):
        read_image(path, series=5)


# --- pictures ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "shape", "names", "rgb"),
    [
        ("L", (40, 50), "YX", False),
        ("1", (40, 50), "YX", False),
        ("LA", (40, 50), "YX", False),
        ("P", (40, 50, 3), "YXC", True),
        ("RGB", (40, 50, 3), "YXC", True),
        ("RGBA", (40, 50, 4), "YXC", True),
    ],
)
def test_picture_modes(
    mode: str, shape: tuple[int, ...], names: str, rgb: bool, tmp_path: Path
) -> None:
    path = tmp_path / "a.png"
    colours = RNG.integers(0, 255, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(colours).convert(mode).save(path)
    volume = read_image(path)
    assert (volume.info.shape, volume.axes.names, volume.rgb) == (shape, names, rgb)
    pixels = np.asarray(volume.array[...])
    assert pixels.shape == shape
    assert pixels.max() > 200  # not 0 and 1
    if mode == "RGB":
        np.testing.assert_array_equal(pixels, colours)


def test_sixteen_bit_pictures_are_not_cut_to_eight(tmp_path: Path) -> None:
    import imagecodecs

    grey = RNG.integers(0, 65_535, (40, 50), dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png").read()[0], grey)
    for samples in (2, 3, 4):
        colour = RNG.integers(0, 65_535, (40, 50, samples), dtype=np.uint16)
        path = tmp_path / f"colour{samples}.png"
        path.write_bytes(imagecodecs.png_encode(colour))
        volume = read_image(path)
        assert volume.info.dtype == np.uint16
        assert volume.rgb == (samples > 2)
        expected = colour[..., 0] if samples == 2 else colour
        np.testing.assert_array_equal(np.asarray(volume.array[...]), expected)


def test_jpeg(tmp_path: Path) -> None:
    path = tmp_path / "a.JPG"
    Image.fromarray(np.full((40, 50, 3), (200, 30, 90), np.uint8)).save(path, quality=95)
    volume = read_image(path)
    assert volume.rgb
    np.testing.assert_allclose(volume.read()[:, 20, 20].astype(float), [200, 30, 90], atol=3)


# --- OME-Zarr ----------------------------------------------------------------


def _ome_zarr(path: Path, data: np.ndarray, version: str) -> None:
    group = zarr.open_group(path, mode="w", zarr_format=2 if version == "0.4" else 3)
    for level, pixels in enumerate((data, data[..., ::2, ::2])):
        group.create_array(str(level), data=pixels, chunks=(1, 1, 2, 32, 32))
    datasets = [
        {
            "path": str(level),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1.0, 1.0, 2.0, 0.5 * 2**level, 0.5 * 2**level]},
                {"type": "translation", "translation": [4.0, 0.0, 10.0, 1.0, 2.0]},
            ],
        }
        for level in (0, 1)
    ]
    space = [{"name": a, "type": "space", "unit": "micrometer"} for a in "zyx"]
    multiscale = {
        "name": "image",
        "axes": [
            {"name": "t", "type": "time", "unit": "second"},
            {"name": "c", "type": "channel"},
            *space,
        ],
        "datasets": datasets,
        "coordinateTransformations": [{"type": "scale", "scale": [5.0, 1.0, 1.0, 1.0, 1.0]}],
    }
    channel = {
        "label": "DAPI",
        "color": "0000FF",
        "active": True,
        "window": {"min": 0, "max": 255, "start": 0, "end": 255},
    }
    omero = {"channels": [channel, {**channel, "label": "GFP"}]}
    if version == "0.4":
        group.attrs.update({"multiscales": [{**multiscale, "version": "0.4"}], "omero": omero})
    else:
        group.attrs["ome"] = {"version": version, "multiscales": [multiscale], "omero": omero}


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("level", [0, 1])
def test_ome_zarr(version: str, level: int, tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (2, 2, 4, 64, 48), dtype=np.uint8)
    path = tmp_path / "image.ome.zarr"
    _ome_zarr(path, data, version)
    volume = read_image(path, level=level)
    assert volume.axes.names == "TCZYX"
    assert volume.axes.scale == (5.0, 1.0, 2.0, 0.5 * 2**level, 0.5 * 2**level)
    assert volume.axes.translate == (20.0, 0.0, 10.0, 1.0, 2.0)
    assert volume.axes.units == ("second", "pixel", *("micrometer",) * 3)
    assert volume.channel_names == ("DAPI", "GFP")
    assert (volume.name, volume.metadata["family"]) == ("image", "ome-zarr")
    step = 2**level
    np.testing.assert_array_equal(volume.read(channels=[1])[:, 0], data[:, 1, :, ::step, ::step])


def test_ome_zarr_images_inside_a_collection(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (2, 2, 4, 64, 48), dtype=np.uint8)
    path = tmp_path / "many.zarr"
    group = zarr.open_group(path, mode="w", zarr_format=3)
    group.attrs["ome"] = {"version": "0.5", "bioformats2raw.layout": 3}
    _ome_zarr(path / "0", data, "0.5")
    _ome_zarr(path / "1", data[:1], "0.5")
    assert read_image(path, series=1).info.shape == (1, 2, 4, 64, 48)
    assert read_image(path / "1").info.shape == (1, 2, 4, 64, 48)
    with pytest.raises(ImageError, match="no series 7"):
        read_image(path, series=7)


def test_plain_zarr_array_asks_or_knows(tmp_path: Path) -> None:
    data = RNG.integers(0, 255, (4, 64, 48), dtype=np.uint8)
    zarr.create_array(tmp_path / "a.zarr", data=data)
    with pytest.raises(AmbiguousAxes, match=r"a\.zarr"):
        read_image(tmp_path / "a.zarr")
    np.testing.assert_array_equal(read_image(tmp_path / "a.zarr", "ZYX").read()[0], data)
    zarr.create_array(tmp_path / "b.zarr", data=data, dimension_names=("t", "y", "x"))
    assert read_image(tmp_path / "b.zarr").axes.names == "TYX"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "without an OME-Zarr image"),
        ({"ome": {"version": "0.5", "plate": {}}}, "plate.*A/1/0"),
        ({"ome": {"version": "0.5", "labels": ["nuclei"]}}, "labels.*nuclei"),
        ({"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]}, r"0\.1; versions"),
        ({"ome": {"version": "0.5", "multiscales": [{"axes": []}]}}, "break the specification"),
    ],
)
def test_zarr_groups_that_are_no_image(attributes: dict, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ome.zarr"
    zarr.open_group(path, mode="w", zarr_format=3).attrs.update(attributes)
    with pytest.raises(ImageError, match=message) as caught:
        read_image(path)
    assert str(path) in str(caught.value)


# --- NIfTI -------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_scaling_units_and_time(suffix: str, tmp_path: Path) -> None:
    import nibabel

    data = RNG.integers(-50, 1000, (9, 8, 7, 3)).astype(np.int16)
    image = nibabel.Nifti1Image(data, np.diag([0.5, 0.6, 2.0, 1.0]))
    image.header.set_zooms((0.5, 0.6, 2.0, 1.5))
    image.header.set_slope_inter(0.1, 3)
    path = tmp_path / f"a{suffix}"
    image.to_filename(path)
    with pytest.raises(AmbiguousAxes, match=r"time or channels.*--axes XYZT"):
        read_image(path)
    assert read_image(path, "XYZC").info.channels == 3
    image.header.set_xyzt_units("mm", "msec")
    image.to_filename(path)
    volume = read_image(path)
    assert volume.axes.names == "XYZT"
    assert volume.axes.scale == pytest.approx((0.5, 0.6, 2.0, 1.5))
    assert volume.axes.units == (*("millimeter",) * 3, "millisecond")
    frame = volume.read({"T": 1, "Z": slice(2, 4)})
    assert frame.dtype == volume.info.dtype == np.float32
    expected = np.asarray(nibabel.load(path).dataobj)[:, :, 2:4, 1]
    np.testing.assert_allclose(frame[0], expected.transpose(2, 1, 0), rtol=1e-6)


def test_nifti_without_nibabel_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"x" * 400)
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(ImageError, match=r"a\.nii\.gz.*napari-unet-studio\[mri\]"):
        read_image(path)


# --- the table of formats ----------------------------------------------------


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


def test_scale_of_a_store_follows_the_letters_that_are_given(
    stack: np.ndarray, tmp_path: Path
) -> None:
    axes = Axes("ZYX", (2.0, 0.5, 0.25), (9.0, 1.0, 2.0), ("micrometer",) * 3)
    path = write_array(stack, axes, tmp_path / "a.ome.zarr")
    movie = read_image(path, axes="TYX").axes
    assert movie.scale == (1.0, 0.5, 0.25)
    assert movie.translate == (0.0, 1.0, 2.0)
    assert movie.units == ("pixel", "micrometer", "micrometer")
    assert read_image(path, axes="XZY").axes.scale == (0.25, 2.0, 0.5)


def test_scale_of_a_nifti_follows_the_letters_that_are_given(
    stack: np.ndarray, tmp_path: Path
) -> None:
    import nibabel  # noqa: F401 - in the test group

    axes = Axes("ZYX", (2.0, 0.5, 0.25), (), ("millimeter",) * 3)
    path = write_array(stack.astype(np.int32), axes, tmp_path / "a.nii")
    assert read_image(path).axes.scale == (0.25, 0.5, 2.0)
    movie = read_image(path, axes="XYT").axes
    assert movie.scale == (0.25, 0.5, 1.0)
    assert movie.units == ("millimeter", "millimeter", "pixel")
