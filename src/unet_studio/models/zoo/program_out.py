"""What a package says of a program (ONNX, TorchScript) that came in another package.

The program goes out as it came, with the axes and lengths that it insists on. Networks of
ours take any length that is a multiple of their stride; the functions here answer for
both, so that the export needs no second way.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unet_studio.errors import ModelError
from unet_studio.models.card import ModelCard
from unet_studio.models.model import Model
from unet_studio.models.networks import EMBEDDED
from unet_studio.models.networks.embedded import Embedded
from unet_studio.models.networks.onnx import opset_of

# Edge that an image may have to have for the sake of halos, by dimensions.
_LARGEST_LEAST = {2: 1024, 3: 96}
# The files of a program in a package.
PROGRAM_FILES = {"onnx": "weights.onnx", "torchscript": "weights.torchscript.pt"}
Step = tuple[int, int]


def stated_halos(card: ModelCard) -> tuple[int, ...]:
    """Return the halos that the package states: 0 where images would have to be huge for them.

    The format wants every image to be larger than two halos.
    """
    halos = (card.halos if card.tile_invariant else None) or (0,) * card.ndim
    too_large = any(2 * halo > _LARGEST_LEAST[card.ndim] for halo in halos)
    return (0,) * card.ndim if too_large else halos


def lengths_of(card: ModelCard) -> tuple[int | Step, ...]:
    """Return the lengths that are taken: per spatial axis the only one, or (least, step)."""
    edges = card.options.get("edges") if card.architecture in EMBEDDED else None
    taken: list[int | Step] = []
    for axis, (halo, stride) in enumerate(zip(stated_halos(card), card.strides, strict=True)):
        edge = edges[axis] if edges else None
        if isinstance(edge, int):
            taken.append(edge)
            continue
        least, step = (int(edge[0]), max(1, int(edge[1]))) if edge else (4 * stride, stride)
        missing = max(0, 2 * halo + stride - least)
        taken.append((least + -(-missing // step) * step, step))
    return tuple(taken)


def length_near(length: int, taken: int | Step) -> int:
    """Return the smallest length that is taken and no less than ``length``, if there is one."""
    if isinstance(taken, int):
        return taken
    least, step = taken
    return least + max(0, -(-(length - least) // step)) * step


def length_within(length: int, taken: int | Step) -> int:
    """Return the largest length that is taken and fits into ``length``; 0 if none does."""
    least, step = (taken, 0) if isinstance(taken, int) else taken
    if length < least:
        return 0
    return least + ((length - least) // step * step if step else 0)


def letters_of(card: ModelCard) -> tuple[str, str]:
    """Return the order of the axes of what goes in and what comes out, of ``bczyx``."""
    usual = "bc" + "zyx"[-card.ndim :]
    if card.architecture not in EMBEDDED:
        return usual, usual
    return str(card.options.get("axes", usual)), str(card.options.get("output_axes", usual))


def batch_axis(card: ModelCard) -> dict[str, Any]:
    """Return the batch's axis: many programs were made for one image at a time."""
    return {"type": "batch", **({"size": 1} if card.architecture in EMBEDDED else {})}


def laid_out(array: NDArray[np.float32], letters: str, ndim: int) -> NDArray[np.float32]:
    """Return an array (1, C, [Z,] Y, X) with axes in another order, and without those left out."""
    order = "bc" + "zyx"[-ndim:]
    missing = tuple(i for i, axis in enumerate(order) if axis not in letters)
    kept = [axis for axis in order if axis in letters]
    moved = np.squeeze(array, missing).transpose([kept.index(axis) for axis in letters])
    return np.ascontiguousarray(moved)


def every_channel(model: Model, image: torch.Tensor) -> torch.Tensor:
    """Run a network on a batch of one; of a program return also channels that are not taken.

    Raises
    ------
    ConsentNeeded
        For TorchScript that the user has not allowed.
    """
    if not isinstance(model.network, Embedded):
        return torch.as_tensor(model.network(image)).float()
    model.network.ready()
    return model.network.whole(image)


def channel_names(card: ModelCard, names: tuple[str, ...], count: int) -> list[str]:
    """Return names for all channels of the output, of which a program's card may take one."""
    if count == len(names):
        return list(names)
    taken = int(card.options.get("channel", 0))
    return [names[0] if i == taken else f"channel{i}" for i in range(count)]


def program_entry(card: ModelCard, program: bytes, described: dict[str, Any]) -> dict[str, Any]:
    """Return the weights of a package that holds nothing but a program.

    Parameters
    ----------
    card : ModelCard
    program : bytes
    described : dict
        Its name and hash, in the format's words.

    Raises
    ------
    ModelError
        If another of the program's results than the first is taken.
    """
    if int(card.options.get("output", 0)):
        raise ModelError(
            f"Of what {card.name!r} returns, another than the first image is taken, which a "
            "package can not say. Export the model file instead (--to file)."
        )
    if card.architecture == "onnx":
        return {"onnx": {**described, "opset_version": opset_of(program, card.name)}}
    version = torch.__version__.partition("+")[0]
    return {"torchscript": {**described, "pytorch_version": version}}
