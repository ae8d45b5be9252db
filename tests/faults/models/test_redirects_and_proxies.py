"""S14-S18, F77: where a download may be led, and what it says on the way."""

from __future__ import annotations

import hashlib
import http.server
import ssl
import subprocess
import threading

import pytest

from unet_studio.errors import DownloadError
from unet_studio.models.download import Limits, download

CONTENT = b"weights" * 10_000
HASH = hashlib.sha256(CONTENT).hexdigest()
QUICK = Limits(connect_s=2, window_s=2, attempts=2, first_pause_s=0.05)
GIVEN = {"sha256": HASH, "size_limit": 10**8, "limits": QUICK}


@pytest.fixture
def target(tmp_path):
    return tmp_path / "model.bin"


@pytest.fixture
def lead(web, target):
    """Download from a page that redirects to an address."""

    def run(location, **keywords):
        web.pages["/start"] = web.page(status=302, headers={"Location": location})
        return download(web.url("/start"), target, **{**GIVEN, "local": True, **keywords})

    return run


def test_a_redirect_on_the_same_server_is_followed(lead, web, target):
    web.pages["/real"] = web.page(CONTENT)
    web.pages["/next"] = web.page(status=307, headers={"Location": "real"})
    lead("/next")
    assert target.read_bytes() == CONTENT
    assert web.paths() == ["/start", "/next", "/real"]


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:1/a",
        "http://localhost/a",
        "https://127.0.0.1/a",
        "http://[::1]/a",
        "http://10.0.0.1/a",
        "https://192.168.0.1/a",
        "http://169.254.169.254/latest/meta-data/",
        "http://[::ffff:127.0.0.1]/a",
        "http://2130706433/a",
        "http://0.0.0.0/a",
    ],
)
def test_S15_a_redirect_into_the_local_network_is_refused(lead, web, target, location):
    with pytest.raises(DownloadError, match="leads into the local network"):
        lead(location)
    assert web.paths() == ["/start"], "refused at once, without another try"
    assert not target.exists()


def test_S15_another_port_of_this_computer_is_refused_and_not_asked(lead, web):
    asked = threading.Event()

    class Service(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.set()

    other = http.server.HTTPServer(("127.0.0.1", 0), Service)
    thread = threading.Thread(target=other.handle_request, daemon=True)
    thread.start()
    with pytest.raises(DownloadError, match="local network"):
        lead(f"http://127.0.0.1:{other.server_address[1]}/shutdown")
    assert not asked.wait(0.2)
    other.server_close()


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "ftp://a.example/x", "https://a@b.example/", "https://a.example\\b"],
)
def test_S15_S16_a_redirect_to_something_odd_is_refused(lead, location):
    with pytest.raises(DownloadError, match="can not be used"):
        lead(location)


def test_S14_a_redirect_to_plain_http_is_refused_without_a_hash(lead, monkeypatch, web):
    import socket

    real = socket.getaddrinfo

    def lookup(host, *rest, **keywords):
        if host == "models.example":
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("93.184.216.34", 80))]
        return real(host, *rest, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    with pytest.raises(DownloadError, match="plain http address"):
        lead("http://models.example/a", sha256=None)


def test_a_circle_of_redirects_ends(lead, web):
    with pytest.raises(DownloadError, match="circle"):
        lead("/start")
    assert len(web.requests) < 20


def test_S15_an_address_out_of_a_catalogue_may_not_be_local(web, target):
    with pytest.raises(DownloadError, match="local network"):
        download(web.url("/model"), target, **GIVEN)
    assert web.requests == []


# -- secrets -------------------------------------------------------------------


def test_S18_no_token_cookie_or_login_is_sent(lead, web, target, monkeypatch, tmp_path):
    secrets = ("hf_verysecret", "netrcpassword", "proxypassword")
    monkeypatch.setenv("HF_TOKEN", secrets[0])
    monkeypatch.setenv("HUGGING_FACE_HUB_TOKEN", secrets[0])
    netrc = tmp_path / ".netrc"
    netrc.write_text(f"machine 127.0.0.1 login me password {secrets[1]}")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("https_proxy", f"http://me:{secrets[2]}@127.0.0.1:9")
    web.pages["/real"] = web.page(CONTENT, headers={"Set-Cookie": "id=1"})
    lead("/real")
    assert len(web.requests) == 2
    for _, _, headers in web.requests:
        assert set(headers) == {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
        assert not any(secret in str(headers) for secret in secrets)


def test_S18_a_signed_address_stays_out_of_messages_and_files(web, target, tmp_path):
    web.pages["/m?signature=verysecret"] = web.page(CONTENT, cut_at=5000, cuts=9)
    web.pages["/n?signature=verysecret"] = web.page(status=404)
    said = []
    for path in ("/m", "/n"):
        with pytest.raises(DownloadError) as told:
            download(
                web.url(f"{path}?signature=verysecret"),
                target,
                local=True,
                on_event=lambda event: said.append(str(event)),
                **GIVEN,
            )
        said.append(str(told.value))
    assert len(web.requests) == 3
    assert "verysecret" not in " ".join(said)
    for file in tmp_path.rglob("*"):
        assert b"verysecret" not in file.read_bytes()


# -- proxies -------------------------------------------------------------------


@pytest.fixture
def proxied(web, monkeypatch):
    """Use the server as a proxy for everything, with a login."""

    def use(scheme, login="me:pass%40word@"):
        monkeypatch.setenv(f"{scheme}_proxy", f"http://{login}127.0.0.1:{web.port}")
        monkeypatch.delenv("no_proxy", raising=False)

    return use


def test_F77_plain_http_goes_through_the_proxy(web, target, proxied):
    proxied("http")
    web.pages["http://models.example/m?q=1"] = web.page(CONTENT)
    download("http://models.example/m?q=1", target, **GIVEN)
    assert target.read_bytes() == CONTENT
    (request,) = web.requests
    assert request[2]["Host"] == "models.example"
    assert request[2]["Proxy-Authorization"] == "Basic bWU6cGFzc0B3b3Jk"  # me:pass@word


def test_F77_https_asks_the_proxy_for_a_tunnel_and_sends_nothing_else(web, target, proxied):
    proxied("https")
    web.pages["models.example:443"] = web.page(status=403)
    with pytest.raises(DownloadError, match=r"proxy 127.0.0.1:\d+ refused \(403") as told:
        download("https://models.example/secret-path", target, **GIVEN)
    assert "pass" not in str(told.value)
    for method, path, headers in web.requests:
        assert (method, path) == ("CONNECT", "models.example:443")
        assert "secret-path" not in str(headers)


def test_F77_a_proxy_that_wants_a_login(web, target, proxied):
    proxied("https", login="")
    web.pages["*"] = web.page(status=407)
    with pytest.raises(DownloadError, match=r"asks for a login.*USER:PASSWORD@HOST:PORT"):
        download("https://models.example/m", target, **GIVEN)
    assert len(web.requests) == 1


@pytest.mark.parametrize(
    "setting", ["http://", "socks5://127.0.0.1:9", "http://host:nonsense", "https://h:1"]
)
def test_F77_a_setting_that_is_no_proxy_is_named(target, monkeypatch, web, setting):
    monkeypatch.setenv("https_proxy", setting)
    with pytest.raises(DownloadError, match="https_proxy"):
        download("https://models.example/m", target, **GIVEN)


def test_F77_a_proxy_that_does_not_answer_is_named(target, monkeypatch, web):
    monkeypatch.setenv("https_proxy", "http://me:verysecret@127.0.0.1:9")
    with pytest.raises(DownloadError, match=r"proxy 127.0.0.1:9 .*https_proxy") as told:
        download("https://models.example/m", target, **GIVEN)
    assert "verysecret" not in str(told.value)


def test_F77_no_proxy_is_honoured(target, monkeypatch, proxied, web):
    proxied("http")
    monkeypatch.setenv("no_proxy", "models.invalid")
    with pytest.raises(DownloadError, match="models.invalid can not be reached: its name"):
        download("http://models.invalid/m", target, **GIVEN)
    assert web.requests == []


# -- certificates --------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path):
    """A key and certificate for localhost that nobody vouches for."""
    pem = tmp_path / "server.pem"
    command = (
        "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
        "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        "-keyout", str(tmp_path / "key.pem"), "-out", str(pem),
    )  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return pem, tmp_path / "key.pem"


@pytest.fixture
def https(certificate, web):
    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(CONTENT)))
            self.end_headers()
            self.wfile.write(CONTENT)

        def log_message(self, *arguments):
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            pass

    server = Quiet(("127.0.0.1", 0), Page)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"https://localhost:{server.server_address[1]}/m"
    server.shutdown()
    server.server_close()
    thread.join()


def test_https_trusts_the_system_and_what_ssl_cert_file_adds(
    https, certificate, target, monkeypatch
):
    with pytest.raises(DownloadError, match=r"could not prove who it is.*SSL_CERT_FILE"):
        download(https, target, local=True, **GIVEN)
    assert not target.exists()
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    download(https, target, local=True, **GIVEN)
    assert target.read_bytes() == CONTENT
    # The right certificate for another name proves nothing.
    target.unlink()
    with pytest.raises(DownloadError, match="could not prove who it is"):
        download(https.replace("localhost", "127.0.0.1"), target, local=True, **GIVEN)
