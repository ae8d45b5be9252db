"""Names under which architectures and encoders can be chosen. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from unet_studio.errors import ModelError
from unet_studio.models.encoders import find_encoder, list_encoders
from unet_studio.models.networks import EMBEDDED, NETWORKS, PROGRAMS

_WIDE = [64, 128, 256, 512, 1024]
_SLIM = [16, 32, 64, 128, 256]
_TINY = [8, 16, 32, 64, 128]
_ENCODERS = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"efficientnet-b{size}" for size in range(8)),
)

PRESETS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet": ("unet", {"widths": _WIDE}),
    "unet-slim": ("unet", {"widths": _SLIM}),
    "unet-tiny": ("unet", {"widths": _TINY}),
    "unet-slim-shallow": ("unet", {"widths": _SLIM[:4]}),
    "sd-unet": ("sd-unet", {"widths": _WIDE, "norm": "group"}),
    "sd-unet-slim": ("sd-unet", {"widths": [2 * width for width in _SLIM], "norm": "batch"}),
    "plain-conv-unet": ("plain-conv-unet", {}),
    "residual-unet": ("residual-unet", {}),
    **{encoder: ("smp-unet", {"encoder": encoder}) for encoder in _ENCODERS},
}


@dataclass(frozen=True)
class Architecture:
    """An architecture as it is shown where a new model is made.

    Attributes
    ----------
    title : str
    about : str
        One sentence.
    presets : tuple of str
        Sizes to choose from, where it has no encoder to choose.
    dimensions : tuple of int
    """

    title: str
    about: str
    presets: tuple[str, ...] = ()
    dimensions: tuple[int, ...] = (2,)

    @property
    def has_encoder(self) -> bool:
        """Whether an encoder is chosen with it."""
        return not self.presets


_BOTH = (2, 3)
ARCHITECTURES: dict[str, Architecture] = {
    "unet": Architecture(
        "U-Net",
        "The plain one, in several widths.",
        ("unet-slim", "unet-tiny", "unet-slim-shallow", "unet"),
        _BOTH,
    ),
    "sd-unet": Architecture(
        "SD-UNet",
        "Stripped down with separable convolutions: few weights.",
        ("sd-unet-slim", "sd-unet"),
        _BOTH,
    ),
    "residual-unet": Architecture(
        "Residual U-Net", "As in nnU-Net's residual presets.", ("residual-unet",), _BOTH
    ),
    "plain-conv-unet": Architecture(
        "nnU-Net's U-Net", "Strided convolutions, instance norm.", ("plain-conv-unet",), _BOTH
    ),
    "smp-unet": Architecture("U-Net on an encoder", "A pretrained encoder, a U-Net's decoder."),
    "smp-unetplusplus": Architecture("U-Net++", "Nested skips: finer edges, more memory."),
    "smp-manet": Architecture("MA-Net", "Attention in the decoder."),
    "smp-linknet": Architecture("LinkNet", "Adds its skips: fast."),
    "smp-fpn": Architecture("FPN", "A pyramid of features; smooth outlines."),
    "smp-pspnet": Architecture("PSPNet", "Looks at the whole scene; coarse outlines."),
    "smp-pan": Architecture("PAN", "Attention over a pyramid; light."),
    "smp-deeplabv3": Architecture("DeepLabV3", "Dilated convolutions; coarse outlines."),
    "smp-deeplabv3plus": Architecture("DeepLabV3+", "The same with a skip: finer outlines."),
    "smp-upernet": Architecture("UPerNet", "Pyramid pooling on a pyramid; heavy."),
    "smp-segformer": Architecture("SegFormer", "A light decoder, made for MiT encoders."),
    "smp-dpt": Architecture("DPT", "For vision transformers, which see the whole image; heavy."),
}


def choose(preset: str, ndim: int = 2) -> tuple[str, dict[str, Any]]:
    """Return the architecture and options that a name stands for.

    Parameters
    ----------
    preset : str
        A preset, an architecture, an encoder, or ``"ARCHITECTURE/ENCODER"``.
    ndim : {2, 3}

    Raises
    ------
    ModelError
        If there is none of this name, or not in so many dimensions.
    """
    architecture, options = _look_up(preset)
    known = ARCHITECTURES.get(architecture)
    if known is not None and ndim not in known.dimensions:
        solid = ", ".join(name for name, a in ARCHITECTURES.items() if 3 in a.dimensions)
        raise ModelError(f"{known.title} is two-dimensional. In 3D there are: {solid}.")
    return architecture, dict(options)


def _look_up(preset: str) -> tuple[str, dict[str, Any]]:
    if preset in PRESETS:
        return PRESETS[preset]
    architecture, slash, encoder = preset.partition("/")
    if architecture in EMBEDDED:
        raise ModelError(
            f"{PROGRAMS[architecture]} can not be made anew. Import the package that holds it: "
            "`unet-studio models import PATH`."
        )
    if architecture in NETWORKS:
        if not slash:
            return architecture, {}
        if architecture in ARCHITECTURES and not ARCHITECTURES[architecture].has_encoder:
            raise ModelError(
                f"{ARCHITECTURES[architecture].title} has no encoder to choose; its sizes are "
                f"{', '.join(ARCHITECTURES[architecture].presets)}."
            )
        return architecture, {"encoder": encoder}
    if not slash and (preset.startswith("tu-") or any(e.name == preset for e in list_encoders())):
        return _decoder_for(preset), {"encoder": preset}
    known = ", ".join([*PRESETS, *(a for a in ARCHITECTURES if a not in PRESETS)])
    raise ModelError(
        f"There is no preset {preset!r}. Known: {known}; or an encoder "
        "(`unet-studio models encoders`)."
    )


def _decoder_for(encoder: str) -> str:
    """Return the architecture for an encoder that was named alone."""
    try:
        networks = find_encoder(encoder).networks
    except ModelError:  # not in the table; the network's builder says what is wrong
        return "smp-unet"
    return "smp-unet" if "smp-unet" in networks else next(iter(networks))
