"""Run the network on tiles, and get by with the memory there is.

Out of memory never ends a run while something smaller is left to try: fewer
tiles at once, then pieces of a tile, then the CPU. A piece gets the same
context as its tile had, so what it gives is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unet_studio.errors import RecipeError
from unet_studio.events import CancelToken
from unet_studio.inference.plan import RunPlan
from unet_studio.inference.precision import full_precision, prepare
from unet_studio.inference.tiling import Span, Tile, round_up
from unet_studio.models.model import Model

if TYPE_CHECKING:
    from torch import nn

Keep = Literal["probabilities", "logits"]
_MOST_HALVINGS = 4  # of tiles; batches are halved down to one
# What allocators say: torch's on CPUs (Windows, Linux), CUDA and its libraries, Metal.
_NO_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "alloc_failed")


@dataclass(frozen=True)
class _Piece:
    """A part of a tile: what of the tile it reads, keeps, and where that goes."""

    tile: int
    read: tuple[slice, ...]
    keep: tuple[slice, ...]
    place: tuple[slice, ...]


class Executor:
    """A network on a device, with what it has learned about the memory there.

    Parameters
    ----------
    model : Model
        Left as it is.
    plan : RunPlan
    device : torch.device
    precision : {"float32", "bfloat16", "float16"}
    keep : {"probabilities", "logits"}
        What to return: float16 probabilities or float32 logits.
    token : CancelToken
        Looked at before each layer: a large tile can take many seconds.

    Attributes
    ----------
    device : torch.device
    precision : str
        As they are now: both may have changed for want of memory.
    notices : list of str
        What had to be changed for want of memory, for the user; taken out by the caller.
    """

    def __init__(
        self,
        model: Model,
        plan: RunPlan,
        device: torch.device,
        precision: str,
        keep: Keep,
        token: CancelToken,
    ) -> None:
        self.notices: list[str] = []
        self.device = device
        self._model, self._plan, self._keep = model, plan, keep
        self.precision, self._token = precision, token
        self._batch = plan.batch
        self._depth = 0
        self._network: nn.Module | None = None
        # The last constant tile: what was in it, and what came of it.
        self._constants: dict[Any, NDArray[Any]] = {}

    def run(
        self, blocks: Sequence[NDArray[np.float32]], tiles: Sequence[Tile]
    ) -> list[NDArray[Any]]:
        """Predict tiles.

        Parameters
        ----------
        blocks : sequence of array of float32, axes (C, [Z,] Y, X)
            As read, all of one shape.
        tiles : sequence of Tile

        Returns
        -------
        list of array, axes (C, [Z,] Y, X)
            The kept part of each.

        Raises
        ------
        RecipeError
            If the memory of neither the device nor the CPU is enough.
        """
        keys = [_constant(block) for block in blocks]
        # All of a constant tile is kept, so that it serves wherever the same comes again.
        jobs = [t if k is None else _keep_all(t) for t, k in zip(tiles, keys, strict=True)]
        known = [None if k is None else self._constants.get(k) for k in keys]
        outputs = [
            self._empty(job) if value is None else value
            for job, value in zip(jobs, known, strict=True)
        ]
        waiting = [i for i, value in enumerate(known) if value is None]
        pieces = [piece for i in waiting for piece in self._pieces(jobs[i], i)]
        while pieces:
            group = self._group(pieces)
            values = self._forward(
                np.stack([blocks[p.tile][(slice(None), *p.read)] for p in group])
            )
            if values is None:
                self._make_smaller(len(group))
                left = dict.fromkeys(p.tile for p in pieces)
                pieces = [piece for i in left for piece in self._pieces(jobs[i], i)]
                continue
            for piece, value in zip(group, values, strict=True):
                target = outputs[piece.tile][(slice(None), *piece.place)]
                target[...] = value[(slice(None), *piece.keep)]
            pieces = pieces[len(group) :]
        for index, key in enumerate(keys):
            if key is not None:
                self._constants = {key: outputs[index]}
                outputs[index] = outputs[index][(slice(None), *tiles[index].local)].copy()
        return outputs

    def _empty(self, tile: Tile) -> NDArray[Any]:
        shape = tuple(s.keep_stop - s.keep_start for s in tile.spans)
        dtype = np.float16 if self._keep == "probabilities" else np.float32
        return np.empty((self._model.card.out_channels, *shape), dtype)

    def _group(self, waiting: list[_Piece]) -> list[_Piece]:
        """Return the first pieces that can run at once: of one shape, and not too many."""

        def shape(piece: _Piece) -> tuple[int, ...]:
            return tuple(s.stop - s.start for s in piece.read)

        group = []
        for piece in waiting[: self._batch]:
            if shape(piece) != shape(waiting[0]):
                break
            group.append(piece)
        return group

    def _pieces(self, tile: Tile, index: int) -> list[_Piece]:
        """Cut a tile as often as memory has made necessary."""
        whole = tuple(s.local for s in tile.spans)
        if self._depth == 0:
            everything = tuple(slice(0, s.stop - s.start) for s in tile.spans)
            place = tuple(slice(0, s.stop - s.start) for s in whole)
            return [_Piece(index, everything, whole, place)]
        stride = self._model.card.stride
        # All the network sees, however small a halo the plan was content with: it counted
        # on the seams between tiles alone.
        halo = max(self._plan.halo, round_up(self._model.card.halo or 0, stride))
        axes = [_cut(span, 2**self._depth, halo, stride) for span in tile.spans]
        pieces = []
        for combination in np.ndindex(*(len(a) for a in axes)):
            chosen = [axis[i] for axis, i in zip(axes, combination, strict=True)]
            read, keep, place = (tuple(part) for part in zip(*chosen, strict=True))
            pieces.append(_Piece(index, read, keep, place))
        return pieces

    def _forward(self, stack: NDArray[np.float32]) -> NDArray[Any] | None:
        """Run the network on a batch (N, C, [Z,] Y, X); None if memory ran out."""
        try:
            if self._network is None:
                self._network = self._prepared()
            with torch.inference_mode(), full_precision():
                tensor = to_tensor(stack, self.device, self.precision)
                flips = self._plan.recipe.flips
                logits = mirrored(self._network, tensor) if flips else self._network(tensor)
                return np.asarray(self._finish(logits).cpu().numpy())
        except (RuntimeError, MemoryError) as error:
            if "device-side assert" in str(error):
                raise RecipeError(
                    f"The {self.device} has failed and can not be used again before a restart. "
                    "Save your work, restart the program, and choose the CPU if it fails again."
                ) from error
            if not is_out_of_memory(error):
                raise
            return None

    def _prepared(self) -> nn.Module:
        network = prepare(self._model.network, self._model.card, self.device, self.precision)

        def look(*_: Any) -> None:
            self._token.raise_if_cancelled()

        for module in network.modules():
            if not list(module.children()):
                module.register_forward_pre_hook(look)
        return network

    def _finish(self, logits: torch.Tensor) -> torch.Tensor:
        if self._keep == "logits":
            return logits.float()
        return activate(logits.float(), self._model.card.representation).half()

    def _make_smaller(self, group: int) -> None:
        """Choose what to try next, with the failed attempt's tensors gone.

        Raises
        ------
        RecipeError
            If nothing smaller is left.
        """
        # Called outside of the except block: an exception holds the frames, and these the tensors.
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        smaller_tiles = not self._plan.tiles.blend and self._depth < _MOST_HALVINGS
        if group > 1 or smaller_tiles:
            if group > 1:
                self._batch = group // 2
            else:
                self._depth += 1
            what = f"{self._batch} at once" if group > 1 else "cut into smaller ones"
            self.notices.append(f"The {self.device} ran out of memory; tiles are now {what}.")
        elif self.device.type != "cpu":
            self.notices.append(
                f"The {self.device} has too little memory even for small tiles; the CPU is used "
                "instead."
            )
            self.device, self._network = torch.device("cpu"), None
            self.precision = "float32"
            self._batch, self._depth = 1, 0
        else:
            edge = max(self._plan.tile_shape)
            raise RecipeError(
                f"There was not enough memory to predict {self._plan.info.name!r}, even after "
                f"tiles of {edge} pixels were halved {self._depth} times. Close other "
                "programs, or choose a smaller model."
            )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: on a GPU, or in torch's CPU allocator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # All others raise a bare RuntimeError.
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _NO_MEMORY)


def _keep_all(tile: Tile) -> Tile:
    return Tile(tuple(Span(0, s.stop - s.start, 0, s.stop - s.start) for s in tile.spans))


def _constant(block: NDArray[np.float32]) -> Hashable | None:
    """Return what a tile (C, ...) holds if each channel of it is constant: shape and values."""
    first = block[(slice(None), *(slice(0, 1),) * (block.ndim - 1))]
    coarse = block[(slice(None), *(slice(None, None, 16),) * (block.ndim - 1))]
    if (coarse != first).any() or (block != first).any():
        return None
    return block.shape, first.tobytes()


def _cut(span: Span, parts: int, halo: int, stride: int) -> list[tuple[slice, slice, slice]]:
    """Cut one axis of a tile: what each part reads of the tile, keeps of that, and its place."""
    first, last = span.keep_start - span.start, span.keep_stop - span.start
    step = round_up(max(1, -(-(last - first) // parts)), stride)
    cuts = []
    start = first
    while start < last:
        stop = min((start // stride) * stride + step, last)
        low = max(0, start - halo) // stride * stride
        high = min(span.stop - span.start, round_up(stop, stride) + halo)
        cuts.append(
            (slice(low, high), slice(start - low, stop - low), slice(start - first, stop - first))
        )
        start = stop
    return cuts


def mirrored(
    network: Callable[[torch.Tensor], torch.Tensor], tensor: torch.Tensor
) -> torch.Tensor:
    """Return the mean of a network's logits over all mirror images of a batch.

    One after the other, so that it needs hardly more memory than one of them. Exact
    for tiles as well: these are whole strides long, so a mirror image of a tile is
    pooled in the same squares as that of the whole image.

    Parameters
    ----------
    network : callable
    tensor : torch.Tensor, axes (N, C, [Z,] Y, X)

    Returns
    -------
    torch.Tensor of float32
    """
    axes = range(2, tensor.ndim)
    total: torch.Tensor | None = None
    for count in range(len(axes) + 1):
        for chosen in itertools.combinations(axes, count):
            logits = network(tensor.flip(chosen)).float().flip(chosen)
            total = logits if total is None else total.add_(logits)
    assert total is not None
    return total.div_(2 ** len(axes))


def activate(logits: torch.Tensor, representation: str) -> torch.Tensor:
    """Turn logits (N, C, ...) into probabilities: softmax over classes, else sigmoid."""
    return logits.softmax(dim=1) if representation == "classes" else logits.sigmoid()


def to_tensor(image: NDArray[np.float32], device: torch.device, precision: str) -> torch.Tensor:
    """Copy a fresh float32 array (N, C, ...) to a device, channels last where that is faster."""
    tensor = torch.from_numpy(image)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    tensor = tensor.to(device, getattr(torch, precision), non_blocking=True)
    if tensor.ndim == 4:
        return tensor.contiguous(memory_format=torch.channels_last)
    return tensor
