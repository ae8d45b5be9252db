"""One request to a web server: direct or through a proxy, every redirect checked.

The standard library's sockets are used rather than a client library: the address is
looked up, checked and connected to here, so that a name can not change its meaning in
between, and nothing but the headers below is ever sent: no token, no cookie, no
``.netrc``. Certificates are those of the system, which know an institution's own.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from unet_studio import __version__
from unet_studio.errors import DownloadError
from unet_studio.models.addresses import (
    Address,
    Reach,
    addresses_of,
    check_unresolved,
    is_this_computer,
    redirected,
)

USER_AGENT = f"unet-studio/{__version__}"
_REDIRECTS = {301, 302, 303, 307, 308}
_MOST_REDIRECTS = 8

# Told of every socket, so that somebody else can shut it.
Keep = Callable[[socket.socket], None]


class Interrupted(Exception):
    """A request that may go through if it is made again.

    Attributes
    ----------
    retry_after : float
        Seconds that the server asks to wait.
    """

    def __init__(self, reason: str, retry_after: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


@dataclass(frozen=True)
class Answer:
    """What a server answered, after all redirects.

    Attributes
    ----------
    address : Address
        Of the last hop.
    status : int
    headers : http.client.HTTPMessage
    response : http.client.HTTPResponse
        From which the body is read.
    """

    address: Address
    status: int
    headers: http.client.HTTPMessage
    response: http.client.HTTPResponse


@dataclass(frozen=True)
class Proxy:
    """A proxy for one scheme, from the environment or the system's settings."""

    host: str
    port: int
    authorization: str
    scheme: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def ask(
    address: Address, headers: Mapping[str, str], reach: Reach, *, timeout: float, keep: Keep
) -> Answer:
    """Send a GET request and follow its redirects.

    Parameters
    ----------
    address : Address
    headers : mapping
        Sent to every hop, beside the host and the name of this program.
    reach : Reach
        Checked at every hop.
    timeout : float
        Of connecting and of each read, in seconds.
    keep : callable
        Called with each socket once it is open.

    Raises
    ------
    DownloadError
        If a hop must not be asked, or can not be trusted.
    Interrupted
        If the network failed.
    """
    for _ in range(_MOST_REDIRECTS + 1):
        response = _send(address, headers, reach, timeout, keep)
        location = response.headers.get("Location")
        if response.status not in _REDIRECTS or not location:
            return Answer(address, response.status, response.headers, response)
        response.close()
        address = redirected(address, location)
    raise DownloadError(
        f"{address.shown} redirects in a circle. Look at the address in a browser, and import "
        "the file from there."
    )


def _send(
    address: Address, headers: Mapping[str, str], reach: Reach, timeout: float, keep: Keep
) -> http.client.HTTPResponse:
    proxy = proxy_for(address)
    try:
        opened = _connect(address, reach, proxy, timeout)
        keep(opened)
        if proxy is not None and address.scheme == "https":
            _tunnel(opened, proxy, address)
        if address.scheme == "https":
            opened = _trusted().wrap_socket(opened, server_hostname=address.host)
            keep(opened)
        through_proxy = proxy is not None and address.scheme == "http"
        connection = http.client.HTTPConnection(address.host, address.port)
        connection.sock = opened
        connection.putrequest(
            "GET",
            address.url if through_proxy else address.path,
            skip_host=True,
            skip_accept_encoding=True,
        )
        own = {
            "Host": address.authority,
            "User-Agent": USER_AGENT,
            "Accept": "*/*",
            "Accept-Encoding": "identity",  # a packed body has another length and hash
            "Connection": "close",
        }
        if through_proxy and proxy is not None and proxy.authorization:
            own["Proxy-Authorization"] = proxy.authorization
        for name, value in {**own, **headers}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse()
    except ssl.SSLCertVerificationError as error:
        raise DownloadError(
            f"The server {address.host} could not prove who it is ({error.verify_message}). If "
            "your institution inspects encrypted traffic, set SSL_CERT_FILE to its certificate; "
            "otherwise do not trust this network."
        ) from None
    except (OSError, http.client.HTTPException) as error:
        via = f" through the proxy {proxy} ({_SETTING[address.scheme]})" if proxy else ""
        raise Interrupted(f"{address.host} can not be reached{via}: {reason_of(error)}") from None


def reason_of(error: BaseException) -> str:
    """Return in a few words why the network failed."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, socket.gaierror):
        return "its name could not be looked up; this computer may be offline"
    if isinstance(error, http.client.HTTPException):
        return f"the answer breaks off or is not HTTP ({type(error).__name__})"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _connect(address: Address, reach: Reach, proxy: Proxy | None, timeout: float) -> socket.socket:
    if proxy is not None:
        check_unresolved(address, reach)
        return socket.create_connection((proxy.host, proxy.port), timeout)
    failure: OSError = OSError("no address")
    for number in addresses_of(address, reach):
        try:
            return socket.create_connection((number, address.port), timeout)
        except OSError as error:
            failure = error
    raise failure


def _trusted() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not ssl.get_default_verify_paths().capath:
        # Python from python.org on macOS comes without any certificate.
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context


# -- proxies ------------------------------------------------------------------

_SETTING = {
    "https": "set by https_proxy or in the system's settings",
    "http": "set by http_proxy or in the system's settings",
}


def proxy_for(address: Address) -> Proxy | None:
    """Return the proxy that environment or system name for an address, if any.

    Raises
    ------
    DownloadError
        If what they name is not a proxy that can be used.
    """
    if is_this_computer(address.host):
        return None
    proxies = getproxies()
    setting = proxies.get(address.scheme) or proxies.get("all")
    if not setting or proxy_bypass(address.authority):
        return None
    try:
        parts = urlsplit(setting if "://" in setting else f"http://{setting}")
        host, port = parts.hostname, parts.port or 80
    except ValueError:
        host, port, parts = None, 0, urlsplit("http://")
    if not host or parts.scheme != "http":
        shown = setting.rpartition("@")[2]  # never a password
        raise DownloadError(
            f"The proxy {shown!r} can not be used ({_SETTING[address.scheme]}): it should read "
            "http://HOST:PORT. Correct or remove it, or download the file in a browser."
        )
    authorization = ""
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + b64encode(login.encode()).decode()
    return Proxy(host, port, authorization, address.scheme)


def _tunnel(opened: socket.socket, proxy: Proxy, address: Address) -> None:
    """Have a proxy connect to the server; it sees no more than its name."""
    host = f"[{address.host}]" if ":" in address.host else address.host
    lines = [f"CONNECT {host}:{address.port} HTTP/1.1", f"Host: {host}:{address.port}"]
    lines.append(f"User-Agent: {USER_AGENT}")
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    opened.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
    response = http.client.HTTPResponse(opened, method="CONNECT")
    try:
        response.begin()
    finally:
        response.close()  # the socket stays open
    if response.status == 407:
        raise DownloadError(
            f"The proxy {proxy} asks for a login ({_SETTING[address.scheme]}). Write it as "
            "http://USER:PASSWORD@HOST:PORT, or download the file in a browser and import it."
        )
    if response.status != 200:
        raise Interrupted(f"the proxy {proxy} refused ({response.status} {response.reason})")
