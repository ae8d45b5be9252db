"""Accuracy of the bundled nuclei model on images it was not trained on.

    python benchmarks/accuracy.py --data ../shared/data

segments the ``val`` images of each set through the public interface, exactly as
a user would, and prints a table. Objects are pooled over all images of a set;
AP = TP / (TP + FP + FN) at that IoU.
"""

from __future__ import annotations

import argparse
import platform
import time
from pathlib import Path

from unet_studio import load_model, read_image, segment
from unet_studio.objects.evaluation import Scores, evaluate, pool

SETS = {
    "dsb2018_fluo": "fluorescence",
    "dsb2018_histology": "histology (RGB)",
    "dsb2018_brightfield": "bright field",
    "dsb2018_fluo_large": "fluorescence, large fields",
}
# AP@0.5 and F1@0.5 that the model has to reach.
TARGETS = {"dsb2018_fluo": (0.87, 0.93), "dsb2018_histology": (0.60, None),
           "dsb2018_brightfield": (0.60, None)}  # fmt: skip
RESULTS = Path(__file__).parent / "results" / "nuclei_accuracy.md"


def score_set(folder: Path, model: object, flips: bool) -> tuple[Scores, int, float]:
    """Segment every image of a set; return pooled scores, images, seconds."""
    scores, seconds = [], 0.0
    paths = sorted((folder / "val" / "images").glob("*.png"))
    for path in paths:
        truth = read_image(folder / "val" / "masks" / path.name, "YX").read()[0]
        began = time.perf_counter()
        result = segment(path, model, flips=flips)
        seconds += time.perf_counter() - began
        scores.append(evaluate(result.labels, truth))
    return pool(scores), len(paths), seconds


def main() -> None:
    """Print the table and write it to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--flips", action="store_true", help="average over mirror images")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    model = load_model(args.model)
    lines = [
        "# Accuracy of the bundled nuclei model",
        "",
        "Images of the `val` splits. The network was not trained on them, and the objects options",
        "were chosen on other images (of the `train` splits). They were looked at during",
        "development, though, so images that nobody has seen may give slightly less.",
        "Objects pooled over the images of a set; AP = TP / (TP + FP + FN).",
        "",
        "| set | images | objects | AP@0.5 (target) | F1@0.5 (target) | AP@0.75 | PQ "
        "| Dice | s per image |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, title in SETS.items():
        scores, count, seconds = score_set(args.data / name, model, args.flips)
        ap, f1 = TARGETS.get(name, (None, None))
        lines.append(
            f"| {title} | {count} | {scores.truth} | {scores.ap(0.5):.3f}{goal(ap)} "
            f"| {scores.f1(0.5):.3f}{goal(f1)} | {scores.ap(0.75):.3f} | {scores.pq:.3f} "
            f"| {scores.dice:.3f} | {seconds / count:.2f} |"
        )
    training = model.card.training
    lines += [
        "",
        f"Model: {model.card.parameters:,} parameters, SHA-256 `{model.sha256[:16]}…`, "
        f"{training.get('steps')} steps, seed {training.get('seed')}.",
        f"Machine: {platform.machine()}, CPU only; Python {platform.python_version()}.",
        f"Command: `python benchmarks/accuracy.py --data ../shared/data{' --flips' * args.flips}`",
    ]
    text = "\n".join(lines) + "\n"
    print(text)
    args.output.write_text(text)


def goal(value: float | None) -> str:
    """Return a target in brackets, if there is one."""
    return "" if value is None else f" (≥ {value:.2f})"


if __name__ == "__main__":
    main()
