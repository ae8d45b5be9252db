"""F53, F56: memory runs out while a model is loaded, or while objects are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a", (40, 48)), ("large", (50, 60)), ("z", (40, 48))):
        Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_F53_no_memory_for_the_model_is_told_in_one_sentence(
    unet_studio, tiny_model, pictures, tmp_path, monkeypatch
):
    import safetensors.torch

    def exhausted(*_args, **_keywords):
        raise MemoryError

    monkeypatch.setattr(safetensors.torch, "load", exhausted)
    ended = unet_studio("segment", pictures, "-m", tiny_model, "-o", tmp_path / "r")
    assert ended.code == 1
    said = " ".join(ended.err.split())
    assert "not enough memory to load" in said
    assert tiny_model.name in said.replace(" ", "")
    assert "smaller model" in said
    assert "Traceback" not in ended.err
    assert not list((tmp_path / "r").glob("*"))


@pytest.mark.parametrize("command", ["segment", "batch"])
def test_F56_no_memory_for_the_objects_of_one_image_fails_it_alone(
    command, unet_studio, tiny_model, pictures, tmp_path, monkeypatch
):
    from unet_studio.objects import run

    label = run.label_frame

    def short(frame, *rest):
        if frame.shape[-1] == 60:
            raise MemoryError
        return label(frame, *rest)

    monkeypatch.setattr(run, "label_frame", short)
    out = tmp_path / "r"
    if command == "segment":
        ended = unet_studio("segment", pictures, "-m", tiny_model, "-o", out)
    else:
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(f'model = "{tiny_model.as_posix()}"\n')
        ended = unet_studio("batch", recipe, pictures, "-o", out)
    assert ended.code == 2, ended.err
    assert "large.png: There is not enough memory" in " ".join(ended.err.split())
    assert "Traceback" not in ended.err
    assert sorted(p.name for p in out.glob("*_labels.png")) == ["a_labels.png", "z_labels.png"]
    assert not [p for p in out.rglob("*") if ".partial-" in p.name]
