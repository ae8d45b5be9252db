"""A thread that reads from the network, so that nobody else has to wait for it."""

from __future__ import annotations

import http.client
import queue
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from types import TracebackType

from unet_studio.models.addresses import Address, Reach
from unet_studio.models.connection import Answer, Interrupted, ask, reason_of

_PIECE = 256 * 1024
_WAITING = 8  # pieces
_END = object()


class NetworkThread:
    """One request, in progress inside its ``with`` block.

    Leaving the block shuts the socket. A thread that is still looking up a name or
    connecting then ends by itself within its timeout; it holds nothing of value.

    Parameters
    ----------
    address, headers, reach, timeout
        As for :func:`~unet_studio.models.connection.ask`.
    """

    def __init__(
        self, address: Address, headers: Mapping[str, str], reach: Reach, timeout: float
    ) -> None:
        self._request = (address, headers, reach, timeout)
        self._queue: queue.Queue[object] = queue.Queue(_WAITING)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(
            target=self._work, daemon=True, name="unet-studio-download"
        )

    def __enter__(self) -> NetworkThread:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        with self._lock:
            _shut(self._socket)

    def pieces(self, wait_s: float) -> Iterator[Answer | bytes | None]:
        """Yield the answer, then its body; None whenever nothing came for ``wait_s`` seconds.

        Raises
        ------
        Interrupted, DownloadError
            What the request raised.
        """
        while True:
            try:
                item = self._queue.get(timeout=wait_s)
            except queue.Empty:
                yield None
                continue
            if item is _END:
                return
            if isinstance(item, BaseException):
                raise item
            assert isinstance(item, Answer | bytes)
            yield item

    def _work(self) -> None:
        address, headers, reach, timeout = self._request
        try:
            answer = ask(address, headers, reach, timeout=timeout, keep=self._keep)
            with answer.response:
                self._put(answer)
                self._read(answer)
            self._put(_END)
        except (OSError, http.client.HTTPException) as error:
            self._put(Interrupted(f"the connection broke: {reason_of(error)}"))
        except BaseException as error:
            self._put(error)
        finally:
            with self._lock:
                _close(self._socket)

    def _read(self, answer: Answer) -> None:
        """Hand over the body, up to its announced length."""
        length = answer.headers.get("Content-Length", "")
        chunked = answer.headers.get("Transfer-Encoding", "").lower() == "chunked"
        left = int(length) if length.isascii() and length.isdigit() and not chunked else None
        while not self._stop.is_set() and left != 0:
            data = answer.response.read1(_PIECE if left is None else min(_PIECE, left))
            if not data:
                return
            left = None if left is None else left - len(data)
            self._put(data)

    def _put(self, item: object) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=0.1)
                return
            except queue.Full:
                continue

    def _keep(self, opened: socket.socket) -> None:
        with self._lock:
            _close(self._socket)  # of the hop before; a plain socket inside TLS is empty
            self._socket = opened
            if self._stop.is_set():
                _shut(opened)


def _shut(opened: socket.socket | None) -> None:
    """End a read that waits on a socket in another thread."""
    if opened is not None:
        with suppress(OSError):
            # Not SSLSocket's own, which takes its state away from the thread that reads.
            socket.socket.shutdown(opened, socket.SHUT_RDWR)


def _close(opened: socket.socket | None) -> None:
    if opened is not None:
        with suppress(OSError):
            opened.close()
