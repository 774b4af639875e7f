# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a lock to a plan: packages out of the store, kernel, modules, parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from preroot.engine.contents import PackageContents
from preroot.engine.hwdb import with_hwdb
from preroot.engine.local import KERNEL
from preroot.engine.locking import Locked
from preroot.engine.microcode import microcode_entries
from preroot.engine.modules import ModulesPlanner
from preroot.engine.parts import PartSpec
from preroot.engine.secrets import with_checked_secrets
from preroot.errors import BuildError
from preroot.facts.arch import arch
from preroot.packages.model import Lock, Package, PackageIndex
from preroot.packages.source import Source
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.recipe.load import LoadedRecipe
from preroot.recipe.schema import Kernel
from preroot.tree.below import put_below
from preroot.tree.build import build_tree, plain_keymaps, subtract, without_compression
from preroot.tree.closure.model import EMPTY_CLOSURE
from preroot.tree.kernel import KernelFiles, choose_kernel, find_kernels
from preroot.tree.licences import LicenceTexts, licence_texts, with_texts
from preroot.tree.model import KernelPlan, PartPlan, Plan, Tree
from preroot.tree.plan import GROUP_MASTER, PASSWD_MASTER, SYSUSERS, PartInput, PlannedPart, plan_part
from preroot.tree.pool import Pool
from preroot.tree.scripts import unknown_scripts
from preroot.tree.unexplained import Scan, scan
from preroot.tree.users import NO_NAMES


class Gathered(Struct, frozen=True):
    """What a plan is made from, besides recipe and lock: packages and the kernel among them."""

    pool: Pool
    kernel: KernelFiles | None
    merged: dict[str, str]
    library_directories: tuple[str, ...]


def unpacked(lock_packages: Sequence[Package], store: Store, source: Source, reporter: Reporter) -> list[PackageIndex]:
    """Return the index of each package, in their order; what the store lacks is fetched and unpacked."""
    indexes = {package.sha256: store.index(package) for package in lock_packages}
    lacking = [package for package in lock_packages if indexes[package.sha256] is None]
    if lacking:
        files = source.fetch(lacking, reporter)
        indexes.update(store.unpack_all(lacking, files, reporter))
    return [index for package in lock_packages if (index := indexes[package.sha256]) is not None]


def gather(locked: Locked, indexes: Sequence[PackageIndex], kernel: Kernel) -> Gathered:
    """Make the pool of the lock's packages and find the kernel in it. Raises BuildError where there is none."""
    merged = dict(locked.distribution.merged)
    pool = Pool([*locked.local.packages, *zip(locked.lock.packages, indexes, strict=True)], merged)
    kernels = find_kernels(pool.paths())
    version = kernel.version or next((each.version for each in locked.local.pins if each.name == KERNEL), "")
    hint = "without kernel.package, the package of that release is looked for" if kernel.package else ""
    chosen = choose_kernel(kernels, version, "the packages of the lock", hint)
    return Gathered(pool, chosen, merged, locked.distribution.library_directories)


def scan_plan(plan: Plan, locked: Locked, pool: Pool) -> Scan:
    """Return which strings in a plan's ELF files look like names of libraries and are not explained."""
    features = {each.name: each for group in locked.chosen.values() for each in group}
    entries = {path: entry for part in plan.parts for path, entry in part.tree.entries.items()}
    facts = [fact for feature in features.values() for fact in feature.content.dlopen]
    return scan(entries, pool, locked.libraries, facts)


class Planner:
    """Makes the plan of one recipe and lock."""

    def __init__(
        self, loaded: LoadedRecipe, locked: Locked, gathered: Gathered, *, store: Store, reporter: Reporter
    ) -> None:
        self.loaded = loaded
        self.recipe = loaded.recipe
        self.locked = locked
        self.gathered = gathered
        self.pool = gathered.pool
        self.store = store
        self.contents = PackageContents(gathered.pool, store)
        self.reporter = reporter
        self.tools: dict[str, str] = {}

    def plan(self) -> Plan:
        """Return the plan. Raises BuildError listing all that is missing, one line each."""
        kernel = self.gathered.kernel
        planned = {spec.name: self._plan_own(spec) for spec in self.locked.specs if spec.name in self.locked.chosen}
        problems = [line for part in planned.values() for line in part.problems]
        if problems:
            raise BuildError("\n".join(dict.fromkeys(problems)), "preroot plan --explain shows what asked for what")
        trees = self._placed({name: part.tree for name, part in planned.items()})
        left_out = [each for part in planned.values() for each in part.left_out]
        kernel_plan = None
        warnings: tuple[str, ...] = ()
        if kernel is not None:
            modules = ModulesPlanner(self.recipe, self.locked, kernel, self.contents, self.reporter).plan()
            kernel_plan = modules.kernel
            if modules.tree.entries:  # a kernel without modules has no such part
                trees["modules"] = modules.tree
            left_out += modules.left_out
            self.tools |= modules.tools
            warnings = modules.warnings
        trees["microcode"] = self._plan_microcode()
        parts = tuple(self._part(spec, trees) for spec in self.locked.specs if spec.name in trees)
        texts = self._licence_texts(parts, kernel_plan)
        if texts is not None and self.recipe.output.licences == "image":
            parts = with_texts(parts, texts.trees)
        plan = Plan(
            name=self.recipe.name, layout=self.recipe.layout, parts=parts, kernel=kernel_plan,
            lock=self._lock(planned.values()), cmdline=self.recipe.cmdline, left_out=tuple(left_out),
            warnings=(
                *self.locked.warnings, *warnings, *self._script_warnings(parts), *(texts.missing if texts else ()),
            ),
            licences=texts.whole if texts and self.recipe.output.licences == "sidecar" else Tree({}),
            secret=any(part.secret for part in planned.values()),
        )  # fmt: skip
        return with_checked_secrets(plan, self.loaded)

    def _placed(self, trees: dict[str, Tree]) -> dict[str, Tree]:
        """Return the trees with those that lie in a directory of the image put there."""
        below = {spec.name: spec.kind.below for spec in self.locked.specs if spec.kind.below}
        return {
            name: put_below(tree, below[name], trees["base"], self.pool) if name in below else tree
            for name, tree in trees.items()
        }

    def _licence_texts(self, parts: Iterable[PartPlan], kernel: KernelPlan | None) -> LicenceTexts | None:
        """Return the licence texts of the packages in the parts and of the kernel; None where none are asked for."""
        if self.recipe.output.licences == "none":
            return None
        image = kernel.image if kernel else None
        return licence_texts(parts, (image.owner,) if image else (), self.pool, self.contents.read)

    def _part(self, spec: PartSpec, trees: Mapping[str, Tree]) -> PartPlan:
        features = tuple(each.name for each in self.locked.chosen.get(spec.name, ()))
        tree = subtract(trees[spec.name], [trees[name] for name in spec.minus if name in trees])
        return PartPlan(
            spec.name, spec.flavour, tree, features, spec.format, spec.codec, spec.level, spec.minus, spec.placement,
            spec.budget,
        )  # fmt: skip

    def _lock(self, planned: Iterable[PlannedPart]) -> Lock:
        """Return the lock with the numbers that the image's users and groups have got, and the tools that ran."""
        lock = self.locked.lock
        users, groups = dict(lock.users), dict(lock.groups)
        for part in planned:
            users |= {name: user.uid for name, user in part.names.users.items() if user.uid is not None}
            groups |= {name: group.gid for name, group in part.names.groups.items() if group.gid is not None}
        return structs.replace(lock, users=users, groups=groups, tools=self.tools)

    def _script_warnings(self, parts: Iterable[PartPlan]) -> tuple[str, ...]:
        """Name the packages of the image whose scripts would have mattered and are not known."""
        # A directory says nothing: many packages have it.
        files = (entry for part in parts for entry in part.tree.entries.values() if entry.type != "directory")
        owners = {entry.owner for entry in files}
        mine = [(package, self.pool.index(package)) for package in self.pool.packages if package.owner in owners]
        known = dict(self.locked.distribution.scripts)
        for features in self.locked.chosen.values():
            known |= {fact.package: fact.reason for feature in features for fact in feature.content.script}
        return tuple(
            f"the {script} of package {name} was not run and is not known: what it does may be missing in the image "
            "(a feature's [[script]] says why it need not run)"
            for name, script in unknown_scripts(mine, known)
        )

    def _plan_own(self, spec: PartSpec) -> PlannedPart:
        """Plan a part that has features of its own."""
        first = next(name for name in self.locked.chosen)
        texts = {path: self.contents.read(path) for path in (*self.pool.glob(SYSUSERS), PASSWD_MASTER, GROUP_MASTER)
                 if self.pool.get(path) is not None}  # fmt: skip
        given = PartInput(
            name=spec.name,
            flavour=spec.flavour,
            chosen=self.locked.chosen[spec.name],
            recipe=self.recipe,
            is_default=spec.name == first,
            arch=arch(self.recipe.distribution.arch),
            merged=self.gathered.merged,
            library_directories=self.gathered.library_directories,
            kernel_version=self.gathered.kernel.version if self.gathered.kernel else "",
            runtime=self.locked.runtime,
            sources=self._sources(),
            texts=texts,
            users=self.locked.lock.users,
            groups=self.locked.lock.groups,
            libraries=self.locked.libraries,
        )
        planned = plan_part(given, self.pool)
        if planned.problems:
            return planned
        tree, tools = with_hwdb(
            self._with_plain_keymaps(planned.tree), self.locked.chosen[spec.name], self.recipe, self.contents
        )
        self.tools |= tools
        return structs.replace(planned, tree=tree)

    def _with_plain_keymaps(self, tree: Tree) -> Tree:
        """Return the tree with its keymaps decompressed: loadkeys would start sh and gzip for each (kbd 2.10 too)."""
        made = {}
        for path in plain_keymaps(tree, self.pool):
            if tree.entries[path].type == "symlink":
                made[path] = b""
            else:
                made[path] = self.contents.read_plain(path)
                self.store.put_object(made[path])
        return without_compression(tree, made)

    def _sources(self) -> dict[str, bytes]:
        """Read the files that the recipe's tables name; secrets are read only when the image is written."""
        files = [each.source for each in self.recipe.file]
        units = [*(each.source for each in self.recipe.unit), *(each.source for each in self.recipe.hook)]
        return {name: (self.loaded.base / name).read_bytes() for name in (*files, *units) if name is not None}

    def _plan_microcode(self) -> Tree:
        entries = microcode_entries(self.recipe, self.locked, self.contents)
        return build_tree(EMPTY_CLOSURE, (), entries, self.pool, NO_NAMES)
