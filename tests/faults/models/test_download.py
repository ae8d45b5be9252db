"""F60-F79, S13-S18: downloads from a server on this computer that does everything wrong."""

from __future__ import annotations

import hashlib
import os
import random
import subprocess
import sys
import threading
import time

import pytest

from unet_studio.errors import Cancelled, DownloadError, OutputError
from unet_studio.events import CancelToken, Started, TileDone, Warned
from unet_studio.models.download import Limits, download

CONTENT = random.Random(0).randbytes(3_000_000)
HASH = hashlib.sha256(CONTENT).hexdigest()
# Impatient, so that tests are quick.
QUICK = Limits(connect_s=2, window_s=1, attempts=2, first_pause_s=0.05)


@pytest.fixture
def target(tmp_path):
    return tmp_path / "store" / "model.bin"


@pytest.fixture
def fetch(web, target):
    """Download ``/model``; keywords as for :func:`download`."""

    def run(path="/model", **keywords):
        given = {"sha256": HASH, "size_limit": 10**8, "local": True, "limits": QUICK}
        return download(web.url(path), target, **{**given, **keywords})

    return run


def left(target):
    return sorted(p.name for p in target.parent.iterdir()) if target.parent.exists() else []


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


# -- cut, slow, busy ----------------------------------------------------------


def test_F74_cut_at_90_percent_is_resumed(fetch, web, target):
    cut = len(CONTENT) * 9 // 10
    web.pages["/model"] = web.page(CONTENT, cut_at=cut)
    events = []
    fetch(on_event=events.append)
    assert target.read_bytes() == CONTENT
    assert web.requests[1][2]["Range"] == f"bytes={cut}-"
    warned = [e.message for e in events if isinstance(e, Warned)]
    assert len(warned) == 1
    assert "2.6 MiB of 2.9 MiB" in warned[0]


@pytest.mark.parametrize("etag", ['"v1"', ""])
def test_F74_a_later_process_goes_on_where_an_earlier_one_ended(fetch, web, target, etag):
    web.pages["/model"] = web.page(CONTENT, cut_at=1_000_000, cuts=2, etag=etag)
    with pytest.raises(DownloadError, match=r"connection ended .* is kept for the next try"):
        fetch()
    assert not target.exists()
    fetch()
    assert target.read_bytes() == CONTENT
    last = web.requests[-1][2]
    assert last["Range"] == "bytes=1000000-"
    assert last.get("If-Range", "") == etag
    assert left(target) == ["model.bin"]


def test_without_hash_and_mark_of_the_content_it_starts_again(fetch, web, target):
    web.pages["/model"] = web.page(CONTENT, cut_at=1_000_000)
    fetch(sha256=None)
    assert target.read_bytes() == CONTENT
    assert all("Range" not in headers for _, _, headers in web.requests)


def test_a_file_that_changed_in_between_is_not_mixed(fetch, web, target):
    other = CONTENT[::-1]
    web.pages["/model"] = web.page(CONTENT, cut_at=1_000_000, cuts=9, etag='"v1"')
    with pytest.raises(DownloadError):
        fetch(sha256=None)
    web.pages["/model"] = web.page(other, etag='"v2"')
    fetch(sha256=None)
    assert target.read_bytes() == other


def test_a_changed_file_of_a_server_without_marks_is_fetched_again(fetch, web, target):
    web.pages["/model"] = web.page(bytes(len(CONTENT)), cut_at=1_000_000, cuts=9)
    with pytest.raises(DownloadError):
        fetch()
    web.pages["/model"] = web.page(CONTENT)
    fetch()
    assert target.read_bytes() == CONTENT


@pytest.mark.parametrize("more", [0, 1000])
def test_a_part_as_long_as_the_file_or_longer(fetch, web, target, more):
    """The server has no more to send (416): whole, or of a file that was longer."""
    longer = CONTENT + bytes(5000)
    web.pages["/model"] = web.page(longer, cut_at=len(CONTENT) + more, cuts=9)
    with pytest.raises(DownloadError):
        fetch()
    web.pages["/model"] = web.page(CONTENT)
    fetch()
    assert target.read_bytes() == CONTENT


def test_a_server_without_ranges_starts_again(fetch, web, target):
    web.pages["/model"] = web.page(CONTENT, ranges=False, cut_at=1_000_000)
    fetch()
    assert target.read_bytes() == CONTENT


def test_a_server_that_always_cuts_is_given_up(fetch, web):
    web.pages["/model"] = web.page(CONTENT, ranges=False, cut_at=1_000_000, cuts=99)
    with pytest.raises(DownloadError, match="connection ended"):
        fetch()
    assert len(web.requests) == 2, "starting again from nothing is no progress"


def test_F73_one_byte_per_second_is_a_failure(fetch, web, target):
    web.pages["/model"] = web.page(CONTENT, burst=1, pause_s=0.25)
    began = time.monotonic()
    with pytest.raises(DownloadError, match=r"only \d+ bytes came in 1 seconds"):
        fetch()
    assert time.monotonic() - began < 5


def test_F73_a_server_that_never_answers(fetch, web):
    hung = threading.Event()
    web.pages["/model"] = web.page(answer=lambda handler: hung.wait(5))
    began = time.monotonic()
    with pytest.raises(DownloadError, match="only 0 bytes came|no answer in time"):
        fetch()
    hung.set()
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("where", ["body", "headers"])
def test_F73_cancel_takes_less_than_two_seconds_and_keeps_the_part(fetch, web, target, where):
    if where == "body":
        web.pages["/model"] = web.page(CONTENT, burst=500_000, pause_s=10)
    else:
        web.pages["/model"] = web.page(answer=lambda handler: web.closing.wait(10))
    token = CancelToken()
    threading.Timer(0.4, token.cancel).start()
    began = time.monotonic()
    with pytest.raises(Cancelled):
        fetch(token=token, limits=Limits())
    assert time.monotonic() - began < 2
    assert not target.exists()
    parts = [p for p in target.parent.iterdir() if p.suffix != ".json"]
    assert [p.stat().st_size for p in parts] == ([500_000] if where == "body" else [])


def test_F73_a_busy_server_is_asked_again(fetch, web, target):
    web.pages["/model"] = web.page(CONTENT, fails=1)
    fetch()
    assert target.read_bytes() == CONTENT
    web.pages["/other"] = web.page(CONTENT, fails=9)
    target.unlink()
    with pytest.raises(DownloadError, match="503.*Try again later"):
        fetch("/other")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "asks for a login"),
        (403, "asks for a login"),
        (404, "no file"),
        (410, "no file"),
        (418, "status 418"),
        (500, "out of order"),
    ],
)
def test_F73_every_status_says_what_to_do(fetch, web, target, status, words):
    web.pages["/model"] = web.page(b"no", status=status)
    with pytest.raises(DownloadError, match=words):
        fetch()
    assert left(target) == []


def test_F76_no_server_at_all(fetch, web):
    web.close()
    with pytest.raises(DownloadError, match=r"can not be reached: .*Try again later"):
        fetch()


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


# -- two at once, and killed --------------------------------------------------

_FETCH = """
import sys
from pathlib import Path
from unet_studio.models.download import download
download(sys.argv[1], Path(sys.argv[2]), sha256=sys.argv[3], size_limit=10**8, local=True)
"""


def start(web, target, sha256=HASH):
    arguments = [sys.executable, "-c", _FETCH, web.url("/model"), str(target), sha256]
    return subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)


def test_F79_two_processes_at_once_make_one_good_file(web, target):
    web.pages["/model"] = web.page(CONTENT, burst=300_000, pause_s=0.1)
    both = [start(web, target) for _ in range(2)]
    for process in both:
        _, error = process.communicate(timeout=60)
        assert process.returncode == 0, error
    assert len(web.requests) == 2
    assert target.read_bytes() == CONTENT
    assert left(target) == ["model.bin"]


def test_the_part_of_a_killed_process_is_taken_over(web, fetch, target):
    web.pages["/model"] = web.page(CONTENT, burst=1_000_000, pause_s=30)
    process = start(web, target)
    try:
        end = time.monotonic() + 30
        while not any(p.stat().st_size >= 900_000 for p in _files(target)):
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    assert not target.exists()
    web.pages["/model"] = web.page(CONTENT)
    fetch()
    assert int(web.requests[-1][2]["Range"].removeprefix("bytes=").rstrip("-")) >= 900_000
    assert target.read_bytes() == CONTENT
    assert left(target) == ["model.bin"]


def _files(target):
    return list(target.parent.iterdir()) if target.parent.exists() else []
