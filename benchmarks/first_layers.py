"""Whether weights for other images help: photographs for grey ones, 2D ones for stacks.

    python benchmarks/first_layers.py --data ../shared/data

trains each variant from the same crops for the same number of steps, a few seeds each, and
scores it on what it was not trained on. The training is short, so the table tells how much
of a start the weights are, not what each could reach. What is finished is kept in a work
file, and a second run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
import torch

from measuring import machine
from slim_unets import batch_of, fit, read_pairs, score
from unet_studio import segment
from unet_studio.images.normalisation import percentile_scaling, sample_for_statistics
from unet_studio.images.volume import as_volume
from unet_studio.models.inflation import inflate_into
from unet_studio.models.model import Model, load_model
from unet_studio.models.presets import new_model
from unet_studio.objects.evaluation import evaluate
from unet_studio.training.targets import object_targets, object_weights

ENCODER = "tu-tf_efficientnet_lite0"
FIRST = "encoder.model.conv_stem.weight"
WEIGHTS = "models/efficientnet_lite0_imagenet/tf_efficientnet_lite0_timm_keys.pth"
STACK = "ovule_nuclei_3d"
# Planes of the stack that are trained on; the others are scored.
_TRAINED = 60
_CROP = (16, 48, 48)
RESULTS = Path(__file__).parent / "results" / "first_layers.md"
GREY = {
    "ImageNet, first layer adapted": "the colours' weights are summed (what U-Net Studio does)",
    "ImageNet, first layer random": "all but the first layer",
    "random": "nothing is taken over",
}
STACKS = {
    "nuclei, kernels spread": "each kernel repeated along Z, divided by its length",
    "nuclei, kernels centred": "each kernel in the middle plane (what U-Net Studio does)",
    "random": "nothing is taken over",
}


def grey_model(name: str, args: Any) -> Model:
    """Make a U-Net on an encoder for one grey channel; the start of its weights differs."""
    made = {
        start: new_model(
            f"smp-unet/{ENCODER}",
            representation="objects",
            classes=("nucleus",),
            seed=args.seed,
            weights=weights,
        )
        for start, weights in (("ImageNet", args.data / WEIGHTS), ("random", "random"))
        if name.startswith(start) or start == "random"
    }
    model = made[name.partition(",")[0]]
    if name.endswith("first layer random"):
        model.network.get_parameter(FIRST).copy_(made["random"].network.get_parameter(FIRST))
    # All see the same images: scaled as the default model's are.
    card = model.card.model_copy(update={"normalisation": load_model("nuclei").card.normalisation})
    return Model(card, model.network)


def train_grey(name: str, args: Any) -> dict[str, float]:
    """Train and score one variant on fluorescence nuclei."""
    model, folder = grey_model(name, args), args.data / "dsb2018_fluo"
    pairs, generator = read_pairs(folder), torch.Generator().manual_seed(args.seed)
    seconds = fit(name, model.network, lambda: batch_of(pairs, args, generator), args)
    model.network.eval().requires_grad_(False)
    return {**score(model, folder), "seconds": seconds}


def train_stack(name: str, args: Any) -> dict[str, float]:
    """Train and score one variant on the two parts of one stack."""
    flat = load_model("nuclei")
    model = new_model(
        "unet", ndim=3, representation="objects", classes=("nucleus",), seed=args.seed,
        weights="inflate:nuclei",
    )  # fmt: skip
    if name == "random":
        with torch.no_grad():
            for module in model.network.modules():
                if hasattr(module, "reset_parameters"):
                    torch.manual_seed(args.seed)
                    module.reset_parameters()
    elif name.endswith("spread"):
        inflate_into(model.network, flat, "mean")
    image, truth = (
        tifffile.imread(next((args.data / STACK / kind).glob("*.tif")))
        for kind in ("images", "masks")
    )
    generator = torch.Generator().manual_seed(args.seed)
    draw = _crops(image[:_TRAINED], truth[:_TRAINED].astype(np.int64), model, generator)
    seconds = fit(name, model.network, draw, args)
    model.network.eval().requires_grad_(False)
    found = segment(as_volume(image[_TRAINED:], "ZYX"), model).labels
    scores = evaluate(found, truth[_TRAINED:].astype(np.int64))
    return {
        "dice": scores.dice, "ap50": scores.ap(0.5), "ap75": scores.ap(0.75), "seconds": seconds,
    }  # fmt: skip


def _crops(
    image: np.ndarray, truth: np.ndarray, model: Model, generator: torch.Generator
) -> Callable[[], tuple[torch.Tensor, ...]]:
    """Return a function that draws two crops: images, targets (N, 3, Z, Y, X), weights."""
    options = model.card.normalisation.options
    scaled = percentile_scaling(sample_for_statistics(image[None]), **options).apply(image[None])
    channels = model.card.in_channels

    def draw() -> tuple[torch.Tensor, ...]:
        parts = []
        for _ in range(2):
            starts = [
                int(torch.randint(n - c + 1, (), generator=generator))
                for n, c in zip(image.shape, _CROP, strict=True)
            ]
            inside = tuple(slice(s, s + c) for s, c in zip(starts, _CROP, strict=True))
            ids = truth[inside]
            pixels = torch.from_numpy(scaled[(slice(None), *inside)]).repeat(channels, 1, 1, 1)
            parts.append((pixels, torch.from_numpy(object_targets(ids)),
                          torch.from_numpy(object_weights(ids))))  # fmt: skip
        images, targets, weights = zip(*parts, strict=True)
        return torch.stack(images), torch.stack(targets), torch.stack(weights)

    return draw


def rows(kind: str, variants: dict[str, str], results: dict[str, Any], seeds: int) -> list[str]:
    """Return one line of the table per variant: mean over the seeds, and the range."""
    lines = ["| start | what | Dice | AP@0.5 | AP@0.75 |", "|---" * 5 + "|"]
    for name, what in variants.items():
        found = [results.get(f"{kind} {name} {seed}") for seed in range(seeds)]
        done = [r for r in found if r is not None]
        if not done:
            continue
        cells = []
        for score_name in ("dice", "ap50", "ap75"):
            values = [r[score_name] for r in done]
            cells.append(f"{statistics.mean(values):.3f} ({min(values):.3f}–{max(values):.3f})")
        lines.append(f"| {name} | {what} | {' | '.join(cells)} |")
    return lines


def page(results: dict[str, Any], args: Any) -> str:
    """Return the page, as Markdown."""
    about = machine("cpu", 1)
    versions = ", ".join(f"{n} {v}" for n, v in about["versions"].items() if v != "not installed")
    return "\n".join(
        [
            "# Whether weights for other images help",
            "",
            f"Each start was trained for {args.steps} steps, {args.seeds} seeds, on the same",
            "crops; mean and range over the seeds. That is far too short for the best that each",
            "can reach: the tables tell how much of a start the weights are.",
            "",
            "## Photographs for grey images",
            "",
            f"A U-Net on EfficientNet-lite0, one grey channel. {args.batch} crops of",
            f"{args.crop} × {args.crop} pixels per step from the 150 `train` images of",
            "dsb2018_fluo (CC0), scored on its 30 `val` images, objects pooled.",
            "",
            *rows("grey", GREY, results, args.seeds),
            "",
            "## A 2D model for stacks",
            "",
            "The plain U-Net in 3D from the model `nuclei`. Two crops of 16 × 48 × 48 voxels per",
            f"step from {_TRAINED} planes of one stack (ovule nuclei, MIT), scored on its others:",
            "one stack, so the ranges are those of the training alone.",
            "",
            *rows("stack", STACKS, results, args.seeds),
            "",
            f"Machine: {about['processor']}, 1 thread. Versions: {versions}.",
            "Command: `python benchmarks/first_layers.py --data ../shared/data "
            f"--steps {args.steps} --seeds {args.seeds} --crop {args.crop}`",
            "",
        ]
    )


def main() -> None:
    """Train and score what is not there yet, and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--work", type=Path, default=Path("training/runs/first_layers.json"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.work.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(args.work.read_text()) if args.work.exists() else {}
    kinds = (("grey", GREY, train_grey), ("stack", STACKS, train_stack))
    for seed in range(args.seeds):
        args.seed = seed
        for kind, variants, run in kinds:
            for name in variants:
                key = f"{kind} {name} {args.seed}"
                if key in results:
                    continue
                results[key] = run(name, args)
                args.work.write_text(json.dumps(results, indent=1))
                args.output.write_text(page(results, args))
                print(key, results[key], flush=True)


if __name__ == "__main__":
    main()
