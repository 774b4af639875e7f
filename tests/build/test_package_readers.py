# SPDX-License-Identifier: LGPL-2.1-or-later
"""The readers of packages against the field's own tools, on real files."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest
from elftools.elf.dynamic import DynamicSection, DynamicSegment
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection
from elftools.elf.segments import InterpSegment
from kernel_package import modules_directory, unpacked_kernel

from preroot.packages.deb import Deb
from preroot.packages.learn.elf import elf_section, read_elf
from preroot.packages.learn.modinfo import decompress_module, glance_modinfo, is_module, read_modinfo, same_facts
from preroot.packages.model import Elf
from preroot.run import need_tool

#: Of the host's own ELF files: as many as pyelftools reads in some seconds, spread evenly.
_SAMPLE = 120


def _elf_files() -> Iterator[Path]:
    for directory in ("/usr/bin", "/usr/sbin", "/usr/lib"):
        for base, _, names in os.walk(directory):
            for name in sorted(names):
                path = Path(base) / name
                if path.is_symlink() or not path.is_file() or path.stat().st_size > 20 << 20:
                    continue
                with path.open("rb") as file:
                    if file.read(4) == b"\x7fELF":
                        yield path


def _by_pyelftools(data: bytes) -> tuple[Elf, str]:
    """Return what pyelftools reads, and the name that it gives to e_machine."""
    elf = ELFFile(io.BytesIO(data))
    values: dict[str, list[str]] = {"DT_NEEDED": [], "DT_SONAME": [], "DT_RPATH": [], "DT_RUNPATH": []}
    names = {"DT_NEEDED": "needed", "DT_SONAME": "soname", "DT_RPATH": "rpath", "DT_RUNPATH": "runpath"}
    for segment in elf.iter_segments("PT_DYNAMIC"):
        assert isinstance(segment, DynamicSegment)
        for tag in segment.iter_tags():
            if tag.entry.d_tag in names:
                values[tag.entry.d_tag].append(getattr(tag, names[tag.entry.d_tag]))
    interpreters = [cast(InterpSegment, segment).get_interp_name() for segment in elf.iter_segments("PT_INTERP")]
    paths = {tag: tuple(path for text in values[tag] for path in text.split(":") if path) for tag in values}
    machine = elf.header["e_machine"]
    theirs = Elf(
        elf.elfclass, 0, elf.little_endian, elf.header["e_flags"], "".join(interpreters),
        "".join(values["DT_SONAME"]), tuple(values["DT_NEEDED"]), paths["DT_RPATH"], paths["DT_RUNPATH"], (), (),
    )  # fmt: skip
    return theirs, machine


def test_elf_files_read_as_pyelftools_reads_them() -> None:
    from elftools.elf.enums import ENUM_E_MACHINE

    files = list(_elf_files())
    compared = 0
    for path in files[:: max(1, len(files) // _SAMPLE)]:
        data = path.read_bytes()
        ours, (theirs, machine) = read_elf(data), _by_pyelftools(data)
        assert ours is not None, path
        for field in ("bits", "little_endian", "flags", "interpreter", "soname", "needed", "rpath", "runpath"):
            assert getattr(ours, field) == getattr(theirs, field), (path, field)
        assert ours.machine == ENUM_E_MACHINE[machine], path
        compared += 1
    assert compared > 50


def test_sections_read_as_pyelftools_reads_them() -> None:
    data = Path(os.path.realpath("/proc/self/exe")).read_bytes()
    elf = ELFFile(io.BytesIO(data))
    seen = set()
    for section in elf.iter_sections():
        if section.name and section["sh_type"] != "SHT_NOBITS" and section.name not in seen:
            assert elf_section(data, section.name) == section.data(), section.name
        seen.add(section.name)
    assert isinstance(elf.get_section_by_name(".dynamic"), DynamicSection)
    assert any(isinstance(section, NoteSection) for section in elf.iter_sections())


def test_each_module_of_a_kernel_at_a_glance_and_in_full() -> None:
    """A glance must never say less or more than the section itself; `modinfo` of kmod says what that is."""
    modinfo = need_tool("modinfo", "to compare")
    files = sorted(path for path in modules_directory(unpacked_kernel()).rglob("*.ko*") if is_module(path.name))
    assert len(files) > 500
    for number, path in enumerate(files):
        data = path.read_bytes()
        whole = read_modinfo(decompress_module(path.name, data), path.name)
        glance = glance_modinfo(data, path.name)
        assert whole is not None
        assert glance is not None
        assert same_facts(glance, whole), path
        if number % 25:
            continue
        for field, values in (("alias", whole.aliases), ("firmware", whole.firmware), ("vermagic", (whole.vermagic,))):
            shown = subprocess.run([modinfo, "-0", "-F", field, str(path)], capture_output=True, check=True).stdout
            theirs = [each.decode().strip() for each in shown.split(b"\0") if each]
            assert sorted(set(theirs)) == sorted(each.strip() for each in values), (path, field)
        depends = subprocess.run([modinfo, "-F", "depends", str(path)], capture_output=True, check=True, text=True)
        assert [each.replace("-", "_") for each in depends.stdout.strip().split(",") if each] == list(whole.depends)


@pytest.mark.parametrize("compression", ["none", "gzip", "xz", "zstd"])
def test_a_package_reads_as_dpkg_deb_reads_it(tmp_path: Path, compression: str) -> None:
    dpkg = need_tool("dpkg-deb", "to compare")
    tree = tmp_path / "tree"
    long = "a" * 120 + "/" + "b" * 120 + "/" + "ö" * 60
    for path, content in (("usr/bin/tool", b"\x7fELF"), (f"usr/share/{long}", b"x" * 3_000_000), ("etc/conf", b"")):
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (tree / "usr/bin/tool").chmod(0o4755)
    (tree / "usr/bin/hard").hardlink_to(tree / "usr/bin/tool")
    (tree / "usr/bin/soft").symlink_to("/usr/share/" + long)
    (tree / "DEBIAN").mkdir()
    (tree / "DEBIAN/control").write_text(
        "Package: x\nVersion: 1\nArchitecture: all\nMaintainer: X <x@x>\nDescription: x\n"
    )
    subprocess.run([dpkg, "-b", "--root-owner-group", f"-Z{compression}", tree, tmp_path / "x.deb"], check=True,
                   stdout=subprocess.DEVNULL)  # fmt: skip
    listing = subprocess.run([dpkg, "--fsys-tarfile", tmp_path / "x.deb"], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(listing)) as tar:
        theirs = []
        for each in tar:
            file = tar.extractfile(each) if each.isreg() else None
            digest = hashlib.sha256(file.read()).hexdigest() if file else ""
            target = each.linkname.removeprefix("./") if each.islnk() else each.linkname
            theirs.append((each.name.removeprefix("./"), each.mode, each.uid, each.gid, target, digest))
    with (tmp_path / "x.deb").open("rb") as opened:
        package = Deb(opened, "x.deb")
        ours = []
        for member in package.members():
            digest = hashlib.sha256(b"".join(package.content())).hexdigest() if member.type == "file" else ""
            ours.append((member.path, member.mode, member.uid, member.gid, member.target, digest))
    assert ours == [each for each in theirs if each[0] != "."]
    assert len(ours) > 8
