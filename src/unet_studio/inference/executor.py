"""Run the network on tiles, and get by with the memory there is.

Out of memory never ends a run while something smaller is left to try: fewer
tiles at once, then pieces of a tile, then the CPU. A piece gets the same
context as its tile had, so what it gives is the same.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from unet_studio.errors import BackendError, RecipeError
from unet_studio.events import CancelToken
from unet_studio.inference.decision import Decision
from unet_studio.inference.devices import lacking
from unet_studio.inference.held_networks import held_network, let_go
from unet_studio.inference.intake import Intake
from unet_studio.inference.out_of_memory import is_out_of_memory
from unet_studio.inference.plan import RunPlan
from unet_studio.inference.precision import full_precision, prepare
from unet_studio.inference.tiling import Span, Tile, round_up
from unet_studio.inference.transfer import DirectTransfer, Transfer
from unet_studio.inference.trials import Numerics
from unet_studio.models.model import Model

# What is kept of a network's output; a decision leaves uint8 classes of one channel.
Keep = Literal["probabilities", "logits"] | Decision
# Of a network that returns probabilities: 0 has no logit.
_SMALLEST_PROBABILITY = 1e-7
_MOST_HALVINGS = 4  # of tiles; batches are halved down to one


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
    numerics : Numerics
        Back end and precision.
    keep : {"probabilities", "logits"} or Decision
        What to return: float16 probabilities, float32 logits, or uint8 classes.
    token : CancelToken
        Looked at before each layer, as a large tile can take many seconds; on a GPU
        between tiles.
    intake : Intake
        What is done to pixels before the network.
    transfer : Transfer, optional
        How tiles get to the device and back; plain copies by default.

    Attributes
    ----------
    device : torch.device
    numerics : Numerics
        As they are now: both may have changed for want of memory, or of a working back end.
    notices : list of str
        What had to be changed, for the user; taken out by the caller.
    """

    def __init__(
        self,
        model: Model,
        plan: RunPlan,
        device: torch.device,
        numerics: Numerics,
        keep: Keep,
        token: CancelToken,
        intake: Intake,
        transfer: Transfer | None = None,
    ) -> None:
        self.notices: list[str] = []
        self.device = device
        self._model, self._plan, self._keep = model, plan, keep
        self.numerics, self._token, self._intake = numerics, token, intake
        self._transfer = transfer or DirectTransfer(device)
        self._batch = plan.batch
        self._depth = 0
        self._network: Callable[[torch.Tensor], torch.Tensor] | None = None
        # The last constant tile: what was in it, and what came of it.
        self._constants: dict[Any, NDArray[Any]] = {}

    def take_up(self, plan: RunPlan) -> None:
        """Go on with another plan of the same network, such as that of other planes."""
        self._plan, self._constants = plan, {}
        self._intake = replace(self._intake, channel_map=plan.channel_map)

    def run(self, blocks: Sequence[NDArray[Any]], tiles: Sequence[Tile]) -> list[NDArray[Any]]:
        """Predict tiles.

        Parameters
        ----------
        blocks : sequence of array of any real dtype, axes (C, [Z,] Y, X)
            As read, all of one shape and dtype.
        tiles : sequence of Tile

        Returns
        -------
        list of array, axes (C, [Z,] Y, X)
            The kept part of each. For use now: it may lie in page-locked memory.

        Raises
        ------
        RecipeError
            If the memory of neither the device nor the CPU is enough.
        """
        keys = [_constant(block) for block in blocks]
        # All of a constant tile is kept, so that it serves wherever the same comes again.
        jobs = [t if k is None else _keep_all(t) for t, k in zip(tiles, keys, strict=True)]
        outputs = [None if k is None else self._constants.get(k) for k in keys]
        waiting = [i for i, value in enumerate(outputs) if value is None]
        pieces = [piece for i in waiting for piece in self._pieces(jobs[i], i)]
        while pieces:
            group = self._group(pieces)
            read = [blocks[p.tile][(slice(None), *p.read)] for p in group]
            values = self._forward(read, [p.keep for p in group])
            if values is None:
                self._make_smaller(len(group))
                left = dict.fromkeys(p.tile for p in pieces)
                pieces = [piece for i in left for piece in self._pieces(jobs[i], i)]
                continue
            for piece, value in zip(group, values, strict=True):
                outputs[piece.tile] = _placed(outputs[piece.tile], piece, value, jobs)
            pieces = pieces[len(group) :]
        done = [value for value in outputs if value is not None]
        for index, key in enumerate(keys):
            if key is not None:
                self._constants = {key: done[index]}
                done[index] = done[index][(slice(None), *tiles[index].local)].copy()
        return done

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
        card = self._model.card
        # All the network sees, however small a halo the plan was content with: it counted
        # on the seams between tiles alone.
        full = card.halos or (0,) * card.ndim
        axes = [
            _cut(span, 2**self._depth, max(planned, round_up(halo, stride)), stride)
            for span, planned, halo, stride in zip(
                tile.spans, self._plan.tiles.halos, full, card.strides, strict=True
            )
        ]
        pieces = []
        for combination in np.ndindex(*(len(a) for a in axes)):
            chosen = [axis[i] for axis, i in zip(axes, combination, strict=True)]
            read, keep, place = (tuple(part) for part in zip(*chosen, strict=True))
            pieces.append(_Piece(index, read, keep, place))
        return pieces

    def _forward(
        self, blocks: Sequence[NDArray[Any]], keeps: Sequence[tuple[slice, ...]]
    ) -> list[NDArray[Any]] | None:
        """Run the network on a batch and return what is kept of each; None if memory ran out."""
        try:
            if self._network is None:
                self._network = self._prepared()
                self._transfer.settle()
            with torch.inference_mode(), full_precision():
                tensor = self._transfer.put(blocks, self._ready)
                with self._transfer.computing():
                    axes = self._model.card.mirrored if self._plan.recipe.flips else ()
                    result = self._finish(mirrored(self._network, tensor, axes))
                    # Halos stay on the device.
                    parts = [
                        part[(slice(None), *keep)].contiguous()
                        for part, keep in zip(result, keeps, strict=True)
                    ]
                return self._transfer.get(parts)
        except BackendError as error:
            if self._plan.recipe.backend != "auto" or self._plan.recipe.precision == "int8":
                raise
            self.notices.append(f"{error} It is used now.")
        except (RuntimeError, MemoryError) as error:
            if "device-side assert" in str(error):
                raise RecipeError(
                    f"The {self.device} has failed and can not be used again before a restart. "
                    "Save your work, restart the program, and choose the CPU if it fails again."
                ) from error
            if is_out_of_memory(error):
                return None
            words = lacking(error, self.device)
            if words is None:
                raise
            self._go_to_cpu(f"The {self.device} can not run this network ({words})")
        self._start_again(self.device, Numerics())
        return self._forward(blocks, keeps)

    def _ready(self, raw: torch.Tensor) -> torch.Tensor:
        """Return a batch of tiles as the network takes it, where they are."""
        # OpenVINO changes precision and order by itself.
        by_torch = self.numerics.backend == "torch"
        dtype = getattr(torch, self.numerics.precision) if by_torch else torch.float32
        return self._intake.prepare(raw, dtype, channels_last=by_torch)

    def _prepared(self) -> Callable[[torch.Tensor], torch.Tensor]:
        check, precision = self._token.raise_if_cancelled, self.numerics.precision
        if self.numerics.backend == "openvino":
            from unet_studio.inference.openvino import OpenVinoNetwork

            return OpenVinoNetwork(self._model, precision, check)
        if self.device.type == "cuda":
            # Layers are only launched there, which takes no time: none looks at the token.
            return held_network(self._model, self.device, precision)
        network = prepare(self._model.network, self._model.card, self.device, precision)

        def look(*_: Any) -> None:
            check()

        for module in network.modules():
            if not list(module.children()):
                module.register_forward_pre_hook(look)
        return network

    def _go_to_cpu(self, why: str) -> None:
        self.notices.append(f"{why}; the CPU is used instead.")
        self._start_again(torch.device("cpu"), Numerics())

    def _start_again(self, device: torch.device, numerics: Numerics) -> None:
        self.device, self.numerics, self._network = device, numerics, None
        self._transfer = DirectTransfer(device)

    def _finish(self, logits: torch.Tensor) -> torch.Tensor:
        done = self._model.card.output == "probabilities"
        if self._keep == "logits":
            return logits.float().logit(_SMALLEST_PROBABILITY) if done else logits.float()
        representation = self._model.card.representation
        probabilities = logits.half() if done else activate(logits.float(), representation).half()
        if isinstance(self._keep, Decision):
            return self._keep.classes(probabilities)
        return probabilities

    def _make_smaller(self, group: int) -> None:
        """Choose what to try next, with the failed attempt's tensors gone.

        Raises
        ------
        RecipeError
            If nothing smaller is left.
        """
        # Called outside of the except block: an exception holds the frames, and these the tensors.
        if self.device.type == "cuda":
            let_go(self.device)
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
            self._go_to_cpu(f"The {self.device} has too little memory even for small tiles")
            self._batch, self._depth = 1, 0
        else:
            edge = max(self._plan.tile_shape)
            raise RecipeError(
                f"There was not enough memory to predict {self._plan.info.name!r}, even after "
                f"tiles of {edge} pixels were halved {self._depth} times. Close other "
                "programs, or choose a smaller model."
            )


def _keep_all(tile: Tile) -> Tile:
    return Tile(tuple(Span(0, s.stop - s.start, 0, s.stop - s.start) for s in tile.spans))


def _placed(
    output: NDArray[Any] | None, piece: _Piece, value: NDArray[Any], jobs: Sequence[Tile]
) -> NDArray[Any]:
    """Put what came of a piece into its tile's result; return the result."""
    shape = tuple(s.keep_stop - s.keep_start for s in jobs[piece.tile].spans)
    if value.shape[1:] == shape:
        return value
    if output is None:
        output = np.empty((len(value), *shape), value.dtype)
    output[(slice(None), *piece.place)] = value
    return output


def _constant(block: NDArray[Any]) -> Hashable | None:
    """Return what a tile (C, ...) holds if each channel of it is constant: shape and values."""
    if block.dtype.kind == "f" and block.dtype.itemsize <= 8:
        # Bit by bit, so that NaN is like NaN.
        block = block.view(f"u{block.dtype.itemsize}")
    first = block[(slice(None), *(slice(0, 1),) * (block.ndim - 1))]
    coarse = block[(slice(None), *(slice(None, None, 16),) * (block.ndim - 1))]
    if (coarse != first).any() or (block != first).any():
        return None
    return block.shape, block.dtype, first.tobytes()


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
    network: Callable[[torch.Tensor], torch.Tensor], tensor: torch.Tensor, axes: Sequence[int]
) -> torch.Tensor:
    """Return the mean of a network's logits over all mirror images of a batch.

    One after the other, so that it needs hardly more memory than one of them. Exact
    for tiles as well: these are whole strides long, so a mirror image of a tile is
    pooled in the same squares as that of the whole image.

    Parameters
    ----------
    network : callable
    tensor : torch.Tensor, axes (N, C, [Z,] Y, X)
    axes : sequence of int
        The spatial ones along which images are mirrored, counted from 0.

    Returns
    -------
    torch.Tensor of float32, or what the network returns if there are no axes
    """
    if not axes:
        return network(tensor)
    dims = [2 + axis for axis in axes]
    total: torch.Tensor | None = None
    for count in range(len(dims) + 1):
        for chosen in itertools.combinations(dims, count):
            logits = network(tensor.flip(chosen)).float().flip(chosen)
            total = logits if total is None else total.add_(logits)
    assert total is not None
    return total.div_(2 ** len(axes))


def activate(logits: torch.Tensor, representation: str) -> torch.Tensor:
    """Turn logits (N, C, ...) into probabilities: softmax over classes, else sigmoid."""
    return logits.softmax(dim=1) if representation == "classes" else logits.sigmoid()
