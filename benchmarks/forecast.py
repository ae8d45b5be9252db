"""Compare the memory forecast that users see before a run with what the run takes.

    python benchmarks/forecast.py

runs each case in a process of its own and compares the growth of its peak
resident memory with the forecast of the plan. The image lies in memory before
the run, as a layer's does, and does not count.
"""

from __future__ import annotations

import argparse
import platform
import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import psutil

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
# "int8" stands for integers in OpenVINO, the others for float32.
BACKENDS = ("torch", "openvino", "int8")
RESULTS = Path(__file__).parent / "results" / "memory_forecast.md"


def synthetic(shape: tuple[int, ...]) -> np.ndarray:
    """Return blurred discs on noise: something to find in every plane."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[: shape[-2], : shape[-1]]
    plane = 40 + 150 * (np.sin(x / 9) * np.sin(y / 9) > 0.4)
    return (plane + rng.integers(0, 30, shape)).astype(np.uint8)


def measure(index: int, backend: str) -> None:
    """Run one case in this process; print forecast and growth in bytes."""
    from unet_studio import load_model, segment
    from unet_studio.images.volume import as_volume
    from unet_studio.inference.plan import resolve
    from unet_studio.recipe import Recipe, Tiling

    name, axes, shape, tile = CASES[index]
    model = load_model(name)
    precision, backend = ("int8", "auto") if backend == "int8" else ("float32", backend)
    small = tuple(min(n, 64) for n in shape)
    # Lazily loaded code does not count.
    segment(synthetic(small), model, axes=axes, device="cpu", precision=precision)
    image = synthetic(shape)
    volume = as_volume(image, axes)
    recipe = Recipe(
        model=name, axes=axes, tiling=Tiling(tile=tile), device="cpu", precision=precision,
        backend=backend,
    )  # fmt: skip
    forecast = resolve(recipe, model.card, volume.info).memory_bytes
    before = psutil.Process().memory_info().rss
    # What making the image took does not count: the peak begins anew (see proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    segment(
        volume, model, axes=axes, tiling={"tile": tile}, device="cpu", precision=precision,
        backend=backend,
    )  # fmt: skip
    print(forecast, peak() - before)


def peak() -> int:
    """Return the largest resident size since it was last reset, in bytes."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s*(\d+) kB", status)[1]) * 1024


def main() -> None:
    """Run every case and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", type=int, help="run one case in this process")
    parser.add_argument("--backend", choices=BACKENDS, default="torch", help="of that case")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    if args.case is not None:
        measure(args.case, args.backend)
        return
    lines = [
        "# Memory: forecast against measurement",
        "",
        "Growth of the peak resident size of a process during one `segment` on a CPU, in float32.",
        "The forecast's constants were set by cases like these; targets are ratios up to 1.25.",
        "",
        "| model | axes | shape | tile | back end | forecast | measured | forecast / measured |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (index, (name, axes, shape, tile)), backend in product(enumerate(CASES), BACKENDS):
        command = [sys.executable, __file__, "--case", str(index), "--backend", backend]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        forecast, measured = (int(n) for n in done.stdout.split()[-2:])
        size = " × ".join(str(n) for n in shape)
        lines.append(
            f"| {name.partition('?')[0]} | {axes} | {size} | {tile or 'auto'} | {backend} "
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
