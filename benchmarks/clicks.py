"""How many clicks it takes: a robot that clicks, on objects of many kinds.

    python benchmarks/clicks.py --data ../shared/data

The robot clicks the middle of the largest error (the maximum of the distance transform of
what is missing and of what is too much), first of the object itself, until the IoU with
the truth is reached, 20 times at most; an object that is not reached counts 20. This is
how interactive methods are compared (Sofiiuk et al., arXiv:2102.06583), but it flatters
them, so a noisy robot clicks as well: anywhere in the inner two thirds of the error, and
beside that by a pixel or two. Each object has a session of its own.

scikit-image's random walker and seeded watershed get clicks of the same robot, and what a
user would have to tell them besides: a window of twice the object around the object, whose
frame is background.

    python benchmarks/clicks.py --parts DIR --only "bright field" "histology"

measures some kinds and keeps the figures in DIR; without ``--only`` kinds that are there
already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from unet_studio import ClickSession, read_image
from unet_studio.clicks.network import ClickNetwork

MOST_CLICKS = 20
GOALS = (0.80, 0.85)
LEAST_AREA = 30
RESULTS = Path(__file__).parent / "results" / "clicks.md"
NUCLEI = "nuclei, fluorescence"


@dataclass(frozen=True)
class Kind:
    """Objects of one kind: where they are, and how labels become objects.

    Attributes
    ----------
    folders : tuple of str
        Below the data, with ``images`` and ``masks`` of the same names.
    classes : tuple of int
        Pixels of these values are objects, one per connected piece; empty: the values
        are the objects' numbers.
    first_plane : int
        Of a stack whose lower planes the model was trained on: the first that counts.
    """

    folders: tuple[str, ...]
    classes: tuple[int, ...] = ()
    first_plane: int = 0


KINDS = {
    NUCLEI: Kind(("dsb2018_fluo/val", "dsb2018_fluo_large/val")),
    "nuclei, histology": Kind(("dsb2018_histology/val",)),
    "nuclei, bright field": Kind(("dsb2018_brightfield/val",)),
    "cells, phase contrast": Kind(("ctc_phc_c2dl_psc/val",), (1,)),
    "mitochondria, EM": Kind(("vnc_sstem_multiclass/val",), (2,)),
    "cells, EM": Kind(("isbi2012_em/val",), (0,)),
    "ovule nuclei, by slice": Kind(("ovule_nuclei_3d",), first_plane=66),
    "ovule cells, by slice": Kind(("ovule_cells_3d",), first_plane=22),
    "hippocampus, by slice": Kind(("msd_hippocampus_3d/val",), (1, 2)),
}


@dataclass(frozen=True)
class Target:
    """One object on one plane: (Y, X) or (C, Y, X) pixels, and where it is."""

    name: str
    image: NDArray[Any]
    truth: NDArray[np.bool_]


def planes_of(folder: Path, first: int = 0) -> Iterator[tuple[str, NDArray[Any], NDArray[Any]]]:
    """Yield name, image (C, Y, X) and labels (Y, X) of every plane of a folder."""
    for path in sorted((folder / "images").iterdir()):
        mask_path = next((folder / "masks").glob(path.name.partition(".")[0] + ".*"))
        volume, mask = read_image(path), read_image(mask_path)
        pixels, labels = volume.read(), mask.read()[0]
        if labels.ndim == 2:
            yield path.name, pixels, labels
            continue
        for z in range(first, labels.shape[0]):
            yield f"{path.name} z{z}", pixels[:, z], labels[z]


def targets_of(data: Path, kind: Kind, count: int, seed: int = 0) -> list[Target]:
    """Draw objects of a kind: planes in turn, so that crowded ones do not count for all."""
    generator = np.random.default_rng(seed)
    planes = [p for folder in kind.folders for p in planes_of(data / folder, kind.first_plane)]
    per_plane: list[list[Target]] = []
    for name, image, labels in planes:
        whole = labels.astype(np.int64)
        if kind.classes:
            whole = ndimage.label(np.isin(labels, kind.classes))[0]
        found = []
        for number, box in enumerate(ndimage.find_objects(whole), 1):
            if box is None:
                continue
            pieces, pieces_count = ndimage.label(whole[box] == number)
            sizes = np.bincount(pieces.ravel(), minlength=2)[1:]
            if pieces_count and sizes.max() >= LEAST_AREA:
                truth = np.zeros(labels.shape, bool)
                truth[box] = pieces == 1 + int(sizes.argmax())
                found.append(Target(f"{name} {number}", image, truth))
        generator.shuffle(found)  # type: ignore[arg-type]
        if found:
            per_plane.append(found)
    generator.shuffle(per_plane)  # type: ignore[arg-type]
    turns = (
        p[turn] for turn in range(max(map(len, per_plane))) for p in per_plane if turn < len(p)
    )
    return [target for target, _ in zip(turns, range(count), strict=False)]


Click = tuple[tuple[int, int], bool]


def robot(mask: NDArray[np.bool_], truth: NDArray[np.bool_], noise: Any) -> Click | None:
    """Return where to click next, and whether on the object; None if nothing is wrong.

    Parameters
    ----------
    noise : numpy.random.Generator or None
        Of the noisy robot.
    """
    found: list[tuple[float, NDArray[Any], bool]] = []
    for error, positive in ((truth & ~mask, True), (mask & ~truth, False)):
        if error.any():
            rows, columns = ndimage.find_objects(error.astype(np.uint8))[0]
            depth = np.zeros(error.shape, np.float32)
            inner = ndimage.distance_transform_edt(np.pad(error[rows, columns], 1))
            depth[rows, columns] = inner[1:-1, 1:-1]
            found.append((float(depth.max()), depth, positive))
    if not found:
        return None
    deepest, depth, positive = max(found, key=lambda f: f[0])
    if noise is None:
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
        return (int(y), int(x)), positive
    # The piece of the error in which it is deepest, but not its middle.
    pieces, _ = ndimage.label(depth > 0)
    piece = pieces == pieces[np.unravel_index(int(depth.argmax()), depth.shape)]
    ys, xs = np.nonzero(piece & (depth >= deepest / 3))
    place = noise.integers(len(ys))
    y, x = np.rint(np.add((ys[place], xs[place]), noise.normal(0, 1, 2))).astype(int)
    inside = 0 <= y < piece.shape[0] and 0 <= x < piece.shape[1] and piece[y, x]
    return ((int(y), int(x)) if inside else (int(ys[place]), int(xs[place]))), positive


Method = Callable[[list[Click]], NDArray[np.bool_]]


def clicks_needed(method: Method, target: Target, noise: Any) -> tuple[list[int], list[float]]:
    """Click until the best goal is reached; return clicks for each goal, and all IoUs."""
    mask = np.zeros(target.truth.shape, bool)
    clicks: list[Click] = []
    ious: list[float] = []
    while len(clicks) < MOST_CLICKS and (not ious or ious[-1] < max(GOALS)):
        click = robot(mask, target.truth, noise)
        if click is None:
            break
        clicks.append(click)
        mask = method(clicks)
        ious.append(float((mask & target.truth).sum() / (mask | target.truth).sum()))
    needed = [next((n for n, v in enumerate(ious, 1) if v >= g), MOST_CLICKS) for g in GOALS]
    return needed, ious


class Ours:
    """A session of its own for each object."""

    def __init__(self, target: Target, network: ClickNetwork) -> None:
        image = target.image
        axes = "CYX" if len(image) > 1 else "YX"
        self.session = ClickSession(image if len(image) > 1 else image[0], network, axes=axes)
        self.shape = target.truth.shape
        self.seconds: list[float] = []
        self.corrected: list[bool] = []

    def __call__(self, clicks: list[Click]) -> NDArray[np.bool_]:
        """Return the mask after the last of the clicks."""
        position, positive = clicks[-1]
        found = self.session.click(position, positive)
        self.seconds.append(found.seconds)
        self.corrected.append(found.corrected)
        mask = np.zeros(self.shape, bool)
        mask[found.region] = found.mask
        return mask


class Seeded:
    """A method of scikit-image in a window of twice the object, whose frame is background."""

    EDGE = 96

    def __init__(self, target: Target, method: str) -> None:
        from skimage.transform import resize

        box = ndimage.find_objects(target.truth.astype(np.uint8))[0]
        half = max(s.stop - s.start for s in box)
        middle = [(s.start + s.stop) // 2 for s in box]
        limits = zip(middle, target.truth.shape, strict=True)
        self.window = tuple(slice(max(0, m - half), min(n, m + half)) for m, n in limits)
        pixels = target.image[:, *self.window].astype(np.float64)
        low, high = np.percentile(pixels, (1, 99))
        pixels = np.clip((pixels - low) / max(high - low, 1e-9), 0, 1)
        self.size = pixels.shape[1:]
        self.factor = min(1.0, self.EDGE / max(self.size))
        small = [max(8, round(n * self.factor)) for n in self.size]
        self.pixels = np.stack([resize(p, small, anti_aliasing=True) for p in pixels])
        self.method, self.shape = method, target.truth.shape

    def __call__(self, clicks: list[Click]) -> NDArray[np.bool_]:
        """Return the mask after all of the clicks."""
        from skimage.transform import resize

        seeds = np.zeros(self.pixels.shape[1:], np.int32)
        seeds[[0, -1]] = seeds[:, [0, -1]] = 2
        for (y, x), positive in clicks:
            at = [(y - self.window[0].start), (x - self.window[1].start)]
            pairs = zip(at, self.size, seeds.shape, strict=True)
            row, column = (int(np.clip((a + 0.5) * n / m, 0, n - 1)) for a, m, n in pairs)
            seeds[max(0, row - 1) : row + 2, max(0, column - 1) : column + 2] = 2 - positive
        found = resize((self.divide(seeds) == 1).astype(float), self.size, order=1) > 0.5
        mask = np.zeros(self.shape, bool)
        mask[self.window] = found
        return mask

    def divide(self, seeds: NDArray[np.int32]) -> NDArray[Any]:
        """Return which seed every pixel belongs to."""
        from skimage.segmentation import random_walker, watershed

        if not (seeds == 1).any():
            return np.zeros_like(seeds)
        if self.method == "watershed":
            slopes = [ndimage.gaussian_gradient_magnitude(p, 1.0) for p in self.pixels]
            return watershed(np.max(slopes, axis=0), seeds)
        stacked = np.moveaxis(self.pixels, 0, -1)
        return random_walker(stacked, seeds, beta=130, mode="cg_j", channel_axis=-1)


def measure(
    data: Path, name: str, network: ClickNetwork, count: int, peers: int
) -> dict[str, Any]:
    """Return the figures of one kind of object."""
    targets = targets_of(data, KINDS[name], count)
    figures: dict[str, Any] = {"objects": len(targets), "began": time.strftime("%F %T")}
    for title in ("robot", "noisy robot"):
        needed, reached, seconds, corrected = [], [], [], []
        for index, target in enumerate(targets):
            noise = np.random.default_rng(index) if title == "noisy robot" else None
            ours = Ours(target, network)
            clicks, ious = clicks_needed(ours, target, noise)
            needed.append(clicks)
            reached.append(clicks[0] <= 5)
            seconds += ours.seconds
            corrected += ours.corrected
            figures.setdefault(f"{title} names", []).append(
                [target.name, *clicks, round(ious[0], 3), round(max(ious), 3)]
            )
        figures[title] = {
            "clicks": np.mean(needed, axis=0).tolist(),
            "within_5": float(np.mean(reached)),
            "corrected": float(np.mean(corrected)),
            "ms": 1000 * float(np.median(seconds)),
        }
        figures[f"{title} subset"] = np.mean(needed[:peers], axis=0).tolist()
    for peer in ("random walker", "watershed") if peers else ():
        found = [clicks_needed(Seeded(t, peer), t, None)[0] for t in targets[:peers]]
        figures[peer] = np.mean(found, axis=0).tolist()
    return figures


def latency(network: ClickNetwork, data: Path, objects: int = 24) -> dict[str, float]:
    """Return milliseconds per click on a dask image of 16,384 x 16,384 pixels."""
    import dask.array as da

    target = targets_of(data, KINDS[NUCLEI], 1)[0]
    tile = np.tile(target.image[0][:256, :256], (4, 4))
    image = da.block([[da.from_array(tile, chunks=1024)] * 16] * 16)
    size = target.image[0][:256, :256].shape
    session = ClickSession(image, network)
    places = np.argwhere(target.truth[:256, :256])
    generator = np.random.default_rng(0)
    first: list[float] = []
    later: list[float] = []
    for index in range(objects + 3):
        y, x = places[generator.integers(len(places))] + generator.integers(0, 60, 2) * size
        began = time.perf_counter()
        session.click((y, x))
        middle = time.perf_counter()
        session.click((y + 15, x + 15), positive=False)
        session.click((y, x + 2))
        end = time.perf_counter()
        if index >= 3:  # the first ones warm up
            first.append(1000 * (middle - began))
            later += [1000 * (end - middle) / 2] * 2
        session.reset()
    every = first + later
    return {
        "median": float(np.median(every)),
        "p95": float(np.percentile(every, 95)),
        "first": float(np.median(first)),
        "later": float(np.median(later)),
    }


def mark(value: float, target: float, least: bool = False) -> str:
    """Return a figure with its target, in bold where it is not reached."""
    good = value >= target if least else value <= target
    return (
        f"{value:.2f} ({'≥' if least else '≤'} {target})"
        if good
        else f"**{value:.2f}** ({target})"
    )


def table(parts: dict[str, Any], network: ClickNetwork, arguments: Any) -> str:
    """Return the page of results."""
    kinds = {name: parts[name] for name in KINDS if name in parts}
    lines = [
        "# Clicks that an object takes",
        "",
        "Mean number of clicks to an IoU of 0.80 / 0.85, at most 20; share of objects that reach "
        "0.80 within 5. What robot, noisy robot and the two others are is described in "
        "`benchmarks/clicks.py`. Random walker and watershed are measured on the first "
        f"{arguments.peers} objects of each kind, beside ours on the same. Bold: a target that is "
        "missed. The objects are of images, or planes, that the model was not trained on; how the "
        "session chooses its distance was settled on objects drawn from some of the same images. "
        "With so few objects of a kind, half a click more or less is chance.",
        "",
        "| kind | objects | robot | within 5 | noisy robot | within 5 | corrected | "
        "ours / random walker / watershed, to 0.80 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, part in kinds.items():
        one, two = part["robot"], part["noisy robot"]
        peers = [part["robot subset"][0], part["random walker"][0], part["watershed"][0]]
        bold = "" if peers[0] < min(peers[1:]) else "**"
        lines.append(
            f"| {name} | {part['objects']} | {pair(one)} | {one['within_5']:.0%} | {pair(two)} "
            f"| {two['within_5']:.0%} | {one['corrected']:.0%} "
            f"| {bold}{' / '.join(f'{p:.2f}' for p in peers)}{bold} |"
        )
    if missing := [name for name in KINDS if name not in kinds]:
        lines += ["", f"Not measured: {'; '.join(missing)}."]
    lines += ["", *summary(kinds)]
    if "latency" in parts:
        ms = parts["latency"]
        lines += [
            "",
            "Milliseconds per click on a dask image of 16,384² pixels, "
            f"{arguments.threads} threads: median {ms['median']:.0f} (target 60), 95th "
            f"percentile {ms['p95']:.0f} (120); first clicks {ms['first']:.0f}, "
            f"later ones {ms['later']:.0f}. Load while measured: "
            f"{ms.get('load', 0):.1f}.",
        ]
    model = network.model
    lines += [
        "",
        f"Model: {model.card.name}, {model.card.parameters:,} parameters, SHA-256 "
        f"`{model.sha256[:16]}…`. Machine: {platform.machine()}, CPU; Python "
        f"{platform.python_version()}.",
        f"Command: `python benchmarks/clicks.py --data ../shared/data --objects "
        f"{arguments.objects} --peers {arguments.peers} --threads {arguments.threads}`",
        "",
    ]
    return "\n".join(lines)


def pair(figures: dict[str, Any]) -> str:
    """Return clicks to both goals."""
    return " / ".join(f"{c:.2f}" for c in figures["clicks"])


def summary(kinds: dict[str, Any]) -> list[str]:
    """Return the figures that have targets."""
    others = [part for name, part in kinds.items() if name != NUCLEI]
    lines = ["| figure (target) | robot | noisy robot |", "|---|---|---|"]
    rows = ("robot", "noisy robot")
    if NUCLEI in kinds:
        for goal, limit in ((0, 1.2), (1, 1.6)):
            cells = [mark(kinds[NUCLEI][r]["clicks"][goal], limit) for r in rows]
            lines.append(f"| {NUCLEI}, clicks to {GOALS[goal]:.2f} | {' | '.join(cells)} |")
    if others:
        for goal, limit in ((0, 2.5), (1, 3.5)):
            cells = [mark(np.mean([p[r]["clicks"][goal] for p in others]), limit) for r in rows]
            lines.append(f"| all other kinds, clicks to {GOALS[goal]:.2f} | {' | '.join(cells)} |")
    total = sum(p["objects"] for p in kinds.values())
    cells = [
        mark(sum(p[r]["within_5"] * p["objects"] for p in kinds.values()) / total, 0.95, True)
        for r in rows
    ]
    lines.append(f"| share of all objects within 5 clicks to 0.80 | {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure what is asked for, and write the table of all that was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--model", default="clicks")
    parser.add_argument("--objects", type=int, default=40, help="of each kind")
    parser.add_argument("--peers", type=int, default=12, help="of these for the other methods")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", help='kinds, or "latency"')
    parser.add_argument("--parts", type=Path, help="folder of figures measured before")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(args.threads)
    network = ClickNetwork(args.model, "cpu")
    parts: dict[str, Any] = {}
    store = args.parts / "parts.json" if args.parts else None
    if store is not None and store.exists():
        parts = json.loads(store.read_text())
    wanted = [n for n in (*KINDS, "latency") if (n in args.only if args.only else n not in parts)]
    for name in wanted:
        began = time.perf_counter()
        if name == "latency":
            parts[name] = {**latency(network, args.data), "load": load()}
        else:
            parts[name] = measure(args.data, name, network, args.objects, args.peers)
        shown = {k: v for k, v in parts[name].items() if not k.endswith("names")}
        print(f"{name}: {time.perf_counter() - began:.0f} s {json.dumps(shown)}", flush=True)
        if store is not None:
            args.parts.mkdir(parents=True, exist_ok=True)
            store.write_text(json.dumps(parts))
    page = table(parts, network, args)
    print(page)
    args.output.write_text(page, encoding="utf-8")


def load() -> float:
    """Return how many processes wanted a core in the last minute."""
    import os

    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


if __name__ == "__main__":
    main()
