# SPDX-License-Identifier: LGPL-2.1-or-later
"""recipe → facts → lock → plan → tree → image → proof: the public API that command line, tests and others call.

>>> engine = Engine()
>>> loaded = engine.load(Path("my.toml"))
>>> result = engine.build(loaded, Path("out"))
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from msgspec import structs

from preroot.cache import default_cache
from preroot.engine.building import BuildResult, make_directory, output_names, write_outputs
from preroot.engine.locking import Chooser, Locked, common_lock, find_lock, lock_path
from preroot.engine.pinning import brought_up_to_date, changes, refuse, tool_changes
from preroot.engine.planning import Planner, gather, unpacked
from preroot.engine.workspace import Workspace, runtime_directories
from preroot.errors import BuildError, RecipeError
from preroot.image.compress import codec_tools
from preroot.packages.lock import lock_diff, write_lock
from preroot.packages.model import Lock
from preroot.packages.source import Source, open_source
from preroot.packages.store import GcResult, Store
from preroot.progress import Reporter, Silent
from preroot.recipe.load import NO_OVERRIDES, LoadedRecipe, Overrides, load_recipe
from preroot.tree.model import Plan

if TYPE_CHECKING:
    from preroot.engine.proving import BootOptions, BuiltImage, Proof
    from preroot.packages.model import Lock
    from preroot.recipe.schema import Distribution

__all__ = ["BuildResult", "Engine", "LockChange", "Overrides", "Workspace", "default_workspace"]

#: (package, version before, version now); '' for one that was not there
LockChange = tuple[str, str, str]


def default_workspace() -> Workspace:
    """Return the workspace of this user: the default cache directory and search path."""
    return Workspace(default_cache())


class Engine:
    """Everything that preroot does, over one workspace. A context manager: it holds files of the store open.

    Arguments: the workspace (None: this user's), who is told of progress (None: nobody), and a source to take
    packages from instead of the one that a recipe names.
    """

    def __init__(
        self, workspace: Workspace | None = None, reporter: Reporter | None = None, source: Source | None = None
    ) -> None:
        self.workspace = workspace or default_workspace()
        self.reporter: Reporter = reporter or Silent()
        self.store = Store(self.workspace.store)
        self._source = source
        #: files that the last plan was made from, for the nothing-changed check
        self.consulted: tuple[Path, ...] = ()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.store.close()

    def load(self, path: Path | None = None, overrides: Overrides = NO_OVERRIDES) -> LoadedRecipe:
        """Return the recipe `path` (a file or a name; None: the built-in one) with what the command line sets.

        Raises RecipeError naming file and line.
        """
        return load_recipe(path, overrides, self.workspace.search)

    def source(self, loaded: LoadedRecipe, chooser: Chooser) -> Source:
        """Return the source that the recipe's packages come from."""
        if self._source is not None:
            return self._source
        info = chooser.distribution
        return open_source(
            loaded.recipe.distribution, default_suites=info.suites, keyring_candidates=info.keyrings,
            cache=self.workspace.cache,
        )  # fmt: skip

    def lock(
        self, loaded: LoadedRecipe, path: Path, *, update: bool = False, frozen: bool = False
    ) -> tuple[Locked, tuple[LockChange, ...]]:
        """Return the recipe with a lock that fits it, and what changed in the lock at `path`.

        The packages of a lock that fits are used as they are; what else it pins is brought up to date where preroot
        or its features have changed since. One that does not fit keeps the versions of the packages that it has; with
        `update` all are resolved anew. `frozen`: nothing is resolved or written, BuildError where that is needed.
        """
        chooser = Chooser(loaded, self.workspace.search)
        try:
            old = find_lock(path)
        except RecipeError:
            if not update:
                raise
            old = None  # --update is the way out of a damaged one
        reason = f"there is no lock at {path}" if old is None else chooser.misfit(old)
        if old is not None and reason is None and not update:
            return self._fitting(chooser.locked(old), path, frozen=frozen), ()
        if frozen:
            raise BuildError(f"--locked: {reason}", "preroot lock makes one")
        make_directory(path.parent)
        kept = None if update else old or self._common_lock(loaded, path)
        locked = chooser.resolve(self.source(loaded, chooser), kept, self.reporter)
        write_lock(path, locked.lock)
        return locked, tuple(lock_diff(old, locked.lock)) if old else ()

    def _fitting(self, locked: Locked, path: Path, *, frozen: bool) -> Locked:
        """Return a recipe whose lock fits, with what else the lock pins as it is now."""
        found = tuple(changes(locked.lock, locked.data))
        if frozen:
            refuse(found)
        if not found:
            return locked
        for change in found:
            self.reporter.note(f"{change}; the lock has been brought up to date")
        lock = brought_up_to_date(locked.lock, locked.data)
        write_lock(path, lock)
        return structs.replace(locked, lock=lock)

    def locked(self, loaded: LoadedRecipe, path: Path) -> Locked:
        """Return the recipe with the lock at `path`, or with a fresh, unwritten one where that does not fit."""
        chooser = Chooser(loaded, self.workspace.search)
        old = find_lock(path)
        if old is not None and chooser.misfit(old) is None:
            return chooser.locked(old)
        kept = old or self._common_lock(loaded, path)
        return chooser.resolve(self.source(loaded, chooser), kept, self.reporter)

    def _common_lock(self, loaded: LoadedRecipe, path: Path) -> Lock | None:
        common = common_lock(path, loaded)
        return find_lock(common) if common else None

    def plan(self, loaded: LoadedRecipe, locked: Locked) -> Plan:
        """Return every decision of the build. Raises BuildError with a line for each thing that is missing."""
        return self.planner(loaded, locked).plan()

    def planner(self, loaded: LoadedRecipe, locked: Locked) -> Planner:
        """Return the planner of a recipe: its packages are in the store afterwards."""
        if loaded.recipe.kernel.directory:
            raise RecipeError("kernel.directory: kernels from a directory can't be used yet", "use kernel.package")
        source = self.source(loaded, Chooser(loaded, self.workspace.search))
        indexes = unpacked(locked.lock.packages, self.store, source, self.reporter)
        gathered = gather(locked, indexes, loaded.recipe.kernel)
        return Planner(loaded, locked, gathered, store=self.store, reporter=self.reporter)

    def build(self, loaded: LoadedRecipe, output: Path, *, frozen: bool = False) -> BuildResult:
        """Build the recipe's image into `output`, with manifest, kernel and lock.

        Raises BuildError; whatever was in `output` then stays as it was.
        """
        make_directory(output)
        path = self.lock_path(loaded, output)
        locked, _ = self.lock(loaded, path, frozen=frozen)
        planner = self.planner(loaded, locked)
        plan = planner.plan()
        for warning in plan.warnings:
            self.reporter.warn(warning)
        threads = loaded.recipe.compression.threads
        # The manifest names the lock's digest, so what the lock is completed with comes first.
        tools = planner.tools | codec_tools(part.codec for part in plan.parts if part.tree.entries)
        self._check_tools(locked.lock, tools, frozen=frozen)
        plan = structs.replace(plan, lock=structs.replace(plan.lock, tools=tools))
        result = write_outputs(
            plan, output, self.store, name=loaded.output_name, tools=tools, threads=threads, reporter=self.reporter
        )
        if not frozen and plan.lock != locked.lock:
            write_lock(path, plan.lock)
        self.consulted = tuple(self._consulted(locked, path, result))
        return result

    def _check_tools(self, lock: Lock, tools: Mapping[str, str], *, frozen: bool) -> None:
        """Tell which tools have other versions than in the lock; raise BuildError for them if it is frozen."""
        found = tuple(tool_changes(lock, tools))
        if frozen:
            refuse(found)
            lacking = sorted(tools.keys() - lock.tools.keys())
            if lacking:
                self.reporter.note(
                    f"the lock names no version of {', '.join(lacking)}: a build without --locked adds it"
                )
        for change in found:
            self.reporter.note(f"{change}; the lock has been brought up to date")

    def boot(self, built: BuiltImage, options: BootOptions, distribution: Distribution | None = None) -> Proof:
        """Boot a built image (`proving.read_built`) against a root made for it, and return what was seen.

        `distribution` is the recipe's, where there is one; arguments and errors: `proving.prove_image`.
        """
        from preroot.engine.proving import prove_image

        return prove_image(
            built, options, workspace=self.workspace, store=self.store, reporter=self.reporter,
            distribution=distribution, source=self._source,
        )  # fmt: skip

    def clean(self, older_than: float) -> GcResult:
        """Remove from the cache what was not used for so many seconds. Raises BuildError when it can't be read."""
        from preroot.engine.upkeep import clean

        return clean(self.workspace, self.store, older_than)

    def lock_path(self, loaded: LoadedRecipe, output: Path) -> Path:
        """Return where the lock of a recipe lies."""
        return lock_path(loaded, output, self.workspace.search)

    def _consulted(self, locked: Locked, lock: Path, result: BuildResult) -> Iterable[Path]:
        yield from locked.files
        yield from runtime_directories(self.workspace.search)
        yield from (lock, *output_names(result.image.stem, result.image.parent).values())
