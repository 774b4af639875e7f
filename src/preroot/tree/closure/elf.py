# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an ELF file asks for, and where the image's own ld.so would find it (ld.so(8), System V gABI chapter 5).

RPATH is inherited by what a library loads in turn, RUNPATH is not and switches the file's own RPATH off. The
hwcaps subdirectories are not searched: an image must not depend on the processor it was built on. There is no
ld.so.cache in an image, so only the directories built into ld.so are searched besides.
"""

from __future__ import annotations

import posixpath

from preroot.packages.model import Elf
from preroot.tree.closure.model import Request, World
from preroot.tree.model import Reason
from preroot.tree.pool import Pool


def elf_requests(path: str, elf: Elf, inherited: tuple[str, ...], world: World) -> list[Request]:
    """Return what the ELF file at `path` asks for: its interpreter, its libraries, and what its dlopen notes demand.

    `inherited` are the RPATHs of its loaders. Only the notes of programs decide (those with an interpreter): a
    shared library marks the union of what its many users may want (libsystemd-shared of systemd 257 and 262).
    """
    requests = []
    if elf.interpreter:
        requests.append(Request("path", elf.interpreter, Reason("interpreter", path)))
    own = tuple(_expand(each, path, world) for each in elf.runpath or elf.rpath)
    handed = inherited if elf.runpath else (*own, *inherited)
    search = own if elf.runpath else handed
    for soname in elf.needed:
        reason = Reason("needed", path, soname)
        requests.append(Request("library", soname, reason, search=search, inherited=handed))
    for note in elf.dlopen if elf.interpreter else ():
        taken = note.priority != "suggested" or note.feature in world.dlopen_features
        reason = Reason("dlopen", path, f"{note.feature} ({note.priority})")
        first, *others = note.sonames
        requests.append(
            Request(
                "library",
                first,
                reason,
                taken,
                suggested=not taken,
                search=search,
                inherited=handed,
                alternatives=tuple(others),
            )
        )
    return requests


def _expand(directory: str, path: str, world: World) -> str:
    """Replace $ORIGIN and $LIB as ld.so does (ld.so(8), "Dynamic string tokens")."""
    origin = "/" + posixpath.dirname(path)
    for token, value in (("ORIGIN", origin), ("LIB", f"lib/{world.arch.triplet}"), ("PLATFORM", world.arch.uname)):
        directory = directory.replace("${" + token + "}", value).replace("$" + token, value)
    return directory


def find_library(soname: str, search: tuple[str, ...], pool: Pool, world: World) -> str | None:
    """Return the canonical path under which ld.so finds `soname` (the link, not its target), or None.

    Files of another class or machine are passed over, as ld.so does.
    """
    if "/" in soname:
        return _fitting(soname, pool, world)
    for directory in (*search, *world.library_directories):
        found = _fitting(f"{directory}/{soname}", pool, world)
        if found is not None:
            return found
    return None


def _fitting(path: str, pool: Pool, world: World) -> str | None:
    resolved = pool.resolve(path)
    if resolved.path is None:
        return None
    elf = pool.learnt(resolved.path)
    if isinstance(elf, Elf) and (elf.bits, elf.machine) == (world.arch.bits, world.arch.machine):
        return pool.canonical(path)
    return None
