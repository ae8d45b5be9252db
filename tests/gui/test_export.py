"""The window that exports models, opened from the manager as a user does."""

from __future__ import annotations

import shutil
import time
import zipfile

import numpy as np
import pytest

from unet_studio.models.exporting import Kind
from unet_studio.models.store import models_folder


@pytest.fixture
def dialog(open_studio, tiny_model, qtbot):
    """The window, opened for the user's model "tiny" by the manager's button."""
    models_folder().mkdir(parents=True)
    shutil.copy(tiny_model, models_folder() / "tiny.safetensors")
    _, studio = open_studio()
    manager = studio.header.open_manager()
    manager.table.select("tiny")
    manager.export.click()
    dialog = manager.open_export()
    qtbot.waitUntil(dialog.isVisible)
    return dialog


def export(dialog, kind, target, qtbot, monkeypatch):
    """Choose a kind, press the button, and name the file."""
    from qtpy.QtWidgets import QFileDialog

    dialog.kind.setCurrentIndex(dialog.kind.findData(kind))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target), ""))
    dialog.primary.click()
    qtbot.waitUntil(lambda: not dialog.running, timeout=120_000)


def test_each_kind_is_written_and_told_where(dialog, tiny_model, tmp_path, qtbot, monkeypatch):
    import onnxruntime
    import torch

    for kind, name in (
        (Kind.onnx, "m.onnx"),
        (Kind.torchscript, "m.pt"),
        (Kind.file, "copy.safetensors"),
    ):
        export(dialog, kind, tmp_path / name, qtbot, monkeypatch)
        assert dialog.notice.severity == "good", dialog.notice.text()
        assert str(tmp_path / name) in dialog.notice.text()
        assert not dialog.authors.isVisible()
    image = np.zeros((1, 1, 64, 64), np.float32)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    found = session.run(None, {session.get_inputs()[0].name: image})[0]
    scripted = torch.jit.load(tmp_path / "m.pt")(torch.from_numpy(image))
    np.testing.assert_allclose(found, scripted.numpy(), atol=1e-4)
    assert (tmp_path / "copy.safetensors").read_bytes() == tiny_model.read_bytes()


def test_a_package_says_who_made_it(dialog, tmp_path, qtbot, monkeypatch):
    import yaml

    assert dialog.authors.isVisible()
    dialog.authors.setText("A. Person, B. Person")
    dialog.licence.setText("CC0-1.0")
    dialog.maintainer.setText("a-person")
    export(dialog, Kind.bioimageio, tmp_path / "package", qtbot, monkeypatch)
    assert dialog.notice.severity == "good", dialog.notice.text()
    with zipfile.ZipFile(tmp_path / "package.zip") as archive:  # the ending was added
        described = yaml.safe_load(archive.read("rdf.yaml"))
    assert [author["name"] for author in described["authors"]] == ["A. Person", "B. Person"]
    assert described["license"] == "CC0-1.0"
    assert described["maintainers"] == [{"github_user": "a-person"}]


def test_a_file_that_is_there_is_only_replaced_after_yes(dialog, tmp_path, qtbot, monkeypatch):
    """The file dialog has asked about "m"; "m.onnx" is another file."""
    import unet_studio.gui.export_dialog as module

    (tmp_path / "m.onnx").write_bytes(b"precious")
    asked, answer = [], [False]
    monkeypatch.setattr(
        module, "confirm", lambda parent, title, text: asked.append(text) or answer[0]
    )
    export(dialog, Kind.onnx, tmp_path / "m", qtbot, monkeypatch)
    assert (tmp_path / "m.onnx").read_bytes() == b"precious"
    assert str(tmp_path / "m.onnx") in asked[0]
    answer[0] = True
    export(dialog, Kind.onnx, tmp_path / "m", qtbot, monkeypatch)
    assert (tmp_path / "m.onnx").read_bytes() != b"precious"
    assert len(asked) == 2
    export(dialog, Kind.onnx, tmp_path / "m.onnx", qtbot, monkeypatch)
    assert len(asked) == 2, "the file dialog has asked"


def test_what_can_not_be_written_is_one_message(dialog, tmp_path, qtbot, monkeypatch):
    (tmp_path / "folder.onnx").mkdir()
    export(dialog, Kind.onnx, tmp_path / "folder.onnx", qtbot, monkeypatch)
    assert dialog.notice.severity == "error"
    assert "is a folder" in dialog.notice.text()
    assert dialog.primary.isEnabled()
    dialog.example.setText(str(tmp_path / "none.tif"))
    export(dialog, Kind.bioimageio, tmp_path / "p.zip", qtbot, monkeypatch)
    assert dialog.notice.severity == "error"
    assert "none.tif" in dialog.notice.text()
    assert not (tmp_path / "p.zip").exists()


def test_cancel_stops_between_steps_and_leaves_nothing(dialog, tmp_path, qtbot, monkeypatch):
    import threading

    import unet_studio.models.zoo.exporting as module

    held = threading.Event()
    real = module.torchscript_program
    monkeypatch.setattr(module, "torchscript_program", lambda model: held.wait(20) and real(model))
    dialog.write(tmp_path / "p.zip")
    qtbot.waitUntil(lambda: dialog.bar.format() == "writing TorchScript", timeout=120_000)
    assert dialog.cancel.text() == "Cancel"
    dialog.cancel.click()
    held.set()
    began = time.monotonic()
    qtbot.waitUntil(lambda: not dialog.running, timeout=20_000)
    assert time.monotonic() - began < 15
    assert "Nothing was written" in dialog.notice.text()
    assert list(tmp_path.glob("p*")) == []


def test_models_that_are_not_here_can_not_be_exported(open_studio, qtbot):
    _, studio = open_studio()
    manager = studio.header.open_manager()
    manager.table.select("nuclei")
    assert manager.export.isEnabled()
    manager.table.select("brain-mri")
    assert not manager.export.isEnabled()
    assert manager.open_export() is None
