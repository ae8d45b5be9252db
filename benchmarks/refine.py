"""How well a few strokes refine a model, round by round, against a random forest.

    python benchmarks/refine.py --data ../shared/data --log refine.jsonl
    python benchmarks/refine.py --log refine.jsonl --report benchmarks/results/refine.md

A simulated annotator paints at most ten strokes of 3 to 5 pixels width per round, in the
largest errors of the model at hand (``annotator.py``). Each round starts from the base
model with all strokes, and is told whose result the latest correct. The same strokes train
scikit-image's trainable segmentation (multiscale features, a random forest with the options of
its own example).
Needs the dependency group ``benchmarks``. Every measurement is appended to the log at once.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from annotator import Annotator
from refine_domains import DOMAINS, Domain, Item, read_items
from unet_studio import load_model, predict
from unet_studio.models.model import Model
from unet_studio.training.refine import refine

RESULTS = Path(__file__).parent / "results" / "refine.md"


def found_by(model: Model, item: Item) -> NDArray[np.bool_]:
    """Return what a model finds in an image, axes as the truth's."""
    prediction = predict(item.image, model, axes=item.axes)
    probabilities = np.asarray(prediction.probabilities, np.float32)
    axis = prediction.axes.index("C")
    if model.card.representation == "classes":
        return probabilities.argmax(axis) == 1
    return np.take(probabilities, 0, axis) > 0.5


def dice(found: list[NDArray[np.bool_]], items: list[Item]) -> float:
    """Return the Dice coefficient, pooled over the pixels of all images."""
    pairs = list(zip(found, items, strict=True))
    common = sum(float((f & i.truth).sum()) for f, i in pairs)
    total = sum(float(f.sum() + i.truth.sum()) for f, i in pairs)
    return 2 * common / total if total else 1.0


def planes(arrays: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return all planes of images and stacks, one after the other."""
    return [plane for a in arrays for plane in (a if a.ndim == 3 else [a])]


def stacked(painted: list[NDArray[Any]], items: list[Item]) -> list[NDArray[Any]]:
    """Undo :func:`planes`."""
    left, result = list(painted), []
    for item in items:
        count = len(item.truth) if item.truth.ndim == 3 else 1
        part, left = left[:count], left[count:]
        result.append(np.stack(part) if item.truth.ndim == 3 else part[0])
    return result


def forest_dice(train: list[Item], strokes: list[NDArray[Any]], val: list[Item]) -> float:
    """Return the Dice of scikit-image's trainable segmentation on the same strokes."""
    from sklearn.ensemble import RandomForestClassifier

    chosen = [(i, s) for i, s in zip(train, strokes, strict=True) if s.any()]
    features = np.concatenate([forest_features(i)[s > 0] for i, s in chosen])
    classes = np.concatenate([s[s > 0] for _, s in chosen])
    forest = RandomForestClassifier(n_estimators=50, max_depth=10, max_samples=0.05, n_jobs=2,
                                    random_state=0)  # fmt: skip
    if len(classes) < 2000:  # a twentieth of a few strokes would be a handful of pixels
        forest.set_params(max_samples=None)
    forest.fit(features, classes)
    found = []
    for item in val:
        values = forest_features(item)
        predicted = forest.predict(values.reshape(-1, values.shape[-1]))
        found.append(predicted.reshape(values.shape[:-1]) == 2)
    return dice(found, val)


@functools.cache  # the images stay the same from round to round
def forest_features(item: Item) -> NDArray[np.float32]:
    """Return the features of scikit-image's example of trainable segmentation."""
    from skimage.feature import multiscale_basic_features

    image = item.image.astype(np.float32)
    low, high = np.percentile(image, (1, 99))
    image = (image - low) / max(float(high - low), 1e-6)  # scans differ in their ranges
    axis = -1 if item.axes.endswith("C") else None
    return np.asarray(
        multiscale_basic_features(
            image, intensity=True, edges=False, texture=True, sigma_min=1,
            sigma_max=16 if item.axes != "ZYX" else 8, channel_axis=axis,
        ), np.float32,
    )  # fmt: skip


def run_domain(domain: Domain, args: argparse.Namespace) -> None:
    """Measure all rounds of one set."""
    forest_features.cache_clear()
    train, val = (read_items(args.data, domain, part) for part in ("train", "val"))
    base = load_model(domain.base)
    annotator = Annotator(planes([i.truth for i in train]), args.seed)
    model = base
    if domain.classes is None:
        value = dice([found_by(base, i) for i in val], val)
        log(args, {"domain": domain.name, "round": 0, "dice": value})
    nothing = [np.zeros(i.truth.shape, bool) for i in train]
    for number in range(1, args.rounds + 1):
        new_head = number == 1 and domain.classes is not None
        found = nothing if new_head else [found_by(model, i) for i in train]
        strokes = annotator.paint(planes(found))
        painted = stacked(annotator.painted, train)
        used = [(i, p) for i, p in zip(train, painted, strict=True) if p.any()]
        began = time.perf_counter()
        result = refine(
            [i.image for i, _ in used], [p for _, p in used], base, axes=used[0][0].axes,
            classes=domain.classes, steps=args.steps, seed=args.seed,
            corrects=model if number > 1 else None,
        )  # fmt: skip
        seconds = time.perf_counter() - began
        model = result.model
        entry = {
            "domain": domain.name, "round": number, "strokes": strokes,
            "dice": dice([found_by(model, i) for i in val], val),
            "forest": forest_dice(train, painted, val) if args.forest else None,
            "verdict": result.verdict.as_dict(), "seconds": round(seconds, 1),
            "training": result.record["refined"]["seconds"], "steps": args.steps,
            "share": result.record["refined"]["share"],
            "seed": args.seed,
        }  # fmt: skip
        log(args, entry)
    if args.save:
        from unet_studio.models.model import save_model

        args.save.mkdir(parents=True, exist_ok=True)
        save_model(model, args.save / f"{domain.name}.safetensors")


def run_full(domain: Domain, args: argparse.Namespace) -> None:
    """Train the same network on the full labels of the same images, holding to nothing old."""
    train, val = (read_items(args.data, domain, part) for part in ("train", "val"))
    labels = [i.truth.astype(np.uint8) + 1 for i in train]
    steps = args.steps * args.full
    result = refine(
        [i.image for i in train], labels, domain.base, axes=train[0].axes,
        classes=domain.classes, steps=steps, seed=args.seed, evaluations=1, share=1.0, trust=0.0,
        rehearse=0,
    )  # fmt: skip
    value = dice([found_by(result.model, i) for i in val], val)
    log(args, {"domain": domain.name, "round": "full", "dice": value, "steps": steps})


def run_poison(domain: Domain, args: argparse.Namespace) -> None:
    """See whether strokes of random classes are ever adopted."""
    train = read_items(args.data, domain, "train")
    base = load_model(domain.base)
    # A new last layer has found nothing yet.
    new = domain.classes is not None
    found = [np.zeros(i.truth.shape, bool) if new else found_by(base, i) for i in train]
    for seed in range(args.seed, args.seed + args.poison):
        annotator = Annotator(planes([i.truth for i in train]), seed, poison=True)
        for _ in range(2):
            annotator.paint(planes(found))
        corrected = None
        for number in (2, 3):  # rounds of strokes; the third on the errors of what came of two
            painted = stacked(annotator.painted, train)
            used = [(i, p) for i, p in zip(train, painted, strict=True) if p.any()]
            result = refine(
                [i.image for i, _ in used], [p for _, p in used], base, axes=used[0][0].axes,
                classes=domain.classes, steps=args.steps, seed=seed, evaluations=2,
                corrects=corrected,
            )  # fmt: skip
            verdict = result.verdict.as_dict()
            log(
                args, {"domain": domain.name, "poison": seed, "rounds": number, "verdict": verdict}
            )
            corrected = result.model
            annotator.paint(planes([found_by(corrected, i) for i in train]))


def run_forgetting(args: argparse.Namespace) -> None:
    """Score refined models on the bundled model's own images."""
    from PIL import Image

    from unet_studio import segment
    from unet_studio.objects.evaluation import evaluate, pool

    paths = sorted((args.data / "dsb2018_fluo" / "val" / "images").glob("*.png"))[:: args.every]
    models = {"nuclei": load_model("nuclei")}
    models |= {p.stem: load_model(str(p)) for p in sorted(args.save.glob("*.safetensors"))}
    for name, model in models.items():
        if model.card.representation != "objects":
            continue
        scores = []
        for path in paths:
            truth = np.asarray(Image.open(path.parent.parent / "masks" / path.name))
            image = np.asarray(Image.open(path))
            scores.append(evaluate(segment(image, model, measure=False).labels, truth))
        total = pool(scores)
        entry = {"forgetting": name, "ap": total.ap(0.5), "mean_ap": total.mean_ap}
        log(args, entry | {"images": len(paths)})


def log(args: argparse.Namespace, entry: dict[str, Any]) -> None:
    """Append one measurement."""
    print(json.dumps(entry), flush=True)
    with args.log.open("a") as file:
        file.write(json.dumps(entry) + "\n")


def main() -> None:
    """Parse the command line, measure, report."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--domains", nargs="*", default=list(DOMAINS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=60, help="of each round's training")
    parser.add_argument("--full", type=int, default=0, help="full labels, so many times the steps")
    parser.add_argument(
        "--forest", action=argparse.BooleanOptionalAction, default=True,
        help="compare with a random forest (needs scikit-learn)",
    )  # fmt: skip
    parser.add_argument("--poison", type=int, default=0, help="trials with random classes")
    parser.add_argument("--forgetting", action="store_true", help="score models of --save")
    parser.add_argument("--every", type=int, default=1, help="of the forgetting's images")
    parser.add_argument("--save", type=Path, help="folder for the last round's models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", type=Path, default=Path("refine.jsonl"))
    parser.add_argument("--report", type=Path, help="write the table of the log, measure nothing")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.report:
        from refine_report import report

        args.report.write_text(report(args.log))
    elif args.forgetting:
        run_forgetting(args)
    else:
        for name in args.domains:
            for wanted, run in ((args.poison, run_poison), (args.full, run_full)):
                if wanted:
                    run(DOMAINS[name], args)
            if not (args.poison or args.full):
                run_domain(DOMAINS[name], args)


if __name__ == "__main__":
    main()
