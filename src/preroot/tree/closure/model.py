# SPDX-License-Identifier: LGPL-2.1-or-later
"""What askers ask for, and what a closure answers: frozen data between the closure's files."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from preroot.facts.arch import Arch
from preroot.recipe.features import DlopenFact, Refers
from preroot.recipe.libraries import Family
from preroot.recipe.schema import Exception_
from preroot.tree.model import LeftOut, Reason

RequestKind = Literal["path", "library", "program", "unit", "user", "group"]


class Request(Struct, frozen=True):
    """One thing that something asks for.

    kind `path`: a path in the image; `library`: a soname; `program`: a name looked up in usr/bin and usr/sbin;
    `unit`: a systemd unit; `user`, `group`: a name in passwd or group. A request that is not `hard` is left out
    when nothing has it.
    """

    kind: RequestKind
    value: str
    reason: Reason
    hard: bool = True
    #: why it is left out even where some package has it: only suggested, or refused
    unwanted: str = ""
    #: a feature takes it by name, which no exception of another feature undoes
    insisted: bool = False
    #: library: directories that the asker's RUNPATH or RPATH has ld.so search first
    search: tuple[str, ...] = ()
    #: library: RPATHs that the library inherits from its loaders for what it loads itself
    inherited: tuple[str, ...] = ()
    #: library: ordered alternatives after `value`
    alternatives: tuple[str, ...] = ()


class World(Struct, frozen=True):
    """The rules that a closure resolves by."""

    arch: Arch
    #: directories that ld.so searches without a cache, canonical
    library_directories: tuple[str, ...]
    #: units that soft dependencies may bring in, by name or by a template's
    wanted: frozenset[str] = frozenset()
    #: dlopen features taken although their notes only suggest them, and with ! those refused
    dlopen_features: frozenset[str] = frozenset()
    #: facts about libraries, of libraries/ and of the features
    dlopen: tuple[DlopenFact, ...] = ()
    #: families of plugins, by name
    families: dict[str, Family] = {}
    refers: tuple[Refers, ...] = ()
    exceptions: tuple[Exception_, ...] = ()
    #: globs of the recipe, canonical (`*` crosses slashes)
    exclude: tuple[str, ...] = ()


class Missing(Struct, frozen=True):
    """A hard request that nothing fulfils."""

    request: Request
    #: what was looked for, and where
    detail: str = ""


class Closure(Struct, frozen=True):
    """What a set of entry points needs."""

    #: canonical path → why, in the order in which the reasons were met
    paths: dict[str, tuple[Reason, ...]]
    users: dict[str, tuple[Reason, ...]]
    groups: dict[str, tuple[Reason, ...]]
    #: units by name → canonical path
    units: dict[str, str]
    missing: tuple[Missing, ...]
    left_out: tuple[LeftOut, ...]
    #: exceptions that were needed
    used_exceptions: tuple[Exception_, ...]


#: of a part whose entries are all made elsewhere
EMPTY_CLOSURE = Closure({}, {}, {}, {}, (), (), ())
