# SPDX-License-Identifier: LGPL-2.1-or-later
"""The engine's side of preparing disks: the preparation machine's image, and the trees of roots that go onto them."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from preroot.boot.disks import DiskRecipe, Volume, make_disk
from preroot.boot.preparation import PreparationMachine, Prepared, prepare
from preroot.boot.realroot import proof_entries
from preroot.boot.rootfs import tiny_root
from preroot.boot.scenariofile import DiskSet
from preroot.boot.stage import DiskEntry, digest, entries_of
from preroot.engine import Engine
from preroot.engine.keptlock import static_busybox
from preroot.engine.realroot import DEBIAN_ROOT
from preroot.recipe.schema import Distribution

#: the word that only roots of scenarios hold
IDENTITY = "preroot-scenario"
#: MiB of the disk that a whole system's tree lies on
_SYSTEM_SIZE = 1536


class Preparer:
    """Makes disks. `session` is the directory of one run, with the machine's image and logs; workers may share it."""

    def __init__(self, engine: Engine, session: Path) -> None:
        self.engine = engine
        self.session = session
        self.cache = engine.workspace.boot

    def machine(self) -> PreparationMachine:
        """Return the preparation machine, built once a run."""
        output = self.session / "preparation"
        with alone(self.session / "preparation.lock"):
            if not (output / "done").exists():
                self.engine.build(self.engine.load("preparation"), output, lock=self.session / "preparation.lock.toml")
                (output / "done").touch()
        return PreparationMachine(output / "preparation.vmlinuz", output / "preparation.initrd")

    def prepare(self, disks: DiskSet, distribution: Distribution) -> Prepared:
        """Return a set of disks, from the cache or made now; errors: preparation.prepare."""
        tree, content = self._tree(disks, distribution)
        return prepare(
            disks.script, disks.size, self.machine(), tree=tree, tree_name=content, cache=self.cache / "prepared",
            logs=self.session / "logs", boot_cache=self.cache, tpm=disks.tpm,
        )  # fmt: skip

    def _tree(self, disks: DiskSet, distribution: Distribution) -> tuple[Path | None, str]:
        """Return a disk with the root's tree on it, and what names its content."""
        if not disks.root:
            return None, ""
        engine = self.engine
        if disks.root == "tiny":
            busybox = static_busybox(distribution, workspace=engine.workspace, store=engine.store,
                                     source=engine.source(distribution), reporter=engine.reporter)  # fmt: skip
            tiny = tuple(entries_of(tiny_root(busybox, IDENTITY)))
            content, size = digest(tiny), 0

            def entries() -> Iterable[DiskEntry]:
                return tiny

        else:
            packages = (*DEBIAN_ROOT, *disks.packages)
            # named by what it is made from: to read all of a system for its digest would take seconds each time
            proof = digest(proof_entries(IDENTITY, disks.device))
            made_from = (packages, distribution.release, distribution.arch, proof)
            content, size = hashlib.sha256(repr(made_from).encode()).hexdigest(), _SYSTEM_SIZE

            def entries() -> Iterable[DiskEntry]:
                return engine.distribution_root(
                    distribution, identity=IDENTITY, root_device=disks.device, packages=packages
                )  # fmt: skip

        with alone(self.session / f"tree-{content[:16]}.lock"):
            recipe = DiskRecipe((Volume("ext4", content, size=size),))
            return make_disk(recipe, {content: entries}, self.cache / "disks"), content


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold a lock while something shared is made: workers of one run need the same images."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
