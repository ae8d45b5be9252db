"""Who judges has no say in what is judged: held-back regions choose, or they judge."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from support import scenes
from unet_studio.models.model import load_model
from unet_studio.training import course
from unet_studio.training.refine import refine
from unet_studio.training.regions import Split

SETTINGS = {"axes": "TYX", "crop": 32, "batch": 2, "steps": 6, "rate": 3e-3, "patience": 1}


@pytest.fixture(scope="module", params=[6, 18], ids=["too few to choose by", "enough"])
def painted_frames(request):
    image, truth = scenes.scene(request.param, seed=4)
    return image, scenes.strokes(truth, seed=4), request.param == 18


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


@pytest.fixture
def judged(monkeypatch):
    """The weights of every network that a verdict was given on."""
    real, networks = course.Judgement.of, []

    def of(self, network):
        networks.append({n: v.clone() for n, v in network.state_dict().items()})
        return real(self, network)

    monkeypatch.setattr(course.Judgement, "of", of)
    return networks


@pytest.mark.parametrize("base", ["known", "random:unet-tiny"])
def test_P22_what_judges_has_no_say_in_what_is_judged(
    painted_frames, base, model_file, monkeypatch, judged
):
    """Neither in the moment whose weights are judged, nor in how far they go, nor in the end."""
    base = str(model_file) if base == "known" else base
    plain, split = refined(painted_frames, base, monkeypatch)
    other, _ = refined(painted_frames, base, monkeypatch, "judging")
    assert len(split.judging) >= 6
    one, two = judged
    assert all(torch.equal(v, two[n]) for n, v in one.items())
    assert plain.record["refined"]["steps"] == other.record["refined"]["steps"]
    assert plain.verdict.new != other.verdict.new  # it does judge
    assert bool(split.choosing) == painted_frames[2]
    counts = plain.record["refined"]["regions"]
    assert counts["chosen_by"] == len(split.choosing)
    assert counts["judged_on"] == len(split.judging) == plain.verdict.regions


def test_a_new_model_is_judged_before_it_learns_from_what_judges_it(painted_frames, judged):
    """A model that knows the kind of thing is judged at the end; both are told apart."""
    image, painted, enough = painted_frames
    result = refine(image, painted, "random:unet-tiny", **SETTINGS)
    assert result.record["refined"]["judged_early"] != enough
    assert len(judged) == 1
    kept = result.model.network.state_dict()
    early = not all(torch.equal(v, kept[n]) for n, v in judged[0].items())
    assert early == ("learned from these, too" in result.verdict.reason)
    assert not (enough and early)


def test_what_chooses_does_so(painted_frames, monkeypatch):
    plain, _ = refined(painted_frames, "random:unet-tiny", monkeypatch)
    other, _ = refined(painted_frames, "random:unet-tiny", monkeypatch, "choosing")
    assert same(plain, other) != painted_frames[2]


def test_a_share_of_the_way_is_between_the_old_and_the_new_weights(model_file, pictures):
    """At share 0 nothing changes, and that is not called better."""
    image, _, painted = pictures
    settings = {"axes": "TYX", "crop": 32, "batch": 2, "steps": 3}
    nothing, half, whole = (
        refine(image, painted, str(model_file), share=share, **settings)
        for share in (0.0, 0.5, 1.0)
    )
    old, middle, new = (r.model.network.state_dict() for r in (nothing, half, whole))
    base = load_model(str(model_file)).network.state_dict()
    assert all(torch.equal(v, old[n]) for n, v in base.items())
    assert nothing.verdict.finding == "worse"
    assert half.record["refined"]["share"] == 0.5
    assert not torch.equal(old["head.weight"], new["head.weight"])
    for name, value in middle.items():
        if value.is_floating_point():
            assert np.allclose(value, (old[name] + new[name]) / 2, atol=1e-6), name


def test_what_would_undo_what_was_known_goes_less_far(model_file, pictures):
    """Strokes that say the opposite of what the old model knows, against its word and not."""
    image, _, painted = pictures
    swapped = np.where(painted > 0, 3 - painted, 0)
    settings = {"axes": "TYX", "crop": 48, "batch": 4, "rate": 3e-3, "trust": 0, "rehearse": 0}
    same, opposite = (
        refine(image, strokes, str(model_file), steps=steps, **settings).record["refined"]
        for strokes, steps in ((painted, 2), (swapped, 20))
    )
    assert same["share"] == 1.0
    assert opposite["share"] < 1.0
