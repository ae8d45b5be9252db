"""F61-F78, S13-S23: the right file from a server, the wrong one, or too much of it."""

from __future__ import annotations

import os

import pytest

from support.downloads import CONTENT, HASH, left
from unet_studio.errors import DownloadError, OutputError
from unet_studio.events import Started, TileDone

# -- the right file -----------------------------------------------------------


def test_the_right_file_arrives_whole_and_alone(web, fetch, target):
    web.pages["/model"] = web.page(CONTENT)
    events = []
    assert fetch(on_event=events.append) == target
    assert target.read_bytes() == CONTENT
    assert left(target) == ["model.bin"]
    assert events[0] == Started("downloading", len(CONTENT))
    assert events[-1] == TileDone(len(CONTENT), len(CONTENT))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
def test_S23_the_part_is_private_and_the_file_follows_the_umask(web, fetch, target):
    web.pages["/model"] = web.page(CONTENT, cut_at=len(CONTENT) // 2, cuts=9)
    before = os.umask(0o027)
    try:
        with pytest.raises(DownloadError):
            fetch()
        (part,) = [p for p in target.parent.iterdir() if p.suffix != ".json"]
        assert part.stat().st_mode & 0o777 == 0o600
        web.pages["/model"].cuts = 0
        fetch()
    finally:
        os.umask(before)
    assert target.stat().st_mode & 0o777 == 0o640


def test_F75_what_is_there_and_right_needs_no_network(fetch, web, target):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    fetch()
    assert web.requests == []


def test_an_old_file_is_replaced_only_by_a_good_one(fetch, web, target):
    target.parent.mkdir()
    target.write_bytes(b"old")
    web.pages["/model"] = web.page(b"wrong")
    with pytest.raises(DownloadError):
        fetch()
    assert target.read_bytes() == b"old"
    web.pages["/model"] = web.page(CONTENT)
    fetch()
    assert target.read_bytes() == CONTENT


def test_S22_a_link_planted_at_the_target_is_not_followed(fetch, web, target, tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    target.parent.mkdir()
    target.symlink_to(victim)
    web.pages["/model"] = web.page(CONTENT)
    fetch()
    assert victim.read_bytes() == b"precious"
    assert not target.is_symlink()
    assert target.read_bytes() == CONTENT


# -- the wrong file -----------------------------------------------------------


def test_F64_S13_a_wrong_hash_is_named_and_nothing_is_kept(fetch, web, target):
    web.pages["/model"] = web.page(CONTENT[:-1] + b"x")
    with pytest.raises(DownloadError, match=f"not the file that was announced.*{HASH}"):
        fetch()
    assert left(target) == []


@pytest.mark.parametrize("sha256", [HASH, None])
def test_F63_a_login_page_is_named(fetch, web, target, sha256):
    page = b"\n<!DOCTYPE html><html><body>Please log in</body></html>"
    web.pages["/model"] = web.page(page, headers={"Content-Type": "text/html"})
    with pytest.raises(DownloadError, match="web page instead of a file.*log in"):
        fetch(sha256=sha256)
    assert left(target) == []


def test_F61_an_empty_answer_is_named(fetch, web, target):
    web.pages["/model"] = web.page(b"")
    with pytest.raises(DownloadError, match="empty"):
        fetch(sha256=None)
    assert left(target) == []


def test_what_is_packed_on_the_way_is_refused(fetch, web):
    web.pages["/model"] = web.page(CONTENT, headers={"Content-Encoding": "gzip"})
    with pytest.raises(DownloadError, match="packed on the way"):
        fetch()
    assert web.requests[0][2]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("sha256", ["abc", "z" * 64])
def test_a_hash_that_is_none_is_refused_before_asking(fetch, web, sha256):
    with pytest.raises(DownloadError, match="SHA-256"):
        fetch(sha256=sha256)
    assert web.requests == []


# -- sizes --------------------------------------------------------------------


def test_S17_what_announces_too_much_is_refused_before_it_is_read(fetch, web, target):
    web.pages["/model"] = web.page(CONTENT)
    with pytest.raises(DownloadError, match=r"announces 2.9 MiB, where at most 1000"):
        fetch(size_limit=1000)
    assert left(target) == []


@pytest.mark.parametrize("announce", [None, 10])
def test_S17_what_sends_too_much_is_stopped(fetch, web, target, announce):
    """Without a length, and with one that is a lie: no more is read than may be."""
    web.pages["/model"] = web.page(CONTENT, announce=announce)
    with pytest.raises(DownloadError, match="sends more|not the file that was announced"):
        fetch(size_limit=1_000_000)
    assert not target.exists()


def test_no_length_and_a_chunked_answer(fetch, web, target):
    web.pages["/model"] = web.page(CONTENT, announce=None)
    fetch()
    assert target.read_bytes() == CONTENT
    target.unlink()

    def chunked(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for first in range(0, len(CONTENT), 700_000):
            piece = CONTENT[first : first + 700_000]
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
        handler.wfile.write(b"0\r\n\r\n")

    web.pages["/model"] = web.page(answer=chunked)
    fetch()
    assert target.read_bytes() == CONTENT


def test_a_chunked_answer_that_is_cut_is_noticed_without_a_hash(fetch, web, target):
    def cut(handler):
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"%x\r\n%s" % (1000, CONTENT[:500]))

    web.pages["/model"] = web.page(answer=cut)
    with pytest.raises(DownloadError, match="breaks off|connection"):
        fetch(sha256=None)
    assert not target.exists()


def test_a_full_disk_is_said_before_it_is_filled(fetch, web, monkeypatch):
    import shutil

    real = shutil.disk_usage
    monkeypatch.setattr(
        "unet_studio.models.answers.shutil.disk_usage",
        lambda path: real(path)._replace(free=1000),
    )
    web.pages["/model"] = web.page(CONTENT)
    with pytest.raises(OutputError, match="1000 bytes are free.*UNET_STUDIO_HOME"):
        fetch()


def test_F78_a_folder_that_takes_nothing_is_no_matter_where_the_file_is_there(
    fetch, web, target, read_only
):
    target.parent.mkdir()
    target.write_bytes(CONTENT)
    read_only(target.parent)
    assert fetch() == target
    assert web.requests == []


def test_F78_a_folder_that_takes_nothing(fetch, web, target, read_only):
    read_only(target.parent)
    web.pages["/model"] = web.page(CONTENT)
    with pytest.raises(OutputError, match=f"{target} could not be written"):
        fetch()
    assert not target.exists()
