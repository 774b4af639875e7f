# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which firmware files go into an image with its drivers. Pure: what drivers ask for and a pool in, a selection out.

The kernel looks for a name in four directories, first for plain files in all of them, then for .zst, then for .xz
(drivers/base/firmware_loader/main.c: fw_path, _request_firmware). In an image compressed files are decompressed, so it
does not matter which of the compressions its kernel was built with (CONFIG_FW_LOADER_COMPRESS_*).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from msgspec import Struct

from preroot.recipe.drivers import Driver
from preroot.recipe.schema import Exception_
from preroot.tree.closure.walk import is_excluded
from preroot.tree.model import LeftOut, Reason
from preroot.tree.modules import ModuleRequest, ModuleSelection
from preroot.tree.pool import Pool, Resolved, glob_pattern

#: Where packages have firmware, canonical; the kernel says /lib/firmware.
FIRMWARE = "usr/lib/firmware"
#: in the kernel's order
_SUFFIXES = ("", ".zst", ".xz")
_NOWHERE = "no package of the lock has it"
_PLAIN = Driver(evidence="its .modinfo")


class Asking(Struct, frozen=True):
    """A driver of the image, as a module or built in, that may ask for firmware."""

    module: str
    #: its path in the image; of one that is built in, the path that it would have
    path: str
    #: what its .modinfo names, below FIRMWARE; globs possible
    names: tuple[str, ...] = ()
    #: who named the module and must have it ("feature luks", "the recipe"); '' where it came otherwise
    required_by: str = ""
    #: a feature or the recipe has the module by its own name
    named: bool = False


class FirmwareRules(Struct, frozen=True):
    """What recipe, features and preroot's own data say of firmware."""

    drivers: Mapping[str, Driver] = {}
    #: globs of names below FIRMWARE
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    #: globs of canonical paths
    exclude_paths: tuple[str, ...] = ()
    #: (exception, who declares it), for paths below FIRMWARE
    exceptions: tuple[tuple[Exception_, str], ...] = ()


class FirmwareSelection(Struct, frozen=True):
    """The firmware of an image, and what of it there is not."""

    #: canonical path → reasons: files, and the links that lead to them
    paths: dict[str, tuple[Reason, ...]]
    #: those of `paths` that are to be decompressed, with the links to them
    compressed: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    #: one line for each driver that was named and lacks what it needs, and for rules that apply to nothing
    problems: tuple[str, ...]
    #: drivers that came otherwise and lack what they need, with the first file, sorted
    lacking: tuple[tuple[str, str], ...]


def askings(
    selection: ModuleSelection, wishes: Iterable[ModuleRequest], drivers: Mapping[str, Driver],
    builtin: Mapping[str, tuple[str, ...]], places: Mapping[str, str],
) -> list[Asking]:  # fmt: skip
    """Return the drivers of a selection that may ask for firmware, sorted by path.

    Arguments: the wishes that made the selection; what is known of drivers; the firmware of built-in ones; module →
    path in the image (`places`, built-in ones too). Built-in drivers count only if something asks for them.
    """
    required: dict[str, str] = {}
    named: set[str] = set()
    for wish in wishes:
        if re.search(r"[*?\[/:]", wish.spec):
            continue
        name = wish.spec.replace("-", "_")
        named.add(name)
        if wish.need != "if-present":
            required.setdefault(name, f"feature {wish.asker}" if wish.kind == "feature" else wish.asker)
    found = []
    for name in (*selection.modules, *selection.builtin):
        names = selection.firmware.get(name) or (builtin.get(name, ()) if name in selection.builtin else ())
        if names or name in drivers:
            found.append(Asking(name, places[name], names, required.get(name, ""), name in named))
    return sorted(found, key=lambda each: each.path)


class _Index:
    """Finds firmware as the kernel does, for one kernel version."""

    def __init__(self, pool: Pool, version: str) -> None:
        self._pool = pool
        prefixes = (f"updates/{version}/", "updates/", f"{version}/", "")
        used: set[str] = set()
        names: set[str] = set()
        for found in pool.below(FIRMWARE):
            if found.info.type == "directory":
                continue
            below = found.path[len(FIRMWARE) + 1 :]
            prefix = next(each for each in prefixes if below.startswith(each))
            used.add(prefix)
            names.add(re.sub(r"\.(zst|xz)$", "", below[len(prefix) :]))
        self.names = sorted(names)
        self._prefixes = [each for each in prefixes if each in used]

    def find(self, name: str) -> tuple[Resolved, str] | None:
        """Return where a name leads, and the suffix of its compression ('' for none)."""
        if name.startswith("/") or ".." in name.split("/"):
            return None  # the kernel refuses such a name (_request_firmware, since 6.12)
        for suffix in _SUFFIXES:
            for prefix in self._prefixes:
                resolved = self._pool.resolve(f"{FIRMWARE}/{prefix}{name}{suffix}")
                file = self._pool.get(resolved.path) if resolved.path else None
                if file is not None and file.info.type in {"file", "hardlink"}:
                    return resolved, suffix
        return None

    def matching(self, pattern: str) -> list[str]:
        match = glob_pattern(pattern).fullmatch
        return [name for name in self.names if match(name)]

    def older(self, name: str) -> str | None:
        """Return the name with the highest version below that of `name`: its last number."""
        parts = re.fullmatch(r"(.*?)(\d+)(\D*)", name)
        if not parts:
            return None
        same = re.compile(rf"{re.escape(parts[1])}(\d+){re.escape(parts[3])}")
        versions = {int(match[1]): each for each in self.names if (match := same.fullmatch(each))}
        below = [version for version in versions if version < int(parts[2])]
        return versions[max(below)] if below else None


class _Selector:
    """The state of one selection while it grows."""

    def __init__(self, pool: Pool, version: str, rules: FirmwareRules, package_of: Callable[[str], str]) -> None:
        self.index = _Index(pool, version)
        self.rules = rules
        self.package_of = package_of
        self.paths: dict[str, dict[Reason, None]] = {}
        self.compressed: set[str] = set()
        self.left_out: dict[LeftOut, None] = {}
        self.problems: list[str] = []
        self.lacking: list[tuple[str, str]] = []
        self.used: set[int] = set()

    def take(self, name: str, reason: Reason) -> str:
        """Take a file with the links to it. Returns '' or why it is not in the image."""
        found = self.index.find(name)
        if found is None:
            package = self.package_of(name)
            return _NOWHERE + (f"; {package} has it" if package else "")
        resolved, suffix = found
        chain = resolved.chain
        unwanted = next((each for each in self.rules.exclude if fnmatchcase(name, each)), None)
        if unwanted is not None:
            return f"it is left out by firmware.exclude {unwanted!r}"
        if is_excluded(chain, self.rules.exclude_paths):
            return "it is left out by the recipe's exclude"
        for number, path in enumerate(chain):
            why = Reason("symlink", chain[number - 1], path) if number else reason
            self.paths.setdefault(path, {})[why] = None
            if suffix and path.endswith(suffix):
                self.compressed.add(path)
        for path in resolved.through:
            self.paths.setdefault(path, {})[Reason("symlink", chain[0], "on the way of a link")] = None
        return ""

    def serve(self, asking: Asking) -> None:
        """Take what one driver may ask for."""
        driver = self.rules.drivers.get(asking.module, _PLAIN)
        globs = [each for each in (*asking.names, *driver.more) if re.search(r"[*?\[]", each)]
        plain = [each for each in asking.names if each not in globs]
        if driver.graphics and not asking.named:
            if asking.names:
                what = f"firmware of {asking.module} ({len(asking.names)} files)"
                why = "graphics firmware comes only with a driver that a feature or the recipe names"
                self.left_out[LeftOut(what, asking.path, why)] = None
            return
        missing: dict[str, str] = {}
        had = 0
        for name in plain:
            why = self.take(name, Reason("firmware", asking.path, name))
            older = self.index.older(name) if why and driver.counts_down else None
            if older and not self.take(older, Reason("firmware", asking.path, f"{name}, or older")):
                why = ""
            had += not why
            if why:
                missing[name] = why
        for glob in globs:
            for name in self.index.matching(glob):
                why = self.take(name, Reason("firmware", asking.path, glob))
                had += not why
                if why:
                    self.left_out[LeftOut(f"firmware {name}", asking.path, why)] = None
        self._judge(asking, driver, missing, had)

    def _judge(self, asking: Asking, driver: Driver, missing: Mapping[str, str], had: int) -> None:
        """Note what a driver lacks, and decide whether that is a fault."""
        needs = driver.firmware == "all" or (driver.firmware == "any" and not had)
        faults: dict[str, str] = {}
        for name, why in missing.items():
            reason = self._excepted(name, asking.path)
            if not reason and needs:
                faults[name] = why
            said = f"an exception is declared for it: {reason}" if reason else why
            self.left_out[LeftOut(f"firmware {name}", asking.path, said)] = None
        if not faults:
            return
        first = next(iter(faults))
        if asking.required_by:
            kinds = f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
            self.problems.append(
                f"firmware {first}{kinds} of module {asking.module}, wanted by {asking.required_by}, is missing: "
                f"{faults[first]}"
            )
        else:
            self.lacking.append((asking.module, first))

    def _excepted(self, name: str, path: str) -> str:
        reasons = []
        for number, (exception, _) in enumerate(self.rules.exceptions):
            asks = fnmatchcase(path, exception.asker.lstrip("/"))
            if asks and fnmatchcase(f"{FIRMWARE}/{name}", _canonical(exception)):
                self.used.add(number)
                reasons.append(exception.reason)
        return reasons[0] if reasons else ""

    def include(self, pattern: str) -> None:
        """Take what the recipe includes by itself."""
        names = [name for name in self.index.names if fnmatchcase(name, pattern)]
        reason = Reason("recipe", "recipe", f"firmware.include {pattern}")
        taken = [not self.take(name, reason) for name in names]
        if not any(taken):
            package = self.package_of(pattern)
            told = "matches nothing in the packages of the lock" + (f"; {package} has it" if package else "")
            self.problems.append(f"firmware.include {pattern!r} " + (told if not names else "is excluded again"))

    def unused(self, asked: Sequence[Asking]) -> None:
        """Note exceptions that nothing needed; one of a feature is none as long as its driver is not in the image."""
        for number, (exception, owner) in enumerate(self.rules.exceptions):
            present = any(fnmatchcase(asking.path, exception.asker.lstrip("/")) for asking in asked)
            if number not in self.used and (present or owner == "the recipe"):
                self.problems.append(
                    f"{owner} declares an exception for {exception.path} asked for by {exception.asker}, which nothing "
                    "needs: remove it"
                )


def select_firmware(
    asked: Sequence[Asking], pool: Pool, version: str, rules: FirmwareRules, package_of: Callable[[str], str]
) -> FirmwareSelection:
    """Select the firmware of an image.

    Arguments: the drivers; all packages; the kernel's release; what recipe and features say; and what returns the
    package that has a name below FIRMWARE ('' if that is not known), for messages.
    """
    state = _Selector(pool, version, rules, package_of)
    for asking in asked:
        state.serve(asking)
    for pattern in rules.include:
        state.include(pattern)
    state.unused(asked)
    return FirmwareSelection(
        paths={path: tuple(state.paths[path]) for path in sorted(state.paths)},
        compressed=tuple(sorted(state.compressed)),
        left_out=tuple(sorted(state.left_out, key=lambda each: (each.what, each.asker))),
        problems=tuple(state.problems),
        lacking=tuple(sorted(state.lacking)),
    )


def is_about_firmware(exception: Exception_) -> bool:
    """Return whether an exception is for a firmware file, and so judged here and not with the closure of a part."""
    return _canonical(exception).startswith(f"{FIRMWARE}/")


def _canonical(exception: Exception_) -> str:
    path = exception.path.lstrip("/")
    return f"usr/{path}" if path.startswith("lib/") else path


def lacking_line(lacking: Sequence[tuple[str, str]], package_of: Callable[[str], str]) -> str:
    """Return the one line about drivers that came by directory, glob or class and lack firmware; '' for none."""
    if not lacking:
        return ""
    names = ", ".join(module for module, _ in lacking[:4]) + (" …" if len(lacking) > 4 else "")
    packages = sorted({package for _, file in lacking if (package := package_of(file))})
    where = f"; {', '.join(packages)} would have it" if packages else ""
    drivers = "1 driver lacks" if len(lacking) == 1 else f"{len(lacking)} drivers lack"
    return f"{drivers} firmware ({names}){where}: preroot plan --left-out lists it"
