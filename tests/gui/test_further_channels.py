"""Several layers as the channels of one image."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio import segment
from unet_studio.models.model import load_model, save_model
from unet_studio.models.presets import new_model


@pytest.fixture
def three(tmp_path):
    """A model of three channels that are no colours."""
    path = tmp_path / "mri.safetensors"
    model = new_model("unet-tiny", in_channels=3, representation="binary", seed=2)
    save_model(model, path)
    return path


def sequences(viewer, shape=(24, 40, 48), **keywords):
    rng = np.random.default_rng(0)
    keywords = {"axis_labels": ("z", "y", "x"), "scale": (2, 0.5, 0.5), **keywords}
    return [
        viewer.add_image(rng.random(shape).astype(np.float32), name=name, **keywords)
        for name in ("t1", "flair", "t1ce")
    ]


def choose(form, layers):
    for box, layer in zip(form.further.boxes, layers, strict=True):
        box.set_value(layer)


def test_three_layers_are_the_channels_of_one_result(open_studio, three, qtbot):
    viewer, studio = open_studio()
    t1, flair, t1ce = sequences(viewer)
    studio.open_model(three)
    tab, form = studio.tab, studio.tab.input
    viewer.layers.selection.active = t1
    tab.update_forecast()
    assert [not box.isHidden() for box in form.further.boxes] == [True, True]
    assert [box.currentText() for box in form.further.boxes] == ["Choose …"] * 2, "never guessed"
    assert not tab.run_button.isEnabled()
    assert "3" in tab.forecast.text()
    choose(form, [flair, t1ce])
    tab.update_forecast()
    assert tab.run_button.isEnabled(), tab.forecast.text()
    tab.run_button.click()
    t1ce.data[:] = 0  # the run has its own copy
    qtbot.waitUntil(lambda: not tab.runner.running, timeout=60_000)
    labels = viewer.layers[-1]
    np.testing.assert_allclose(labels.scale, t1.scale)
    rng = np.random.default_rng(0)
    stack = np.stack([rng.random((24, 40, 48)).astype(np.float32) for _ in range(3)])
    expected = segment(stack, load_model(three), axes="CZYX").labels
    np.testing.assert_array_equal(np.asarray(labels.data), expected)
    assert labels.metadata["unet_studio"]["channels_of"] == ["t1", "flair", "t1ce"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"scale": (2, 0.5, 0.6)}, "does not lie on"),
        ({"translate": (0, 5, 0)}, "does not lie on"),
        ({"rotate": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]])}, "turned"),
        ({"shape": (24, 40, 50)}, "shape"),
    ],
)
def test_layers_that_do_not_lie_on_each_other_are_refused(change, words, open_studio, three):
    viewer, studio = open_studio()
    t1, flair, _ = sequences(viewer)
    other = sequences(viewer, **change)[0]
    studio.open_model(three)
    viewer.layers.selection.active = t1
    choose(studio.tab.input, [flair, other])
    studio.tab.update_forecast()
    assert words in studio.tab.forecast.text()
    assert not studio.tab.run_button.isEnabled()


def test_a_layer_that_goes_is_no_longer_chosen(open_studio, three):
    viewer, studio = open_studio()
    t1, flair, t1ce = sequences(viewer)
    studio.open_model(three)
    viewer.layers.selection.active = t1
    choose(studio.tab.input, [flair, t1ce])
    viewer.layers.remove(flair)
    box = studio.tab.input.further.boxes[0]
    assert box.value() is None
    assert studio.tab.input.value().further == ()


def test_rows_are_there_for_grey_images_and_such_models_alone(open_studio, three, tiny_model):
    viewer, studio = open_studio()
    t1, *_ = sequences(viewer)
    channels = viewer.add_image(
        np.zeros((3, 24, 40, 48), np.float32), name="c", axis_labels=("c", "z", "y", "x")
    )
    form = studio.tab.input
    viewer.layers.selection.active = t1
    assert not form.further.boxes
    studio.open_model(three)
    assert not form.further.boxes[0].isHidden()
    viewer.layers.selection.active = channels
    assert form.further.boxes[0].isHidden()
    studio.open_model(tiny_model)
    viewer.layers.selection.active = t1
    assert form.further.boxes[0].isHidden()
