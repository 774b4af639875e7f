# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an ELF file asks for, and where the image's own ld.so would find it (ld.so(8), System V gABI chapter 5).

Which libraries a process has loaded already is the caller's business (walk.py). RPATH is inherited by what a library
loads in turn; RUNPATH is not, and switches the file's own RPATH and all inherited ones off for what the file itself
loads (_dl_map_object() in elf/dl-load.c of glibc 2.41). The hwcaps subdirectories are not searched: an image must not
depend on the processor it was built on. There is no ld.so.cache in an image, so only the directories built into ld.so
are searched besides.
"""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple

from preroot.packages.model import DlopenNote, Elf
from preroot.recipe.features import DlopenFact
from preroot.tree.closure.model import Request, World
from preroot.tree.model import Reason
from preroot.tree.pool import Pool

#: A token ends at a slash or the end of the element, unless it is in braces (is_dst() in elf/dl-load.c of glibc).
_TOKEN = re.compile(r"\$(?:\{(ORIGIN|LIB|PLATFORM)\}|(ORIGIN|LIB|PLATFORM)(?=/|$))")


class Searched(NamedTuple):
    """Where ld.so looks first for what one file loads."""

    #: directories of the file's RUNPATH, or of its RPATH and those of its loaders
    search: tuple[str, ...]
    #: RPATHs that what it loads inherits
    inherited: tuple[str, ...]


def searched_by(path: str, elf: Elf, inherited: tuple[str, ...], world: World) -> Searched:
    """Return where ld.so looks for what the ELF file at `path` loads.

    `path` is the one it was found under: $ORIGIN of a library is the directory of the link, not of its target.
    `inherited` are the RPATHs of its loaders.
    """
    origin = posixpath.dirname("/" + path)
    own = tuple(_expand(each, origin, world) for each in elf.runpath or elf.rpath)
    if elf.runpath:
        return Searched(own, inherited)
    return Searched((*own, *inherited), (*own, *inherited))


def elf_requests(path: str, elf: Elf, where: Searched, world: World) -> list[Request]:
    """Return what the ELF file at `path` asks for: its interpreter, its libraries, and what its dlopen notes demand.

    Only the notes of programs decide (those with an interpreter): a shared library marks the union of what its many
    users may want (libsystemd-shared of systemd 257 and 262).
    """
    requests = []
    if elf.interpreter:
        requests.append(Request("path", elf.interpreter, Reason("interpreter", path)))
    for soname in elf.needed:
        reason = Reason("needed", path, soname)
        name = _expand(soname, posixpath.dirname("/" + path), world)
        requests.append(Request("library", name, reason, search=where.search, inherited=where.inherited))
    if elf.interpreter:
        requests += [
            _note_request(path, note, f"{note.feature} ({note.priority})", where, world)
            for note in elf.dlopen
            if note.sonames
        ]
    return requests


def _note_request(path: str, note: DlopenNote, detail: str, where: Searched, world: World) -> Request:
    """Return the request of one note. What is required can't be refused; what one feature takes, another's refusal
    doesn't undo."""
    insisted = note.feature in world.dlopen_features
    refused = f"!{note.feature}" in world.dlopen_features and note.priority != "required" and not insisted
    taken = insisted or (note.priority != "suggested" and not refused)
    first, *others = note.sonames
    return Request(
        "library", first, Reason("dlopen", path, detail), taken,
        unwanted="" if taken else "a feature refuses it" if refused else "only suggested, and no feature asks for it",
        insisted=insisted, search=where.search, inherited=where.inherited, alternatives=tuple(others),
    )  # fmt: skip


def fact_requests(path: str, fact: DlopenFact, where: Searched, world: World) -> list[Request]:
    """Return the requests for the libraries of which it is known that the file at `path` loads them."""
    libraries = (fact.sonames, *((each,) for each in fact.also))
    if fact.feature:
        notes = [DlopenNote(fact.feature, "", fact.priority, sonames) for sonames in libraries]
        return [_note_request(path, note, fact.evidence, where, world) for note in notes]
    return [
        Request(
            "library", first, Reason("dlopen", path, fact.evidence), not fact.optional,
            search=where.search, inherited=where.inherited, alternatives=tuple(others),
        )
        for first, *others in libraries
    ]  # fmt: skip


def _expand(text: str, origin: str, world: World) -> str:
    """Replace $ORIGIN, $LIB and $PLATFORM as ld.so does (ld.so(8), "Dynamic string tokens")."""
    if "$" not in text:
        return text
    library = next(iter(world.library_directories), "lib").removeprefix("usr/")
    values = {"ORIGIN": origin, "LIB": library, "PLATFORM": world.arch.uname}
    return _TOKEN.sub(lambda found: values[found[1] or found[2]], text)


def find_library(soname: str, search: tuple[str, ...], pool: Pool, world: World) -> str | None:
    """Return the path under which ld.so finds `soname` (the link, not its target), or None.

    Files of another class, byte order or machine are passed over, as ld.so does.
    """
    if "/" in soname:
        return soname if _fits(soname, pool, world) else None
    candidates = (f"{directory}/{soname}" for directory in (*search, *world.library_directories))
    return next((each for each in candidates if _fits(each, pool, world)), None)


def _fits(path: str, pool: Pool, world: World) -> bool:
    resolved = pool.resolve(path)
    elf = pool.learnt(resolved.path) if resolved.path is not None else None
    wanted = (world.arch.bits, world.arch.machine, world.arch.little_endian)
    return isinstance(elf, Elf) and (elf.bits, elf.machine, elf.little_endian) == wanted
