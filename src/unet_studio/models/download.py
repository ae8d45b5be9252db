"""Download one file: resumed, hashed, and there under its name only if it is whole.

A thread of its own talks to the network and hands over what it reads; the caller's
thread writes, counts and looks at the cancel token. So Cancel works within a fraction
of a second whatever the network does, and a server that sends one byte per second is
recognised by what arrived, not by a read that never ends.

Standard library only. pooch, which is in every installation by way of scikit-image,
neither resumes nor limits a size nor checks redirects, and a slow server holds it for ever.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from unet_studio.errors import DownloadError
from unet_studio.events import CancelToken, Event, Started, TileDone, Warned
from unet_studio.images.limits import readable_size
from unet_studio.models.addresses import Reach, parse_address
from unet_studio.models.answers import Wanted, accept, too_large
from unet_studio.models.connection import Answer, Interrupted
from unet_studio.models.network_thread import NetworkThread
from unet_studio.models.partial import PartialFile, file_sha256, partial_file

_POLL_S = 0.1
# A try that brought less than this counts as one more failure.
_PROGRESS = 256 * 1024
_HASH = re.compile(r"[0-9a-f]{64}")
_PAGE = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<script")
_LONGEST_PAUSE_S = 30.0


@dataclass(frozen=True)
class Limits:
    """How patient a download is.

    Attributes
    ----------
    connect_s : float
        For connecting, in seconds.
    window_s, slowest : float
        What arrives in ``window_s`` seconds has to be ``slowest`` bytes per second or
        more, the server's first answer included.
    attempts : int
        In a row without progress.
    first_pause_s : float
        Before the second try; doubled for each further one.
    """

    connect_s: float = 10.0
    window_s: float = 15.0
    slowest: float = 1024.0
    attempts: int = 4
    first_pause_s: float = 0.5


@dataclass(frozen=True)
class _Request:
    """What is wanted, checked."""

    wanted: Wanted
    reach: Reach
    limits: Limits
    token: CancelToken
    tell: Callable[[Event], None]


def download(
    url: str,
    target: Path,
    *,
    sha256: str | None,
    size_limit: int,
    token: CancelToken | None = None,
    on_event: Callable[[Event], None] | None = None,
    local: bool = False,
    limits: Limits | None = None,
) -> Path:
    """Download a file, going on with an earlier try where there was one.

    Parameters
    ----------
    url : str
        An https address. Plain http is taken only if ``sha256`` is given, or to this
        computer if ``local``. Redirects follow the same rules.
    target : Path
        Final name. It appears, or is replaced, only once the file is whole and its hash
        is right. If it is there with that hash, nothing is asked of the network.
    sha256 : str or None
        Expected SHA-256 of the file, 64 hexadecimal digits; None if unknown.
    size_limit : int
        Bytes; more than that is refused, announced or not.
    token : CancelToken, optional
        Cancelling is noticed within a second; what has arrived is kept for later.
    on_event : callable, optional
        Told, on the calling thread, of :class:`~unet_studio.events.Started` and
        :class:`~unet_studio.events.TileDone` in bytes (total 0 if unknown), at most ten
        times a second, and of :class:`~unet_studio.events.Warned` before each new try.
    local : bool
        The user gave this very address, so its host may be in the local network. Never
        true for an address out of a catalogue, a package or a web page.
    limits : Limits, optional
        How patient to be.

    Returns
    -------
    Path
        ``target``.

    Raises
    ------
    DownloadError
        If the address must not be used, or the file does not come, is not the one that
        was announced, or is a web page.
    OutputError
        If the disk does not take it.
    Cancelled
    """
    address = parse_address(url)
    expected = None if sha256 is None else checked_hash(sha256, address.shown)
    reach = Reach(hashed=expected is not None, local=address if local else None)
    request = _Request(
        Wanted(address, size_limit, expected), reach,
        limits or Limits(), token or CancelToken(), on_event or _ignore,
    )  # fmt: skip
    request.token.raise_if_cancelled()
    if expected is not None and target.is_file() and file_sha256(target) == expected:
        return target
    with partial_file(target, address.url) as partial:
        resumed = partial.size > 0
        _fill(partial, request)
        if resumed and expected is not None and partial.sha256() != expected:
            # The part may have been of an older version of the file.
            partial.restart()
            _fill(partial, request)
        _check(partial, request.wanted)
        partial.finish(target)
    return target


def _ignore(event: Event) -> None:
    pass


def checked_hash(sha256: str, shown: str) -> str:
    """Return a SHA-256 in its plain form: 64 digits, small letters.

    Parameters
    ----------
    sha256 : str
        As a user gave it, perhaps after ``sha256:``.
    shown : str
        The address that it belongs to, for the message.

    Raises
    ------
    DownloadError
        If it is none.
    """
    value = sha256.strip().lower().removeprefix("sha256:")
    if not _HASH.fullmatch(value):
        raise DownloadError(
            f"{sha256!r}, given as the SHA-256 of {shown}, is not one: it has 64 digits "
            "from 0 to 9 and a to f. Copy it again from where the file is offered."
        )
    return value


def _fill(partial: PartialFile, request: _Request) -> None:
    """Try until everything has arrived, or trying has no sense any more."""
    failures, mark, told = 0, partial.size, ""
    while True:
        try:
            _attempt(partial, request)
            return
        except Interrupted as error:
            if partial.size >= mark + _PROGRESS:
                failures, mark = 0, partial.size
            failures += 1
            if failures >= request.limits.attempts:
                raise DownloadError(
                    f"{request.wanted.address.shown} could not be downloaded: {error}. "
                    f"{_kept(partial)}Try again later, or download it in a browser and import it."
                ) from None
            pause = request.limits.first_pause_s * 2 ** (failures - 1)
            pause = min(max(pause, error.retry_after), _LONGEST_PAUSE_S)
            if str(error) != told:
                told = str(error)
                request.tell(Warned(f"Trying again: {told}."))
            _wait(pause, request.token)


def _kept(partial: PartialFile) -> str:
    if not partial.size:
        return ""
    return f"What has arrived ({readable_size(partial.size)}) is kept for the next try. "


def _wait(seconds: float, token: CancelToken) -> None:
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        token.raise_if_cancelled()
        time.sleep(min(_POLL_S, left))


def _attempt(partial: PartialFile, request: _Request) -> None:
    """Make one request, and write what comes."""
    limits, token = request.limits, request.token
    start = _resume_headers(partial, request.wanted.sha256 is not None)
    if partial.size and not start:
        partial.restart()
    with NetworkThread(request.wanted.address, start, request.reach, limits.connect_s) as network:
        pieces = _watched(network.pieces(_POLL_S), limits, token)
        answer = next(p for p in pieces if isinstance(p, Answer))
        total = accept(answer, partial, request.wanted)
        if total is not None and partial.size == total:
            return
        request.tell(Started("downloading", total or 0))
        drawn = 0.0
        for piece in pieces:
            assert isinstance(piece, bytes)
            if partial.size + len(piece) > request.wanted.size_limit:
                raise too_large(request.wanted, None)
            partial.append(piece)
            if (now := time.monotonic()) - drawn >= _POLL_S:
                drawn = now
                request.tell(TileDone(partial.size, total or 0))
    if total is not None and partial.size < total:
        raise Interrupted(
            f"the connection ended after {readable_size(partial.size)} of {readable_size(total)}"
        )
    request.tell(TileDone(partial.size, total or partial.size))


def _resume_headers(partial: PartialFile, hashed: bool) -> dict[str, str]:
    """Ask for the rest, if it can be known to be of the same content."""
    if not partial.size or not (hashed or partial.notes.validator):
        return {}
    headers = {"Range": f"bytes={partial.size}-"}
    if partial.notes.validator:
        headers["If-Range"] = partial.notes.validator
    return headers


def _watched(
    pieces: Iterator[Answer | bytes | None], limits: Limits, token: CancelToken
) -> Iterator[Answer | bytes]:
    """Pass pieces on; stop when cancelled, and when they come too slowly."""
    began, arrived = time.monotonic(), 0
    for piece in pieces:
        token.raise_if_cancelled()
        now = time.monotonic()
        if isinstance(piece, bytes):
            arrived += len(piece)
        if now - began >= limits.window_s:
            if arrived < limits.slowest * limits.window_s:
                raise Interrupted(
                    f"only {readable_size(arrived)} came in {now - began:.0f} seconds"
                )
            began, arrived = now, 0
        if piece is not None:
            yield piece


def _check(partial: PartialFile, wanted: Wanted) -> None:
    """Refuse what is not the file; nothing of it is kept."""
    digest = partial.sha256()
    if wanted.sha256 is not None and digest == wanted.sha256:
        return
    size, head = partial.size, partial.head(512).lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    shown = wanted.address.shown
    if head.startswith(_PAGE):
        partial.restart()
        raise DownloadError(
            f"{shown} gave a web page instead of a file, perhaps the login page of a network or "
            "of a firewall. Open the address in a browser, log in, and try again."
        )
    if wanted.sha256 is not None:
        partial.restart()
        raise DownloadError(
            f"{shown} is not the file that was announced: its SHA-256 is {digest}, expected "
            f"{wanted.sha256} ({readable_size(size)} arrived). It was damaged on the way or "
            "replaced on the server, and was not kept. Try again, or ask who offers it."
        )
    if not size:
        raise DownloadError(f"{shown} is empty (0 bytes). Check the address.")
