"""Mirror images are an option of the run, and said before it."""

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
