# SPDX-License-Identifier: LGPL-2.1-or-later
"""Hooks and break points: from the points of a part's features and the recipe's [[hook]] to files and units. Pure.

In a systemd part each break point and each hook is a unit, ordered between the units of its point and after what the
points before have; in a busybox part hooks are files, which `at_point` in its init runs.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from preroot.errors import RecipeError, nearest
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Point
from preroot.recipe.schema import Hook, Recipe
from preroot.tree.declare import Declaration
from preroot.tree.model import Reason

#: where an image has its hooks, below it by point
HOOKS = "usr/lib/preroot/hooks"
_UNITS = "usr/lib/systemd/system"
_WANTS = "etc/systemd/system/initrd.target.wants"
#: what execve(2) runs without help
_EXECUTABLE = (b"#!", b"\x7fELF")


def points_of(chosen: Iterable[Chosen]) -> tuple[Point, ...]:
    """Return the points that the features of a part have, in their order."""
    return tuple(dict.fromkeys(point for feature in chosen for point in feature.content.point))


def hooks_of(recipe: Recipe, part: str, points: Iterable[Point]) -> list[Hook]:
    """Return the recipe's hooks that go into a part, sorted as they run."""
    here = {point.name for point in points}
    mine = [hook for hook in recipe.hook if hook.part == part or (not hook.part and hook.point in here)]
    return sorted(mine, key=lambda hook: (hook.order, name_of(hook)))


def name_of(hook: Hook) -> str:
    """Return what a hook is called."""
    return hook.name or hook.unit or ""


def check_points(recipe: Recipe, chosen: Mapping[str, Sequence[Chosen]]) -> None:
    """Raise RecipeError for a hook at a point that no part, or not the one that it names, has."""
    points = {part: {point.name for point in points_of(features) if point.hooks} for part, features in chosen.items()}
    for number, hook in enumerate(recipe.hook):
        known = points.get(hook.part, set()) if hook.part else {name for names in points.values() for name in names}
        if hook.point not in known:
            where = f"part {hook.part}" if hook.part else "the image"
            hint = nearest(hook.point, known) or (
                f"there are: {', '.join(sorted(known))}" if known else "add the feature hooks to the part"
            )
            raise RecipeError(f"hook[{number}] ({name_of(hook)}): {where} has no point {hook.point!r}", hint)


def hook_declarations(
    recipe: Recipe, part: str, flavour: str, chosen: Sequence[Chosen], sources: Mapping[str, bytes]
) -> list[Declaration]:
    """Return the files, units and links that a part's break points and hooks are.

    `sources`: contents of the recipe's files by its spelling. Raises RecipeError for a hook that could not be run.
    """
    points = points_of(chosen)
    hooks = hooks_of(recipe, part, points)
    found: list[Declaration] = []
    before: list[str] = []  # the units of the point before
    for point in points:
        mine = [hook for hook in hooks if hook.point == point.name]
        for hook in mine:
            found += _files(hook, flavour, sources)
        if flavour == "systemd" and point.stops:
            units = _units(point, mine, before)
            found += units
            before = [each.path.rpartition("/")[2] for each in units if each.target]
    return found


def _files(hook: Hook, flavour: str, sources: Mapping[str, bytes]) -> list[Declaration]:
    """Return the file of a hook that is a program; that it is required is a file beside it in a busybox part."""
    if hook.unit is not None:
        if flavour != "systemd":
            raise RecipeError(f"the hook {name_of(hook)} is a unit, and a {flavour} part runs none", "give it content")
        return []
    data = (hook.content or "").encode() if hook.source is None else sources[hook.source]
    if not data.startswith(_EXECUTABLE):
        raise RecipeError(f"the hook {name_of(hook)} is neither a script with a #! line nor an ELF program",
                          "begin it with #!/bin/sh")  # fmt: skip
    path, reason = _path(hook), _reason(hook)
    files = [Declaration(path, "recipe", reason, 0o755, data=data)]
    if hook.required and flavour != "systemd":
        files.append(Declaration(f"{path}.required", "recipe", reason, data=b""))
    return files


def _path(hook: Hook) -> str:
    return f"{HOOKS}/{hook.point}/{hook.order:02}-{hook.name}"


def _reason(hook: Hook) -> Reason:
    return Reason("recipe", "recipe", f"[[hook]] {name_of(hook)}")


def _units(point: Point, hooks: Sequence[Hook], before: Sequence[str]) -> list[Declaration]:
    """Return the units of a point and the links that start them: the break point's first, then each hook after it."""
    stop = f"preroot-break-{point.name}.service"
    after = [*point.after, *before]
    found = _started(stop, _BREAK.format(name=point.name, order=_order(point, after)),
                     Reason("generated", "preroot", f"break point {point.name}"), "preroot")  # fmt: skip
    after = [*point.after, stop]
    for hook in hooks:
        order = _order(point, after) + (_REQUIRED if hook.required else "")
        if hook.unit is not None:
            name = hook.unit
            text = f"# Where the recipe's [[hook]] puts it\n[Unit]\nDefaultDependencies=no\n{order}"
            path = f"{_UNITS}/{name}.d/50-preroot-hook.conf"
            found.append(Declaration(path, "recipe", _reason(hook), data=text.encode()))
            found.append(_link(name, f"{_UNITS}/{name}", _reason(hook), "recipe"))
        else:
            name = f"preroot-hook-{hook.point}-{hook.order:02}-{hook.name}.service"
            text = _HOOK.format(name=hook.name, point=hook.point, order=order, path=_path(hook))
            found += _started(name, text, _reason(hook), "recipe")
        after = [*point.after, name]
    return found


def _started(name: str, text: str, reason: Reason, owner: str) -> list[Declaration]:
    return [
        Declaration(f"{_UNITS}/{name}", owner, reason, data=text.encode()),
        _link(name, f"{_UNITS}/{name}", reason, owner),
    ]


def _link(name: str, path: str, reason: Reason, owner: str) -> Declaration:
    return Declaration(f"{_WANTS}/{name}", owner, reason, 0o777, target=f"/{path}")


def _order(point: Point, after: Sequence[str]) -> str:
    lines = [("After", after), ("Before", point.before), ("Conflicts", ("shutdown.target",))]
    return "".join(f"{key}={' '.join(units)}\n" for key, units in lines if units)


_REQUIRED = "OnFailure=emergency.target\nOnFailureJobMode=replace-irreversibly\n"

#: the console is taken from whoever has it, as emergency.service does
_BREAK = """\
[Unit]
Description=Break Point {name}
Documentation=man:dracut.cmdline(7)
DefaultDependencies=no
ConditionKernelCommandLine=rd.break={name}
{order}
[Service]
Type=oneshot
Environment=HOME=/root
ExecStart=-/usr/lib/preroot/break {name}
StandardInput=tty-force
StandardOutput=tty
KillMode=process
IgnoreSIGPIPE=no
SendSIGHUP=yes
"""

_HOOK = """\
[Unit]
Description=Hook {name} at {point}
DefaultDependencies=no
{order}
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/lib/preroot/hook /{path}
StandardOutput=journal+console
StandardError=journal+console
"""
