"""Packages of the BioImage Model Zoo, made here by our own export and then changed."""

from __future__ import annotations

import zipfile

import pytest
import yaml

from unet_studio.models.model import Model
from unet_studio.models.presets import new_model
from unet_studio.models.zoo.exporting import export_bioimageio


@pytest.fixture(scope="session")
def tiny() -> Model:
    return new_model(
        "unet-tiny", name="tiny cells", representation="binary", classes=("cell",),
        licence="CC0-1.0", authors="A. Person", seed=3,
    )  # fmt: skip


@pytest.fixture(scope="session")
def exported(tiny, tmp_path_factory):
    """A valid package."""
    return export_bioimageio(tiny, tmp_path_factory.mktemp("packages") / "tiny.zip")


def files_of(package):
    with zipfile.ZipFile(package) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture
def changed(exported, tmp_path):
    """Return a package whose description and files were changed: ``changed(change)``.

    ``change`` takes the description, as plain values, and the files by name.
    """

    def make(change):
        files = files_of(exported)
        values = yaml.safe_load(files["rdf.yaml"])
        change(values, files)
        if "rdf.yaml" in files:
            files["rdf.yaml"] = yaml.safe_dump(values).encode()
        path = tmp_path / "changed.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return path

    return make
