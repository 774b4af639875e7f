# SPDX-License-Identifier: LGPL-2.1-or-later
"""One part, planned: its features' entry points closed over the packages, checked, and made a tree. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from preroot.errors import BuildError
from preroot.facts.arch import Arch
from preroot.packages.learn import CRYPTTAB
from preroot.recipe.conditions import Chosen
from preroot.recipe.libraries import NO_LIBRARIES, Libraries
from preroot.recipe.schema import Exception_, Flavour, Group, Recipe, User
from preroot.recipe.template import render, template_values
from preroot.tree.build import build_tree
from preroot.tree.check import exception_problems, missing_problems, name_problems
from preroot.tree.closure.model import Closure, Request, World
from preroot.tree.closure.repart import repart_requests
from preroot.tree.closure.walk import close, is_excluded
from preroot.tree.cmdline import TABLE_PATH, cmdline_table, effective
from preroot.tree.declare import (
    Declaration,
    enablement,
    feature_declarations,
    is_installable,
    merged_usr,
    recipe_declarations,
)
from preroot.tree.entrypoints import feature_requests, recipe_requests
from preroot.tree.firmware import is_about_firmware
from preroot.tree.hooks import hook_declarations
from preroot.tree.model import LeftOut, Reason, Tree
from preroot.tree.modules import ModuleRequest
from preroot.tree.pool import Pool
from preroot.tree.users import (
    KnownNames,
    Names,
    allocate,
    merge_known,
    parse_group,
    parse_passwd,
    parse_sysusers,
    render_group,
    render_passwd,
    render_shadow,
)

#: Where base-passwd keeps the users and groups that its postinst writes into a new system.
PASSWD_MASTER = "usr/share/base-passwd/passwd.master"
GROUP_MASTER = "usr/share/base-passwd/group.master"
SYSUSERS = "usr/lib/sysusers.d/*.conf"


class PartInput(Struct, frozen=True):
    """Everything that decides about one part, gathered beforehand."""

    name: str
    flavour: Flavour
    chosen: tuple[Chosen, ...]
    recipe: Recipe
    #: the recipe's files without `part` go here
    is_default: bool
    arch: Arch
    #: links of a merged /usr
    merged: dict[str, str]
    #: directories that ld.so searches without a cache, canonical
    library_directories: tuple[str, ...]
    kernel_version: str
    #: contents of runtime/ by path below it
    runtime: dict[str, bytes]
    #: contents of the recipe's `source` files by the recipe's spelling
    sources: dict[str, bytes]
    #: contents of SYSUSERS and the master files by canonical path
    texts: dict[str, bytes]
    #: numbers from the lock
    users: dict[str, int]
    groups: dict[str, int]
    #: what is loaded without NEEDED
    libraries: Libraries = NO_LIBRARIES


class PlannedPart(Struct, frozen=True):
    """A part's tree, and what else was decided on the way."""

    tree: Tree
    names: Names
    left_out: tuple[LeftOut, ...]
    problems: tuple[str, ...]
    secret: bool


def plan_part(given: PartInput, packages: Pool) -> PlannedPart:
    """Plan one part. What is missing is in `problems`, one line each; nothing else is raised but RecipeError."""
    pool = packages.overlay()
    declarations = _declare(given, pool)
    world = _world(given, pool)
    requests: list[Request] = []
    for chosen in given.chosen:
        requests += feature_requests(chosen, pool, world, _fill(given, chosen))
    if given.is_default:
        requests += recipe_requests(given.recipe, pool)
    requests += _declared_requests(declarations)
    closure = close(requests, pool, world)
    names = _names(given, closure, declarations)
    problems = missing_problems(closure.missing, pool, world)
    problems += exception_problems(_exceptions(given), closure.used_exceptions)
    problems += name_problems(names, _askers(closure))
    problems += _crypttab_problems(given, declarations)
    declarations += _name_files(given, names)
    tree = Tree({})
    if not problems:
        try:
            kept = [each for each in declarations if not is_excluded((each.path,), world.exclude)]
            tree = build_tree(closure, kept, (), pool, names)
        except BuildError as error:
            problems.append(str(error))
    left_out = _only_real(closure.left_out, pool)
    return PlannedPart(tree, names, left_out, tuple(problems), any(each.secret or each.hidden for each in declarations))


def _crypttab_problems(given: PartInput, declarations: Iterable[Declaration]) -> list[str]:
    """Return what is wrong with a crypttab of the recipe or of a feature; one that is a secret is not read."""
    texts = [each.data for each in declarations if each.path == CRYPTTAB and each.data is not None]
    if not texts:
        return []
    from preroot.packages.learn.crypttab import crypttab_problems

    return [problem for text in texts for problem in crypttab_problems(text.decode("utf-8", "replace"), given.flavour)]


def _fill(given: PartInput, chosen: Chosen) -> Callable[[str], str]:
    values = template_values(given.recipe, chosen.options, given.kernel_version)

    def fill(text: str) -> str:
        return render(text, values, f"feature {chosen.name}") if "{{" in text else text

    return fill


def _declare(given: PartInput, pool: Pool) -> list[Declaration]:
    """Collect all declarations, and make them known to the pool; enablement needs the units among them."""
    declarations: list[Declaration] = []
    for chosen in given.chosen:
        declarations += feature_declarations(chosen, _fill(given, chosen), given.runtime, pool)
    declarations += _cmdline_declarations(given)
    declarations += hook_declarations(given.recipe, given.name, given.flavour, given.chosen, given.sources)
    if given.is_default:
        declarations += recipe_declarations(given.recipe, "", given.sources, pool)
    declarations += recipe_declarations(given.recipe, given.name, given.sources, pool)
    for declaration in declarations:
        pool.declare(declaration.path, declaration.declared())
    enabled = [
        (unit, f"feature {chosen.name}") for chosen in given.chosen for unit in chosen.content.take.enable
    ]  # fmt: skip
    if given.flavour == "systemd":
        enabled += [
            (unit.name, "recipe") for unit in given.recipe.unit
            if unit.enable and (unit.part == given.name or (given.is_default and not unit.part))
            and is_installable(unit.name, pool)
        ]  # fmt: skip
    links = enablement(enabled, pool)
    for link in links:
        pool.declare(link.path, link.declared())
    # The links of a merged /usr are not declared to the pool: its canonical paths have them followed already.
    return [*merged_usr(given.merged), *declarations, *links]


def _cmdline_declarations(given: PartInput) -> list[Declaration]:
    """Return the table by which the part translates its command line, where a feature has something to translate."""
    entries = [entry for chosen in given.chosen for entry in chosen.content.cmdline]
    changing = effective(entries, given.recipe.access.policy)
    if not changing:
        return []
    reason = Reason("generated", "preroot", "how the command line is translated")
    return [Declaration(TABLE_PATH, "preroot", reason, data=cmdline_table(changing).encode())]


def _exceptions(given: PartInput) -> list[tuple[Exception_, str]]:
    declared = [(each, f"feature {chosen.name}") for chosen in given.chosen for each in chosen.content.exceptions]
    if given.is_default:
        declared += [(each, "the recipe") for each in given.recipe.exceptions]
    return [each for each in declared if not is_about_firmware(each[0])]


def _world(given: PartInput, pool: Pool) -> World:
    contents = [chosen.content for chosen in given.chosen]
    wanted = (
        {unit for content in contents for unit in (*content.take.units, *content.take.wanted, *content.take.enable)}
        | {unit.name for unit in given.recipe.unit}
        | {hook.unit for hook in given.recipe.hook if hook.unit}
    )
    return World(
        arch=given.arch,
        library_directories=given.library_directories,
        wanted=frozenset(wanted),
        dlopen_features=frozenset(name for content in contents for name in content.take.dlopen),
        dlopen=(*given.libraries.dlopen, *(fact for content in contents for fact in content.dlopen)),
        families=given.libraries.families,
        refers=tuple(fact for content in contents for fact in content.refers),
        exceptions=tuple(exception for exception, _ in _exceptions(given)),
        exclude=tuple(pool.canonical(pattern) for pattern in given.recipe.exclude),
    )


def _declared_requests(declarations: Iterable[Declaration]) -> list[Request]:
    """Ask for each declared file and link, so that what they refer to comes along.

    The links of a merged /usr lead to directories.
    """
    asked = [each for each in declarations if each.reason.kind != "merged-usr" and not each.is_directory]
    requests = [Request("path", each.path, each.reason) for each in asked]
    return requests + [request for each in asked if each.data for request in repart_requests(each.path, each.data)]


def _known_names(given: PartInput) -> KnownNames:
    tables = [
        (chosen.content.user, chosen.content.group) for chosen in given.chosen
    ] + [(given.recipe.user, given.recipe.group)]  # fmt: skip
    own = KnownNames(
        {user.name: user for users, _ in tables for user in users},
        {user.name: Group(user.name, user.uid) for users, _ in tables for user in users if not user.group}
        | {group.name: group for _, groups in tables for group in groups},
    )
    texts = {path: data.decode("utf-8", "replace") for path, data in given.texts.items()}
    master = KnownNames(parse_passwd(texts.get(PASSWD_MASTER, "")), parse_group(texts.get(GROUP_MASTER, "")))
    sysusers = [parse_sysusers(text) for path, text in sorted(texts.items()) if path.endswith(".conf")]
    return merge_known([own, master, *sysusers])


def _names(given: PartInput, closure: Closure, declarations: Sequence[Declaration]) -> Names:
    users = {*closure.users, *(each.user for each in declarations), *(user.name for user in _own_users(given))}
    groups = {*closure.groups, *(each.group for each in declarations)}
    if given.is_default:
        groups |= {group.name for group in given.recipe.group}
    return allocate(
        [user for user in users if not user.isdigit()],
        [group for group in groups if not group.isdigit()],
        _known_names(given), given.users, given.groups,
    )  # fmt: skip


def _own_users(given: PartInput) -> Iterable[User]:
    yield from (user for chosen in given.chosen for user in chosen.content.user)
    yield from given.recipe.user if given.is_default else ()


def _askers(closure: Closure) -> dict[str, str]:
    asked = {**closure.users, **closure.groups}
    return {name: f"/{reasons[0].asker} ({reasons[0].detail})" for name, reasons in asked.items()}


def _name_files(given: PartInput, names: Names) -> list[Declaration]:
    reason = Reason("generated", "preroot", "users and groups that something asks for")
    access = given.recipe.access
    password = access.password_hash if access.policy == "password" else ""
    texts: Mapping[str, tuple[str, int]] = {
        "etc/passwd": (render_passwd(names), 0o644),
        "etc/group": (render_group(names), 0o644),
        "etc/shadow": (render_shadow(names, password), 0o600),
    }
    return [
        Declaration(path, "preroot", reason, mode, data=text.encode(), hidden=bool(password) and path == "etc/shadow")
        for path, (text, mode) in texts.items()
    ]


def _only_real(left_out: Iterable[LeftOut], pool: Pool) -> tuple[LeftOut, ...]:
    """Leave out of the list what no package has anyway, sorted."""
    real = [each for each in left_out if each.reason != "no package of the lock has it" or pool.exists(each.what)]
    return tuple(sorted(real, key=lambda each: (each.what, each.asker)))


def module_requests(chosen: Iterable[Chosen], recipe: Recipe) -> list[ModuleRequest]:
    """Return the wishes of features and recipe for kernel modules, under the recipe's module selection."""
    wishes = []
    selection = recipe.kernel.modules
    for feature in chosen:
        modules = feature.content.modules
        wishes += [ModuleRequest(spec, "required", feature.name) for spec in modules.required]
        for number, group in enumerate(modules.any_of):
            wishes += [ModuleRequest(spec, "any-of", feature.name, str(number)) for spec in group]
        optional = list(modules.if_present)
        if selection in {"virtual", "generic"}:
            optional += modules.virtual
        if selection == "generic":
            optional += modules.generic
        wishes += [ModuleRequest(spec, "if-present", feature.name) for spec in optional]
    wishes += [ModuleRequest(spec, "required", "the recipe", kind="recipe") for spec in recipe.kernel.add_modules]
    return wishes
