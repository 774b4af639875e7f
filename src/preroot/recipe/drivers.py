# SPDX-License-Identifier: LGPL-2.1-or-later
"""What kernel drivers do about firmware beyond what their .modinfo says.

The file is drivers.toml in the search path, with drop-ins drivers.toml.d/*.toml.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from msgspec import Meta

from preroot.recipe.merge import merge
from preroot.recipe.schema import Base
from preroot.recipe.search import Consulted, SearchPath, drop_ins, find
from preroot.recipe.validate import convert, read_table
from preroot.unchanged import Stamp

_NAME = "drivers.toml"


class Driver(Base, frozen=True, kw_only=True):
    """One driver, by the name of its module (with `_`)."""

    firmware: Annotated[
        Literal["all", "any", "optional"], Meta(description="how many of its files it needs to work")
    ] = "all"
    more: Annotated[tuple[str, ...], Meta(description="files that its .modinfo does not name (globs)")] = ()
    counts_down: Annotated[
        bool, Meta(description="takes older versions than the one named; the last number of a name is the version")
    ] = False
    graphics: Annotated[bool, Meta(description="its firmware comes only when the driver is named")] = False
    evidence: Annotated[str, Meta(min_length=1, description="where that can be read")]


class DriverFile(Base, frozen=True):
    """drivers.toml, as written."""

    driver: dict[str, Driver] = {}


def driver_files(search: SearchPath) -> dict[Path, Stamp]:
    """Return every path that decides about `load_drivers`, those that do not exist included, with its stamp."""
    consulted = Consulted()
    _paths(search, consulted)
    return consulted.stamps


def load_drivers(search: SearchPath) -> dict[str, Driver]:
    """Return module → what is known of its driver. Raises RecipeError, naming file and line, for a wrong file."""
    data: dict[str, Any] = {}
    for path in _paths(search, Consulted()):
        data = merge(data, read_table(path, DriverFile))
    return convert(data, DriverFile, lambda _: _NAME).driver


def _paths(search: SearchPath, consulted: Consulted) -> tuple[Path, ...]:
    file = find(search, _NAME, consulted)
    folders = tuple(each / f"{_NAME}.d" for each in search.directories)
    return (*((file,) if file else ()), *drop_ins(folders, consulted))
