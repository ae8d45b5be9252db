"""What a training is given to learn from: at first, after new strokes, and in the last third."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch

from support import scenes
from unet_studio.events import CancelToken, drain
from unet_studio.images.volume import as_volume
from unet_studio.models.model import load_model
from unet_studio.training import curriculum
from unet_studio.training.annotations import annotations_on
from unet_studio.training.course import Judgement, prepare_course
from unet_studio.training.curriculum import make_lessons
from unet_studio.training.fit import fit_steps
from unet_studio.training.fit_settings import FitSettings
from unet_studio.training.retarget import retarget


def lessons_of(image, painted, base="random:unet-tiny", latest=None):
    volume = as_volume(image, "TYX")
    pairs = [(volume, annotations_on(volume, painted, mode="classes"))]
    settings = FitSettings(steps=6, crop=32, batch=2)
    model = load_model(base) if isinstance(base, str) else base
    course = prepare_course(pairs, model, settings, torch.device("cpu"), None, lambda: None)
    lessons = make_lessons(course, Judgement(course, CancelToken()), latest)
    return lessons, course


def pixels(sampler) -> int:
    return sum(len(e.annotations) for e in sampler.exercises)


def test_in_the_last_third_nothing_is_held_back(pictures):
    image, _, painted = pictures
    lessons, course = lessons_of(image, painted)
    assert 0 < pixels(lessons.sampler) < np.count_nonzero(painted)
    sampler = lessons.last_third(course.base.network)
    assert pixels(sampler) == np.count_nonzero(painted)
    assert sampler.exercises[0].guess is not lessons.sampler.exercises[0].guess


def test_a_guess_that_is_not_sure_is_heeded_less(pictures, monkeypatch):
    image, _, painted = pictures
    guess, certainties = curriculum.first_guess, [0.3, 0.9]

    def unsure(*args):
        return replace(guess(*args), certainty=certainties.pop(0))

    sure, _ = lessons_of(image, painted)
    monkeypatch.setattr(curriculum, "first_guess", unsure)
    lessons, course = lessons_of(image, painted)
    assert lessons.haste < 0.2 < sure.haste == 1
    assert 0 < lessons.trust < 0.2 * sure.trust
    lessons.last_third(course.base.network)  # with more strokes it is surer
    assert lessons.trust == sure.trust


def test_under_a_new_last_layer_the_rest_learns_up_to_three_times_as_quickly(pictures, model_file):
    image, _, painted = pictures
    lessons, _ = lessons_of(image, painted)
    base = retarget(load_model(str(model_file)), ["thing"])
    before = base.network.state_dict()
    moved = []
    for lessons.haste in (0.0, 1.0):
        steps = fit_steps(
            base.network, base.card, lessons, FitSettings(steps=1), torch.device("cpu")
        )
        after = drain(steps).weights
        # Of the first step of Adam that is the rate.
        moved.append(max(float((after[n] - v).abs().max()) for n, v in before.items()
                         if n.startswith("up.")))  # fmt: skip
    assert moved[1] == pytest.approx(3 * moved[0], rel=0.01)


def test_less_is_found_where_strokes_show_more_than_there_is(pictures):
    image, _, painted = pictures
    lessons, course = lessons_of(image, painted)
    crop = torch.from_numpy(course.exercises[0].image((0,), (0, 0), (64, 64)))[None]
    found = []
    for surplus in (0.0, 4.0):
        lessons.surplus = lessons.guess_surplus = surplus
        network = copy.deepcopy(course.base.network)
        settings = FitSettings(steps=20, rate=3e-3)
        network.load_state_dict(
            drain(
                fit_steps(network, course.base.card, lessons, settings, course.device, fresh=True)
            ).weights
        )
        with torch.no_grad():
            found.append(float(network.eval()(crop)[:, 0].mean()))
    assert found[1] < found[0] - 1


def test_strokes_show_more_of_the_thing_than_images_do(pictures, model_file):
    image, _, painted = pictures
    sparse = lessons_of(image, painted)[0].surplus
    assert 0.5 < sparse < np.log(0.7 / 0.3)
    # A model that knew it before needs no such allowance, and of several things nobody knows.
    assert lessons_of(image, painted, str(model_file))[0].surplus == 0
    tissues = retarget(load_model(str(model_file)), ["background", "a", "b"])
    assert lessons_of(image, painted, tissues)[0].surplus == 0
    two = retarget(load_model(str(model_file)), ["background", "a"])
    assert lessons_of(image, painted, two)[0].surplus == sparse


def test_who_paints_everything_shows_how_much_of_the_thing_there_is(pictures):
    image, truth, painted = pictures
    assert lessons_of(image, np.where(truth, 2, 1))[0].surplus == 0
    large, there = scenes.scene(1, 800)  # guessed at in parts that overlap
    assert lessons_of(large, np.where(there, 2, 1))[0].surplus == 0
    waiting = []
    lessons, _ = lessons_of(image, painted, latest=lambda: [waiting.pop()] if waiting else None)
    assert lessons.surplus > 0.5
    waiting.append(annotations_on(as_volume(image, "TYX"), np.where(truth, 2, 1), mode="classes"))
    lessons.refresh()
    assert lessons.surplus == 0


def test_crops_from_anywhere_are_from_where_something_was_guessed():
    """Of a large image that is the surroundings of strokes: the rest has nothing to teach."""
    image, truth = scenes.scene(1, 1024)
    painted = np.zeros(truth.shape, np.uint8)
    y, x = np.maximum(np.argwhere(truth[0])[0] - 48, 0)
    near = np.s_[:, y : y + 96, x : x + 96]
    painted[near] = scenes.strokes(truth[near], per_frame=8)
    lessons, _ = lessons_of(image, painted)
    batch = lessons.sampler.batch(40)
    told = batch.guess.flatten(1).any(1)
    assert bool(told.all())
    assert not bool(batch.known.flatten(1).any(1).all())  # and not from strokes alone


def test_strokes_painted_meanwhile_stay_in_the_last_third(pictures):
    image, _, painted = pictures
    waiting = []
    lessons, course = lessons_of(
        image, painted, latest=lambda: [waiting.pop()] if waiting else None
    )
    held = {int(r.frame[0]) for r in course.split.held_back}
    frame = next(i for i in range(len(image)) if i not in held)  # apart from what is held back
    more = painted.copy()
    more[frame][more[frame] == 0] = 1
    new = np.count_nonzero(more) - np.count_nonzero(painted)
    before = pixels(lessons.sampler)
    waiting.append(annotations_on(as_volume(image, "TYX"), more, mode="classes"))
    assert pixels(lessons.refresh()) == before + new
    assert pixels(lessons.last_third(course.base.network)) == np.count_nonzero(more)
    assert lessons.refresh() is None


def test_a_model_that_knows_the_kind_of_thing_has_no_such_third(pictures, model_file):
    image, _, painted = pictures
    assert lessons_of(image, painted, str(model_file))[0].last_third is None


def test_what_was_judged_is_kept_if_the_last_third_makes_it_worse(pictures, taught):
    """And if it does not, what came of that is, and the verdict says that it was not judged."""
    image, truth, _ = pictures
    painted = scenes.strokes(truth, per_frame=6)
    volume = as_volume(image, "TYX")
    pairs = [(volume, annotations_on(volume, painted, mode="classes"))]
    course = prepare_course(
        pairs,
        load_model("random:unet-tiny"),
        FitSettings(),
        torch.device("cpu"),
        None,
        lambda: None,
    )
    good = {n: v.clone() for n, v in taught.model.network.state_dict().items()}
    bad = {**good, "head.weight": -good["head.weight"], "head.bias": -good["head.bias"]}
    judgement = Judgement(course, CancelToken())
    judgement.early(taught.model.network)
    weights, verdict = judgement.final(bad)
    assert all(torch.equal(v, weights[n]) for n, v in good.items())
    assert "learned from these, too" not in verdict.reason
    weights, verdict = judgement.final(good)
    assert weights is good
    assert "learned from these, too" in verdict.reason


@pytest.mark.parametrize("found", [{}, {"avx512_bf16": False}, {"avx512_bf16": True}])
def test_half_width_is_used_where_the_processor_has_it(found, pictures, monkeypatch):
    """Weights are float32 in any case, and the record says what was computed in."""
    from unet_studio.training.refine import refine

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    image, _, painted = pictures
    result = refine(image, painted, "random:unet-tiny", axes="TYX", steps=3, crop=32, batch=2)
    wanted = "bfloat16" if found.get("avx512_bf16") else "float32"
    assert result.record["refined"]["precision"] == wanted
    weights = result.model.network.state_dict().values()
    assert {v.dtype for v in weights if v.is_floating_point()} == {torch.float32}
    assert all(bool(torch.isfinite(v).all()) for v in weights)


@pytest.mark.parametrize("representation", ["binary", "classes"])
def test_a_guess_is_learned_where_nothing_was_painted(representation):
    """Its loss is least where the network says the same, also of what is rare."""
    from unet_studio.training.sparse_loss import guess_loss

    said = torch.zeros(1, 2, 8, 8)
    said[:, 0], said[:, 1] = 0.9, 0.1
    said[:, :, 0, 0] = torch.tensor([0.1, 0.9])
    picked = torch.ones(1, 8, 8, dtype=torch.bool)
    picked[:, 4:] = False
    guess = said if representation == "classes" else said[:, 1:]
    same = said.log() if representation == "classes" else (said[:, 1:] / said[:, :1]).log()
    nothing = torch.full_like(same, -4.0)
    nothing[:, 0] = 4.0 if representation == "classes" else -4.0
    own = guess_loss(same, guess, picked, representation)
    assert own < guess_loss(nothing, guess, picked, representation)
    moved = same.clone()
    moved[:, :, 5] += 3.0 * torch.randn(1, same.shape[1], 8)  # where it is not asked
    assert guess_loss(moved, guess, picked, representation) == own
    assert guess_loss(same, guess, picked & False, representation) == 0
