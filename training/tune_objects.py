"""Choose the options of the watershed for the bundled nuclei model.

    python training/tune_objects.py --data ../shared/data --work training/runs

runs the averaged weights of the training's checkpoint over whole images and
scores a grid of watershed options, on images of the ``train`` folders: the
``val`` folders are never looked at. Those held out of the training are 19
images only, too few to tell close options apart; ``--seen`` takes all 221, which
is fair as long as the network does no better on what it has seen (this one does
not: AP@0.5 of fluorescence is 0.81 on both).
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parent))
from train_nuclei import (
    CHECKPOINT,
    HELD_OUT_EVERY,
    WIDTHS,
    held_out_paths,
    read_pair,
    training_paths,
)
from unet_studio.models.networks.unet import UNet
from unet_studio.objects.evaluation import Scores, evaluate, pool
from unet_studio.objects.watershed import WatershedOptions, watershed

STRIDE = 16
GRID = {
    "threshold": (0.3, 0.4, 0.5),
    "split_depth": (0.12, 0.2),
    "smoothing": (0.5, 1.0),
    "boundary_weight": (0.0,),
    "min_confidence": (0.3, 0.45, 0.6),
    "min_size": (6, 12, 20),
}


@dataclass(frozen=True)
class Case:
    """Probabilities (3, Y, X) of one image, float16, and its true labels (Y, X)."""

    probabilities: NDArray[np.float16]
    truth: NDArray[np.int64]


@torch.inference_mode()
def predict(net: torch.nn.Module, image: torch.Tensor) -> NDArray[np.float16]:
    """Run the network over a whole image (3, Y, X), padded to the stride and cropped again."""
    height, width = image.shape[1:]
    padding = (0, -width % STRIDE, 0, -height % STRIDE)
    padded = torch.nn.functional.pad(image[None], padding, mode="reflect")
    probabilities = torch.sigmoid(net(padded))[0, :, :height, :width]
    return probabilities.half().numpy()


def load_network(checkpoint: Path) -> tuple[torch.nn.Module, int]:
    """Return the network with the averaged weights, and the training step they are of."""
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    net = UNet(3, 3, WIDTHS)
    net.load_state_dict(state["average"])
    return net.eval(), int(state["step"])


def cases_of(net: torch.nn.Module, paths: list[Path]) -> list[Case]:
    """Predict images and read their truth."""
    pairs = [read_pair(path) for path in paths]
    return [Case(predict(net, image), truth.numpy()) for image, truth in pairs]


def score(cases: list[Case], options: WatershedOptions) -> Scores:
    """Pool the scores of all images of one set."""
    return pool(evaluate(watershed(c.probabilities, options, "objects"), c.truth) for c in cases)


def main() -> None:
    """Parse the command line, predict, score the grid, and print it, best first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=Path("training/runs"))
    parser.add_argument("--images", type=int, default=None, help="at most so many of each set")
    parser.add_argument("--seen", action="store_true", help="all training images")
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--rows", type=int, default=20)
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    net, step = load_network(args.work / CHECKPOINT)
    paths = {name: held_out_paths(args.data, name) for name in HELD_OUT_EVERY}
    if args.seen:
        paths = {n: sorted(p + training_paths(args.data, n)) for n, p in paths.items()}
    sets = {name: cases_of(net, chosen[: args.images]) for name, chosen in paths.items()}
    chosen_on = list(sets)
    if args.seen:
        seen = training_paths(args.data, "dsb2018_brightfield")[: args.images]
        sets["dsb2018_brightfield"] = cases_of(net, seen)
    images = ", ".join(f"{name} {len(cases)}" for name, cases in sets.items())
    print(f"step {step}; images: {images}; ranked by the mean AP@0.5 of {', '.join(chosen_on)}")
    combinations = [
        WatershedOptions(**dict(zip(GRID, values, strict=True)))
        for values in itertools.product(*GRID.values())
    ]
    table = []
    for options in [WatershedOptions(), *combinations]:
        scores = {name: score(cases, options) for name, cases in sets.items()}
        table.append((float(np.mean([scores[n].ap() for n in chosen_on])), options, scores))
    print("mean   " + " ".join(f"{n[8:]:>23}" for n in sets) + "  (AP@0.5, F1, PQ)  options")
    best_first = sorted(table[1:], key=lambda row: -row[0])
    for mean, options, scores in [table[0], *best_first[: args.rows]]:
        each = " ".join(f"{s.ap():9.3f}{s.f1():7.3f}{s.pq:7.3f}" for s in scores.values())
        print(f"{mean:.4f} {each}  { ({n: getattr(options, n) for n in GRID}) }")
    print("The first line is the defaults.")


if __name__ == "__main__":
    main()
