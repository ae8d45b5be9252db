"""Speed of the objects step against scikit-image's functions for the same result.

    python benchmarks/objects.py

Seeded watershed with the bundled model's options, on its probabilities for a mosaic of
real nuclei, and on a stack of touching balls. Both sides start from the same float16
probabilities and end with labels and a table of area, centroid and bounding box.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from skimage import filters, measure, morphology, segmentation, util

import material
import measuring
from unet_studio import load_model, predict
from unet_studio.axes import Axes
from unet_studio.images.volume import as_volume
from unet_studio.inference.prediction import Prediction
from unet_studio.objects.evaluation import evaluate
from unet_studio.objects.measurements import measure as measure_objects
from unet_studio.objects.run import run_objects

RESULTS = Path(__file__).parent / "results" / "objects.md"
TARGET = 5.0
_NOTES = [
    "From float16 probabilities in memory to labels and a table of area, centroid and bounding",
    "box of every object. Ours: `run_objects` and `measure`. scikit-image: `gaussian`,",
    "`h_maxima` with our split depth (seeds whose valley is that deep, as ours), `label`,",
    "`watershed`, `regionprops` to drop faint objects and to fill holes, `remove_small_objects`,",
    "`relabel_sequential`, `regionprops_table`. Medians of the rounds (A B A B in one process,",
    "after a warm-up), with minimum and maximum. Same objects: F1 of one result against the",
    "other at an IoU of 0.5.",
]

Table = dict[str, NDArray[Any]]
Result = tuple[NDArray[Any], Table]


def main() -> None:
    """Print the table and write it to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=4096, help="edge of the image in pixels")
    parser.add_argument("--stack", type=int, nargs=3, default=[128, 512, 512])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    lines = [
        "# Objects step",
        "",
        *_NOTES,
        "",
        "| image | objects | U-Net Studio, s | scikit-image, s | ratio (target) | same objects |",
        "|---|---|---|---|---|---|",
    ]
    nuclei = predict(material.mosaic(args.data, args.size), "nuclei")
    lines.append(row(f"nuclei, {args.size} × {args.size}", nuclei, args.rounds))
    del nuclei
    shape = tuple(args.stack)
    lines.append(row("balls, " + " × ".join(map(str, shape)), balls(shape), args.rounds))
    about = measuring.machine("cpu", 1)
    lines += [
        "",
        f"Machine: {about['processor']}, {about['cores']} cores. "
        + ", ".join(
            f"{name} {text}" for name, text in about["versions"].items() if text[0].isdigit()
        )
        + ".",
        f"Command: `python benchmarks/objects.py --size {args.size} --rounds {args.rounds}`",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    args.output.write_text(text)


def row(name: str, prediction: Prediction, rounds: int) -> str:
    """Time both on one image; return a line of the table."""
    methods: tuple[Callable[[Prediction], Result], ...] = (ours, scikit_image)
    results = [method(prediction) for method in methods]  # warms up, too
    seconds: list[list[float]] = [[] for _ in methods]
    for number in range(rounds):
        for method, taken in zip(methods, seconds, strict=True):
            began = time.perf_counter()
            method(prediction)
            taken.append(time.perf_counter() - began)
            print(name, number, method.__name__, f"{taken[-1]:.2f} s", flush=True)
    ratio = statistics.median(seconds[1]) / statistics.median(seconds[0])
    same = evaluate(results[0][0], results[1][0]).f1(0.5)
    cells = [f"{statistics.median(s):.2f} ({min(s):.2f} to {max(s):.2f})" for s in seconds]
    count = len(results[0][1]["label"])
    return (
        f"| {name} | {count:,} | {cells[0]} | {cells[1]} | {ratio:.1f} (≥ {TARGET}) | {same:.4f} |"
    )


def ours(prediction: Prediction) -> Result:
    """Make and measure objects by the package itself."""
    made = run_objects(prediction)
    return made.labels, measure_objects(made.labels, made.axes)


def scikit_image(prediction: Prediction) -> Result:
    """Do the same by functions of scikit-image."""
    options = load_options(prediction)
    foreground = prediction.probabilities[0].astype(np.float32)
    mask = foreground > options["threshold"]
    height = filters.gaussian(
        prediction.probabilities[2].astype(np.float32), options["smoothing"], mode="nearest"
    )
    height = np.where(mask, height, -1).astype(np.float32)
    seeds = measure.label(morphology.h_maxima(height, options["split_depth"]))
    labels = segmentation.watershed(-height, seeds, mask=mask)
    needed = options["threshold"] + options["min_confidence"] * (1 - options["threshold"])
    found = measure.regionprops_table(labels, foreground, properties=("label", "intensity_mean"))
    kept = np.where(found["intensity_mean"] >= needed, found["label"], 0)
    labels = util.map_array(labels, found["label"], kept)
    for region in measure.regionprops(labels):
        part = labels[region.slice]
        part[region.image_filled & (part == 0)] = region.label
    labels = morphology.remove_small_objects(labels, max_size=options["min_size"] - 1)
    labels, _, _ = segmentation.relabel_sequential(labels)
    table = measure.regionprops_table(labels, properties=("label", "area", "centroid", "bbox"))
    return labels, table


def load_options(prediction: Prediction) -> dict[str, Any]:
    """Return the options of the model's own objects method, defaults filled in."""
    from unet_studio.objects.methods import parse_options

    return parse_options(prediction.card.default_objects).model_dump()


def balls(shape: tuple[int, ...]) -> Prediction:
    """Return probabilities of many noisy balls, about a third of which touch another."""
    rng = np.random.default_rng(0)
    distance = np.zeros(shape, np.float32)
    for _ in range(int(np.prod(shape) / 14_000)):
        radius = rng.uniform(6, 11)
        centre = rng.uniform(0, shape)
        low = np.maximum(0, (centre - radius - 1).astype(int))
        box = tuple(slice(a, int(c + radius + 2)) for a, c in zip(low, centre, strict=True))
        part = distance[box]
        grid = np.ogrid[tuple(slice(a, a + n) for a, n in zip(low, part.shape, strict=True))]
        away = np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)))
        np.maximum(part, 1 - away / radius, out=part)
    noise = rng.normal(0, 0.03, shape).astype(np.float32)
    foreground = 1 / (1 + np.exp(-(distance - 0.08) * 60))
    boundary = np.clip(1 - distance * 8, 0, 1) * (distance > 0)
    stack = np.stack([foreground, boundary, np.clip(distance + noise, 0, 1)]).astype(np.float16)
    info = as_volume(np.zeros(shape, np.uint8), "ZYX").info
    card = load_model("nuclei").card
    return replace(
        predict(np.zeros((64, 64), np.uint8), "nuclei"),
        probabilities=stack, axes=Axes("CZYX"), info=info, card=card,
    )  # fmt: skip


if __name__ == "__main__":
    main()
