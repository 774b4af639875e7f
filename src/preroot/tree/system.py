# SPDX-License-Identifier: LGPL-2.1-or-later
"""A whole distribution root from packages, without their scripts: what an image is proven against. Pure.

Everything of the packages is taken but documentation. Users, enabled units and /etc files that scripts would have
made come from the packages' own declarations: base-passwd's master files, sysusers.d(5), systemd.preset(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from preroot.packages.model import Unit
from preroot.tree.build import build_tree
from preroot.tree.closure.model import Closure
from preroot.tree.closure.units import UNIT_DIRECTORIES
from preroot.tree.declare import Declaration, enablement, merged_usr
from preroot.tree.model import Reason, Tree
from preroot.tree.pool import Pool
from preroot.tree.users import KnownNames, allocate, render_group, render_passwd, render_shadow

#: What a root needs for reading, not for running; and what is the kernel's.
_LEFT_OUT = (
    "usr/share/doc/*", "usr/share/man/*", "usr/share/locale/*", "usr/share/info/*", "usr/share/lintian/*",
    "usr/share/bug/*", "boot/*", "usr/lib/modules/*",
)  # fmt: skip

_WHOLE = Reason("recipe", "root", "the whole package")
_DIRECTORIES = ("dev", "proc", "sys", "run", "tmp", "mnt", "root", "var", "etc", "usr/sbin", "usr/bin", "usr/lib64")


def system_tree(
    packages: Pool, merged: Mapping[str, str], known: KnownNames, presets: Sequence[str], own: Sequence[Declaration]
) -> Tree:
    """Return the tree of a root with all of `packages`.

    `known` are the users and groups that the packages declare: all are made. `presets` are the texts of the preset
    files, in the order of their names; `own` is what the caller adds (fstab, host name, units of its own, which are
    enabled by the links that it declares itself).
    """
    pool = packages.overlay()
    for declaration in own:
        pool.declare(declaration.path, declaration.declared())
    names = allocate(known.users, known.groups, known, {}, {})
    enabled = enablement([(unit, "preroot") for unit in preset_units(pool, presets)], pool)
    paths: dict[str, tuple[Reason, ...]] = {
        path: (_WHOLE,)
        for path in pool.paths()
        if not any(fnmatchcase(path, pattern) for pattern in _LEFT_OUT) and path not in merged
    }
    reason = Reason("generated", "preroot", "what the packages' scripts would have done")
    texts = {
        "etc/passwd": (render_passwd(names), 0o644),
        "etc/group": (render_group(names), 0o644),
        "etc/shadow": (render_shadow(names), 0o600),
    }
    declarations = [
        *merged_usr(merged),
        *(Declaration(path, "preroot", reason, 0o755) for path in _DIRECTORIES),
        *(Declaration(path, "preroot", reason, mode, data=text.encode()) for path, (text, mode) in texts.items()),
        *enabled,
        *own,
    ]
    return build_tree(Closure(paths, {}, {}, {}, (), (), ()), declarations, (), pool, names)


def preset_units(pool: Pool, presets: Iterable[str]) -> list[str]:
    """Return the packages' units that the presets enable (systemd.preset(5): the first line that matches decides).

    A unit without [Install] can't be enabled; a template can only with a DefaultInstance=.
    """
    rules = [words for text in presets for line in text.splitlines() if (words := line.split())[:1] in _ACTIONS]
    found = []
    for name in pool.listing(UNIT_DIRECTORIES[1]):
        resolved = pool.resolve(f"{UNIT_DIRECTORIES[1]}/{name}")
        unit = pool.learnt(resolved.path) if resolved.path and not resolved.links else None
        if not isinstance(unit, Unit):
            continue
        keys = {key for section, key, value in unit.settings if section == "Install" and value}
        if not keys & {"WantedBy", "RequiredBy", "Alias", "Also"}:
            continue
        if "@." in name and "DefaultInstance" not in keys:
            continue
        action = next((words[0] for words in rules if fnmatchcase(name, words[1])), "enable")
        if action == "enable":
            found.append(name)
    return found


_ACTIONS = (["enable"], ["disable"], ["ignore"])
