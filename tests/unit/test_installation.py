"""What is built holds everything, and what is installed is found, in fresh environments."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LEFT_OUT = shutil.ignore_patterns(
    ".venv*", ".git", ".*_cache", ".hypothesis", "__pycache__", "site", "dist", "build", "runs",
    "demo-output",
)  # fmt: skip
_OUR_OWN = ("napari_unet_studio", "_editable_impl_napari_unet_studio", "unet_studio")

# Printed by a fresh environment about itself.
_REPORT = """
import json, importlib.metadata as metadata, unet_studio
from npe2 import PluginManager
manager = PluginManager()
manager.discover()
manifest = manager.get_manifest("napari-unet-studio")
manager.activate(manifest.name)
found = [d for d in metadata.distributions() if d.name == "napari-unet-studio"]
print(json.dumps({
    "package": unet_studio.__file__,
    "distributions": [str(d.locate_file("")) for d in found],
    "version": manifest.package_version,
    "widgets": [w.display_name for w in manifest.contributions.widgets],
    "readers": [r.filename_patterns for r in manifest.contributions.readers],
    "samples": [s.key for s in manifest.contributions.sample_data],
    "commands": [callable(manager.commands.get(c.id)) for c in manifest.contributions.commands],
    "models": [m.name for m in unet_studio.list_models() if m.origin == "bundled"],
}))
"""


def run(*command: object, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ended = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True,
        timeout=240, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> Path:
    """A copy of the repository, so that building leaves nothing in it."""
    target = tmp_path_factory.mktemp("tree") / "napari-unet-studio"
    return Path(shutil.copytree(ROOT, target, ignore=_LEFT_OUT, symlinks=True))


@pytest.fixture(scope="module")
def dependencies(tmp_path_factory) -> Path:
    """Everything installed here but this package itself, as a folder of links."""
    folder = tmp_path_factory.mktemp("dependencies")
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(_OUR_OWN):
            (folder / entry.name).symlink_to(entry)
    return folder


@pytest.fixture
def fresh(tmp_path, dependencies):
    """The folder of programs of a new environment that lacks only this package."""
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    [site] = (tmp_path / "env").glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    programs = tmp_path / "env" / "bin"
    missing = [
        programs / "python",
        "-c",
        "import importlib.util as u; print(u.find_spec('unet_studio'))",
    ]
    assert run(*missing, cwd=tmp_path) == "None\n", "the developer's own installation is visible"
    return programs


@pytest.fixture(scope="module")
def built(tree, tmp_path_factory) -> dict[str, Path]:
    """The source distribution, and the wheel built from that, as for a release."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", folder, cwd=tree)
    [sdist] = folder.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder / "unpacked", filter="data")
    [unpacked] = (folder / "unpacked").iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, cwd=unpacked)
    [wheel] = folder.glob("*.whl")
    return {"sdist": sdist, "wheel": wheel}


def package_files() -> set[str]:
    source = ROOT / "src"
    return {
        str(p.relative_to(source).as_posix())
        for p in source.rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }


def test_the_wheel_holds_every_file_of_the_package(built):
    with zipfile.ZipFile(built["wheel"]) as archive:
        names = set(archive.namelist())
        metadata = next(n for n in names if n.endswith(".dist-info/METADATA"))
        about = archive.read(metadata).decode()
    assert package_files() <= names
    assert {
        "unet_studio/napari.yaml", "unet_studio/py.typed", "unet_studio/samples/README.md",
        "unet_studio/models/bundled/nuclei.safetensors",
        "unet_studio/models/bundled/em-membranes.safetensors",
    } <= names  # fmt: skip
    foreign = {n for n in names if not n.startswith(("unet_studio/", "napari_unet_studio-"))}
    assert not foreign
    assert any(n.endswith("licenses/LICENSE") for n in names)
    assert "License-Expression: BSD-3-Clause" in about
    assert "Framework :: napari" in about
    assert "# U-Net Studio" in about
    assert built["wheel"].name.endswith("py3-none-any.whl")
    assert built["wheel"].stat().st_size < 20e6


def test_the_source_distribution_can_be_tested_and_documented(built):
    with tarfile.open(built["sdist"]) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "README.md", "CHANGELOG.md", "LICENSE", "Makefile", "pyproject.toml", "mkdocs.yml",
        "napari.yaml", ".ci/system-packages", "tests/unit/test_installation.py",
        "docs/index.md", "src/unet_studio/napari.yaml",
    }  # fmt: skip
    assert wanted <= names
    assert {f"src/{name}" for name in package_files()} <= names


@pytest.mark.skipif(sys.platform == "win32", reason="links and paths of a Unix environment")
@pytest.mark.parametrize("how", ["plain", "editable"])
def test_an_installation_is_found_by_napari_and_the_shell(how, tree, fresh, tmp_path):
    option = ["--editable"] if how == "editable" else []
    run(
        sys.executable, "-m", "pip", "--python", fresh / "python", "install", "--quiet",
        "--no-deps", "--no-build-isolation", "--disable-pip-version-check", *option, tree,
        cwd=tmp_path,
    )  # fmt: skip
    report = json.loads(run(fresh / "python", "-c", _REPORT, cwd=tmp_path).splitlines()[-1])
    home = tree / "src" if how == "editable" else tmp_path / "env"
    assert home in Path(report["package"]).parents
    assert len(report["distributions"]) == 1
    assert tmp_path / "env" in Path(report["distributions"][0]).parents
    assert report["widgets"] == ["U-Net Studio"]
    assert report["readers"] == [["*.safetensors"]]
    assert "nuclei_fluorescence" in report["samples"]
    assert report["commands"]
    assert all(report["commands"])
    assert report["models"] == ["nuclei", "clicks", "em-membranes"]
    assert run(fresh / "unet-studio", "--version", cwd=tmp_path).startswith("unet-studio ")
    assert "nuclei" in run(fresh / "unet-studio", "models", "list", cwd=tmp_path)
