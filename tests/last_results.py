"""A pytest plugin: ``--record-results`` notes how the rare tests went.

Tests marked ``slow`` or ``gpu`` are no part of what runs before every merge, so that a reader
can not know when they last passed. With this option each of them that ran is written to
``docs/reference/last_results.toml``, from which ``docs/make_coverage_table.py`` tells it.
"""

from __future__ import annotations

import datetime
import json
import platform
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

OPTION = "--record-results"
RECORD = Path(__file__).parents[1] / "docs" / "reference" / "last_results.toml"
RARE = ("slow", "gpu")
_TESTS = "tests"  # the table of them in the file


class Recorder:
    """Collects outcomes; with pytest-xdist, in the process that reports.

    Parameters
    ----------
    path : Path
        The record. What it says of other tests stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.failed: dict[str, bool] = {}
        self.on_gpu = False

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A test failed if one of its cases did, in any phase; skipped cases say nothing."""
        rare = [mark for mark in RARE if mark in report.keywords]
        if not rare or report.skipped or (report.when != "call" and report.passed):
            return
        name = report.nodeid.partition("[")[0].removeprefix("tests/")
        self.failed[name] = self.failed.get(name, False) or report.failed
        self.on_gpu |= "gpu" in rare

    def pytest_sessionfinish(self) -> None:
        if self.failed:
            self.path.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """Return the record with what was collected."""
        before = self.path.read_text(encoding="utf-8") if self.path.is_file() else ""
        head, _, _ = before.partition(f"[{_TESTS}.")
        entries = dict(tomllib.loads(before).get(_TESTS, {}))
        today, where = datetime.date.today(), computer(self.on_gpu)
        for name, failed in self.failed.items():
            outcome = "failed" if failed else "passed"
            entries[name] = {"outcome": outcome, "date": today, "on": where}
        lines = [head.rstrip(), ""] if head.strip() else []
        for name, entry in sorted(entries.items()):
            lines += [f"[{_TESTS}.{json.dumps(name)}]", f'outcome = "{entry["outcome"]}"']
            lines += [f"date = {entry['date']}", f"on = {json.dumps(entry['on'])}", ""]
        return "\n".join(lines)


def computer(on_gpu: bool) -> str:
    """Return the system, the versions that count most, and the GPU if one was used."""
    words = f"{platform.system()}, Python {platform.python_version()}, torch {version('torch')}"
    if on_gpu:
        import torch

        words += f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return words


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        OPTION, action="store_true", help=f"note in {RECORD.name} how rare tests went"
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption(OPTION, default=False) and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(RECORD), "last results")
