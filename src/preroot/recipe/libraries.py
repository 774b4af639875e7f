# SPDX-License-Identifier: LGPL-2.1-or-later
"""What is loaded without NEEDED: dlopen facts, families of plugins, and what only looks like a library's name.

The files are libraries/*.toml in the search path, with drop-ins NAME.toml.d/*.toml; one file has one subject (a
program, a library, a family). They hold for every image, whatever its features: each entry says what files it is about.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct, field

from preroot.errors import RecipeError
from preroot.recipe.conditions import check_version
from preroot.recipe.features import DlopenFact, Globs, globs
from preroot.recipe.merge import merge
from preroot.recipe.schema import Base
from preroot.recipe.search import SEARCH_PATH, Consulted, SearchPath, drop_ins, find, toml_names
from preroot.recipe.validate import convert, read_table
from preroot.unchanged import Stamp


class Use(Base, frozen=True):
    """Which plugins of a family something in the image can't do without."""

    asker: Annotated[Globs, Meta(description="globs of the ELF files that use the family")]
    evidence: str
    plugins: Annotated[tuple[str, ...], Meta(description="names, or globs of names (`*`: all that there are)")] = ()
    with_: Annotated[
        Globs, Meta(description="globs of ELF files; it is so only where one of them is in the image too")
    ] = field(default=(), name="with")
    paths: Annotated[tuple[str, ...], Meta(description="further files that it needs, a configuration above all")] = ()
    version: Annotated[str, Meta(description="versions of the asker's package: `>=256,<262`")] = ""


class Family(Base, frozen=True):
    """One family of plugins: how features name them, where they are, who can't do without which."""

    summary: str
    plugin: Annotated[
        tuple[str, ...],
        Meta(min_length=1, description="paths; {name} is the plugin's name, {libdir} each directory of ld.so in turn"),
    ]
    evidence: str
    builtin: Annotated[tuple[str, ...], Meta(description="names that need no file")] = ()
    files: Annotated[
        tuple[str, ...], Meta(description="files (globs, {libdir}) that each plugin is found through")
    ] = ()
    catalogue: Annotated[
        bool, Meta(description="the configuration lists what there is and not what is used: a name must be in it")
    ] = False
    use: tuple[Use, ...] = ()


class Dismissal(Base, frozen=True):
    """Strings of a file that look like sonames, and why nothing has to be there for them."""

    asker: Annotated[Globs, Meta(description="globs of the files that have the strings")]
    sonames: Annotated[tuple[str, ...], Meta(min_length=1, description="globs of the strings")]
    reason: Annotated[str, Meta(min_length=1)]
    version: Annotated[str, Meta(description="versions of the asker's package: `>=256,<262`")] = ""


class LibrariesFile(Base, frozen=True):
    """A file of libraries/, as written."""

    dlopen: tuple[DlopenFact, ...] = ()
    family: Annotated[dict[str, Family], Meta(description="by the name that features use: nss, pam …")] = {}
    dismiss: tuple[Dismissal, ...] = ()


class Libraries(Struct, frozen=True):
    """All files of libraries/ together."""

    dlopen: tuple[DlopenFact, ...] = ()
    families: dict[str, Family] = {}
    dismissals: tuple[Dismissal, ...] = ()
    #: every file that was looked at, with its stamp
    files: dict[Path, Stamp] = {}


NO_LIBRARIES = Libraries()


def load_libraries(search: SearchPath = SEARCH_PATH) -> Libraries:
    """Return what the files of libraries/ say together, in the order of their names.

    Raises RecipeError for one that is wrong, and for a family that two of them define.
    """
    consulted = Consulted()
    names = {name for each in search.directories for name in toml_names(each / "libraries", consulted)}
    facts: list[DlopenFact] = []
    families: dict[str, Family] = {}
    dismissals: list[Dismissal] = []
    for name in sorted(names):
        file = find(search, f"libraries/{name}", consulted)
        if file is None:
            continue
        folders = tuple(each / "libraries" / f"{name}.d" for each in search.directories)
        read = _read([file, *drop_ins(folders, consulted)])
        twice = next((each for each in read.family if each in families), None)
        if twice is not None:
            raise RecipeError(f"{file}: the plugin family {twice!r} is defined by another file of libraries/ too")
        facts += read.dlopen
        families |= read.family
        dismissals += read.dismiss
    return Libraries(tuple(facts), families, tuple(dismissals), consulted.stamps)


def _read(paths: Iterable[Path]) -> LibrariesFile:
    data: dict[str, Any] = {}
    for path in paths:
        layer = read_table(path, LibrariesFile)
        check_libraries(convert(layer, LibrariesFile, str), str(path))
        data = merge(data, layer)
    return convert(data, LibrariesFile, str)


def check_libraries(file: LibrariesFile, where: str) -> None:
    """Raise RecipeError for what a file has wrong beyond types: comparisons of versions, templates without a name."""
    uses = [use for family in file.family.values() for use in family.use]
    entries: list[DlopenFact | Dismissal | Use] = [*file.dlopen, *file.dismiss, *uses]
    for entry in entries:
        check_version(entry.version, f"{where}: what is said of {', '.join(globs(entry.asker))}")
    for name, family in file.family.items():
        for template in family.plugin:
            if "{name}" not in template:
                raise RecipeError(f"{where}: the path {template!r} of plugin family {name!r} has no {{name}}")
