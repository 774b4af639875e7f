# SPDX-License-Identifier: LGPL-2.1-or-later
"""The apt source over http and https on the loopback: credentials, client certificates, proxies."""

from __future__ import annotations

import base64
import functools
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from deb_archive import DebArchive, Key

from preroot.errors import BuildError
from preroot.packages.model import Resolution
from preroot.packages.source import open_source
from preroot.progress import Silent
from preroot.recipe.schema import Distribution
from preroot.run import run

LOGIN, PASSWORD = "reader", "s3cr;t%pass"


@pytest.fixture(scope="module")
def key() -> Iterator[Key]:
    key = Key("archive")
    yield key
    key.close()


@pytest.fixture(scope="module")
def archive(key: Key, tmp_path_factory: pytest.TempPathFactory) -> DebArchive:
    archive = DebArchive(tmp_path_factory.mktemp("mirror"))
    archive.add("libapp++", "1:1.0~rc1+b1")
    archive.publish(key)
    return archive


class Handler(SimpleHTTPRequestHandler):
    """Serves files; notes each request line; with `login` asks for it; takes a proxy's absolute addresses, too."""

    # without it, each answer ends with the connection, which apt 3.0 takes for an attack when it is TLS
    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: Any, login: str, seen: list[str], **named: Any) -> None:
        self.login = login
        self.seen = seen
        super().__init__(*arguments, **named)

    def do_GET(self) -> None:
        self.seen.append(self.path)
        token = base64.b64encode(self.login.encode()).decode()
        if self.login and self.headers.get("Authorization") != f"Basic {token}":
            self.send_error(401)
            return
        self.path = urlsplit(self.path).path
        super().do_GET()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def served(root: Path, *, login: str = "", tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[str]]]:
    seen: list[str] = []
    handler = functools.partial(Handler, directory=str(root), login=login, seen=seen)
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_address[1], seen
    finally:
        server.shutdown()
        server.server_close()


def obtain(cache: Path, key: Key, **table: Any) -> Resolution:
    distribution = Distribution(keyring=str(key.public), suites=("{release}",), **table)
    opened = open_source(distribution, default_suites=(), keyring_candidates=(), cache=cache)
    resolution = opened.resolve(["libapp++"], Silent())
    assert len(opened.fetch(resolution.packages, Silent())) == 1
    return resolution


def test_credentials_reach_the_mirror_and_nothing_else(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    with served(archive.root, login=f"{LOGIN}:{PASSWORD}") as (port, seen):
        resolution = obtain(tmp_path, key, mirror=f"http://{LOGIN}:s3cr%3Bt%25pass@127.0.0.1:{port}/")
        assert any(path.endswith(".deb") for path in seen)
    assert "127.0.0.1" not in repr(resolution)
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert written
    for path in written:
        assert PASSWORD.encode() not in path.read_bytes(), path
        assert LOGIN not in path.name


def test_missing_credentials(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    with served(archive.root, login="reader:other") as (port, _), pytest.raises(BuildError) as caught:
        obtain(tmp_path, key, mirror=f"http://reader:wrong-password@127.0.0.1:{port}")
    assert "401" in str(caught.value)
    assert "wrong-password" not in str(caught.value)


def test_unknown_release_over_http(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    with served(archive.root) as (port, _), pytest.raises(BuildError, match="has no suite 'trixy'"):
        obtain(tmp_path, key, mirror=f"http://127.0.0.1:{port}", release="trixy")


def test_package_that_the_mirror_has_dropped(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    with served(archive.root) as (port, _):
        table = Distribution(mirror=f"http://127.0.0.1:{port}", keyring=str(key.public), suites=("{release}",))
        opened = open_source(table, default_suites=(), keyring_candidates=(), cache=tmp_path)
        packages = opened.resolve(["libapp++"], Silent()).packages
        path = archive.root / packages[0].filename
        away = path.rename(path.with_suffix(".away"))
        try:
            with pytest.raises(BuildError, match=r"^libapp\+\+=1:1.0~rc1\+b1 is no longer at .*snapshot"):
                opened.fetch(packages, Silent())
        finally:
            away.rename(path)
    assert [path.name for path in (tmp_path / "archives").iterdir()] == []


def test_proxy(archive: DebArchive, key: Key, tmp_path: Path) -> None:
    with served(archive.root) as (port, seen):
        obtain(tmp_path, key, mirror="http://mirror.invalid/debian/..", proxy=f"http://127.0.0.1:{port}")
    assert seen
    assert all(path.startswith("http://mirror.invalid/") for path in seen)


def test_the_hosts_proxy(archive: DebArchive, key: Key, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with served(archive.root) as (port, seen):
        (tmp_path / "host.conf").write_text(f'Acquire::http::Proxy::mirror.invalid "http://127.0.0.1:{port}";\n')
        monkeypatch.setenv("APT_CONFIG", str(tmp_path / "host.conf"))
        obtain(tmp_path / "cache", key, mirror="http://mirror.invalid/debian/..")
    assert seen


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make an authority, and a certificate by it that serves 127.0.0.1 and the client alike."""
    top = tmp_path_factory.mktemp("tls")
    (top / "ext").write_text("subjectAltName=IP:127.0.0.1\nauthorityKeyIdentifier=keyid\n")
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    commands: tuple[list[str | Path], ...] = (
        ["req", "-x509", *curve, "-days", "2", "-subj", "/CN=authority", "-addext",
         "keyUsage=critical,keyCertSign", "-keyout", top / "ca.key", "-out", top / "ca.pem"],
        ["req", *curve, "-subj", "/CN=127.0.0.1", "-keyout", top / "host.key", "-out", top / "host.csr"],
        ["x509", "-req", "-in", top / "host.csr", "-CA", top / "ca.pem", "-CAkey", top / "ca.key", "-CAcreateserial",
         "-days", "2", "-extfile", top / "ext", "-out", top / "host.pem"],
    )  # fmt: skip
    for argv in commands:
        run(["openssl", *argv], purpose="to make test certificates")
    return top


def test_https_with_a_client_certificate(archive: DebArchive, key: Key, certificates: Path, tmp_path: Path) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(certificates / "ca.pem"))
    tls.load_cert_chain(certificates / "host.pem", certificates / "host.key")
    tls.verify_mode = ssl.CERT_REQUIRED
    with served(archive.root, tls=tls) as (port, seen):
        mirror = f"https://127.0.0.1:{port}"
        obtain(
            tmp_path / "cache", key, mirror=mirror, ca=str(certificates / "ca.pem"),
            client_certificate=str(certificates / "host.pem"), client_key=str(certificates / "host.key"),
        )  # fmt: skip
        assert seen
        with pytest.raises(BuildError, match="certificate"):
            obtain(tmp_path / "untrusted", key, mirror=mirror)
