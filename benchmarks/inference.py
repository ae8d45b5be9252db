"""Time, memory and exactness of tiled inference, ours and others', on one network and image.

    PYTHONPATH=PEERS python benchmarks/inference.py

compares the ways in ``peers.py``: interleaved in one process for time, after a
warm-up; each in a process of its own for memory. The peers are no dependency
of this project. Put them into a folder of their own, PEERS:

    python -m pip install --target PEERS --no-deps monai nnunetv2 acvl-utils \
        batchgenerators batchgeneratorsv2 dynamic-network-architectures threadpoolctl \
        SimpleITK seaborn scikit-learn joblib matplotlib pandas graphviz nibabel yacs \
        einops connected-components-3d blosc2 numexpr msgpack ndindex httpx

One that is missing is named in the table. The ResNet U-Nets are first trained
for a few minutes, once (``--prepare`` does only that). Ways whose key holds a
word of ``--methods`` and none of ``--without`` are run only (``--methods ours
monai-0.25 --without half bfloat16``). "Best back end" is what ``predict`` takes by
itself: install the extra ``[cpu]``, or it has nothing to choose from but torch.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import measuring
from report import report

RESULTS = Path(__file__).parent / "results" / "inference.md"
WORK = Path(tempfile.gettempdir()) / "unet-studio-benchmarks"


def options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=2048, help="edge of the image in pixels")
    parser.add_argument("--rounds", type=int, default=5, help="timed runs, after a warm-up")
    parser.add_argument("--models", nargs="+", default=["nuclei", "resnet18", "resnet34"])
    parser.add_argument("--methods", nargs="+", default=[], help="words in the keys of methods")
    parser.add_argument("--without", nargs="+", default=[], help="words in keys to leave out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--work", type=Path, default=WORK, help="keeps trained networks")
    parser.add_argument("--train-steps", type=int, default=150)
    parser.add_argument("--prepare", action="store_true", help="only train the networks")
    parser.add_argument("--no-memory", action="store_true", help="time only: far quicker")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--child", choices=("prepare", "time", "memory"), help=argparse.SUPPRESS)
    parser.add_argument("--method", help=argparse.SUPPRESS)
    parser.add_argument("--json", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.size <= 0 or args.size % 512:
        parser.error(f"--size is {args.size}; it has to be a multiple of 512")
    return args


def chosen(args: argparse.Namespace) -> list[Any]:
    """Return the methods to run: always the reference, and those that were asked for."""
    from peers import METHODS, REFERENCE

    return [
        m
        for m in METHODS
        if m.key == REFERENCE
        or (
            (not args.methods or any(word in m.key for word in args.methods))
            and not any(word in m.key for word in args.without)
        )
    ]


def setting(args: argparse.Namespace, size: int) -> Any:
    """Load the one model of this process and make the image."""
    import torch

    from material import mosaic
    from peers import Setting
    from unet_studio import load_model

    torch.set_num_threads(args.threads)
    model = load_model(args.models[0])
    return Setting(model, mosaic(args.data, size), torch.device(args.device))


def prepare(args: argparse.Namespace) -> dict[str, Any]:
    """Train what is missing; return under which name each model can be loaded."""
    import torch

    from material import network
    from unet_studio import load_model

    torch.set_num_threads(args.threads)
    models = {}
    for name in args.models:
        model = load_model(network(name, args.data, args.work, args.train_steps))
        models[name] = {"path": str(model.path), "parameters": model.card.parameters}
    return {"models": models, "machine": measuring.machine(args.device, args.threads)}


def time_methods(args: argparse.Namespace) -> dict[str, Any]:
    """Run all methods in turn, round after round; compare their results with the first's."""
    from measuring import compare, synchronise
    from peers import NotHereError

    shared = setting(args, args.size)
    results: dict[str, Any] = {}
    runs = {}
    for method in chosen(args):
        results[method.key] = {"title": method.title, "seconds": []}
        try:
            runs[method.key] = method.build(shared)
        except ModuleNotFoundError as error:
            results[method.key]["error"] = f"not installed ({error.name})"
        except NotHereError as error:
            results[method.key]["error"] = f"not run: {error}"
    reference = None
    for turn in range(args.rounds + 1):
        for key, run in list(runs.items()):
            began = time.perf_counter()
            try:
                probabilities, remark = run()
                synchronise(args.device)
            except Exception as error:
                # One method that fails must not cost the table; it is named there.
                results[key]["error"] = f"failed: {type(error).__name__}: {error}"[:200]
                del runs[key]
                continue
            seconds = time.perf_counter() - began
            print(f"{args.models[0]} {turn} {key} {seconds:.2f} s", file=sys.stderr, flush=True)
            if turn == 0:  # the warm-up; what it gave is compared
                reference = probabilities if reference is None else reference
                difference = compare(probabilities, reference, shared.model.card.representation)
                results[key] |= {"remark": remark, **asdict(difference)}
            else:
                results[key]["seconds"].append(seconds)
    return results


def measure_memory(args: argparse.Namespace) -> dict[str, Any]:
    """Run one method once; return by how much the peak of memory grew."""
    import torch

    from measuring import MemoryGrowth
    from peers import Setting

    shared = setting(args, args.size)
    method = next(m for m in chosen(args) if m.key == args.method)
    run = method.build(shared)
    # Lazily loaded code does not count.
    if method.is_ours:
        small = Setting(shared.model, shared.image[:64, :64].copy(), shared.device)
        method.build(small)()
    else:
        with torch.no_grad():
            shape = (1, shared.model.card.in_channels, 64, 64)
            shared.plain(torch.zeros(shape, device=shared.device))
    growth = MemoryGrowth(args.device)
    run()
    return growth.measured()


def run_child(args: argparse.Namespace, kind: str, **changes: Any) -> dict[str, Any]:
    """Run a part of this script in a process of its own and return what it found.

    Raises
    ------
    SystemExit
        If it failed; its own message has been printed by then.
    """
    values = {**vars(args), **changes, "child": kind}
    with tempfile.TemporaryDirectory() as folder:
        values["json"] = Path(folder) / "result.json"
        command = [sys.executable, __file__]
        for name, value in values.items():
            if name in ("prepare", "home", "no_memory") or value is None or value == []:
                continue
            items = value if isinstance(value, list) else [value]
            command += [f"--{name.replace('_', '-')}", *map(str, items)]
        environment = {**os.environ, "OMP_NUM_THREADS": str(args.threads)}
        if kind != "prepare":
            # What "auto" takes is measured anew, not remembered from a busier hour.
            environment["UNET_STUDIO_HOME"] = str(values["home"])
        done = subprocess.run(command, env=environment, check=False)
        if done.returncode:
            raise SystemExit(
                f"The {kind} part of {__file__} for {values['models']} "
                f"{values.get('method') or ''} ended with {done.returncode}"
                + (": it was killed, probably for want of memory." if done.returncode < 0 else ".")
            )
        result: dict[str, Any] = json.loads(values["json"].read_text())
    return result


def main() -> None:
    """Measure and write the table, or do the part that a child was asked for."""
    args = options()
    if args.child:
        part = {"prepare": prepare, "time": time_methods, "memory": measure_memory}[args.child]
        args.json.write_text(json.dumps(part(args)))
        return
    args.work.mkdir(parents=True, exist_ok=True)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    prepared = run_child(args, "prepare")
    if args.prepare:
        return
    results: dict[str, Any] = {}
    for name, model in prepared["models"].items():
        with tempfile.TemporaryDirectory() as home:
            found = run_child(args, "time", models=[model["path"]], home=home)
            for key, result in found.items():
                if "error" not in result and not args.no_memory:
                    result |= run_child(
                        args, "memory", models=[model["path"]], home=home, method=key
                    )
        results[name] = {"parameters": model["parameters"], "methods": found}
        # After each model: a table of two is better than none if the third fails.
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(report(results, args, {**prepared["machine"], "load": load}))
    print(args.output.read_text())


if __name__ == "__main__":
    main()
