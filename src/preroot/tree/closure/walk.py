# SPDX-License-Identifier: LGPL-2.1-or-later
"""The closure: from entry points to everything they need, with the reason for each path. Pure; no file is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from fnmatch import fnmatchcase

from preroot.packages.model import Elf, Keymap, Learnt, PluginConfiguration, Script, Tmpfiles, UdevRules, Unit
from preroot.recipe.schema import Exception_
from preroot.tree.closure.elf import elf_requests, fact_requests, find_library, searched_by
from preroot.tree.closure.keymap import keymap_requests
from preroot.tree.closure.model import Closure, Missing, Request, World
from preroot.tree.closure.plugins import Facts, Uses, configuration_requests, use_requests
from preroot.tree.closure.udev import script_requests, udev_requests
from preroot.tree.closure.units import (
    UNIT_DIRECTORIES,
    dependency_links,
    drop_ins,
    find_unit,
    is_implicit,
    is_masked,
    settings_in_force,
    unit_requests,
)
from preroot.tree.model import LeftOut, Reason
from preroot.tree.pool import Pool, Resolved

#: systemd's own search path for programs named without a slash (DEFAULT_PATH in src/basic/path-util.h).
_PROGRAM_DIRECTORIES = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin")
_DEPENDENCIES = {".requires": True, ".wants": False, ".upholds": False}


def close(requests: Iterable[Request], pool: Pool, world: World) -> Closure:
    """Return everything that `requests` need, resolved in `pool` by the rules of `world`.

    Nothing is raised for what is missing: it is in the result, for the check that words the error.
    """
    walk = _Walk(pool, world)
    walk.todo.extend(requests)
    walk.run()
    return walk.result()


class _Walk:
    """The state of one closure."""

    def __init__(self, pool: Pool, world: World) -> None:
        self.pool = pool
        self.world = world
        self.todo: deque[Request] = deque()
        self.paths: dict[str, list[Reason]] = {}
        self.names: dict[str, dict[str, list[Reason]]] = {"user": {}, "group": {}}
        self.units: dict[str, str] = {}
        self.missing: dict[tuple[str, str], Missing] = {}
        self.left_out: dict[tuple[str, str], LeftOut] = {}
        self.used: dict[int, Exception_] = {}
        self.exceptions = [(_canonical_glob(each.path, pool), each) for each in world.exceptions]
        #: programs and plugins whose libraries have been looked for
        self.loaded: set[str] = set()
        #: paths whose content has been asked, and those that features have been asked about
        self.asked: set[str] = set()
        self.referred: set[str] = set()
        #: soft dependencies on units that no feature asks for, with their links: they hold when the unit comes anyway
        self.waiting: list[tuple[Request, str]] = []
        #: drop-ins that were taken for themselves; those of units that no package has (sysroot.mount) stay here
        self.loose: list[str] = []
        self.merged: set[str] = set()
        self.facts = Facts(world.dlopen, pool)
        self.uses = Uses(world.families, pool)

    def run(self) -> None:
        """Answer all requests, and those that the answers bring."""
        while self.todo or self._answer_late():
            while self.todo:
                self.answer(self.todo.popleft())

    def _answer_late(self) -> bool:
        """Do what depends on all else being answered; return whether there was any."""
        ready = [each for each in self.waiting if not self.units.keys().isdisjoint(self._names_of(each[0].value))]
        self.waiting = [each for each in self.waiting if each not in ready]
        for request, link in ready:
            self._take_wanted(request, link)
        loose, self.loose = [path for path in self.loose if path not in self.merged], []
        by_directory: dict[str, list[str]] = {}
        for path in sorted(set(loose)):
            by_directory.setdefault(path.rpartition("/")[0], []).append(path)
        for directory, paths in by_directory.items():
            name = directory.rpartition("/")[2].removesuffix(".d")
            self.todo.extend(unit_requests(name, settings_in_force(self._fragments(paths))))
        used = self.uses.fulfilled(list(self.paths))
        for family, use, asker in used:
            self.todo.extend(use_requests(self.world.families[family], use, asker, self.pool, self.world))
        return bool(ready or loose or used)

    def answer(self, request: Request) -> None:
        """Resolve one request, and ask for what the answer needs in turn."""
        if self._excepted(request):
            return
        if request.kind in self.names:
            self.names[request.kind].setdefault(request.value, []).append(request.reason)
        elif request.kind == "unit":
            self._answer_unit(request)
        else:
            for path in self._find(request):
                if self._is_excluded(self.pool.resolve(path)):
                    self._excluded(request, path)
                else:
                    self._take(path, request.reason)

    def _excepted(self, request: Request) -> bool:
        """Return whether an exception is declared for a request, and note that it was needed."""
        reasons = []
        values = [self.pool.canonical(each) if "/" in each else each for each in (request.value, *request.alternatives)]
        for number, (path, exception) in enumerate(self.exceptions):
            if fnmatchcase(request.reason.asker, exception.asker.lstrip("/")) and any(
                fnmatchcase(value, path) for value in values
            ):
                self.used[number] = exception
                reasons.append(exception.reason)
        if reasons and not request.insisted:
            self._leave_out(request, f"an exception is declared for it: {reasons[0]}")
        return bool(reasons) and not request.insisted

    def _find(self, request: Request) -> list[str]:
        """Return the path (the link, where it is one) that fulfils a request, or all that a glob matches.

        Where there is none, that is noted. A path that exists only in a running system is taken as being there.
        """
        if request.kind == "library":
            sonames = (request.value, *request.alternatives)
            found = (find_library(soname, request.search, self.pool, self.world) for soname in sonames)
            paths = [each for each in found if each is not None][:1]
        elif request.kind == "program":
            candidates = [f"{directory}/{request.value}" for directory in _PROGRAM_DIRECTORIES]
            paths = [each for each in candidates if self.pool.exists(each)][:1]
        elif request.reason.kind == "environment" and any(char in request.value for char in "*?["):
            paths = self.pool.glob(request.value)
        else:
            resolved = self.pool.resolve(request.value)
            paths = [request.value] if resolved.followed else []
            if not paths and resolved.links:
                self._not_found(request, _broken(resolved))
                return []
        if not paths:
            self._not_found(request)
        return paths

    def _not_found(self, request: Request, detail: str = "") -> None:
        if request.hard:
            self.missing.setdefault((request.value, request.reason.asker), Missing(request, detail))
        else:
            self._leave_out(request, "no package of the lock has it")

    def _is_excluded(self, resolved: Resolved) -> bool:
        return is_excluded(resolved.chain, self.world.exclude)

    def _excluded(self, request: Request, path: str) -> None:
        if request.hard and request.reason.kind not in {"feature", "recipe"}:
            self._not_found(request, f"the recipe excludes {self.pool.canonical(path)}")
        else:
            self._leave_out(request, "the recipe excludes it")

    def _leave_out(self, request: Request, why: str) -> None:
        key = (request.value, request.reason.asker)
        self.left_out.setdefault(key, LeftOut(request.value, request.reason.asker, why))

    def _take(self, path: str, reason: Reason, *, loaded: bool = False) -> str:
        """Take a path with all links on the way to it, ask for what the file at its end needs, and return that file.

        `loaded`: it is a library that a program loads, whose own libraries the caller looks for.
        """
        resolved = self.pool.resolve(path)
        before = None
        for here in resolved.chain:
            self._note(here, reason if before is None else Reason("symlink", before, here))
            self._refer(here)
            before = here
        for directory in resolved.through:
            if self.pool.get(directory) is not None:
                self._note(directory, Reason("parent", resolved.end))
        final = resolved.path
        if final is None:  # it exists only at boot; the links to it are in the image
            return resolved.end
        learnt = self.pool.learnt(final)
        if isinstance(learnt, Elf) and not loaded and final not in self.loaded:
            self.loaded.add(final)
            self._load(final, learnt)
        if final not in self.asked:
            self.asked.add(final)
            self._ask(final, learnt)
        return final

    def _note(self, path: str, reason: Reason) -> None:
        reasons = self.paths.setdefault(path, [])
        if reason not in reasons:
            reasons.append(reason)

    def _load(self, program: str, elf: Elf) -> None:
        """Find the libraries of a program as ld.so does: breadth first, and a soname that is there already serves all.

        That matters: libsystemd-core has no RUNPATH of its own and finds libsystemd-shared only because systemd
        (257) has loaded it before. What is loaded by dlopen comes after, into the same process.
        """
        have: dict[str, str] = {}
        if elf.interpreter:
            self._have(elf.interpreter, elf.interpreter.rpartition("/")[2], have)
        queue: deque[tuple[str, tuple[str, ...]]] = deque([(program, ())])
        late: deque[Request] = deque()
        while queue or late:
            if not queue:
                self._load_library(late.popleft(), have, queue)
                continue
            found, inherited = queue.popleft()
            path = self.pool.resolve(found).path or found
            learnt = self.pool.learnt(path)
            if not isinstance(learnt, Elf):
                continue
            where = searched_by(found, learnt, inherited, self.world)
            for request in elf_requests(path, learnt, where, self.world):
                if request.kind == "path":
                    self.todo.append(request)
                elif request.reason.kind == "dlopen":
                    late.append(request)
                else:
                    self._load_library(request, have, queue)
            for fact in self.facts.of(path, learnt):
                late.extend(fact_requests(path, fact, where, self.world))

    def _load_library(self, request: Request, have: dict[str, str], queue: deque[tuple[str, tuple[str, ...]]]) -> None:
        """Answer a program's or library's request for a library; `have` is what the process has loaded by soname."""
        if self._excepted(request):
            return
        there = next((have[name] for name in (request.value, *request.alternatives) if name in have), None)
        if request.unwanted and there is None:
            self._leave_out(request, request.unwanted)
            return
        for path in [there] if there else self._find(request):
            if self._is_excluded(self.pool.resolve(path)):
                self._excluded(request, path)
                continue
            final = self._take(path, request.reason, loaded=True)
            again = any(self.pool.resolve(each).path == final for each in have.values())
            self._have(path, request.value, have)
            if not again:
                queue.append((path, request.inherited))

    def _have(self, path: str, name: str, have: dict[str, str]) -> None:
        """Note under which names a process has loaded the library at `path` (_dl_map_object() in glibc's dl-load.c)."""
        elf = self.pool.learnt(self.pool.resolve(path).path or path)
        have[name] = path
        if isinstance(elf, Elf) and elf.soname:
            have[elf.soname] = path

    def _ask(self, path: str, learnt: Learnt | None) -> None:
        if isinstance(learnt, Script):
            self.todo.extend(script_requests(path, learnt.interpreter, learnt.argument))
        elif isinstance(learnt, Unit):
            directory, _, name = path.rpartition("/")
            if directory in UNIT_DIRECTORIES:
                self._take_unit(name, path)
            else:
                self.loose.append(path)
        elif isinstance(learnt, UdevRules):
            self.todo.extend(udev_requests(path, learnt))
        elif isinstance(learnt, Tmpfiles):
            self.todo.extend(Request("user", name, Reason("generator", path, name)) for name in learnt.users)
            self.todo.extend(Request("group", name, Reason("generator", path, name)) for name in learnt.groups)
        elif isinstance(learnt, Keymap):
            self.todo.extend(keymap_requests(path, learnt, self.pool))
        elif isinstance(learnt, PluginConfiguration):
            self.todo.extend(configuration_requests(path, learnt, self.pool, self.world))

    def _refer(self, path: str) -> None:
        """Ask for what features know that the file (or link) at `path` refers to."""
        if path in self.referred:
            return
        self.referred.add(path)
        for refers in self.world.refers:
            if fnmatchcase(path, refers.asker.lstrip("/")):
                reason = Reason("generator", path, refers.evidence)
                self.todo.extend(Request("unit", unit, reason) for unit in refers.units)
                self.todo.extend(
                    Request("path" if "/" in each else "program", each, reason) for each in refers.paths
                )  # fmt: skip

    def _names_of(self, name: str) -> list[str]:
        """Return all names of a unit: its own, its template's, and what they are aliases of."""
        names = [name]
        path = find_unit(name, self.pool)
        if path is not None:
            names.append(path.rpartition("/")[2])
            final = self.pool.resolve(path).path
            if final is not None and final.startswith(UNIT_DIRECTORIES):
                names.append(final.rpartition("/")[2])
        return list(dict.fromkeys(names))

    def _answer_unit(self, request: Request, link: str = "") -> None:
        """Take a unit: always for a hard request, for a soft one when some feature wants it, else perhaps later.

        `link` is what asks for it in .wants/ or .requires/.
        """
        path = find_unit(request.value, self.pool)
        if path is None:
            if request.hard and not is_implicit(request.value):
                self._not_found(request)
            return
        resolved = self.pool.resolve(path)
        if is_masked(path, self.pool):
            if request.hard:
                self._not_found(request, f"/{path} masks it")
            else:
                self._leave_out(request, f"/{path} masks it")
        elif resolved.path is None:
            self._not_found(request, _broken(resolved))
        elif self._is_excluded(resolved):
            self._excluded(request, path)
        elif not request.hard and self.world.wanted.isdisjoint(self._names_of(request.value)):
            self.waiting.append((request, link))
        else:
            self._take_wanted(request, link)

    def _take_wanted(self, request: Request, link: str) -> None:
        path = find_unit(request.value, self.pool)
        if path is None:  # callers have looked
            raise AssertionError(request.value)
        self._take(path, request.reason)
        self._take_unit(request.value, path)
        if link:
            self._take_link(link, request)

    def _take_link(self, link: str, request: Request) -> None:
        """Take the link of a dependency. systemd goes by its name; where its target is nowhere it can't be written."""
        resolved = self.pool.resolve(link)
        if not resolved.followed:
            self._not_found(request, f"/{link} is a link, and {_broken(resolved)}")
        elif self._is_excluded(resolved):
            self._excluded(request, link)
        else:
            self._take(link, Reason("unit", request.reason.asker, link.rpartition("/")[2]))

    def _take_unit(self, name: str, path: str) -> None:
        """Take what belongs to a unit: what its settings ask for, drop-ins, and dependencies in .requires/, .wants/."""
        if name in self.units:
            return
        names = self._names_of(name)
        self.units[name] = path
        extending = []
        for drop_in in drop_ins(names, self.pool):
            resolved = self.pool.resolve(drop_in)
            if resolved.followed and not self._is_excluded(resolved):
                self.merged.add(resolved.end)
                self._take(drop_in, Reason("unit", path, "drop-in"))
                extending.append(drop_in)
        final = self.pool.resolve(path).path or path
        settings = settings_in_force(self._fragments([final, *extending]))
        self.todo.extend(unit_requests(name, settings))
        for suffix, hard in _DEPENDENCIES.items():
            for link in dependency_links(names, suffix, self.pool):
                request = Request("unit", link.rpartition("/")[2], Reason("unit", path, link), hard)
                if self._excepted(request):
                    continue
                if is_masked(link, self.pool):
                    self._take(link, Reason("unit", path, "masked dependency"))
                else:
                    self._answer_unit(request, link)

    def _fragments(self, paths: Iterable[str]) -> list[tuple[str, Unit]]:
        """Return the unit files and drop-ins among `paths` with their content."""
        found = []
        for path in paths:
            final = self.pool.resolve(path).path
            learnt = self.pool.learnt(final) if final is not None else None
            if final is not None and isinstance(learnt, Unit):
                found.append((final, learnt))
        return found

    def result(self) -> Closure:
        """Freeze what was found."""
        for request, _ in self.waiting:
            self._leave_out(request, "a soft dependency that no feature asks for")
        return Closure(
            paths={path: tuple(reasons) for path, reasons in self.paths.items()},
            users={name: tuple(reasons) for name, reasons in self.names["user"].items()},
            groups={name: tuple(reasons) for name, reasons in self.names["group"].items()},
            units=dict(self.units),
            missing=tuple(self.missing.values()),
            left_out=tuple(self.left_out.values()),
            used_exceptions=tuple(self.used.values()),
        )


def is_excluded(paths: Iterable[str], exclude: Iterable[str]) -> bool:
    """Return whether a recipe's `exclude` leaves one of `paths`, or a directory above it, out."""
    patterns = tuple(exclude)
    return any(
        fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*") for pattern in patterns for path in paths
    )


def _canonical_glob(pattern: str, pool: Pool) -> str:
    return pool.canonical(pattern) if "/" in pattern else pattern


def _broken(resolved: Resolved) -> str:
    if not resolved.end:
        return "its symbolic links form a loop"
    return f"it leads to /{resolved.end}, which no package of the lock has"
