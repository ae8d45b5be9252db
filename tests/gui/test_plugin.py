"""What napari finds of us: samples, reader, menus, Preferences."""

from __future__ import annotations

import napari
import numpy as np
import pytest
from npe2 import PluginManager, PluginManifest

from unet_studio.samples import SAMPLES, read_sample, sample_path

PLUGIN = "napari-unet-studio"


@pytest.fixture(scope="module")
def manifest():
    return PluginManifest.from_distribution(PLUGIN)


def test_every_command_of_the_manifest_exists(manifest):
    from importlib import import_module

    for command in manifest.contributions.commands:
        module, _, name = command.python_name.partition(":")
        assert callable(getattr(import_module(module), name))


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_open_with_their_meaning(name, manifest):
    from unet_studio.gui.samples import layer_data

    assert name in [s.key for s in manifest.contributions.sample_data]
    sample = SAMPLES[name]
    ((data, keywords, kind),) = layer_data(name)
    layer = napari.layers.Layer.create(data, keywords, kind)
    assert layer.rgb == sample.rgb
    assert layer.data.ndim == len(sample.axes)
    assert layer.data.std() > 3
    assert layer.axis_labels == tuple(sample.axes.replace("C", "").lower())
    np.testing.assert_allclose(layer.scale, sample.scale)
    from unet_studio.gui.layers import layer_axes

    assert layer_axes(layer) == sample.axes, "a sample must not ask for its axes"


def test_samples_are_small_and_their_origin_is_told():
    folder = sample_path("nuclei_fluorescence").parent
    assert sum(f.stat().st_size for f in folder.iterdir() if f.is_file()) < 2_000_000
    readme = (folder / "README.md").read_text(encoding="utf-8")
    for sample in SAMPLES.values():
        assert sample.file in readme
        assert sample.licence in readme


def test_an_unknown_sample_is_named_with_the_known_ones():
    from unet_studio.errors import ImageError

    with pytest.raises(ImageError, match="'moon'.*nuclei_fluorescence"):
        read_sample("moon")


def test_a_dropped_model_file_opens_the_widget_with_it(make_napari_viewer, tiny_model):
    viewer = make_napari_viewer(strict_qt="raise")
    assert viewer.open(tiny_model, plugin=PLUGIN) == []
    _, studio = viewer.window.add_plugin_dock_widget(PLUGIN, "U-Net Studio")
    assert studio.header.value().entry.path == tiny_model
    assert not viewer.layers


@pytest.mark.parametrize(
    ("content", "pattern"),
    [(b"", "empty"), (b"\x10\x00\x00\x00\x00\x00\x00\x00{\"a\"", "damaged|truncated|complete"),
     (b"<html>login</html>" * 9, "web page|not a|model file")],
)  # fmt: skip
def test_a_damaged_model_file_is_told_once(
    make_napari_viewer, tmp_path, notifications, content, pattern
):
    import re

    path = tmp_path / "broken.safetensors"
    path.write_bytes(content)
    viewer = make_napari_viewer(strict_qt="raise")
    viewer.open(path, plugin=PLUGIN)
    told = notifications()
    assert len(told) == 1, told
    assert "broken.safetensors" in told[0][1]
    assert re.search(pattern, told[0][1]), told[0][1]
    assert not viewer.window.dock_widgets


def test_the_reader_leaves_other_files_alone():
    from unet_studio.gui.reader import get_reader

    assert get_reader("cells.tif") is None
    assert get_reader(["a.safetensors", "b.tif"]) is None
    assert get_reader(["a.safetensors"]) is not None


def test_the_menu_has_our_entries(manifest):
    entries = manifest.contributions.menus["napari/layers/segment"]
    assert {e.command for e in entries} == {f"{PLUGIN}.widget", f"{PLUGIN}.segment_active"}


def test_the_menu_command_segments_the_selected_image(
    make_napari_viewer, engine, blob_image, qtbot, tiny_model
):
    viewer = make_napari_viewer(strict_qt="raise")
    _, studio = viewer.window.add_plugin_dock_widget(PLUGIN, "U-Net Studio")
    studio.open_model(tiny_model)
    viewer.add_image(blob_image(), name="other")
    layer = viewer.add_image(blob_image(), name="wanted")
    viewer.layers.selection.active = layer
    PluginManager.instance().commands.execute(
        f"{PLUGIN}.segment_active", kwargs={"viewer": viewer}
    )
    qtbot.waitUntil(lambda: not studio.tab.runner.running)
    assert viewer.layers[-1].name == "wanted · tiny"


def test_the_menu_command_says_what_to_select(make_napari_viewer, notifications):
    from unet_studio.gui.commands import segment_active_layer

    viewer = make_napari_viewer(strict_qt="raise")
    segment_active_layer(viewer)
    assert "Select one image layer" in notifications()[-1][1]
    assert not viewer.window.dock_widgets


def test_preferences_decide_how_the_widget_opens(
    plugin_settings, npe2pm, manifest, make_napari_viewer, tiny_model, engine, blob_image, qtbot
):
    from napari.settings import get_plugin_settings

    npe2pm.register(manifest)
    page = get_plugin_settings(PLUGIN).segmentation
    assert page.live_preview
    page.device, page.live_preview, page.keep_probabilities = "cpu", False, False
    page.measure = False
    viewer = make_napari_viewer(strict_qt="raise")
    _, studio = viewer.window.add_plugin_dock_widget(PLUGIN, "U-Net Studio")
    studio.open_model(tiny_model)
    assert studio.header.value().device == "cpu"
    assert not studio.tab.objects.live.isChecked()
    viewer.add_image(blob_image())
    studio.tab.update_forecast()
    studio.tab.run_button.click()
    qtbot.waitUntil(lambda: not studio.tab.runner.running)
    assert not studio.tab.preview.available
    assert viewer.layers[-1].features.empty
