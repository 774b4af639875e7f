# SPDX-License-Identifier: LGPL-2.1-or-later
"""What features and recipe put into a part beside package files, and what replaces the packages' scripts. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from preroot.errors import RecipeError
from preroot.packages.learn import learn
from preroot.packages.model import UdevRules, Unit
from preroot.recipe.conditions import Chosen
from preroot.recipe.schema import Node, Recipe
from preroot.recipe.template import uses_secret
from preroot.tree.closure.units import expand, find_unit, specifiers
from preroot.tree.model import Reason
from preroot.tree.modules import module_options
from preroot.tree.pool import Declared, Pool


class Declaration(Struct, frozen=True):
    """A path of no package: a directory, a link (`target`), a node (`device`) or a file (`data`, `secret`)."""

    path: str
    owner: str
    reason: Reason
    mode: int = 0o644
    user: str = "root"
    group: str = "root"
    target: str = ""
    data: bytes | None = None
    #: path of a secret's file, read only when the image is written
    secret: str = ""
    #: `data` holds a secret (a password's hash, an option that is one)
    hidden: bool = False
    #: type, major and minor number of a device node
    device: tuple[str, int, int] | None = None

    @property
    def is_directory(self) -> bool:
        """Return whether this declares a directory."""
        return self.data is None and self.device is None and not self.target and not self.secret

    def declared(self) -> Declared:
        """Return what the pool is to know of this path."""
        if self.data is None:
            return Declared(self.owner, self.target)
        return Declared(self.owner, learnt=learn(self.path, self.mode, self.data))


def merged_usr(links: Mapping[str, str]) -> list[Declaration]:
    """Return the links of a merged /usr."""
    reason = Reason("merged-usr", "preroot")
    return [Declaration(path, "preroot", reason, 0o777, target=target) for path, target in links.items()]


def feature_declarations(
    chosen: Chosen, fill: Callable[[str], str], runtime: Mapping[str, bytes], pool: Pool
) -> list[Declaration]:
    """Return the directories, links, generated files and masks of one feature.

    `fill` renders the feature's templates; `runtime` has the files of runtime/ by path below it. Raises RecipeError
    for a runtime file that does not exist.
    """
    owner = f"feature {chosen.name}"
    content = chosen.content
    found = []
    for line in content.directory:
        path, _, mode_text = fill(line).partition(" ")
        found.append(
            Declaration(
                pool.canonical(path), owner, Reason("feature", chosen.name, "directory"), int(mode_text or "755", 8)
            )
        )
    for link in content.link:
        reason = Reason("feature", chosen.name, "link")
        found.append(Declaration(pool.canonical(fill(link.path)), owner, reason, 0o777, target=fill(link.target)))
    found += _nodes(content.node, owner, Reason("feature", chosen.name, "node"), pool)
    for unit in content.take.mask:
        reason = Reason("feature", chosen.name, "masked")
        found.append(Declaration(f"etc/systemd/system/{unit}", owner, reason, 0o777, target="/dev/null"))
    for file in content.generate:
        if file.source is not None:
            if file.source not in runtime:
                raise RecipeError(f"feature {chosen.name}: runtime file {file.source!r} does not exist")
            data = runtime[file.source]
        else:
            data = fill(file.content or "").lstrip("\n").encode()
        reason = Reason("feature", chosen.name, f"replaces {file.replaces}" if file.replaces else "generated")
        hidden = uses_secret(file.content or "")
        declaration = Declaration(
            pool.canonical(fill(file.path)), owner, reason, int(file.mode, 8), file.owner, file.group, data=data,
            hidden=hidden,
        )  # fmt: skip
        if hidden and isinstance(declaration.declared().learnt, Unit | UdevRules):
            # what a unit runs is told as the reason for what it runs
            raise RecipeError(
                f"{owner}: {file.path} has a secret inside, and units and udev rules are no place for one",
                "write it to a file of its own that they read (LoadCredential=, EnvironmentFile=)",
            )
        found.append(declaration)
    return found


def _nodes(nodes: Iterable[Node], owner: str, reason: Reason, pool: Pool) -> list[Declaration]:
    return [
        Declaration(
            pool.canonical(node.path), owner, reason, int(node.mode, 8), device=(node.type, node.major, node.minor)
        )
        for node in nodes
    ]


def recipe_declarations(recipe: Recipe, part: str, sources: Mapping[str, bytes], pool: Pool) -> list[Declaration]:
    """Return the recipe's own files, links, units and secrets for one part.

    A table without `part` goes into the part named `part` only when the caller asks for its default part (""
    matches then). `sources` has the contents of `source` files by the recipe's spelling.
    """
    found = []
    for file in recipe.file:
        if file.part == part:
            data = (file.content or "").encode() if file.source is None else sources[file.source]
            path = pool.canonical(file.path)
            reason = Reason("recipe", "recipe", f"[[file]] {file.path}")
            found.append(Declaration(path, "recipe", reason, int(file.mode, 8), file.owner, file.group, data=data))
    for link in recipe.link:
        if link.part == part:
            reason = Reason("recipe", "recipe", f"[[link]] {link.path}")
            found.append(Declaration(pool.canonical(link.path), "recipe", reason, 0o777, target=link.target))
    nodes = [node for node in recipe.node if node.part == part]
    found += _nodes(nodes, "recipe", Reason("recipe", "recipe", "[[node]]"), pool)
    for unit in recipe.unit:
        if unit.part == part:
            data = (unit.content or "").encode() if unit.source is None else sources[unit.source]
            reason = Reason("recipe", "recipe", f"[[unit]] {unit.name}")
            found.append(Declaration(f"usr/lib/systemd/system/{unit.name}", "recipe", reason, data=data))
    settings = module_options(recipe.modprobe)
    if settings and not part:
        reason = Reason("recipe", "recipe", "[modprobe]")
        found.append(Declaration("etc/modprobe.d/preroot.conf", "recipe", reason, data=settings.encode()))
    for secret in recipe.secret:
        if secret.part == part:
            reason = Reason("recipe", "recipe", f"[[secret]] {secret.path}")
            mode = int(secret.mode, 8)
            path = pool.canonical(secret.path)
            found.append(Declaration(path, "recipe", reason, mode, secret.owner, secret.group, secret=secret.source))
    return found


def enablement(units: Iterable[tuple[str, str]], pool: Pool) -> list[Declaration]:
    """Return the links that enabling makes, from each unit's [Install] section (systemd.unit(5)).

    `units` are pairs of unit name and owner (`feature NAME` or `recipe`). A template is enabled under the
    instance given, or its DefaultInstance=. A unit that Also= names may be missing or without [Install], as for
    systemctl(1). Raises RecipeError for a unit that is nowhere or has no [Install], and for a template that is
    enabled without an instance.
    """
    found: dict[tuple[str, str], Declaration] = {}
    todo = [(name, owner, False) for name, owner in units]
    seen: set[tuple[str, str]] = set()
    while todo:
        name, owner, also = todo.pop(0)
        if (name, owner) in seen:
            continue
        seen.add((name, owner))
        path = find_unit(name, pool)
        unit = pool.learnt(pool.resolve(path).path or path) if path else None
        if path is None or not isinstance(unit, Unit):
            if also:
                continue
            raise RecipeError(f"{owner} enables {name}, which no package and no table of the recipe has")
        instance = _instance_name(name, _install_section(name, unit).get("DefaultInstance", []))
        install = _install_section(instance, unit)
        if "@." in instance and install.keys() & _LINKS.keys():
            if also:
                continue
            hint = f"for example {name.replace('@.', '@INSTANCE.')}"
            raise RecipeError(f"{owner} enables the template {name} without an instance", hint)
        kind, _, who = owner.partition(" ")
        reason = Reason("feature" if kind == "feature" else "recipe", who or kind, f"enables {name}")
        links = [f"etc/systemd/system/{alias}" for alias in install.get("Alias", [])]
        for key, suffix in _LINKS.items():
            links += [f"etc/systemd/system/{other}.{suffix}/{instance}" for other in install.get(key, [])]
        if not links and not install.get("Also") and not also:
            raise RecipeError(f"{owner} enables {name}, which has no [Install] section that says where")
        for link in links:
            found.setdefault((link, owner), Declaration(link, owner, reason, 0o777, target=f"/{path}"))
        todo += [(other, owner, True) for other in install.get("Also", [])]
    return list(found.values())


#: key of [Install] → suffix of the directory that has the link
_LINKS = {"WantedBy": "wants", "RequiredBy": "requires", "UpheldBy": "upholds"}


def is_installable(name: str, pool: Pool) -> bool:
    """Return whether a unit has an [Install] section at all: one without is started by others."""
    path = find_unit(name, pool)
    unit = pool.learnt(pool.resolve(path).path or path) if path else None
    return isinstance(unit, Unit) and any(section == "Install" for section, _, _ in unit.settings)


def _install_section(name: str, unit: Unit) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for section, key, value in unit.settings:
        if section != "Install":
            continue
        if not value:
            keys.pop(key, None)
        expanded = (expand(each, specifiers(name)) for each in value.split())
        keys.setdefault(key, []).extend(each for each in expanded if each is not None)
    return {key: values for key, values in keys.items() if values}


def _instance_name(name: str, default: Sequence[str]) -> str:
    stem, at, suffix = name.partition("@.")
    return f"{stem}@{default[0]}.{suffix}" if at and default else name


def digest(data: bytes) -> str:
    """Return the SHA-256 of `data`, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()
