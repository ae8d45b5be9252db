"""NIfTI files, as a user would open them."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from unet_studio.axes import AmbiguousAxes, Axes
from unet_studio.errors import ImageError
from unet_studio.images.readers import read_image
from unet_studio.images.writers import write_array

RNG = np.random.default_rng(1)


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
