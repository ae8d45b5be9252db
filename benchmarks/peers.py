"""The ways of running a network over a large image that ``inference.py`` compares.

Each takes the same network with the same weights. Ours starts from the image as
it is, and so reads, measures and normalises it within the time that is taken;
the others are handed the normalised float32 tensor. All end with float16
probabilities in the computer's memory, made by the same activation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from unet_studio import Model, as_volume, predict
from unet_studio.images.sampling import measure_scaling
from unet_studio.inference.channels import map_channels
from unet_studio.inference.openvino import OpenVinoNetwork
from unet_studio.inference.precision import prepare

TILE = 512
# The result is activated in bands of so many rows: no peer pays for a second float32 copy of it.
_BAND = 256

Probabilities = NDArray[np.float16]
Run = Callable[[], tuple[Probabilities, str]]


# What the networks of peers compute in, and how the table says it.
NUMERICS = {"plain": "", "half": ", same numerics as ours", "int8": ", 8-bit integers as ours"}
_ENDINGS = {"plain": "", "half": "-half", "int8": "-int8"}


class NotHereError(Exception):
    """A method that can not be run here; the message says why."""


@dataclass(frozen=True)
class Setting:
    """What a method runs on.

    Attributes
    ----------
    model : Model
    image : array of uint8, axes (Y, X)
    device : torch.device
    """

    model: Model
    image: NDArray[np.uint8]
    device: torch.device

    @cached_property
    def tensor(self) -> torch.Tensor:
        """The image as our predictor would give it to the network, axes (1, C, Y, X)."""
        card = self.model.card
        volume = as_volume(self.image, "YX")
        channels = map_channels(None, card, volume.info)
        scaling = measure_scaling(volume, channels.channels, card.normalisation, channels.mix)
        scaled = scaling.apply(channels.mix(volume.read({}, channels.channels)))
        return torch.from_numpy(np.ascontiguousarray(channels.expand(scaled)))[None]

    @cached_property
    def plain(self) -> nn.Module:
        """The network as it is, float32."""
        return copy.deepcopy(self.model.network).to(self.device)

    @cached_property
    def half_wide(self) -> nn.Module:
        """The network in the form in which ours runs it at half width."""
        return _HalfWide(prepare(self.model.network, self.model.card, self.device, "bfloat16"))

    @cached_property
    def integers(self) -> nn.Module:
        """The network in the form in which ours runs it in integers of 8 bits."""
        return _Integers(self.model)

    def network(self, numerics: str) -> nn.Module:
        """Return one of :data:`NUMERICS`; the same object each time."""
        return {"plain": lambda: self.plain, "half": lambda: self.half_wide,
                "int8": lambda: self.integers}[numerics]()  # fmt: skip


class _Integers(nn.Module):
    """What OpenVINO runs in integers, as a module that takes and gives float32."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.run = OpenVinoNetwork(model, "int8")

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, C, Y, X) of an image."""
        return self.run(image)


class _HalfWide(nn.Module):
    """A bfloat16, channels-last network that takes and gives float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Return the logits (N, C, Y, X) of an image."""
        image = image.to(torch.bfloat16, memory_format=torch.channels_last)
        result: torch.Tensor = self.network(image).float()
        return result


@dataclass(frozen=True)
class Method:
    """One way of running a network over an image.

    Attributes
    ----------
    key : str
        Short name; those of ours begin with "ours".
    title : str
        For the table.
    build : callable
        Given a :class:`Setting`, returns what does one run, and returns the probabilities
        (C, Y, X) and a remark. Raises :class:`NotHereError` or ``ModuleNotFoundError``.
    """

    key: str
    title: str
    build: Callable[[Setting], Run]

    @property
    def is_ours(self) -> bool:
        """Whether it runs through our public interface."""
        return self.key.startswith("ours")


def activated(logits: torch.Tensor, representation: str) -> Probabilities:
    """Turn logits (C, Y, X) into probabilities: softmax over classes, else sigmoid."""
    result = np.empty(logits.shape, np.float16)
    for start in range(0, logits.shape[1], _BAND):
        band = logits[:, start : start + _BAND].float()
        band = band.softmax(dim=0) if representation == "classes" else band.sigmoid()
        result[:, start : start + _BAND] = band.half().cpu().numpy()
    return result


def whole(setting: Setting, *, numerics: str) -> Run:
    """One forward pass over the whole image."""
    network, tensor = setting.network(numerics), setting.tensor

    @torch.no_grad()
    def run() -> tuple[Probabilities, str]:
        # The measure of exactness: no TF32 on a GPU. Peers keep torch's default.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, allow_tf32=False):
            logits = network(tensor.to(setting.device))[0]
        return activated(logits, setting.model.card.representation), ""

    return run


def loop(setting: Setting) -> Run:
    """Tiles of 512 side by side, without any overlap: the least that one can do."""
    network, tensor = setting.plain, setting.tensor

    @torch.no_grad()
    def run() -> tuple[Probabilities, str]:
        card = setting.model.card
        result = np.empty((card.out_channels, *setting.image.shape), np.float16)
        for y in range(0, setting.image.shape[0], TILE):
            for x in range(0, setting.image.shape[1], TILE):
                tile = tensor[..., y : y + TILE, x : x + TILE].to(setting.device)
                probabilities = activated(network(tile)[0], card.representation)
                result[:, y : y + TILE, x : x + TILE] = probabilities
        return result, ""

    return run


def monai(setting: Setting, *, overlap: float, batch: int, numerics: str) -> Run:
    """MONAI's sliding window with Gaussian weights."""
    from monai.inferers import sliding_window_inference

    network, tensor = setting.network(numerics), setting.tensor

    # It adds up in place, which torch refuses for tensors made in inference mode.
    @torch.no_grad()
    def run() -> tuple[Probabilities, str]:
        logits = sliding_window_inference(
            tensor.to(setting.device), (TILE, TILE), batch, network, overlap, mode="gaussian"
        )
        return activated(logits[0], setting.model.card.representation), ""

    return run


def nnunet(setting: Setting, *, numerics: str) -> Run:
    """Return nnU-Net's predictor as it comes: step 0.5, Gaussian weights; no mirroring."""
    if numerics != "plain" and setting.device.type == "cuda":
        raise NotHereError("on a GPU it always computes under its own float16 autocast")
    benchmark = torch.backends.cudnn.benchmark
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=setting.device.type == "cuda",
        device=setting.device,
        allow_tqdm=False,
    )
    torch.backends.cudnn.benchmark = benchmark  # it switched that on for all of torch
    network, tensor = setting.network(numerics), setting.tensor
    # What it would have read from a trained model's folder.
    predictor.network = network
    predictor.list_of_parameters = [network.state_dict()]
    predictor.configuration_manager = SimpleNamespace(patch_size=(TILE, TILE))
    predictor.label_manager = SimpleNamespace(
        num_segmentation_heads=setting.model.card.out_channels
    )

    def run() -> tuple[Probabilities, str]:
        with torch.backends.cudnn.flags(enabled=True, benchmark=True, allow_tf32=True):
            # A plane is a stack of depth one: (C, 1, Y, X).
            logits = predictor.predict_logits_from_preprocessed_data(tensor[0][:, None])
        return activated(logits[:, 0], setting.model.card.representation), ""

    return run


def ours(setting: Setting, *, quality: str, precision: str, backend: str) -> Run:
    """Our public ``predict``: reading, measuring and normalising included."""

    def run() -> tuple[Probabilities, str]:
        prediction = predict(
            setting.image,
            setting.model,
            axes="YX",
            device=str(setting.device),
            tiling={"quality": quality},
            precision=precision,
            backend=backend,
        )
        return np.asarray(prediction.probabilities), _remark(prediction.record)

    return run


def _remark(record: dict[str, Any]) -> str:
    """Return how the run was done, from its record."""
    tiles = record["tiles"]
    size = " × ".join(str(n) for n in tiles["shape"])
    count = tiles["count"]
    text = f"{count} tile{'s' * (count != 1)} of {size} px, halo {tiles['halo']}"
    return f"{text}, {record['backend']} {record['precision']}"


def _monai(overlap: float, batch: int, numerics: str) -> Method:
    return Method(
        f"monai-{overlap}-b{batch}{_ENDINGS[numerics]}",
        f"MONAI sliding window, overlap {overlap}, batch {batch}{NUMERICS[numerics]}",
        partial(monai, overlap=overlap, batch=batch, numerics=numerics),
    )


def _nnunet(numerics: str) -> Method:
    return Method(
        f"nnunet{_ENDINGS[numerics]}",
        f"nnU-Net predictor, step 0.5{NUMERICS[numerics]}",
        partial(nnunet, numerics=numerics),
    )


def _ours(quality: str, precision: str, backend: str = "torch") -> Method:
    best = backend == precision == "auto"
    how = "best back end" if best else f"{backend}, {precision}"
    return Method(
        f"ours-{quality}-{'best' if best else precision}",
        f"**U-Net Studio**, {quality}, {how}",
        partial(ours, quality=quality, precision=precision, backend=backend),
    )


REFERENCE = "whole"
METHODS: tuple[Method, ...] = (
    Method(REFERENCE, "whole image, float32", partial(whole, numerics="plain")),
    Method("whole-half", "whole image, bfloat16 channels last", partial(whole, numerics="half")),
    Method("whole-int8", "whole image, 8-bit integers", partial(whole, numerics="int8")),
    Method("loop", f"plain loop of {TILE} tiles, no overlap", loop),
    *(_monai(o, b, n) for o in (0.25, 0.5) for n in NUMERICS for b in (1, 4)),
    *(_nnunet(n) for n in NUMERICS),
    *(_ours(q, p) for q in ("exact", "balanced") for p in ("float32", "bfloat16")),
    *(_ours(q, "auto") for q in ("balanced", "fast")),
    *(_ours(q, "int8", "openvino") for q in ("exact", "balanced")),
    *(_ours(q, "auto", "auto") for q in ("exact", "balanced", "fast")),
)  # fmt: skip
