"""The model card: what one needs to know of a model to run it right.

No torch here: cards are read and shown before torch is imported.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unet_studio.recipe import Normalisation, ObjectsMethod

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
    objects : ObjectsMethod or None
        Method and options that suit this model best.
    patch : int
        Edge of the training patches, in pixels.
    voxel_size : tuple of float or None
        Physical size of a pixel in training, in micrometres, in the order [Z] Y X.
    stride : int
        Product of all poolings: tiles start at multiples of it.
    halo : int or None
        Measured receptive-field radius, in pixels; None if unbounded.
    tile_invariant : bool
        Whether tiles with this halo reproduce the whole image's result.
    seam_flips : tuple of (int, float)
        Measured decisions that change per pixel of a seam between tiles, for some
        halos up to the exact one; empty if not measured.
    bytes_per_pixel : float
        Peak memory of activations per input pixel in a forward pass, fp32.
    parameters : int
        Number of weights.
    licence, citation, description, authors, training_data : str
    parent : str or None
        SHA-256 of the model this one was refined from.
    training : dict
        Record of how it was trained (steps, seed, scores, …).
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
    objects: ObjectsMethod | None = None
    patch: int = Field(default=256, ge=16)
    voxel_size: tuple[float, ...] | None = None
    stride: int = Field(default=16, ge=1)
    halo: int | None = Field(default=None, ge=0)
    tile_invariant: bool = True
    seam_flips: tuple[tuple[int, float], ...] = ()
    bytes_per_pixel: float = Field(default=1000.0, gt=0)
    parameters: int = Field(default=0, ge=0)
    description: str = ""
    licence: str = "unknown"
    citation: str = ""
    authors: str = ""
    training_data: str = ""
    parent: str | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    version: Literal[1] = 1

    @model_validator(mode="after")
    def _consistent(self) -> ModelCard:
        if self.colour and self.in_channels != 3:
            raise ValueError(f"a colour model has 3 input channels, not {self.in_channels}")
        if self.representation == "classes" and len(self.classes) < 2:
            raise ValueError("a model of classes needs at least two, background included")
        return self

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
