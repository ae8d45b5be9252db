"""F73-F79: downloads that are cut, slow or killed, and two at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest

from support.downloads import CONTENT, HASH, left
from unet_studio.errors import Cancelled, DownloadError
from unet_studio.events import CancelToken, Warned
from unet_studio.models.download import Limits

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
