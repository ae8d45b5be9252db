"""Label one frame in memory: at once if it is small, else block by block.

The labels are the same. Blocks can be stopped in between, tell how far they are, and
hold fewer intermediate results at a time.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Generator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from unet_studio.objects.blockwise import label_blocks
from unet_studio.objects.interruptible import run_interruptibly
from unet_studio.objects.measurements import Counted
from unet_studio.objects.methods import METHODS, parse_options

if TYPE_CHECKING:
    from unet_studio.models.card import Representation
    from unet_studio.objects.grid import Region
    from unet_studio.recipe import ObjectsMethod

# The watershed takes about 0.6 s for so many voxels of a crowded stack on one core,
# 0.3 s for pixels: stopping has to be possible at least every two seconds.
BLOCK_PIXELS = 2**21
# Frames up to so many blocks are labelled at once: blocks overlap, so two are no gain.
_AT_ONCE = 2

Result = TypeVar("Result")
Labelled = tuple[NDArray[np.integer], Counted | None]


def label_frame(
    probabilities: NDArray[np.floating],
    method: ObjectsMethod,
    representation: Representation,
    offset: int,
    check: Callable[[], None],
) -> Generator[tuple[int, int], None, Labelled]:
    """Label one frame.

    Parameters
    ----------
    probabilities : array of float, axes (C, [Z,] Y, X), range [0, 1]
    method : ObjectsMethod
        ``link`` is not looked at.
    representation : {"binary", "classes", "objects"}
        What the channels mean.
    offset : int
        Added to each id, if the ids are made here.
    check : callable
        Called between blocks; may raise to stop.

    Yields
    ------
    tuple of int
        Steps done, and steps in all.

    Returns
    -------
    labels : array of int, axes ([Z,] Y, X)
    counted : Counted or None
        If there, the labels are objects numbered from ``offset`` + 1 in the order of a
        scan, and this is what is known of them. Otherwise the labels are as the method
        made them.
    """
    chosen, options = METHODS.load(method.method), parse_options(method)
    shape = probabilities.shape[1:]
    whole = chosen.support is None or bool(chosen.support.refused(options))
    if whole or math.prod(shape) <= _AT_ONCE * BLOCK_PIXELS:
        work = partial(chosen.function, probabilities, options, representation)
        labels = run_interruptibly(work, math.prod(shape), check)
        yield 1, 1
        return labels, None
    output = np.zeros(shape, np.uint32)
    result = yield from label_blocks(
        probabilities,
        output,
        method,
        representation,
        block=block_of(shape),
        offset=offset,
        # No piece is beyond it: all are looked at as a whole, as without blocks.
        limit=output.size,
        check=check,
    )
    if not chosen.makes_objects:
        return output, None
    ids = np.arange(1, result.count + 1) + offset
    return output, Counted(ids, result.sizes, result.centroids, result.boxes)


def frame_counted(
    steps: Generator[tuple[int, int], None, Result], number: int, of: int
) -> Generator[tuple[int, int], None, Result]:
    """Turn the steps of frame ``number``, counted from 0, into those of all ``of`` frames."""
    while True:
        try:
            done, total = next(steps)
        except StopIteration as end:
            result: Result = end.value
            return result
        yield number * total + done, of * total


def block_of(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the blocks that a frame is cut into: the longest edge is halved, and again."""
    block = list(shape)
    while math.prod(block) > BLOCK_PIXELS and max(block) > 1:
        longest = block.index(max(block))
        block[longest] = -(-block[longest] // 2)
    return tuple(block)


def parts_of(shape: Sequence[int]) -> list[Region]:
    """Return parts that cover a frame, each about as large as a block."""
    edges: list[list[Any]] = [
        [slice(start, min(start + edge, n)) for start in range(0, n, max(edge, 1))]
        for edge, n in zip(block_of(shape), shape, strict=True)
    ]
    return list(itertools.product(*edges))
