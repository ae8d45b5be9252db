"""The table that ``inference.py`` writes."""

from __future__ import annotations

import argparse
import statistics
import sys
from typing import Any

_NOTES = [
    "Same network, weights, image and threads for all. Time: from the image in memory to float16",
    "probabilities in memory. For U-Net Studio that is the public `predict` on the uint8 image,",
    "so measuring and normalising it is included; the others are handed the normalised float32",
    "tensor, and their logits are activated in bands of rows. Medians of the rounds (A B C A B C",
    "in one process, after a warm-up), with minimum and maximum. Changed decisions (likeliest",
    "class, or foreground above 0.5) and largest difference of a probability are against the",
    "float32 forward pass of the whole image; all in float16 probabilities, whose steps are up to",
    "0.0005. Memory: growth of the peak resident size during one run in a process of its own,",
    "image, input tensor and network being there before. *Same numerics as ours*: bfloat16,",
    "channels last, batch normalisation folded. *8-bit integers as ours*: their sliding window",
    "around the network as OpenVINO runs it for ours. Sliding windows are 512 × 512, Gaussian",
    "weights; nnU-Net without mirroring. *Best back end*: what `predict` takes by itself, with",
    "OpenVINO installed.",
]
_MONAI = ("monai-0.25-b1", "monai-0.25-b4")
# Title, methods on either side (the fastest of each counts), figure, target. "speed" is
# the right side's time over the left's, "time" and "flips" are left over right.
_RATIOS: list[tuple[str, str, tuple[str, ...], tuple[str, ...], str]] = [
    ("speed over MONAI 0.25, plain torch, automatic precision", "speed",
     ("ours-balanced-auto",), _MONAI, "≥ 3.0"),
    ("speed over MONAI 0.25, best back end", "speed", ("ours-balanced-best",), _MONAI, "≥ 4.5"),
    ("speed over MONAI 0.25, best back end, `exact`", "speed", ("ours-exact-best",), _MONAI, ""),
    ("speed over MONAI 0.5, best back end", "speed", ("ours-balanced-best",),
     ("monai-0.5-b1", "monai-0.5-b4"), ""),
    ("speed over nnU-Net, plain torch, automatic precision", "speed", ("ours-balanced-auto",),
     ("nnunet",), "≥ 6.5"),
    ("speed over nnU-Net, best back end", "speed", ("ours-balanced-best",), ("nnunet",), "≥ 9"),
    ("speed over nnU-Net, best back end, `exact`", "speed", ("ours-exact-best",), ("nnunet",),
     ""),
    ("speed of the best back end over plain torch, `exact`", "speed", ("ours-exact-best",),
     ("ours-exact-float32", "ours-exact-bfloat16"), ""),
    ("speed in 8-bit integers over MONAI 0.25", "speed", ("ours-balanced-int8",), _MONAI, ""),
    ("speed in 8-bit integers over nnU-Net", "speed", ("ours-balanced-int8",), ("nnunet",), ""),
    ("speed in 8-bit integers over MONAI 0.25 in the same", "speed", ("ours-balanced-int8",),
     ("monai-0.25-b1-int8", "monai-0.25-b4-int8"), ""),
    ("speed in 8-bit integers over nnU-Net in the same", "speed", ("ours-balanced-int8",),
     ("nnunet-int8",), ""),
    ("speed in 8-bit integers over plain torch, `exact`", "speed", ("ours-exact-int8",),
     ("ours-exact-float32", "ours-exact-bfloat16"), ""),
    ("speed over MONAI 0.25, same numerics", "speed", ("ours-balanced-bfloat16",),
     ("monai-0.25-b1-half", "monai-0.25-b4-half"), ""),
    ("speed over nnU-Net, same numerics", "speed", ("ours-balanced-bfloat16",),
     ("nnunet-half",), ""),
    ("time of `balanced` / whole image, bfloat16", "time", ("ours-balanced-bfloat16",),
     ("whole-half",), "≤ 1.15"),
    ("time of `balanced` / whole image, float32", "time", ("ours-balanced-float32",),
     ("whole",), "≤ 1.15"),
    ("time of `exact` / whole image, bfloat16", "time", ("ours-exact-bfloat16",),
     ("whole-half",), "≤ 1.45"),
    ("time of `exact` / whole image, float32", "time", ("ours-exact-float32",),
     ("whole",), "≤ 1.45"),
    ("changed decisions, `balanced` / MONAI 0.25, float32", "flips", ("ours-balanced-float32",),
     ("monai-0.25-b1",), "≤ 1"),
    ("changed decisions, `balanced` / MONAI 0.25, bfloat16", "flips",
     ("ours-balanced-bfloat16",), ("monai-0.25-b1-half",), "≤ 1"),
    ("changed decisions, `exact` / nnU-Net, float32", "flips", ("ours-exact-float32",),
     ("nnunet",), "≤ 1"),
    ("changed decisions, `exact` / nnU-Net, bfloat16", "flips", ("ours-exact-bfloat16",),
     ("nnunet-half",), "≤ 1"),
    ("changed decisions, `balanced` / MONAI 0.25, 8-bit integers", "flips",
     ("ours-balanced-int8",), ("monai-0.25-b1-int8",), "≤ 1"),
    ("changed decisions, `exact` / nnU-Net, 8-bit integers", "flips", ("ours-exact-int8",),
     ("nnunet-int8",), "≤ 1"),
    ("changed decisions, `balanced` best back end / MONAI 0.25", "flips",
     ("ours-balanced-best",), ("monai-0.25-b1",), "≤ 1"),
    ("changed decisions, `exact` best back end / nnU-Net", "flips", ("ours-exact-best",),
     ("nnunet",), "≤ 1"),
]  # fmt: skip


def report(results: dict[str, Any], args: argparse.Namespace, machine: dict[str, Any]) -> str:
    """Return the whole page, as Markdown.

    Parameters
    ----------
    results : dict
        For each model ``parameters`` and ``methods``: what was measured of each.
    args : argparse.Namespace
        The options of ``inference.py``.
    machine : dict
        As :func:`measuring.machine` returns it, and the ``load`` before.
    """
    lines = [f"# Tiled inference, {args.size} × {args.size} pixels, {machine['device']}", ""]
    lines += [*_NOTES, ""]
    for name, model in results.items():
        lines += [f"## {name} ({model['parameters'] / 1e6:.2f} M parameters)", ""]
        lines += [*_table(model["methods"], args.size**2), ""]
    lines += ["## Ratios", "", *_ratio_table({n: m["methods"] for n, m in results.items()}), ""]
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    lines += [
        f"{args.rounds} rounds. Machine: {machine['processor']}, {machine['cores']} cores, "
        f"{machine['threads']} threads used; {machine['device']}. Load average before: "
        f"{machine['load']:.1f}.",
        f"Versions: {versions}.",
        f"Command: `{' '.join(['python benchmarks/inference.py', *sys.argv[1:]])}`",
    ]
    return "\n".join(lines) + "\n"


def _table(methods: dict[str, Any], pixels: int) -> list[str]:
    on_device = any("device_memory" in m for m in methods.values())
    head = ["method", "s: median (min to max)", "/ whole image", "Mpx/s", "changed decisions",
            "largest difference", "memory", "bytes/px"]  # fmt: skip
    head += ["GPU memory"] if on_device else []
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    whole = median(methods, "whole")
    for key, method in methods.items():
        title = f"{method['title']} ({method['remark']})" if method.get("remark") else None
        cells = [title or method["title"]]
        seconds = median(methods, key)
        if seconds is None:
            cells += [method.get("error", "not run"), *[""] * (len(head) - 2)]
        else:
            spread = f"{min(method['seconds']):.2f} to {max(method['seconds']):.2f}"
            cells += [
                f"{seconds:.2f} ({spread})",
                f"{seconds / whole:.2f}" if whole else "",
                f"{pixels / seconds / 1e6:.2f}",
                f"{100 * method['flips']:.4f} %",
                f"{method['largest']:.4f}",
            ]
            if "memory" in method:
                cells += [
                    f"{method['memory'] / 2**20:.0f} MiB",
                    f"{method['memory'] / pixels:.0f}",
                ]
            else:
                cells += ["not measured", ""]
            if on_device:
                cells.append(f"{method['device_memory'] / 2**20:.0f} MiB")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _ratio_table(models: dict[str, dict[str, Any]]) -> list[str]:
    lines = [f"| figure | target | {' | '.join(models)} |", "|---" * (len(models) + 2) + "|"]
    for title, kind, left, right, target in _RATIOS:
        values = [_ratio(methods, kind, left, right) for methods in models.values()]
        lines.append(f"| {title} | {target} | {' | '.join(values)} |")
    return lines


def _ratio(
    methods: dict[str, Any], kind: str, left: tuple[str, ...], right: tuple[str, ...]
) -> str:
    if kind == "flips":
        a, b = (methods.get(keys[0], {}).get("flips") for keys in (left, right))
        if a is None or b is None:
            return "–"
        return f"{a / b:.2f}" if b else f"{100 * a:.4f} % / 0"
    a, b = (_fastest(methods, keys) for keys in (left, right))
    if a is None or b is None:
        return "–"
    return f"{b / a:.2f}" if kind == "speed" else f"{a / b:.2f}"


def _fastest(methods: dict[str, Any], keys: tuple[str, ...]) -> float | None:
    found = [s for s in (median(methods, key) for key in keys) if s is not None]
    return min(found, default=None)


def median(methods: dict[str, Any], key: str) -> float | None:
    """Return a method's median time in seconds; None if it was not timed."""
    method = methods.get(key, {})
    if "error" in method or not method.get("seconds"):
        return None
    return float(statistics.median(method["seconds"]))
