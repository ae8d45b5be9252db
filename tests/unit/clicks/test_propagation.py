"""From slice to slice and from frame to frame, until the object ends."""

from __future__ import annotations

import numpy as np
import pytest

from unet_studio.clicks import propagation
from unet_studio.clicks.session import ClickSession
from unet_studio.errors import ClickError
from unet_studio.events import CancelToken, drain


@pytest.fixture
def ball():
    """A ball of radius 20 in planes 5 to 35 of 40 (thicker than it is wide), and a wall."""
    z, y, x = np.mgrid[:40, :100, :110]
    inside = ((z - 20) / 0.75) ** 2 + (y - 50) ** 2 + (x - 60) ** 2 <= 20**2
    image = inside * 200
    image[:, :4, :4] = 200
    noise = np.random.default_rng(0).integers(0, 10, image.shape)
    return (image + noise).astype(np.uint8), inside


def run(steps):
    found = []
    result = drain(steps, found.append)
    return found, result


def test_a_ball_is_followed_to_its_ends(blobs, ball):
    image, inside = ball
    session = ClickSession(image, blobs, axes="ZYX")
    session.click((20, 50, 60))
    found, report = run(session.propagate())
    assert report.axis == "Z"
    assert 5 <= report.first <= 8
    assert 32 <= report.last <= 35
    assert report.before in (propagation.ENDS, propagation.IMPLAUSIBLE)
    assert len(found) == report.last - report.first
    assert [p.place["Z"] for p in found[:3]] == [21, 22, 23]
    assert {p.origin for p in found} == {"propagation"}
    committed = session.commit()
    truth = inside.copy()
    truth[: report.first] = truth[report.last + 1 :] = False
    overlap = ((committed.labels > 0) & truth).sum() / ((committed.labels > 0) | truth).sum()
    assert overlap > 0.9
    assert set(np.unique(committed.labels)) == {0, 1}


def test_all_planes_are_one_step_back(blobs, ball):
    session = ClickSession(ball[0], blobs, axes="ZYX")
    one = session.click((20, 50, 60))
    run(session.propagate(after=5, before=2))
    assert len(session.proposals) == 8
    assert session.proposal.place["Z"] == 20
    assert session.can_undo == "propagate"
    session.undo()
    assert [p.area for p in session.proposals] == [one.area]
    session.redo()
    assert [p.place["Z"] for p in session.proposals] == list(range(18, 26))


def test_a_plane_with_clicks_of_its_own_is_not_overruled(blobs, ball):
    session = ClickSession(ball[0], blobs, axes="ZYX")
    session.click((20, 50, 60))
    run(session.propagate())
    corrected = session.click((24, 50, 95))
    assert corrected.area > 1
    session.click((20, 50, 60))
    _, report = run(session.propagate(before=0))
    assert report.last == 23
    assert report.after == propagation.OWN
    assert report.first == 20
    assert len([p for p in session.proposals if p.place["Z"] == 24]) == 1


def test_the_user_may_stop_it_and_keeps_what_was_done(blobs, ball):
    session = ClickSession(ball[0], blobs, axes="ZYX")
    session.click((20, 50, 60))
    steps = session.propagate()
    next(steps)
    next(steps)
    steps.close()
    assert [p.place["Z"] for p in session.proposals] == [20, 21, 22]
    assert session.can_undo == "propagate"
    token = CancelToken()
    steps = session.propagate(token=token)
    next(steps)
    token.cancel()
    found, report = run(steps)
    assert found == []
    assert (report.last, report.before, report.after) == (21, "", "")


def test_it_says_where_it_was_told_to_stop_and_where_the_image_ends(blobs, ball):
    session = ClickSession(ball[0][10:30], blobs, axes="ZYX")
    session.click((10, 50, 60))
    _, report = run(session.propagate(before=1))
    assert (report.first, report.before) == (9, propagation.ENOUGH)
    assert (report.last, report.after) == (19, propagation.LAST)


def test_an_object_that_merges_with_its_surroundings_is_implausible(blobs, ball):
    image = ball[0].copy()
    image[23:, 20:90, 20:100] = 220
    session = ClickSession(image, blobs, axes="ZYX")
    session.click((20, 50, 60))
    _, report = run(session.propagate(before=0))
    assert (report.last, report.after) == (22, propagation.IMPLAUSIBLE)


def test_a_moving_object_is_followed_through_time(blobs):
    image = np.zeros((8, 80, 140), np.uint8)
    for frame in range(8):
        image[frame, 30:50, 20 + 10 * frame : 45 + 10 * frame] = 200
    session = ClickSession(image, blobs, axes="TYX")
    session.click((0, 40, 30))
    _, report = run(session.propagate())
    assert (report.axis, report.last) == ("T", 7)
    # Seen at half the scale, a corner may lose a pixel.
    assert (session.commit().labels > 0)[image > 0].mean() > 0.99


def test_what_can_not_be_followed(blobs, ball):
    session = ClickSession(ball[0][20], blobs)
    with pytest.raises(ClickError, match="no axis T"):
        run(session.propagate())
    session = ClickSession(ball[0], blobs, axes="ZYX")
    with pytest.raises(ClickError, match="click on one first"):
        run(session.propagate())
    with pytest.raises(ClickError, match="no axis T"):
        run(session.propagate("T"))


def test_a_click_while_an_object_is_followed_loses_nothing(blobs, ball):
    from unet_studio.clicks.journal import replay

    session = ClickSession(ball[0], blobs, axes="ZYX")
    session.click((20, 50, 60))
    steps = session.propagate(before=0)
    next(steps)
    next(steps)
    session.click((21, 50, 95))
    steps.close()
    areas = [p.area for p in session.proposals]
    assert [p.place["Z"] for p in session.proposals] == [20, 21, 22]
    assert session.can_undo == "click"
    again = replay(ball[0], session.journal, blobs, axes="ZYX")
    assert [p.area for p in again.proposals] == areas
    session.undo()
    assert session.can_undo == "propagate"
    assert [p.place["Z"] for p in session.proposals] == [20, 21, 22]
    session.undo()
    assert [p.place["Z"] for p in session.proposals] == [20]
