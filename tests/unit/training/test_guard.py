"""The guard: better is said of what is better, and of nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unet_studio.images.volume import as_volume
from unet_studio.models.card import ModelCard
from unet_studio.training.annotations import annotations_on
from unet_studio.training.exercises import open_exercise
from unet_studio.training.guard import Judge, judge, sign_test
from unet_studio.training.regions import find_regions

KINDS = np.array([1, 2] * 6)


def test_the_sign_test_counts_all_signs():
    assert sign_test(np.ones(6)) == pytest.approx(1 / 64)
    assert sign_test(np.zeros(6)) == 1.0
    assert sign_test(-np.ones(6)) == 1.0
    many = np.random.default_rng(1).normal(0, 1, 40)
    assert 0 < sign_test(many) < 1


def test_a_clear_gain_is_better():
    verdict = judge(np.full(12, 0.4), np.full(12, 0.9), KINDS, agreement=0.95)
    assert verdict.finding == "better"
    assert verdict.adopted
    assert (verdict.old, verdict.new) == (pytest.approx(0.4), pytest.approx(0.9))
    assert "40 %" in verdict.reason
    assert "90 %" in verdict.reason
    assert verdict.as_dict()["agreement"] == 0.95


def test_a_gain_from_strokes_that_look_alike_proves_nothing():
    """Of random classes, too, one in fifty gains; but other strokes do not tell them apart."""
    gain = (np.full(12, 0.4), np.full(12, 0.9), KINDS)
    alike = judge(*gain, chance_apart=0.3)
    assert alike.finding == "too little to judge"
    assert "look too much alike" in alike.reason
    assert judge(*gain, chance_apart=0.001).finding == "better"
    assert judge(gain[1], gain[0], KINDS, chance_apart=0.3).finding == "worse"


def test_a_loss_is_worse_and_so_is_no_change():
    assert judge(np.full(12, 0.9), np.full(12, 0.4), KINDS).finding == "worse"
    assert judge(np.full(12, 0.9), np.full(12, 0.9), KINDS).finding == "worse"


def test_a_gain_that_leaves_it_no_better_than_a_guess_is_worse():
    assert judge(np.full(12, 0.1), np.full(12, 0.5), KINDS).finding == "worse"


def test_a_gain_in_a_few_regions_is_too_little_to_judge():
    old = np.full(12, 0.6)
    new = old + np.array([0.4, 0.4, -0.3, -0.3] * 3)
    assert judge(old, new, KINDS).finding == "too little to judge"


@pytest.mark.parametrize("kinds", [[1, 2, 1, 2, 1], [1] * 12], ids=["five regions", "one class"])
def test_F90_too_few_regions_give_no_score(kinds):
    count = len(kinds)
    verdict = judge(np.zeros(count), np.ones(count), np.array(kinds))
    assert verdict.finding == "too little to judge"
    assert verdict.reason.startswith("No validation")
    assert (verdict.old, verdict.new, verdict.regions) == (None, None, 0)


def test_a_gain_on_strokes_that_costs_what_was_known_is_not_adopted():
    """Strokes are painted where the old model fails: there, any change is a gain."""
    verdict = judge(np.full(12, 0.3), np.full(12, 0.9), KINDS, agreement=0.43)
    assert verdict.finding == "too little to judge"
    assert not verdict.adopted
    assert "agrees with the old one by only 43 %" in verdict.reason


def test_every_class_counts_the_same():
    kinds = np.array([1] * 10 + [2] * 2)
    verdict = judge(np.full(12, 0.5), np.where(kinds == 1, 1.0, 0.0), kinds)
    assert verdict.new == pytest.approx(0.5)
    assert verdict.finding == "worse"


def test_of_models_that_guess_hardly_any_is_called_better():
    """Random answers on random classes: by chance alone, fewer than the significance says."""
    rng = np.random.default_rng(0)
    found = [
        judge(*rng.integers(0, 2, (2, 12)).astype(float), KINDS).finding == "better"
        for _ in range(300)
    ]
    assert np.mean(found) < 0.02


def test_half_of_the_old_errors_put_right_and_the_rest_kept_is_better():
    """Strokes lie on errors alone: there the old model scores 0, and no score is due."""
    old = np.full(12, 0.02)
    new = np.tile([0.7, 0.5, 0.2], 4)
    verdict = judge(old, new, KINDS, agreement=0.9, kept=0.9)
    assert verdict.finding == "better"
    assert verdict.kept == 0.9


def test_a_model_that_destroys_what_was_right_is_worse_however_well_it_fits_strokes():
    verdict = judge(np.zeros(12), np.ones(12), KINDS, agreement=0.9, kept=0.4)
    assert verdict.finding == "worse"
    assert "keeps only 40 %" in verdict.reason


def test_no_class_pays_for_another():
    old = np.where(KINDS == 1, 0.1, 0.6)
    new = np.where(KINDS == 1, 0.9, 0.3)
    assert judge(old, new, KINDS, kept=0.9).finding == "worse"


def test_who_found_one_class_everywhere_had_nothing_to_lose_of_it():
    """Random last weights say background of all, and are right of all of it."""
    old = np.where(KINDS == 1, 1.0, 0.0)
    new = np.where(KINDS == 1, 0.75, 0.8)
    gains = np.full(12, 0.2)
    assert judge(old, new, KINDS, gains=gains).finding == "better"
    assert judge(old, new, KINDS, kept=0.9, gains=gains).finding == "worse"
    below_a_guess = np.where(KINDS == 1, 1.0, 0.25)
    assert judge(old, below_a_guess, KINDS, gains=gains).finding == "worse"


def test_probabilities_tell_a_small_gain_from_none_and_answers_alone_do_not():
    old = np.full(12, 0.2)
    new = old + np.where(np.arange(12) < 4, 0.5, 0.0)
    assert judge(old, new, KINDS, kept=0.9).finding == "too little to judge"
    assert judge(old, new, KINDS, kept=0.9, gains=np.full(12, 0.1)).finding == "better"
    # No gain in answers is none, whatever the probabilities.
    assert judge(old, old, KINDS, kept=0.9, gains=np.full(12, 0.1)).finding == "worse"


@pytest.mark.parametrize("old_score", [0.1, 0.5, 0.9])
def test_strokes_of_random_classes_are_hardly_ever_called_better(old_score):
    """Both models answer by their habits; whether a stroke calls that right is a coin's toss."""
    rng = np.random.default_rng(0)
    better = 0
    for _ in range(300):
        answers = rng.random((2, 14)) < np.array([[old_score], [0.5]])
        labels = rng.random(14) < 0.5
        kinds = labels + 1
        if len(np.unique(kinds)) == 2:
            old, new = ((a == labels).astype(float) for a in answers)
            better += judge(old, new, kinds, agreement=1.0, kept=1.0).adopted
    assert better / 300 < 0.02


class Brightness(torch.nn.Module):
    """Finds what is brighter than half, or, turned round, darker."""

    def __init__(self, sign: float):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(20.0 * sign))

    def forward(self, x):
        return self.weight * (x[:, :1] - 0.5)


@pytest.mark.parametrize("representation", ["binary", "classes"])
def test_what_is_kept_is_seen_where_nothing_was_painted(representation):
    """On strokes on its errors, a model turned round is right, and wrong everywhere else."""
    image = np.zeros((96, 96), np.uint8)
    image[20:60, 20:60] = 200
    painted = np.zeros(image.shape, np.uint8)
    painted[40:42, 30:40] = 1  # bright, and called background
    painted[70:72, 30:40] = 2
    card = ModelCard(
        name="m", architecture="unet", in_channels=1, representation="binary",
        classes=("object",), stride=1, halo=40,
    )  # fmt: skip
    old, new = Brightness(1.0), Brightness(-1.0)
    if representation == "classes":
        card = card.model_copy(
            update={"representation": "classes", "classes": ("background", "object")}
        )
        both = torch.nn.ModuleList([old, new])
        old, new = (lambda x, i=i: torch.cat([0 * both[i](x), both[i](x)], 1) for i in (0, 1))
    volume = as_volume(image, "YX")
    exercise = open_exercise(volume, annotations_on(volume, painted), card)
    regions = find_regions(exercise.annotations, 2)
    judged = Judge([exercise], regions, card, torch.device("cpu"), (40, 40))
    before, after = judged.look(old), judged.look(new)
    assert before.scores.tolist() == [0, 0]
    assert after.scores.tolist() == [1, 1]
    assert after.beliefs == pytest.approx(1, abs=1e-3)
    assert judged.kept(before, before) == 1
    assert judged.kept(before, after) == 0
