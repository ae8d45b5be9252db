"""The window that makes new models, opened from the manager as a user does."""

from __future__ import annotations

import time

import pytest

from support.encoders import TINY, make_hub, published_weights
from unet_studio.models.choices import ARCHITECTURES
from unet_studio.models.encoders import find_encoder
from unet_studio.models.store import models_folder


@pytest.fixture
def answers(answers_in):
    """Questions that were asked; each is answered with ``answers.yes``."""
    import unet_studio.gui.new_model as module

    return answers_in(module)


@pytest.fixture
def hub(web, monkeypatch):
    """A hub on this computer that holds the weights of a tiny encoder."""
    return make_hub(web, monkeypatch, published_weights())


@pytest.fixture
def dialog(open_studio, qtbot):
    """The window, opened by the manager's button: ``studio, dialog``."""
    _, studio = open_studio()
    manager = studio.header.open_manager()
    manager.new.click()
    dialog = manager.open_new()
    qtbot.waitUntil(dialog.isVisible)
    return studio, dialog


def choose(dialog, architecture):
    dialog.architecture.setCurrentIndex(dialog.architecture.findData(architecture))


def texts(box):
    return [box.itemText(index) for index in range(box.count())]


def finish(dialog, qtbot):
    qtbot.waitUntil(lambda: not dialog.running, timeout=60_000)


def test_family_then_encoder_then_weights_each_with_its_cost(dialog):
    _, window = dialog
    assert texts(window.architecture) == [a.title for a in ARCHITECTURES.values()]
    window.family.setCurrentText("ResNet")
    assert texts(window.encoder)[:3] == ["resnet18", "resnet34", "resnet50"]
    window.encoder.setCurrentText("resnet50")
    assert texts(window.weights)[:2] == ["random", "imagenet (BSD-3-Clause)"]
    window.weights.setCurrentIndex(1)
    facts = window.facts.text()
    whole = find_encoder("resnet50").networks["smp-unet"] / 1e6
    for fact in (f"Parameters: {whole:.1f} million", "Memory: about", "BSD-3-Clause"):
        assert fact in facts
    window.weights.setCurrentIndex(window.weights.findData("ssl"))
    assert "CC-BY-NC-4.0" in window.facts.text()
    window.search.setText("lite0")
    assert "tu-tf_efficientnet_lite0" in texts(window.encoder)
    window.search.setText("no such encoder")
    assert not window.primary.isEnabled()
    assert window.facts.text() == "No such encoder."


def test_architectures_without_an_encoder_have_sizes_and_dimensions(dialog):
    _, window = dialog
    choose(window, "unet")
    assert window.size.isVisible()
    assert not window.encoder.isVisible()
    assert texts(window.dimensions) == ["2D", "3D"]
    window.size.setCurrentText("unet-tiny")
    flat = window.facts.text()
    window.dimensions.setCurrentIndex(1)
    assert window.facts.text() != flat
    assert "per million voxels" in window.facts.text()
    choose(window, "smp-fpn")
    assert texts(window.dimensions) == ["2D"]
    assert window.encoder.isVisible()


def test_transformers_are_offered_with_dpt_alone(dialog):
    _, window = dialog
    assert "timm: vision_transformer" not in texts(window.family)
    choose(window, "smp-dpt")
    assert "ResNet" not in texts(window.family)
    window.family.setCurrentText("timm: vision_transformer")
    window.encoder.setCurrentText("tu-vit_small_patch16_224")
    assert window.encoder.currentText() == "tu-vit_small_patch16_224"
    assert window.primary.isEnabled()
    whole = find_encoder("tu-vit_small_patch16_224").networks["smp-dpt"] / 1e6
    assert f"Parameters: {whole:.1f} million\n" in window.facts.text()
    choose(window, "smp-fpn")
    assert texts(window.family)[0] == "ResNet"
    assert window.encoder.currentText() == "resnet18"


def test_a_model_is_made_and_chosen(dialog, answers, qtbot):
    studio, window = dialog
    choose(window, "unet")
    window.size.setCurrentText("unet-tiny")
    window.finds.setCurrentIndex(window.finds.findData("classes"))
    assert window.classes.text() == "background, foreground"
    window.classes.setText("ground, cell, debris")
    window.channels.setValue(2)
    window.name.setText("tissue")
    window.primary.click()
    finish(window, qtbot)
    assert window.notice.severity == "good", window.notice.text()
    entry = studio.header.value().entry
    assert entry.path == models_folder() / "tissue.safetensors"
    assert entry.card.classes == ("ground", "cell", "debris")
    assert entry.card.in_channels == 2
    assert answers == [], "nothing to download, nothing to ask"
    window.name.setText("tissue")
    window.primary.click()
    assert "already a model" in window.notice.text()


def test_weights_are_downloaded_only_after_yes(dialog, answers, hub, qtbot):
    studio, window = dialog
    window.search.setText("test_efficientnet")
    window.encoder.setCurrentText(TINY)
    window.weights.setCurrentIndex(1)
    window.name.setText("trained encoder")
    answers.yes = False
    window.primary.click()
    assert not window.running
    assert hub.requests == [], "nothing is asked of the network before yes"
    (text,) = answers
    for fact in (hub.url(hub.path), "Licence: apache-2.0"):
        assert fact in text
    answers.yes = True
    window.primary.click()
    finish(window, qtbot)
    assert window.notice.severity == "good", window.notice.text()
    assert hub.paths() == [hub.path]
    card = studio.header.value().entry.card
    assert card.training["encoder_weights"].startswith("timm/test_efficientnet")
    assert card.normalisation.method == "pretrained"


def test_closing_stops_a_slow_download_and_leaves_no_model(dialog, answers, hub, qtbot):
    _, window = dialog
    page = hub.pages[hub.path]
    page.burst, page.pause_s = 1000, 20
    window.search.setText("test_efficientnet")
    window.encoder.setCurrentText(TINY)
    window.weights.setCurrentIndex(1)
    window.name.setText("never")
    window.primary.click()
    qtbot.waitUntil(lambda: bool(hub.requests), timeout=60_000)
    began = time.monotonic()
    window.cancel.click()
    finish(window, qtbot)
    assert time.monotonic() - began < 3
    assert "Cancelled" in window.notice.text()
    assert not (models_folder() / "never.safetensors").exists()


def test_a_failed_download_is_told_with_what_to_do(dialog, answers, hub, qtbot):
    _, window = dialog
    del hub.pages[hub.path]
    window.search.setText("test_efficientnet")
    window.encoder.setCurrentText(TINY)
    window.weights.setCurrentIndex(1)
    window.primary.click()
    finish(window, qtbot)
    assert window.notice.severity == "error"
    assert "model.safetensors" in window.notice.text()
    assert window.primary.isEnabled()
