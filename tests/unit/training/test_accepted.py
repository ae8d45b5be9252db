"""What of a corrected model's result is taught to the next: all but what strokes contradict."""

from __future__ import annotations

import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from support import scenes
from unet_studio.errors import ModelError
from unet_studio.events import CancelToken
from unet_studio.images.volume import as_volume
from unet_studio.models.model import Model, load_model
from unet_studio.models.presets import new_model
from unet_studio.pipeline import predict
from unet_studio.training import accepted as accepting
from unet_studio.training.accepted import Answers, accepted, ask, blended
from unet_studio.training.annotations import annotations_on
from unet_studio.training.course import Judgement, prepare_course, reach
from unet_studio.training.curriculum import make_lessons
from unet_studio.training.fit_settings import FitSettings
from unet_studio.training.parts import head_parameters
from unet_studio.training.refine import refine
from unet_studio.training.regions import find_regions
from unet_studio.training.retarget import retarget
from unet_studio.training.sampler import CropSampler
from unet_studio.training.sparse_loss import corrected_word, trust_loss
from unet_studio.training.surroundings import Window, guess_of

EDGE = 160
LEFT, RIGHT = np.s_[20:60, 20:60], np.s_[100:140, 100:140]


def drawn_on(strokes, mode="classes", axes="YX", shape=(EDGE, EDGE)):
    """An image of which only strokes matter: value at slices."""
    labels = np.zeros(shape, np.int32)
    for value, *places in strokes:
        for place in places:
            labels[place] = value
    volume = as_volume(np.zeros(shape, np.uint8), axes)
    return SimpleNamespace(annotations=annotations_on(volume, labels, mode=mode))


def answers_of(foreground):
    p = np.asarray(foreground, np.float16)
    window = Window((), (0,) * p.ndim, p.shape)
    return Answers(((0, window, np.stack([1 - p, p])),))


def two_squares():
    found = np.full((EDGE, EDGE), 0.1)
    found[LEFT] = found[RIGHT] = 0.9
    return found


def said(guess, shape=(EDGE, EDGE)):
    return guess.block((), (0,) * len(shape), shape).sum(0) > 0.9


def test_a_thing_that_a_stroke_says_is_none_is_not_taught():
    exercise = drawn_on([(1, np.s_[40, 22:30])])
    (guess,) = accepted(answers_of(two_squares()), [exercise])
    there = said(guess)
    assert not there[LEFT].any()
    assert there[RIGHT].all()
    assert there[150, 10]
    block = guess.block((), (0, 0), (EDGE, EDGE))
    assert block[1, 120, 120] == pytest.approx(0.9, abs=1e-3)


def test_near_a_correction_nothing_is_taught_and_farther_off_it_is():
    exercise = drawn_on([(2, np.s_[10, 100:110])])  # something that was missed
    (guess,) = accepted(answers_of(two_squares()), [exercise])
    there = said(guess)
    assert not there[10:20, 100:110].any()
    assert there[LEFT].all()
    assert there[RIGHT].all()
    assert there[40, 105]


def test_a_thing_with_strokes_of_both_kinds_is_doubted_near_the_wrong_ones_alone():
    exercise = drawn_on([(1, np.s_[22, 22:30]), (2, np.s_[55, 50:58])])
    there = said(accepted(answers_of(two_squares()), [exercise])[0])
    assert not there[20:30, 22:30].any()
    assert there[50:60, 50:60].all()


def test_strokes_that_agree_leave_the_answer_as_it_is():
    exercise = drawn_on([(2, np.s_[40, 22:30]), (1, np.s_[150, 20:30])])
    assert said(accepted(answers_of(two_squares()), [exercise])[0]).all()


@pytest.mark.parametrize("number", [2, 7])
def test_objects_of_any_number_are_the_thing(number):
    exercise = drawn_on([(number, np.s_[30:50, 30:50])], mode="objects")
    assert said(accepted(answers_of(two_squares()), [exercise])[0]).all()


def test_what_is_taught_of_several_classes_is_doubted_class_by_class():
    p = np.zeros((3, EDGE, EDGE), np.float16)
    p[0] = 1
    p[:, 20:60, 20:60] = np.array([0.1, 0.8, 0.1])[:, None, None]
    p[:, 20:60, 60:100] = np.array([0.1, 0.1, 0.8])[:, None, None]
    answers = Answers(((0, Window((), (0, 0), (EDGE, EDGE)), p),))
    exercise = drawn_on([(3, np.s_[40, 22:30])])
    there = said(accepted(answers, [exercise])[0])
    assert not there[20:60, 20:60].any()
    assert there[20:60, 62:100].all()


def test_volumes_are_doubted_in_all_directions():
    found = np.full((12, 64, 64), 0.1)
    found[2:8, 10:30, 10:30] = 0.9
    exercise = drawn_on([(1, np.s_[5, 20, 12:18])], axes="ZYX", shape=found.shape)
    there = said(accepted(answers_of(found), [exercise])[0], found.shape)
    assert not there[2:8, 10:30, 10:30].any()
    assert there[:, 50:, 50:].all()


def test_around_what_is_judged_nothing_is_taught():
    exercise = drawn_on([(2, np.s_[120, 110:118])])
    held = find_regions(exercise.annotations, 2)
    (guess,) = accepted(answers_of(two_squares()), [exercise], held, (30, 30))
    there = said(guess)
    assert not there[90:151, 80:148].any()
    assert there[LEFT].all()
    assert there[89, 110]
    assert there[120, 148]


def blend(by_strokes, result, heed):
    return blended([guess_of_plane(by_strokes)], [guess_of_plane(result)], heed)


def guess_of_plane(foreground):
    ((_, window, plane),) = answers_of(foreground).parts
    return guess_of([(window, plane)], 2)


def test_of_what_both_find_the_result_is_learned():
    surer = np.where(two_squares() > 0.5, 1.0, 0.0)
    (learned,), share = blend(two_squares(), surer, heed=1.0)
    assert share == 0
    np.testing.assert_allclose(learned.windows[0][1][1], surer, atol=1e-3)


def test_who_takes_one_class_for_another_does_not_agree():
    def three(first, second):
        p = np.zeros((3, EDGE, EDGE), np.float16)
        p[0] = 1
        for kind, place in ((first, LEFT), (second, RIGHT)):
            p[(0, *place)], p[(kind, *place)] = 0, 1
        return guess_of([(Window((), (0, 0), (EDGE, EDGE)), p)], 3)

    assert blended([three(1, 2)], [three(1, 2)], 1.0)[1] == 0
    assert blended([three(1, 2)], [three(2, 1)], 1.0)[1] == 1
    assert blended([three(1, 2)], [three(1, 1)], 1.0)[1] == pytest.approx(0.5)


def test_a_sure_guess_is_believed_where_the_result_says_something_else():
    wrong = np.full((EDGE, EDGE), 0.1)
    wrong[0:20] = 0.9
    (learned,), share = blend(two_squares(), wrong, heed=1.0)
    assert share == 1
    np.testing.assert_allclose(learned.windows[0][1][1], two_squares(), atol=1e-3)


def test_a_guess_that_is_not_sure_is_believed_less_than_a_result():
    wrong = np.full((EDGE, EDGE), 0.1)
    wrong[0:20] = 0.9
    (learned,), share = blend(wrong, two_squares(), heed=0.2)
    assert share == pytest.approx(0.2)
    assert learned.windows[0][1][1, 30, 30] == pytest.approx(0.2 * 0.1 + 0.8 * 0.9, abs=1e-3)


@pytest.mark.parametrize(("heed", "learned_there"), [(1.0, True), (0.2, False)])
def test_where_nothing_was_accepted_a_guess_counts_if_it_is_sure(heed, learned_there):
    guess, result = guess_of_plane(two_squares()[::-1]), guess_of_plane(two_squares())
    for _, plane in result.windows:
        plane[:, :15] = 0  # doubted
    (learned,), _ = blended([guess], [result], heed)
    assert learned.windows[0][1][:, :15].any() == learned_there


def test_images_of_which_nothing_was_accepted_keep_their_guess_if_it_is_sure():
    guess, result = guess_of_plane(two_squares()), guess_of_plane(two_squares())
    (_, alone), _ = blended([guess, guess], [result, None], 1.0)
    np.testing.assert_allclose(alone.windows[0][1][1], two_squares(), atol=1e-3)
    (_, unsure), _ = blended([guess, guess], [result, None], 0.2)
    assert not unsure.windows[0][1].any()


def test_a_guess_is_all_there_is_where_nothing_can_be_compared():
    guess, silent = guess_of_plane(two_squares()), guess_of_plane(two_squares())
    for _, plane in silent.windows:
        plane[:] = 0
    (learned,), share = blended([guess], [silent], 0.9)
    assert share == 0.9
    np.testing.assert_allclose(learned.windows[0][1][1], two_squares(), atol=1e-3)


def test_what_one_of_two_windows_doubts_the_other_does_not_teach():
    """The stroke lies in the upper one alone, the thing in both."""
    found = np.full((EDGE, EDGE), 0.1, np.float16)
    found[60:100, 60:100] = 0.9
    both = np.stack([1 - found, found])
    windows = [Window((), (0, 0), (90, EDGE)), Window((), (70, 0), (EDGE, EDGE))]
    parts = [(0, w, both[:, w.start[0] : w.stop[0]]) for w in windows]
    exercise = drawn_on([(1, np.s_[62, 70:80])])
    for order in (parts, parts[::-1]):
        (guess,) = accepted(Answers(tuple(order)), [exercise])
        there = said(guess)
        assert not there[60:90, 60:100].any()
        assert there[120:, :].all()


def test_without_a_guess_the_result_is_learned_and_without_a_result_nothing():
    result = guess_of_plane(two_squares())
    assert blended([None, None], [result, None], 1.0) == ([result, None], 0.0)


def course_of(pictures, base, corrected, painted=None, **settings):
    image, _, strokes = pictures
    painted = strokes if painted is None else painted
    volume = as_volume(image, "TYX")
    pairs = [(volume, annotations_on(volume, painted, mode="classes"))]
    chosen = FitSettings(**{"steps": 6, "crop": 32, "batch": 2} | settings)
    return prepare_course(pairs, base, chosen, torch.device("cpu"), None, lambda: None, corrected)


def test_the_answer_is_what_a_prediction_says(pictures, model_file, monkeypatch):
    monkeypatch.setitem(accepting._PIECE, 2, 32)  # the frames are small
    model = load_model(str(model_file))
    course = course_of(pictures, model, model)
    answers = ask(model, course.exercises, course.device)
    predicted = predict(pictures[0], model, axes="TYX").probabilities
    assert len(answers.parts) == len(pictures[0])
    for _, window, found in answers.parts:
        inside = tuple(slice(a, b) for a, b in zip(window.start, window.stop, strict=True))
        wanted = np.asarray(predicted[window.frame])[(slice(None), *inside)]
        apart = np.abs(found[1:].astype(np.float32) - wanted)
        assert apart.max() < 0.05
        np.testing.assert_allclose(found[0] + found[1], 1, atol=2e-3)


def course_of_volume(image, painted):
    model = new_model("unet-tiny", ndim=3, representation="binary", options={"widths": (4, 8)})
    volume = as_volume(image, "ZYX")
    return prepare_course(
        [(volume, annotations_on(volume, painted, mode="classes"))], model, FitSettings(steps=1),
        torch.device("cpu"), None, lambda: None,
    )  # fmt: skip


def test_volumes_are_asked_in_pieces_as_well(monkeypatch):
    monkeypatch.setitem(accepting._PIECE, 3, 16)
    image, truth = scenes.scene(12, 48)
    course = course_of_volume(image, scenes.strokes(truth))
    model = course.base
    ((_, window, found),) = ask(model, course.exercises, course.device).parts
    wanted = np.asarray(predict(image, model, axes="ZYX").probabilities)
    assert found.shape[1:] == window.shape == image.shape
    assert np.abs(found[1:].astype(np.float32) - wanted).max() < 0.05


def test_in_volumes_an_answer_is_turned_as_its_image_is():
    image, truth = scenes.scene(12, 48)
    image = np.where(truth, 200, 20).astype(np.uint8)
    course = course_of_volume(image, scenes.strokes(truth))
    (exercise,) = course.exercises
    plane = np.stack([~truth, truth]).astype(np.float16)
    guess = guess_of([(Window((), (0, 0, 0), truth.shape), plane)], 2)
    sampler = CropSampler(
        [replace(exercise, guess=guess)], course.base.card, (8, 32, 32),
        torch.Generator().manual_seed(0), anywhere=0.5,
    )  # fmt: skip
    batch = sampler.batch(8)
    assert batch.guess.shape == (8, 2, 8, 32, 32)
    there = batch.guess[:, 1] > 0.5
    assert 0.02 < there.float().mean() < 0.5
    assert ((batch.images[:, 0] > 0.5) == there).float().mean() > 0.99


def test_asking_ends_when_its_time_is_over(pictures, model_file):
    model = load_model(str(model_file))
    course = course_of(pictures, model, model)
    assert len(ask(model, course.exercises, course.device, seconds=0).parts) == 1


def test_what_was_accepted_is_learned_with_full_weight_and_not_around_what_judges(
    pictures, model_file
):
    model = load_model(str(model_file))
    base = retarget(model, model.card.classes)
    course = course_of(pictures, base, retarget_like(base, model))
    assert course.split.held_back
    lessons = make_lessons(course, Judgement(course, CancelToken()))
    assert lessons.haste > 0.9
    assert lessons.guess_surplus < 0.3 * lessons.surplus

    def share_said(sampler, regions):
        (exercise,) = sampler.exercises
        around = [
            exercise.guess.block(
                r.frame, np.maximum(r.low - reach(base.card), 0),
                np.minimum(r.high + reach(base.card) + 1, exercise.shape),
            )
            for r in regions
        ]  # fmt: skip
        return np.mean([b.any(0).mean() for b in around])

    # The guess is not from these strokes, so it may stand in for what is not taken from there.
    (exercise,) = lessons.sampler.exercises
    alone = make_lessons(replace(course, corrected=None), Judgement(course, CancelToken()))
    (by_strokes,) = alone.sampler.exercises
    for region in course.split.held_back:
        start, stop = (0, 0), exercise.shape  # the frames are within reach as a whole
        blocks = [e.guess.block(region.frame, start, stop) for e in (exercise, by_strokes)]
        assert np.array_equal(*blocks)
    learned = [r for r in find_regions(course.split.training[0], 2) if r.kind == 1]
    assert share_said(lessons.sampler, learned) > 0.5
    everything = lessons.last_third(course.base.network)
    frame = course.split.held_back[0].frame
    untold = alone.last_third(course.base.network)
    blocks = [s.exercises[0].guess.block(frame, start, stop) for s in (everything, untold)]
    assert not np.array_equal(*blocks)  # it is told there, too


def retarget_like(base, model):
    """The model that the taught weights make of the new one's card."""
    return Model(base.card.model_copy(update={"training": {}, "name": "corrected"}), model.network)


def test_the_record_says_whose_result_was_corrected(pictures, taught):
    image, _, painted = pictures
    base = retarget(taught.model, ["disk"])
    quick = {"axes": "TYX", "crop": 32, "steps": 2, "batch": 2}
    alone = refine(image, painted, base, **quick).record["refined"]
    told = refine(image, painted, base, corrects=retarget_like(base, taught.model), **quick)
    assert alone["corrects"] is None
    assert told.record["refined"]["corrects"] == "corrected"


def test_a_model_that_knows_heeds_what_was_accepted_more_than_its_own_word(
    pictures, taught, monkeypatch
):
    """Else it would hold on to what its correction has put right."""
    image, truth, _ = pictures
    painted = np.zeros(truth.shape, np.uint8)
    painted[:4, :3, :20], painted[0, 40:43, 40:50] = 1, 2
    nothing = with_head(taught.model, "nothing", 0.0, -8.0)
    heard = []

    def listen(now, said, picked, kind, _corrected):
        heard.append(said[:, 0][picked])
        return now.sum() * 0

    monkeypatch.setattr("unet_studio.training.fit.trust_loss", listen)

    def all_heard(**corrects):
        heard.clear()
        refine(image, painted, taught.model, axes="TYX", crop=32, steps=4, **corrects)
        return torch.cat(heard)

    assert all_heard().max() > 0.9  # its own word: there are disks
    told = all_heard(corrects=nothing)
    assert (told < 1e-3).float().mean() > 0.5
    assert told.max() > 0.9  # near the stroke that says otherwise


def with_head(model, name, factor, shift=0.0):
    """A model of the same kind whose answers are that much fainter, and shifted."""
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        for parameter in head_parameters(network):
            parameter.mul_(factor).add_(shift if parameter.ndim == 1 else 0.0)
    return Model(model.card.model_copy(update={"name": name}), network)


def test_strokes_painted_meanwhile_contradict_as_well(pictures, model_file):
    image, truth, painted = pictures
    model = load_model(str(model_file))
    waiting = []
    course = course_of(pictures, model, model)
    judgement = Judgement(course, CancelToken())
    lessons = make_lessons(course, judgement, lambda: [waiting.pop()] if waiting else None)
    learned = find_regions(course.split.training[0], 2)
    frame = next(r.frame for r in learned if r.kind == 2)

    def said_of_disks(sampler):
        (exercise,) = sampler.exercises
        return exercise.guess.block(frame, (0, 0), exercise.shape).any(0)[truth[frame]].mean()

    before = said_of_disks(lessons.sampler)
    now = painted.copy()
    now[frame][truth[frame]] = 1  # no disk is one
    waiting.append(annotations_on(as_volume(image, "TYX"), now, mode="classes"))
    assert said_of_disks(lessons.refresh()) < 0.1 < before


def test_a_volume_is_refined_from_what_was_left_as_it_is():
    image, truth = scenes.scene(12, 48)
    painted = scenes.strokes(truth)
    base = course_of_volume(image, painted).base
    corrected = with_head(base, "seen", 1.0)
    refined = refine(image, painted, base, corrects=corrected, axes="ZYX", steps=2, crop=16)
    assert refined.record["refined"]["corrects"] == "seen"
    assert refined.record["refined"]["surplus"] == 0


def test_of_objects_the_old_model_alone_speaks_of_edges_and_depth():
    """Taught from one model to the next, they spoil."""
    word = torch.full((1, 3, 4, 4), 0.8)
    accepted = torch.zeros(1, 2, 4, 4)
    accepted[:, :, :, :2] = torch.tensor([0.9, 0.1])[None, :, None, None]  # corrected
    accepted[:, :, :, 2:3] = torch.tensor([0.1, 0.9])[None, :, None, None]  # confirmed
    said, corrected = corrected_word(word, accepted, "objects")
    assert corrected[..., :2].all()
    assert not corrected[..., 2:].any()
    assert torch.equal(said[:, 1:], word[:, 1:])
    assert (said[:, 0, :, :2] == accepted[:, 1, :, :2]).all()
    assert (said[:, 0, :, 2:] == 0.8).all()

    def edge_gradient(foreground_only):
        now = torch.zeros(1, 3, 4, 4, requires_grad=True)
        everywhere = torch.ones(1, 4, 4, dtype=torch.bool)
        trust_loss(now, said, everywhere, "objects", foreground_only).backward()
        return now.grad[:, 1:].abs().sum(1)[0]

    assert (edge_gradient(corrected)[:, :2] == 0).all()
    assert (edge_gradient(corrected)[:, 2:] > 0).all()
    assert (edge_gradient(None) > 0).all()


def test_objects_are_refined_from_what_was_left_as_it_is(pictures):
    image, _, painted = pictures
    base = new_model(
        "unet-tiny", representation="objects", classes=("disk",), options={"widths": (4, 8)}
    )
    card = base.card.model_copy(update={"trained": True, "name": "knows"})
    for model in (Model(card, base.network), base):
        course = course_of(pictures, model, model)
        lessons = make_lessons(course, Judgement(course, CancelToken()))
        assert lessons.sampler.batch(4).guess.shape[1] == 2
        told = refine(image, painted, model, corrects=model, axes="TYX", steps=2, crop=32)
        assert told.record["refined"]["corrects"] == model.card.name


def test_a_model_of_other_classes_can_not_be_the_corrected_one(pictures, taught):
    image, _, painted = pictures
    with pytest.raises(ModelError, match="their classes differ"):
        refine(image, painted, retarget(taught.model, ["a", "b"]), corrects=taught.model,
               axes="TYX", steps=1)  # fmt: skip
