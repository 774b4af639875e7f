# SPDX-License-Identifier: LGPL-2.1-or-later
"""The closure: from entry points to everything they need, with the reason for each path. Pure; no file is read."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from fnmatch import fnmatchcase

from preroot.packages.model import Elf, Learnt, Script, UdevRules, Unit
from preroot.recipe.schema import Exception_
from preroot.tree.closure.elf import elf_requests, find_library
from preroot.tree.closure.model import Closure, Missing, Request, World
from preroot.tree.closure.udev import script_requests, udev_requests
from preroot.tree.closure.units import UNIT_DIRECTORIES, drop_in_directories, find_unit, is_implicit, unit_requests
from preroot.tree.model import LeftOut, Reason
from preroot.tree.pool import Pool

_PROGRAM_DIRECTORIES = ("usr/sbin", "usr/bin", "usr/local/sbin", "usr/local/bin")


def close(requests: Iterable[Request], pool: Pool, world: World) -> Closure:
    """Return everything that `requests` need, resolved in `pool` by the rules of `world`.

    Nothing is raised for what is missing: it is in the result, for the check that words the error.
    """
    walk = _Walk(pool, world)
    walk.todo.extend(requests)
    while walk.todo:
        walk.answer(walk.todo.popleft())
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
        #: programs and plugins whose libraries have been looked for
        self.loaded: set[str] = set()
        self.asked: set[str] = set()

    def answer(self, request: Request) -> None:
        """Resolve one request, and ask for what the answer needs in turn."""
        if request.kind in self.names:
            self.names[request.kind].setdefault(request.value, []).append(request.reason)
        elif self._excepted(request):
            self._leave_out(request, "an exception is declared for it")
        elif request.kind == "unit":
            self._answer_unit(request)
        else:
            path = self._find(request)
            if path is None:
                self._not_found(request)
            elif any(fnmatchcase(path, pattern) for pattern in self.world.exclude):
                self._excluded(request, path)
            else:
                self._take(path, request.reason)

    def _excepted(self, request: Request) -> bool:
        found = False
        for number, exception in enumerate(self.world.exceptions):
            if fnmatchcase(request.reason.asker, exception.asker) and fnmatchcase(
                request.value.lstrip("/"), exception.path
            ):
                self.used[number] = exception
                found = True
        return found

    def _find(self, request: Request) -> str | None:
        """Return the canonical path (the link, where it is one) that fulfils a request."""
        if request.kind == "library":
            for soname in (request.value, *request.alternatives):
                found = find_library(soname, request.search, self.pool, self.world)
                if found is not None:
                    return found
            return None
        if request.kind == "program":
            candidates = [f"{directory}/{request.value}" for directory in _PROGRAM_DIRECTORIES]
        else:
            candidates = [request.value]
        for candidate in candidates:
            if self.pool.exists(candidate):
                return self.pool.canonical(candidate)
        return None

    def _not_found(self, request: Request, detail: str = "") -> None:
        if request.hard:
            self.missing.setdefault((request.value, request.reason.asker), Missing(request, detail))
        else:
            self._leave_out(request, "no package of the lock has it")

    def _excluded(self, request: Request, path: str) -> None:
        if request.hard and request.reason.kind not in {"feature", "recipe"}:
            self._not_found(request, f"the recipe excludes {path}")
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
        if resolved.path is None:  # callers have looked
            raise AssertionError(path)
        chain = [*resolved.links, resolved.path]
        for before, here in zip([None, *chain], chain, strict=False):
            because = reason if before is None else Reason("symlink", before, here)
            reasons = self.paths.setdefault(here, [])
            if because not in reasons:
                reasons.append(because)
        final = resolved.path
        learnt = self.pool.learnt(final)
        if isinstance(learnt, Elf) and not loaded and final not in self.loaded:
            self.loaded.add(final)
            self._load(final)
        if final not in self.asked:
            self.asked.add(final)
            self._ask(final, learnt)
        return final

    def _load(self, program: str) -> None:
        """Find the libraries of a program as ld.so does: breadth first, and a soname that is there already serves all.

        That matters: libsystemd-core has no RUNPATH of its own and finds libsystemd-shared only because systemd
        (257) has loaded it before. What is loaded by dlopen comes after, into the same process.
        """
        have: dict[str, str] = {}
        queue: deque[tuple[str, tuple[str, ...]]] = deque([(program, ())])
        late: deque[Request] = deque()
        while queue or late:
            if not queue:
                self._load_library(late.popleft(), have, queue)
                continue
            path, inherited = queue.popleft()
            elf = self.pool.learnt(path)
            if not isinstance(elf, Elf):
                continue
            for request in elf_requests(path, elf, inherited, self.world):
                if request.kind == "path":
                    self.todo.append(request)
                elif request.reason.kind == "dlopen":
                    late.append(request)
                else:
                    self._load_library(request, have, queue)
            late.extend(self._dlopen_facts(path))

    def _load_library(self, request: Request, have: dict[str, str], queue: deque[tuple[str, tuple[str, ...]]]) -> None:
        """Answer a program's or library's request for a library; `have` is what the process has loaded by soname."""
        if self._excepted(request):
            self._leave_out(request, "an exception is declared for it")
            return
        there = next((have[name] for name in (request.value, *request.alternatives) if name in have), None)
        path = there or self._find(request)
        if path is None:
            self._not_found(request)
        elif request.suggested and there is None:
            self._leave_out(request, "only suggested, and no feature asks for it")
        elif any(fnmatchcase(path, pattern) for pattern in self.world.exclude):
            self._excluded(request, path)
        else:
            final = self._take(path, request.reason, loaded=True)
            if there is None:
                learnt = self.pool.learnt(final)
                have[request.value] = path
                if isinstance(learnt, Elf):
                    have[learnt.soname or path.rpartition("/")[2]] = path
                queue.append((final, request.inherited))

    def _dlopen_facts(self, path: str) -> list[Request]:
        """Return what features know that this file loads, and no static reading shows."""
        found = []
        for fact in self.world.dlopen:
            if fnmatchcase(path, fact.asker):
                first, *others = fact.sonames
                reason = Reason("dlopen", path, fact.evidence)
                found.append(Request("library", first, reason, not fact.optional, alternatives=tuple(others)))
        return found

    def _ask(self, path: str, learnt: Learnt | None) -> None:
        if isinstance(learnt, Script):
            self.todo.extend(script_requests(path, learnt.interpreter, learnt.argument))
        elif isinstance(learnt, Unit):
            self.todo.extend(unit_requests(path, learnt, self.world))
        elif isinstance(learnt, UdevRules):
            self.todo.extend(udev_requests(path, learnt))
        for refers in self.world.refers:
            if fnmatchcase(path, refers.asker):
                reason = Reason("generator", path, refers.evidence)
                self.todo.extend(Request("unit", unit, reason) for unit in refers.units)
                self.todo.extend(
                    Request("path" if "/" in each else "program", each, reason) for each in refers.paths
                )  # fmt: skip

    def _answer_unit(self, request: Request) -> None:
        """Take a unit: always for a hard request, for a soft one when some feature wants it."""
        name = request.value
        path = find_unit(name, self.pool)
        if path is None:
            if is_implicit(name) or not request.hard:
                return
            self._not_found(request)
            return
        found_name = path.rpartition("/")[2]
        soft = not request.hard and request.reason.kind in {"unit", "udev"}
        if soft and found_name not in self.world.wanted and found_name not in self.units:
            self._leave_out(request, "a soft dependency that no feature asks for")
            return
        if any(fnmatchcase(path, pattern) for pattern in self.world.exclude):
            self._excluded(request, path)
            return
        new = found_name not in self.units
        self._take(path, request.reason)
        if new:
            self._take_unit(found_name, path)

    def _take_unit(self, name: str, path: str) -> None:
        """Take what belongs to a unit: drop-ins, .requires/ and .wants/; also under the name it is an alias of."""
        self.units[name] = path
        final = self.pool.resolve(path).path or path
        real = final.rpartition("/")[2]
        if real != name and real not in self.units and final.startswith(UNIT_DIRECTORIES):
            self._take_unit(real, final)
        for directory in UNIT_DIRECTORIES:
            for drop_ins in drop_in_directories(name):
                for each in self.pool.listing(f"{directory}/{drop_ins}"):
                    if each.endswith(".conf"):
                        self._take(f"{directory}/{drop_ins}/{each}", Reason("unit", path, "drop-in"))
            for kind, hard in ((".requires", True), (".wants", False)):
                for other in self.pool.listing(f"{directory}/{name}{kind}"):
                    self._take_dependency(f"{directory}/{name}{kind}/{other}", other, path, hard)

    def _take_dependency(self, link: str, other: str, asker: str, hard: bool) -> None:
        """Take a link in .requires/ or .wants/ and its unit, when the dependency is to be followed.

        The link itself is a path of the image; its target is looked up by the unit's name, as systemd does.
        """
        request = Request("unit", other, Reason("unit", asker, link), hard)
        if self._excepted(request):
            return
        self._answer_unit(request)
        target = find_unit(other, self.pool)
        if target is not None and target.rpartition("/")[2] in self.units:
            self.paths.setdefault(link, []).append(Reason("unit", asker, link.rpartition("/")[2]))

    def result(self) -> Closure:
        """Freeze what was found."""
        return Closure(
            paths={path: tuple(reasons) for path, reasons in self.paths.items()},
            users={name: tuple(reasons) for name, reasons in self.names["user"].items()},
            groups={name: tuple(reasons) for name, reasons in self.names["group"].items()},
            units=dict(self.units),
            missing=tuple(self.missing.values()),
            left_out=tuple(self.left_out.values()),
            used_exceptions=tuple(self.used.values()),
        )
