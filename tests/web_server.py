"""A web server on this computer that answers as it is told, well or badly."""

from __future__ import annotations

import http.server
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

Handler = http.server.BaseHTTPRequestHandler


@dataclass
class Page:
    """What one path answers.

    ``cut_at`` ends the connection after so many bytes, ``cuts`` times; ``announce`` is the
    length in the header (None: none at all); ``pause_s`` passes after every ``burst`` bytes.
    """

    content: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    etag: str = ""
    ranges: bool = True
    cut_at: int = -1
    cuts: int = 1
    announce: int | None = -1
    burst: int = 1 << 20
    pause_s: float = 0.0
    fails: int = 0  # times that 503 is answered first
    answer: Callable[[Handler], None] | None = None


class WebServer:
    """Serve pages from this computer: ``web.pages["/model"] = web.page(b"...")``."""

    page = Page

    def __init__(self) -> None:
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        self.closing = threading.Event()
        server = self

        class Answering(Handler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            do_CONNECT = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        class Quiet(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                pass  # clients that hang up are what is tested here

        self._server = Quiet(("127.0.0.1", 0), Answering)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def paths(self) -> list[str]:
        return [path for _, path, _ in self.requests]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _answer(self, handler: Handler) -> None:
        handler.close_connection = True
        headers = dict(handler.headers.items())
        self.requests.append((handler.command, handler.path, headers))
        page = self.pages.get(handler.path) or self.pages.get("*")
        if page is None:
            handler.send_error(404)
        elif page.answer is not None:
            page.answer(handler)
        elif page.fails > 0:
            page.fails -= 1
            handler.send_error(503)
        else:
            self._send(handler, page, headers)

    def _send(self, handler: Handler, page: Page, headers: dict[str, str]) -> None:
        start, total = self._start(page, headers), len(page.content)
        if start is not None and start >= total:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{total}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(page.status if start is None else 206)
        for name, value in page.headers.items():
            handler.send_header(name, value)
        if page.etag:
            handler.send_header("ETag", page.etag)
        if start is not None:
            handler.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        body = page.content[start or 0 :]
        if page.announce is not None:
            length = len(body) if page.announce < 0 else page.announce
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        if page.cut_at >= 0 and page.cuts > 0:
            page.cuts -= 1
            body = body[: max(0, page.cut_at - (start or 0))]
        for first in range(0, len(body), page.burst):
            handler.wfile.write(body[first : first + page.burst])
            handler.wfile.flush()
            if page.pause_s and self.closing.wait(page.pause_s):
                return

    @staticmethod
    def _start(page: Page, headers: dict[str, str]) -> int | None:
        """Where the wanted range begins; None if the whole is to be sent."""
        wanted = headers.get("Range")
        if not wanted or not page.ranges:
            return None
        if headers.get("If-Range", page.etag) != page.etag:
            return None
        return int(wanted.removeprefix("bytes=").rstrip("-"))


def wait_until(condition: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
