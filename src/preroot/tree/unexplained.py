# SPDX-License-Identifier: LGPL-2.1-or-later
"""Strings in an image's ELF files that look like sonames, and that nothing explains. Pure.

A library that is loaded by name leaves such a string and nothing else. Each must be explained: by a dlopen note of the
file, by a fact, by being a plugin of a known family, or by a dismissal with its reason.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from msgspec import Struct

from preroot.packages.learn import learn
from preroot.packages.model import Elf
from preroot.recipe.features import DlopenFact, globs
from preroot.recipe.libraries import Dismissal, Family, Libraries
from preroot.tree.closure.plugins import Facts, any_glob, version_holds
from preroot.tree.model import BytesContent, Entry
from preroot.tree.pool import Pool


class Unexplained(Struct, frozen=True):
    """A string that may be the name of a library, and the file that has it."""

    soname: str
    path: str
    #: as of an entry: `package=version`, `recipe` …
    owner: str


class Scan(Struct, frozen=True):
    """What was found in an image."""

    unexplained: tuple[Unexplained, ...]
    #: dismissals that explain something
    used: tuple[Dismissal, ...]
    #: dismissals of files that are in the image and have none of the strings (any more)
    stale: tuple[Dismissal, ...]


def scan(entries: Mapping[str, Entry], pool: Pool, libraries: Libraries, facts: Iterable[DlopenFact]) -> Scan:
    """Look at the ELF files among the entries of an image, by canonical path; the recipe's own count too.

    `facts` are those of the features, besides those of `libraries`.
    """
    plugins = any_glob(posixpath.basename(each) for each in _plugin_globs(libraries.families.values()))
    known = Facts((*libraries.dlopen, *facts), pool)
    unexplained: list[Unexplained] = []
    used: dict[int, Dismissal] = {}
    looked_at: dict[int, Dismissal] = {}
    for path, entry in sorted(entries.items()):
        content = entry.content
        elf = learn(path, entry.mode, content.data) if isinstance(content, BytesContent) else pool.learnt(path)
        if not isinstance(elf, Elf):
            continue
        rest = [each for each in elf.mentioned if not plugins.fullmatch(each)]
        noted = {soname for note in elf.dlopen for soname in note.sonames}
        noted |= {soname for fact in known.of(path, elf) for soname in (*fact.sonames, *fact.also)}
        rest = [each for each in rest if each not in noted]
        for number, dismissal in enumerate(libraries.dismissals):
            if _is_about(dismissal, path, pool):
                looked_at[number] = dismissal
                left = [each for each in rest if not any(fnmatchcase(each, one) for one in dismissal.sonames)]
                if len(left) < len(rest):
                    used[number] = dismissal
                rest = left
        unexplained += [Unexplained(each, path, entry.owner) for each in rest]
    stale = tuple(each for number, each in looked_at.items() if number not in used)
    return Scan(tuple(unexplained), tuple(used.values()), stale)


def _is_about(entry: Dismissal, path: str, pool: Pool) -> bool:
    return any(fnmatchcase(path, each) for each in globs(entry.asker)) and version_holds(path, entry.version, pool)


def _plugin_globs(families: Iterable[Family]) -> Iterable[str]:
    """Yield the globs of file names that plugins of the families have, but for those that fit anything."""
    for family in families:
        for template in family.plugin:
            name = posixpath.basename(template).replace("{name}", "*")
            if name.startswith("lib"):
                yield name
