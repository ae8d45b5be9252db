"""The window that manages models, opened from the widget's header as a user does."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest

from unet_studio.models.catalogue import CatalogueEntry
from unet_studio.models.store import models_folder

NNUNET = Path(__file__).parents[1] / "unit" / "models" / "nnunet" / "data"


@pytest.fixture
def answers(answers_in):
    """Questions that were asked; each is answered with ``answers.yes``."""
    import unet_studio.gui.model_manager as module

    return answers_in(module)


@pytest.fixture
def offered(web, tiny_model, monkeypatch):
    """A model of the catalogue that a server on this computer holds."""
    from unet_studio.models.catalogue import CATALOGUE
    from unet_studio.models.partial import file_sha256

    entry = CatalogueEntry(
        name="offered",
        url="https://models.example/offered.safetensors",
        file="offered.safetensors",
        finds="things",
        licence="CC0-1.0",
        size=tiny_model.stat().st_size,
        sha256=file_sha256(tiny_model),
    )
    for name in list(CATALOGUE):
        monkeypatch.delitem(CATALOGUE, name)
    monkeypatch.setitem(CATALOGUE, "offered", entry)
    monkeypatch.setenv("UNET_STUDIO_MIRROR", web.url("/mirror"))
    web.pages["/mirror/offered.safetensors"] = web.page(tiny_model.read_bytes())
    return entry


@pytest.fixture
def manager(open_studio, qtbot):
    """The manager, opened by its button: ``studio, manager``."""
    _, studio = open_studio()
    studio.header.manage.click()
    manager = studio.header.open_manager()
    qtbot.waitUntil(manager.isVisible)
    return studio, manager


def names(manager):
    return [row.name for row in manager.table.rows()]


def finish(manager, qtbot):
    qtbot.waitUntil(lambda: not manager.running, timeout=20_000)


def chosen_models(studio):
    box = studio.header._models
    return [box.itemText(index) for index in range(box.count())]


def test_it_lists_searches_and_describes(offered, manager):
    studio, window = manager
    assert names(window) == ["nuclei", "clicks", "em-membranes", "offered"]
    assert "nuclei" in chosen_models(studio)
    assert "clicks" not in chosen_models(studio), "it has a tab of its own"
    window.table.select("nuclei")
    text = window.info.toPlainText()
    for fact in ("licence: CC0-1.0", "SHA-256: ", "size: ", "origin: came with"):
        assert fact in text
    assert not window.fetch.isEnabled()
    assert not window.remove.isEnabled()
    window.search.setText("things")
    assert names(window) == ["offered"]
    assert "https://" not in window.table.item(0, 0).text()
    assert window.fetch.isEnabled()
    window.search.setText("no such model")
    assert names(window) == []
    assert window.info.toPlainText() == ""


def test_fetch_asks_downloads_and_chooses_the_model(offered, manager, answers, web, qtbot):
    studio, window = manager
    window.table.select("offered")
    answers.yes = False
    window.fetch.click()
    finish(window, qtbot)
    assert web.requests == [], "nothing is asked of the network before yes"
    (text,) = answers
    for fact in (web.url("/mirror/offered.safetensors"), "MiB", "CC0-1.0"):
        assert fact in text
    answers.yes = True
    window.fetch.click()
    finish(window, qtbot)
    assert window.notice.severity == "good", window.notice.text()
    assert (models_folder() / "offered.safetensors").is_file()
    assert studio.header.value().entry.name == "offered"
    assert "origin: http://127.0.0.1" in window.info.toPlainText()
    assert window.remove.isEnabled()


def test_cancel_stops_a_slow_download_within_two_seconds(offered, manager, answers, web, qtbot):
    studio, window = manager
    page = web.pages["/mirror/offered.safetensors"]
    web.pages["/mirror/offered.safetensors"] = replace(page, burst=200_000, pause_s=20)
    window.table.select("offered")
    window.fetch.click()
    qtbot.waitUntil(lambda: window.bar.value() > 0, timeout=10_000)
    assert window.cancel.isVisible()
    began = time.monotonic()
    window.cancel.click()
    finish(window, qtbot)
    assert time.monotonic() - began < 2
    assert "cancelled" in window.notice.text()
    assert names(window) == ["nuclei", "clicks", "em-membranes", "offered"]
    window.fetch.click()
    qtbot.waitUntil(lambda: window.bar.value() > 0, timeout=10_000)
    window.close()  # nobody sees its progress any more
    finish(window, qtbot)
    studio.header.manage.click()
    web.pages["/mirror/offered.safetensors"] = page
    window.fetch.click()
    finish(window, qtbot)
    assert web.requests[-1][2]["Range"] == "bytes=400000-"
    assert window.notice.severity == "good"


def test_a_wrong_file_is_one_message_and_leaves_nothing(offered, manager, answers, web, qtbot):
    studio, window = manager
    web.pages["/mirror/offered.safetensors"] = web.page(b"<html>log in</html>")
    window.table.select("offered")
    window.fetch.click()
    finish(window, qtbot)
    assert window.notice.severity == "error"
    assert "web page instead of a file" in window.notice.text()
    assert not models_folder().exists()
    assert window.fetch.isEnabled()
    assert "offered" not in chosen_models(studio)


def test_import_remove_and_a_file_put_into_the_folder(manager, answers, tiny_model, qtbot):
    studio, window = manager
    window.import_path(tiny_model)
    finish(window, qtbot)
    assert "tiny is ready" in window.notice.text()
    window.import_path(tiny_model)
    finish(window, qtbot)
    assert "tiny 2 is ready" in window.notice.text()
    shutil.copy(tiny_model, models_folder() / "dropped.safetensors")
    (models_folder() / "torn.safetensors").write_bytes(b"torn")
    window.close()
    assert not window.isVisible()
    studio.header.manage.click()
    assert {"tiny", "tiny 2", "dropped"} <= set(names(window))
    assert "torn.safetensors" in window.notice.text()  # not left out in silence
    window.table.select("tiny 2")
    answers.yes = False
    window.remove.click()
    assert "tiny 2" in names(window)
    answers.yes = True
    window.remove.click()
    assert "tiny 2" not in names(window)
    assert "tiny 2" not in chosen_models(studio)
    assert "moved" in answers[-1]
    assert tiny_model.is_file()


def test_a_folder_of_nnunet_is_imported_with_a_note_of_its_folds(manager, qtbot, monkeypatch):
    from qtpy.QtWidgets import QFileDialog

    studio, window = manager
    folder = NNUNET / "nnUNetTrainer_20epochs__nnUNetPlans__2d"
    monkeypatch.setattr(QFileDialog, "getExistingDirectory", lambda *_: str(folder))
    window.bring.menu().actions()[1].trigger()
    finish(window, qtbot)
    assert "is ready" in window.notice.text()
    assert "2 networks (folds 0, 1) are averaged" in window.notice.text()
    assert folder.name in names(window)
    assert folder.name in chosen_models(studio)


def test_what_can_not_be_imported_is_named(manager, tmp_path, qtbot):
    _, window = manager
    (tmp_path / "notes.txt").write_text("not a model")
    window.import_path(tmp_path / "notes.txt")
    finish(window, qtbot)
    assert window.notice.severity == "error"
    assert "notes.txt" in window.notice.text()


def test_S24_names_and_cards_with_markup_are_shown_as_text(manager, qtbot):
    from unet_studio.models.model import save_model
    from unet_studio.models.presets import new_model

    _, window = manager
    models_folder().mkdir(parents=True)
    evil = "<img src='http://127.0.0.1/x'><b>bold</b>"
    model = new_model("unet-tiny", classes=(evil,), licence=evil, description=evil)
    save_model(model, models_folder() / "x.safetensors")
    window.refresh()
    window.table.select("x")
    row = names(window).index("x")
    assert window.table.item(row, 1).text() == evil
    assert "<img" not in window.table.item(row, 1).toolTip()
    assert evil in window.info.toPlainText()
    studio = window.parent()
    studio.refresh()
    studio.select("x")
    assert "<img" not in studio._card_line.toolTip()
    assert evil in studio._card_line.text()


def test_the_question_is_plain_text_and_cancel_is_the_default(manager, qtbot):
    from qtpy.QtCore import Qt, QTimer
    from qtpy.QtWidgets import QApplication, QMessageBox

    from unet_studio.gui.asking import confirm

    _, window = manager
    seen = []

    def press_enter():
        box = QApplication.activeModalWidget()
        seen.append((box.textFormat(), box.defaultButton() is box.button(
            QMessageBox.StandardButton.Cancel)))  # fmt: skip
        box.defaultButton().click()

    QTimer.singleShot(200, press_enter)
    assert confirm(window, "Fetch?", "<b>x</b>") is False
    assert seen == [(Qt.TextFormat.PlainText, True)]


def test_closing_the_viewer_stops_a_download(offered, open_studio, answers, web, qtbot):
    viewer, studio = open_studio()
    web.pages["/mirror/offered.safetensors"].burst = 1000
    web.pages["/mirror/offered.safetensors"].pause_s = 20
    window = studio.header.open_manager()
    window.fetch_entry(offered)
    qtbot.waitUntil(lambda: bool(web.requests), timeout=10_000)
    viewer.close()  # that no thread is left is checked after every test


def test_a_package_that_fails_its_own_test_image_is_a_warning(manager, tmp_path, qtbot):
    import hashlib
    import io
    import zipfile

    import numpy as np
    import yaml

    from unet_studio.models.presets import new_model
    from unet_studio.models.zoo.exporting import export_bioimageio

    studio, window = manager
    package = export_bioimageio(
        new_model("unet-tiny", name="doubtful", licence="CC0-1.0"), tmp_path / "doubtful.zip"
    )
    with zipfile.ZipFile(package) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    values, stream = yaml.safe_load(files["rdf.yaml"]), io.BytesIO()
    np.save(stream, 1 - np.load(io.BytesIO(files["test_output.npy"])))
    files["test_output.npy"] = stream.getvalue()
    digest = hashlib.sha256(files["test_output.npy"]).hexdigest()
    values["outputs"][0]["test_tensor"]["sha256"] = digest
    files["rdf.yaml"] = yaml.safe_dump(values).encode()
    with zipfile.ZipFile(package, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    window.import_path(package)
    finish(window, qtbot)
    assert window.notice.severity == "warning"
    assert "Do not trust this model" in window.notice.text()
    window.table.select("doubtful")
    assert "Do not trust this model" in window.info.toPlainText(), "later, too"
    assert studio.header.value().entry.card.notes


def test_a_file_that_is_here_is_hashed_beside_the_window(
    offered, manager, answers, tiny_model, web, qtbot, monkeypatch
):
    import threading

    from unet_studio.models import fetching

    _, window = manager
    fetching.downloads_folder().mkdir(parents=True)
    shutil.copy(tiny_model, fetching.downloads_folder() / offered.file)
    threads, real = [], fetching.file_sha256
    monkeypatch.setattr(
        fetching,
        "file_sha256",
        lambda path: threads.append(threading.current_thread()) or real(path),
    )
    window.table.select("offered")
    window.fetch.click()
    assert answers == [], "the question waits for the answer, not the window"
    finish(window, qtbot)
    assert "Nothing is downloaded" in answers[0]
    assert window.notice.severity == "good", window.notice.text()
    assert web.requests == []
    assert threads
    assert threading.main_thread() not in threads
