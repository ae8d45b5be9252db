"""F53, F56: memory runs out while a model is loaded, or while objects are made."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

_OF_EACH = ("labels.png", "labels.png.json", "objects.csv")


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, shape in (("a", (40, 48)), ("large", (50, 60)), ("z", (40, 48))):
        Image.fromarray(rng.integers(0, 255, shape).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


def test_F53_no_memory_for_the_model_is_told_in_one_sentence(
    unet_studio, tiny_model, pictures, tmp_path, monkeypatch, fault_contract
):
    import safetensors.torch

    def exhausted(*_args, **_keywords):
        raise MemoryError

    monkeypatch.setattr(safetensors.torch, "load", exhausted)
    before = fault_contract.files_of(tmp_path)
    ended = unet_studio("segment", pictures, "-m", tiny_model, "-o", tmp_path / "r")
    assert tiny_model.name in "".join(ended.err.split())
    fault_contract.assert_fault_contract(
        " ".join(ended.err.split()),
        "not enough memory to load.*smaller model",
        before=before,
        now=fault_contract.files_of(tmp_path),
        folder=tmp_path / "r",
        code=(ended.code, 1),
    )


@pytest.mark.parametrize("command", ["segment", "batch"])
def test_F56_no_memory_for_the_objects_of_one_image_fails_it_alone(
    command, unet_studio, tiny_model, pictures, tmp_path, monkeypatch, fault_contract
):
    from unet_studio.objects import run

    label = run.label_frame

    def short(frame, *rest):
        if frame.shape[-1] == 60:
            raise MemoryError
        return label(frame, *rest)

    monkeypatch.setattr(run, "label_frame", short)
    out, before = tmp_path / "r", fault_contract.files_of(tmp_path)
    if command == "segment":
        ended = unet_studio("segment", pictures, "-m", tiny_model, "-o", out)
    else:
        recipe = tmp_path / "recipe.toml"
        recipe.write_text(f'model = "{tiny_model.as_posix()}"\n')
        ended = unet_studio("batch", recipe, pictures, "-o", out)
    whole = [
        f"{n}_{what}" for n in "az" for what in ("labels.png", "labels.png.json", "objects.csv")
    ]
    fault_contract.assert_fault_contract(
        " ".join(ended.err.split()),
        r"large\.png: There is not enough memory",
        before=before,
        now=fault_contract.files_of(tmp_path),
        folder=out,
        results=whole + ["objects.csv", "manifest.jsonl"] * (command == "batch"),
        code=(ended.code, 2),
    )
