# SPDX-License-Identifier: LGPL-2.1-or-later
"""What apt writes, as recorded from apt 2.6.1 (bookworm) and 3.0.3 (trixie), and what the user reads instead."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.packages.apt_config import Setup, Suite
from preroot.packages.apt_errors import explain_download, explain_install, explain_update

BASE = "http://m.example/debian"
SETUP = Setup(suites=(Suite(BASE, "trixie"),), components=("main",), arch="amd64", bases=(BASE,), keyrings=("/k.gpg",))
RELEASE = f"{BASE} trixie InRelease"
SOME = "E: Some index files failed to download. They have been ignored, or old ones used instead.\n"


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        (
            f"E: Failed to fetch {BASE}/dists/trixie/InRelease  Could not connect to 127.0.0.1:1 (127.0.0.1). - "
            f"connect (111: Connection refused) [IP: 127.0.0.1 1]\n{SOME}",
            f"cannot fetch {BASE}/dists/trixie/InRelease: Could not connect to 127.0.0.1:1 (127.0.0.1). - connect "
            "(111: Connection refused)",
        ),
        (
            f"E: Failed to fetch {BASE}/dists/trixie/InRelease  Could not resolve 'm.example'\n{SOME}",
            f"cannot fetch {BASE}/dists/trixie/InRelease: Could not resolve 'm.example'",
        ),
        (
            f"E: The repository '{BASE} trixy Release' does not have a Release file.\nErr:2 {BASE} trixy Release\n"
            "  404  Not Found [IP: 192.0.2.1 80]\n",
            f"{BASE} has no suite 'trixy'",
        ),
        (
            f"E: The repository '{BASE} trixie Release' does not have a Release file.\nErr:2 {BASE} trixie Release\n"
            "  OpenSSL error: error:0A000126:SSL routines::unexpected eof while reading  [IP: 192.0.2.1 80]\n",
            f"cannot fetch {BASE} trixie: OpenSSL error: error:0A000126:SSL routines::unexpected eof while reading",
        ),
        (
            f"E: The repository '{RELEASE}' is not signed.\nErr:1 {RELEASE}\n  401  Unauthorized [IP: 192.0.2.1 80]\n",
            f"cannot fetch {BASE} trixie: 401  Unauthorized",
        ),
        (
            f"W: An error occurred during the signature verification. The repository is not updated and the previous "
            f"index files will be used. GPG error: {RELEASE}: The following signatures couldn't be verified because "
            f"the public key is not available: NO_PUBKEY 6ED0E7B82643E131\n{SOME}",
            f"{BASE} trixie is signed with key 6ED0E7B82643E131, which is not in /k.gpg",
        ),
        (
            f"W: OpenPGP signature verification failed: {RELEASE}: Sub-process /usr/bin/sqv returned an error code "
            f"(1), error message is: Missing key 4CB50190207B4758A3F73A796ED0E7B82643E131, which is needed to verify "
            f"signature.\nE: The repository '{RELEASE}' is not signed.\n",
            f"{BASE} trixie is signed with key 4CB50190207B4758A3F73A796ED0E7B82643E131, which is not in /k.gpg",
        ),
        (
            f"W: GPG error: {RELEASE}: The following signatures were invalid: BADSIG 6ED0E7B82643E131 Debian\n"
            f"E: The repository '{RELEASE}' is not signed.\n",
            f"{BASE} trixie has a bad signature: The following signatures were invalid: BADSIG 6ED0E7B82643E131 Debian",
        ),
        (
            f"W: GPG error: {RELEASE}: The following signatures were invalid: EXPKEYSIG 6ED0E7B82643E131 Debian\n",
            f"{BASE} trixie is signed with the expired key 6ED0E7B82643E131 of /k.gpg",
        ),
        (f"E: The repository '{BASE} trixie Release' is not signed.\n", f"{BASE} trixie is not signed"),
        (
            f"E: Release file for {BASE}/dists/trixie/InRelease is expired (invalid since 14d 5h 49min 42s). Updates "
            "for this repository will not be applied.\n",
            f"{BASE}/dists/trixie/InRelease expired 14d 5h 49min 42s ago: the mirror is out of date",
        ),
        (
            f"E: Release file for {BASE}/dists/trixie/InRelease is not valid yet (invalid for another 3h 1min 2s). "
            "Updates for this repository will not be applied.\n",
            f"{BASE}/dists/trixie/InRelease is from the future, by 3h 1min 2s",
        ),
        (
            f"E: Failed to fetch {BASE}/dists/trixie/main/binary-amd64/Packages  Error writing to file - write (28: No "
            f"space left on device) [IP: 192.0.2.1 80]\n{SOME}",
            "no space left on the device of /cache",
        ),
        (
            f"E: Failed to fetch {BASE}/dists/trixie/main/binary-amd64/Packages.xz  Hash Sum mismatch\n   Hashes of "
            "expected file:\n",
            f"{BASE}/dists/trixie/main/binary-amd64/Packages.xz does not have the digest that the signed Release file "
            "gives: Hash Sum mismatch",
        ),
        (
            "E: Could not open lock file /cache/lists/lock - open (13: Permission denied)\n",
            "cannot write /cache/lists/lock",
        ),
        ("E: Something new and unheard of\n", "apt cannot read the archive: Something new and unheard of"),
        ("", "apt cannot read the archive: no error text"),
    ],
)
def test_update(output: str, expected: str) -> None:
    assert explain_update(output, SETUP, "/cache").message == expected


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("E: Version '99' for 'base' was not found\n", "package base has no version 99"),
        (
            "Package service is a virtual package provided by:\n  rival 1.0\n  provider 1.0\nYou should explicitly "
            "select one to install.\n\nE: Package 'service' has no installation candidate\n",
            "package service is virtual",
        ),
        (
            "E: Unable to correct problems, you have held broken packages.\nThe following packages have unmet "
            "dependencies:\n broken : Depends: missing-library (>= 3) but it is not installable\n",
            "cannot resolve broken: broken : Depends: missing-library (>= 3) but it is not installable",
        ),
        ("E: Unable to satisfy dependencies. Reached two conflicting assignments:\n",
         "cannot resolve broken: Unable to satisfy dependencies. Reached two conflicting assignments:"),
    ],
)  # fmt: skip
def test_install(output: str, expected: str) -> None:
    assert explain_install(output, ["broken"]).message == expected


URI = f"{BASE}/pool/main/b/base/base_12_all.deb"


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("404  Not Found [IP: 192.0.2.1 80]", f"base=12 is no longer at {URI}"),
        ("File not found - /m/pool/main/b/base/base_12_all.deb (2: No such file or directory)",
         f"base=12 is no longer at {URI}"),
        ("Hash Sum mismatch\n   Hashes of expected file:",
         f"base=12: {URI} does not have the digest that the lock gives"),
        ("File has unexpected size (4 != 5). Mirror sync in progress? [IP: 192.0.2.1 80]",
         f"base=12: {URI} does not have the digest that the lock gives"),
        ("Could not resolve 'm.example'", f"cannot fetch base=12 from {URI}: Could not resolve 'm.example'"),
        ("Error writing to file - write (28: No space left on device)", "no space left on the device of /cache"),
    ],
)  # fmt: skip
def test_download(reason: str, expected: str) -> None:
    output = f"E: Failed to fetch {URI}  {reason}\nE: Download Failed\n"
    assert explain_download(output, {URI: "base=12"}, "/cache").message == expected


@given(st.text())
def test_anything_gives_one_line(output: str) -> None:
    for error in (
        explain_update(output, SETUP, "/cache"),
        explain_install(output, ["a"]),
        explain_download(output, {}, "/cache"),
    ):
        assert "\n" not in str(error)
