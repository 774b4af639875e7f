# SPDX-License-Identifier: LGPL-2.1-or-later
"""The apt source against the real mirror that this machine's own apt uses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from preroot.packages.source import Source, open_source
from preroot.progress import Silent
from preroot.recipe.schema import Distribution

KEYRINGS = ("/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp")
STABLE = ("{release}", "{release}-updates", "../debian-security {release}-security")


def source(release: str, arch: str, cache: Path) -> Source:
    suites = ("{release}",) if release == "sid" else STABLE
    table = Distribution(release=release, arch=arch)
    return open_source(table, default_suites=suites, keyring_candidates=KEYRINGS, cache=cache)


@pytest.mark.parametrize(
    ("release", "arch"),
    [("trixie", "amd64"), ("trixie", "arm64"), pytest.param("sid", "amd64", marks=pytest.mark.matrix)],
)
def test_what_an_initrd_is_made_of(release: str, arch: str, tmp_path: Path) -> None:
    kernel = f"linux-image-cloud-{arch}"
    opened = source(release, arch, tmp_path)
    found = opened.candidates([kernel, "systemd", "udev", "no-such-package"])
    assert set(found) == {kernel, "systemd", "udev"}
    resolution = opened.resolve([kernel, "systemd", "udev"], Silent())
    packages = {package.name: package for package in resolution.packages}
    assert len(packages) == len(resolution.packages)
    assert packages["systemd"].version == found["systemd"]
    assert {package.arch for package in resolution.packages} == {arch, "all"}
    assert {"libc6", "libmount1", "libblkid1", "kmod"} <= set(packages)
    # recommended only; a kernel's own package is found through the meta package
    assert "dbus" not in packages
    assert any(name.startswith("linux-image-") and name != kernel for name in packages)
    assert release in resolution.trust
    assert len(resolution.trust[release].partition("; ")[2].split()[0]) == 40
    small = [package for package in resolution.packages if package.size < 50_000]
    files = opened.fetch(small, Silent())
    for package in small:
        assert hashlib.sha256(files[package.sha256].read_bytes()).hexdigest() == package.sha256
