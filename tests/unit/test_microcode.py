# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest

from preroot.errors import BuildError
from preroot.packages.model import FileInfo, Package, PackageIndex
from preroot.tree.microcode import microcode_entries
from preroot.tree.pool import Pool

CONTENTS = {
    "usr/lib/firmware/intel-ucode/06-55-04": b"one",
    "usr/lib/firmware/intel-ucode/06-8e-09": b"two",
    "usr/lib/firmware/amd-ucode/microcode_amd.bin": b"amd",
    "usr/lib/firmware/amd-ucode/microcode_amd.bin.asc": b"signature",
}


def pool() -> Pool:
    files = tuple(
        FileInfo(path, "file", 0o644, 0, 0, len(data), "", "", 0, None) for path, data in sorted(CONTENTS.items())
    )
    package = Package("ucode", "1", "amd64", "0" * 64, 1, "x")
    return Pool([(package, PackageIndex(1, "0" * 64, "ucode", "1", "amd64", 0, files, (), {}, {}))], {})


def test_each_vendor_is_one_file_without_signatures() -> None:
    entries = microcode_entries(["intel", "amd"], pool(), CONTENTS.__getitem__, "amd64")
    assert {entry.path: entry.content.data for entry in entries} == {  # type: ignore[union-attr]
        "kernel/x86/microcode/AuthenticAMD.bin": b"amd",
        "kernel/x86/microcode/GenuineIntel.bin": b"onetwo",
    }
    assert {entry.owner for entry in entries} == {"ucode=1"}


def test_asked_for_and_not_found_is_an_error() -> None:
    with pytest.raises(BuildError, match="microcode for intel is asked for"):
        microcode_entries(["intel"], Pool((), {}), CONTENTS.__getitem__, "amd64")


def test_only_for_amd64() -> None:
    with pytest.raises(BuildError, match="not for arm64"):
        microcode_entries(["intel"], pool(), CONTENTS.__getitem__, "arm64")
    assert microcode_entries([], pool(), CONTENTS.__getitem__, "arm64") == []
