# SPDX-License-Identifier: LGPL-2.1-or-later
"""Families of plugins, and facts about libraries that leave no trace: what holds of which file. Pure.

The data are libraries/*.toml and features' [[dlopen]]. A plugin comes in because a feature names it, because a
configuration in the image does, or because something in the image can't do without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase, translate

from preroot.packages.model import Elf, PluginConfiguration
from preroot.recipe.conditions import compare
from preroot.recipe.features import DlopenFact, globs
from preroot.recipe.libraries import Family, Use
from preroot.tree.closure.model import Request, World
from preroot.tree.model import Reason
from preroot.tree.pool import Pool

#: Where libpam looks for files that others include (PAM_CONFIG_D and PAM_CONFIG_DIST_D in libpam/pam_private.h).
_PAM_DIRECTORIES = ("etc/pam.d", "usr/lib/pam.d")


def any_glob(patterns: Iterable[str]) -> re.Pattern[str]:
    """Return one expression for several globs: most paths match none of them, and there are many paths."""
    return re.compile("|".join(map(translate, patterns)) or r"(?!)")


def version_holds(path: str, condition: str, pool: Pool) -> bool:
    """Return whether the package that has `path` is of a version that a fact is about; a file of no package never."""
    if not condition:
        return True
    found = pool.get(path)
    return found is not None and compare(found.package.version, condition)


class Facts:
    """Dlopen facts, found by the file that they are about; made once for a closure."""

    def __init__(self, facts: Iterable[DlopenFact], pool: Pool) -> None:
        self._pool = pool
        self._facts = [(globs(fact.asker), fact) for fact in facts]
        self._by_path = any_glob(each for patterns, fact in self._facts if not fact.imports for each in patterns)
        self._known: dict[str, tuple[DlopenFact, ...]] = {}

    def of(self, path: str, elf: Elf) -> tuple[DlopenFact, ...]:
        """Return the facts that hold of the ELF file at a canonical path."""
        if path not in self._known:
            asked = bool(elf.imports) or self._by_path.match(path)
            self._known[path] = tuple(self._holding(path, elf)) if asked else ()
        return self._known[path]

    def _holding(self, path: str, elf: Elf) -> Iterable[DlopenFact]:
        for patterns, fact in self._facts:
            if (
                (not fact.imports or not set(fact.imports).isdisjoint(elf.imports))
                and any(fnmatchcase(path, each) for each in patterns)
                and not any(fnmatchcase(path, each.lstrip("/")) for each in fact.unless)
                and version_holds(path, fact.version, self._pool)
            ):
                yield fact


class Uses:
    """Who can't do without which plugins; asked again as the image grows."""

    def __init__(self, families: Mapping[str, Family], pool: Pool) -> None:
        self._pool = pool
        self._waiting = [(name, use) for name, family in families.items() for use in family.use]
        self._patterns = any_glob(each for _, use in self._waiting for each in (*globs(use.asker), *globs(use.with_)))
        self._seen = 0
        self._there: list[str] = []

    def fulfilled(self, paths: Sequence[str]) -> list[tuple[str, Use, str]]:
        """Return (family, use, asker) of what is so now and was not before; `paths` of the image only ever grow."""
        new = [path for path in paths[self._seen :] if self._patterns.match(path)]
        self._seen = len(paths)
        if not new:
            return []
        self._there += new
        found, waiting = [], []
        for name, use in self._waiting:
            asker = self._first(globs(use.asker), use.version)
            if asker and (not use.with_ or self._first(globs(use.with_))):
                found.append((name, use, asker))
            else:
                waiting.append((name, use))
        self._waiting = waiting
        return found

    def _first(self, patterns: tuple[str, ...], version: str = "") -> str:
        # A link is not who uses a family: usr/bin/login may lead to busybox. What it leads to is there too.
        files = (path for path in self._there if isinstance(self._pool.learnt(path), Elf))
        matching = (path for path in files if any(fnmatchcase(path, each) for each in patterns))
        return next((path for path in matching if version_holds(path, version, self._pool)), "")


def plugin_paths(family: Family, name: str, pool: Pool, world: World) -> list[str]:
    """Return where the plugins `name` (a name or a glob) of a family are.

    Of a name, the first place that has it; where none has, the first where it might be, so that what is missing can
    be named. A name that is built in needs no file.
    """
    if name in family.builtin:
        return []
    candidates = _expanded(family.plugin, world)
    if any(char in name for char in "*?["):
        found = [path for each in candidates for path in pool.glob(each.replace("{name}", name))]
        return list(dict.fromkeys(found)) or [candidates[0].replace("{name}", name)]
    spelled = [each.replace("{name}", name) for each in candidates]
    globbed = (pool.glob(each) if "*" in each else [each] for each in spelled)
    return [next((path for paths in globbed for path in paths if pool.exists(path)), spelled[0])]


def family_files(family: Family, pool: Pool, world: World) -> list[str]:
    """Return the files that any plugin of a family is found through."""
    return [path for each in _expanded(family.files, world) for path in pool.glob(each)]


def _expanded(templates: Iterable[str], world: World) -> list[str]:
    """Return the paths of templates with each library directory in turn."""
    return [
        each.replace("{libdir}", directory)
        for each in templates
        for directory in (world.library_directories if "{libdir}" in each else ("",))
    ]


def catalogued(family: Family, pool: Pool, world: World) -> set[str]:
    """Return the names `FAMILY:NAME` that the files of a family list."""
    learnt = (pool.learnt(pool.resolve(path).path or path) for path in family_files(family, pool, world))
    return {name for each in learnt if isinstance(each, PluginConfiguration) for name in each.names}


def use_requests(family: Family, use: Use, asker: str, pool: Pool, world: World) -> list[Request]:
    """Return what a use of a family asks for: its plugins, the files that these are found through, and its own."""
    reason = Reason("dlopen", asker, use.evidence)
    paths = [path for name in use.plugins for path in plugin_paths(family, name, pool, world)]
    files = family_files(family, pool, world) if paths else []
    return [Request("path", path, reason) for path in (*paths, *files, *use.paths)]


def configuration_requests(path: str, configuration: PluginConfiguration, pool: Pool, world: World) -> list[Request]:
    """Return the plugins that the configuration at `path` names, and the files that it includes.

    What a catalogue lists is not asked for. A plugin of a family that no file of libraries/ knows is asked for by its
    name, and so missing.
    """
    families = world.families
    requests = []
    for names, hard in ((configuration.names, True), (configuration.optional, False)):
        for plugin in names:
            kind, _, name = plugin.partition(":")
            family = families.get(kind)
            if family is not None and family.catalogue:
                continue
            paths = [plugin] if family is None else plugin_paths(family, name, pool, world)
            requests += [Request("path", each, Reason("configuration", path, plugin), hard) for each in paths]
    requests += [Request("path", each.lstrip("/"), Reason("configuration", path, each)) for each in configuration.paths]
    requests += [
        Request("path", _included(path, each, pool), Reason("include", path, each)) for each in configuration.includes
    ]
    return requests


def _included(path: str, name: str, pool: Pool) -> str:
    """Return the file that the configuration at `path` includes by `name`."""
    if name.startswith("/"):
        return name.lstrip("/")
    here = path.rpartition("/")[0]
    directories = _PAM_DIRECTORIES if here in _PAM_DIRECTORIES else (here,)
    return next((f"{each}/{name}" for each in directories if pool.exists(f"{each}/{name}")), f"{directories[0]}/{name}")
