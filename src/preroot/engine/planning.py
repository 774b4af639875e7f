# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a lock to a plan: packages out of the store, kernel, modules, parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, structs

from preroot.engine.locking import Locked
from preroot.engine.parts import PartSpec
from preroot.errors import BuildError
from preroot.facts.arch import arch
from preroot.facts.kernel import parse_config
from preroot.packages.codec import decompress
from preroot.packages.learn.modinfo import module_codec
from preroot.packages.model import Lock, ModuleInfo, Package, PackageIndex
from preroot.packages.source import Source
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.recipe.load import LoadedRecipe
from preroot.run import tool_version
from preroot.tree.build import build_tree, package_entry, plain_keymaps, subtract, without_compression
from preroot.tree.closure.model import Closure
from preroot.tree.closure.walk import is_excluded
from preroot.tree.declare import digest
from preroot.tree.depmod import BuiltinLists, ModuleFile, depmod_key, run_depmod
from preroot.tree.kernel import KernelFiles, choose_kernel, find_kernels
from preroot.tree.microcode import microcode_entries
from preroot.tree.model import (
    BytesContent,
    Entry,
    KernelPlan,
    LeftOut,
    ObjectContent,
    PartPlan,
    Plan,
    Reason,
    StoreContent,
    Tree,
)
from preroot.tree.modules import ModuleSelection, ModuleWorld, make_world, missing_error, select_modules
from preroot.tree.plan import GROUP_MASTER, PASSWD_MASTER, SYSUSERS, PartInput, PlannedPart, module_requests, plan_part
from preroot.tree.pool import Pool, PoolFile
from preroot.tree.scripts import unknown_scripts
from preroot.tree.users import Names

#: compression of firmware files by their suffix
_CODECS = {".xz": "xz", ".zst": "zst", ".gz": "gz"}
#: More than any vendor's microcode; a larger file is none.
_MAX_FIRMWARE = 64 << 20
_EMPTY = Closure({}, {}, {}, {}, (), (), ())


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


def gather(locked: Locked, indexes: Sequence[PackageIndex], version: str) -> Gathered:
    """Make the pool of the lock's packages and find the kernel in it. Raises BuildError where there is none."""
    merged = dict(locked.distribution.merged)
    pool = Pool(list(zip(locked.lock.packages, indexes, strict=True)), merged)
    kernels = find_kernels(pool.paths())
    kernel = choose_kernel(kernels, version, "the packages of the lock")
    return Gathered(pool, kernel, merged, locked.distribution.library_directories)


class Planner:
    """Makes the plan of one recipe and lock."""

    def __init__(
        self, loaded: LoadedRecipe, locked: Locked, gathered: Gathered, *, store: Store, runtime: Mapping[str, bytes],
        reporter: Reporter,
    ) -> None:  # fmt: skip
        self.loaded = loaded
        self.recipe = loaded.recipe
        self.locked = locked
        self.gathered = gathered
        self.pool = gathered.pool
        self.store = store
        self.runtime = dict(runtime)
        self.reporter = reporter
        self.tools: dict[str, str] = {}

    def plan(self) -> Plan:
        """Return the plan. Raises BuildError listing all that is missing, one line each."""
        kernel = self.gathered.kernel
        planned = {spec.name: self._plan_own(spec) for spec in self.locked.specs if spec.name in self.locked.chosen}
        problems = [line for part in planned.values() for line in part.problems]
        if problems:
            raise BuildError("\n".join(dict.fromkeys(problems)), "preroot plan --explain shows what asked for what")
        trees = {name: part.tree for name, part in planned.items()}
        left_out = [each for part in planned.values() for each in part.left_out]
        kernel_plan = None
        if kernel is not None:
            trees["modules"], kernel_plan, more = self._plan_modules(kernel)
            left_out += more
        trees["microcode"] = self._plan_microcode()
        parts = tuple(self._part(spec, trees) for spec in self.locked.specs if spec.name in trees)
        return Plan(
            name=self.recipe.name, layout=self.recipe.layout, parts=parts, kernel=kernel_plan,
            lock=self._lock(planned.values()), cmdline=self.recipe.cmdline, left_out=tuple(left_out),
            warnings=self._script_warnings(parts),
            secret=any(part.secret for part in planned.values()),
        )  # fmt: skip

    def _part(self, spec: PartSpec, trees: Mapping[str, Tree]) -> PartPlan:
        features = tuple(each.name for each in self.locked.chosen.get(spec.name, ()))
        tree = subtract(trees[spec.name], [trees[name] for name in spec.minus if name in trees])
        return PartPlan(
            spec.name, spec.flavour, tree, features, spec.format, spec.codec, spec.level, spec.minus, spec.placement
        )

    def _lock(self, planned: Iterable[PlannedPart]) -> Lock:
        """Return the lock with the numbers that the image's users and groups have got."""
        lock = self.locked.lock
        users, groups = dict(lock.users), dict(lock.groups)
        for part in planned:
            users |= {name: user.uid for name, user in part.names.users.items() if user.uid is not None}
            groups |= {name: group.gid for name, group in part.names.groups.items() if group.gid is not None}
        return structs.replace(lock, users=users, groups=groups)

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
        texts = {path: self._read(path) for path in (*self.pool.glob(SYSUSERS), PASSWD_MASTER, GROUP_MASTER)
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
            runtime=self.runtime,
            sources=self._sources(),
            texts=texts,
            users=self.locked.lock.users,
            groups=self.locked.lock.groups,
        )
        planned = plan_part(given, self.pool)
        return structs.replace(planned, tree=self._with_plain_keymaps(planned.tree))

    def _with_plain_keymaps(self, tree: Tree) -> Tree:
        """Return the tree with its keymaps decompressed: loadkeys would start sh and gzip for each (kbd 2.10 too)."""
        made = {}
        for path in plain_keymaps(tree, self.pool):
            if tree.entries[path].type == "symlink":
                made[path] = b""
            else:
                made[path] = self._read_plain(path)
                self.store.put_object(made[path])
        return without_compression(tree, made)

    def _sources(self) -> dict[str, bytes]:
        """Read the files that the recipe's tables name; secrets are read only when the image is written."""
        files = [each.source for each in self.recipe.file]
        units = [each.source for each in self.recipe.unit]
        return {name: (self.loaded.base / name).read_bytes() for name in (*files, *units) if name is not None}

    def _read(self, path: str) -> bytes:
        """Return the content of a package's file by canonical path."""
        found = self._file(path)
        return self.store.read(found.package.sha256, found.info)

    def _file(self, path: str) -> PoolFile:
        found = self.pool.get(self.pool.resolve(path).path or path)
        if found is None:
            raise KeyError(path)
        return found

    def _optional(self, path: str) -> bytes:
        return self._read(path) if path else b""

    def _plan_microcode(self) -> Tree:
        wished = self.recipe.microcode.vendors
        entries = microcode_entries(wished, self.pool, self._read_plain, self.locked.distribution.arch)
        return build_tree(_EMPTY, (), entries, self.pool, Names({}, {}, (), ()))

    def _read_plain(self, path: str) -> bytes:
        """Return the content of a package's file, decompressed where its name says that it is compressed."""
        data = self._read(path)
        codec = _CODECS.get(Path(path).suffix)
        return decompress(data, codec, limit=_MAX_FIRMWARE) if codec else data

    def _plan_modules(self, kernel: KernelFiles) -> tuple[Tree, KernelPlan, tuple[LeftOut, ...]]:
        """Select the kernel's modules, index them, and make the tree of part `modules`."""
        builtin, builtin_modinfo = self._optional(kernel.builtin), self._optional(kernel.builtin_modinfo)
        infos = self._module_infos(kernel)
        world = make_world(kernel.version, infos.items(), builtin.decode(), builtin_modinfo)
        chosen = [feature for features in self.locked.chosen.values() for feature in features]
        wishes = module_requests(chosen, self.recipe)
        patterns = [self.pool.canonical(each) for each in self.recipe.exclude]
        excluded = [name for name, path in world.paths.items() if patterns and is_excluded([path], patterns)]
        selection = select_modules(world, wishes, (*self.recipe.kernel.leave_out_modules, *excluded))
        if selection.missing:
            raise missing_error(world, selection.missing)
        whole = self._decompressed(selection.modules.values())
        lists = BuiltinLists(self._optional(kernel.order), builtin, builtin_modinfo)
        entries = [self._module_entry(name, path, selection, whole[path]) for name, path in selection.modules.items()]
        entries += self._module_indexes(kernel.version, entries, lists)
        tree = build_tree(_EMPTY, (), entries, self.pool, Names({}, {}, (), ()))
        return tree, self._kernel_plan(kernel, world, selection, whole, entries), selection.left_out

    def _module_infos(self, kernel: KernelFiles) -> dict[str, ModuleInfo]:
        """Return path → facts of all modules of the kernel, whichever packages they are in."""
        directories = kernel.modules_directory + "/"
        infos: dict[str, ModuleInfo] = {}
        packages = {found.package.sha256: found.package for found in map(self._file, kernel.modules)}
        for package in packages.values():
            for path, info in self.store.modules(self.pool.index(package), self.reporter).items():
                canonical = self.pool.canonical(path)
                if canonical.startswith(directories):
                    infos[canonical] = info
        return infos

    def _decompressed(self, paths: Iterable[str]) -> dict[str, ModuleInfo]:
        """Return path → facts with digest and size of the decompressed modules, which are then in the store."""
        whole: dict[str, ModuleInfo] = {}
        by_package: dict[str, list[PoolFile]] = {}
        for path in paths:
            found = self._file(path)
            by_package.setdefault(found.package.sha256, []).append(found)
        for files in by_package.values():
            index = self.pool.index(files[0].package)
            made = self.store.decompress_modules(index, [found.info.path for found in files], self.reporter)
            whole.update({found.path: made[found.info.path] for found in files})
        return whole

    def _module_entry(self, name: str, path: str, selection: ModuleSelection, info: ModuleInfo) -> Entry:
        found = self._file(path)
        codec = module_codec(path)
        target = _module_path(path)
        content = ObjectContent(info.sha256) if codec else StoreContent(found.package.sha256, found.info.offset)
        changes = (f"decompressed {codec}",) if codec else ()
        return Entry(
            target, "file", found.info.mode, 0, 0, found.package.owner,
            tuple(structs.replace(each, asker=_module_path(each.asker)) for each in selection.reasons[name]),
            size=info.size, sha256=info.sha256, content=content, changes=changes,
        )  # fmt: skip

    def _module_indexes(self, version: str, entries: Sequence[Entry], lists: BuiltinLists) -> list[Entry]:
        """Return modules.dep and its kin for the modules of the image; kept, because depmod is a program to start."""
        import msgspec

        text = any(spec.flavour == "busybox" for spec in self.locked.specs)
        self.tools["kmod"] = tool_version("depmod")
        files = [ModuleFile(entry.path, self._on_disk(entry), entry.sha256) for entry in entries]
        key = depmod_key(version, files, lists, text=text, tool=self.tools["kmod"])
        kept = self.store.recall(key)
        if kept is None:
            made = run_depmod(version, files, lists, text=text, reporter=self.reporter)
            self.store.remember(key, msgspec.msgpack.encode(made))
        else:
            made = msgspec.msgpack.decode(kept, type=dict[str, bytes])
        reason = (Reason("generated", "preroot", "by depmod, for the modules of the image"),)
        return [
            Entry(path, "file", 0o644, 0, 0, "preroot", reason, len(data), digest(data), content=BytesContent(data))
            for path, data in made.items()
        ]

    def _on_disk(self, entry: Entry) -> Path:
        """Return a file with a module's content; an uncompressed one is put among the store's objects for it."""
        if isinstance(entry.content, StoreContent):
            data = self.store.read_at(entry.content.package, entry.content.offset, entry.size, entry.sha256)
            self.store.put_object(data)
        return self.store.object_path(entry.sha256)

    def _kernel_plan(
        self, kernel: KernelFiles, world: ModuleWorld, selection: ModuleSelection, whole: Mapping[str, ModuleInfo],
        entries: Sequence[Entry],
    ) -> KernelPlan:  # fmt: skip
        image = self._file(kernel.image) if kernel.image else None
        owners = {entry.owner for entry in entries if entry.owner != "preroot"}
        if image is not None:
            owners.add(image.package.owner)
        config = self._optional(kernel.config)
        return KernelPlan(
            version=kernel.version,
            packages=tuple(sorted(owners)),
            modules={name: entry.path for name, entry in zip(selection.modules, entries, strict=False)},
            info={name: whole[path] for name, path in selection.modules.items()},
            builtin=tuple(sorted(world.builtin)),
            config=parse_config(config.decode("utf-8", "replace")),
            image=package_entry(image.path, (Reason("feature", "preroot", "the kernel"),), self.pool)
            if image
            else None,
        )


def _module_path(path: str) -> str:
    """Return the path in the image of a module that its package has at `path`: modules are decompressed there."""
    return path.rpartition(".")[0] if module_codec(path) else path
