"""S05 to S08: packages made to write elsewhere, or to fill the disk or the memory."""

from __future__ import annotations

import io
import os
import stat
import zipfile

import pytest

from unet_studio.errors import ModelError
from unet_studio.models.archives import Caps, is_package, open_package, safe_name

KIB = 1 << 10


def make_zip(path, members, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def folder_or_zip(kind, tmp_path, members):
    if kind == "zip":
        return make_zip(tmp_path / "package.zip", members)
    for name, content in members:
        file = tmp_path / "package" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return tmp_path / "package"


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_a_good_package_is_read(kind, tmp_path):
    path = folder_or_zip(kind, tmp_path, [("rdf.yaml", b"a: 1"), ("w/weights.pt", b"x" * KIB)])
    assert is_package(path)
    with open_package(path) as package:
        assert package.names() == ["rdf.yaml", "w/weights.pt"]
        assert package.size("w/weights.pt") == KIB
        assert package.read("./rdf.yaml", 100) == b"a: 1"
        package.copy("w/weights.pt", tmp_path / "copy", KIB)
        with pytest.raises(ModelError, match="no file 'other'"):
            package.read("other", 100)
        with pytest.raises(ModelError, match="at most"):
            package.read("w/weights.pt", KIB - 1)
        with pytest.raises(ModelError, match="not a plain name"):
            package.read("../rdf.yaml", 100)
    assert (tmp_path / "copy").read_bytes() == b"x" * KIB


@pytest.mark.parametrize(
    "name",
    ["../up", "a/../../up", "/etc/passwd", "C:/x", "C:x", "a\\..\\b", "http://x/y", "nul",
     "a/COM1.txt", "", ".", "new\nline", "zero\0byte", "//server/share"],
)  # fmt: skip
def test_S05_names_that_lead_elsewhere_are_refused(name):
    with pytest.raises(ModelError, match="not a plain name"):
        safe_name(name)


@pytest.mark.parametrize("name", ["../up.txt", "/up.txt", "a\\..\\up.txt", "good.txt\0.pt"])
def test_S05_one_bad_name_refuses_the_whole_zip_and_writes_nothing(name, tmp_path):
    info = zipfile.ZipInfo("placeholder")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("good.txt", b"good")
        info.filename = name  # past the clean-up that ZipInfo does
        archive.writestr(info, b"bad")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "package.zip").write_bytes(stream.getvalue())
    with pytest.raises(ModelError, match="nothing of it was used"):
        open_package(inside / "package.zip")
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["inside", "package.zip"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_S06_links_and_devices_in_a_zip_are_refused(kind, tmp_path):
    info = zipfile.ZipInfo("weights.pt")
    info.external_attr = (kind | 0o777) << 16
    with pytest.raises(ModelError, match="link or a device"):
        open_package(make_zip(tmp_path / "p.zip", [(info, b"/etc/passwd")]))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no links for everybody")
def test_S06_links_that_lead_out_of_a_folder_are_not_of_it(tmp_path):
    (tmp_path / "secret").write_text("secret")
    folder = tmp_path / "package"
    folder.mkdir()
    (folder / "own").write_text("own")
    (folder / "out").symlink_to(tmp_path / "secret")
    (folder / "in").symlink_to(folder / "own")
    (folder / "round").symlink_to(folder / "round")
    with open_package(folder) as package:
        assert package.names() == ["in", "own"]


def test_S07_two_names_that_look_the_same_to_a_computer_are_refused(tmp_path):
    with pytest.raises(ModelError, match="can not tell apart"):
        open_package(make_zip(tmp_path / "p.zip", [("Weights.pt", b"a"), ("weights.PT", b"b")]))


def test_S08_a_bomb_is_refused_by_what_it_says(tmp_path):
    bomb = make_zip(tmp_path / "bomb.zip", [("weights.pt", bytes(100 << 20))])
    assert bomb.stat().st_size < 1 << 20
    with pytest.raises(ModelError, match="made to fill the disk"):
        open_package(bomb)


def test_S08_a_bomb_that_lies_of_its_size_is_stopped_while_it_is_read(tmp_path):
    path = make_zip(tmp_path / "p.zip", [("weights.pt", bytes(1 << 20))])
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = content.index(signature) + offset
        content[at : at + 4] = (100).to_bytes(4, "little")
    path.write_bytes(bytes(content))
    with open_package(path) as package:
        assert package.size("weights.pt") == 100
        with pytest.raises(ModelError, match=r"weights\.pt"):
            package.read("weights.pt", 1 << 30)
        with pytest.raises(ModelError, match=r"weights\.pt"):
            package.copy("weights.pt", tmp_path / "copy", 1 << 30)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("kind", ["zip", "folder"])
def test_S08_too_many_files_and_too_many_bytes(kind, tmp_path):
    path = folder_or_zip(kind, tmp_path, [(f"{n}.txt", bytes(KIB)) for n in range(5)])
    open_package(path, Caps(total=5 * KIB, entries=5))
    for caps in (Caps(total=5 * KIB - 1), Caps(entries=4)):
        with pytest.raises(ModelError, match="more than a model needs"):
            open_package(path, caps)


def test_S08_a_huge_list_of_contents_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = make_zip(tmp_path / "p.zip", [(f"{n:0200}.txt", b"") for n in range(40)])
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("the list was read"))
    with pytest.raises(ModelError, match="list of contents"):
        open_package(path, Caps(entries=10))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_unusual_packing_is_refused(method, tmp_path):
    with pytest.raises(ModelError, match="unusual way"):
        open_package(make_zip(tmp_path / "p.zip", [("a", b"a")], method))


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>", b"PK\x03\x04 and no more"])
def test_F60_what_is_no_zip_is_named(content, tmp_path):
    path = tmp_path / "p.zip"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"p\.zip is no zip file"):
        open_package(path)


def test_F60_a_damaged_member_is_named(tmp_path):
    path = make_zip(tmp_path / "p.zip", [("weights.pt", os.urandom(KIB))])
    content = bytearray(path.read_bytes())
    content[200] ^= 0xFF
    path.write_bytes(bytes(content))
    with open_package(path) as package, pytest.raises(ModelError, match="Get the package again"):
        package.read("weights.pt", KIB)


def test_what_is_not_there_is_named(tmp_path):
    assert not is_package(tmp_path / "nowhere")
    with pytest.raises(ModelError, match="nothing at"):
        open_package(tmp_path / "nowhere")
