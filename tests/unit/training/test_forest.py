"""A forest from a few pixels, and what it guesses around strokes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from unet_studio.images.volume import as_volume
from unet_studio.models.model import load_model
from unet_studio.models.presets import new_model
from unet_studio.training.annotations import annotations_on
from unet_studio.training.exercises import open_exercise
from unet_studio.training.first_guess import first_guess, foreground_of, has_said
from unet_studio.training.forest import grow_forest


def ring(rng, count):
    """Points inside a circle are of one class, those around it of the other."""
    points = rng.uniform(-2, 2, (count, 5)).astype(np.float32)  # three features say nothing
    return points, (np.hypot(points[:, 0], points[:, 1]) > 1).astype(np.int64)


def test_a_forest_learns_what_no_straight_line_separates():
    rng = np.random.default_rng(0)
    points, classes = ring(rng, 400)
    forest = grow_forest(points, classes, 2)
    fresh, truth = ring(rng, 2000)
    votes = forest.probabilities(fresh)
    assert np.allclose(votes.sum(1), 1, atol=1e-5)
    assert (votes.argmax(1) == truth).mean() > 0.85


def test_the_class_that_was_painted_less_is_as_loud():
    rng = np.random.default_rng(1)
    rare = rng.normal(1.0, 1.0, (20, 1)).astype(np.float32)
    common = rng.normal(-1.0, 1.0, (600, 1)).astype(np.float32)
    classes = np.repeat([1, 0], [20, 600])
    forest = grow_forest(np.concatenate([rare, common]), classes, 2)
    assert forest.probabilities(np.ones((1, 1), np.float32))[0, 1] > 0.5


def test_a_seed_fixes_the_forest():
    points, classes = ring(np.random.default_rng(0), 100)
    first, again, other = (
        grow_forest(points, classes, 3, seed).probabilities(points) for seed in (4, 4, 5)
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not first[:, 2].any()  # nothing of the third class was seen


@pytest.fixture
def exercises(pictures):
    image, _, painted = pictures
    painted = painted.copy()
    painted[5:] = 0
    volume = as_volume(image, "TYX")
    card = new_model("unet-tiny").card
    return [open_exercise(volume, annotations_on(volume, painted), card)]


def test_the_surroundings_of_strokes_are_guessed_from_them(exercises, pictures):
    _, truth, _ = pictures
    (guess,) = first_guess(exercises, 2).guesses
    for frame in range(5):
        found = guess.block((frame,), (0, 0), (64, 64))[1] > 0.5
        common = (found & truth[frame]).sum()
        assert 2 * common / (found.sum() + truth[frame].sum()) > 0.8
    assert not guess.block((6,), (0, 0), (64, 64)).any()  # no stroke in this frame
    part = guess.block((0,), (-8, 10), (20, 90))
    assert part.shape == (2, 28, 80)
    assert not part[:, :8].any()


def test_grey_and_coloured_images_are_guessed_together():
    """A window of a coloured image may be grey all over, too."""
    rng = np.random.default_rng(0)
    card = load_model("nuclei").card
    colour = rng.integers(0, 255, (40, 400, 3)).astype(np.uint8)
    colour[:, :60] = 200
    grey = rng.integers(0, 255, (40, 50)).astype(np.uint8)
    exercises = []
    for image, axes in ((colour, "YXC"), (grey, "YX")):
        painted = np.zeros(image.shape[:2], np.uint8)
        painted[5:9, 5:9], painted[20:24, 5:9] = 1, 2
        volume = as_volume(image, axes)
        exercises.append(open_exercise(volume, annotations_on(volume, painted), card))
    guesses = first_guess(exercises, 2).guesses
    assert all(guess is not None for guess in guesses)


def test_a_rare_class_among_dense_annotations_is_learned(monkeypatch):
    monkeypatch.setattr("unet_studio.training.first_guess._MOST_REGIONS", 8)
    image = np.full((512, 512), 50, np.uint8)
    image[300:310, 300:310] = 250
    painted = np.where(image > 100, 2, 1).astype(np.uint8)
    painted[390:395] = 0  # the rare one is neither the first region nor the last
    volume = as_volume(image, "YX")
    card = new_model("unet-tiny").card
    exercise = open_exercise(volume, annotations_on(volume, painted), card)
    (guess,) = first_guess([exercise], 2).guesses
    assert guess.block((), (304, 304), (305, 305))[1, 0, 0] > 0.5


def test_a_class_that_the_model_does_not_know_is_passed_over(exercises):
    (exercise,) = exercises
    places, values = exercise.annotations.places, exercise.annotations.values.copy()
    values[:3] = 9
    other = exercise.with_annotations(replace(exercise.annotations, values=values))
    assert len(places) == len(values)
    assert first_guess([other], 2).guesses[0] is not None


@pytest.mark.parametrize("method", ["percentile", "zscore"])
def test_photographs_are_of_one_range_however_a_model_scales(method):
    image = np.random.default_rng(0).normal(900, 40, (64, 64)).astype(np.float32)
    volume = as_volume(image, "YX")
    card = new_model("unet-tiny", normalisation={"method": method}).card
    painted = np.zeros(image.shape, np.uint8)
    painted[5:9, 5:9], painted[20:24, 5:9] = 1, 2
    exercise = open_exercise(volume, annotations_on(volume, painted), card)
    shown = exercise.photograph((), (0, 0), (64, 64))
    assert shown.dtype == np.float32
    assert 0 < np.percentile(shown, 10) < np.percentile(shown, 90) < 1


def test_where_nothing_was_guessed_nothing_is_said():
    guess = torch.tensor([[[[0.0, 0.2]], [[0.0, 0.8]]]])
    assert has_said(guess).tolist() == [[[False, True]]]
    foreground = foreground_of(guess)
    assert foreground.flatten().tolist() == pytest.approx([0.5, 0.8])
    assert has_said(foreground).tolist() == [[[False, True]]]


def test_what_looks_alike_is_guessed_with_little_certainty(exercises):
    noise = np.random.default_rng(0).integers(0, 255, (120, 120)).astype(np.uint8)
    painted = np.zeros(noise.shape, np.uint8)
    painted[10:110:10, 10:30], painted[15:110:10, 60:80] = 1, 2
    volume = as_volume(noise, "YX")
    exercise = open_exercise(volume, annotations_on(volume, painted), new_model("unet-tiny").card)
    alike, clear = (first_guess(e, 2).certainty for e in ([exercise], exercises))
    assert 0 <= alike < 0.45
    assert 0.7 < clear <= 1


def test_one_class_alone_gives_no_guess(exercises):
    (exercise,) = exercises
    only = exercise.annotations.values == 2
    one = exercise.with_annotations(exercise.annotations.only(only))
    found = first_guess([one], 2)
    assert found.guesses == (None,)
    assert found.chance is None
    assert found.certainty is None
