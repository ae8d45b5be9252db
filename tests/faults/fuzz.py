"""Search for bytes that a reader does not expect, guided by the lines of code they reach.

    python tests/faults/fuzz.py --minutes 10 [KIND ...]

Needs atheris (``pip install atheris``). The kinds are those of ``test_fuzzed_files.py``, which
damages files blindly; here libFuzzer keeps what reaches new lines of unet_studio and of the
readers it uses, and changes that further. A file that brings an error of another kind than our
own is kept beside the table, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import importlib.util
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

HERE = Path(__file__).resolve()
# What parses bytes in Python; the rest of a reader's library is taken as it is.
GUIDED = ["unet_studio", "tifffile", "nibabel", "yaml", "zipfile", "tomllib", "ome_zarr_models"]


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

    def one(data: bytes) -> None:
        path.write_bytes(data)
        try:
            reader(path)
        except UNetStudioError:
            pass

    atheris.Setup(
        [
            "fuzz", f"-max_total_time={seconds}", f"-max_len={4 * len(content) + 1024}",
            "-timeout=60", "-rss_limit_mb=4096", "-print_final_stats=1",
            f"-artifact_prefix={corpus.parent}/found-{corpus.name}-", str(corpus),
        ],
        one,
    )  # fmt: skip
    atheris.Fuzz()


def main() -> int:
    """Search in a process per kind, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--keep", type=Path, default=Path(tempfile.gettempdir()) / "fuzz")
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seconds = round(60 * options.minutes)
    if options.search:
        search(options.kinds[0], seconds, options.keep)
    print("| kind of file | files tried | ways through the code | errors not ours |")
    print("|---|---|---|---|")
    failed = 0
    for kind in options.kinds or readers():
        corpus = options.keep / re.sub(r"\W+", "_", kind)
        command = [sys.executable, HERE, kind, "--search", "--minutes", str(options.minutes)]
        ended = subprocess.run(
            [*command, "--keep", corpus], capture_output=True, text=True, check=False
        )
        log = ended.stdout + ended.stderr
        corpus.with_suffix(".log").write_text(log)
        tried = re.search(r"stat::number_of_executed_units:\s*(\d+)", log)
        ways = re.findall(r"\bft: (\d+)", log)
        found = [p.name for p in options.keep.glob(f"found-{corpus.name}-*")]
        wrong = ended.returncode != 0 or bool(found)
        failed += wrong
        print(
            f"| {kind} | {int(tried[1]) if tried else 0:,} | {ways[-1] if ways else '?'} | "
            f"{', '.join(found) or (f'ended with {ended.returncode}' if wrong else 'none')} |",
            flush=True,
        )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
