"""Classes decided where the network is are those that are made of kept probabilities."""

import numpy as np
import pytest
import torch
import zarr

from unet_studio import segment, segment_to_zarr, streaming
from unet_studio.inference.decision import Decision
from unet_studio.models.presets import new_model
from unet_studio.objects.masks import ArgmaxOptions, ThresholdOptions, argmax, foreground_mask
from unet_studio.recipe import ObjectsMethod


def probabilities(channels):
    """Few different values, so that many are equal to each other and to the level."""
    rng = np.random.default_rng(0)
    values = (rng.integers(0, 11, (2, channels, 60, 70)) / 10).astype(np.float16)
    values[0, 0, 3, 3], values[1, -1, 5, 6] = np.nan, np.nan
    return values


@pytest.mark.parametrize("level", [0.0, 0.3, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_foreground_is_that_of_the_method(level, channels):
    values = probabilities(channels)
    found = Decision("foreground", level).classes(torch.from_numpy(values)).numpy()
    for one, classes in zip(values, found, strict=True):
        options = ThresholdOptions(threshold=level)
        np.testing.assert_array_equal(classes[0], foreground_mask(one, options, "objects"))
    assert found.dtype == np.uint8


@pytest.mark.parametrize("level", [0.0, 0.3, 0.7, 1.0])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_the_likeliest_class_is_that_of_the_method(level, channels):
    values = probabilities(channels)
    found = Decision("likeliest", level).classes(torch.from_numpy(values)).numpy()
    for one, classes in zip(values, found, strict=True):
        options = ArgmaxOptions(min_probability=level)
        np.testing.assert_array_equal(classes[0], argmax(one, options, "classes"))


@pytest.mark.parametrize(
    ("representation", "method", "decided"),
    [
        ("objects", {"method": "threshold", "options": {"threshold": 0.47}}, True),
        ("objects", {"method": "threshold", "options": {"min_size": 9}}, False),
        ("classes", {"method": "argmax", "options": {"min_probability": 0.34}}, True),
        ("objects", {"method": "watershed"}, False),
    ],
)
@pytest.mark.parametrize("axes", ["YX", "TYX"])
def test_a_streamed_run_is_the_same_either_way(
    tmp_path, monkeypatch, representation, method, decided, axes
):
    names = {"classes": ("background", "a", "b")} if representation == "classes" else {}
    model = new_model("unet-tiny", representation=representation, **names)
    image = np.random.default_rng(0).random((2, 230, 250) if axes == "TYX" else (330, 250))
    image = image.astype(np.float32)
    image[..., 20:30, 40:60] = np.nan
    options = {"axes": axes, "objects": method, "tiling": {"tile": 208}, "device": "cpu"}
    asked = []
    real = streaming.decision_of
    monkeypatch.setattr(
        streaming, "decision_of", lambda *args: asked.append(real(*args)) or asked[-1]
    )
    expected = segment(image, model, **options)
    found = segment_to_zarr(image, tmp_path / "out.ome.zarr", model, **options)
    assert (asked[0] is not None) == decided
    np.testing.assert_array_equal(np.asarray(found.labels[...]), expected.labels)
    assert found.labels.dtype == expected.labels.dtype
    assert found.object_count == expected.object_count
    assert found.measurements.keys() == expected.measurements.keys()
    for name, column in expected.measurements.items():
        np.testing.assert_allclose(found.measurements[name], column)


def test_kept_probabilities_are_not_decided_on(tmp_path):
    from pathlib import Path

    from unet_studio.events import drain
    from unet_studio.images.volume import as_volume
    from unet_studio.recipe import Recipe

    model = new_model("unet-tiny")
    recipe = Recipe(model="-", axes="YX", objects=ObjectsMethod(method="threshold"))
    image = np.random.default_rng(0).random((90, 80)).astype(np.float32)
    kept = Path(tmp_path / "probabilities.ome.zarr")
    drain(
        streaming.segment_to_zarr_steps(
            as_volume(image, "YX"), recipe, tmp_path / "labels.ome.zarr",
            model=model, probabilities=kept,
        )
    )  # fmt: skip
    assert zarr.open_array(str(kept / "0"), mode="r").dtype == np.float16
