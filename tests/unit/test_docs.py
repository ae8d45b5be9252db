"""README and documentation say what is so: examples run, links lead somewhere."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from support.clusters import local_cluster

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")]
names = [str(p.relative_to(ROOT)) for p in PAGES]

_FENCE = re.compile(
    r"(?:<!-- (not run|slow): .+? -->\n+)?^( *)```(\w+)([^\n]*)\n(.*?)^\2```", re.M | re.S
)
_TITLE = re.compile(r'title="([^"]+)"')
_LINK = re.compile(r"\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page; ``mark`` is "slow" or "not run", or empty."""

    language: str
    info: str
    text: str
    line: int
    mark: str


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            m[3], m[4], textwrap.dedent(m[5]), text[: m.start(5)].count("\n") + 1, m[1] or ""
        )
        for m in _FENCE.finditer(text)
    ]  # fmt: skip


def commands(block: Block) -> list[list[str]]:

    if block.language not in ("bash", "sh", "console"):
        return []
    lines = [line.removeprefix("$ ").strip() for line in block.text.splitlines()]
    return [shlex.split(line) for line in lines if line and not line.startswith("#")]


def steps(page: Path, marks: tuple[str, ...] = ("",)) -> list[dict]:
    """What is to be run for a page, in its order: blocks of some marks."""
    found = []
    for block in blocks(page):
        if block.mark not in marks:
            continue
        if block.language == "python":
            title = _TITLE.search(block.info)
            found.append({"python": block.text, "line": block.line, "save": title and title[1]})
        for words in commands(block):
            if words[0] == "unet-studio":
                found.append({"command": words, "line": block.line})
    return found


RUNNABLE = [page for page in PAGES if steps(page)]
SLOW = [page for page in PAGES if steps(page, ("slow",))]


@pytest.fixture(scope="module")
def stage():
    """Return what ``tests/doc_stage.py`` has: this folder is on no path."""
    spec = spec_from_file_location("doc_stage", ROOT / "tests" / "doc_stage.py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def run_page(stage, tmp_path_factory):
    """Run steps in a folder; returns the exit status and what was printed."""
    yield from stage.runs(tmp_path_factory.mktemp("pages"))


@pytest.fixture
def workplace(tmp_path):
    """The files that the pages speak of."""
    from unet_studio.samples import read_sample

    nuclei = read_sample("nuclei_fluorescence")
    tifffile.imwrite(tmp_path / "cells.tif", nuclei[:160, :160])
    tifffile.imwrite(tmp_path / "stack.tif", np.stack([nuclei[:96, :96]] * 5))
    for folder in ("images", "truth"):
        (tmp_path / folder).mkdir()
        for index in range(2):
            crop = nuclei[100 * index : 100 * index + 128, :128]
            crop = crop if folder == "images" else (crop > 20).astype(np.uint16)
            Image.fromarray(crop).save(tmp_path / folder / f"{index}.png")
    return tmp_path


@pytest.fixture
def scheduler():
    """A dask cluster in this process."""
    with local_cluster(1) as cluster:
        yield cluster.scheduler_address


@pytest.fixture
def props(stage, workplace, request):
    """A maker of what single pages need beside that, by their name."""

    def make(page: str):
        if page in ("bring-your-model.md", "mri-volumes.md"):
            stage.scans(workplace)
            return stage.models_of_others(workplace, request.getfixturevalue("web"))
        if page == "new-model.md":
            return stage.encoder_weights(workplace, request.getfixturevalue("web"))
        if page == "large-images.md":
            stage.slide(workplace)
        if page == "cluster.md":
            return stage.cluster(workplace, request.getfixturevalue("scheduler"))
        return None

    return make


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_examples_of_a_page_run(page, workplace, run_page, props):
    code, printed = run_page(page.name, steps(page), workplace, props(page.name))
    assert code == 0, printed


@pytest.mark.slow
@pytest.mark.timeout(1500)
@pytest.mark.parametrize("page", SLOW, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_slow_examples_of_a_page_run(page, workplace, run_page, props):
    """After the others of their page, as they go on from those."""
    todo = steps(page, ("", "slow"))
    code, printed = run_page(page.name, todo, workplace, props(page.name), late_s=1400)
    assert code == 0, printed


def test_a_step_that_fails_is_told(tmp_path, run_page):
    """In Python, as a command, and by a name of ours that the page does not import."""
    for step, said in (
        ({"python": "1 / 0", "save": None}, "ZeroDivisionError"),
        ({"command": ["unet-studio", "segment", "missing.tif"]}, "a.md:1: unet-studio segment"),
        ({"python": "unet_studio.load_model", "save": None}, "NameError"),
    ):
        code, printed = run_page("a.md", [{"line": 1} | step], tmp_path)
        assert code != 0
        assert said in printed


# -- what is not run: it needs a network, a cluster, or files of one's own ----

_EXTRAS = re.compile(r"napari-unet-studio\[([\w,]+)\]")
_INLINE = re.compile(r"`unet-studio ([^`]+)`")
_WRITTEN = "command-line.md"  # from the commands themselves


def command_of(words: list[str]):
    """Return a command of ours, and the words that are left to it."""
    import typer

    from unet_studio.cli.app import app

    command = typer.main.get_command(app)
    words = words[1:]
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    return command, words


def not_run(page: Path) -> list[tuple[int, list[str]]]:
    """The commands of a page that no test runs, each with its line."""
    return [
        (block.line, shlex.split(line))
        for block in blocks(page)
        if block.language == "text" or block.mark == "not run"
        for line in block.text.splitlines()
        if line.startswith("unet-studio ") and page.name != _WRITTEN
    ]


def test_commands_that_are_not_run_are_understood():
    """The command line reads them: subcommands, options and kinds of values are as they say."""
    found = [(page.name, *command) for page in PAGES for command in not_run(page)]
    # More is run than this: who adds to it needs a reason, such as a device that is not here.
    assert [(page, shlex.join(words)) for page, _, words in found] == [
        ("faster.md", "unet-studio segment cells.tif --output results --device cuda:0,cuda:1")
    ]
    wrong = []
    for page, line, words in found:
        command, rest = command_of(words)
        try:
            command.make_context(words[0], rest)
        except Exception as error:
            wrong.append(f"{page}:{line}: {shlex.join(words)}: {error}")
    assert wrong == []


def test_commands_within_the_text_exist():
    seen = 0
    for page in PAGES:
        for text in _INLINE.findall(_FENCE.sub("", page.read_text(encoding="utf-8"))):
            command, rest = command_of(["unet-studio", *text.split()])
            known = {spelling for p in command.params for spelling in (*p.opts, *p.secondary_opts)}
            known |= {"--help", "-h"}
            assert {w for w in rest if w.startswith("-")} <= known, f"{page.name}: {text}"
            assert not getattr(command, "commands", {}) or not rest or rest[0].startswith("-"), (
                text
            )
            seen += 1
    assert seen > 15


_BUTTON = re.compile(r"\*\*([^*\n]+ …)\*\*|\b(?:[Pp]ress|[Tt]ick|, then) \*\*([^*\n]+)\*\*")
_MENU = re.compile(r"\*File > Open Sample > U-Net Studio > ([^*]+)\*")


def test_buttons_that_pages_name_are_in_the_window():
    """What to press, to tick, and what ends in an ellipsis; and samples, by the menu's words."""
    package = ROOT / "src" / "unet_studio"
    window = "\n".join(p.read_text("utf-8") for p in (package / "gui").glob("*.py"))
    samples = (package / "napari.yaml").read_text(encoding="utf-8")
    gone, seen = [], 0
    for page in PAGES:
        text = _FENCE.sub("", page.read_text(encoding="utf-8"))
        names = {" ".join((a or b).split()) for a, b in _BUTTON.findall(text)}
        shown = {name for name in names if f'"{name}' not in window}
        shown |= {name for name in _MENU.findall(text) if f"display_name: {name}" not in samples}
        gone += [f"{page.name}: {name}" for name in sorted(shown)]
        seen += len(names)
    assert gone == []
    assert seen > 15


def test_a_command_that_is_no_longer_there_would_be_noticed():
    command, rest = command_of(["unet-studio", "segment", "a.tif", "--no-such-option"])
    with pytest.raises(Exception, match="no-such-option"):
        command.make_context("unet-studio", rest)
    command, rest = command_of(["unet-studio", "models", "gone"])
    assert rest == ["gone"]


def test_blocks_of_commands_hold_nothing_that_is_passed_over():
    """Other programs than these would be neither run nor looked at."""
    for page in PAGES:
        for block in blocks(page):
            for words in commands(block):
                assert words[0] in {"unet-studio", "make", "pip"}, f"{page.name}:{block.line}"


def test_extras_that_are_named_exist():
    """In the pages, and in messages that say what to install."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = set(extras["optional-dependencies"])
    sources = [*PAGES, *(ROOT / "src").rglob("*.py")]
    named = {
        extra
        for path in sources
        for group in _EXTRAS.findall(path.read_text(encoding="utf-8"))
        for extra in group.split(",")
    }
    assert named == extras


def test_the_pages_have_examples():
    """So that a change of the fences does not leave this file without work."""
    kinds = [kind for page in PAGES for step in steps(page) for kind in step]
    assert kinds.count("python") >= 8
    assert kinds.count("command") >= 10


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_links_of_a_page_lead_to_files(page):
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in _LINK.findall(text):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        linked = (page.parent / path) if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        if anchor:
            assert anchor in anchors(linked), f"{linked.name} has no heading #{anchor}"


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", h).strip().lower().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_the_targets_of_make_exist(page):
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    for block in blocks(page):
        for words in commands(block):
            if words[0] == "make":
                wanted = [w for w in words[1:] if "=" not in w]
                assert set(wanted) <= set(targets), f"{page.name}:{block.line}"


def test_the_page_of_commands_is_up_to_date():
    spec = spec_from_file_location("make_cli_reference", DOCS / "make_cli_reference.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    written = (DOCS / "reference" / "command-line.md").read_text(encoding="utf-8")
    assert written == module.reference(), "run: python docs/make_cli_reference.py"


def test_how_to_add_each_kind_of_part_is_told():
    """Entry points that pages name are looked at, and every registry is in the table of parts."""
    source = "\n".join(p.read_text("utf-8") for p in (ROOT / "src").rglob("*.py"))
    known = set(re.findall(r"entry_points=\"(unet_studio\.\w+)\"", source))
    assert len(known) >= 10
    named = {
        group
        for page in PAGES
        for block in blocks(page)
        if block.language == "toml"
        for group in tomllib.loads(block.text).get("project", {}).get("entry-points", {})
    }
    assert {"unet_studio.networks", "unet_studio.objects_methods"} <= named <= known
    table = (DOCS / "how-to" / "add-other-parts.md").read_text(encoding="utf-8")
    assert known == set(re.findall(r"\| `(unet_studio\.\w+)` \|", table))


def test_the_site_builds_without_a_warning(tmp_path):
    ended = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"],
        cwd=ROOT, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    pages = [p.read_text(encoding="utf-8") for p in (tmp_path / "site").rglob("*.html")]
    assert len(pages) > 9
    for text in pages:
        fetched = re.findall(r'<(?:script|link|img)[^>]+(?:src|href)="(https?://[^"]+)"', text)
        assert not [u for u in fetched if "canonical" not in u], "nothing comes from elsewhere"
    reference = (tmp_path / "site" / "reference" / "python" / "index.html").read_text()
    import unet_studio

    for name in set(unet_studio.__all__) - {"__version__"}:
        assert f'id="unet_studio.{name}"' in reference, name
