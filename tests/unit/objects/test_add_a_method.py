"""The method that the documentation shows how to add works as it is written there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unet_studio.objects.methods import METHODS, Method
from unet_studio.recipe import ObjectsMethod
from unet_studio.registry import Registry

PAGE = Path(__file__).parents[3] / "docs" / "how-to" / "add-an-objects-method.md"


@pytest.fixture
def spots() -> Method:
    code = PAGE.read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    scope: dict[str, object] = {"__name__": "spots"}
    exec(compile(code, PAGE.name, "exec"), scope)  # noqa: S102 - our own page
    return scope["SPOTS"]


def test_the_example_finds_spots(spots):
    image = np.zeros((1, 40, 60), np.float16)
    image[0, 10, 10] = image[0, 30, 50] = 0.9
    labels = spots.function(image, spots.options_class(radius=2), "binary")
    assert np.bincount(labels.ravel())[1:].tolist() == [25, 25]


def test_a_registered_method_is_found_by_name(spots, monkeypatch):
    own = Registry("objects method", {}, entry_points="unet_studio.objects_methods")
    own.register("spots", spots)
    assert own.load("spots") is spots
    assert "spots" not in METHODS
    monkeypatch.setattr("unet_studio.objects.methods.METHODS", own)
    from unet_studio.objects.methods import parse_options

    parsed = parse_options(ObjectsMethod(method="spots", options={"radius": 5}))
    assert parsed.radius == 5
