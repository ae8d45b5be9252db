"""S14-S16: which addresses may be asked."""

from __future__ import annotations

import socket

import pytest

from unet_studio.errors import DownloadError
from unet_studio.models.addresses import (
    Reach,
    addresses_of,
    check_unresolved,
    is_this_computer,
    parse_address,
    redirected,
)


@pytest.fixture
def names(monkeypatch):
    """What host names stand for; everything else is unknown."""
    known = {}

    def lookup(host, port, **options):
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (n, port)) for n in known[host]]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    return known


def test_an_address_is_taken_apart_once():
    address = parse_address("HTTPS://Models.Example:443/a/b.pt?token=secret#part")
    assert (address.scheme, address.host, address.port) == ("https", "models.example", 443)
    assert address.path == "/a/b.pt?token=secret"
    assert address.shown == "https://models.example/a/b.pt", "a query may be a secret"
    assert parse_address("https://bücher.example").host == "xn--bcher-kva.example"
    assert parse_address("https://[2001:DB8::1]:8443/x").authority == "[2001:db8::1]:8443"


@pytest.mark.parametrize(
    "url",
    [
        "https://good.example@evil.example/a",
        "https://user:verysecret@models.example/a",
        "https://good.example\\@evil.example/a",
        "https:\\\\evil.example/a",
        "https://good.example /a",
        "https://good.example\t.evil.example/a",
        "https://good.example/\r\nHost: evil.example",
        "https://exa%6dple.example/a",
        "https://models.example:99999/a",
        "https:///a",
        "https://",
        "//models.example/a",
        "file:///etc/passwd",
        "ftp://models.example/a",
        "javascript:alert(1)",
        "data:,x",
        "C:\\models\\a.pt",
        "models.example/a",
        "",
    ],
)
def test_S16_what_can_be_read_in_two_ways_is_refused(url):
    with pytest.raises(DownloadError, match="can not be used") as told:
        parse_address(url)
    assert "verysecret" not in str(told.value)


@pytest.mark.parametrize(
    "number",
    [
        "127.0.0.1",
        "127.8.9.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::1",
        "::7f00:1",  # ::127.0.0.1
        "::8.8.8.8",  # public inside, but no such address is in use any more
        "fec0::1",
        "64:ff9b:1::7f00:1",
        "64:ff9b:1::808:808",
        "192.88.99.1",
    ],
)
def test_S15_names_that_stand_for_the_local_network_are_refused(names, number):
    names["models.example"] = [number]
    with pytest.raises(DownloadError, match="local network"):
        addresses_of(parse_address("https://models.example/a"), Reach())
    names["models.example"] = ["93.184.216.34", number]
    with pytest.raises(DownloadError, match="local network"):
        addresses_of(parse_address("https://models.example/a"), Reach())


@pytest.mark.parametrize("number", ["fec0::1", "::7f00:1", "64:ff9b:1::a00:1", "192.88.99.1"])
def test_S15_ranges_that_are_given_up_are_refused_even_where_the_user_named_them(names, number):
    names["mirror.lab"] = [number]
    own = parse_address("https://mirror.lab/a")
    with pytest.raises(DownloadError, match="local network"):
        addresses_of(own, Reach(local=own))


def test_this_computer_may_be_named_by_the_user_in_ipv6(names):
    names["localhost"] = ["::1"]
    own = parse_address("https://localhost/a")
    assert addresses_of(own, Reach(local=own)) == ["::1"]


def test_a_public_name_is_connected_to_by_the_numbers_that_were_checked(names):
    names["models.example"] = ["93.184.216.34", "2606:2800:21f:cb07:6820:80da:af6b:8b2c"]
    found = addresses_of(parse_address("https://models.example/a"), Reach())
    assert found == names["models.example"]


def test_what_the_user_named_may_be_local_but_nothing_else(names):
    names["mirror.lab"] = ["10.0.0.7"]
    names["other.lab"] = ["10.0.0.8"]
    own = parse_address("https://mirror.lab/a")
    reach = Reach(local=own)
    assert addresses_of(own, reach) == ["10.0.0.7"]
    assert addresses_of(redirected(own, "/b"), reach) == ["10.0.0.7"]
    for other in ("https://other.lab/a", "https://mirror.lab:8443/a"):
        with pytest.raises(DownloadError, match="local network"):
            addresses_of(redirected(own, other), reach)
    names["mirror.lab"] = ["169.254.169.254"]
    with pytest.raises(DownloadError, match="local network"):
        addresses_of(own, reach)


def test_S14_plain_http_needs_a_hash(names):
    names["models.example"] = ["93.184.216.34"]
    address = parse_address("http://models.example/a?key=secret")
    with pytest.raises(DownloadError, match="plain http") as told:
        addresses_of(address, Reach())
    assert "secret" not in str(told.value)
    assert addresses_of(address, Reach(hashed=True))
    with pytest.raises(DownloadError, match="plain http"):
        addresses_of(address, Reach(local=address))  # own, but not on this computer
    names["localhost"] = ["127.0.0.1"]
    own = parse_address("http://localhost/a")
    assert addresses_of(own, Reach(local=own))


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "printer", "a.localhost", "nas.local", "metadata.google.internal",
        "127.1", "2130706433", "0x7f.1", "0177.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]",
    ],
)  # fmt: skip
def test_S15_behind_a_proxy_names_and_numbers_are_judged_as_text(host):
    with pytest.raises(DownloadError, match="local network"):
        check_unresolved(parse_address(f"https://{host}/a"), Reach(hashed=True))


def test_a_public_name_passes_behind_a_proxy():
    check_unresolved(parse_address("https://models.example/a"), Reach())
    with pytest.raises(DownloadError, match="plain http"):
        check_unresolved(parse_address("http://models.example/a"), Reach())


def test_this_computer_is_known_by_its_names():
    assert all(is_this_computer(h) for h in ("localhost", "127.0.0.1", "127.1", "::1"))
    assert not any(is_this_computer(h) for h in ("localhost.example", "10.0.0.1"))
