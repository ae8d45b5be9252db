"""Several layers as the channels of one image, by napari's own "Merge to Stack"."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.models.model import load_model, save_model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import segment

PLACE = {"scale": (3.0, 0.5, 0.5), "translate": (9.0, 4.0, 2.0), "units": ("mm",) * 3}


@pytest.fixture
def three_channels(tmp_path):
    path = tmp_path / "three.safetensors"
    save_model(new_model("unet-tiny", in_channels=3, representation="binary"), path)
    return path


def test_three_layers_merged_to_a_stack_are_segmented_in_place(open_studio, run, three_channels):
    from napari.layers._layer_actions import _merge_stack

    viewer, studio = open_studio()
    studio.open_model(three_channels)
    volumes = np.random.default_rng(0).integers(0, 256, (3, 4, 40, 48), dtype=np.uint8)
    sequences = [
        viewer.add_image(volume, name=name, **PLACE)
        for volume, name in zip(volumes, ("pre", "flair", "post"), strict=True)
    ]
    corner = sequences[0].data_to_world((1, 2, 3))
    viewer.layers.selection = set(sequences)
    _merge_stack(viewer.layers)
    box = studio.tab.input.axes_box
    box.setCurrentIndex(box.findData("CZYX"))
    studio.tab.update_forecast()
    run(studio)
    labels = viewer.layers[-1]
    expected = segment(volumes, load_model(three_channels), axes="CZYX").labels
    assert 0 < (expected > 0).mean() < 1, "the random network tells nothing apart"
    np.testing.assert_array_equal(labels.data, expected)
    np.testing.assert_allclose(labels.data_to_world((1, 2, 3)), corner)
