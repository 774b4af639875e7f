# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a merged recipe must hold beyond the type of each value: references, duplicates, paths, ranges."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from preroot.errors import RecipeError, nearest
from preroot.recipe.schema import CODEC_LEVELS, Compression, Recipe
from preroot.recipe.toml import Key, dotted

#: Every part that some layout has.
PART_NAMES = ("microcode", "base", "modules", "stage1", "full", "exitrd", "extension")

#: systemd.unit(5): name, `@` and instance for templates, and a type.
_UNIT_NAME = re.compile(
    r"[A-Za-z0-9:_.\\@-]{1,240}\.(service|socket|device|mount|automount|swap|target|path|timer|slice|scope)"
)

Where = Callable[[Key], str]


def check(recipe: Recipe, where: Where) -> None:
    """Raise RecipeError for the first contradiction in `recipe`; `where` gives the place of a key."""
    _check_parts(recipe, where)
    _check_contents(recipe, where)
    _check_duplicates(recipe, where)
    _check_kernel(recipe, where)
    _check_microcode(recipe, where)
    _check_verity(recipe, where)
    _check_single_lines(recipe, where)
    _check_failure(recipe, where)
    _check_levels(recipe.compression, ("compression",), where)
    for name, part in recipe.part.items():
        if part.compression:
            _check_levels(part.compression, ("part", name, "compression"), where)


def normal_path(path: str) -> str:
    """Return the path in the image without leading, doubled and trailing slashes and `.`.

    Raises ValueError with the reason for one that has `..`, a NUL or a line break, or that names the root itself.
    """
    words = [word for word in path.split("/") if word not in ("", ".")]
    if ".." in words:
        raise ValueError("has '..'")
    if "\0" in path or "\n" in path:
        raise ValueError("has a NUL or a line break")
    if not words:
        raise ValueError("names the root directory itself")
    return "/".join(words)


def _error(where: Where, key: Key, text: str, hint: str = "") -> RecipeError:
    return RecipeError(f"{where(key)}: {dotted(key)}{text}", hint)


def _check_parts(recipe: Recipe, where: Where) -> None:
    known = "known: " + ", ".join(PART_NAMES)
    for name, part in recipe.part.items():
        if name not in PART_NAMES:
            raise _error(where, ("part", name), ": no layout has such a part", nearest(name, PART_NAMES) or known)
        for other in part.minus:
            if other not in PART_NAMES or other == name:
                text = f" names {other!r}, which is not another part"
                raise _error(where, ("part", name, "minus"), text, nearest(other, PART_NAMES) or known)
    for table, entries in _tables_of(recipe):
        for number, entry in enumerate(entries):
            part_name = getattr(entry, "part", "")
            if part_name and part_name not in PART_NAMES:
                text = f" is {part_name!r}, and no layout has such a part"
                raise _error(where, (table, number, "part"), text, nearest(part_name, PART_NAMES) or known)


def _tables_of(recipe: Recipe) -> tuple[tuple[str, tuple[Any, ...]], ...]:
    return (("file", recipe.file), ("link", recipe.link), ("node", recipe.node), ("unit", recipe.unit),
            ("hook", recipe.hook), ("secret", recipe.secret), ("user", recipe.user),
            ("group", recipe.group))  # fmt: skip


def _check_contents(recipe: Recipe, where: Where) -> None:
    """Check that each of the recipe's own files and units has one content, and that units have names of units."""
    sources = [(("file", n), each.content, each.source) for n, each in enumerate(recipe.file)]
    sources += [(("unit", n), each.content, each.source) for n, each in enumerate(recipe.unit)]
    sources += [(("hook", n), each.content, each.source) for n, each in enumerate(recipe.hook) if each.unit is None]
    sources += [(("secret", n), None, each.source) for n, each in enumerate(recipe.secret)]
    for key, content, source in sources:
        if content is None and source is None:
            raise _error(where, key, " has neither content nor source", "give one of them")
        if content is not None and source is not None:
            raise _error(where, key, " has both content and source", "give one of them")
        if source == "":
            raise _error(where, (*key, "source"), " is empty", "name a file")
        if source is not None and any(character in source for character in "\n\0"):
            # not repeated: somebody may have written the secret itself
            raise _error(where, (*key, "source"), " is no path: it has a line break or NUL", "name a file")
    _check_hooks(recipe, where)
    for number, unit in enumerate(recipe.unit):
        if not _UNIT_NAME.fullmatch(unit.name):
            hint = "for example hello.service, see systemd.unit(5)"
            raise _error(where, ("unit", number, "name"), f" is {unit.name!r}, which is no unit's name", hint)


def _check_hooks(recipe: Recipe, where: Where) -> None:
    """Check that each hook is one thing, and has a name."""
    for number, hook in enumerate(recipe.hook):
        if hook.unit is not None and (hook.content is not None or hook.source is not None):
            raise _error(where, ("hook", number), " has a unit besides content or source", "give one of them")
        if hook.unit is not None and not _UNIT_NAME.fullmatch(hook.unit):
            hint = "for example hello.service, see systemd.unit(5)"
            raise _error(where, ("hook", number, "unit"), f" is {hook.unit!r}, which is no unit's name", hint)
        if hook.unit is None and not hook.name:
            raise _error(where, ("hook", number), " has no name", 'name = "…": its file is called so in the image')


def _check_duplicates(recipe: Recipe, where: Where) -> None:
    """Check paths, and that no path, unit, user or group is there twice in one part."""
    taken: dict[tuple[str, str, str], Key] = {}
    for table, entries in _tables_of(recipe):
        is_path = table in ("file", "link", "node", "secret")
        for number, entry in enumerate(entries):
            key = (table, number)
            name = entry.path if is_path else entry.name
            if table == "hook":
                name = f"{entry.point}/{entry.name or entry.unit}"
            if is_path:
                try:
                    name = normal_path(name)
                except ValueError as error:
                    raise _error(where, (*key, "path"), f" is {name!r}, which {error}") from None
            identity = ("path" if is_path else table, name, getattr(entry, "part", ""))
            if identity in taken:
                first = taken[identity]
                text = f": {name} is given already as {dotted(first)} at {where(first)}"
                raise _error(where, key, text, "arrays of tables of all files add up")
            taken[identity] = key


def _check_kernel(recipe: Recipe, where: Where) -> None:
    kernel = recipe.kernel
    if kernel.package and kernel.directory:
        text = " and kernel.package exclude each other"
        raise _error(where, ("kernel", "directory"), text, "the kernel is in one of them")
    for key, value in (("add-modules", kernel.add_modules), ("extra-modules", kernel.extra_modules)):
        if kernel.monolithic and value:
            text = " is not empty, but the kernel is monolithic"
            raise _error(where, ("kernel", key), text, f"remove kernel.monolithic or kernel.{key}")
    for number, path in enumerate(kernel.extra_modules):
        if not path:
            raise _error(where, ("kernel", "extra-modules", number), " is empty", "name a file or a directory")


def _check_microcode(recipe: Recipe, where: Where) -> None:
    """Refuse processors of a vendor that is taken whole."""
    for number, cpu in enumerate(recipe.microcode.cpus):
        vendor = "amd" if cpu.startswith("fam") else "intel"
        if vendor in recipe.microcode.vendors:
            text = f" has {cpu}, and microcode.vendors takes all of {vendor}"
            raise _error(where, ("microcode", "cpus", number), text, "leave one of them out")


def _check_verity(recipe: Recipe, where: Where) -> None:
    """Refuse a guard that somebody at the console could take away, and a policy that no guard looks at."""
    if recipe.verity.required and recipe.access.policy == "open":
        text = ' and access.policy = "open" exclude each other: whoever is at the console is root before the guard runs'
        raise _error(where, ("verity", "required"), text, 'access.policy = "locked" or "password"')
    if recipe.verity.signed and not recipe.verity.required:
        raise _error(where, ("verity", "signed"), " is looked at by the guard alone", "add verity.required = true")


def _check_single_lines(recipe: Recipe, where: Where) -> None:
    """Refuse line breaks where the value becomes one line of a file."""
    lines: list[tuple[Key, str]] = [(("cmdline", n), text) for n, text in enumerate(recipe.cmdline)]
    lines += [(("modprobe", "options", name), name + text) for name, text in recipe.modprobe.options.items()]
    lines += [(("modprobe", "softdep", name), name + text) for name, text in recipe.modprobe.softdep.items()]
    lines += [(("modprobe", "blacklist", n), text) for n, text in enumerate(recipe.modprobe.blacklist)]
    lines += [(("access", "password-hash"), recipe.access.password_hash)]
    for key, text in lines:
        if any(character in text for character in "\n\0"):
            raise _error(where, key, " has a line break or NUL", "write it as one line")
    if recipe.access.password_hash and not re.fullmatch(r"[$_][^\s:*!]+", recipe.access.password_hash):
        raise _error(where, ("access", "password-hash"), " is not a crypt(5) hash", "make one with: openssl passwd -6")


def _check_failure(recipe: Recipe, where: Where) -> None:
    """Check that a RAID that lacks a disk is started before the root is given up."""
    failure = recipe.failure
    if failure.degraded is not None and failure.degraded >= failure.timeout:
        text = f" is {failure.degraded}, and the root is waited for {failure.timeout} seconds"
        raise _error(where, ("failure", "degraded"), text, "make failure.timeout longer")


def _check_levels(compression: Compression, key: Key, where: Where) -> None:
    lowest, highest = CODEC_LEVELS.get(compression.codec, (-7, 22))
    if not lowest <= compression.level <= highest:
        text = f" is {compression.level}: levels of {compression.codec} are {lowest} to {highest}"
        raise _error(where, (*key, "level"), text, f"choose one from {lowest} to {highest}")
