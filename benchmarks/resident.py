"""End to end on a device, against the network alone on tiles that are already there.

    python benchmarks/resident.py --device cuda --models nuclei resnet34

The network alone is the same prepared network, precision and tile as the run took, on one
tile in the device's memory, again and again. "Memory" starts from a uint8 array and ends
with float16 probabilities; "Zarr" starts from a compressed uint16 Zarr and ends with an
OME-Zarr of thresholded labels. Medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import zarr

import measuring
from material import mosaic, network
from streaming import WORK, write_image
from unet_studio import Model, load_model, predict, segment_to_zarr
from unet_studio.inference.precision import full_precision, prepare

RESULTS = Path(__file__).parent / "results" / "resident.md"
_TARGET = 0.70


def timed(run: Callable[[], Any], device: str, rounds: int) -> tuple[float, Any]:
    """Run once to warm up, then some more; return the median seconds and the last result."""
    seconds, result = [], run()
    for _ in range(rounds):
        measuring.synchronise(device)
        began = time.perf_counter()
        result = run()
        measuring.synchronise(device)
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), result


def alone(model: Model, record: dict[str, Any], device: str, rounds: int) -> float:
    """Return pixels per second of the network on a resident tile."""
    prepared = prepare(model.network, model.card, torch.device(device), record["precision"])
    shape = tuple(n + 2 * record["tiles"]["halo"] for n in record["tiles"]["shape"])
    shape = tuple(-(-n // 32) * 32 for n in shape)
    dtype = getattr(torch, record["precision"])
    tile = torch.rand(1, model.card.in_channels, *shape, device=device, dtype=dtype)
    tile = tile.contiguous(memory_format=torch.channels_last)

    @torch.inference_mode()
    def run() -> None:
        with full_precision():  # as the run has it: no TF32
            prepared(tile)

    run()
    seconds, _ = timed(run, device, 3 * rounds)
    return shape[0] * shape[1] / seconds


def rows_of(name: str, args: argparse.Namespace, folder: Path) -> list[str]:
    """Measure one model; return the rows of the table."""
    model = load_model(network(name, args.data, args.work, 150))
    chosen = {"axes": "YX", "device": args.device, "tiling": {"quality": args.quality}}
    image = mosaic(args.data, args.size)
    seconds, prediction = timed(lambda: predict(image, model, **chosen), args.device, args.rounds)
    record = prediction.record
    limit = alone(model, record, args.device, args.rounds)
    size = f"{args.size:,}²"
    how = f"{record['tiles']['shape']}, halo {record['tiles']['halo']}, {record['precision']}"
    rows = [
        f"| {name} | network alone | {how} | | {limit / 1e6:.0f} | 1 |",
        _row(name, f"memory, {size}", prediction.record, args.size**2 / seconds, limit, seconds),
    ]
    source = zarr.open_array(write_image(args, args.size), mode="r")
    objects = {"method": "threshold" if model.card.representation != "classes" else "argmax"}
    seconds, result = timed(
        lambda: segment_to_zarr(source, folder / "out.ome.zarr", model, objects=objects, **chosen),
        args.device,
        max(1, args.rounds // 2),
    )
    parts = result.record["seconds"]
    inside = args.size**2 / parts["predict"]
    rows.append(
        _row(name, f"Zarr, {size}: network's part", result.record, inside, limit, parts["predict"])
    )
    rows.append(
        _row(name, f"Zarr, {size}: all", result.record, args.size**2 / seconds, limit, seconds)
    )
    return rows


def _row(
    name: str, what: str, record: dict[str, Any], rate: float, limit: float, seconds: float
) -> str:
    tiles = record["tiles"]
    how = f"{tiles['count']} × {tiles['shape']}, {record['precision']}"
    return f"| {name} | {what} | {how} | {seconds:.2f} | {rate / 1e6:.1f} | {rate / limit:.2f} |"


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["nuclei", "resnet34"])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--quality", default="balanced")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="uint16", help="of the Zarr")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.planes = 1
    args.work.mkdir(parents=True, exist_ok=True)
    lines = [
        "# End to end on a device, against the network alone",
        "",
        "| model | what | tiles | s | Mpx/s | of the network alone |",
        "|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        for name in args.models:
            lines += rows_of(name, args, Path(folder))
    about = measuring.machine(args.device, torch.get_num_threads())
    lines += ["", f"Target from Zarr to labels in a Zarr: ≥ {_TARGET} of the network alone.", ""]
    lines += [f"Machine: {about['device']}; {about['processor']}, {about['cores']} cores.", ""]
    args.output.write_text("\n".join(lines))
    print(args.output.read_text())


if __name__ == "__main__":
    main()
