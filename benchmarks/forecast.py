"""Compare the memory forecast that users see before a run with what the run takes.

    python benchmarks/forecast.py

runs each case in a process of its own and compares the growth of its peak
resident memory with the forecast of the plan. The image lies in memory before
the run, as a layer's does, and does not count; or it is a Zarr, and the results go
through the disk.
"""

from __future__ import annotations

import argparse
import gc
import platform
import re
import subprocess
import sys
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import zarr

from unet_studio import Model, load_model, segment, segment_to_zarr
from unet_studio.images.volume import as_volume
from unet_studio.inference.plan import resolve
from unet_studio.recipe import Recipe

CASES = [
    # model, axes, shape, tile edge, where image and results are
    ("nuclei", "YX", (1024, 1024), None, "memory"),
    ("nuclei", "YX", (2048, 2048), None, "memory"),
    ("nuclei", "YX", (4096, 4096), None, "memory"),
    ("nuclei", "YX", (4096, 4096), 1024, "memory"),
    ("nuclei", "YX", (4096, 4096), None, "disk"),
    ("nuclei", "YX", (4096, 4096), 1024, "disk"),
    ("nuclei", "ZYX", (16, 1024, 1024), None, "memory"),
    ("nuclei", "ZYX", (16, 1024, 1024), None, "disk"),
    ("nuclei", "TYX", (16, 1024, 1024), None, "memory"),
    ("random:resnet18?representation=binary", "YX", (2048, 2048), None, "memory"),
    ("random:unet-tiny?ndim=3", "ZYX", (96, 192, 192), None, "memory"),
    ("random:unet-tiny?ndim=3", "ZYX", (96, 192, 192), None, "disk"),
]
_CHUNK = 512  # edge of the Zarr's chunks
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
    name = CASES[index][0]
    with tempfile.TemporaryDirectory() as folder:
        forecast, grown = grow(CASES[index], load_model(name), backend, Path(folder))
    print(forecast, grown)


def grow(case: tuple[Any, ...], model: Model, backend: str, folder: Path) -> tuple[int, int]:
    """Return the forecast of a run, and by how much the peak grows in it."""
    name, axes, shape, tile, where = case
    precision, backend = ("int8", "auto") if backend == "int8" else ("float32", backend)
    options = {"device": "cpu", "precision": precision}

    def run(image: Any, **options: Any) -> None:
        if where == "disk":
            segment_to_zarr(image, folder / "labels.ome.zarr", model, axes=axes, **options)
        else:
            segment(image, model, axes=axes, **options)

    # Lazily loaded code does not count.
    run(placed(synthetic(tuple(min(n, 64) for n in shape)), where, folder / "small"), **options)
    volume = as_volume(placed(synthetic(shape), where, folder / "image"), axes)
    options |= {"tiling": {"tile": tile}, "backend": backend}
    recipe = Recipe(model=name, axes=axes, **options)
    streamed = where == "disk"
    forecast = resolve(recipe, model.card, volume.info, streamed=streamed).memory_bytes
    gc.collect()
    before = psutil.Process().memory_info().rss
    # What making the image took does not count: the peak begins anew (see proc(5)).
    Path("/proc/self/clear_refs").write_text("5")
    run(volume, **options)
    return forecast, peak() - before


def placed(image: np.ndarray, where: str, path: Path) -> Any:
    """Return the image, or a Zarr of it."""
    if where == "memory":
        return image
    chunks = tuple(min(n, _CHUNK) for n in image.shape)
    if image.ndim == 3:
        chunks = (1, *chunks[1:])
    zarr.create_array(str(path), shape=image.shape, chunks=chunks, dtype=image.dtype)[...] = image
    return zarr.open_array(str(path), mode="r")


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
        "Growth of the peak resident size of a process during one run on a CPU, in float32 or",
        "int8: `segment` of an image in memory, or `segment_to_zarr` of a Zarr. The forecast's",
        "constants were set by cases like these; targets are ratios up to 1.25.",
        "",
        "| model | axes | shape | tile | in | back end | forecast | measured | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for (index, (name, axes, shape, tile, where)), backend in product(enumerate(CASES), BACKENDS):
        command = [sys.executable, __file__, "--case", str(index), "--backend", backend]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        forecast, measured = (int(n) for n in done.stdout.split()[-2:])
        size = " × ".join(str(n) for n in shape)
        lines.append(
            f"| {name.partition('?')[0]} | {axes} | {size} | {tile or 'auto'} | {where} "
            f"| {backend} | {forecast / 2**20:.0f} MiB | {measured / 2**20:.0f} MiB "
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
