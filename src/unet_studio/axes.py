"""Named axes: which dimension of an array is time, channel, depth, height or width.

This is the only place where axes are guessed, and only unambiguous shapes are
guessed: a three-dimensional array may be a stack, a movie or channels, and the
three want different treatment, so :class:`AmbiguousAxes` asks instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unet_studio.errors import AxesError

CANONICAL = "TCZYX"
SPATIAL = "ZYX"
AXIS_WORDS = {"T": "time", "C": "channel", "Z": "depth", "Y": "height", "X": "width"}
PIXEL = "pixel"

# What an array of so many dimensions can be, most frequent first.
_CANDIDATES = {
    2: ("YX",),
    3: ("ZYX", "TYX", "CYX", "YXC"),
    4: ("TZYX", "CZYX", "ZCYX", "TCYX", "ZYXC", "TYXC"),
    5: ("TCZYX", "TZCYX", "TZYXC", "CTZYX"),
}
# napari's own rule since 0.7: shorter images with a last axis of 3 or 4 are
# more often small stacks than colour.
_SMALLEST_COLOUR_IMAGE = 30


class AmbiguousAxes(AxesError):
    """More than one reading of the axes is possible; the user has to choose.

    Attributes
    ----------
    candidates : tuple of str
        The possible readings, most frequent first.
    question : str
        The message without the advice where to answer it.
    """

    def __init__(self, message: str, candidates: Sequence[str], question: str = "") -> None:
        super().__init__(message)
        self.candidates = tuple(candidates)
        self.question = question or message


@dataclass(frozen=True)
class Axes:
    """Axes of an array in its own order, with their physical meaning.

    Attributes
    ----------
    names : str
        One letter per dimension out of ``TCZYX``, in the order of the array.
    scale : tuple of float
        Size of one step along each axis, in ``units``; 1 for channels.
    translate : tuple of float
        Position of the first element along each axis, in ``units``.
    units : tuple of str
        Name of the unit of each axis ("micrometer", "second", "pixel").
    """

    names: str
    scale: tuple[float, ...] = ()
    translate: tuple[float, ...] = ()
    units: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = self.names.upper()
        unknown = sorted(set(names) - set(CANONICAL))
        if unknown:
            raise AxesError(
                f"Axes {self.names!r} hold {', '.join(unknown)}; use letters out of T (time), "
                "C (channel), Z (depth), Y (height), X (width)."
            )
        if len(set(names)) != len(names):
            raise AxesError(
                f"Axes {self.names!r} name an axis twice. Give each letter once, such as ZYX."
            )
        if not {"Y", "X"} <= set(names):
            raise AxesError(
                f"Axes {self.names!r} lack Y or X; an image has both. Add what is missing, such "
                "as YX or ZYX."
            )
        object.__setattr__(self, "names", names)
        defaults: dict[str, tuple[Any, ...]] = {
            "scale": (1.0,) * len(names),
            "translate": (0.0,) * len(names),
            "units": (PIXEL,) * len(names),
        }
        for field, default in defaults.items():
            given = tuple(getattr(self, field)) or default
            if len(given) != len(names):
                raise AxesError(
                    f"{len(given)} values of {field} were given for the {len(names)} axes "
                    f"{names}. Give one per axis."
                )
            object.__setattr__(self, field, given)

    def __len__(self) -> int:
        return len(self.names)

    def __contains__(self, axis: object) -> bool:
        return isinstance(axis, str) and axis in self.names

    @property
    def spatial(self) -> str:
        """The spatial axes in canonical order: ``"YX"`` or ``"ZYX"``."""
        return "".join(a for a in SPATIAL if a in self.names)

    @property
    def canonical(self) -> Axes:
        """The same axes in the order T C Z Y X."""
        return self.select("".join(a for a in CANONICAL if a in self.names))

    def index(self, axis: str) -> int:
        """Return the dimension of the array that ``axis`` is."""
        return self.names.index(axis)

    def select(self, names: str) -> Axes:
        """Return some of the axes, in the order given, with their scale and units.

        Raises
        ------
        AxesError
            If one of ``names`` is not there.
        """
        missing = [a for a in names if a not in self.names]
        if missing:
            raise AxesError(f"Axes {self.names} have no {', '.join(missing)}. Choose among these.")
        order = [self.index(a) for a in names]
        return Axes(
            names,
            tuple(self.scale[i] for i in order),
            tuple(self.translate[i] for i in order),
            tuple(self.units[i] for i in order),
        )

    def without(self, axis: str) -> Axes:
        """Return the axes without one of them, which need not be there, in the same order."""
        return self.select(self.names.replace(axis, ""))

    def with_channels(self) -> Axes:
        """Return canonical axes that include a channel axis."""
        if "C" in self:
            return self.canonical
        return self.with_names(self.names + "C").canonical

    def with_names(self, names: str) -> Axes:
        """Return axes called ``names``, with what is known of those of the same letter.

        Parameters
        ----------
        names : str
            One letter per dimension. One that is new gets a step of 1 pixel, at 0.
        """
        place = {letter: i for i, letter in enumerate(self.names)}
        return Axes(
            names,
            tuple(self.scale[place[a]] if a in place else 1.0 for a in names),
            tuple(self.translate[place[a]] if a in place else 0.0 for a in names),
            tuple(self.units[place[a]] if a in place else PIXEL for a in names),
        )

    def voxel_size(self, names: str | None = None) -> tuple[float, ...]:
        """Return the step along the spatial axes (or ``names``), in their units."""
        return self.select(names or self.spatial).scale


def rearrange(array: NDArray[Any], source: str, target: str) -> NDArray[Any]:
    """Permute an array from one order of axes to another.

    Parameters
    ----------
    array : array, axes as in ``source``
    source, target : str
        The same letters in two orders.

    Returns
    -------
    array
        A view; axes as in ``target``.

    Raises
    ------
    AxesError
        If the letters are not the same.
    """
    if sorted(source) != sorted(target):
        raise AxesError(
            f"Axes {source} can not be rearranged into {target}. Name the same letters in both."
        )
    return np.transpose(array, [source.index(a) for a in target])


def looks_like_colour(shape: Sequence[int], dtype: np.dtype[Any]) -> bool:
    """Whether an array is, beyond reasonable doubt, an RGB or RGBA picture (Y, X, C)."""
    return (
        len(shape) == 3
        and shape[-1] in (3, 4)
        and min(shape[:2]) >= _SMALLEST_COLOUR_IMAGE
        and np.dtype(dtype) == np.uint8
    )


def candidate_axes(ndim: int) -> tuple[str, ...]:
    """Return the readings an array of ``ndim`` dimensions allows, most frequent first.

    Raises
    ------
    AxesError
        If no image has so many dimensions.
    """
    try:
        return _CANDIDATES[ndim]
    except KeyError:
        raise AxesError(
            f"The image has {ndim} dimension{'s' * (ndim != 1)}; between 2 (Y, X) and 5 "
            "(T, C, Z, Y, X) can be segmented. Select the part that you need first."
        ) from None


def resolve_axes(shape: Sequence[int], given: str | None = None, what: str = "The image") -> str:
    """Return the axes of an array: those given, or the only possible reading.

    Parameters
    ----------
    shape : sequence of int
    given : str, optional
        Axes named by the user, a file or a layer. Letters are checked.
    what : str
        Subject of the error message.

    Raises
    ------
    AmbiguousAxes
        If nothing was given and there is more than one reading.
    AxesError
        If what was given does not fit the shape.
    """
    if given is not None:
        names = Axes(given).names
        if len(names) != len(shape):
            raise AxesError(
                f"{what} has {len(shape)} dimensions (shape {tuple(shape)}), but the axes "
                f"{names} name {len(names)}. Give one letter per dimension."
            )
        return names
    candidates = candidate_axes(len(shape))
    if len(candidates) == 1:
        return candidates[0]
    raise AmbiguousAxes(
        f"{what} of shape {tuple(shape)} can be read in more than one way: "
        f"{', '.join(candidates)}. Say which (T time, C channel, Z depth, Y height, X width).",
        candidates,
    )
