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
from pathlib import Path
from typing import Any

import numpy as np

from click_robot import GOALS, KINDS, NUCLEI, Ours, Seeded, clicks_needed, targets_of
from unet_studio import ClickSession
from unet_studio.clicks.network import ClickNetwork

RESULTS = Path(__file__).parent / "results" / "clicks.md"


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
