"""Batches: many small files, damaged ones among them (L04), memory, overhead, processes.

    python benchmarks/batch.py

measures every part. Each takes minutes; ``--part NAME`` does one of them and keeps the
others as they were measured before (in the JSON of ``--kept``). Images are crops of the
nuclei sample. Every figure is of a process of its own.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image

from batch_scripts import BLOCKS, MEASURE, PURE, SCALE
from measuring import machine

# What each part measured, from which the page is made: a part is measured anew by itself.
KEPT = Path(__file__).parent / "results" / "batch.json"
_DAMAGED = 5  # kinds
_ROUNDS = 3  # of what is compared, in turns
_SHOWN = (1, 5, 10, 15, 19)  # twentieths of all tasks after which memory is told


def options() -> argparse.Namespace:
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=list(PARTS), action="append", default=[])
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--many-model", default="random:unet-tiny")
    parser.add_argument("--batch-files", type=int, default=100, help="of part single")
    parser.add_argument("--overhead-files", type=int, default=40)
    parser.add_argument("--single-files", type=int, default=3)
    parser.add_argument("--worker-files", type=int, default=200)
    parser.add_argument("--edge", type=int, default=8192, help="of the large OME-Zarr")
    parser.add_argument("--block-edge", type=int, default=16384, help="of part blocks")
    parser.add_argument("--tasks", type=int, default=100_000, help="of part scale")
    parser.add_argument("--model", default="nuclei")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/batch.md"))
    parser.add_argument("--kept", type=Path, default=KEPT)
    return parser.parse_args()


def make_images(folder: Path, count: int, edge: int, damaged: int = 0) -> Path:
    """Write crops of the sample; the last ``damaged`` are broken in five ways."""
    from unet_studio.samples import read_sample

    folder.mkdir()
    sample = np.asarray(read_sample("nuclei_fluorescence"))
    sample = np.pad(sample, [(0, max(0, edge + 64 - n)) for n in sample.shape], mode="wrap")
    chance = np.random.default_rng(0)
    for number in range(count):
        y, x = (int(chance.integers(0, n - edge + 1)) for n in sample.shape)
        path = folder / f"{number:05}.tif"
        tifffile.imwrite(path, sample[y : y + edge, x : x + edge], compression="zlib")
        if number >= count - damaged:
            _damage(path, number % _DAMAGED)
    return folder


def _damage(path: Path, kind: int) -> None:
    content = path.read_bytes()
    if kind == 0:
        path.write_bytes(b"")
    elif kind == 1:
        path.write_bytes(content[: len(content) // 3])
    elif kind == 2:
        path.write_bytes(b"<html>log in</html>")
    elif kind == 3:
        path.unlink()
        path.symlink_to("nothing.tif")
    else:
        path.unlink()
        Image.new("L", (8, 8)).save(path.with_suffix(".png"))
        path.with_suffix(".png").rename(path)


def child(code: str, recipe: Path, images: Path, out: Path, workers: int = 0) -> dict[str, Any]:
    """Run one part in a process of its own and return what it measured."""
    report, script = out.with_name(out.name + "_report.json"), out.with_name(out.name + ".py")
    script.write_text(code)
    command = [sys.executable, script, recipe, images, out, report, workers]
    subprocess.run(list(map(str, command)), check=True)
    result: dict[str, Any] = json.loads(report.read_text())
    return result


def command_line(*arguments: object) -> tuple[float, float, int]:
    """Run ``unet-studio`` and return seconds, those of processors, and exit code."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(
        [sys.executable, "-m", "unet_studio.cli.app", *map(str, arguments)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - began, spent, ended.returncode


def many(work: Path, recipe: Path, args: argparse.Namespace) -> list[str]:
    """Measure many small files, ten of them damaged: what the engine does and holds."""
    images = make_images(work / "many", args.files, 256, damaged=10)
    # A small network: what is measured here does not depend on it, and the run stays short.
    recipe.write_text(f"model = {json.dumps(args.many_model)}\n")
    facts = child(MEASURE, recipe, images, work / "many_out")
    seconds, spent, code = command_line("batch", recipe, images, "-o", work / "many_out")
    rss = np.array(facts["rss"], float)
    tail = rss[len(rss) // 5 :]
    slope = np.polyfit(np.arange(len(tail)), tail, 1)[0] / 1000
    cpu = 1000 * (facts["used"][-1] - facts["used"][0]) / (args.files - 1)
    return [
        f"| {args.files:,} files of 256², 10 damaged of 5 kinds ({args.many_model}): done "
        f"| {args.files - 10} | {facts['done']} |",
        f"| exit code of a second run (all skipped: {seconds:.1f} s, {spent:.1f} s of processors) "
        f"| 2 | {code} |",
        f"| peak RSS | ≤ 1 GiB | {facts['peak'] / 2**30:.2f} GiB |",
        f"| RSS slope over the last 4/5 | ≤ 50 kB/file | {slope:.1f} kB/file |",
        f"| a file | | {cpu:.0f} ms of processors, "
        f"{1000 * facts['seconds'] / args.files:.0f} ms by the clock |",
    ]


def single(work: Path, recipe: Path, args: argparse.Namespace) -> list[str]:
    """Compare a batch with a process for each file."""
    rows = []
    for model in (args.model, args.many_model):
        folder = work / model.replace(":", "_")
        folder.mkdir()
        images = make_images(folder / "images", args.batch_files, 256)
        recipe.write_text(f"model = {json.dumps(model)}\n")
        # What "auto" takes is measured once on a computer and remembered; not part of a run.
        command_line("segment", images / "00000.tif", "-m", model, "-o", folder / "first")
        each = []
        for number, path in enumerate(sorted(images.glob("*.tif"))[: args.single_files]):
            out = folder / f"single{number}"
            each.append(command_line("segment", path, "-m", model, "-o", out)[1])
        used = child(MEASURE, recipe, images, folder / "out")["used"]
        rate = (used[-1] - used[0]) / (len(used) - 1)
        whole, alone = used[0] + rate * (args.files - 1), statistics.median(each)
        rows.append(
            f"| one `segment` process per file ({alone:.2f} s each) over the batch "
            f"({used[0]:.1f} s for the first file, then {1000 * rate:.0f} ms each), {model}, "
            f"processor time, extrapolated from {args.single_files} and {args.batch_files} to "
            f"{args.files:,} files of 256² | ≥ 20 | {alone * args.files / whole:.0f} |"
        )
    return rows


def overhead(work: Path, recipe: Path, args: argparse.Namespace) -> list[str]:
    """Measure what reading, writing and bookkeeping add to predict + objects."""
    images = make_images(work / "larger", args.overhead_files, 512)
    count, more, wall, each = args.overhead_files, [], [], []
    for turn in range(_ROUNDS):
        pure = child(PURE, recipe, images, work / "pure_out")
        full = child(MEASURE, recipe, images, work / f"larger_out{turn}")
        each.append(1000 * pure["cpu"] / count)
        # From the first result to the last: neither model nor first forward pass.
        for found, part, whole in ((more, "used", "cpu"), (wall, "times", "seconds")):
            span = (full[part][-1] - full[part][0]) / (count - 1)
            found.append(1000 * (span - pure[whole] / count))
    named = f"median of {_ROUNDS} turns of {count} files, from"
    return [
        f"| overhead per 512² file over predict + objects ({statistics.median(each):.0f} ms), "
        f"processor time of all threads; {named} {min(more):.1f} to {max(more):.1f} ms | ≤ 15 ms "
        f"| {statistics.median(more):.1f} ms |",
        f"| the same by the clock, where reading and writing overlap with predicting; {named} "
        f"{min(wall):.0f} to {max(wall):.0f} ms | | {statistics.median(wall):.0f} ms |",
    ]


def workers(work: Path, recipe: Path, args: argparse.Namespace) -> list[str]:
    """Compare two processes with one, by the clock and by the work done."""
    images = make_images(work / "workers", args.worker_files, 256)
    one, two = [], []
    for turn in range(_ROUNDS - 1):
        one.append(child(MEASURE, recipe, images, work / f"w1{turn}", 1))
        two.append(child(MEASURE, recipe, images, work / f"w2{turn}", 2))
    for folder in ("w20", "w21"):
        _same_labels(work / "w10", work / folder)

    def ratio(value: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(map(value, one)) / statistics.median(map(value, two))

    def late(values: list[float]) -> float:
        """Return what the last two thirds took: both have loaded the model."""
        return values[-1] - values[len(values) // 3]

    rate = ratio(lambda f: late(f["times"]))
    whole = ratio(lambda f: f["seconds"])
    more = 1 / ratio(lambda f: late(f["used"]))
    named = f"last two thirds of {args.worker_files} files of 256², {_ROUNDS - 1} turns"
    return [
        f"| processor time per file of 2 workers over that of 1, {named}; on two free cores that "
        f"is {2 / more:.2f} times the rate | ≤ 1.18 | {more:.2f} |",
        f"| rate of 2 workers over 1 by the clock, the same files | ≥ 1.7 | {rate:.2f} |",
        f"| the same with the start of the processes | | {whole:.2f} |",
    ]


def large(work: Path, recipe: Path, args: argparse.Namespace) -> list[str]:
    """Measure one large OME-Zarr."""
    _large_image(work, args.edge)
    one = child(MEASURE, recipe, work / "large", work / "large_out")
    name = f"OME-Zarr of {args.edge:,}²"
    return [
        f"| {name} through the batch: done, wall time, peak RSS | "
        f"| {one['done']}, {one['seconds']:.0f} s, {one['peak'] / 2**30:.2f} GiB |",
    ]


def _large_image(work: Path, edge: int) -> Path:
    """Write an OME-Zarr of mirrored copies of the sample."""
    from unet_studio.axes import Axes
    from unet_studio.images.writers import write_array
    from unet_studio.samples import read_sample

    sample = np.asarray(read_sample("nuclei_fluorescence"))
    image = np.pad(sample, [(0, edge - n) for n in sample.shape], mode="symmetric")
    (work / "large").mkdir()
    write_array(image, Axes("YX"), work / "large" / "large.ome.zarr")
    return work / "large" / "large.ome.zarr"


def blocks(work: Path, recipe: Path, args: argparse.Namespace) -> list[str]:
    """Compare the blocks of one large OME-Zarr on two workers with one process."""
    import zarr

    image = _large_image(work, args.block_edge)
    recipe.write_text(recipe.read_text() + 'precision = "float32"\nbackend = "torch"\n')
    made = {}
    for count in (0, 2):
        out = work / f"blocks_out{count}"
        facts = child(BLOCKS, recipe, image, out, count)
        (store,) = out.glob("*_labels.ome.zarr")
        made[count] = facts, zarr.open_array(str(store / "0"), mode="r")
    (one, alone), (many, shared) = made[0], made[2]
    if not all(
        np.array_equal(alone[..., y : y + 512, :], shared[..., y : y + 512, :])
        for y in range(0, args.block_edge, 512)
    ):
        raise SystemExit("the labels of blocks differ from those of one process")
    name = f"blocks of one OME-Zarr of {args.block_edge:,}² on 2 workers over one process"
    return [
        f"| {name}: labels of {one['objects']:,} objects | equal | equal to the id |",
        f"| the same: processor time, start of the workers included | ≤ 1.15 "
        f"| {many['cpu'] / one['cpu']:.2f} ({many['cpu']:.0f} s / {one['cpu']:.0f} s) |",
        f"| the same: wall time | | {many['seconds'] / one['seconds']:.2f} |",
    ]


def scale(work: Path, recipe: Path, args: argparse.Namespace) -> list[str]:
    """Measure what handing out very many tasks costs, the tasks themselves doing nothing."""
    script, report = work / "scale.py", work / "scale.json"
    script.write_text(SCALE)
    subprocess.run([sys.executable, script, str(args.tasks), report], check=True)
    facts = json.loads(report.read_text())
    rss = facts["rss"]
    return [
        f"| {args.tasks:,} block tasks that do nothing, 2 workers: time per task | ≤ 5 ms "
        f"| {1000 * facts['seconds'] / args.tasks:.2f} ms |",
        f"| the same: RSS of scheduler and client after {', '.join(f'{n}/20' for n in _SHOWN)} "
        f"| flat | {', '.join(f'{rss[n] / 2**20:.0f}' for n in _SHOWN)} MiB |",
    ]


def _same_labels(first: Path, second: Path) -> None:
    for path in first.glob("*_labels.tif"):
        if path.read_bytes() != (second / path.name).read_bytes():
            raise SystemExit(f"{path.name} differs between one worker and two")


PARTS: dict[str, Callable[[Path, Path, argparse.Namespace], list[str]]] = {
    "many": many, "single": single, "overhead": overhead, "workers": workers, "large": large,
    "blocks": blocks, "scale": scale,
}  # fmt: skip


def main() -> None:
    """Measure and write the table."""
    args = options()
    # Threads of processes that share cores spin while they wait, which would be counted.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    kept: Path = args.kept
    kept.parent.mkdir(parents=True, exist_ok=True)
    facts = json.loads(kept.read_text()) if kept.is_file() else {}
    for part in args.part or PARTS:
        load = os.getloadavg()[0]
        work = Path(tempfile.mkdtemp(prefix="unet-studio-batch-"))
        try:
            os.environ["UNET_STUDIO_HOME"] = str(work / "home")
            recipe = work / "recipe.toml"
            recipe.write_text(f"model = {json.dumps(args.model)}\n")
            rows = PARTS[part](work, recipe, args)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        facts[part] = {"rows": rows, "load": round(load, 1), "commit": _commit()}
        kept.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    args.output.write_text(table(facts, args))
    print(args.output.read_text())


def _commit() -> str:
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=Path(__file__).parent, text=True,
        capture_output=True, check=False,
    )  # fmt: skip
    return found.stdout.strip() or "unknown"


def table(facts: dict[str, Any], args: argparse.Namespace) -> str:
    """Return the page of all parts that were measured."""
    about = machine("cpu", int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    versions = ", ".join(f"{n} {v}" for n, v in about["versions"].items())
    rows = [row for part in PARTS if part in facts for row in facts[part]["rows"]]
    loads = ", ".join(
        f"{part} {facts[part]['load']} ({facts[part]['commit']})"
        for part in PARTS
        if part in facts
    )
    lines = [
        "# Batches of many files", "", "| figure | target | measured |", "|---|---|---|",
        *rows, "",
        f"Model {args.model} unless said. Machine: {about['processor']}, {about['cores']} cores, "
        f"{about['threads']} thread used by each process; CPU only. Load average when a part "
        f"began, and the commit measured: {loads}. Overhead and workers were compared in turns.",
        f"Versions: {versions}.",
        "Command: `python benchmarks/batch.py`, with `--part` for one part at a time.",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
