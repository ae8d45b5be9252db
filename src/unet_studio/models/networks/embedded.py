"""Networks that come as a whole program: its bytes are the weights of a module here.

What differs between them and networks of torch is dealt with in one place: shapes that
the program insists on, its order of axes, and which of its channels is wanted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from unet_studio.errors import ModelError
from unet_studio.images.limits import available_memory, readable_size
from unet_studio.models.card import ModelCard
from unet_studio.models.networks import CONTENT

# Most bytes of a program.
LARGEST_PROGRAM = 2 * 2**30
_ANEW = "Import the model anew."
_ANOTHER = "Choose another model, or tell its makers."


class Embedded(nn.Module):
    """A program that maps an image to an image, given by its bytes.

    Parameters
    ----------
    card : ModelCard
        Its options hold

        ``bytes``
            Length of the program.
        ``edges`` (optional)
            Per spatial axis, [Z] Y X: the only length that is taken, or ``[least,
            step]``, in pixels. Shorter tiles are continued by reflection.
        ``axes``, ``output_axes`` (optional)
            Order of the program's axes, letters of ``bczyx``; both ``b`` and ``c`` may
            be absent.
        ``output`` (optional)
            Which of the program's results is taken, from 0.
        ``channel`` (optional)
            The one channel of the result that is taken.
    """

    content: torch.Tensor

    def __init__(self, card: ModelCard) -> None:
        super().__init__()
        length = int(card.options.get("bytes", 0))
        if not 0 < length <= LARGEST_PROGRAM:
            raise ModelError(
                f"The card of {card.name!r} gives its program {length} bytes. {_ANEW}"
            )
        self.card, self.stride = card, card.stride
        self.register_buffer(CONTENT, torch.empty(length, dtype=torch.uint8))
        order = "bc" + "zyx"[-card.ndim :]
        self._order = order
        self._axes = str(card.options.get("axes", order))
        self._output_axes = str(card.options.get("output_axes", order))
        for axes in (self._axes, self._output_axes):
            if len(set(axes)) != len(axes) or not set(order[2:]) <= set(axes) <= set(order):
                raise ModelError(
                    f"The card of {card.name!r} has axes {axes!r}, not of {order}. {_ANEW}"
                )
        if "c" not in self._axes and card.in_channels != 1:
            raise ModelError(f"The card of {card.name!r} has channels, its axes have not. {_ANEW}")
        _check_options(card)

    def __deepcopy__(self, memo: dict[int, Any]) -> Embedded:
        """Copy what describes the program; it is opened anew where it is used."""
        with torch.device("meta"):
            copied = type(self)(self.card)
        copied.content = self.content.clone()
        copied.training = self.training
        return copied

    def program(self) -> bytes:
        """Return the program."""
        return bytes(self.content.cpu().numpy().tobytes())

    def ready(self) -> None:
        """Open the program.

        Raises
        ------
        ModelError
            If it can not be opened, or must not be.
        """
        raise NotImplementedError

    def run(self, image: torch.Tensor) -> torch.Tensor:
        """Run the opened program: axes as in its options, float32 in and out."""
        raise NotImplementedError

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the program says of ``x``, axes (N, C, [Z,] Y, X)."""
        self.ready()
        shape = x.shape[2:]
        lengths = [self._length(i, n) for i, n in enumerate(shape)]
        self._check_memory(x, lengths)
        padded = _reflected(x.float(), lengths)
        # One image at a time: many programs were made for a batch of one.
        results = [self._one(image[None]) for image in padded]
        inside = (slice(None), slice(None), *(slice(0, n) for n in shape))
        return torch.cat(results)[inside]

    def _check_memory(self, x: torch.Tensor, lengths: Sequence[int]) -> None:
        """Refuse lengths of a description that lies, before an image of them is made."""
        needed = 4 * math.prod((*x.shape[:2], *lengths))
        if lengths != list(x.shape[2:]) and needed > available_memory():
            raise ModelError(
                f"The program in {self.card.name!r} takes images of "
                f"{' × '.join(map(str, lengths))} pixels alone, by its description; one would "
                f"need {readable_size(needed)} of memory. {_ANOTHER}"
            )

    def chosen(self, results: Sequence[Any]) -> Any:
        """Return the one of a program's results that is taken.

        Raises
        ------
        ModelError
            If there are not so many.
        """
        number = int(self.card.options.get("output", 0))
        if number >= len(results):
            raise ModelError(
                f"The program in {self.card.name!r} returned {len(results)} images; number "
                f"{number} was to be taken. Its description does not fit it. {_ANOTHER}"
            )
        return results[number]

    def whole(self, image: torch.Tensor) -> torch.Tensor:
        """Return all channels for a batch of one (1, C, [Z,] Y, X) of a length that is taken."""
        present = [i for i, axis in enumerate(self._order) if axis in self._axes]
        missing = [i for i in range(len(self._order)) if i not in present]
        kept = "".join(self._order[i] for i in present)
        given = image.squeeze(tuple(missing)) if missing else image
        result = self.run(given.permute([kept.index(a) for a in self._axes]).contiguous())
        if result.ndim != len(self._output_axes):
            raise ModelError(
                f"The program in {self.card.name!r} returned {result.ndim} axes instead of "
                f"{self._output_axes!r}. Its description does not fit it. {_ANOTHER}"
            )
        wanted = [a for a in self._order if a in self._output_axes]
        result = result.permute([self._output_axes.index(a) for a in wanted])
        for position, axis in enumerate(self._order):
            if axis not in wanted:
                result = result.unsqueeze(position)
        return result.float()

    def _one(self, image: torch.Tensor) -> torch.Tensor:
        result = self.whole(image)
        channel = self.card.options.get("channel")
        if channel is not None:
            result = result[:, int(channel) : int(channel) + 1]
        expected = (1, self.card.out_channels, *image.shape[2:])
        if tuple(result.shape) != expected:
            raise ModelError(
                f"The program in {self.card.name!r} returned the shape {tuple(result.shape)} "
                f"instead of {expected}. Its description does not fit it. {_ANOTHER}"
            )
        return result

    def _length(self, axis: int, length: int) -> int:
        edges = self.card.options.get("edges")
        edge = edges[axis] if edges else [1, 1]
        if not isinstance(edge, Sequence):
            if length > int(edge):
                raise ModelError(
                    f"The model {self.card.name!r} takes tiles of {edge} pixels at most, not of "
                    f"{length}. Leave the tile size to the program."
                )
            return int(edge)
        least, step = int(edge[0]), max(1, int(edge[1]))
        return least + max(0, -(-(length - least) // step)) * step


def _check_options(card: ModelCard) -> None:
    def whole(value: Any, least: int) -> bool:
        return isinstance(value, int) and not isinstance(value, bool) and value >= least

    def length(edge: Any) -> bool:
        if isinstance(edge, list | tuple):
            return len(edge) == 2 and whole(edge[0], 1) and whole(edge[1], 0)
        return whole(edge, 1)

    edges = card.options.get("edges")
    if edges is not None and not (
        isinstance(edges, list | tuple) and len(edges) == card.ndim and all(map(length, edges))
    ):
        raise ModelError(
            f"The card of {card.name!r} has lengths {edges!r}, which are none. {_ANEW}"
        )
    for key in ("output", "channel"):
        if key in card.options and not whole(card.options[key], 0):
            raise ModelError(f"The card of {card.name!r} has {key} {card.options[key]!r}. {_ANEW}")


def _reflected(image: torch.Tensor, lengths: Sequence[int]) -> torch.Tensor:
    """Continue an image (N, C, ...) by reflection at its ends."""
    for axis, length in enumerate(lengths):
        present = image.shape[2 + axis]
        if length > present:
            index = np.pad(np.arange(present), (0, length - present), mode="symmetric")
            image = image.index_select(2 + axis, torch.from_numpy(index).to(image.device))
    return image


def embed(card: ModelCard, program: bytes) -> ModelCard:
    """Return a card with the length of a program."""
    return card.model_copy(update={"options": {**card.options, "bytes": len(program)}})
