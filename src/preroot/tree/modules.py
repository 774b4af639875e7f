# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which kernel modules go into an image, and why. Pure: facts and requests in, a selection out.

A module brings what its .modinfo names: `depends` (must be there), `softdep` before and after it, and `weakdep` (as
the kernel has them), each again with its own. Sources: include/linux/module.h, modprobe.d(5), kmod's libkmod-module.c.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import translate
from typing import Literal

from msgspec import Struct

from preroot.errors import BuildError, RecipeError, nearest
from preroot.facts.kernel import module_name, parse_builtin, parse_builtin_aliases
from preroot.packages.model import ModuleInfo
from preroot.recipe.schema import Modprobe
from preroot.tree.aliases import AliasIndex
from preroot.tree.model import LeftOut, Reason, ReasonKind

#: MissingModule.why of a module that the kernel does not have
ABSENT = "exists nowhere"

Need = Literal["required", "any-of", "if-present"]


class ModuleWorld(Struct, frozen=True):
    """All modules of one kernel."""

    version: str
    #: module name → canonical path (usr/lib/modules/VERSION/kernel/…)
    paths: dict[str, str]
    infos: dict[str, ModuleInfo]
    #: name → path below the modules directory (kernel/…)
    builtin: dict[str, str]
    #: (alias, name) of what is built in
    builtin_aliases: tuple[tuple[str, str], ...] = ()


class ModuleRequest(Struct, frozen=True):
    """One wish for modules.

    `spec` is a name (`-` and `_` are equal), a directory below kernel/ (`drivers/nvme/`), a glob on the name (without
    a slash) or the path below kernel/ (with one), or `alias:MODALIAS`. Of the requests of one asker with need
    `any-of` and the same `group`, at least one must be met; all that can be are.
    """

    spec: str
    need: Need
    #: feature's or recipe's name
    asker: str
    group: str = ""
    kind: ReasonKind = "feature"


class MissingModule(Struct, frozen=True):
    """A request that the kernel cannot meet."""

    #: the spec, or the specs of an any-of group joined by " or "
    spec: str
    asker: str
    #: "exists nowhere", or which left-out or absent module stands in the way
    why: str
    #: a hint: the nearest module's name, or ''
    hint: str = ""


class ModuleSelection(Struct, frozen=True):
    """The modules of an image."""

    #: name → path, sorted by path
    modules: dict[str, str]
    #: name → reasons, of modules in the image
    reasons: dict[str, tuple[Reason, ...]]
    #: built-in modules that meet a request or a dependency → reasons
    builtin: dict[str, tuple[Reason, ...]]
    missing: tuple[MissingModule, ...]
    left_out: tuple[LeftOut, ...]
    #: name → firmware files that the module may ask for (below the firmware directory, globs possible)
    firmware: dict[str, tuple[str, ...]]


#: Where several modules have one name: directories below the modules directory, the strongest first. depmod's own
#: default is "updates built-in"; distributions with extra/ put it between (Fedora's dist.conf, depmod.d(5)).
_SEARCH_ORDER = ("updates/", "extra/", "", "kernel/", "weak-updates/")


def make_world(
    version: str, modules: Iterable[tuple[str, ModuleInfo]], builtin: str = "", builtin_modinfo: bytes = b""
) -> ModuleWorld:
    """Make the world of a kernel from its module files (canonical path, facts) and the texts of its built-in lists.

    Of several modules with one name the one is taken that depmod would take: updates/, then extra/ and the like, then
    kernel/. In one of these the shallower one is taken (updates/x.ko before updates/dkms/x.ko), where depmod takes what
    it happens to read first. The order of `modules` has no influence.
    """
    base = len(f"usr/lib/modules/{version}/")
    chosen: dict[str, tuple[tuple[int, int, str], str, ModuleInfo]] = {}
    for path, info in modules:
        name = module_name(path)
        rank = 3 if path.startswith("kernel/", base) else _rank(path[base:])
        before = chosen.get(name)
        key = (rank, path.count("/"), path)
        if before is None or key < before[0]:
            chosen[name] = (key, path, info)
    return ModuleWorld(
        version=version,
        paths={name: path for name, (_, path, _) in chosen.items()},
        infos={name: info for name, (_, _, info) in chosen.items()},
        builtin=parse_builtin(builtin),
        builtin_aliases=parse_builtin_aliases(builtin_modinfo),
    )


def _rank(below: str) -> int:
    for rank, directory in enumerate(_SEARCH_ORDER):
        if directory and below.startswith(directory):
            return rank
    return _SEARCH_ORDER.index("")


class _Finder:
    """Finds modules by spec; the indexes are made when first needed."""

    def __init__(self, world: ModuleWorld) -> None:
        self._world = world
        self._known = {**dict.fromkeys(world.builtin), **dict.fromkeys(world.paths)}
        self._places: list[tuple[str, str]] = []
        self._aliases: AliasIndex | None = None

    def find(self, spec: str) -> list[str]:
        """Return the names (in the image or built in) that a spec stands for, sorted."""
        if spec.startswith("alias:"):
            return list(self.alias(spec[6:]))
        if spec.endswith("/"):
            return self._in_directories(spec.removeprefix("kernel/"), None)
        if "/" in spec:
            stem = re.sub(r"\.ko(\.(xz|zst|gz))?$", "", spec).removeprefix("kernel/")
            match = re.compile(translate(stem)).match
            special = re.search(r"[*?[]", stem)
            return self._in_directories(stem[: special.start()] if special else stem, match)
        if re.search(r"[*?[]", spec):
            match = re.compile(translate(re.sub(r"-(?![^[]*\])", "_", spec))).match
            return sorted(name for name in self._known if match(name))
        name = module_name(spec)
        return [name] if name in self._known else []

    def alias(self, alias: str) -> tuple[str, ...]:
        if self._aliases is None:
            world = self._world
            pairs = [(alias, name) for name, info in world.infos.items() for alias in info.aliases]
            self._aliases = AliasIndex([*pairs, *world.builtin_aliases])
        return self._aliases.find(alias)

    def name_or_alias(self, word: str) -> list[str]:
        """Return what a softdep's or weakdep's word stands for: modprobe looks for a module, then for aliases."""
        name = module_name(word)
        return [name] if name in self._known else list(self.alias(word))

    def _in_directories(self, prefix: str, match: Callable[[str], object] | None) -> list[str]:
        """Return modules whose place below kernel/ starts with `prefix` and satisfies `match` (None: all)."""
        if not self._places:
            self._places = sorted(self._all_places())
        found = set()
        for place, name in self._places[bisect_left(self._places, (prefix, "")) :]:
            if not place.startswith(prefix):
                break
            if match is None or match(place):
                found.add(name)
        return sorted(found)

    def _all_places(self) -> Iterable[tuple[str, str]]:
        base = len(f"usr/lib/modules/{self._world.version}/")
        own = ((name, path[base:]) for name, path in self._world.paths.items())
        for name, path in (*own, *self._world.builtin.items()):
            below = path[: path.rindex(".ko")] if ".ko" in path else path
            yield below.removeprefix("kernel/"), name
            # updates/drivers/net/x.ko stands for the kernel's drivers/net/x.ko too
            for directory in ("updates/", "extra/"):
                if below.startswith(directory):
                    yield below[len(directory) :], name

    def nearest(self, spec: str) -> str:
        """Return a hint with the module name that is nearest to a spec."""
        return "" if spec.startswith("alias:") else nearest(spec.rstrip("/").rsplit("/", 1)[-1], self._known)


class _Selector:
    """The state of one selection while it grows."""

    def __init__(self, world: ModuleWorld, leave_out: Sequence[str]) -> None:
        self.world = world
        self.finder = _Finder(world)
        self.reasons: dict[str, dict[Reason, None]] = {}
        self.builtin: dict[str, dict[Reason, None]] = {}
        self.missing: list[MissingModule] = []
        self.left_out: dict[LeftOut, None] = {}
        self._unwanted = {name: spec for spec in leave_out for name in self.finder.find(spec) if name in world.paths}
        self._blocked: dict[str, str] = {}

    def blocked(self, name: str) -> str:
        """Return why a module cannot go in ('' if it can): it, or what it depends on, is left out or absent."""
        known = self._blocked.get(name)
        if known is not None:
            return known
        world, seen, queue, why = self.world, {name}, [name], ""
        while queue and not why:
            each = queue.pop()
            if each in self._unwanted:
                why = f"{each} is left out by {self._unwanted[each]!r}"
            elif each in world.paths:
                new = [dep for dep in map(module_name, world.infos[each].depends) if dep not in seen]
                seen.update(new)
                queue.extend(new)
            elif each not in world.builtin:
                why = f"{each} {ABSENT}"
        if why and not why.startswith(f"{name} "):
            why = f"it needs {why.replace(' ', ', which ', 1)}"
        self._blocked[name] = why
        return why

    def request(self, wish: ModuleRequest) -> str:
        """Take what a request stands for. Returns '' if it is met, else why not."""
        reason = Reason(wish.kind, wish.asker, wish.spec)
        met = False
        stopped: dict[str, str] = {}
        for name in self.finder.find(wish.spec):
            why = self.blocked(name) if name in self.world.paths else ""
            if why:
                stopped[name] = why
            else:
                met = True
                self.take(name, reason)
        if met or wish.need != "required":
            self.left_out.update({LeftOut(f"module {name}", wish.asker, why): None for name, why in stopped.items()})
        return "" if met else next(iter(stopped.values()), ABSENT)

    def take(self, name: str, reason: Reason) -> None:
        """Take a module and all that it brings; an iterative walk, so that cycles of softdeps end."""
        queue = [(name, reason)]
        world = self.world
        while queue:
            each, why = queue.pop()
            if each not in world.paths:
                self.builtin.setdefault(each, {})[why] = None
                continue
            known = self.reasons.get(each)
            if known is not None:
                known[why] = None
                continue
            self.reasons[each] = {why: None}
            info, path = world.infos[each], world.paths[each]
            queue.extend((module_name(dep), Reason("module", path, dep)) for dep in info.depends)
            for word in info.pre:
                queue.extend(self._soft(path, word, "softdep", f"pre {word}"))
            for word in info.post:
                queue.extend(self._soft(path, word, "softdep", f"post {word}"))
            for word in info.weak:
                queue.extend(self._soft(path, word, "weakdep", word))

    def _soft(self, path: str, word: str, kind: ReasonKind, detail: str) -> Iterable[tuple[str, Reason]]:
        for name in self.finder.name_or_alias(word):
            why = self.blocked(name) if name in self.world.paths else ""
            if why:
                self.left_out[LeftOut(f"module {name}", path, why)] = None
            else:
                yield name, Reason(kind, path, detail)


def select_modules(
    world: ModuleWorld, requests: Sequence[ModuleRequest], leave_out: Sequence[str] = ()
) -> ModuleSelection:
    """Select the modules of an image.

    `leave_out` has specs (as ModuleRequest.spec) of modules that must not go in; a module that depends on one of them
    does not go in either: a required one is then in `missing`, any other in `left_out`. Names that are built in meet
    a request. A `leave_out` that matches nothing is no error: one recipe may serve several kernels.
    """
    state = _Selector(world, leave_out)
    groups: dict[tuple[str, str], list[tuple[ModuleRequest, str]]] = {}
    for wish in requests:
        problem = state.request(wish)
        if wish.need == "any-of":
            groups.setdefault((wish.asker, wish.group), []).append((wish, problem))
        elif problem and wish.need == "required":
            state.missing.append(MissingModule(wish.spec, wish.asker, problem, state.finder.nearest(wish.spec)))
    for (asker, _), members in groups.items():
        if all(problem for _, problem in members):
            specs = " or ".join(wish.spec for wish, _ in members)
            hint = next(filter(None, (state.finder.nearest(wish.spec) for wish, _ in members)), "")
            state.missing.append(MissingModule(specs, asker, members[0][1], hint))
    taken = sorted(state.reasons, key=world.paths.__getitem__)
    return ModuleSelection(
        modules={name: world.paths[name] for name in taken},
        reasons={name: _sorted(state.reasons[name]) for name in taken},
        builtin={name: _sorted(state.builtin[name]) for name in sorted(state.builtin)},
        missing=tuple(state.missing),
        left_out=tuple(sorted(state.left_out, key=lambda item: (item.what, item.asker, item.reason))),
        firmware={name: world.infos[name].firmware for name in taken if world.infos[name].firmware},
    )


def _sorted(reasons: Mapping[Reason, None]) -> tuple[Reason, ...]:
    """Sort reasons: those of features and recipes before those of other modules."""
    return tuple(sorted(reasons, key=lambda reason: (reason.kind not in ("feature", "recipe"), reason.asker,
                                                     reason.kind, reason.detail)))  # fmt: skip


def check_vermagic(world: ModuleWorld, names: Iterable[str]) -> None:
    """Raise BuildError for a module that the kernel would refuse to load: it is built for another one.

    The kernel compares the whole text, for example `6.12.9 SMP preempt mod_unload modversions` (kernel/module/main.c,
    check_modinfo); what it says itself is taken from its own modules. weak-updates/ has modules of other releases on
    purpose: with modversions the release does not count.
    """
    base = len(f"usr/lib/modules/{world.version}/")
    own = (world.infos[name].vermagic for name, path in world.paths.items() if path.startswith("kernel/", base))
    expected = next(filter(None, own), "")
    for name in names:
        below, vermagic = world.paths[name][base:], world.infos[name].vermagic
        if below.startswith("weak-updates/") or not vermagic:
            continue
        release = vermagic.split()[0]
        if release != world.version:
            raise BuildError(
                f"module {below} is built for kernel {release}, and the image is for {world.version}",
                "build it for that kernel, or choose the other one with --kernel",
            )
        if expected and vermagic != expected and not below.startswith("kernel/"):
            raise BuildError(
                f"module {below} is built for a kernel that is '{vermagic}', and {world.version} is '{expected}'",
                "build it with that kernel's configuration",
            )


def missing_error(world: ModuleWorld, missing: Sequence[MissingModule], hint: str = "") -> BuildError:
    """Return the error for requests that kernel `world` cannot meet (at least one); `hint` replaces the usual one."""
    first = missing[0]
    more = f" (and {len(missing) - 1} more: {', '.join(item.spec for item in missing[1:6])})" if missing[1:] else ""
    problem = first.why if first.why == ABSENT else f"cannot go in: {first.why}"
    return BuildError(
        f"kernel {world.version}: module {first.spec}, wanted by {first.asker}, {problem}{more}", hint or first.hint
    )


def module_options(modprobe: Modprobe) -> str:
    """Render the recipe's module settings as a file for /etc/modprobe.d (modprobe.d(5)), '' if there are none.

    Raises RecipeError for a value with a line break and for a name that is none.
    """
    lines = [f"options {name} {value}" for name, value in sorted(modprobe.options.items())]
    lines += [f"blacklist {name}" for name in sorted(modprobe.blacklist)]
    lines += [f"softdep {name} {value}" for name, value in sorted(modprobe.softdep.items())]
    for name in (*modprobe.options, *modprobe.blacklist, *modprobe.softdep):
        if not re.fullmatch(r"[A-Za-z0-9_.:-]+", name):
            raise RecipeError(f"[modprobe]: {name!r} is no module name")
    for line in lines:
        if "\n" in line or "\\" in line:
            raise RecipeError(f"[modprobe]: {line!r} has a line break or a backslash", "one line a module")
    return "".join(f"{line}\n" for line in lines)
