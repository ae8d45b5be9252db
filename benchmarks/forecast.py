"""Compare the memory forecast that users see before a run with what the run takes.

    python benchmarks/forecast.py

runs each case in a process of its own and compares the growth of its peak
resident memory with the forecast of the plan. The image lies in memory before
the run, as a layer's does, and does not count.
"""

from __future__ import annotations

import argparse
import platform
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np

CASES = [
    # model, axes, shape, tile edge
    ("nuclei", "YX", (1024, 1024), None),
    ("nuclei", "YX", (2048, 2048), None),
    ("nuclei", "YX", (4096, 4096), None),
    ("nuclei", "YX", (4096, 4096), 1024),
    ("nuclei", "ZYX", (16, 1024, 1024), None),
    ("nuclei", "TYX", (16, 1024, 1024), None),
    ("random:resnet18?representation=binary", "YX", (2048, 2048), None),
    ("random:unet-tiny?ndim=3", "ZYX", (96, 192, 192), None),
]
RESULTS = Path(__file__).parent / "results" / "memory_forecast.md"


def synthetic(shape: tuple[int, ...]) -> np.ndarray:
    """Return blurred discs on noise: something to find in every plane."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    plane = 40 + 150 * (np.sin(x / 9) * np.sin(y / 9) > 0.4)
    return (plane + rng.integers(0, 30, shape)).astype(np.uint8)


def measure(index: int) -> None:
    """Run one case in this process; print forecast and growth in bytes."""
    from unet_studio import load_model, segment
    from unet_studio.images.volume import as_volume
    from unet_studio.inference.plan import resolve
    from unet_studio.recipe import Recipe, Tiling

    name, axes, shape, tile = CASES[index]
    model = load_model(name)
    small = tuple(min(n, 64) for n in shape)
    segment(synthetic(small), model, axes=axes)  # lazily loaded code does not count
    image = synthetic(shape)
    volume = as_volume(image, axes)
    recipe = Recipe(model=name, axes=axes, tiling=Tiling(tile=tile), device="cpu")
    forecast = resolve(recipe, model.card, volume.info).memory_bytes
    before = peak()
    segment(volume, model, axes=axes, tiling={"tile": tile}, device="cpu")
    print(forecast, peak() - before)


def peak() -> int:
    """Return the largest resident size so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int, help="run one case in this process")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.case is not None:
        measure(args.case)
        return
    lines = [
        "# Memory: forecast against measurement",
        "",
        "Growth of the peak resident size of a process during one `segment` on the CPU.",
        "",
        "| model | axes | shape | tile | forecast | measured | forecast / measured |",
        "|---|---|---|---|---|---|---|",
    ]
    for index, (name, axes, shape, tile) in enumerate(CASES):
        command = [sys.executable, __file__, "--case", str(index)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        forecast, measured = (int(n) for n in done.stdout.split()[-2:])
        size = " × ".join(str(n) for n in shape)
        lines.append(
            f"| {name.partition('?')[0]} | {axes} | {size} | {tile or 'auto'} "
            f"| {forecast / 2**20:.0f} MiB | {measured / 2**20:.0f} MiB "
            f"| {forecast / measured:.2f} |"
        )
        print(lines[-1], flush=True)
    lines += [
        "",
        f"Machine: {platform.machine()}, Python {platform.python_version()}.",
        "Command: `python benchmarks/forecast.py`",
    ]
    args.output.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
