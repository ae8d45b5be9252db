"""The quality of tiles is offered where there are several of them."""

from __future__ import annotations

import numpy as np


def test_quality_is_offered_for_large_images_and_changes_the_plan(open_studio, blob_image):
    viewer, studio = open_studio()
    tab = studio.tab
    viewer.add_image(blob_image(), name="small")
    tab.update_forecast()
    assert not tab.input.quality_box.isVisibleTo(studio)
    viewer.add_image(np.broadcast_to(np.uint8(7), (9000, 9000)), name="large", rgb=False)
    tab.update_forecast()
    assert tab.input.quality_box.isVisibleTo(studio)
    exact = tab._plan
    assert exact.recipe.tiling.quality == "exact"
    tab.input.quality_box.setCurrentIndex(tab.input.quality_box.findData("fast"))
    tab.update_forecast()
    assert tab._plan.recipe.tiling.quality == "fast"
    assert tab._plan.halo < exact.halo
    # What was chosen stays in sight, also where it changes nothing.
    tab.input.layer_box.set_value(viewer.layers["small"])
    tab.update_forecast()
    assert tab.input.quality_box.isVisibleTo(studio)
