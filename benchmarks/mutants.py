"""Whether the tests notice when the program is broken: ten mutants, one by one.

    xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/mutants.py

copies the tree (what git knows of it), runs the tests that should notice on the copy as it
is, then replaces one exact text in its source, runs them again, and puts it back. A mutant
is caught if a test fails. ``--only NAME`` tries one of them and writes nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "mutants.md"
SOURCE = "src/unet_studio"
_FAILED = re.compile(r"^(?:FAILED|ERROR) ([^\s\[]+)", re.M)


@dataclass(frozen=True)
class Mutant:
    """One seeded bug.

    Attributes
    ----------
    name : str
    why : str
        What it would do to users.
    file : str
        Below ``src/unet_studio``.
    old, new : str
        Exact text, which occurs once, and what takes its place.
    tests : tuple of str
        Files below ``tests``, or single tests of them, as pytest takes them.
    """

    name: str
    why: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def apply(self, root: Path) -> None:
        """Break the tree at ``root``.

        Raises
        ------
        LookupError
            If the text is not there exactly once: the mutant is stale.
        """
        path = root / SOURCE / self.file
        text = path.read_text(encoding="utf-8")
        if text.count(self.old) != 1:
            raise LookupError(
                f"Mutant {self.name!r} is stale: its text occurs {text.count(self.old)} times in "
                f"{self.file}, not once. Bring it up to date in {Path(__file__).name}."
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


MUTANTS = (
    Mutant(
        "tile origin + 1",
        "pooling falls on other pixels: seams, wrong probabilities",
        "inference/tiling.py",
        "start = max(0, min(done - halo, padded - tile))",
        "start = max(0, min(done - halo, padded - tile)) + (done > 0)",
        ("unit/inference/test_tiling.py",),
    ),
    Mutant(
        "halo - 1",
        "a pixel at each seam lacks context",
        "inference/tiling.py",
        "stop = length if end >= padded else end - halo",
        "stop = length if end >= padded else end - halo + 1",
        ("unit/inference/test_tiling.py",),
    ),
    Mutant(
        "ids in 16 bits",
        "the 65,536th object becomes background",
        "images/label_types.py",
        "if 0 <= max_id <= np.iinfo(candidate).max:",
        "if 0 <= max_id:",
        ("unit/objects/test_run.py",),
    ),
    Mutant(
        "affine dropped",
        "labels lie beside their image",
        "gui/placement.py",
        '            "affine": self.affine,\n',
        "",
        (
            "faults/gui/test_layers_and_placement.py::test_F30_translate_rotate_shear_affine",
            "gui/test_placement.py::test_P09_labels_lie_exactly_on_their_image",
        ),
    ),
    Mutant(
        "error swallowed",
        "a run that failed looks as if it had been cancelled",
        "gui/worker.py",
        "        return Failure(error, details)\n",
        "        return Stopped()\n",
        ("gui/test_worker.py::test_every_exception_arrives_as_a_value",),
    ),
    Mutant(
        "no fsync",
        "after a power cut, files with the right name and no content",
        "images/atomic.py",
        "            os.fsync(stream.fileno())\n        partial.replace(target)\n",
        "        partial.replace(target)\n",
        ("faults/images/test_durability.py",),
    ),
    Mutant(
        "marker first",
        "a killed run leaves a result that looks complete",
        "images/ome_zarr.py",
        """            source = _add_level(group, 0, array, axes, dtype, check, each)
        for number in range(1, len(factors)):
            source = _add_level(group, number, source, axes, dtype, check, each)
        group.attrs["ome"] = _ome(axes, factors, target.name, labels=labels)
        write_marker(folder, metadata.get("record"), str(metadata.get("key", "")))
""",
        """            pass
        group.attrs["ome"] = _ome(axes, factors, target.name, labels=labels)
        write_marker(folder, metadata.get("record"), str(metadata.get("key", "")))
        source = _add_level(group, 0, array, axes, dtype, check, each)
        for number in range(1, len(factors)):
            source = _add_level(group, number, source, axes, dtype, check, each)
""",
        ("unit/test_streaming.py::test_P18_the_marker_lists_what_there_is",),
    ),
    Mutant(
        "strict=False",
        "missing weights stay random, and nobody is told",
        "models/model.py",
        "    network.load_state_dict(weights, assign=True)\n",
        "    network.load_state_dict(weights, strict=False, assign=True)\n",
        ("unit/test_package.py::test_S02_nothing_dangerous_is_called",),
    ),
    Mutant(
        "loss on ignored pixels",
        "what nobody painted is learned as background",
        "training/sparse_loss.py",
        "picked = known[:, channel]",
        "picked = torch.ones_like(known[:, channel])",
        ("unit/training/test_sparse.py",),
    ),
    Mutant(
        "guard inverted",
        "worse models are adopted, better ones are not",
        "training/guard.py",
        "if after.mean() <= before.mean():",
        "if after.mean() > before.mean():",
        ("unit/training/test_guard.py",),
    ),
)


def copy_tree(target: Path) -> Path:
    """Copy what git knows of the tree, as it is on the disk."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        source, copy = ROOT / name, target / name
        if source.exists() or source.is_symlink():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy, follow_symlinks=False)
    return target


def run_tests(root: Path, tests: tuple[str, ...]) -> tuple[bool, str, float]:
    """Run test files of a tree until the first failure.

    Returns
    -------
    passed : bool
    failed : str
        The test that failed, if one did.
    seconds : float
    """
    began = time.monotonic()
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider",
            "-m", "not slow and not gpu", *(f"tests/{name}" for name in tests),
        ],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(root / "src"), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True, text=True, timeout=1800, check=False,
    )  # fmt: skip
    failed = _FAILED.findall(ended.stdout)
    if ended.returncode not in (0, 1) or (ended.returncode == 1 and not failed):
        raise RuntimeError(f"The tests could not be run:\n{ended.stdout}\n{ended.stderr}")
    return ended.returncode == 0, (failed or [""])[0], time.monotonic() - began


def try_out(mutant: Mutant, root: Path) -> tuple[str, float]:
    """Return the test that catches a mutant, empty if none does, and the seconds it took."""
    path = root / SOURCE / mutant.file
    kept = path.read_bytes()
    mutant.apply(root)
    try:
        _, failed, seconds = run_tests(root, mutant.tests)
    finally:
        path.write_bytes(kept)
    return failed, seconds


def report(rows: list[tuple[Mutant, str, float]]) -> str:
    """Return the table as Markdown."""
    caught = sum(bool(test) for _, test, _ in rows)
    lines = [
        "# Mutants",
        "",
        "Each line is one bug, put into a copy of the program. The tests named beside it were run",
        "until the first failed; on the copy without bugs all of them passed before.",
        "",
        f"**{caught} of {len(rows)} are caught.**",
        "",
        "| mutant | what it would do | in | caught by | s |",
        "|---|---|---|---|---|",
    ]
    for mutant, test, seconds in rows:
        by = f"`{test.removeprefix('tests/')}`" if test else "**nothing**"
        lines.append(f"| {mutant.name} | {mutant.why} | `{mutant.file}` | {by} | {seconds:.0f} |")
    command = 'xvfb-run -a -s "-screen 0 1600x1000x24" python benchmarks/mutants.py'
    return "\n".join([*lines, "", f"Command: `{command}`.", ""])


def main() -> None:
    """Try all mutants, or one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="NAME", choices=[m.name for m in MUTANTS])
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if args.only in (None, m.name)]
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        root = copy_tree(Path(folder))
        tests = tuple(dict.fromkeys(test for m in chosen for test in m.tests))
        passed, failed, seconds = run_tests(root, tests)
        if not passed:
            sys.exit(f"{failed} fails without any mutant. Mend that first.")
        print(f"without a mutant: all pass, {seconds:.0f} s", flush=True)
        rows = []
        for mutant in chosen:
            rows.append((mutant, *try_out(mutant, root)))
            print(f"{mutant.name}: {rows[-1][1] or 'NOTHING'}, {rows[-1][2]:.0f} s", flush=True)
    if args.only is None:
        args.output.write_text(report(rows), encoding="utf-8")
    if not all(test for _, test, _ in rows):
        sys.exit("Some mutants live. Write the tests that catch them.")


if __name__ == "__main__":
    main()
