"""Accuracy of the bundled model of membranes and mitochondria.

    python benchmarks/membranes.py --data ../shared/data

segments sections that the network was not trained on: the ``val`` sections of the same
stack, and, as a stranger, those of the ISBI 2012 challenge (another animal and
microscope; membranes only). Dice of each class, pooled over the pixels of a set, next to
what a threshold (Otsu, dark) gives for membranes.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from unet_studio import load_model, read_image, segment

RESULTS = Path(__file__).parent / "results" / "membranes_accuracy.md"
# Class in the set's masks that is each class of the model.
SETS = {
    "vnc_sstem_multiclass": ("same stack, sections not trained on", {1: 1, 2: 2}),
    "isbi2012_em": ("ISBI 2012: another animal and laboratory", {1: 1}),
}


def dice(found: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks."""
    return 2 * float((found & truth).sum()) / max(1, int(found.sum()) + int(truth.sum()))


def score_set(folder: Path, model: object, classes: dict[int, int]) -> dict[str, float]:
    """Segment every val image of a set; return pooled scores."""
    labels, truths, dark, seconds = [], [], [], 0.0
    paths = sorted((folder / "val" / "images").glob("*.png"))
    for path in paths:
        began = time.perf_counter()
        labels.append(segment(path, model).labels.ravel())
        seconds += time.perf_counter() - began
        truths.append(read_image(folder / "val" / "masks" / path.name, "YX").read()[0].ravel())
        pixels = read_image(path).read()[0]
        dark.append((pixels < threshold_otsu(pixels)).ravel())
    found, truth = np.concatenate(labels), np.concatenate(truths)
    scores = {f"class {c}": dice(found == c, truth == t) for c, t in classes.items()}
    scores["otsu"] = dice(np.concatenate(dark), truth == classes[1])
    return {**scores, "images": len(paths), "seconds": seconds / len(paths)}


def main() -> None:
    """Print the table and write it to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="em-membranes")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    model = load_model(args.model)
    lines = [
        "# Accuracy of the bundled model `em-membranes`",
        "",
        "Dice, pooled over the pixels of a set. None of these sections was used in training.",
        "",
        "| set | images | membrane | dark pixels (Otsu) | mitochondrion | s per image |",
        "|---|---|---|---|---|---|",
    ]
    for name, (title, classes) in SETS.items():
        scores = score_set(args.data / name, model, classes)
        second = f"{scores['class 2']:.3f}" if 2 in classes else "not annotated"
        lines.append(
            f"| {title} | {scores['images']:.0f} | {scores['class 1']:.3f} | {scores['otsu']:.3f} "
            f"| {second} | {scores['seconds']:.2f} |"
        )
    lines += [
        "",
        f"Model: {model.card.parameters:,} parameters, SHA-256 `{model.sha256[:16]}…`, "
        f"{model.card.training.get('steps')} steps.",
        f"Machine: {platform.machine()}, CPU only; Python {platform.python_version()}.",
        "Command: `python benchmarks/membranes.py --data ../shared/data`",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    args.output.write_text(text)


if __name__ == "__main__":
    main()
