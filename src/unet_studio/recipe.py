"""A recipe: everything that decides what a run computes, as one frozen value.

The window, the command line, batches and replays all run recipes; the run
record stores one with each result.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from unet_studio.errors import RecipeError

Quality = Literal["exact", "balanced", "fast"]
Backend = Literal["auto", "torch", "openvino"]
Precision = Literal["auto", "float32", "bfloat16", "float16", "int8"]
Planes = Literal["xy", "three"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Normalisation(_Frozen):
    """How intensities are brought into the network's range.

    ``method`` is a name in :data:`unet_studio.images.normalisers.NORMALISERS`,
    ``options`` are its keyword arguments.
    """

    method: str = "percentile"
    options: dict[str, Any] = Field(default_factory=dict)


class Preparation(_Frozen):
    """How a whole image becomes what the network sees, and what it says comes back.

    ``method`` is a name in :data:`unet_studio.images.preparation.PREPARATIONS`,
    ``options`` are its keyword arguments.
    """

    method: str
    options: dict[str, Any] = Field(default_factory=dict)


class Linking(_Frozen):
    """How the objects of successive frames are linked, so that each keeps its id.

    Attributes
    ----------
    min_overlap : float
        Least share of the smaller object, 0.05 to 1, that two objects have in
        common to be taken for the same.
    max_gap : int
        Frames, 0 to 100, for which an object may be missing and still keep its id.
    """

    min_overlap: float = Field(
        default=0.3,
        ge=0.05,
        le=1,
        description="Least share of its pixels that an object has in common with itself one "
        "frame earlier (of the smaller of the two). Lower it for fast objects.",
    )
    max_gap: int = Field(
        default=0,
        ge=0,
        le=100,
        description="For how many frames an object may be missing and still keep its number.",
    )


class ObjectsMethod(_Frozen):
    """How probabilities become labels.

    ``method`` is a name in :data:`unet_studio.objects.methods.METHODS`,
    ``options`` are the fields of that method's options class, ``link`` links
    objects through time; True stands for the defaults of :class:`Linking`.
    """

    method: str
    options: dict[str, Any] = Field(default_factory=dict)
    link: Linking | None = None

    @field_validator("link", mode="before")
    @classmethod
    def _switch(cls, value: Any) -> Any:
        if isinstance(value, bool):
            return Linking() if value else None
        return value


class Tiling(_Frozen):
    """How an image is cut. None lets the planner choose.

    Attributes
    ----------
    quality : {"exact", "balanced", "fast"}
        How much context tiles get. "exact" gives the result of the whole image at
        once, to rounding; "balanced" lets an expected 0.01 % of the pixels change
        side at seams, "fast" 0.1 %, both as measured on the network.
    tile : int or None
        Edge of the square (cubic) tiles that are read, halo included, in pixels.
    halo : int or None
        Context around a tile's kept core, in pixels, instead of what ``quality`` asks
        for.
    batch : int or None
        Tiles per forward pass.
    """

    quality: Quality = "exact"
    tile: int | None = Field(default=None, ge=16)
    halo: int | None = Field(default=None, ge=0)
    batch: int | None = Field(default=None, ge=1, le=256)


class Recipe(_Frozen):
    """What to run: model, input, tiling, and what to make of the probabilities.

    Attributes
    ----------
    model : str
        Name of a model in the store, or path of a model file.
    axes : str or None
        Axes of the input where they can not be read from it ("ZYX").
    channels : tuple of int or None
        Channels to feed to the network, in its order. None is allowed where
        there is only one way to do it.
    normalisation : Normalisation or None
        None takes the model's own.
    objects : ObjectsMethod or None
        None takes the model's own.
    measure : bool
        Measure size and position of each object.
    device : str
        "auto", "cpu", "cuda" (all GPUs there are), "cuda:1", "cuda:0,cuda:1", "mps".
    backend : {"auto", "torch", "openvino"}
        What runs the network. OpenVINO is optional and for CPUs; "auto" takes it where
        it is installed and measures faster with the same result.
    precision : {"auto", "float32", "bfloat16", "float16", "int8"}
        Numbers that the network computes in. "auto" takes the half-wide ones where
        they measure faster on the device and hardly change the result. "int8" means
        integers of 8 bits, with OpenVINO on the CPU; a model whose logits they change by more
        than a tenth of their deviation is refused.
    flips : bool or None
        Predict every tile in all its mirror images too, and average the logits: the
        result no longer depends on how the image lies, at 4 times (3D networks: 8 times)
        the cost. None takes the model's own choice.
    planes : {"xy", "three"}
        Planes of a stack that a 2D network looks at: XY alone, or XY, XZ and YZ, whose
        probabilities (or logits, where these are asked for) are averaged.
    """

    model: str
    axes: str | None = None
    channels: tuple[int, ...] | None = None
    normalisation: Normalisation | None = None
    tiling: Tiling = Tiling()
    objects: ObjectsMethod | None = None
    measure: bool = True
    device: str = "auto"
    backend: Backend = "auto"
    precision: Precision = "auto"
    flips: bool | None = None
    planes: Planes = "xy"
    version: Literal[1] = 1


def parse_recipe(values: dict[str, Any]) -> Recipe:
    """Build a recipe from plain values, such as those of a TOML file.

    Raises
    ------
    RecipeError
        If a key is unknown or a value out of range; the message names each.
    """
    from pydantic import ValidationError

    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(p) for p in e['loc'])}: {e['msg']}" for e in error.errors()
        )
        raise RecipeError(
            f"The recipe has settings that can not be used. {problems}. Correct them."
        ) from None
