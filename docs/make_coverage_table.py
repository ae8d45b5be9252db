"""Write docs/reference/reliability.md: each promise, and the tests that hold it.

    python docs/make_coverage_table.py

The promises are listed in docs/reference/reliability.toml. A test covers those that its
name holds (`test_F42_…`), or the id of a parameter ("F01_zero"); a benchmark those that its
first text names. How what is not run before every merge went is in last_results.toml beside
it. A test compares the page with what this would write.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIST = ROOT / "docs" / "reference" / "reliability.toml"
PAGE = LIST.with_suffix(".md")
RESULTS = LIST.with_name("last_results.toml")
NEVER = {"slow": "none noted", "gpu": "never run", "benchmark": "not measured yet"}
_IN_NAME = re.compile(r"(?:^|_)([FPLSfpls]\d\d)(?=_|$)")
_IN_PARAMETER = re.compile(r"^([FPLS]\d\d)(?=_|$)")
_IN_TEXT = re.compile(r"\b([FPLS]\d\d)\b")
_TIERS = ("normal", "slow", "gpu", "benchmark")  # in the order of cost
HEAD = """# Reliability

<!-- Written by docs/make_coverage_table.py; changes here are lost. -->

What U-Net Studio holds itself to, the test that shows it, and how that went when it last ran.
Tests of the tier *normal* run before every merge (`make test`) and have to pass: *every merge*.
*Slow* ones are run by `make test-slow`, *gpu* ones where there is an NVIDIA GPU, and what is told
of them was noted by `--record-results` or stands in a table of `benchmarks/results`, as for a
*benchmark*. Paths are those below `tests/`. That these tests can fail is shown by
`benchmarks/mutants.py`, which breaks the program in ten ways.
"""


@dataclass(frozen=True)
class Cover:
    """A test or benchmark, and where it runs."""

    name: str
    tier: str


@dataclass
class Promises:
    """The list, and what was found for it.

    Attributes
    ----------
    groups : list of (title, {id: title})
    not_covered, partly : dict of str
        Reasons per id.
    covers : dict of list of Cover
        Per id.
    on_gpu : list of Cover
        All tests that need a GPU, whether or not they name a promise.
    rare : set of str
        Names of all tests that do not run before every merge.
    results : dict
        Of last_results.toml: "tests" by name, "measured" by id.
    """

    groups: list[tuple[str, dict[str, str]]]
    not_covered: dict[str, str]
    partly: dict[str, str]
    covers: dict[str, list[Cover]] = field(default_factory=dict)
    on_gpu: list[Cover] = field(default_factory=list)
    rare: set[str] = field(default_factory=set)
    results: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def ids(self) -> list[str]:
        """All ids, in the order of the list."""
        return [i for _, items in self.groups for i in items]


def read_list(path: Path = LIST) -> Promises:
    """Read the list of promises, without tests."""
    content = tomllib.loads(path.read_text(encoding="utf-8"))
    groups = [(group["title"], group["items"]) for group in content["group"]]
    return Promises(groups, content["not_covered"], content["partly"])


def promises(root: Path = ROOT) -> Promises:
    """Return the list with the tests and benchmarks of this tree."""
    found = read_list()
    for path in sorted((root / "tests").rglob("test_*.py")):
        for ids, cover in tests_of(path, root / "tests"):
            if cover.tier == "gpu":
                found.on_gpu.append(cover)
            if cover.tier != "normal":
                found.rare.add(cover.name)
            for i in ids:
                found.covers.setdefault(i, []).append(cover)
    for path in sorted((root / "benchmarks").glob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        for i in dict.fromkeys(_IN_TEXT.findall(text)):
            found.covers.setdefault(i, []).append(Cover(f"benchmarks/{path.name}", "benchmark"))
    found.results = tomllib.loads(RESULTS.read_text(encoding="utf-8"))
    return found


def tests_of(path: Path, root: Path) -> Iterator[tuple[list[str], Cover]]:
    """Yield the tests of a file with the promises that they name, if any."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    whole = " ".join(ast.unparse(n) for n in module.body if isinstance(n, ast.Assign))
    whole = whole if "pytestmark" in whole else ""
    for node in ast.walk(module):
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith("test"):
            continue
        decorators = " ".join(ast.unparse(d) for d in node.decorator_list)
        ids = [i.upper() for i in _IN_NAME.findall(node.name)]
        ids += [i for d in node.decorator_list for i in _in_parameters(d)]
        marks = decorators + whole
        tier = next((t for t in ("gpu", "slow") if f"pytest.mark.{t}" in marks), "normal")
        name = f"{path.relative_to(root).as_posix()}::{node.name}"
        yield list(dict.fromkeys(ids)), Cover(name, tier)


def _in_parameters(decorator: ast.expr) -> Iterator[str]:
    for node in ast.walk(decorator):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _IN_PARAMETER.findall(node.value)


def problems(found: Promises) -> list[str]:
    """Return what is wrong with the list or with the names of tests."""
    known, said = set(found.ids), []
    for i in found.ids:
        if i in found.covers and i in found.not_covered:
            said.append(f"{i} has a test now: take it off [not_covered].")
        if i not in found.covers and i not in found.not_covered:
            said.append(f"{i} ({title_of(found, i)}) has no test.")
        if i in found.partly and i not in found.covers:
            said.append(f"{i} is in [partly], but has no test.")
    said += [f"{i} in {found.covers[i][0].name} is not on the list." for i in found.covers
             if i not in known]  # fmt: skip
    said += [f"The reason of {i} is not about an item of the list."
             for i in (*found.not_covered, *found.partly) if i not in known]  # fmt: skip
    return said + stale_results(found)


def stale_results(found: Promises) -> list[str]:
    """Return what last_results.toml says of things that are not there."""
    said = []
    for i, noted in found.results.get("measured", {}).items():
        table = ROOT / "benchmarks" / "results" / noted["table"]
        if noted["row"] not in table.read_text(encoding="utf-8"):
            said.append(f"{RESULTS.name}: {noted['table']} does not hold what is noted of {i}.")
    return said + [
        f"{RESULTS.name}: there is no slow or gpu test {name} any more; take it out."
        for name in found.results.get("tests", {}) if name not in found.rare
    ]  # fmt: skip


def title_of(found: Promises, i: str) -> str:
    """Return the title of one promise."""
    return next(items[i] for _, items in found.groups if i in items)


def page(found: Promises) -> str:
    """Return the page as Markdown."""
    total = len(found.ids)
    covered = [i for i in found.ids if i in found.covers]
    lines = [
        HEAD,
        f"**{len(covered)} of {total} items are covered**, {len(found.partly)} of these in part.",
        "",
    ]
    if found.not_covered:
        lines += ["Not covered yet:", ""]
        lines += [f"- {i}, {title_of(found, i)}: {why}." for i, why in found.not_covered.items()]
        lines.append("")
    for title, items in found.groups:
        head = ["| | what | tier | last result | covered by |", "|---|---|---|---|---|"]
        lines += [f"## {title}", "", *head]
        lines += [_row(found, i, what) for i, what in items.items()]
        lines.append("")
    lines += ["## On a GPU", "", "Tests that compare an NVIDIA GPU with the CPU.", ""]
    lines += ["| test | last result |", "|---|---|"]
    lines += [f"| `{c.name}` | {last_result(found, '', c)} |" for c in found.on_gpu]
    return "\n".join(lines) + "\n"


def last_result(found: Promises, i: str, cover: Cover) -> str:
    """Return how one cover of a promise went when it last ran, as Markdown."""
    if cover.tier == "normal":
        return "every merge"
    if noted := found.results.get("tests", {}).get(cover.name):
        return f"{noted['outcome']} {noted['date']} ({noted['on']})"
    if measured := found.results.get("measured", {}).get(i):
        return f"`{measured['table']}`: {measured['says']}"
    return NEVER[cover.tier]


def _row(found: Promises, i: str, what: str) -> str:
    covers = sorted(found.covers.get(i, []), key=lambda c: _TIERS.index(c.tier))
    tiers = list(dict.fromkeys(c.tier for c in covers))
    told: dict[str, None] = {}  # each once
    for cover in covers:
        tier = f"{cover.tier}: " if len(tiers) > 1 and cover.tier != "normal" else ""
        told[tier + last_result(found, i, cover)] = None
    names = "<br>".join(f"`{c.name}`" for c in covers) or f"not yet: {found.not_covered.get(i)}"
    part = f" (so far: {found.partly[i]})" if i in found.partly else ""
    results = "<br>".join(told) or "–"
    return f"| {i} | {what}{part} | {', '.join(tiers) or '–'} | {results} | {names} |"


if __name__ == "__main__":
    here = promises()
    if wrong := problems(here):
        sys.exit("\n".join(wrong))
    PAGE.write_text(page(here), encoding="utf-8")
    print(f"Wrote {PAGE}: {sum(i in here.covers for i in here.ids)} of {len(here.ids)} covered")
