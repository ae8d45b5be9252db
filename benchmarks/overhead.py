"""What the pipeline costs without its network: a device that takes no time.

    python benchmarks/overhead.py --save after.json
    python benchmarks/overhead.py --before before.json

The network is one that hands its first channels on, and the device is torch's "meta"
device, which computes nothing: what is left is reading, copying to and from
page-locked memory, and writing, by the code that serves a CUDA device. The time of all
threads (CPU time) is what the computer has to do; wall-clock time is what a GPU
would wait for. Medians.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import nn

import measuring
from material import mosaic
from streaming import WORK, write_image
from unet_studio import Model, load_model, predict, segment_to_zarr
from unet_studio.inference import lanes, predictor
from unet_studio.inference.transfer import StreamTransfer, Work

RESULTS = Path(__file__).parent / "results" / "overhead.md"
_NOWHERE = torch.device("meta")
_BUFFERS = 24  # more than are in use at any time


class PassOn(nn.Module):
    """A network that costs nothing."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.index = [n % inputs for n in range(outputs)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the first channels of a batch."""
        return x[:, self.index]


class Streams:
    """What stands in for ``torch.cuda``: nothing has to be waited for."""

    def Stream(self, _device: Any) -> Streams:
        """Return what has all methods of a stream, too."""
        return self

    def current_stream(self, _device: Any) -> Streams:
        """Return what has all methods of a stream, too."""
        return self

    @contextmanager
    def stream(self, _stream: Any) -> Iterator[None]:
        """Do nothing else."""
        yield

    def wait_stream(self, _other: Any) -> None:
        """Return at once."""

    def record_event(self) -> None:
        """Return at once."""

    def wait_event(self, _event: Any) -> None:
        """Return at once."""

    def synchronize(self) -> None:
        """Return at once."""


class Locked:
    """Memory that is there already, as torch's page-locked memory is after the first tiles."""

    def __init__(self) -> None:
        self._buffers: dict[int, list[torch.Tensor]] = {}
        self._used = 0

    def __call__(self, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        """Return a tensor of any content, which will be used again some tensors later."""
        count = int(np.prod(shape)) * dtype.itemsize
        buffers = self._buffers.setdefault(count, [])
        if len(buffers) < _BUFFERS:
            buffers.append(torch.zeros(count, dtype=torch.uint8))
            return buffers[-1].view(dtype).view(shape)
        self._used += 1
        return buffers[self._used % _BUFFERS].view(dtype).view(shape)


class NoTime(StreamTransfer):
    """Copies to and from a device that has no memory: results are whatever the buffer held."""

    locked = Locked()

    def __init__(self, work: Work) -> None:
        super().__init__(_NOWHERE, work, Streams(), self.locked)

    def get(self, parts: Any) -> Any:
        """Return buffers of the size of the results."""
        return [self.locked(tuple(part.shape), part.dtype).numpy() for part in parts]


def make_executors(model: Any, plan: Any, devices: Any, *rest: Any) -> list[lanes.Executor]:
    """Return what a GPU with several tiles has: two lanes."""
    work = Work(Streams())
    return [lanes.Executor(model, plan, _NOWHERE, *rest, NoTime(work)) for _ in range(2)]


def timed(run: Callable[[], Any], rounds: int) -> dict[str, float]:
    """Return the median seconds of a run: of the clock, and of all threads together."""
    run()
    clock, work = [], []
    for _ in range(rounds):
        gc.collect()
        began, worked = time.perf_counter(), time.process_time()
        run()
        clock.append(time.perf_counter() - began)
        work.append(time.process_time() - worked)
    return {"clock": statistics.median(clock), "work": statistics.median(work)}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, dict[str, float]]:
    """Measure all ways through the pipeline."""
    card = load_model("nuclei").card
    model = Model(card, PassOn(card.in_channels, card.out_channels).eval())
    chosen = {
        "axes": "YX", "device": "cuda", "precision": "float32", "backend": "torch",
    }  # fmt: skip
    image = mosaic(args.data, args.size)
    stored = zarr.open_array(write_image(args, args.size), mode="r")
    target, method = folder / "out.ome.zarr", {"method": "threshold"}
    parts: dict[str, float] = {}

    def to_labels() -> None:
        result = segment_to_zarr(stored, target, model, objects=method, **chosen)
        parts.update(result.record["seconds"])

    ways: dict[str, Callable[[], Any]] = {
        "memory, uint8": lambda: predict(image, model, **chosen),
        "memory, uint16": lambda: predict(image.astype(np.uint16) * 257, model, **chosen),
        "memory, float32": lambda: predict(image.astype(np.float32), model, **chosen),
        "Zarr, uint16": lambda: predict(stored, model, **chosen),
        "Zarr, uint16, to labels (threshold)": to_labels,
    }
    found = {}
    for name, run in ways.items():
        if args.only in name:
            found[name] = timed(run, args.rounds)
            print(name, {k: f"{v / args.size**2 * 1e9:.1f} ns/px" for k, v in found[name].items()},
                  parts, flush=True)  # fmt: skip
    return found


def report(found: dict[str, Any], before: dict[str, Any], args: argparse.Namespace) -> str:
    """Return the page, as Markdown."""
    lines = [
        f"# The pipeline without its network, {args.size:,} × {args.size:,} pixels",
        "",
        *__doc__.split("\n\n")[2].splitlines(),
        "",
        "| from | CPU time before | now | wall-clock time before | now |",
        "|---|---|---|---|---|",
    ]

    def cell(values: dict[str, float], key: str) -> str:
        return f"{values[key] / args.size**2 * 1e9:.1f} ns/px" if key in values else "–"

    for name, now in found.items():
        past = before.get(name, {})
        cells = [cell(values, key) for key in ("work", "clock") for values in (past, now)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    about = measuring.machine("cpu", torch.get_num_threads())
    lines += ["", f"{args.rounds} rounds. Machine: {about['processor']}, {about['cores']} cores."]
    versions = ", ".join(f"{name} {v}" for name, v in about["versions"].items() if v[0].isdigit())
    return "\n".join([*lines, f"Versions: {versions}.", ""])


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="measure what has this in its name")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--before", type=Path, help="what --save kept of an older version")
    parser.add_argument("--save", type=Path, help="keep the figures here")
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    args.planes, args.dtype = 1, "uint16"  # of the Zarr
    args.work.mkdir(parents=True, exist_ok=True)
    # The plan is that of a GPU; nothing is computed on it.
    predictor.open_devices = lambda *_: ([_NOWHERE], None)  # type: ignore[assignment]
    predictor.make_executors = make_executors  # type: ignore[assignment]
    torch.Tensor.record_stream = lambda *_: None  # type: ignore[method-assign, assignment]
    with tempfile.TemporaryDirectory(dir=args.work) as folder:
        found = measure(args, Path(folder))
    if args.save:
        args.save.write_text(json.dumps(found))
        return
    before = json.loads(args.before.read_text()) if args.before else {}
    args.output.write_text(report(found, before, args))
    print(args.output.read_text())


if __name__ == "__main__":
    main()
