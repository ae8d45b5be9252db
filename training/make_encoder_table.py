"""Measure every encoder and write the table that is shown before torch is imported.

    python training/make_encoder_table.py

builds each encoder of segmentation-models-pytorch, and each pretrained one of timm that
gives a pyramid of features, under a U-Net decoder (a vision transformer: under DPT's),
runs it on 64 × 96 pixels, measures its memory as a new model's card does, and writes
``src/unet_studio/models/encoders.json``. Encoders that take images of one size only are
left out, and timm's that make networks of more than 500 million parameters. A run that was
interrupted goes on where it stopped. ``--again REGEX`` measures the memory of rows that are
there anew, and changes nothing else.

Licences and normalisations: of timm's encoders as timm's own configuration states them;
of the others by where their weights first came from (``ORIGINS``).
"""

from __future__ import annotations

import argparse
import json
import math
import re
import warnings
from pathlib import Path
from typing import Any

import timm
import torch
from segmentation_models_pytorch.encoders import encoders as smp_encoders
from timm.models import _registry as timm_registry

from unet_studio.models.card import ModelCard
from unet_studio.models.choices import ARCHITECTURES, PRESETS
from unet_studio.models.model import build_network, shapes_only
from unet_studio.models.networks.smp import DECODERS
from unet_studio.models.per_axis import spread
from unet_studio.models.probe import activation_bytes_per_pixel

OUTPUT = Path(__file__).parent.parent / "src/unet_studio/models/encoders.json"
SIZE = (64, 96)
LARGEST = 500_000_000  # parameters
_IMAGENET = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
_HALF = ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
# Means of 124, 117 and 104 grey values, and 1 / 0.0167 grey values.
_DPN = ([124 / 255, 117 / 255, 104 / 255], [1 / (0.0167 * 255)] * 3)
# Encoder (and weights): family, licence of the weights, normalisation of the input.
ORIGINS: list[tuple[str, str, str, tuple[list[float], list[float]]]] = [
    (r"\S+ (ssl|swsl|instagram)$", "ResNet", "CC-BY-NC-4.0", _IMAGENET),
    (r"resnet", "ResNet", "BSD-3-Clause", _IMAGENET),
    (r"resnext", "ResNeXt", "BSD-3-Clause", _IMAGENET),
    (r"dpn", "DPN", "BSD-3-Clause", _DPN),
    (r"vgg", "VGG", "BSD-3-Clause", _IMAGENET),
    (r"(senet|se_)", "SE-Net", "BSD-3-Clause", _IMAGENET),
    (r"densenet", "DenseNet", "BSD-3-Clause", _IMAGENET),
    (r"inception", "Inception", "BSD-3-Clause", _HALF),
    (r"xception", "Xception", "BSD-3-Clause", _HALF),
    (r"timm-tf_efficientnet_lite", "EfficientNet", "Apache-2.0", _HALF),
    (r"\S*efficientnet\S* advprop$", "EfficientNet", "Apache-2.0", _HALF),
    (r"(timm-)?efficientnet", "EfficientNet", "Apache-2.0", _IMAGENET),
    (r"timm-sk", "SK-Net", "Apache-2.0", _IMAGENET),
    (r"mobilenet", "MobileNet", "BSD-3-Clause", _IMAGENET),
    (r"mobileone", "MobileOne", "Apple (see github.com/apple/ml-mobileone)", _IMAGENET),
    (r"mit_b", "MiT", "NVIDIA Source Code License (non-commercial)", _IMAGENET),
]


def network_of(architecture: str, encoder: str) -> Any:
    """Build one network on the meta device."""
    card = ModelCard(
        name=encoder,
        architecture=architecture,
        options={"encoder": encoder},
        in_channels=3,
        representation="binary",
    )
    with shapes_only():
        return build_network(card).eval()


def parameters_of(module: torch.nn.Module) -> int:
    """Count weights."""
    return sum(p.numel() for p in module.parameters())


@torch.no_grad()
def measure(
    encoder: str, architecture: str = "smp-unet", largest: float = math.inf
) -> dict[str, Any]:
    """Measure an encoder under a decoder."""
    network = network_of(architecture, encoder)
    if parameters_of(network) > largest:
        raise ValueError("too large for any use here")
    _fill(network)
    assert network(torch.zeros(1, 3, *SIZE)).shape[-2:] == SIZE
    return {
        "parameters": parameters_of(network.encoder),
        "bytes_per_pixel": bytes_per_pixel(network),
        "networks": {architecture: parameters_of(network)},
    }


def _fill(network: torch.nn.Module) -> None:
    """Give a network of shapes its memory; what the numbers are does not matter."""
    network.to_empty(device="cpu")
    for tensor in (*network.parameters(), *network.buffers()):
        tensor.zero_()


def bytes_per_pixel(network: Any) -> int:
    """Measure memory exactly as the card of a model with this encoder will say it.

    Not on a small image: what does not grow with the image (weights that are standardised
    or blended in each pass, windows of attention that it is padded to) would be taken for
    a cost of its few pixels.
    """
    return round(activation_bytes_per_pixel(network, 3, (network.stride, network.stride)))


@torch.no_grad()
def measure_again(entry: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the table with its memory measured anew."""
    architecture = "smp-unet" if "smp-unet" in entry["networks"] else "smp-dpt"
    network = network_of(architecture, entry["name"])
    assert parameters_of(network) == entry["networks"][architecture]
    _fill(network)
    return {**entry, "bytes_per_pixel": bytes_per_pixel(network)}


def origin(encoder: str, weights: str) -> tuple[str, str, tuple[list[float], list[float]]]:
    """Return family, licence and normalisation of an encoder of segmentation-models-pytorch."""
    for pattern, family, licence, normalisation in ORIGINS:
        if re.match(pattern, f"{encoder} {weights}"):
            if family == "ResNet" and encoder.startswith("resnext"):
                family = "ResNeXt"
            return family, licence, normalisation
    raise KeyError(encoder)


def smp_entry(encoder: str) -> dict[str, Any]:
    """Describe an encoder of segmentation-models-pytorch, with every decoder."""
    entry: dict[str, Any] = {"name": encoder, "family": origin(encoder, "")[0], **measure(encoder)}
    for architecture in DECODERS:
        try:
            entry["networks"][architecture] = parameters_of(network_of(architecture, encoder))
        except Exception:  # they do not go together
            continue
    weights = {}
    for tag, settings in smp_encoders[encoder]["pretrained_settings"].items():
        _, licence, (mean, std) = origin(encoder, tag)
        weights[tag] = {
            "repository": settings["repo_id"],
            "revision": settings["revision"],
            "licence": licence,
            "mean": [round(m, 6) for m in mean],
            "std": [round(s, 6) for s in std],
        }
    return {**entry, "weights": weights}


def timm_family(name: str) -> str:
    """Return the file of timm that an encoder is in."""
    return timm_registry._model_to_module[name]


def timm_entry(name: str) -> dict[str, Any]:
    """Describe an encoder of timm, under the U-Net decoder or else DPT's."""
    entry = {"name": f"tu-{name}", "family": f"timm: {timm_family(name)}"}
    try:
        entry |= measure(f"tu-{name}", largest=LARGEST)
    except Exception:  # no pyramid of features
        entry |= measure(f"tu-{name}", "smp-dpt", LARGEST)
    weights = {}
    for full in timm.list_pretrained(f"{name}.*"):
        base, _, tag = full.partition(".")
        cfg = timm.get_pretrained_cfg(full)
        if base != name or cfg is None or not cfg.hf_hub_id:
            continue
        repository = cfg.hf_hub_id if cfg.hf_hub_id.count("/") else f"timm/{full}"
        if repository == "timm/":
            repository = f"timm/{full}"
        weights[tag] = {
            "repository": repository,
            "revision": "main",
            "licence": cfg.license or "unknown",
            "mean": [round(m, 6) for m in cfg.mean],
            "std": [round(s, 6) for s in cfg.std],
        }
    return {**entry, "weights": weights}


def candidates() -> list[str]:
    """Return timm's pretrained models, without their tags."""
    return sorted({full.partition(".")[0] for full in timm.list_pretrained()})


def measure_presets() -> dict[str, dict[str, list[float]]]:
    """Return parameters and bytes per pixel of what has no encoder, in 2D and 3D."""
    found: dict[str, dict[str, list[float]]] = {}
    for about in ARCHITECTURES.values():
        for preset in about.presets:
            architecture, options = PRESETS[preset]
            for ndim in about.dimensions:
                card = ModelCard(
                    name=preset,
                    architecture=architecture,
                    options=options,
                    ndim=ndim,
                    in_channels=1,
                    representation="binary",
                )
                with shapes_only():
                    network = build_network(card).eval()
                _fill(network)
                strides = spread(getattr(network, "stride", card.stride), ndim)
                found.setdefault(preset, {})[str(ndim)] = [
                    parameters_of(network),
                    round(activation_bytes_per_pixel(network, 1, strides)),
                ]
    return found


def write(entries: list[dict[str, Any]], left_out: list[str], presets: Any, path: Path) -> None:
    """Write one encoder per line, so that changes can be read."""
    head = {"timm": timm.__version__, "left_out": left_out}
    lines = ",\n".join(json.dumps(e, separators=(",", ":")) for e in entries)
    path.write_text(
        f'{{"about": {json.dumps(head)},\n"presets": {json.dumps(presets)},\n'
        f'"encoders": [\n{lines}\n]}}\n'
    )


def again(chosen: re.Pattern[str], path: Path) -> None:
    """Measure the memory of rows whose name matches, and tell what has changed."""
    table = json.loads(path.read_text())
    entries = table["encoders"]
    for index, entry in enumerate(entries):
        if not chosen.fullmatch(entry["name"]):
            continue
        try:
            entries[index] = measure_again(entry)
        except Exception as error:
            print(f"{entry['name']}: {type(error).__name__}: {error}", flush=True)
            continue
        before, now = entry["bytes_per_pixel"], entries[index]["bytes_per_pixel"]
        print(f"{entry['name']}: {before} -> {now}", flush=True)
        write(entries, table["about"]["left_out"], table["presets"], path)


def main() -> None:
    """Measure what is not in the table yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--again", metavar="REGEX", help="measure these rows' memory anew")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    if args.again is not None:
        again(re.compile(args.again), args.output)
        return
    entries, left_out = [], []
    if args.output.exists():
        table = json.loads(args.output.read_text())
        entries, left_out = table["encoders"], table["about"]["left_out"]
    done = {e["name"] for e in entries}
    todo = [(n, smp_entry) for n in smp_encoders if _own(n) and n not in done]
    todo += [(n, timm_entry) for n in candidates() if f"tu-{n}" not in done and n not in left_out]
    with torch.no_grad():
        presets = measure_presets()
    for index, (name, describe) in enumerate(todo):
        try:
            entries.append(describe(name))
        except Exception as error:  # no pyramid of features, or images of one size only
            left_out.append(name)
            print(f"{name}: left out ({type(error).__name__})", flush=True)
        if index % 20 == 0:
            write(entries, left_out, presets, args.output)
    write(entries, left_out, presets, args.output)
    print(f"{len(entries)} encoders, {len(left_out)} left out")


def _own(name: str) -> bool:
    """Leave out the names under which timm's encoders were reached before."""
    return not re.match(r"timm-(regnet|res2|resnest|mobilenetv3|gernet)", name)


if __name__ == "__main__":
    main()
