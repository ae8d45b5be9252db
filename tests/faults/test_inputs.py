"""F01-F16: images that are not what one hopes for, through the whole path."""

import numpy as np
import pytest

from unet_studio import predict, segment
from unet_studio.errors import ImageError
from unet_studio.models.presets import new_model
from unet_studio.samples import sample_path


@pytest.fixture(scope="module")
def tiny():
    return new_model("unet-tiny", representation="objects")


@pytest.fixture(scope="module")
def two_channels():
    return new_model("unet-tiny", in_channels=2, representation="objects")


@pytest.fixture(scope="module")
def nuclei_image():
    from unet_studio import read_image

    return read_image(sample_path("nuclei_fluorescence")).read()[0]


@pytest.mark.parametrize("value", [0, 7], ids=["F01_zero", "F02_constant"])
def test_constant_images_give_no_objects_and_one_warning(tiny, value):
    result = segment(np.full((80, 90), value, np.uint16), tiny)
    assert result.labels.shape == (80, 90)
    assert not result.labels.any()
    assert [w for w in result.warnings if "is constant" in w] == list(result.warnings)
    assert len(result.warnings) == 1
    assert result.object_count == 0


def test_F03_blank_channel_beside_a_real_one(two_channels):
    rng = np.random.default_rng(0)
    image = np.stack([rng.random((70, 70)), np.zeros((70, 70))]).astype(np.float32)
    result = segment(image, two_channels, axes="CYX")
    assert "Channel 1" in result.warnings[0]
    assert np.isfinite(result.prediction.probabilities).all()
    other = segment(image[::-1].copy(), two_channels, axes="CYX")
    assert not np.array_equal(other.prediction.probabilities, result.prediction.probabilities)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=["F04_nan", "F07_inf", "F07_-inf"])
def test_one_bad_pixel_changes_nothing_far_away(nuclei_image, bad):
    image = nuclei_image.astype(np.float32)
    clean = segment(image).prediction.probabilities
    image[5, 5] = bad
    dirty = segment(image).prediction.probabilities
    assert np.isfinite(dirty).all()
    far = np.s_[:, 110:, 110:]  # beyond the network's reach
    np.testing.assert_allclose(dirty[far], clean[far], atol=2e-2)


def test_F05_half_nan_is_background_there(nuclei_image):
    image = nuclei_image.astype(np.float32)
    image[:, : image.shape[1] // 2] = np.nan
    result = segment(image)
    assert result.object_count > 0
    assert not result.labels[:, : image.shape[1] // 2 - 16].any()


def test_F05_nan_on_a_bright_background_is_no_dark_nucleus():
    """Dark blobs on bright ground are what the bundled model finds; NaN must not be one."""
    rng = np.random.default_rng(0)
    image = rng.normal(200, 4, (160, 160)).astype(np.float32)
    y, x = np.mgrid[:160, :160]
    hole = (y - 80) ** 2 + (x - 80) ** 2 < 144
    image[hole] = np.nan
    result = segment(image)
    assert not result.labels[hole].any()
    assert f"{hole.sum()} pixels" in result.warnings[0]


def test_F06_all_nan_is_refused(tiny):
    with pytest.raises(ImageError, match="no finite pixel"):
        segment(np.full((40, 40), np.nan, np.float32), tiny)


@pytest.mark.parametrize("factor", [1e30, 1e-300, 1e-40])
def test_F08_extreme_ranges_give_the_usual_result(nuclei_image, factor):
    plain = segment(nuclei_image.astype(np.float64))
    scaled = segment(nuclei_image.astype(np.float64) * factor)
    assert scaled.object_count == plain.object_count
    np.testing.assert_allclose(
        scaled.prediction.probabilities, plain.prediction.probabilities, atol=1e-2
    )


def test_F09_negative_integers(nuclei_image):
    shifted = nuclei_image.astype(np.int16) - 300
    assert np.array_equal(segment(shifted).labels, segment(nuclei_image).labels)


def test_F10_empty_images_are_refused(tiny):
    with pytest.raises(ImageError, match=r"is empty \(shape \(0, 64, 64\)\)"):
        segment(np.zeros((0, 64, 64), np.uint8), tiny, axes="ZYX")


@pytest.mark.parametrize(
    "shape",
    [(1, 1), (1, 200), (200, 1), (40, 33), (5, 7), (997, 991), (305, 305), (16, 16), (17, 15)],
    ids=["F11_1x1", "F12_line", "F12_column", "F13_below_tile", "F14_below_stride", "F15_prime",
         "F16_one_more", "one_stride", "around_a_stride"],
)  # fmt: skip
def test_any_size_works(tiny, shape):
    image = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    result = segment(image, tiny, tiling={"tile": 304})
    assert result.labels.shape == shape
    assert np.isfinite(result.prediction.probabilities).all()
    across = [1 if length <= 304 else 2 for length in shape]
    assert result.record["tiles"]["count"] >= np.prod(across)


@pytest.mark.parametrize("keep", ["probabilities", "logits"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, bool])
def test_P11_the_input_is_never_changed(tiny, dtype, keep):
    """Not of float32 either, which the network could be given as it is."""
    image = np.random.default_rng(0).integers(0, 255, (90, 70)).astype(dtype)
    if image.dtype.kind == "f":
        image[10, 10] = np.nan
    before = image.copy()
    prediction = predict(image, tiny, keep=keep)
    assert image.tobytes() == before.tobytes()
    assert not np.shares_memory(prediction.probabilities, image)
    result = segment(image, tiny)
    assert image.tobytes() == before.tobytes()
    assert not np.shares_memory(result.labels, image)


def test_P13_bit_depth_does_not_matter(nuclei_image):
    """The same picture in 8 bits, in 16 and as float gives the same labels."""
    eight = nuclei_image.astype(np.uint8)
    reference = segment(eight).labels
    assert np.array_equal(segment(eight.astype(np.uint16) * 257).labels, reference)
    as_float = segment((eight / 255).astype(np.float32)).labels
    assert (as_float != reference).mean() < 1e-4, "but for rounding at an edge"


def test_P14_two_runs_are_equal(nuclei_image):
    first, second = segment(nuclei_image), segment(nuclei_image)
    assert first.labels.tobytes() == second.labels.tobytes()
    assert first.record["scaling"] == second.record["scaling"]
