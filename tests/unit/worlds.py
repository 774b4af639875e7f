# SPDX-License-Identifier: LGPL-2.1-or-later
"""Small hand-made worlds of packages for the tests of the tree: what the store would have learnt of each file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Any

import msgspec

from preroot.facts.arch import ARCHES
from preroot.packages.learn import learn
from preroot.packages.learn.units import read_unit
from preroot.packages.model import DlopenNote, Elf, FileInfo, FileType, Learnt, Package, PackageIndex
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Content
from preroot.recipe.libraries import load_libraries
from preroot.recipe.schema import Recipe
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.tree.closure.model import Closure, Request, RequestKind, World
from preroot.tree.closure.walk import close
from preroot.tree.model import Reason
from preroot.tree.plan import PartInput
from preroot.tree.pool import Pool

AMD64 = ARCHES["amd64"]
LIB = "usr/lib/x86_64-linux-gnu"
UNITS = "usr/lib/systemd/system"
MERGED = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
LOADER = "/lib64/ld-linux-x86-64.so.2"
#: what preroot itself knows of libraries
LIBRARIES = load_libraries(SearchPath((BUILT_IN,)))
WORLD = World(arch=AMD64, library_directories=(LIB, "usr/lib"))


def file(path: str, data: bytes | str = b"", learnt: Learnt | None = None, *, mode: int = 0o644) -> FileInfo:
    """Return a regular file; what is learnt of it is read from its content unless given."""
    data = data.encode() if isinstance(data, str) else data
    known = learn(path, mode, data) if learnt is None else learnt
    size = len(data) or (1 if learnt else 0)
    return FileInfo(path, "file", mode, 0, 0, size, hashlib.sha256(data).hexdigest(), "", 0, known)


def link(path: str, target: str, kind: FileType = "symlink") -> FileInfo:
    """Return a symbolic (or hard) link."""
    return FileInfo(path, kind, 0o777, 0, 0, 0, "", target, 0, None)


def directory(path: str, mode: int = 0o755, kind: FileType = "directory") -> FileInfo:
    """Return a directory (or a node)."""
    return FileInfo(path, kind, mode, 0, 0, 0, "", "", 0, None)


def elf(
    *needed: str, interpreter: str = "", soname: str = "", rpath: Iterable[str] = (), runpath: Iterable[str] = (),
    dlopen: Iterable[DlopenNote] = (), bits: int = 64, machine: int = AMD64.machine, little_endian: bool = True,
) -> Elf:  # fmt: skip
    """Return what is learnt of an ELF file for amd64."""
    return Elf(
        bits, machine, little_endian, 0, interpreter, soname, needed, tuple(rpath), tuple(runpath), tuple(dlopen), ()
    )


def program(path: str, *needed: str, **more: Any) -> FileInfo:
    """Return a dynamically linked program."""
    return file(path, learnt=elf(*needed, interpreter=LOADER, **more), mode=0o755)


def library(name: str, *needed: str, **more: Any) -> FileInfo:
    """Return a library: in the multiarch directory unless `name` has a slash; its soname is its file name."""
    path = name if "/" in name else f"{LIB}/{name}"
    return file(path, learnt=elf(*needed, **{"soname": path.rpartition("/")[2], **more}))


def unit(name: str, text: str, *, below: str = UNITS) -> FileInfo:
    """Return a unit file, or a drop-in (`a.service.d/b.conf`)."""
    return file(f"{below}/{name}", text, read_unit(text.encode()))


def index(files: Iterable[FileInfo], name: str = "world") -> tuple[Package, PackageIndex]:
    """Return a package with these files."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    package = Package(name, "1.0", "amd64", digest, 1, f"pool/{name}.deb")
    return package, PackageIndex(1, digest, name, "1.0", "amd64", 0, tuple(files), (), {}, {})


#: the dynamic linker and the C library, as Debian has them
LIBC = (
    file("usr/lib64/ld-linux-x86-64.so.2", learnt=elf(soname="ld-linux-x86-64.so.2"), mode=0o755),
    library("libc.so.6", "ld-linux-x86-64.so.2", interpreter=LOADER),
)


def pool(*files: FileInfo) -> Pool:
    """Return a pool of one package with these files."""
    return Pool([index(files)], MERGED)


def path_request(path: str) -> Request:
    return Request("path", path, Reason("feature", "test", path))


def unit_request(name: str) -> Request:
    return Request("unit", name, Reason("feature", "test", name))


def ask(kind: RequestKind, value: str, *, hard: bool = True) -> Request:
    return Request(kind, value, Reason("feature", "test", value), hard)


def world(**changes: Any) -> World:
    """Return the rules of the tests with these changes."""
    return msgspec.structs.replace(WORLD, **changes)


def closed(files: Iterable[FileInfo], *requests: Request, **changes: Any) -> Closure:
    """Return the closure of requests over these files and the C library."""
    return close(requests, pool(*LIBC, *files), world(**changes))


def missing(closure: Closure) -> set[str]:
    """Return what nothing fulfils."""
    return {each.request.value for each in closure.missing}


def left_out(closure: Closure) -> dict[str, str]:
    """Return what was left out, with the reason."""
    return {each.what: each.reason for each in closure.left_out}


def part(content: Content | None = None, recipe: Recipe | None = None, **changes: Any) -> PartInput:
    """Return the input of a part with one feature named `test`."""
    given = PartInput(
        name="base", flavour="systemd", chosen=(Chosen("test", "", {}, content or Content()),),
        recipe=recipe or Recipe(), is_default=True, arch=AMD64, merged=MERGED,
        library_directories=WORLD.library_directories, kernel_version="6.12", runtime={}, sources={}, texts={},
        users={}, groups={}, libraries=LIBRARIES,
    )  # fmt: skip
    return msgspec.structs.replace(given, **changes)
