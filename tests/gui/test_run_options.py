"""Mirror images and three planes are options of the run, and said before it."""

from __future__ import annotations


def test_mirror_images_are_in_the_recipe_and_in_the_forecast(open_studio, blob_image):
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    tab = studio.tab
    tab.update_forecast()
    assert tab._plan.recipe.flips is False
    assert "mirror" not in tab._plan.summary()
    tab.input.flips_box.click()
    tab.update_forecast()
    assert tab._plan.recipe.flips is True
    assert "each in 4 mirror images" in tab.forecast.text()


def test_three_planes_are_offered_for_stacks_alone(open_studio, blob_image, qtbot):
    viewer, studio = open_studio()
    flat = viewer.add_image(blob_image(), name="cells")
    stack = viewer.add_image(blob_image((24, 40, 48)), name="stack", axis_labels=("z", "y", "x"))
    tab = studio.tab
    form = tab.input
    assert not form.planes_box.isHidden()
    form.planes_box.click()
    tab.update_forecast()
    assert tab._plan.recipe.planes == "three"
    assert "along three planes" in tab.forecast.text()
    viewer.layers.selection.active = flat
    tab.update_forecast()
    assert form.planes_box.isHidden()
    assert tab._plan.recipe.planes == "xy", "a box that is not there must not count"
    viewer.layers.selection.active = stack
    tab.update_forecast()
    assert tab._plan.recipe.planes == "three", "the choice is remembered"
    tab.run_button.click()
    qtbot.waitUntil(lambda: not tab.runner.running, timeout=60_000)
    labels = viewer.layers[-1]
    assert labels.data.shape == stack.data.shape
    assert labels.metadata["unet_studio"]["planes"]["names"] == ["XY", "XZ", "YZ"]


def test_integers_are_in_the_recipe_and_in_the_forecast(open_studio, blob_image):
    viewer, studio = open_studio()
    viewer.add_image(blob_image(), name="cells")
    tab = studio.tab
    assert not tab.input.integers_box.isHidden()
    tab.input.integers_box.click()
    tab.update_forecast()
    assert tab._plan.recipe.precision == "int8"
    assert "on cpu in int8 with OpenVINO" in tab.forecast.text()
    tab.input.integers_box.click()
    tab.update_forecast()
    assert tab._plan.recipe.precision == "auto"


def test_integers_are_not_offered_where_they_can_not_run(open_studio, monkeypatch):
    from unet_studio.gui import input_form

    monkeypatch.setattr(input_form, "has_quantiser", lambda: False)
    _, studio = open_studio()
    assert studio.tab.input.integers_box.isHidden()
