"""The page that ``refine.py --report`` writes from a log of measurements."""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import Any

import torch

from refine_domains import DOMAINS

_NOTES = [
    "A simulated annotator paints at most ten strokes of 3 to 5 pixels width per round, in the",
    "largest errors of the model at hand. Each round starts from the base model with all strokes,",
    "and is told whose result the latest correct.",
    "*Forest* is scikit-image's trainable segmentation (multiscale features, random forest) on",
    "the same strokes. Dice of the foreground, pooled over the pixels of images that were not",
    "painted on. *Held back* is what the guard measured, *kept* the share of what the base was",
    "sure of that the new model still says where nothing was painted.",
]


def report(path: Path) -> str:
    """Return the page, as Markdown.

    Parameters
    ----------
    path : Path
        Log of ``refine.py``; of measurements made twice the last one counts.
    """
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    # What stands between the marks is a part of docs/how-to/refine.md.
    lines = ["# Refining from strokes", "", "<!-- --8<-- [start:table] -->", *_NOTES, ""]
    for name, domain in DOMAINS.items():
        own = {e["round"]: e for e in entries if e.get("domain") == name and "round" in e}
        if own:
            what = f", last layer new ({', '.join(domain.classes)})" if domain.classes else ""
            lines += [f"## {name}: {domain.title}", "", f"Base: `{domain.base}`{what}.", ""]
            lines += [*_table(own), ""]
    lines += ["<!-- --8<-- [end:table] -->", ""]
    lines += _poison([e for e in entries if "poison" in e])
    lines += _forgetting([e for e in entries if "forgetting" in e])
    lines += [
        f"Machine: {platform.machine()}, 2 CPU cores, shared with other work while measuring: "
        "seconds are upper limits. Steps per round are fixed, not time.",
        f"Versions: Python {platform.python_version()}, torch {torch.__version__}.",
        "Command: `python benchmarks/refine.py --data ../shared/data`, see there for its parts.",
    ]
    return "\n".join(lines) + "\n"


def _table(rounds: dict[Any, dict[str, Any]]) -> list[str]:
    lines = [
        "| round | Dice | of full labels | forest | difference | held back: before, after "
        "| chance | kept | finding |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    full = rounds.get("full")
    for number, entry in sorted(rounds.items(), key=lambda item: str(item[0])):
        if "forest" not in entry:
            title = "base model" if number == 0 else "full labels"
            title += f" ({entry['steps']} steps)" if "steps" in entry else ""
            ratio = _ratio(entry, full) if number == 0 else ""
            lines.append(f"| {title} | {entry['dice']:.3f} | {ratio} | | | | | | |")
            continue
        verdict = entry["verdict"]
        forest, gap = "not run", ""
        if entry["forest"] is not None:
            forest, gap = f"{entry['forest']:.3f}", f"{entry['dice'] - entry['forest']:+.3f}"
        kept = verdict.get("kept")
        judged = chance = ""
        if verdict["old"] is not None:
            judged = f"{verdict['old']:.2f}, {verdict['new']:.2f} ({verdict['regions']})"
            chance = f"{verdict['chance']:.3f}"
        lines.append(
            f"| {number} | {entry['dice']:.3f} | {_ratio(entry, full)} | {forest} | {gap} | "
            f"{judged} | {chance} | {'' if kept is None else f'{kept:.2f}'} | "
            f"{verdict['finding']} |"
        )
    return lines


def _ratio(entry: dict[str, Any], full: dict[str, Any] | None) -> str:
    return "" if full is None else f"{entry['dice'] / full['dice']:.2f}"


def _poison(entries: list[dict[str, Any]]) -> list[str]:
    if not entries:
        return []
    lines = ["## Strokes of random classes", ""]
    for name, rounds in dict.fromkeys((e["domain"], e["rounds"]) for e in entries):
        own = [e["verdict"] for e in entries if (e["domain"], e["rounds"]) == (name, rounds)]
        found = [v["finding"] for v in own]
        counts = ", ".join(f"{found.count(f)} {f}" for f in sorted(set(found)))
        judged = sum(v["regions"] > 0 for v in own)
        lines.append(
            f"- {name}, {rounds} rounds: {found.count('better')} of {len(own)} adopted ({counts}; "
            f"in {judged} there was enough to judge by)"
        )
    return [*lines, ""]


def _forgetting(entries: list[dict[str, Any]]) -> list[str]:
    if not entries:
        return []
    lines = ["## What is forgotten", ""]
    lines += [f"On {entries[0]['images']} images of the bundled model's own val split.", ""]
    lines += ["| model | AP at IoU 0.5 | mean AP |", "|---|---|---|"]
    for entry in entries:
        title = entry["forgetting"]
        title = title if title == "nuclei" else f"refined on {title}"
        lines.append(f"| {title} | {entry['ap']:.3f} | {entry['mean_ap']:.3f} |")
    return [*lines, ""]
