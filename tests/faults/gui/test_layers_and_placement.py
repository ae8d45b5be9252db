"""F29-F41: layers as users have them. The result lies on the image, or the message helps."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.axes import AmbiguousAxes
from unet_studio.errors import ImageError
from unet_studio.gui.layers import layer_axes, volume_from_layer


@pytest.fixture
def segmented(open_studio, run, engine):
    """Add an image, run, return (image layer, labels layer)."""

    def segment(image, axes=None, **keywords):
        viewer, studio = open_studio()
        layer = viewer.add_image(image, name="cells", **keywords)
        if axes is not None:
            box = studio.tab.input.axes_box
            box.setCurrentIndex(box.findData(axes))
        run(studio)
        assert len(viewer.layers) == 2, studio.tab.summary.text()
        return layer, viewer.layers[-1]

    return segment


def assert_same_place(image, labels, image_index, labels_index=None):
    got = np.array(labels.data_to_world(labels_index or image_index))
    expected = np.array(image.data_to_world(image_index))
    np.testing.assert_allclose(got, expected[-len(got) :], atol=1e-9)


def test_F29_scale_only(segmented, blob_image):
    image, labels = segmented(blob_image(), scale=(0.5, 0.25))
    assert_same_place(image, labels, (63, 79))
    np.testing.assert_allclose(labels.scale, (0.5, 0.25))
    assert labels.features["area"].max() == pytest.approx(labels.features["pixels"].max() * 0.125)


@pytest.mark.filterwarnings("ignore:Non-orthogonal slicing")
def test_F30_translate_rotate_shear_affine(segmented, blob_image):
    affine = np.array([[1.1, 0.2, 5], [-0.1, 0.9, -3], [0, 0, 1]])
    image, labels = segmented(
        blob_image(), scale=(2, 3), translate=(7, -8), rotate=33, shear=[0.3], affine=affine
    )
    rng = np.random.default_rng(0)
    for _ in range(20):
        assert_same_place(image, labels, tuple(rng.uniform(0, 60, 2)))


def test_F31_units(segmented, blob_image):
    image, labels = segmented(blob_image(), units=("um", "um"), scale=(0.3, 0.3))
    assert labels.units == image.units
    assert volume_from_layer(image).axes.units == ("micrometer", "micrometer")


@pytest.mark.parametrize(("case", "channels"), [("F32", 3), ("F33", 4)])
def test_F32_F33_rgb_and_rgba(segmented, blob_image, case, channels):
    colour = np.repeat(blob_image()[..., None], channels, axis=-1)
    image, labels = segmented(colour, rgb=True, scale=(0.5, 0.25), translate=(1, 2))
    assert labels.data.shape == (64, 80)
    assert_same_place(image, labels, (10, 20))
    assert labels.data.any()


def test_F34_a_stack_of_width_three_is_not_taken_for_colour(blob_image):
    from napari.layers import Image

    stack = Image(np.zeros((40, 50, 3), np.uint8), rgb=False, name="thin")
    with pytest.raises(AmbiguousAxes, match="'thin'") as caught:
        layer_axes(stack)
    assert "ZYX" in caught.value.candidates
    assert not volume_from_layer(stack, "ZYX").rgb


def test_F35_channel_axis_is_dropped(segmented, blob_image):
    image, labels = segmented(
        blob_image((2, 3, 64, 80)), "CZYX", scale=(1, 2, 0.5, 0.25), translate=(0, 9, 1, 2)
    )
    assert labels.data.shape == (3, 64, 80)
    np.testing.assert_allclose(labels.scale, (2, 0.5, 0.25))
    assert_same_place(image, labels, (1, 2, 30, 40), (2, 30, 40))


def test_F35_inner_channel_axis_keeps_its_place(segmented, blob_image):
    image, labels = segmented(blob_image((3, 2, 64, 80)), "TCYX", scale=(5, 1, 0.5, 0.25))
    assert labels.data.shape == (3, 1, 64, 80)
    assert_same_place(image, labels, (2, 0.5, 30, 40), (2, 0, 30, 40))


def test_F36_time_or_depth_is_asked(open_studio, blob_image, engine):
    viewer, studio = open_studio()
    viewer.add_image(blob_image((4, 64, 80)), name="what")
    studio.tab.update_forecast()
    assert not studio.tab.run_button.isEnabled()
    for word in ("'what'", "ZYX", "TYX"):
        assert word in studio.tab.forecast.text()
    studio.tab.run_or_cancel()
    assert engine.calls == 0


def test_F37_time_and_depth(segmented, blob_image):
    image, labels = segmented(blob_image((2, 3, 64, 80)), "TZYX", scale=(10, 2, 0.5, 0.25))
    assert labels.data.shape == (2, 3, 64, 80)
    assert_same_place(image, labels, (1, 2, 30, 40))
    assert set(labels.features["frame"]) == {0, 1}


def test_F38_multiscale_states_its_level(open_studio, engine, run, blob_image, contract):
    viewer, studio = open_studio()
    levels = [blob_image((128, 160)), blob_image((128, 160))[::2, ::2]]
    image = viewer.add_image(levels, multiscale=True, name="pyramid", scale=(0.5, 0.5))
    box = studio.tab.input.level_box
    assert "finest" in box.currentText(), "the finest is the default, and is named"
    run(studio)
    assert viewer.layers[-1].data.shape == (128, 160)
    assert_same_place(image, viewer.layers[-1], (5, 6))
    box.setCurrentIndex(1)
    contract.watch(viewer)
    run(studio)
    contract.check(studio, r"pyramid.*Level 1", layers_added=1)
    labels = viewer.layers[-1]
    assert labels.data.shape == (64, 80)
    np.testing.assert_allclose(labels.scale, (1, 1))
    assert_same_place(image, labels, (-0.5, -0.5), (-0.5, -0.5))


def test_F39_scale_that_is_no_number(open_studio, engine, blob_image):
    from napari.layers import Image

    layer = Image(blob_image(), scale=(np.nan, 1), name="broken")
    with pytest.raises(ImageError, match=r"'broken'.*pixel size.*Correct its scale"):
        volume_from_layer(layer)


def test_F39_a_position_that_is_no_number(blob_image):
    from napari.layers import Image

    layer = Image(blob_image(), translate=(np.inf, 1), name="broken")
    with pytest.raises(ImageError, match=r"'broken'.*position.*Correct its translate"):
        volume_from_layer(layer)


def test_F40_two_layers_of_one_name(open_studio, engine, run, blob_image):
    """Layers are known by identity, never by name."""
    viewer, studio = open_studio()
    first = viewer.add_image(blob_image(), name="cells")
    second = viewer.add_image(blob_image(seed=1)[:40], name="cells")
    second.name = first.name
    viewer.layers.selection.active = first
    run(studio)
    assert viewer.layers[-1].data.shape == (64, 80)
    viewer.layers.selection.active = second
    run(studio)
    assert viewer.layers[-1].data.shape == (40, 80)


def test_F41_renamed_while_running(open_studio, engine, blob_image, qtbot, contract):
    viewer, studio = open_studio()
    layer = viewer.add_image(blob_image(), name="before")
    studio.tab.update_forecast()
    contract.watch(viewer)
    engine.gate.clear()
    studio.tab.run_button.click()
    layer.name = "after"
    engine.gate.set()
    qtbot.waitUntil(lambda: not studio.tab.runner.running)
    contract.check(studio, layers_added=1, messages=0)
    assert viewer.layers[-1].name == "before · tiny"
