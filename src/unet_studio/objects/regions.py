"""Label the pieces of one region, and write down those that are meant."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import RecipeError
from unet_studio.objects.block_task import BlockTask, ObjectTable, Runs, find_runs
from unet_studio.objects.grid import Region
from unet_studio.objects.interruptible import run_interruptibly
from unet_studio.objects.pieces import boxes_of, going_on, label_equal

# Tells by their boxes (piece, axis, 2) which pieces are meant.
Keep = Callable[[NDArray[np.int64]], NDArray[np.bool_]]


@dataclass(frozen=True)
class _Found:
    """What there is in a region: its labels, and which of the units among them are meant."""

    labels: NDArray[np.integer[Any]]
    units: NDArray[np.integer[Any]]
    runs: Runs
    ids: NDArray[np.int64]
    firsts: NDArray[np.int64]


def label_region(task: BlockTask, box: NDArray[np.int64], keep: Keep, table: ObjectTable) -> None:
    """Run the method on a region, and write the labels of the pieces that are meant.

    Parameters
    ----------
    task : BlockTask
    box : array of int64, axes (axis, 2)
        The region without its margin.
    keep : callable
        Tells by their boxes (piece, axis, 2) which of the pieces found there are meant.
    table : ObjectTable
        The objects are added to it.
    """
    region = task.grid.grown(tuple(slice(int(a), int(b)) for a, b in box), task.margin)
    pixels = math.prod(edge.stop - edge.start for edge in region)
    found = run_interruptibly(partial(_find, task, region, keep), pixels, task.check)
    if task.method.makes_objects:
        new = table.add(found.runs, found.ids, found.firsts, region)
        task.add(region, new[found.units])
    else:
        wanted = np.zeros(int(found.units.max(initial=0)) + 1, np.bool_)
        wanted[found.ids] = True
        task.add(region, np.where(wanted[found.units], found.labels, 0))


def _find(task: BlockTask, region: Region, keep: Keep) -> _Found:
    probabilities = task.read(region)
    pieces, value_of = label_equal(task.values(probabilities), task.diagonal)
    count = len(value_of) - 1
    cut = going_on(pieces, count, region, task.grid.shape)
    kept = np.append(False, ~cut[1:] & keep(boxes_of(pieces, count, region)))
    # All of the region, other pieces included: they may lie in a hole, or next to a summit.
    labels = task.label(probabilities)
    del probabilities
    units = labels if task.method.makes_objects else label_equal(labels, task.diagonal)[0]
    runs = find_runs(units)
    ids, firsts = runs.firsts()
    # Later pixels may be a filled hole; the first one is always of the piece itself.
    owners = pieces.ravel()[firsts]
    if not owners.all():
        raise RecipeError(
            f"An objects method ({task.method.function.__name__}) has labelled something "
            "outside of the pieces that it declares, so it can not run block by block. Choose "
            "another method, or segment a smaller part of the image."
        )
    mine = kept[owners]
    return _Found(labels, units, runs, ids[mine], firsts[mine])
