"""Search for bytes that a reader does not expect, guided by the lines of code they reach.

    python tests/faults/fuzz.py --minutes 10 [--jobs 4] [KIND ...]

Needs atheris (``pip install atheris``). The kinds are those of ``test_fuzzed_files.py``, which
damages files blindly; here libFuzzer keeps what reaches new lines of unet_studio and of the
readers it uses, and changes that further. A file that brings an error of another kind than our
own is kept beside the table, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import logging
import os
import platform
import re
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

HERE = Path(__file__).resolve()
# What parses bytes in Python; the rest of a reader's library is taken as it is.
GUIDED = ["unet_studio", "tifffile", "nibabel", "yaml", "zipfile", "tomllib", "yaozarrs", "zarr"]


def readers():
    """Return the kinds of file with a valid one and its reader."""
    spec = importlib.util.spec_from_file_location(
        "fuzzed_files", HERE.with_name("test_fuzzed_files.py")
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.READERS


def search(kind: str, seconds: int, corpus: Path) -> None:
    """Run libFuzzer in this process, which does not return."""
    import atheris

    with atheris.instrument_imports(include=GUIDED):
        name, content, reader = readers()[kind]
        from unet_studio.errors import UNetStudioError
    folder = Path(tempfile.mkdtemp())
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "valid").write_bytes(content)
    warnings.simplefilter("ignore")
    logging.disable()  # libraries write of every damaged file

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            reader(path)
        except UNetStudioError:
            pass

    atheris.Setup(
        [
            "fuzz", f"-max_total_time={seconds}", f"-max_len={4 * len(content) + 1024}",
            "-timeout=60", "-report_slow_units=60", "-rss_limit_mb=4096",
            "-print_final_stats=1",
            f"-artifact_prefix={corpus.parent}/found-{corpus.name}-", str(corpus),
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()


@dataclass(frozen=True)
class Search:
    """What libFuzzer said of one kind, and the row of the table that it becomes."""

    kind: str
    log: str
    found: list[str]
    status: int
    processor: float  # seconds: on a busy computer much less than by the clock

    def number(self, pattern: str, which: int = -1) -> int | None:
        """Return the first or last number that the log gives after some words."""
        numbers = re.findall(pattern + r"\s*(\d+)", self.log)
        return int(numbers[which]) if numbers else None

    @property
    def failed(self) -> bool:
        return self.status != 0 or bool(self.found)

    @property
    def row(self) -> str:
        """Return the row of the table."""
        tried = self.number("stat::number_of_executed_units:") or self.number(r"(?m)^#")
        first = self.number(r"INITED.*\bft:", 0)
        slowest = self.number("stat::slowest_unit_time_sec:")
        memory = self.number("stat::peak_rss_mb:")
        figures = [round(self.processor), tried, first, self.number(r"\bft:"), slowest, memory]
        told = [f"{n:,}" if n is not None else "?" for n in figures]
        wrong = ", ".join(self.found) or f"ended with {self.status}"
        return f"| {self.kind} | {' | '.join(told)} | {wrong if self.failed else 'none'} |"


def search_apart(kind: str, options: argparse.Namespace) -> Search:
    """Search in a process of its own, and keep its log."""
    corpus = options.keep / re.sub(r"\W+", "_", kind)
    command = [sys.executable, HERE, kind, "--search", "--minutes", str(options.minutes)]
    corpus.parent.mkdir(parents=True, exist_ok=True)
    log = corpus.with_suffix(".log")
    with log.open("wb") as stream:
        process = subprocess.Popen([*command, "--keep", corpus], stdout=stream, stderr=stream)
        _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    found = [p.name for p in options.keep.glob(f"found-{corpus.name}-*")]
    told = log.read_text(errors="replace")
    done = Search(kind, told, found, process.returncode, used.ru_utime + used.ru_stime)
    print(done.row, flush=True)
    return done


def report(searches: list[Search], options: argparse.Namespace) -> str:
    """Return the table as Markdown."""
    at_once = f"{options.jobs} searches ran at once on {os.cpu_count()} cores"
    lines = [
        "# Files that are searched for, not made at random (S04)", "",
        "libFuzzer changes a valid file of each kind and keeps what reaches new lines of the",
        "reader. Ways are what it counts as different runs through the code: those of the valid",
        "file and, at the end, of all that were found. An error of another kind than our own, a",
        "file that takes a minute, or a process beyond 4 GiB would end the search.", "",
        "| kind of file | processor, s | files tried | ways at first | at the end | slowest, s "
        "| memory, MB | errors not ours |",
        "|---|---|---|---|---|---|---|---|",
        *(search.row for search in searches), "",
        f"{options.minutes:g} minutes of the clock each; {at_once}, which did other work as well. "
        f"atheris {version('atheris')}, Python {platform.python_version()}.", "",
        f"Command: `python tests/faults/fuzz.py {' '.join(sys.argv[1:])}`", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Search in a process per kind, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--jobs", type=int, default=1, help="searches at once")
    parser.add_argument("--output", type=Path, help="where to write the table as a page")
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz")
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.search:
        search(options.kinds[0], round(60 * options.minutes), options.keep)
    kinds = options.kinds or list(readers())
    with ThreadPoolExecutor(options.jobs) as pool:
        searches = list(pool.map(lambda kind: search_apart(kind, options), kinds))
    if options.output:
        options.output.write_text(report(searches, options), encoding="utf-8")
    return any(search.failed for search in searches)


if __name__ == "__main__":
    sys.exit(main())
