"""Objects methods: how probabilities become labels.

A method is a function and the options it takes. To add one, write a file with
a :class:`Method` and name it here, or offer it from another distribution
through the entry-point group ``unet_studio.objects_methods``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from unet_studio.errors import RecipeError
from unet_studio.models.card import Representation
from unet_studio.registry import Registry, perhaps

if TYPE_CHECKING:
    from unet_studio.inference.decision import Decision
    from unet_studio.recipe import ObjectsMethod

# Called with probabilities (C, [Z,] Y, X) of any float type in 0..1, the
# method's options, and what the channels mean. Returns integer labels
# ([Z,] Y, X), 0 being background; it must not write to the probabilities.
MethodFunction = Callable[[NDArray[np.floating], Any, Representation], NDArray[np.integer]]


class MethodOptions(BaseModel):
    """Base of every method's options: frozen, and nothing unknown gets in."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _never(options: Any) -> bool:
    return False


def _nothing(options: Any) -> str:
    return ""


def _later(options: Any) -> None:
    return None


def whole_frame_only(options: Any) -> str:
    """Say that ``keep_largest`` is not a matter of single blocks, where it is asked for."""
    return "keep_largest compares all pieces of a frame" if options.keep_largest else ""


@dataclass(frozen=True)
class Support:
    """Where a method looks: what lets it run block by block with the same result.

    The method has to treat each connected piece of foreground on its own: the
    labels that begin in a piece (their first pixel in scan order lies in it) must
    depend only on the piece's bounding box and ``margin`` pixels around it.

    Attributes
    ----------
    pieces : callable
        ``(probabilities, options, representation) -> array`` of bool or of whole
        numbers, axes ([Z,] Y, X); False or 0 is background. Pixels of the same value
        that hang together are a piece. Numbers are used as table positions: keep
        them small, as class numbers are.
    margin : callable
        ``options -> int``: context in pixels. At least 1 is taken.
    diagonal : callable
        ``options -> bool``: whether pixels that touch only at a corner (or edge, in
        3D) belong to the same piece.
    pixelwise : callable
        ``options -> bool``: whether each pixel depends on itself alone. The three
        others are not asked then. Only for methods that make classes.
    refused : callable
        ``options -> str``: why options can not be kept block by block; "" where they can.
    decision : callable
        ``options -> Decision or None``: what decides each pixel's class alone, if that can
        be told to the device that runs the network; with the same result.
    """

    pieces: Callable[[NDArray[np.floating], Any, Representation], NDArray[Any]]
    margin: Callable[[Any], int]
    diagonal: Callable[[Any], bool]
    pixelwise: Callable[[Any], bool] = _never
    refused: Callable[[Any], str] = _nothing
    decision: Callable[[Any], Decision | None] = _later


@dataclass(frozen=True)
class Method:
    """One way to make labels of probabilities.

    Attributes
    ----------
    function : callable
        ``(probabilities, options, representation) -> labels``, for one frame:
        axes (C, [Z,] Y, X) in, ([Z,] Y, X) out.
    options_class : type of pydantic.BaseModel
        Frozen; every field has a default, its limits and a description with
        units: forms and command lines are built from it.
    representations : tuple of str
        The output representations it can work with.
    makes_objects : bool
        Whether each object gets an id of its own. Otherwise the labels are
        classes, and the numbers are kept as the function returns them.
    support : Support, optional
        Without it the method runs on whole frames in memory only.
    """

    function: MethodFunction
    options_class: type[BaseModel]
    representations: tuple[Representation, ...]
    makes_objects: bool
    support: Support | None = None


METHODS: Registry[Method] = Registry(
    "objects method",
    {
        "threshold": "unet_studio.objects.masks:THRESHOLD",
        "argmax": "unet_studio.objects.masks:ARGMAX",
        "components": "unet_studio.objects.components:COMPONENTS",
        "watershed": "unet_studio.objects.watershed:WATERSHED",
    },
    entry_points="unet_studio.objects_methods",
)


def options_class(name: str) -> type[BaseModel]:
    """Return the class of a method's options.

    Raises
    ------
    RecipeError
        If there is no such method; the message lists the known ones.
    """
    return METHODS.load(name).options_class


def parse_options(method: ObjectsMethod) -> BaseModel:
    """Check a method's options and fill in the defaults.

    Raises
    ------
    RecipeError
        If the method or an option is unknown, or a value out of range. The
        message names each problem, and the options that there are.
    """
    options = options_class(method.method)
    try:
        return options.model_validate(method.options)
    except ValidationError as error:
        problems = "; ".join(_problem(e["loc"], e["type"], e["msg"]) for e in error.errors())
        known = ", ".join(options.model_fields) or "none"
        unknown = [str(e["loc"][0]) for e in error.errors() if e["type"] == "extra_forbidden"]
        meant = "".join(perhaps(name, options.model_fields) for name in unknown)
        raise RecipeError(
            f"The objects method {method.method!r} can not be run with these options. "
            f"{problems}. Its options are: {known}.{meant}"
        ) from None


def _problem(where: tuple[int | str, ...], kind: str, message: str) -> str:
    name = ".".join(str(part) for part in where)
    return f"There is no option {name!r}" if kind == "extra_forbidden" else f"{name}: {message}"


def suitable_methods(representation: Representation) -> list[str]:
    """Return the names of the methods that work with a representation."""
    return [n for n in METHODS if representation in METHODS.load(n).representations]
