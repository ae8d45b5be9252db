"""P24 and the contract: clicked pixels are in, or out, and every piece was clicked."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from unet_studio.clicks import contract
from unet_studio.clicks.prompts import Patch
from unet_studio.clicks.session import ClickSession

SHAPE = (90, 70)
_coordinates = st.tuples(
    st.floats(-12, SHAPE[0] + 12, width=32), st.floats(-12, SHAPE[1] + 12, width=32)
)
_wild = st.one_of(
    _coordinates, st.tuples(st.sampled_from([np.nan, np.inf, -np.inf, 1e30]), st.just(3.0))
)
_action = st.one_of(
    st.tuples(st.just("click"), _wild, st.booleans()),
    st.tuples(st.just("click"), _coordinates, st.booleans()),
    st.tuples(st.just("scribble"), st.lists(_coordinates, min_size=1, max_size=4), st.booleans()),
    st.tuples(st.just("box"), _coordinates, _coordinates),
    st.tuples(st.sampled_from(["undo", "redo", "commit"])),
)


def check(proposal, shape):
    """What has to hold of any answer."""
    whole = np.zeros(shape, bool)
    whole[proposal.region] = proposal.mask
    said = {pixel: mark.positive for mark in proposal.clicks for pixel in mark.pixels()}
    positive = [p for p, word in said.items() if word]
    assert all(whole[p] for p in positive)
    assert not any(whole[p] for p, word in said.items() if not word)
    if positive:
        pieces, count = ndimage.label(whole)
        assert {int(pieces[p]) for p in positive} == set(range(1, count + 1))


def perform(session, action):
    name, *arguments = action
    before = session.proposal
    if name == "click" and not session.canvas.locate(arguments[0]):
        entries = len(session.entries)
        found = session.click(*arguments)
        assert not found.changed
        assert "outside the image" in found.note
        assert len(session.entries) == entries
        np.testing.assert_array_equal(found.mask, before.mask)
        return
    getattr(session, name)(*arguments)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    actions=st.lists(_action, min_size=1, max_size=7),
    seed=st.integers(0, 3),
    real=st.booleans(),
)
def test_P24_the_contract_holds_in_any_session(actions, seed, real, random_network, blobs):
    image = np.random.default_rng(seed).integers(0, 255, SHAPE).astype(np.uint8)
    image = ndimage.gaussian_filter(image, 3.0 * seed)
    session = ClickSession(image, random_network if real else blobs)
    for action in actions:
        perform(session, action)
        check(session.proposal, SHAPE)
    again = ClickSession(image, random_network if real else blobs)
    for action in actions:
        perform(again, action)
    assert again.journal == session.journal


def test_a_click_takes_an_earlier_one_on_the_same_pixel_back(blobs, three_disks):
    session = ClickSession(three_disks[0], blobs)
    session.click((60, 160))
    assert session.click((60.3, 159.8), positive=False).area == 0
    assert session.click((60, 160)).area > 400


def test_agreement_is_left_alone():
    probability = np.zeros((40, 40), np.float32)
    probability[10:30, 10:30] = 0.9
    found = contract.correct(
        probability, probability, np.array([[20.0, 20.0]]), np.array([[5.0, 5.0]]), 3
    )
    assert found.corrections == ()
    assert found.probability is probability


def test_growing_takes_what_is_about_as_likely_and_joined():
    probability = np.full((60, 60), 0.01, np.float32)
    probability[20:40, 20:32] = 0.9
    probability[20:40, 32:45] = 0.3  # the part that the network doubts
    probability[50:55, 50:55] = 0.3  # another thing
    found = contract.correct(
        probability, probability, np.array([[30.0, 25], [30, 38]]), np.zeros((0, 2)), 3
    )
    assert found.corrections == (contract.GROWN,)
    mask = found.probability > 0.5
    assert mask[20:40, 20:45].all()
    assert mask.sum() == 20 * 25


def test_a_new_click_brings_along_what_was_as_doubtful_as_its_pixel():
    """Although the network now says yes at the click, and only there."""
    before = np.full((60, 60), 0.01, np.float32)
    before[20:40, 20:32] = 0.9
    before[20:40, 32:45] = 0.3  # the part that the last answer left out
    before[50:55, 50:55] = 0.3  # another thing
    before[20:40, 45:50] = 0.06  # hardly likely
    now = before.copy()
    now[28:33, 36:41] = 0.8
    click, none = np.array([[30.0, 38]]), np.zeros((0, 2))
    assert contract.correct(now, now, click, none, 3).probability is now
    found = contract.correct(now, now, click, none, 3, before)
    assert found.corrections == (contract.GROWN,)
    mask = found.probability > 0.5
    assert mask[20:40, 20:45].all()
    assert mask.sum() == 20 * 25
    # What was sure, or most unlikely, says nothing of anything else.
    for sure in (0.9, 0.04):
        again = contract.correct(now, now, click, none, 3, np.full_like(before, sure))
        assert again.probability is now


def test_growing_where_nothing_is_seen_is_a_disk():
    nothing = np.zeros((60, 60), np.float32)
    found = contract.correct(nothing, nothing, np.array([[30.0, 30]]), np.zeros((0, 2)), 3)
    assert (found.probability > 0.5).sum() == 29  # a disk of radius 3


def test_cutting_follows_the_edge_between_two_objects():
    """A network that takes two touching objects for one; the image shows the line between."""
    probability = np.zeros((60, 80), np.float32)[:60, :60]
    probability[20:40, 10:50] = 0.95
    image = np.zeros((60, 60), np.float32)
    image[20:40, 10:50] = 1
    image[20:40, 28:30] = 0.2
    found = contract.correct(probability, image, np.array([[30.0, 20]]), np.array([[30.0, 38]]), 3)
    assert found.corrections == (contract.CUT,)
    mask = found.probability > 0.5
    assert mask[20:40, 10:27].all()
    assert not mask[25:35, 31:45].any()


def test_a_correction_stays_in_its_neighbourhood():
    probability = np.full((160, 160), 0.9, np.float32)
    image = np.random.default_rng(0).random((160, 160)).astype(np.float32)
    found = contract.correct(
        probability, image, np.array([[20.0, 20]]), np.array([[120.0, 120]]), 3
    )
    y, x = np.mgrid[:160, :160]
    changed = found.probability != probability
    assert changed.any()
    assert np.hypot(y - 120, x - 120)[changed].max() <= 24


def test_only_clicked_pieces_are_kept_and_pixels_are_put_right():
    probability = np.zeros((30, 60), np.float32)
    probability[5:15, 5:15] = probability[5:15, 25:35] = 0.9
    mask, set_by_hand = contract.choose(probability, 100, 200, [(110, 210)], [])
    assert (mask.top, mask.left, mask.values.shape) == (105, 205, (10, 10))
    assert not set_by_hand
    mask, set_by_hand = contract.choose(
        probability, 100, 200, [(110, 210), (120, 250)], [(108, 207)]
    )
    assert set_by_hand
    assert mask.has((120, 250))
    assert not mask.has((108, 207))
    assert mask.values.sum() == 100


def test_cutting_a_thin_object_leaves_the_clicked_half():
    probability = np.zeros((5, 40), np.float32)
    probability[2] = 0.9
    mask, _ = contract.choose(probability, 0, 0, [(2, 5)], [(2, 20)])
    assert mask.values.shape == (1, 20)


def test_small_holes_are_filled_and_large_ones_stay():
    probability = np.zeros((60, 60), np.float32)
    probability[5:55, 5:55] = 0.9
    probability[10:12, 10:12] = 0
    probability[20:40, 20:40] = 0
    mask, _ = contract.choose(probability, 0, 0, [(50, 50)], [])
    assert mask.values.sum() == 50 * 50 - 400


def test_a_mask_to_start_from_keeps_its_pieces():
    probability = np.zeros((30, 60), np.float32)
    probability[5:15, 5:15] = probability[5:15, 25:35] = probability[5:15, 45:55] = 0.9
    start = Patch(0, 0, probability > 0.5)
    start = Patch(0, 0, start.values[:, :40].copy())
    mask, _ = contract.choose(probability, 0, 0, [], [], start)
    assert mask.values.sum() == 200


def test_the_expected_overlap_is_that_of_the_probabilities():
    probability = np.zeros((40, 40), np.float32)
    probability[10:30, 10:30] = 1
    assert contract.expected_overlap(probability, probability > 0.5) == pytest.approx(1)
    probability[10:30, 30:33] = 0.4
    found = contract.expected_overlap(probability, probability > 0.5)
    assert found == pytest.approx(400 / (400 + 24))
    assert contract.expected_overlap(probability, np.zeros((40, 40), bool)) == 0
