# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is read of Release files and their signatures, and the names that apt gives them."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.packages.apt_release import list_name, parse_release, signers

DATES = "Date: Sat, 12 Sep 2026 07:55:41 UTC\nValid-Until: Sat, 19 Sep 2026 07:55:41 UTC\n"
BODY = f"Origin: Debian\n{DATES}Codename: trixie\n"
BODY += "Architectures: all amd64 arm64\nComponents: main contrib\nSHA256:\n 00 1 main/Date: x\n"


def signature(*subpackets: bytes, unhashed: bytes = b"", new: bool = True, version: int = 4) -> bytes:
    """Return an OpenPGP signature packet (RFC 9580, 5.2.3) with these hashed subpackets."""
    hashed = b"".join(bytes([len(each)]) + each for each in subpackets)
    loose = bytes([len(unhashed)]) + unhashed if unhashed else b""
    body = bytes([version, 1, 22, 10]) + len(hashed).to_bytes(2) + hashed + len(loose).to_bytes(2) + loose + b"xx" * 40
    if new:
        assert len(body) < 192
        return bytes([0xC0 | 2, len(body)]) + body
    return bytes([0x80 | 2 << 2 | 1]) + len(body).to_bytes(2) + body


def armored(data: bytes, header: str = "") -> str:
    coded = base64.encodebytes(data).decode()
    return f"-----BEGIN PGP SIGNATURE-----\n{header}\n{coded}=abcd\n-----END PGP SIGNATURE-----\n"


FIRST, SECOND, KEY_ID = b"\x21\x04" + b"\xaa" * 20, b"\x21\x04" + b"\xbb" * 20, b"\x10" + b"\xcc" * 8


def test_release_with_and_without_a_signature_around_it() -> None:
    inline = f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{BODY}{armored(signature(FIRST))}"
    release = parse_release(BODY)
    assert parse_release(inline) == release
    assert release.date == "Sat, 12 Sep 2026 07:55:41 UTC"
    assert release.valid_until == "Sat, 19 Sep 2026 07:55:41 UTC"
    assert release.architectures == ("all", "amd64", "arm64")
    assert release.components == ("main", "contrib")


def test_signers() -> None:
    both = signature(b"\x02\0\0\0\0", FIRST, unhashed=KEY_ID) + signature(SECOND, new=False)
    assert signers(armored(both)) == ("AA" * 20, "BB" * 20)
    assert signers(armored(signature(FIRST), "Version: x\n") + armored(signature(SECOND))) == ("AA" * 20, "BB" * 20)
    assert signers(armored(signature(unhashed=KEY_ID))) == ("CC" * 8,)
    assert signers(armored(signature(FIRST, version=3))) == ()
    assert signers("nothing") == ()


@given(st.text() | st.binary().map(armored) | st.binary().map(lambda data: armored(signature(FIRST)[:9] + data)))
def test_readers_take_anything(text: str) -> None:
    assert all(isinstance(each, str) for each in signers(text))
    parse_release(text)


@pytest.mark.parametrize(
    ("base", "suite", "expected"),
    [
        ("http://m.example/debian", "trixie", "m.example_debian_dists_trixie_InRelease"),
        ("http://m.example:80/a_b", "x/updates", "m.example:80_a%5fb_dists_x_updates_InRelease"),
        ("file:/srv/debian", "sid", "_srv_debian_dists_sid_InRelease"),
        ("mirror+file:/etc/apt/mirrors/debian.list", "sid", "_etc_apt_mirrors_debian.list_dists_sid_InRelease"),
    ],
)
def test_names_in_apts_lists(base: str, suite: str, expected: str) -> None:
    assert list_name(base, suite, "InRelease") == expected
