"""``unet-studio models encoders`` and ``models new``."""

from __future__ import annotations

import pytest

from unet_studio.models.files import read_card


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "home"))
    from unet_studio.cli.console import out

    monkeypatch.setattr(out, "width", 200)
    return tmp_path / "home" / "models"


def test_families_are_listed_and_encoders_searched(unet_studio, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    families = unet_studio("models", "encoders").out
    assert "EfficientNet" in families
    assert "timm: convnext" in families
    found = unet_studio("models", "encoders", "--search", "lite0").out
    assert "tu-tf_efficientnet_lite0" in found
    assert "apache-2.0" in found
    assert "resnet" not in found
    assert "resnet152" in unet_studio("models", "encoders", "--family", "resnet").out
    assert "No encoder matches 'zebra'" in unet_studio("models", "encoders", "-s", "zebra").out


def test_names_of_encoders_are_whole_on_a_narrow_terminal(unet_studio, monkeypatch):
    """They are to be copied, and many differ at their ends only."""
    from unet_studio.cli.console import out

    monkeypatch.setattr(out, "width", 80)
    shown = unet_studio("models", "encoders", "--search", "resnetv2 34").out
    assert {"tu-resnetv2_34", "tu-resnetv2_34d"} <= set(shown.split())
    assert "…" not in shown


def test_a_new_model_is_a_file_of_the_store(unet_studio, home):
    ended = unet_studio(
        "models", "new", "mine", "-a", "unet-tiny", "-c", 2, "--finds", "classes",
        "--classes", "back, cell",
    )  # fmt: skip
    assert ended.code == 0, ended.err
    card = read_card(home / "mine.safetensors")
    assert card.classes == ("back", "cell")
    assert card.in_channels == 2
    assert "not trained" in ended.err
    assert "made here: unet-tiny" in unet_studio("models", "info", "mine").out
    again = unet_studio("models", "new", "mine", "-a", "unet-tiny")
    assert again.code == 1
    assert "already a model 'mine'" in again.err


def test_it_can_be_written_elsewhere_and_begin_with_a_2d_model(unet_studio, home, tmp_path):
    from unet_studio.models.model import save_model
    from unet_studio.models.presets import new_model

    flat, path = tmp_path / "flat.safetensors", tmp_path / "solid.safetensors"
    save_model(new_model("unet", options={"widths": [4, 8]}), flat)
    ended = unet_studio(
        "models", "new", "solid", "-a", "unet", "-d", 3, "-w", f"inflate:{flat}", "-o", path
    )
    assert ended.code == 0, ended.err
    assert read_card(path).ndim == 3
    assert not home.exists()


def test_weights_that_are_not_here_are_asked_for_first(unet_studio, web, monkeypatch, home):
    monkeypatch.setenv("HF_ENDPOINT", web.url("/hub"))
    ended = unet_studio("models", "new", "mine", "-e", "resnet18", "-w", "imagenet")
    assert ended.code == 1
    assert web.requests == []
    assert "nothing is downloaded unasked. Allow it (--download" in ended.err
    assert "licence of the weights: BSD-3-Clause" in ended.out
    assert not (home / "mine.safetensors").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-a", "nonsense"], "There is no preset"),
        (["-e", "resnet19"], "no encoder called 'resnet19'"),
        (["-e", "resnet18", "-w", "moon"], "Known: random, imagenet"),
        (["-a", "smp-fpn", "-d", 3], "two-dimensional"),
        (["-a", "unet-tiny", "--finds", "ghosts"], "No such model can be made"),
    ],
)
def test_what_can_not_be_made_is_refused_in_one_sentence(unet_studio, arguments, message):
    ended = unet_studio("models", "new", "mine", *arguments)
    assert ended.code == 1
    assert message in ended.err
    assert "Traceback" not in ended.err
