"""The model card: what one needs to know of a model to run it right.

No torch here: cards are read and shown before torch is imported.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unet_studio.models.click_input import CLICK_CHANNELS, ClickInput
from unet_studio.models.per_axis import PerAxis, spread
from unet_studio.recipe import Normalisation, ObjectsMethod, Preparation

Representation = Literal["binary", "classes", "objects"]
_OBJECT_CHANNELS = 3  # foreground, boundary, distance

# What each representation becomes where neither user nor model says otherwise.
DEFAULT_OBJECTS: dict[str, ObjectsMethod] = {
    "binary": ObjectsMethod(method="components"),
    "classes": ObjectsMethod(method="argmax"),
    "objects": ObjectsMethod(method="watershed"),
}


class ModelCard(BaseModel):
    """Frozen description of a model, stored in the header of its file.

    Attributes
    ----------
    name : str
        Short name, as used in recipes.
    architecture : str
        Name in :data:`unet_studio.models.networks.NETWORKS`.
    options : dict
        Keyword arguments of the network's builder (widths, encoder, …).
    in_channels : int
    ndim : {2, 3}
        Spatial dimensions the network works in.
    representation : {"binary", "classes", "objects"}
        What the output channels mean: one foreground logit; one logit per
        class, class 0 being background; or foreground, boundary, distance.
    classes : tuple of str
        Names of the classes; for "binary" and "objects" the name of the one thing found.
    colour : bool
        The input channels are red, green, blue; grey images are repeated into all three.
    normalisation : Normalisation
    preparation : Preparation or None
        What is done to a whole image before it is normalised and cut into tiles, such
        as resizing; what the network says is brought back onto the image afterwards.
    output : {"logits", "probabilities"}
        What the network returns: some foreign ones end in their own sigmoid or softmax.
    flips : bool
        Average over mirror images where the recipe does not say.
    mirror_axes : tuple of int or None
        Axes along which images may be mirrored, in the order [Z] Y X of what the network
        sees; None for all. For models that tell left from right.
    objects : ObjectsMethod or None
        Method and options that suit this model best.
    patch : int or tuple of int
        Edge of the training patches, in pixels; one number for all axes, or one per
        axis in the order [Z] Y X.
    overlap : float or None
        Of a model that is run in tiles of exactly its patch, which overlap by at least this
        share of it and are averaged (nnU-Net: 0.5). None lets the planner choose.
    voxel_size : tuple of float or None
        Physical size of a pixel in training, in micrometres, in the order [Z] Y X.
    tile_limit : tuple of int or None
        Longest edges of a tile, [Z] Y X, that the network can take, in pixels; None
        for any. Networks of fixed shape take no larger tiles than they were made for.
    stride : int or tuple of int
        Product of all poolings, for all axes or per axis: tiles start at multiples of it.
    halo : int, tuple of int or None
        Measured receptive-field radius, in pixels, for all axes or per axis; None if
        unbounded.
    tile_invariant : bool
        Whether tiles with this halo reproduce the whole image's result.
    seam_flips : tuple of (int, float)
        Measured decisions that change per pixel of a seam between tiles, for some
        halos along X up to the exact one; empty if not measured.
    bytes_per_pixel : float
        Peak memory of activations per input pixel in a forward pass, fp32.
    parameters : int
        Number of weights.
    clicks : ClickInput or None
        Of a model that answers clicks: how a crop and the clicks on it become its six
        input channels. Such a model segments nothing by itself.
    licence, citation, description, authors, training_data : str
    source : str
        Where it was imported or downloaded from; empty for our own.
    parent : str or None
        SHA-256 of the model this one was refined from.
    trained : bool
        Whether it finds anything; new models have yet to learn.
    training : dict
        Record of how it was trained (steps, seed, scores, …).
    notes : tuple of str
        What the user should know of how the model came about, such as what had to be
        assumed when it was imported.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    name: str
    architecture: str
    options: dict[str, Any] = Field(default_factory=dict)
    in_channels: int = Field(ge=1)
    ndim: Literal[2, 3] = 2
    representation: Representation
    classes: tuple[str, ...] = ("object",)
    colour: bool = False
    normalisation: Normalisation = Normalisation()
    preparation: Preparation | None = None
    output: Literal["logits", "probabilities"] = "logits"
    flips: bool = False
    mirror_axes: tuple[int, ...] | None = None
    objects: ObjectsMethod | None = None
    patch: PerAxis = 256
    overlap: float | None = Field(default=None, gt=0, lt=1)
    voxel_size: tuple[float, ...] | None = None
    tile_limit: tuple[int, ...] | None = None
    stride: PerAxis = 16
    halo: PerAxis | None = None
    tile_invariant: bool = True
    seam_flips: tuple[tuple[int, float], ...] = ()
    bytes_per_pixel: float = Field(default=1000.0, gt=0)
    parameters: int = Field(default=0, ge=0)
    clicks: ClickInput | None = None
    description: str = ""
    licence: str = "unknown"
    citation: str = ""
    authors: str = ""
    training_data: str = ""
    source: str = ""
    parent: str | None = None
    trained: bool = True
    training: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    version: Literal[1] = 1

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        if self.colour and self.in_channels != 3:
            raise ValueError(f"a colour model has 3 input channels, not {self.in_channels}")
        if self.representation == "classes" and len(self.classes) < 2:
            raise ValueError("a model of classes needs at least two, background included")
        if self.clicks is not None and (
            (self.in_channels, self.ndim, self.representation) != (CLICK_CHANNELS, 2, "binary")
        ):
            raise ValueError(
                f"a model that answers clicks is 2D, binary, with {CLICK_CHANNELS} input channels"
            )
        if self.clicks is not None and any(self.clicks.edge % s for s in self.strides):
            raise ValueError(
                f"clicks.edge is {self.clicks.edge}, no multiple of the stride {self.stride}"
            )
        if self.tile_limit is not None and (
            len(self.tile_limit) != self.ndim or min(self.tile_limit) < 1
        ):
            raise ValueError(f"tile_limit is {self.tile_limit}; it has one edge per dimension")
        if isinstance(self.patch, int) and self.patch < 16:
            raise ValueError(f"a patch of {self.patch} pixels is too small; 16 is the least")
        if not set(self.mirror_axes or ()) <= set(range(self.ndim)):
            raise ValueError(f"mirror_axes is {self.mirror_axes}; there are {self.ndim} axes")
        smallest = (("patch", self.patch, 1), ("stride", self.stride, 1), ("halo", self.halo, 0))
        for name, value, least in smallest:
            if value is not None and min(self._spread(name, value)) < least:
                raise ValueError(f"{name} is {value}; {least} is the least")
        return self

    @property
    def mirrored(self) -> tuple[int, ...]:
        """Axes [Z] Y X along which mirror images are made."""
        return tuple(range(self.ndim)) if self.mirror_axes is None else self.mirror_axes

    def _spread(self, name: str, value: PerAxis) -> tuple[int, ...]:
        try:
            return spread(value, self.ndim)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None

    @property
    def patches(self) -> tuple[int, ...]:
        """Edges of the training patches per axis, [Z] Y X."""
        return spread(self.patch, self.ndim)

    @property
    def strides(self) -> tuple[int, ...]:
        """Product of the poolings per axis, [Z] Y X."""
        return spread(self.stride, self.ndim)

    @property
    def halos(self) -> tuple[int, ...] | None:
        """Radius of the receptive field per axis, [Z] Y X; None if unbounded."""
        return None if self.halo is None else spread(self.halo, self.ndim)

    @property
    def out_channels(self) -> int:
        """Number of logits per pixel."""
        if self.representation == "classes":
            return len(self.classes)
        return _OBJECT_CHANNELS if self.representation == "objects" else 1

    @property
    def default_objects(self) -> ObjectsMethod:
        """The objects method of this model, or else of its representation."""
        return self.objects or DEFAULT_OBJECTS[self.representation]
