# SPDX-License-Identifier: LGPL-2.1-or-later
"""Packages for the tests of the store, and stores with them: the fixtures of conftest.py."""

from __future__ import annotations

import lzma
from pathlib import Path

import deb_samples as samples
import pytest
from module_samples import modinfo, module

from elf_samples import make_elf
from preroot.packages import aside
from preroot.packages.model import FileInfo, PackageIndex
from preroot.packages.store import Store

ELF = make_elf(needed=["libc.so.6"], rest=b"\0libmentioned.so.1\0")
TREE = (
    samples.member(b"./usr/", type_=b"5", mode=b"0000755\0")
    + samples.member(b"./usr/lib/systemd/system/a.service", b"[Service]\nExecStart=/usr/bin/a\n")
    + samples.member(b"./usr/bin/a", ELF, mode=b"0000755\0")
    + samples.member(b"./usr/bin/b", type_=b"1", link=b"./usr/bin/a")
    + samples.member(b"./usr/bin/c", type_=b"1", link=b"./usr/bin/b")
    + samples.member(b"./usr/bin/script", b"#!/bin/sh -e\n")
    + samples.member(b"./usr/bin/link", type_=b"2", link=b"a")
    + samples.member(b"./usr/share/empty", b"")
    + samples.END
)
DEB = samples.deb(TREE, ".xz", control=samples.control_tar(postinst="#!/bin/sh\n", conffiles="/etc/a\n"))
PACKAGE = samples.package_of(DEB)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return samples.saved(DEB, tmp_path)


@pytest.fixture
def top(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "store"


@pytest.fixture
def full(top: Path, file: Path) -> Path:
    """The store's directory with the sample package in it."""
    with Store(top) as store:
        store.unpack(PACKAGE, file)
    return top


def entry(top: Path, kind: str) -> Path:
    return top / f"v{aside.FORMAT}" / "packages" / f"{PACKAGE.sha256}.{kind}"


def info(index: PackageIndex, path: str) -> FileInfo:
    return next(each for each in index.files if each.path == path)


MODULES = {
    "usr/lib/modules/6.12/kernel/a.ko.xz": module(modinfo("a", ("alias", "x:*"), depends="b")),
    "usr/lib/modules/6.12/kernel/b.ko.xz": module(modinfo("b")),
    "usr/lib/modules/6.12/kernel/plain.ko": module(modinfo("plain")),
}
KERNEL_TREE = (
    b"".join(
        samples.member(f"./{path}".encode(), lzma.compress(data, preset=0) if path.endswith("xz") else data)
        for path, data in MODULES.items()
    )
    + samples.member(b"./usr/lib/modules/6.12/modules.order", b"x")
    + samples.END
)
KERNEL_DEB = samples.deb(KERNEL_TREE, "")
KERNEL = samples.package_of(KERNEL_DEB)


@pytest.fixture
def kernel(top: Path, tmp_path: Path) -> PackageIndex:
    with Store(top) as store:
        return store.unpack(KERNEL, samples.saved(KERNEL_DEB, tmp_path, "kernel.deb"))
