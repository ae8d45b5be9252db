"""How much of a U-Net can go: size, operations, time and accuracy of stripped-down variants.

    python benchmarks/slim_unets.py --data ../shared/data

trains each variant from the same crops for the same number of steps on CC0 fluorescence
nuclei, and scores it on the ``val`` images. The training is short, so the table compares
variants with each other and says nothing of what each could reach. What is finished is
kept beside the table, and a second run goes on from there.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch.utils.flop_counter import FlopCounterMode

from measuring import machine
from unet_studio import read_image, segment
from unet_studio.images.normalisation import percentile_scaling, sample_for_statistics
from unet_studio.models.card import ModelCard
from unet_studio.models.model import Model, build_network
from unet_studio.objects.evaluation import evaluate, pool
from unet_studio.recipe import Normalisation
from unet_studio.training.augmentation import Augmentation, random_crop
from unet_studio.training.losses import objects_loss
from unet_studio.training.targets import object_targets, object_weights

ORIGINAL = (64, 128, 256, 512, 1024)
VARIANTS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "tiny": ("widths / 8", "unet", {"widths": [8, 16, 32, 64, 128]}),
    "tiny, 4 levels": ("widths / 8, one level fewer", "unet", {"widths": [8, 16, 32, 64]}),
    "slim": ("widths / 4", "unet", {"widths": [16, 32, 64, 128, 256]}),
    "slim, 4 levels": ("widths / 4, one level fewer", "unet", {"widths": [16, 32, 64, 128]}),
    "slim, 3 levels": ("widths / 4, two levels fewer", "unet", {"widths": [16, 32, 64]}),
    "SD-UNet, slim": (
        "separable, batch norm, widths / 2", "sd-unet",
        {"widths": [32, 64, 128, 256, 512], "norm": "batch"},
    ),
    "SD-UNet": ("separable, group norm, as published", "sd-unet", {}),
    "original": ("Ronneberger 2015, batch norm", "unet", {"widths": list(ORIGINAL)}),
}  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "slim_unets.md"
NORMALISATION = {"low": 0.5, "high": 99.9, "joint": True}
GENTLE = Augmentation(zoom=(0.8, 1.25), stretch=0.1, elastic=1.0)


def card_of(name: str, patch: int) -> ModelCard:
    """Describe one variant: grey in, nuclei as objects out."""
    _, architecture, options = VARIANTS[name]
    return ModelCard(
        name=name,
        architecture=architecture,
        options=options,
        in_channels=1,
        representation="objects",
        classes=("nucleus",),
        normalisation=Normalisation(options=NORMALISATION),
        patch=patch,
        # Not measured here: with whole small images no tile is cut.
        stride=2 ** (len(options.get("widths", ORIGINAL)) - 1),
        halo=None,
        tile_invariant=False,
    )


def read_pairs(folder: Path) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Read the training images (1, Y, X), normalised, and their labels (Y, X)."""
    pairs = []
    for path in sorted((folder / "train" / "images").glob("*.png")):
        pixels = np.asarray(Image.open(path))
        channels = np.moveaxis(pixels[..., :1], -1, 0) if pixels.ndim == 3 else pixels[None]
        scaling = percentile_scaling(sample_for_statistics(channels), **NORMALISATION)
        labels = np.asarray(Image.open(folder / "train" / "masks" / path.name)).astype(np.int64)
        pairs.append((torch.from_numpy(scaling.apply(channels)), torch.from_numpy(labels)))
    return pairs


def batch_of(
    pairs: list[tuple[torch.Tensor, torch.Tensor]], args: Any, generator: torch.Generator
) -> tuple[torch.Tensor, ...]:
    """Draw crops: images (N, 1, Y, X), targets (N, 3, Y, X), weights (N, Y, X)."""
    images, targets, weights = [], [], []
    for _ in range(args.batch):
        image, labels = pairs[int(torch.randint(len(pairs), (), generator=generator))]
        share = torch.rand(2, generator=generator)
        centre = (float(share[0]) * labels.shape[0], float(share[1]) * labels.shape[1])
        crop, ids = random_crop(image, labels, centre, args.crop, GENTLE, generator)
        images.append(crop)
        targets.append(torch.from_numpy(object_targets(ids.numpy())))
        weights.append(torch.from_numpy(object_weights(ids.numpy())))
    return torch.stack(images), torch.stack(targets), torch.stack(weights)


def train(name: str, pairs: list[Any], args: Any) -> tuple[Model, float]:
    """Train one variant from a fixed seed; return it and the seconds of processor time."""
    torch.manual_seed(args.seed)
    card = card_of(name, args.crop)
    network = build_network(card)
    generator = torch.Generator().manual_seed(args.seed)
    seconds = fit(name, network, lambda: batch_of(pairs, args, generator), args)
    return Model(card, network.eval().requires_grad_(False)), seconds


def fit(
    name: str, network: torch.nn.Module, draw: Callable[[], tuple[torch.Tensor, ...]], args: Any
) -> float:
    """Train a network on what is drawn, in place; return the seconds of processor time."""
    network.train().requires_grad_(True)
    optimiser = torch.optim.AdamW(network.parameters(), args.rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.rate, args.steps)
    began = time.process_time()
    for step in range(args.steps):
        images, targets, weights = draw()
        loss = objects_loss(network(images), targets, weights)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 2.0)
        optimiser.step()
        schedule.step()
        if (step + 1) % 50 == 0:
            print(f"{name}: step {step + 1}, loss {loss.item():.3f}", flush=True)
    return time.process_time() - began


@torch.inference_mode()
def measure(model: Model) -> dict[str, float]:
    """Parameters, operations per pixel, and milliseconds for 256 × 256 on one thread."""
    image = torch.randn(1, 1, 256, 256)
    with FlopCounterMode(display=False) as counter:
        model.network(image)
    times = []
    for _ in range(7):
        began = time.process_time()
        model.network(image)
        times.append(1e3 * (time.process_time() - began))
    return {
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "flops": counter.get_total_flops() / image.numel(),
        "ms": statistics.median(times[1:]),
    }


def score(model: Model, folder: Path) -> dict[str, float]:
    """Segment the ``val`` images through the public interface and score them."""
    scores = []
    for path in sorted((folder / "val" / "images").glob("*.png")):
        truth = read_image(folder / "val" / "masks" / path.name, "YX").read()[0]
        scores.append(evaluate(segment(path, model).labels, truth))
    total = pool(scores)
    return {"dice": total.dice, "ap50": total.ap(0.5), "ap75": total.ap(0.75)}


def table(results: dict[str, dict[str, float]], args: Any) -> str:
    """Return the page, as Markdown."""
    largest = results.get("original", {})
    lines = [
        "# How much of a U-Net can go",
        "",
        f"Each variant was trained from scratch for {args.steps} steps of {args.batch} crops of",
        f"{args.crop} × {args.crop} pixels (the same crops for all, one seed) on the 150 `train`",
        "images of dsb2018_fluo (CC0), and scored on its 30 `val` images, objects pooled. That is",
        "far too short for the best that each can reach: the table compares the variants.",
        "Operations are multiplications and additions, both counted. Time is processor time of",
        "one thread for a float32 forward pass of 256 × 256 pixels, median of six.",
        "",
        "<!-- --8<-- [start:table] -->",
        "| variant | what | parameters | FLOPs per pixel | ms | of the original's ms "
        "| training, s | Dice | AP@0.5 | AP@0.75 |",
        "|---" * 10 + "|",
    ]
    for name in reversed(VARIANTS):
        r = results.get(name)
        if r is None:
            continue
        share = f"{r['ms'] / largest['ms']:.0%}" if largest else ""
        lines.append(
            f"| {name} | {VARIANTS[name][0]} | {r['parameters']:,} | {r['flops']:,.0f} "
            f"| {r['ms']:.0f} | {share} | {r['seconds']:.0f} | {r['dice']:.3f} "
            f"| {r['ap50']:.3f} | {r['ap75']:.3f} |"
        )
    lines.append("<!-- --8<-- [end:table] -->")
    about = machine("cpu", 1)
    versions = ", ".join(f"{n} {v}" for n, v in about["versions"].items() if v != "not installed")
    lines += [
        "",
        f"Machine: {about['processor']}, 1 thread; other work ran beside, so compare the ratios.",
        f"Versions: {versions}.",
        "Command: `python benchmarks/slim_unets.py --data ../shared/data "
        f"--steps {args.steps} --crop {args.crop} --batch {args.batch}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, measure and score what is not there yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=list(VARIANTS))
    parser.add_argument("--work", type=Path, default=Path("training/runs/slim_unets.json"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"
    args.work.parent.mkdir(parents=True, exist_ok=True)
    results = json.loads(args.work.read_text()) if args.work.exists() else {}
    pairs = read_pairs(args.data / "dsb2018_fluo")
    for name in args.only:
        if name in results:
            continue
        model, seconds = train(name, pairs, args)
        scores = score(model, args.data / "dsb2018_fluo")
        results[name] = {**measure(model), "seconds": seconds, **scores}
        args.work.write_text(json.dumps(results, indent=1))
        args.output.write_text(table(results, args))
        print(name, results[name], flush=True)


if __name__ == "__main__":
    main()
