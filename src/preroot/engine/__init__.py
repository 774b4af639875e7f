# SPDX-License-Identifier: LGPL-2.1-or-later
"""recipe → facts → lock → plan → tree → image → proof: the public API that command line, tests and others call.

>>> with Engine() as engine:
...     recipe = engine.load("my.toml")
...     result = engine.build(recipe, Path("out"))

What `__all__` names is the API (docs/library.md); all else in preroot may change with any version. Nothing in it
prints, ends the process, changes its directory or its signal handlers, or keeps state outside its objects.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from msgspec import structs

from preroot.cache import default_cache
from preroot.engine.building import (
    BuildResult,
    check_outputs,
    codecs_of,
    make_directory,
    output_names,
    read_manifest,
    write_outputs,
)
from preroot.engine.checks import Check, Problem, checked
from preroot.engine.local import read_local
from preroot.engine.locking import Chooser, LockChange, Locked, common_lock, find_lock, lock_path
from preroot.engine.pinning import brought_up_to_date, changes, refuse, tool_changes, unpinned
from preroot.engine.planning import Gathered, Planner, gather, scan_plan, unpacked
from preroot.engine.workspace import Workspace, runtime_directories, source_of
from preroot.errors import BuildError, PrerootError, RecipeError
from preroot.image.compress import codec_tools
from preroot.image.content import ContentReader
from preroot.packages.lock import lock_diff, stage_lock, write_lock
from preroot.packages.model import Lock, Package, Resolution
from preroot.packages.source import Source
from preroot.packages.store import GcResult, Store
from preroot.progress import Reporter, Silent, Step
from preroot.recipe.distributions import DistributionInfo
from preroot.recipe.load import NO_OVERRIDES, LoadedRecipe, Overrides, load_data, load_recipe
from preroot.recipe.schema import Distribution, Recipe, SbomFormat
from preroot.staging import Staging
from preroot.tree.model import Entry, KernelPlan, PartPlan, Plan
from preroot.tree.unexplained import Scan, Unexplained
from preroot.unchanged import stamp

if TYPE_CHECKING:
    from preroot.boot.stage import DiskEntry
    from preroot.engine.proving import BootOptions, BuiltImage, Proof, read_built
    from preroot.engine.verifying import Verdict
    from preroot.packages.deb import read_package

#: Names that are imported when they are first used: name → module. Starting is a part of the figures.
_LATER = {
    "BootOptions": "preroot.engine.proving",
    "BuiltImage": "preroot.engine.proving",
    "Proof": "preroot.engine.proving",
    "read_built": "preroot.engine.proving",
    "Verdict": "preroot.engine.verifying",
    "read_package": "preroot.packages.deb",
}

__all__ = [
    "BootOptions", "BuildError", "BuildResult", "BuiltImage", "Check", "Distribution", "Engine", "Entry", "KernelPlan",
    "LoadedRecipe", "Lock", "LockChange", "Locked", "Overrides", "Package", "PartPlan", "Plan", "PrerootError",
    "Problem", "Proof", "Recipe", "RecipeError", "Reporter", "Resolution", "Scan", "Silent", "Source", "Step",
    "Unexplained", "Verdict", "Workspace", "default_workspace", "read_built", "read_manifest", "read_package",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LATER:
        return getattr(import_module(_LATER[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def default_workspace() -> Workspace:
    """Return the workspace of this user: the default cache directory and search path."""
    return Workspace(default_cache())


class Engine:
    """Everything that preroot does, over one workspace. A context manager: it holds files of the store open.

    Several engines may work in one workspace at once, in processes and in threads; so may one engine in several threads
    if what it was given may: reporter, source and checks.

    Arguments: the workspace (None: this user's), who is told of progress (None: nobody), a source to take packages
    from instead of the one that a recipe names, and checks, which see each plan before anything is written.
    """

    def __init__(
        self, workspace: Workspace | None = None, reporter: Reporter | None = None, source: Source | None = None, *,
        checks: Sequence[Check] = (),
    ) -> None:  # fmt: skip
        self.workspace = workspace or default_workspace()
        self.reporter: Reporter = reporter or Silent()
        self.store = Store(self.workspace.store)
        self.checks = tuple(checks)
        self._source = source

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()

    def load(
        self, recipe: str | PathLike[str] | Mapping[str, Any] | Recipe | None = None,
        overrides: Overrides = NO_OVERRIDES, *, base: Path | None = None,
    ) -> LoadedRecipe:  # fmt: skip
        """Return a recipe with what `overrides` set, over the layers of the search path.

        `recipe` is a file, the name of one in the search path, None for the built-in one, or data: a mapping as TOML
        would be read, or a Recipe, whose defaults count as not set. Relative paths in data start from `base` (None:
        the current directory). Raises RecipeError naming file and line, or the key.
        """
        if isinstance(recipe, Mapping | Recipe):
            return load_data(recipe, overrides, self.workspace.search, base)
        return load_recipe(None if recipe is None else Path(recipe), overrides, self.workspace.search)

    def source(self, distribution: Distribution, info: DistributionInfo | None = None) -> Source:
        """Return the source of a distribution's packages: the engine's own, or the one that the table asks for.

        `info` is what is known of the distribution, where that has been read. Raises RecipeError for an unknown one.
        """
        return self._source or source_of(distribution, self.workspace, info)

    def lock(
        self, loaded: LoadedRecipe, path: Path, *, update: bool = False, frozen: bool = False, write: bool = True
    ) -> Locked:
        """Return the recipe with a lock that fits it, and in `changes` what is other than in the lock at `path`.

        The packages of a lock that fits are used as they are; what else it pins is brought up to date where preroot
        or its features have changed since. One that does not fit keeps the versions of the packages that it has; with
        `update` all are resolved anew. What is new is written to `path` unless `write` is False. `frozen`: nothing is
        resolved or written, BuildError where that is needed.
        """
        self.store.presence.enter(make=not frozen)
        chooser = Chooser(loaded, self.workspace.search, read_local(loaded, self.store, self.reporter))
        try:
            old = find_lock(path)
        except RecipeError:
            if not update:
                raise
            old = None  # --update is the way out of a damaged one
        reason = f"there is no lock at {path}" if old is None else chooser.misfit(old)
        if old is not None and reason is None and not update:
            return self._fitting(chooser.locked(old), path, frozen=frozen, write=write)
        if frozen:
            raise BuildError(f"--locked: {reason}", "preroot lock makes one")
        if write:
            make_directory(path.parent)
        source = self.source(loaded.recipe.distribution, chooser.distribution)
        locked = chooser.resolve(source, None if update else old or self._common_lock(loaded, path), self.reporter)
        if write:
            with Staging() as staging:
                stage_lock(path, locked.lock, staging)
                other = staging.commit_unless(lambda: None if update else _written_meanwhile(path, old, chooser))
            if other is not None:
                return chooser.locked(other)
        return structs.replace(locked, changes=tuple(lock_diff(old, locked.lock))) if old else locked

    def _fitting(self, locked: Locked, path: Path, *, frozen: bool, write: bool) -> Locked:
        """Return a recipe whose lock fits, with what else the lock pins as it is now."""
        found = tuple(changes(locked.lock, locked.data, locked.local.pins))
        if frozen:
            refuse(found)
        lock = brought_up_to_date(locked.lock, locked.data, locked.local.pins)
        if frozen or not write or lock == locked.lock:
            return locked
        for change in found:
            self.reporter.note(f"{change}; the lock has been brought up to date")
        write_lock(path, lock)
        return structs.replace(locked, lock=lock)

    def _common_lock(self, loaded: LoadedRecipe, path: Path) -> Lock | None:
        common = common_lock(path, loaded)
        return find_lock(common) if common else None

    def plan(self, loaded: LoadedRecipe, locked: Locked) -> Plan:
        """Return every decision of the build; nothing is written but the store, which has the packages afterwards.

        Raises BuildError with a line for each thing that is missing, or that a check found.
        """
        gathered = self._gather(loaded, locked)
        plan = Planner(loaded, locked, gathered, store=self.store, reporter=self.reporter).plan()
        # The manifest names the lock's digest, so what the lock is completed with comes before anything is written.
        tools = plan.lock.tools | codec_tools(codecs_of(plan))
        return checked(structs.replace(plan, lock=structs.replace(plan.lock, tools=tools)), self.checks)

    def _gather(self, loaded: LoadedRecipe, locked: Locked) -> Gathered:
        source = self.source(loaded.recipe.distribution, locked.distribution)
        indexes = unpacked(locked.lock.packages, self.store, source, self.reporter)
        return gather(locked, indexes, loaded.recipe.kernel)

    def scan(self, loaded: LoadedRecipe, locked: Locked, plan: Plan) -> Scan:
        """Return which strings in the plan's ELF files look like names of libraries and are not explained.

        Such a string may be all that there is of a library that is loaded by name: docs/closure.md.
        """
        return scan_plan(plan, locked, self._gather(loaded, locked).pool)

    def read(self, entry: Entry) -> bytes:
        """Return the content of a file of a plan; that of a secret comes from the file that the recipe names.

        Raises BuildError where it can't be read any more.
        """
        return ContentReader(self.store).read(entry)

    def write(self, plan: Plan, output: Path, *, name: str = "", threads: int = 0) -> BuildResult:
        """Write image, manifest and kernel of a plan into the directory `output`; the lock (`plan.lock`) is not.

        The files are named after `name` ('': the recipe's name). `threads` is the number of compression threads (0:
        all processors); it decides no byte. Raises BuildError; whatever was in `output` then stays as it was.
        """
        with Staging() as staging:
            result = self._stage(plan, output, staging, name=name or plan.name, threads=threads)
            staging.commit()
        return structs.replace(result, written=staging.stamps)

    def _stage(
        self, plan: Plan, output: Path, staging: Staging, *, name: str, threads: int,
        sboms: Sequence[SbomFormat] = (),
    ) -> BuildResult:  # fmt: skip
        check_outputs(name, output)
        make = None
        if sboms:
            from preroot.engine.sbom import sboms_of_plan

            make = partial(sboms_of_plan, self, plan, output_names(name, output)["image"].name, sboms)
        return write_outputs(
            plan, output, self.store, staging, name=name, threads=threads, reporter=self.reporter, sboms=make
        )

    def build(
        self, loaded: LoadedRecipe, output: Path, *, lock: Path | None = None, frozen: bool = False
    ) -> BuildResult:
        """Build the recipe's image into the directory `output`, with manifest and kernel: `lock`, `plan` and `write`.

        The lock lies at `lock` (None: see `lock_path`); with `frozen` it is used as it is. Raises BuildError; whatever
        was in `output` then stays as it was.
        """
        check_outputs(loaded.output_name, output)
        path = lock or self.lock_path(loaded, output)
        before = {each: stamp(each) for each in (path, *runtime_directories(self.workspace.search))}
        locked = self.lock(loaded, path, frozen=frozen)
        plan = self.plan(loaded, locked)
        for warning in plan.warnings:
            self.reporter.warn(warning)
        self._check_tools(locked, plan.lock.tools, frozen=frozen)
        threads = loaded.recipe.compression.threads
        with Staging() as staging:
            result = self._stage(
                plan, output, staging, name=loaded.output_name, threads=threads, sboms=loaded.recipe.output.sbom
            )
            if not frozen:  # numbers of users, versions of tools
                stage_lock(path, plan.lock, staging)
            staging.commit()
        return structs.replace(result, consulted={**before, **locked.files}, written=staging.stamps)

    def _check_tools(self, locked: Locked, tools: Mapping[str, str], *, frozen: bool) -> None:
        """Tell which tools have other versions than in the lock; raise BuildError for them if it is frozen.

        What a frozen lock does not pin, tools or preroot's data, is told.
        """
        found = tuple(tool_changes(locked.lock, tools))
        if frozen:
            refuse(found)
            note = unpinned(locked.lock, (*tools, *locked.data))
            if note:
                self.reporter.note(note)
        for change in found:
            self.reporter.note(f"{change}; the lock has been brought up to date")

    def boot(
        self, image: Path, options: BootOptions | None = None, distribution: Distribution | None = None
    ) -> Proof:  # fmt: skip
        """Boot a built image, with kernel and manifest beside it, against a root made for it; return what was seen.

        `distribution` (None: the manifest's, from this host's mirror) says where the root's programs come from. A
        root that was not reached is no exception: see Proof.problems. Raises BuildError where no machine could be
        started or the image is not whole, RecipeError for a root that there is not.
        """
        from preroot.engine.proving import BootOptions, prove_image, read_built

        return prove_image(
            read_built(image), options or BootOptions(), workspace=self.workspace, store=self.store,
            reporter=self.reporter, distribution=distribution, source=self._source,
        )  # fmt: skip

    def distribution_root(
        self, distribution: Distribution, *, identity: str, root_device: str, packages: Sequence[str] = ()
    ) -> list[DiskEntry]:
        """Return the contents of a real root for boot tests: packages of a distribution with all that they need.

        `identity` and `root_device`: see boot.realroot; without `packages` it is a small system that a person would
        recognise. Raises BuildError where they can't be had.
        """
        from preroot.engine.realroot import DEBIAN_ROOT, distribution_root

        return distribution_root(
            distribution, packages or DEBIAN_ROOT, identity=identity, root_device=root_device,
            workspace=self.workspace, store=self.store, source=self.source(distribution), reporter=self.reporter,
        )  # fmt: skip

    def verify(self, image: Path, loaded: LoadedRecipe | None = None, lock: Path | None = None) -> Verdict:
        """Compare an image with the manifest beside it or, given a recipe, with one that is built anew from its lock.

        `lock` is another one than the recipe's. Errors: `verifying.verify_manifest`, `verifying.verify_rebuilt`.
        """
        from preroot.engine.verifying import verify_manifest, verify_rebuilt

        return verify_manifest(image) if loaded is None else verify_rebuilt(self, image, loaded, lock)

    def sbom(
        self, image: Path, form: SbomFormat, *, lock: Path | None = None, locations: Sequence[str] = ()
    ) -> bytes:  # fmt: skip
        """Return the SBOM of a built image, whose manifest lies beside it, as a document in a format.

        `lock` is the image's (None: one beside it), `locations` are public addresses of its repositories. Packages
        that the store lacks are fetched. Raises BuildError where the image is not what its manifest says, or the lock
        is another image's, RecipeError for an address that is none.
        """
        from preroot.engine.sbom import render, sbom_of

        return render(sbom_of(self, image, lock, locations), form)

    def clean(self, older_than: float) -> GcResult:
        """Remove from the cache what was not used for so many seconds. Raises BuildError when it can't be read."""
        from preroot.engine.upkeep import clean

        return clean(self.workspace, self.store, older_than)

    def lock_path(self, loaded: LoadedRecipe, output: Path) -> Path:
        """Return where the lock of a recipe lies that is built into `output`.

        Beside the recipe and named like it; in `output` for a recipe that is data, or came with preroot or the system.
        """
        return lock_path(loaded, output, self.workspace.search)


def _written_meanwhile(path: Path, old: Lock | None, chooser: Chooser) -> Lock | None:
    """Return the lock that another build has written for the same recipe while this one resolved, if it fits."""
    try:
        found = find_lock(path)
    except RecipeError:
        return None
    return found if found is not None and found != old and chooser.misfit(found) is None else None
