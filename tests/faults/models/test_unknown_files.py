"""F60-F63, S05: what no importer takes is named for what it is, with what to do."""

from __future__ import annotations

import os
import zipfile

import pytest

from unet_studio.errors import ModelError
from unet_studio.models.importing import import_model
from unet_studio.models.store import list_models, unread_files


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_STUDIO_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "models"


def archive(*names):
    import io

    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as zipped:
        for name in names:
            zipped.writestr(name, b"x" * 1000)
    return stream.getvalue()


JPEG, PAGE = b"\xff\xd8\xff\xe0" + bytes(50), b"<!DOCTYPE html><html>log in"
FILES = {
    "photo.jpg": (JPEG, r"is a picture \(JPEG\).*unet-studio segment"),
    "photo.zip": (JPEG, r"is a picture \(JPEG\)"),
    "login.html": (PAGE, "web page.*Download the model itself"),
    "login.zip": (PAGE, "web page.*Download the model itself"),
    "login.onnx": (PAGE, "web page"),
    "nothing.zip": (b"", r"is empty \(0 bytes\). Copy or download it again"),
    "half.zip": (archive("rdf.yaml", "weights.pt")[:900], "zip whose end is missing. Copy or"),
    "no.zip": (b"Hello, world", "has the ending of a zip, but is none"),
    "other.zip": (archive("a.txt", "b.txt"), r"holds a\.txt, b\.txt\. .*rdf\.yaml.*plans\.json"),
    "torch.dat": (archive("m/data.pkl"), r"Give it the ending \.pt"),
    "up.zip": (archive("../rdf.yaml"), r"'\.\./rdf\.yaml', which is not a plain name"),
    "net.onnx": (b"\x08\x07\x12", r"ONNX alone.*rdf\.yaml"),
    "model.yaml.yml": (b"type: model", r"has rdf\.yaml or bioimageio\.yaml"),
    "keras.h5": (b"\x89HDF\r\n", "HDF5.*ONNX weights"),
    "text.txt": (b"Hello", "Known kinds"),
}


@pytest.mark.parametrize("name", FILES)
def test_F60_F61_F62_F63_what_it_is_is_said(name, tmp_path, home):
    content, words = FILES[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ModelError, match=words) as told:
        import_model(path, name="m")
    assert name in str(told.value) or name == "up.zip"
    assert path.read_bytes() == content
    assert not list(home.glob("*"))


def test_F60_folders_are_named_for_what_they_hold(tmp_path):
    cases = {
        (): "it is empty",
        ("a.tif", "b.tif"): "folder of images",
        ("net.pt", "notes.txt"): r"holds net\.pt\. Import such a file",
        ("notes.txt",): r"holds notes\.txt.*rdf\.yaml.*plans\.json",
    }
    for number, (names, words) in enumerate(cases.items()):
        folder = tmp_path / f"f{number}"
        folder.mkdir()
        for name in names:
            (folder / name).touch()
        with pytest.raises(ModelError, match=words):
            import_model(folder)


@pytest.mark.timeout(30)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes among its files")
def test_F60_a_pipe_is_not_waited_for(tmp_path, home):
    home.mkdir(parents=True)
    for pipe in (tmp_path / "pipe.pt", tmp_path / "pipe.zip", home / "pipe.safetensors"):
        os.mkfifo(pipe)
        with pytest.raises(ModelError, match="neither a file|is not a file"):
            import_model(pipe, name="m")
    assert "pipe" not in {entry.name for entry in list_models()}


def test_F60_a_file_in_the_folder_that_is_no_model_is_told(home):
    home.mkdir(parents=True)
    (home / "page.safetensors").write_bytes(PAGE)
    (home / "net.pt").write_bytes(b"x")
    (home / "notes.txt").write_bytes(b"x")
    told = {path.name: words for path, words in unread_files()}
    assert set(told) == {"page.safetensors", "net.pt"}
    assert "web page" in told["page.safetensors"]
    assert "unet-studio models import" in told["net.pt"]
