"""Objects linked through time, on movies whose story is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.linking import Linker
from unet_studio.recipe import Linking

SHAPE = (48, 64)
WHOLE = (slice(None), slice(None))


def frame(*discs, shape=SHAPE):
    """Draw ``(row, column, radius)`` discs, numbered from the last to the first."""
    labels = np.zeros(shape, np.int32)
    grid = np.indices(shape)
    for number, (*centre, radius) in enumerate(discs):
        away = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        labels[away <= radius**2] = len(discs) - number
    return labels


def line(*spans):
    """Draw objects ``(from, to)`` in a single row of pixels: overlaps that can be counted."""
    labels = np.zeros((1, 40), np.int32)
    for number, (start, stop) in enumerate(spans, start=1):
        labels[0, start:stop] = number
    return labels


def link(frames, **options):
    """Return the linked movie as one array, and its tracks."""
    movie = np.zeros((len(frames), *(frames[0].shape if len(frames) else SHAPE)), np.int64)
    linker = Linker(Linking(**options), np.zeros(movie.shape[1:], np.int32), [WHOLE])
    for linked, drawn in zip(movie, frames, strict=True):
        linked[...], count = scan_order(drawn)
        linker.link(linked, count)
    return movie, linker.tracks()


def table(tracks):
    columns = tracks.columns()
    return list(zip(*(columns[n].tolist() for n in columns if n != "frames"), strict=True))


def test_moving_discs_keep_their_ids():
    movie = [frame((12, 10 + 3 * t, 6), (34, 50 - 3 * t, 6)) for t in range(8)]
    linked, tracks = link(movie)
    for t, labels in enumerate(linked):
        assert labels[12, 10 + 3 * t] == 1
        assert labels[34, 50 - 3 * t] == 2
        np.testing.assert_array_equal(labels > 0, movie[t] > 0)
    assert table(tracks) == [(1, 0, 7, 0, 0), (2, 0, 7, 0, 0)]
    assert tracks.frames.tolist() == [8, 8]
    assert tracks.counts() == {
        "tracks": 2, "births": 0, "splits": 0, "merges": 0, "ends": 0, "bridged_frames": 0,
    }  # fmt: skip


def test_discs_that_pass_each_other_are_not_exchanged():
    movie = [frame((18, 8 + 4 * t, 6), (31, 56 - 4 * t, 6)) for t in range(13)]
    linked, tracks = link(movie)
    assert len(tracks.label) == 2
    assert [labels[18, 8 + 4 * t] for t, labels in enumerate(linked)] == [1] * 13
    assert [labels[31, 56 - 4 * t] for t, labels in enumerate(linked)] == [2] * 13


def test_a_crowd_that_moves_by_nearly_half_an_object_stays_in_step():
    """Each object lies on the places of two; a newcomer follows, and nobody splits."""
    first, second = np.zeros((2, 12, 90), np.int32)
    for i in range(1, 7):
        first[2:10, 10 * i : 10 * i + 10] = i
        second[2:10, 10 * i + 4 : 10 * i + 14] = i
    second[2:10, 4:14] = 7
    linked, tracks = link([first, second])
    assert linked[1][5, 8:78:10].tolist() == [7, 1, 2, 3, 4, 5, 6]
    assert tracks.counts()["splits"] == tracks.counts()["merges"] == 0


def test_the_best_links_of_all_are_taken_not_the_greatest_overlap_first():
    # The first new object shares most with the second old one, which can go on elsewhere.
    linked, _ = link([line((0, 10), (10, 20)), line((5, 16), (16, 26))])
    assert linked[1][0, [6, 17]].tolist() == [1, 2]


def test_a_division_gives_two_new_ids_and_names_the_mother():
    movie = [frame((24, 32, 9))] * 2
    movie += [frame((24, 27 - t, 5), (24, 38 + t, 5)) for t in range(3)]
    linked, tracks = link(movie)
    assert table(tracks) == [(1, 0, 1, 0, 0), (2, 2, 4, 1, 0), (3, 2, 4, 1, 0)]
    assert linked[2][24, 27] == 2, "in the order of a scan"
    assert linked[4][24, 40] == 3
    counts = tracks.counts()
    assert (counts["splits"], counts["births"], counts["ends"]) == (1, 0, 0)


def test_three_daughters():
    movie = [frame((24, 32, 12)), frame((17, 32, 5), (29, 26, 5), (29, 39, 5))]
    _, tracks = link(movie)
    assert tracks.parent.tolist() == [0, 1, 1, 1]
    assert tracks.counts()["splits"] == 1


def test_a_speck_on_an_object_is_no_daughter():
    movie = [frame((24, 32, 9)), frame((24, 30, 7), (24, 39, 1))]
    linked, tracks = link(movie)
    assert linked[1][24, 30] == 1
    assert tracks.parent.tolist() == [0, 0]
    assert tracks.counts()["births"] == 1


def test_a_newcomer_that_slips_under_a_moving_object_is_no_daughter():
    movie = [frame((24, 30, 8)), frame((24, 36, 8), (24, 21, 7))]
    _, tracks = link(movie, min_overlap=0.1)
    assert tracks.parent.tolist() == [0, 0]


def test_a_part_that_makes_the_match_worse_is_no_daughter():
    _, tracks = link([line((10, 20)), line((6, 12), (12, 20))])
    assert table(tracks) == [(1, 0, 1, 0, 0), (2, 1, 1, 0, 0)]


def test_a_merge_keeps_the_id_of_the_larger_overlap():
    movie = [frame((24, 25, 5), (24, 38, 7))] * 2 + [frame((24, 33, 11))] * 2
    linked, tracks = link(movie)
    assert table(tracks) == [(1, 0, 3, 0, 0), (2, 0, 1, 0, 1)]
    assert linked[2][24, 33] == linked[0][24, 38]
    counts = tracks.counts()
    assert (counts["merges"], counts["ends"]) == (1, 0)


def test_vanishing_and_appearing():
    here, there = (12, 12, 6), (34, 50, 6)
    _, tracks = link([frame(here), frame(here), frame(), frame(there), frame(there)])
    assert table(tracks) == [(1, 0, 1, 0, 0), (2, 3, 4, 0, 0)]
    assert tracks.counts()["births"] == tracks.counts()["ends"] == 1


@pytest.mark.parametrize(
    ("missing", "max_gap", "ids"),
    [(1, 0, [1, 2]), (1, 1, [1]), (2, 1, [1, 2]), (2, 2, [1]), (2, 9, [1])],
)
def test_a_gap_is_bridged_up_to_its_length(missing, max_gap, ids):
    disc = (24, 32, 7)
    other = (8, 8, 4)
    movie = [frame(disc), *[frame(other)] * missing, frame(disc, other)]
    linked, tracks = link(movie, max_gap=max_gap)
    found = {int(linked[0][24, 32]), int(linked[-1][24, 32])}
    assert len(found) == len(ids)
    assert tracks.counts()["bridged_frames"] == (missing if len(ids) == 1 else 0)
    assert tracks.frames[0] == (2 if len(ids) == 1 else 1)


def test_what_was_lost_is_not_found_under_another_object():
    lost, passing = (24, 32, 6), [(24, 20, 8), (24, 26, 8), (24, 32, 8), (24, 33, 8)]
    movie = [frame(lost, (24, 14, 4))] + [frame(p) for p in passing]
    linked, tracks = link(movie, max_gap=5)
    assert tracks.last_frame[linked[0][24, 32] - 1] == 0
    assert len({int(m[24, c]) for m, (_, c, _) in zip(linked[1:], passing, strict=True)}) == 1


def test_what_is_left_of_a_place_is_not_enough_to_be_found_again():
    movie = [line((0, 9), (10, 20)), line((0, 17)), line((0, 16), (16, 26))]
    linked, tracks = link(movie, min_overlap=0.8, max_gap=2)
    assert linked[2][0, [0, 20]].tolist() == [1, 3]
    assert table(tracks)[1:] == [(2, 0, 0, 0, 0), (3, 2, 2, 0, 0)]


def test_a_merged_object_does_not_come_back():
    movie = [line((0, 10), (10, 20)), line((5, 20)), line((0, 10), (10, 20))]
    _, tracks = link(movie, max_gap=2)
    assert table(tracks) == [(1, 0, 0, 0, 2), (2, 0, 1, 0, 0), (3, 2, 2, 2, 0), (4, 2, 2, 2, 0)]


def test_merged_and_split_objects_are_not_waited_for():
    two = frame((24, 26, 5), (24, 37, 5))
    _, tracks = link([two, frame((24, 32, 10)), two], max_gap=3)
    assert tracks.counts() | {"births": 0, "ends": 0} == {
        "tracks": 4, "births": 0, "splits": 1, "merges": 1, "ends": 0, "bridged_frames": 0,
    }  # fmt: skip


@pytest.mark.parametrize("frames", [0, 1, 3])
def test_nothing_to_link(frames):
    linked, tracks = link([frame()] * frames)
    assert not linked.any()
    assert tracks.counts()["tracks"] == 0
    assert tracks.length == frames


def test_one_frame_is_numbered_as_a_scan_meets_it():
    linked, tracks = link([frame((34, 50, 6), (12, 12, 6), (30, 10, 4))])
    assert linked[0][[12, 30, 34], [12, 10, 50]].tolist() == [1, 2, 3]
    assert table(tracks) == [(n, 0, 0, 0, 0) for n in (1, 2, 3)]


def test_volumes_through_time():
    movie = [frame((8, 12, 12 + 2 * t, 5), (8, 30, 30, 4), shape=(16, 40, 48)) for t in range(4)]
    linked, tracks = link(movie)
    assert linked.shape == (4, 16, 40, 48)
    assert [m[8, 12, 12 + 2 * t] for t, m in enumerate(linked)] == [linked[0][8, 12, 12]] * 4
    assert len(tracks.label) == 2


movies = st.integers(0, 100_000).map(
    lambda seed: np.random.default_rng(seed).integers(0, 4, (5, 6, 7)).repeat(2, 1).repeat(2, 2)
)


@settings(max_examples=60, deadline=None)
@given(movies, st.randoms(use_true_random=False), st.integers(0, 2), st.floats(0.05, 1))
def test_the_ids_within_frames_do_not_matter(movie, random, max_gap, min_overlap):
    shuffled = []
    for labels in movie:
        numbers = random.sample(range(1, 500), 3)
        shuffled.append(np.array([0, *numbers])[labels])
    options = {"max_gap": max_gap, "min_overlap": min_overlap}
    (linked, tracks), (again, same) = link(movie, **options), link(shuffled, **options)
    np.testing.assert_array_equal(linked, again)
    assert table(tracks) == table(same)


@settings(max_examples=60, deadline=None)
@given(movies, st.integers(0, 2), st.floats(0.05, 1))
def test_labels_and_table_tell_the_same_story(movie, max_gap, min_overlap):
    linked, tracks = link(movie, max_gap=max_gap, min_overlap=min_overlap)
    ids, first = np.unique(linked, return_index=True)
    ids, first = ids[ids > 0], first[ids > 0]
    assert ids.tolist() == tracks.label.tolist() == list(range(1, len(ids) + 1))
    assert (np.diff(first) > 0).all(), "by frame, then in scan order"
    for before, after in itertools.pairwise(zip(movie, linked, strict=True)):
        for plane, made in (before, after):
            pairs = {(int(a), int(b)) for a, b in zip(plane.flat, made.flat, strict=True)}
            assert len(pairs) == len(np.unique(plane)), "objects are neither cut nor joined"
    for label, start, end, parent, merged in table(tracks):
        there = np.flatnonzero((linked == label).any(axis=(1, 2)))
        assert (there[0], there[-1], len(there)) == (start, end, tracks.frames[label - 1])
        assert (np.diff(there) <= max_gap + 1).all()
        if parent:
            ended = tracks.last_frame[parent - 1]
            assert ended < start <= ended + max_gap + 1
            assert (tracks.parent == parent).sum() >= 2
        if merged:
            assert merged != label
            assert (linked[end + 1 : end + 2 + max_gap] == merged).any()
