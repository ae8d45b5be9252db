"""A pytest plugin: a test may be skipped for a reason that is on the list, and for no other.

A suite that is skipped passes. So a run in which a test was skipped for a reason that
``allowed_skips.toml`` does not name ends with exit code 1 and says which.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

ALLOWED = Path(__file__).with_name("allowed_skips.toml")


class SkipPolicy:
    """Collects what is skipped; with pytest-xdist, in the process that reports."""

    def __init__(self, allowed: dict[str, str]) -> None:
        self.allowed = [re.compile(pattern) for pattern in allowed]
        self.refused: list[tuple[str, str]] = []

    def _look(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        text = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = text.removeprefix("Skipped: ")
        if not any(pattern.fullmatch(reason) for pattern in self.allowed):
            self.refused.append((report.nodeid, reason))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._look(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._look(report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.refused and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.refused:
            return
        terminalreporter.section("skipped for a reason that is not on the list", red=True)
        for name, reason in self.refused:
            terminalreporter.line(f"{name}: {reason}")
        terminalreporter.line(f"Mend what is missing, or add the reason to {ALLOWED.name}.")


def read_allowed(path: Path = ALLOWED) -> dict[str, str]:
    """Return the allowed reasons, regular expressions, with why each is allowed."""
    allowed: dict[str, str] = tomllib.loads(path.read_text(encoding="utf-8"))["allowed"]
    return allowed


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # the processes of pytest-xdist report to one
        config.pluginmanager.register(SkipPolicy(read_allowed()), "allowed skips")
