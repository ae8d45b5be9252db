"""What a server's answer to a request for a file means: the file, a part of it, or why neither."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass

from unet_studio.errors import DownloadError, OutputError
from unet_studio.images.limits import readable_size
from unet_studio.models.addresses import Address
from unet_studio.models.connection import Answer, Interrupted
from unet_studio.models.partial import PartialFile

_RANGE = re.compile(r"bytes (?P<first>\d+)-\d+/(?P<total>\d+|\*)$")
_BUSY = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Wanted:
    """The file that is asked for.

    Attributes
    ----------
    address : Address
    size_limit : int
        Bytes; a larger file is refused.
    sha256 : str or None
        Of the file, 64 hexadecimal digits; None if unknown.
    """

    address: Address
    size_limit: int
    sha256: str | None


def accept(answer: Answer, partial: PartialFile, wanted: Wanted) -> int | None:
    """Judge an answer's status and headers before anything of the file is read.

    Parameters
    ----------
    answer : Answer
        To a request for what ``partial`` lacks.
    partial : PartialFile
        Emptied if the answer does not continue it; the answer's validator is noted.
    wanted : Wanted

    Returns
    -------
    int or None
        Size of the whole file in bytes, if it is announced.

    Raises
    ------
    Interrupted
        If it is worth another try.
    DownloadError
        If the server does not give the file, or gives one that is too large.
    OutputError
        If the disk has no room for it.
    """
    headers = answer.headers
    length = _number(headers.get("Content-Length"))
    if answer.status == 206:
        match = _RANGE.match(headers.get("Content-Range", ""))
        if match is None or int(match["first"]) != partial.size:
            partial.restart()
            raise Interrupted("the server sent another part than the one asked for")
        total = _number(match["total"])
    elif answer.status == 200:
        if partial.size:
            partial.restart()
        total = length
    elif answer.status == 416:
        # Our part is as long as the file, or longer than a file that changed.
        end = _number(headers.get("Content-Range", "").rpartition("/")[2])
        if end == partial.size and wanted.sha256 is not None:
            return end
        partial.restart()
        raise Interrupted("the file has changed on the server")
    else:
        raise _refusal(answer, wanted)
    if headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DownloadError(
            f"{wanted.address.shown} was packed on the way "
            f"({headers['Content-Encoding']}), so its content can not be checked. Download it "
            "in a browser and import it."
        )
    if total is not None:
        _check_room(total, partial, wanted)
    partial.note(_validator(answer))
    return total


def _validator(answer: Answer) -> str:
    """Return what If-Range needs: a strong ETag, else the date of the content (RFC 9110)."""
    tag: str = answer.headers.get("ETag", "").strip()
    value = tag if tag.startswith('"') else answer.headers.get("Last-Modified", "").strip()
    return value if value.isprintable() and value.isascii() and len(value) < 300 else ""


def _number(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


def _check_room(total: int, partial: PartialFile, wanted: Wanted) -> None:
    if total > wanted.size_limit:
        raise too_large(wanted, total)
    free = shutil.disk_usage(partial.path.parent).free
    if total - partial.size > free:
        raise OutputError(
            f"{wanted.address.shown} takes {readable_size(total)}, and "
            f"{readable_size(free)} are free in {partial.path.parent}. Free some space, or set "
            "UNET_STUDIO_HOME to a folder on a larger disk."
        )


def too_large(wanted: Wanted, total: int | None) -> DownloadError:
    """Return the error for a file of more bytes than expected; ``total`` if it was announced."""
    announced = f"announces {readable_size(total)}" if total is not None else "sends more"
    return DownloadError(
        f"{wanted.address.shown} {announced}, where at most "
        f"{readable_size(wanted.size_limit)} were expected. Check the address; a file this "
        "large can be downloaded in a browser and imported."
    )


def _refusal(answer: Answer, wanted: Wanted) -> Exception:
    """Return the error for a status that is no file."""
    shown, status = wanted.address.shown, answer.status
    if status in _BUSY:
        wait = _number(answer.headers.get("Retry-After"))
        return Interrupted(f"{answer.address.host} is busy or out of order (status {status})",
                           float(wait or 0))  # fmt: skip
    if status in (401, 403):
        return DownloadError(
            f"{shown} asks for a login or is not open to you (status {status}). Log in with a "
            "browser, accept the terms if there are any, download the file and import it."
        )
    if status == 407:
        return DownloadError(
            f"The proxy on the way to {shown} asks for a login (status 407). Write it into "
            "http_proxy or https_proxy as http://USER:PASSWORD@HOST:PORT."
        )
    if status in (404, 410):
        return DownloadError(
            f"There is no file {shown} any more (status {status}). Look for its new address, "
            "or update U-Net Studio, whose catalogue may know it."
        )
    return DownloadError(
        f"{shown} was not sent: the server answered with status {status}. Look at the address "
        "in a browser; what it offers can be imported."
    )
