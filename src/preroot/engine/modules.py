# SPDX-License-Identifier: LGPL-2.1-or-later
"""The part `modules`: the kernel modules that the image needs, decompressed and indexed, and their kernel's facts."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct, structs

from preroot.engine.contents import PackageContents
from preroot.engine.firmware import plan_firmware
from preroot.engine.local import EXTRA
from preroot.engine.locking import Locked
from preroot.errors import BuildError
from preroot.facts.kernel import kernel_version_from_path, module_name, parse_builtin_firmware, parse_config
from preroot.facts.options import refuses_unsigned
from preroot.packages.learn.modinfo import decompress_module, is_module, is_signed, module_codec
from preroot.packages.model import ModuleInfo
from preroot.progress import Reporter
from preroot.recipe.conditions import Chosen
from preroot.recipe.schema import Recipe
from preroot.run import tool_version
from preroot.tree.build import build_tree, package_entry
from preroot.tree.closure.model import EMPTY_CLOSURE
from preroot.tree.closure.walk import is_excluded
from preroot.tree.declare import digest
from preroot.tree.depmod import BuiltinLists, ModuleFile, depmod_key, run_depmod
from preroot.tree.firmware import askings
from preroot.tree.kernel import KernelFiles
from preroot.tree.model import BytesContent, Entry, KernelPlan, LeftOut, ObjectContent, Reason, StoreContent, Tree
from preroot.tree.modules import (
    ModuleRequest,
    ModuleSelection,
    ModuleWorld,
    check_vermagic,
    make_world,
    missing_error,
    select_modules,
)
from preroot.tree.options import check_builtin, check_options, option_wishes, without_list
from preroot.tree.plan import module_requests
from preroot.tree.pool import PoolFile
from preroot.tree.users import NO_NAMES


class PlannedModules(Struct, frozen=True):
    """The part's tree, and what was decided on the way."""

    tree: Tree
    kernel: KernelPlan
    left_out: tuple[LeftOut, ...]
    #: tools that shaped its bytes: name → version
    tools: dict[str, str]
    warnings: tuple[str, ...] = ()


class ModulesPlanner:
    """Plans the part `modules` of one recipe for one kernel."""

    def __init__(
        self, recipe: Recipe, locked: Locked, kernel: KernelFiles, contents: PackageContents, reporter: Reporter
    ) -> None:
        self.recipe = recipe
        self.locked = locked
        self.kernel = kernel
        self.contents = contents
        self.pool = contents.pool
        self.store = contents.store
        self.reporter = reporter
        self.tools: dict[str, str] = {}
        self.config = parse_config(contents.optional(kernel.config).decode("utf-8", "replace"))

    def plan(self) -> PlannedModules:
        """Select the kernel's modules, index them, and make the tree.

        Raises BuildError for modules that are asked for and can't go in.
        """
        kernel = self.kernel
        builtin, builtin_modinfo = (
            self.contents.optional(kernel.builtin),
            self.contents.optional(kernel.builtin_modinfo),
        )
        monolithic = self.recipe.kernel.monolithic
        infos = {} if monolithic else self._module_infos(kernel)
        world = make_world(kernel.version, infos.items(), builtin.decode(), builtin_modinfo)
        if not kernel.builtin:
            world = structs.replace(world, builtin=without_list(self.config, world.paths))
        chosen = [feature for features in self.locked.chosen.values() for feature in features]
        extra = self._extra()
        wishes = [*module_requests(chosen, self.recipe), *extra]
        patterns = [self.pool.canonical(each) for each in self.recipe.exclude]
        excluded = [name for name, path in world.paths.items() if patterns and is_excluded([path], patterns)]
        selection = select_modules(world, wishes, (*self.recipe.kernel.leave_out_modules, *excluded))
        warnings: tuple[str, ...] = ()
        if monolithic:
            warnings = check_builtin(kernel.version, self.config, selection.missing, listed=bool(kernel.builtin))
        elif selection.missing:
            raise missing_error(world, selection.missing, self._elsewhere(selection.missing[0].spec))
        check_vermagic(world, selection.modules)
        warnings += self._check_config(chosen, selection.modules)
        whole = self._decompressed(selection.modules.values())
        warnings += self._unsigned(selection.modules.values(), whole)
        lists = BuiltinLists(self.contents.optional(kernel.order), builtin, builtin_modinfo)
        entries = [self._module_entry(name, path, selection, whole[path]) for name, path in selection.modules.items()]
        if not monolithic:
            entries += self._module_indexes(kernel.version, entries, lists)
        plan = self._kernel_plan(kernel, world, selection, whole, entries)
        places = {name: f"{kernel.modules_directory}/{below}" for name, below in world.builtin.items()} | plan.modules
        drivers = askings(
            selection, wishes, self.locked.drivers, parse_builtin_firmware(builtin_modinfo), places
        )  # fmt: skip
        firmware = plan_firmware(drivers, self.recipe, self.locked, kernel.version, self.contents)
        tree = build_tree(EMPTY_CLOSURE, (), [*entries, *firmware.entries], self.pool, NO_NAMES)
        left_out = (*selection.left_out, *firmware.left_out)
        return PlannedModules(tree, plan, left_out, self.tools, (*warnings, *firmware.warnings))

    def _check_config(self, chosen: Iterable[Chosen], modules: Collection[str]) -> tuple[str, ...]:
        """Return warnings about the kernel's configuration, given the modules of the image.

        Raises BuildError for options that the image can't do without.
        """
        version = self.kernel.version
        if not self.config:
            self.reporter.note(f"kernel {version} has no configuration among its files: what the image relies on can't "
                               "be checked")  # fmt: skip
            return ()
        return check_options(version, self.config, option_wishes(chosen, has_modules=bool(modules)), modules)

    def _extra(self) -> list[ModuleRequest]:
        """Return the wishes for the recipe's extra modules. Raises BuildError where they are for another kernel."""
        version, wishes = self.kernel.version, []
        for package, index in self.locked.local.packages:
            if package.name != EXTRA:
                continue
            if package.version != version:
                raise BuildError(
                    f"the extra modules ({package.filename}) are built for kernel {package.version}, and the image is "
                    f"for {version}", "build them for that kernel, or choose the other one with --kernel",
                )  # fmt: skip
            names = sorted(module_name(file.path) for file in index.files)
            wishes += [ModuleRequest(name, "required", "kernel.extra-modules", kind="recipe") for name in names]
        return wishes

    def _elsewhere(self, spec: str) -> str:
        """Return a hint for a module that the packages have, but for other kernels than this one, else ''."""
        wanted = module_name(spec)
        of = (kernel_version_from_path(path) for path in self.pool.paths()
              if is_module(path) and module_name(path) == wanted)  # fmt: skip
        others = sorted({version for version in of if version and version != self.kernel.version})
        return f"the packages have it for kernel {', '.join(others)}" if others else ""

    def _unsigned(self, paths: Iterable[str], whole: Mapping[str, ModuleInfo]) -> tuple[str, ...]:
        """Return a warning about modules without a signature, where the kernel refuses those.

        What it only refuses under Secure Boot is not said of the kernel's own modules: who built them knows.
        """
        option, always = refuses_unsigned(self.config)
        own = f"{self.kernel.modules_directory}/kernel/"
        looked_at = [path for path in paths if option and (always or not path.startswith(own))]
        unsigned = [module_name(path) for path in looked_at if not is_signed(self._content(path, whole[path]))]
        if not unsigned:
            return ()
        when = "" if always else " under Secure Boot"
        return (f"kernel {self.kernel.version} loads no modules without a signature{when} (CONFIG_{option}), and these "
                f"have none: {', '.join(unsigned)}",)  # fmt: skip

    def _content(self, path: str, info: ModuleInfo) -> bytes:
        """Return a module, decompressed."""
        kept = self.store.get_object(info.sha256) if module_codec(path) else None
        return decompress_module(path, self.contents.read(path)) if kept is None else kept

    def _module_infos(self, kernel: KernelFiles) -> dict[str, ModuleInfo]:
        """Return path → facts of all modules of the kernel, whichever packages they are in."""
        directories = kernel.modules_directory + "/"
        infos: dict[str, ModuleInfo] = {}
        packages = {found.package.sha256: found.package for found in map(self.contents.file, kernel.modules)}
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
            found = self.contents.file(path)
            by_package.setdefault(found.package.sha256, []).append(found)
        for files in by_package.values():
            index = self.pool.index(files[0].package)
            made = self.store.decompress_modules(index, [found.info.path for found in files], self.reporter)
            whole.update({found.path: made[found.info.path] for found in files})
        return whole

    def _module_entry(self, name: str, path: str, selection: ModuleSelection, info: ModuleInfo) -> Entry:
        found = self.contents.file(path)
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

        # a part that is there on request comes after the root, and loads no modules
        text = any(spec.flavour == "busybox" for spec in self.locked.specs if not spec.kind.on_request)
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
        image = self.contents.file(kernel.image) if kernel.image else None
        owners = {entry.owner for entry in entries if entry.owner != "preroot"}
        if image is not None:
            owners.add(image.package.owner)
        return KernelPlan(
            version=kernel.version,
            packages=tuple(sorted(owners)),
            modules={name: entry.path for name, entry in zip(selection.modules, entries, strict=False)},
            info={name: whole[path] for name, path in selection.modules.items()},
            builtin=tuple(sorted(world.builtin)),
            config=self.config,
            image=package_entry(image.path, (Reason("feature", "preroot", "the kernel"),), self.pool)
            if image
            else None,
        )


def _module_path(path: str) -> str:
    """Return the path in the image of a module that its package has at `path`: modules are decompressed there."""
    return path.rpartition(".")[0] if module_codec(path) else path
