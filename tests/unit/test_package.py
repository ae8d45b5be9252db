"""Promises of the package as a whole: quick and light to import, layered, safe, complete."""

from __future__ import annotations

import ast
import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import unet_studio

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "unet_studio"
HEAVY = ("torch", "napari", "qtpy", "PyQt6", "PySide6", "segmentation_models_pytorch", "timm")


def run(code: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def loaded_after(code: str) -> set[str]:
    """Which of the heavy packages are imported after some code has run."""
    out = run(f"{code}\nimport sys\nprint('>', *[m for m in {HEAVY} if m in sys.modules])")
    return set(out.splitlines()[-1].removeprefix(">").split())


HELP = """
import sys
sys.argv = ["unet-studio", "segment", "--help"]
from unet_studio.cli.app import main
try:
    main()
except SystemExit as stop:
    assert not stop.code
"""


@pytest.mark.parametrize(
    "code",
    [
        "import unet_studio",
        "import unet_studio.recipe, unet_studio.images.readers, unet_studio.samples",
        "import unet_studio.models.store as s; assert s.list_models() is not None",
        HELP,
    ],
    ids=["package", "images", "list of models", "help"],
)
def test_light_things_import_neither_torch_nor_napari_nor_qt(code):
    assert loaded_after(code) == set()


def test_the_check_of_heavy_packages_sees_one():
    assert "qtpy" in loaded_after("import qtpy")


def test_L12_importing_takes_less_than_three_tenths_of_a_second():
    code = "import time; t = time.perf_counter(); import unet_studio; print(time.perf_counter()-t)"
    assert min(float(run(code)) for _ in range(3)) < 0.3


def test_every_public_name_is_there():
    for name in unet_studio.__all__:
        value = getattr(unet_studio, name)
        assert value is not None
        if callable(value):
            assert value.__doc__, f"{name} has no docstring"
    assert dir(unet_studio) == sorted(unet_studio.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        unet_studio.nothing  # noqa: B018


def rooms_of(page: str) -> dict[str, set[str]]:
    """Files that a page's second table of rooms names; ``…`` and ``_`` end beginnings."""
    rows = page.partition("Where to begin in a room")[2].splitlines()
    cells = (re.findall(r"`([^`]+)`", row) for row in rows if row.startswith("| `"))
    return {room.strip("/"): {name.strip("/") for name in names} for room, *names in cells}


def files_in(room: str) -> set[str]:
    inside = [p for p in (SOURCE / room).iterdir() if p.is_dir() or p.suffix == ".py"]
    return {p.stem for p in inside if not p.name.startswith("__")}


def is_named(file: str, names: set[str]) -> bool:
    begins = tuple(n.rstrip("…") for n in names if n.endswith(("…", "_")))
    return file in names or file.startswith(begins)


def test_the_table_of_rooms_names_every_file_and_no_other():
    rooms = rooms_of((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(rooms) == 8
    for room, names in rooms.items():
        files = files_in(room)
        assert not [file for file in files if not is_named(file, names)], room
        assert not [n for n in names if not any(is_named(file, {n}) for file in files)], room


def test_a_file_that_no_table_names_would_be_noticed():
    names = rooms_of("Where to begin in a room\n| `gui/` | `dock` | `click_`, `stroke_…` |")["gui"]
    assert names == {"dock", "click_", "stroke_…"}
    assert is_named("click_tab", names)
    assert is_named("stroke_watch", names)
    assert not is_named("docks", names)


def test_there_is_one_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == unet_studio.__version__
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert unet_studio.__version__ in changes


def test_each_room_imports_only_rooms_before_it():
    command = shutil.which("lint-imports", path=str(Path(sys.executable).parent))
    assert command, "import-linter is not installed; it is in the group 'dev'"
    ended = subprocess.run(
        [command, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stdout
    assert "0 broken" in ended.stdout


# -- registries ---------------------------------------------------------------

REGISTRIES = (
    "unet_studio.images.formats:READERS",
    "unet_studio.images.formats:WRITERS",
    "unet_studio.images.normalisers:NORMALISERS",
    "unet_studio.images.preparation:PREPARATIONS",
    "unet_studio.models.foreign.guess:RECOGNISERS",
    "unet_studio.models.importing:IMPORTERS",
    "unet_studio.models.networks:NETWORKS",
    "unet_studio.models.sources:WEIGHT_SOURCES",
    "unet_studio.objects.methods:METHODS",
)


def registry(target: str):
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)


@pytest.mark.parametrize(
    ("target", "name"), [(target, name) for target in REGISTRIES for name in registry(target)]
)
def test_every_registered_name_loads(target, name):
    part = registry(target).load(name)
    assert any(callable(getattr(part, name, None)) for name in ("__call__", "function", "convert"))


def test_every_registry_is_looked_at():
    created = {
        f"{node.targets[0].id if isinstance(node, ast.Assign) else node.target.id}"
        for path in SOURCE.rglob("*.py")
        if "gui" not in path.parts  # tabs need a window: tests/gui
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        and isinstance(node.value, ast.Call)
        and "Registry" in ast.unparse(node.value.func)
    }
    assert created == {target.partition(":")[2] for target in REGISTRIES}


# -- security: S02 ------------------------------------------------------------

_FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
_FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
_FORBIDDEN_METHODS = {"extractall", "load_from_url", "load_state_dict_from_url", "unpack_archive"}


def _keyword(call: ast.Call, name: str) -> object:
    for keyword in call.keywords:
        if keyword.arg == name:
            return keyword.value.value if isinstance(keyword.value, ast.Constant) else ...
    return None


def dangers(source: str) -> list[str]:
    """What in some source could run foreign code or hide damage."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [a.name for a in node.names]
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [m for m in modules if m.partition(".")[0] in _FORBIDDEN_IMPORTS]
        if isinstance(node, ast.Assign) and any(
            ast.unparse(target).endswith("MAX_IMAGE_PIXELS") for target in node.targets
        ):
            found.append("MAX_IMAGE_PIXELS")  # guards against pictures that unpack to gigabytes
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        owner, _, method = called.rpartition(".")
        if called in _FORBIDDEN_CALLS or method in _FORBIDDEN_METHODS:
            found.append(called)
        if called == "torch.load" and _keyword(node, "weights_only") is not True:
            found.append("torch.load without weights_only=True")
        if method == "load" and _keyword(node, "allow_pickle") not in (None, False):
            found.append("np.load with allow_pickle")
        if owner == "yaml" and method in ("load", "unsafe_load", "full_load", "load_all"):
            found.append(called)
        if method == "load_state_dict" and _keyword(node, "strict") not in (None, True):
            found.append("load_state_dict without strict")
        if _keyword(node, "verify") is False:
            found.append("verify=False")
        if _keyword(node, "shell") not in (None, False):
            found.append("shell=True")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "torch.load(p)",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=flag)",
        "np.load(p, allow_pickle=True)",
        "eval('1')",
        "exec(code)",
        "yaml.load(text)",
        "net.load_state_dict(w, strict=False)",
        "zipfile.ZipFile(p).extractall()",
        "requests.get(u, verify=False)",
        "subprocess.run(c, shell=True)",
        "Image.MAX_IMAGE_PIXELS = None",
    ],
)
def test_S02_the_scan_sees_what_it_looks_for(source):
    assert dangers(source)


def test_S02_nothing_dangerous_is_called():
    assert not dangers("model.eval()\nre.compile(x)\nzip(a, b, strict=False)\njson.load(f)")
    paths = list(SOURCE.rglob("*.py"))
    assert len(paths) > 40
    found = {str(p.relative_to(SOURCE)): dangers(p.read_text(encoding="utf-8")) for p in paths}
    assert {path: what for path, what in found.items() if what} == {}


# -- the plugin manifest ------------------------------------------------------


def test_the_manifest_is_whole():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_file(ROOT / "napari.yaml")
    assert manifest.name == "napari-unet-studio"
    assert (ROOT / "napari.yaml").resolve() == (SOURCE / "napari.yaml").resolve()
    contributions = manifest.contributions
    assert [w.display_name for w in contributions.widgets] == ["U-Net Studio"]
    assert len(contributions.sample_data) >= 3
    assert any("*.safetensors" in r.filename_patterns for r in contributions.readers)
    for command in contributions.commands:
        module, _, name = command.python_name.partition(":")
        path = SOURCE.parent.joinpath(*module.split(".")).with_suffix(".py")
        defined = {
            node.name
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
        }
        assigned = {
            target.id
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        assert name in defined | assigned, command.python_name


def test_the_manifest_offers_every_sample():
    from npe2 import PluginManifest

    from unet_studio.samples import SAMPLES

    manifest = PluginManifest.from_file(ROOT / "napari.yaml")
    offered = {sample.key: sample.display_name for sample in manifest.contributions.sample_data}
    assert offered == {name: sample.title for name, sample in SAMPLES.items()}
