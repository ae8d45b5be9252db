"""Link the objects of successive frames: one object keeps one id through time.

Objects are compared by the pixels they share. Which object continues which is
one linear assignment problem per pair of frames, as in Jaqaman et al. 2008
(Nature Methods 5:695), with the intersection over union as the gain of a link,
and nothing gained by an object that is left alone. A greedy choice of the largest
overlap would do as well where objects hardly move; where crowded objects move by
about half their size, one early wrong link forces the next.

What is left over may be a daughter of an object that was linked to another one,
or may have merged with another one: see :func:`_companions`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import min_weight_full_bipartite_matching

from unet_studio.errors import ImageError
from unet_studio.objects.cleaning import scan_order
from unet_studio.objects.contingency import Overlaps, overlaps

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

    from numpy.typing import NDArray

    from unet_studio.recipe import Linking

    Ints = NDArray[np.int64]
    Mask = NDArray[np.bool_]

# Two parts of one object differ less in size than this. What is smaller is taken
# for a speck of the segmentation, which would end the track of whatever it lies on.
_LARGEST_RATIO = 4.0
# Together they are not much larger than what they were or become: cells grow from
# frame to frame, but do not double.
_LARGEST_TOTAL = 1.5
# An object that was lost is looked for as long as so much of its place is free.
_FREE_SHARE = 0.5


@dataclass(frozen=True)
class Tracks:
    """What became of each object.

    Attributes
    ----------
    label : array of int64, axes (track)
        1..n in the order in which objects appear: by frame, then as a scan of
        the frame meets them.
    first_frame, last_frame : array of int64, axes (track)
        Frames, counted from 0, in which the object is seen first and last.
    parent : array of int64, axes (track)
        The object that split into this one and others; 0 if none did.
    merged_into : array of int64, axes (track)
        The object that this one became a part of after its last frame; 0 if none.
    frames : array of int64, axes (track)
        Number of frames in which the object is seen: less than those from first
        to last where a gap was bridged.
    length : int
        Number of frames of the movie.

    Notes
    -----
    The first four columns are those of the Cell Tracking Challenge's tables (label,
    begin, end, parent; Maška et al. 2014, Bioinformatics 30:1609), and so is the
    rule that an object ends where it splits, and all daughters get new ids.
    """

    label: Ints
    first_frame: Ints
    last_frame: Ints
    parent: Ints
    merged_into: Ints
    frames: Ints
    length: int

    def columns(self) -> dict[str, Ints]:
        """Return the table, one row per object, by ``label``."""
        return {
            "label": self.label,
            "first_frame": self.first_frame,
            "last_frame": self.last_frame,
            "parent": self.parent,
            "merged_into": self.merged_into,
            "frames": self.frames,
        }

    def counts(self) -> dict[str, int]:
        """Count what happened, for the run record.

        Returns
        -------
        dict of str to int
            - ``tracks``: objects
            - ``births``: of these, those that appear after the first frame and
              have no parent
            - ``splits``: objects that split
            - ``merges``: objects that became a part of another one
            - ``ends``: objects that are gone before the last frame for neither reason
            - ``bridged_frames``: frames in which an object is missing between its
              first and its last one
        """
        mothers = np.unique(self.parent[self.parent > 0])
        gone = (self.last_frame < self.length - 1) & (self.merged_into == 0)
        missing = self.last_frame - self.first_frame + 1 - self.frames
        return {
            "tracks": len(self.label),
            "births": int(((self.first_frame > 0) & (self.parent == 0)).sum()),
            "splits": len(mothers),
            "merges": int((self.merged_into > 0).sum()),
            "ends": int((gone & ~np.isin(self.label, mothers)).sum()),
            "bridged_frames": int(missing.sum()),
        }


def link_frames(
    frames: Iterable[NDArray[Any]], options: Linking
) -> Generator[NDArray[np.int64], None, Tracks]:
    """Renumber the objects of a movie so that each keeps its id through time.

    Works frame by frame: only the frame before is kept.

    Parameters
    ----------
    frames : iterable of array of int, axes ([Z,] Y, X), all of one shape
        Objects of each frame in time order; 0 is background. Ids mean nothing
        beyond their frame.
    options : Linking

    Yields
    ------
    array of int64, axes ([Z,] Y, X)
        The frame with linked ids, 1..n over the whole movie.

    Returns
    -------
    Tracks
        The value of the generator, once all frames are done.

    Raises
    ------
    ImageError
        If a frame has another shape than the one before.
    """
    book = _Book()
    known: _Known | None = None
    number = -1
    for number, frame in enumerate(frames):
        # Numbered by place, so that the method's own numbers decide nothing.
        labels, count = scan_order(frame)
        if known is None:
            known = _nothing_known(labels.shape)
        if labels.shape != known.labels.shape:
            raise ImageError(
                f"Frame {number} has the shape {labels.shape}, but the frames before have "
                f"{known.labels.shape}. Frames can be linked only if all have one shape."
            )
        fates = _compare(known, labels, count, options.min_overlap)
        ids = book.enter(number, known, fates)
        yield np.concatenate([np.zeros(1, np.int64), ids])[labels]
        known = _remember(known, labels, ids, fates, number, options.max_gap)
    return book.tracks(number + 1)


@dataclass(frozen=True)
class _Known:
    """The objects that a frame is compared with: those before it, and lost ones.

    ``labels`` holds 1..k; ``ids`` (their tracks), ``seen`` (the frame of each) and
    ``sizes`` (in pixels, when seen) have the axis (k,).
    """

    labels: NDArray[Any]
    ids: Ints
    seen: Ints
    sizes: Ints


def _nothing_known(shape: tuple[int, ...]) -> _Known:
    none = np.zeros(0, np.int64)
    return _Known(np.zeros(shape, np.int32), none, none, none)


@dataclass(frozen=True)
class _Fates:
    """How two frames belong together; positions in the tables of either, -1 for none.

    ``continues`` and ``mother`` (axis: new object) are positions of known objects,
    ``merged`` (axis: known object) of new ones. ``sizes`` are those of the new objects.
    """

    continues: Ints
    mother: Ints
    merged: Ints
    sizes: Ints


def _compare(known: _Known, labels: NDArray[Any], count: int, min_overlap: float) -> _Fates:
    """Decide what each object of a new frame, labelled 1..count, has been before."""
    continues, mother = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
    merged = np.full(len(known.ids), -1, np.int64)
    table = overlaps(known.labels, labels)
    before, after = table.found_index, table.truth_index
    smaller = np.minimum(table.found_sizes[before], table.truth_sizes[after])
    near = table.common >= min_overlap * smaller
    linked = _assign(table, near)
    continues[after[linked]] = before[linked]
    parts = _companions(before, after, table, near, linked)
    mother[after[parts]] = before[parts]
    split = np.isin(continues, before[parts]) & (continues >= 0)
    mother[split] = continues[split]
    joined = _companions(after, before, _reversed(table), near, linked)
    merged[before[joined]] = after[joined]
    continues[split] = -1
    return _Fates(continues, mother, merged, table.truth_sizes)


def _reversed(table: Overlaps) -> Overlaps:
    return Overlaps(
        table.truth_ids, table.found_ids, table.truth_sizes, table.found_sizes,
        table.truth_index, table.found_index, table.common,
    )  # fmt: skip


def _assign(table: Overlaps, near: Mask) -> Mask:
    """Choose pairs, each object in one at most, of the greatest summed IoU.

    A column of its own for each row lets an object stay alone, so that a full
    matching always exists, and the problem stays as sparse as the overlaps are.

    Parameters
    ----------
    table : Overlaps
    near : array of bool, axes (pair)
        The pairs to choose from.
    """
    chosen = np.zeros(len(near), np.bool_)
    pairs = np.flatnonzero(near)
    if not len(pairs):
        return chosen
    rows, place = np.unique(table.found_index[pairs], return_inverse=True)
    width = len(table.truth_ids)
    alone = np.arange(len(rows))
    # Sparse weights must not be 0; one more for every row changes no decision.
    gain = np.concatenate([1 + table.iou[pairs], np.ones(len(rows))])
    row = np.concatenate([place, alone]).astype(np.int32)
    column = np.concatenate([table.truth_index[pairs], width + alone]).astype(np.int32)
    matrix = csr_array((gain, (row, column)), shape=(len(rows), width + len(rows)))
    best = np.empty(len(rows), np.int64)
    matched, best_column = min_weight_full_bipartite_matching(matrix, maximize=True)
    best[matched] = best_column
    chosen[pairs] = best[place] == table.truth_index[pairs]
    return chosen


def _companions(whole: Ints, part: Ints, table: Overlaps, near: Mask, linked: Mask) -> Mask:
    """Find the left-over objects that, with one already linked, make up an object.

    Forwards in time these are daughters, backwards objects that merged. One is
    accepted if the parts together match the whole better (by IoU) than without it,
    and are of a size to make it up. In a crowd that moves, neighbours come to lie
    halfway on the place of an object; they are too large to be parts of it.

    Parameters
    ----------
    whole, part : array of int64, axes (pair)
        Positions in the tables of ``table.found_sizes`` and ``table.truth_sizes``.
    table : Overlaps
    near, linked : array of bool, axes (pair)
        Pairs that overlap enough, and those that were linked.

    Returns
    -------
    array of bool, axes (pair)
    """
    companions = np.zeros(len(near), np.bool_)
    taken = np.zeros(len(table.truth_sizes), np.bool_)
    taken[part[linked]] = True
    # Of each whole: pixels shared with its parts so far, and the size of all parts.
    shared, total, first = (np.zeros(len(table.found_sizes), np.int64) for _ in range(3))
    shared[whole[linked]] = table.common[linked]
    total[whole[linked]] = first[whole[linked]] = table.truth_sizes[part[linked]]
    left = np.flatnonzero(near & ~taken[part])
    for pair in left[np.argsort(-table.common[left], kind="stable")]:
        w, p, common = whole[pair], part[pair], table.common[pair]
        size, area = table.truth_sizes[p], table.found_sizes[w]
        if taken[p] or max(size, first[w]) > _LARGEST_RATIO * min(size, first[w]):
            continue
        taken[p] = True  # it lies mostly there; the others are only neighbours
        if total[w] + size > _LARGEST_TOTAL * area:
            continue
        now = shared[w] / (area + total[w] - shared[w])
        joint = (shared[w] + common) / (area + total[w] + size - shared[w] - common)
        if joint > now:
            companions[pair] = True
            shared[w] += common
            total[w] += size
    return companions


def _remember(
    known: _Known, labels: NDArray[Any], ids: Ints, fates: _Fates, number: int, max_gap: int
) -> _Known:
    """Return what the next frame is compared with.

    Objects that were lost stay where they were seen last, as far as no other
    object lies there now.
    """
    seen = np.full(len(ids), number, np.int64)
    if max_gap == 0:
        return _Known(labels, ids, seen, fates.sizes)
    lost = (fates.merged < 0) & (number - known.seen <= max_gap)
    for used in (fates.continues, fates.mother):
        lost[used[used >= 0]] = False
    old = np.where(labels == 0, known.labels, 0)
    free = np.bincount(old.ravel(), minlength=len(lost) + 1)[1:]
    lost &= (free > 0) & (free >= _FREE_SHARE * known.sizes)
    places = np.zeros(len(lost) + 1, labels.dtype)
    places[1:][lost] = len(ids) + 1 + np.arange(int(lost.sum()))
    return _Known(
        labels + places[old],
        np.concatenate([ids, known.ids[lost]]),
        np.concatenate([seen, known.seen[lost]]),
        np.concatenate([fates.sizes, known.sizes[lost]]),
    )


@dataclass
class _Book:
    """The table of tracks while it grows: one entry per track in each list."""

    first: list[int] = field(default_factory=list)
    last: list[int] = field(default_factory=list)
    parent: list[int] = field(default_factory=list)
    merged: list[int] = field(default_factory=list)
    frames: list[int] = field(default_factory=list)

    def enter(self, number: int, known: _Known, fates: _Fates) -> Ints:
        """Note what a frame holds; return the id of each of its objects."""
        ids = np.zeros(len(fates.continues), np.int64)
        for position, (old, mother) in enumerate(
            zip(fates.continues.tolist(), fates.mother.tolist(), strict=True)
        ):
            if old >= 0:
                track = int(known.ids[old])
                self.last[track - 1] = number
                self.frames[track - 1] += 1
            else:
                self.first.append(number)
                self.last.append(number)
                self.parent.append(int(known.ids[mother]) if mother >= 0 else 0)
                self.merged.append(0)
                self.frames.append(1)
                track = len(self.first)
            ids[position] = track
        for old in np.flatnonzero(fates.merged >= 0):
            self.merged[known.ids[old] - 1] = int(ids[fates.merged[old]])
        return ids

    def tracks(self, length: int) -> Tracks:
        """Return the table of a movie of so many frames."""
        return Tracks(
            label=np.arange(1, len(self.first) + 1, dtype=np.int64),
            first_frame=np.array(self.first, np.int64),
            last_frame=np.array(self.last, np.int64),
            parent=np.array(self.parent, np.int64),
            merged_into=np.array(self.merged, np.int64),
            frames=np.array(self.frames, np.int64),
            length=length,
        )
