"""Which web addresses may be asked, checked before and after their names are looked up.

A model's address may come from a catalogue, a package or a server's redirect, and
the computer that asks can often reach what the sender can not: services of its own
network. So every hop is checked: the address as text, its scheme, and the numbers that
its name stands for; the connection then goes to exactly those numbers.

Threats: server-side request forgery and DNS rebinding as in the OWASP cheat sheet
"Server-Side Request Forgery Prevention".
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

from unet_studio.errors import DownloadError

_PORTS = {"http": 80, "https": 443}
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Ranges in which something local can hide, or that stand for nothing any more.
_ODD = (
    ipaddress.ip_network("::/96"),  # IPv4 inside IPv6, given up (RFC 4291)
    ipaddress.ip_network("fec0::/10"),  # site-local, given up (RFC 3879)
    ipaddress.ip_network("64:ff9b:1::/48"),  # translated to local IPv4 (RFC 8215)
    ipaddress.ip_network("192.88.99.0/24"),  # relays to IPv6, given up (RFC 7526)
)
# Names that mean this computer or its network without being looked up.
_LOCAL_NAMES = (".localhost", ".local", ".internal", ".home.arpa", ".lan")

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


@dataclass(frozen=True)
class Address:
    """A web address, taken apart once; what is checked is what is connected to.

    Attributes
    ----------
    scheme : {"https", "http"}
    host : str
        Lower case, ASCII, without brackets.
    port : int
    path : str
        With the query, as sent to the server; begins with "/".
    """

    scheme: str
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """Host and, where it is not the scheme's own, port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """The whole address."""
        return f"{self.scheme}://{self.authority}{self.path}"

    @property
    def shown(self) -> str:
        """The address for messages: a query can hold a signature or a token."""
        return self.url.partition("?")[0]


@dataclass(frozen=True)
class Reach:
    """How far a download may go.

    Attributes
    ----------
    hashed : bool
        The content's SHA-256 is known, so that plain http can not change it unseen.
    local : Address or None
        An address that the user gave themselves: its host may lie in the local network
        or be this computer. Never set from a catalogue, a package or a redirect.
    """

    hashed: bool = False
    local: Address | None = None

    def trusts(self, address: Address) -> bool:
        """Whether an address is on the host and port that the user named."""
        own = self.local
        return own is not None and (address.host, address.port) == (own.host, own.port)


def parse_address(url: str) -> Address:
    """Take a web address apart.

    Raises
    ------
    DownloadError
        If it is not plainly an http(s) address: other schemes, user names, backslashes,
        spaces or control characters, which programs read in different ways.
    """
    if not url.isprintable() or any(c.isspace() or c == "\\" for c in url):
        raise _refused(url, "it holds a space, a backslash or a control character")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise _refused(url, str(error)) from None
    scheme = parts.scheme.lower()
    if scheme not in _PORTS:
        raise _refused(url, "it does not begin with https://")
    if "@" in parts.netloc:
        raise _refused(url, "it holds a user name or password")
    host = (parts.hostname or "").rstrip(".")
    if not host or "%" in host:
        raise _refused(url, "it names no server")
    try:
        host = host if ":" in host else host.encode("idna").decode("ascii").lower()
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        path.encode("ascii")
    except UnicodeError:
        raise _refused(url, "it holds letters that web addresses can not") from None
    if not path.startswith("/") or path.startswith("//"):
        path = "/" + path.lstrip("/")
    return Address(scheme, host, _PORTS[scheme] if port is None else port, path)


def redirected(address: Address, location: str) -> Address:
    """Return where a redirect leads.

    Raises
    ------
    DownloadError
    """
    try:
        return parse_address(urljoin(address.url, location))
    except ValueError as error:
        raise _refused(location, str(error)) from None


def addresses_of(address: Address, reach: Reach) -> list[str]:
    """Look a host up and return its numbers, all of which may be asked.

    Raises
    ------
    DownloadError
        If one of them is of the local network and the user did not name this host, or
        if the content could be changed on the way (plain http without a hash).
    OSError
        If the name can not be looked up.
    """
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)
    numbers = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    parsed = [_bare(ipaddress.ip_address(n.partition("%")[0])) for n in numbers]
    trusted = reach.trusts(address)
    for number in parsed:
        if not _allowed(number, trusted):
            raise _local(address)
    check_scheme(address, reach, on_this_computer=all(n.is_loopback for n in parsed))
    return numbers


def check_unresolved(address: Address, reach: Reach) -> None:
    """Check an address whose name a proxy looks up: by its text alone.

    Raises
    ------
    DownloadError
    """
    number = number_of(address.host)
    if number is None:
        local = "." not in address.host or address.host.endswith(_LOCAL_NAMES)
    else:
        local = not _allowed(number, trusted=False)
    if local and not reach.trusts(address):
        raise _local(address)
    check_scheme(address, reach, on_this_computer=False)


def check_scheme(address: Address, reach: Reach, *, on_this_computer: bool) -> None:
    """Refuse plain http, unless the content is hashed or never leaves this computer.

    Raises
    ------
    DownloadError
    """
    own = on_this_computer and reach.trusts(address)
    if address.scheme == "http" and not reach.hashed and not own:
        raise DownloadError(
            f"{address.shown} is a plain http address and the file's SHA-256 is not known, so "
            "anybody on the way could change it. Use an https address, or download the file "
            "in a browser and import it."
        )


def number_of(host: str) -> IPAddress | None:
    """Return the number that a host is written as, in any of its spellings (``127.1``)."""
    try:
        return _bare(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def is_this_computer(host: str) -> bool:
    """Whether a host is this computer by its name alone: proxies are not asked for it."""
    number = number_of(host)
    return host == "localhost" or (number is not None and number.is_loopback)


def _allowed(number: IPAddress, trusted: bool) -> bool:
    if any(number in network for network in _ODD) and not number.is_loopback:
        return False
    if number.is_link_local or number.is_multicast or number.is_unspecified:
        return False  # cloud services hand out credentials on 169.254.169.254
    return number.is_global or (trusted and (number.is_private or number.is_loopback))


def _bare(number: IPAddress) -> IPAddress:
    """Take an IPv4 number out of the IPv6 number that carries it."""
    if isinstance(number, ipaddress.IPv6Address):
        carried = number.ipv4_mapped or number.sixtofour
        if carried is None and number in _NAT64:
            carried = ipaddress.IPv4Address(int(number) & 0xFFFFFFFF)
        return carried or number
    return number


def _local(address: Address) -> DownloadError:
    return DownloadError(
        f"{address.shown} leads into the local network or to this computer, where models of "
        "a public catalogue do not come from. Nothing was asked of it. Give the address "
        "yourself if it is a server of yours."
    )


def _refused(url: str, reason: str) -> DownloadError:
    # No query and no user name: they may be secrets.
    shown = url.partition("?")[0].rpartition("@")[2]
    shown = "".join(c if c.isprintable() else "�" for c in shown)[:200]
    return DownloadError(f"The address {shown!r} can not be used: {reason}. Correct it.")
