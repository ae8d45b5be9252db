"""Time and memory from a Zarr image to a Zarr of labels, for a small and a large image.

    python benchmarks/streaming.py

runs the public ``segment_to_zarr`` on uint16 images in a process of their own
each. If memory is bounded, its peak grows alike for both (L01). A stack of 8 such
planes takes 4 GiB, and less than that of memory (L02), of which the system gives the process
no more than ``--limit`` (RLIMIT_DATA: heap and arrays):

    python benchmarks/streaming.py --planes 8 --sizes 16384 --limit 3
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import measuring

RESULTS = Path(__file__).parent / "results" / "streaming.md"
WORK = Path(tempfile.gettempdir()) / "unet-studio-benchmarks"
_CHUNK = 1024
_SHIFT = 2  # rows, from plane to plane
_SMALL = 256  # edge of the image that warms up, in pixels
_LARGEST_GROWTH = 1.5 * 2**30
_LARGEST_RATIO = 1.2
_TRAINING_STEPS = 300  # of a network that is named by its preset
_LARGEST_OF_STACK = 4 * 2**30  # all memory of the process, not its growth
_NOTES = [
    "From a Zarr (chunks of 1,024 × 1,024, compressed) to an OME-Zarr of labels, by the public",
    "`segment_to_zarr`, measurements included. Each run in a process of its own, after one on a",
    "small image. Memory: growth of the peak resident size. Time: medians of the rounds.",
]


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[4096, 16384])
    parser.add_argument("--planes", type=int, default=1, help="of each image: a stack if above 1")
    parser.add_argument("--dtype", choices=["uint16", "float32"], default="uint16")
    parser.add_argument("--limit", type=float, help="of a run's memory, in GiB: more is refused")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--tile", type=int, help="edge, in pixels")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=WORK, help="holds images and results")
    parser.add_argument("--output", type=Path, help="default: below results")
    parser.add_argument("--child", type=Path, metavar="JSON", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if min(*args.sizes, args.planes, args.rounds) < 1:
        parser.error("--sizes, --planes and --rounds have to be above 0")
    if args.output is None:
        args.output = RESULTS if args.planes == 1 else RESULTS.with_stem("streaming_stack")
    return args


def write_image(args: argparse.Namespace, size: int) -> Path:
    """Write a large image, real ones continued by reflection; return where it is.

    Planes of a stack lie apart by a row or two in what they show, as those of a real one do.
    """
    import zarr

    from material import MOSAIC_EDGE, mosaic

    planes, dtype = args.planes, np.dtype(args.dtype)
    stack = f"{planes}x" if planes > 1 else ""
    path = args.work / f"nuclei-{stack}{size}-{dtype}.zarr"
    if path.exists():
        return path
    square = mosaic(args.data, MOSAIC_EDGE)
    index = np.pad(np.arange(MOSAIC_EDGE), (0, max(0, size - MOSAIC_EDGE)), mode="symmetric")
    index = index[:size]
    partial = path.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    chunk = min(_CHUNK, size)
    leading = (planes,) if planes > 1 else ()
    array = zarr.create_array(
        partial, shape=(*leading, size, size), chunks=(*(1 for _ in leading), chunk, chunk),
        dtype=dtype,
    )  # fmt: skip
    for plane in range(planes):
        shifted = np.roll(index, -_SHIFT * plane)
        for start in range(0, size, chunk):
            part = square[np.ix_(shifted[start : start + chunk], index)].astype(dtype)
            place = (*(plane for _ in leading), slice(start, start + chunk))
            array[place] = part * dtype.type(257)  # of 8 bits
    partial.rename(path)
    return path


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Segment one image in this process; return what it took."""
    if args.limit:
        most = round(args.limit * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
    import torch
    import zarr

    from unet_studio import load_model, segment_to_zarr

    torch.set_num_threads(args.threads)
    model = load_model(args.model)
    chosen: dict[str, Any] = {
        "axes": "YX" if args.planes == 1 else "ZYX",
        "device": args.device,
        "precision": args.precision,
        "tiling": {"quality": args.quality, "tile": args.tile},
    }
    if model.card.representation == "classes":  # a network of the benchmarks
        chosen["objects"] = {"method": "components"}
    small = zarr.open_array(write_image(args, _SMALL), mode="r")
    path = write_image(args, args.sizes[0])
    image = zarr.open_array(path, mode="r")
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        segment_to_zarr(small, Path(folder) / "small.ome.zarr", model, **chosen)
        growth = measuring.MemoryGrowth(args.device)
        began = time.perf_counter()
        result = segment_to_zarr(image, Path(folder) / "labels.ome.zarr", model, **chosen)
        measuring.synchronise(args.device)
        return {
            "seconds": time.perf_counter() - began,
            **growth.measured(),
            "resident": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "objects": result.object_count,
            "parts": result.record["seconds"],
            "tiles": result.record["tiles"],
            "precision": result.record["precision"],
            "machine": measuring.machine(args.device, args.threads),
        }


def run_child(args: argparse.Namespace, size: int, home: str) -> dict[str, Any]:
    """Measure one image in a process of its own.

    Raises
    ------
    SystemExit
        If it failed; its own message has been printed by then.
    """
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "result.json"
        values = {**vars(args), "sizes": size, "child": target}
        command = [sys.executable, __file__]
        for name, value in values.items():
            command += [f"--{name}", str(value)] if value is not None else []
        # What "auto" takes is measured anew, not remembered from a busier hour.
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(args.threads),
            "UNET_STUDIO_HOME": home,
        }
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode:
            raise SystemExit(
                f"The run on {size} × {size} pixels ended with {done.returncode}"
                + (": it was killed, probably for want of memory." if done.returncode < 0 else ".")
            )
        result: dict[str, Any] = json.loads(target.read_text())
    return result


def report(results: dict[int, list[dict[str, Any]]], args: argparse.Namespace) -> str:
    """Return the page, as Markdown."""
    lines = ["# Streaming: from Zarr to labels in a Zarr", "", *_NOTES, ""]
    lines += [
        "| image | tiles | s | network, s | objects, s | Mpx/s | objects | memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    peaks = {}
    stack = f"{args.planes} × " if args.planes > 1 else ""
    for size, runs in results.items():
        seconds = statistics.median(run["seconds"] for run in runs)
        peaks[size] = statistics.median(run["memory"] for run in runs)
        last = runs[-1]
        shape = " × ".join(str(n) for n in last["tiles"]["shape"])
        lines.append(
            f"| {stack}{size:,} × {size:,} | {last['tiles']['count']} of {shape}, halo "
            f"{last['tiles']['halo']}, {last['precision']} | {seconds:.1f} "
            f"| {last['parts'].get('predict', 0):.1f} | {last['parts'].get('objects', 0):.1f} "
            f"| {args.planes * size**2 / seconds / 1e6:.2f} | {last['objects']:,} "
            f"| {peaks[size] / 2**20:.0f} MiB |"
        )
    small, large = min(peaks), max(peaks)
    lines += ["", "| figure | target | measured |", "|---|---|---|"]
    lines.append(
        f"| growth of memory, {stack}{large:,} × {large:,} | ≤ {_LARGEST_GROWTH / 2**30:.1f} GiB "
        f"| {peaks[large] / 2**30:.2f} GiB |"
    )
    if small != large:
        ratio = peaks[large] / peaks[small]
        lines.append(f"| the same, {large:,} / {small:,} | ≤ {_LARGEST_RATIO} | {ratio:.2f} |")
    if args.planes > 1:
        resident = statistics.median(run["resident"] for run in results[large])
        held = args.planes * large**2 * np.dtype(args.dtype).itemsize / 2**30
        lines.append(
            f"| all memory of the process, {args.dtype} image of {held:.1f} GiB "
            f"| ≤ {_LARGEST_OF_STACK / 2**30:.0f} GiB | {resident / 2**30:.2f} GiB |"
        )
    if args.limit:
        lines.append(f"| heap and arrays, refused beyond | {args.limit:g} GiB | kept |")
    machine = next(iter(results.values()))[0]["machine"]
    versions = ", ".join(f"{n} {v}" for n, v in machine["versions"].items())
    lines += [
        "",
        f"Model {Path(args.model).stem}, quality {args.quality}; {args.rounds} round(s). Machine: "
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads used; "
        f"{machine['device']}.",
        f"Versions: {versions}.",
        f"Command: `{' '.join(['python benchmarks/streaming.py', *sys.argv[1:]])}`",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write the table, or do the part that a child was asked for."""
    args = options()
    args.work.mkdir(parents=True, exist_ok=True)
    if args.child:
        args.child.write_text(json.dumps(measure(args)))
        return
    from material import network

    args.model = network(args.model, args.data, args.work, _TRAINING_STEPS)
    for size in {_SMALL, *args.sizes}:
        write_image(args, size)
    results: dict[int, list[dict[str, Any]]] = {size: [] for size in args.sizes}
    with tempfile.TemporaryDirectory() as home:
        for _ in range(args.rounds):
            for size in args.sizes:
                results[size].append(run_child(args, size, home))
                print(f"{size}: {results[size][-1]['seconds']:.1f} s", flush=True)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(report(results, args))
    print(args.output.read_text())


if __name__ == "__main__":
    main()
