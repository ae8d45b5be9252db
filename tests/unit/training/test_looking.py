"""A look at a part of an image, and where to paint next."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unet_studio import predict
from unet_studio.images.volume import as_volume
from unet_studio.models.model import load_model
from unet_studio.training.annotations import annotations_on
from unet_studio.training.exercises import open_exercise
from unet_studio.training.glimpse import View, look
from unet_studio.training.where_next import WINDOW, suggest_place


@pytest.fixture
def model(model_file):
    return load_model(str(model_file))


def exercise_of(image, painted, model, axes):
    volume = as_volume(image, axes)
    return open_exercise(volume, annotations_on(volume, painted), model.card)


def test_a_look_shows_what_a_prediction_would(model, pictures):
    image, _, painted = pictures
    exercise = exercise_of(image, painted, model, "TYX")
    glimpse = look(model.network, exercise, View(0, (3,), (0, 0), (64, 64)), model.card)
    whole = np.asarray(predict(image, model, axes="TYX").probabilities, np.float32)
    assert glimpse.foreground == pytest.approx(whole[3].reshape(64, 64), abs=5e-3)
    part = look(model.network, exercise, View(0, (3,), (16, 8), (48, 40)), model.card)
    assert part.foreground == pytest.approx(glimpse.foreground[16:48, 8:40], abs=0.05)


def test_uncertainty_is_highest_where_the_classes_are_even(model, pictures):
    image, _, painted = pictures
    exercise = exercise_of(image, painted, model, "TYX")
    glimpse = look(model.network, exercise, View(0, (0,), (0, 0), (64, 64)), model.card)
    even = np.abs(glimpse.foreground - 0.5)
    assert glimpse.uncertainty.max() <= 1
    assert glimpse.uncertainty.ravel()[even.argmin()] == glimpse.uncertainty.max()


class Unsure(torch.nn.Module):
    """Sure of bright pixels, unsure of those that are neither bright nor dark."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor(40.0))

    def forward(self, x):
        return self.weight * (x[:, :1] - 0.5)


def test_the_next_place_is_where_the_network_is_unsure_and_nothing_was_painted(model):
    image = np.zeros((3, 160, 160), np.uint8)
    image[:, ::2, ::2] = 200  # sure of all of it
    image[1, 20:60, 20:60] = 100  # and of nothing here
    image[2, 90:130, 100:140] = 100
    network, painted = Unsure(), np.zeros(image.shape, np.uint8)
    exercise = exercise_of(image, painted, model, "TYX")
    first = suggest_place(network, [exercise], model.card)
    second = suggest_place(network, [exercise], model.card, [first])
    spots = {1: (40, 40), 2: (110, 120)}
    assert {first.place[0], second.place[0]} == {1, 2}
    for one in (first, second):
        assert np.abs(np.subtract(one.place[1:], spots[one.place[0]])).max() < WINDOW // 2
    painted[first.place[0], spots[first.place[0]][0], spots[first.place[0]][1]] = 1
    now = suggest_place(network, [exercise_of(image, painted, model, "TYX")], model.card)
    assert now.place[0] == second.place[0]


def test_nothing_is_suggested_where_all_is_painted(model):
    image = np.zeros((64, 64), np.uint8)
    exercise = exercise_of(image, np.ones((64, 64), np.uint8), model, "YX")
    assert suggest_place(Unsure(), [exercise], model.card) is None
