"""Who judges has no say in what is judged: held-back regions choose, or they judge."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from unet_studio.training import course
from unet_studio.training.regions import Split
from unet_studio.training.refine import refine

_SPEC = importlib.util.spec_from_file_location("scenes", Path(__file__).with_name("scenes.py"))
scenes = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(scenes)

SETTINGS = {"axes": "TYX", "crop": 48, "steps": 12, "rate": 3e-3, "patience": 1, "evaluations": 6}


@pytest.fixture(scope="module", params=[6, 16], ids=["too few to choose by", "enough"])
def painted_frames(request):
    image, truth = scenes.scene(request.param, seed=4)
    return image, scenes.strokes(truth, seed=4), request.param == 16


def turned(split: Split, which: str) -> Split:
    """The same split, but some held-back regions are said to be of the other class."""
    regions = (replace(r, kind=3 - r.kind) for r in getattr(split, which))
    return replace(split, **{which: tuple(regions)})


def refined(painted_frames, base, monkeypatch, which=""):
    image, painted, _ = painted_frames
    real, splits = course.split_annotations, []

    def split(*args):
        splits.append(turned(real(*args), which) if which else real(*args))
        return splits[-1]

    with monkeypatch.context() as patch:
        patch.setattr(course, "split_annotations", split)
        return refine(image, painted, base, **SETTINGS), splits[0]


def same(a, b) -> bool:
    one, other = (r.model.network.state_dict() for r in (a, b))
    return all(torch.equal(v, other[n]) for n, v in one.items())


@pytest.mark.parametrize("known", [True, False], ids=["known", "from scratch"])
def test_P22_what_judges_has_no_say_in_what_is_judged(
    painted_frames, known, model_file, monkeypatch
):
    """Neither in the moment whose weights are kept, nor in how far they go, nor in the end."""
    base = str(model_file) if known else "random:unet-tiny"
    plain, split = refined(painted_frames, base, monkeypatch)
    other, _ = refined(painted_frames, base, monkeypatch, "judging")
    assert len(split.judging) >= 6
    assert same(plain, other)
    assert plain.record["refined"]["steps"] == other.record["refined"]["steps"]
    assert plain.verdict.new != other.verdict.new  # it does judge
    assert bool(split.choosing) == painted_frames[2]
    counts = plain.record["refined"]["regions"]
    assert counts["chosen_by"] == len(split.choosing)
    assert counts["judged_on"] == len(split.judging) == plain.verdict.regions


def test_what_chooses_does_so(painted_frames, model_file, monkeypatch):
    plain, _ = refined(painted_frames, str(model_file), monkeypatch)
    other, _ = refined(painted_frames, str(model_file), monkeypatch, "choosing")
    assert same(plain, other) != painted_frames[2]


def test_without_regions_to_choose_by_the_last_weights_are_kept(model_file, pictures):
    """Half of the way, from an old model; nothing at share 0."""
    image, _, painted = pictures
    settings = {"axes": "TYX", "crop": 48, "steps": 4}
    nothing, half, whole = (
        refine(image, painted, str(model_file), share=share, **settings)
        for share in (0.0, None, 1.0)
    )
    old, middle, new = (r.model.network.state_dict() for r in (nothing, half, whole))
    assert half.record["refined"]["regions"]["chosen_by"] == 0
    assert half.record["refined"]["share"] == 0.5
    from unet_studio.models.model import load_model

    assert same(nothing, type("Base", (), {"model": load_model(str(model_file))}))
    assert nothing.verdict.finding == "worse"  # not better: there is nothing to adopt
    assert not torch.equal(old["head.weight"], new["head.weight"])
    for name, value in middle.items():
        if value.is_floating_point():
            assert np.allclose(value, (old[name] + new[name]) / 2, atol=1e-6), name
