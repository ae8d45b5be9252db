"""Models that are programs: the window asks before one runs, and does not wait for the answer."""

from __future__ import annotations

import zipfile

import pytest
import yaml

from unet_studio.models import consent
from unet_studio.models.store import models_folder


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package of another program that has TorchScript alone."""
    from unet_studio.models.presets import new_model
    from unet_studio.models.zoo.exporting import export_bioimageio

    folder = tmp_path_factory.mktemp("packages")
    model = new_model("unet-tiny", name="tiny cells", representation="binary", classes=("cell",),
                      licence="CC0-1.0", seed=3)  # fmt: skip
    ours = export_bioimageio(model, folder / "ours.zip")
    with zipfile.ZipFile(ours) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    values = yaml.safe_load(files["rdf.yaml"])
    del values["config"]
    del values["weights"]["pytorch_state_dict"], values["weights"]["onnx"]
    del values["weights"]["torchscript"]["parent"]
    files["rdf.yaml"] = yaml.safe_dump(values).encode()
    with zipfile.ZipFile(folder / "theirs.zip", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return folder / "theirs.zip"


@pytest.fixture
def program(package, tmp_path):
    """A model file that holds TorchScript, from a colleague who allowed it elsewhere."""
    from unet_studio.models.model import save_model
    from unet_studio.models.zoo.importing import import_package

    path = tmp_path / "scripted.safetensors"
    save_model(import_package(package, allow_torchscript=True), path)
    consent.consent_path().unlink()
    return path


@pytest.fixture
def opened(monkeypatch):
    """How often TorchScript was opened."""
    import torch

    times, real = [], torch.jit.load
    monkeypatch.setattr(torch.jit, "load", lambda *a, **k: times.append(1) or real(*a, **k))
    return times


def finish(manager, qtbot):
    qtbot.waitUntil(lambda: not manager.running, timeout=60_000)


def test_a_package_is_imported_after_yes_alone(package, open_studio, opened, qtbot):
    from qtpy.QtWidgets import QApplication

    _, studio = open_studio()
    manager = studio.header.open_manager()
    manager.import_path(package)
    finish(manager, qtbot)
    assert manager.consent.isVisible()
    assert "theirs.zip" in manager.consent.text()
    assert consent.RISK in manager.consent.text()
    assert "--set" not in manager.consent.text()
    assert QApplication.activeModalWidget() is None, "nothing waits for the answer"
    assert not manager.consent.yes.isDefault()
    assert not manager.consent.yes.autoDefault()
    manager.consent.no.click()
    assert not manager.consent.isVisible()
    assert not opened
    assert not models_folder().exists()
    manager.import_path(package)
    finish(manager, qtbot)
    manager.consent.yes.click()
    finish(manager, qtbot)
    assert manager.notice.severity == "good", manager.notice.text()
    assert opened
    assert studio.header.value().entry.card.architecture == "torchscript"
    assert not manager.consent.isVisible(), "it was allowed with the import"


def test_a_model_file_runs_after_yes_alone(
    program, open_studio, opened, notifications, blob_image, run, qtbot
):
    viewer, studio = open_studio()
    manager = studio.header.open_manager()
    manager.import_path(program)
    finish(manager, qtbot)
    assert "scripted is ready" in manager.notice.text()
    assert manager.consent.isVisible()
    manager.consent.no.click()
    manager.close()
    viewer.add_image(blob_image((224, 240)))
    run(studio)
    assert "was not run" in studio.tab.summary.text()
    assert not opened
    assert len(notifications()) == 1
    # the failed run asks again
    qtbot.waitUntil(manager.consent.isVisible, timeout=20_000)
    assert manager.table.current().name == "scripted"
    manager.consent.yes.click()
    finish(manager, qtbot)
    assert "may run from now on" in manager.notice.text()
    run(studio)
    assert opened
    assert studio.tab.summary.severity in ("good", "warning"), studio.tab.summary.text()
    assert "object" in studio.tab.summary.text()


def test_a_file_put_into_the_folder_is_allowed_by_its_button(program, open_studio, qtbot):
    models_folder().mkdir(parents=True)
    program.rename(models_folder() / "scripted.safetensors")
    _, studio = open_studio()
    manager = studio.header.open_manager()
    manager.table.select("nuclei")
    assert not manager.allow.isVisible()
    manager.table.select("scripted")
    assert manager.allow.isVisible()
    manager.allow.click()
    finish(manager, qtbot)
    manager.consent.yes.click()
    finish(manager, qtbot)
    assert not consent.needs_consent(models_folder() / "scripted.safetensors")
    manager.allow.click()
    finish(manager, qtbot)
    assert not manager.consent.isVisible()
    assert "may run already" in manager.notice.text()


def test_other_work_takes_the_question_back(program, package, open_studio, tiny_model, qtbot):
    _, studio = open_studio()
    manager = studio.header.open_manager()
    manager.import_path(package)
    finish(manager, qtbot)
    assert manager.consent.isVisible()
    manager.import_path(tiny_model)
    assert not manager.consent.isVisible()
    finish(manager, qtbot)
    assert "tiny is ready" in manager.notice.text()
    assert not consent.consent_path().exists()
