# SPDX-License-Identifier: LGPL-2.1-or-later
"""From an image to a proof: a root of the kind asked for, a machine, and what was seen on its console."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct, structs

from preroot.boot.disks import Content, DiskRecipe, Volume, make_disk, part_uuid, volume_uuid
from preroot.boot.filesystems import KINDS, FsType
from preroot.boot.machine import DiskSpec
from preroot.boot.platforms import Bus
from preroot.boot.realroot import SystemReport, read_system_report, system_problems
from preroot.boot.rootfs import tiny_root
from preroot.boot.scenario import BootResult, Expect, Scenario, run_scenario
from preroot.boot.stage import DiskEntry, digest, entries_of
from preroot.engine.building import output_names, read_manifest
from preroot.engine.keptlock import static_busybox
from preroot.engine.workspace import Workspace, source_of
from preroot.errors import BuildError, RecipeError, nearest
from preroot.facts.arch import arch
from preroot.image.manifest import Manifest
from preroot.packages.source import Source
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.recipe.schema import Distribution

#: the word that only the root of `preroot boot` holds
_IDENTITY = "preroot-boot"
#: Roots that are a whole distribution instead of a tiny root: name → the file system that it lies on.
REAL_ROOTS: dict[str, FsType] = {"debian": "ext4"}
#: vfat has no links, so no root can be on it
TINY_ROOTS: tuple[FsType, ...] = ("ext4", "xfs", "btrfs", "squashfs", "erofs")
#: seconds after which a run's logs are removed by a later run
_KEEP_RUNS = 7 * 24 * 3600
#: options of a recipe's own command line that the test's root takes the place of
_ROOT_OPTIONS = ("root=", "rootfstype=", "rootflags=", "ro", "rw")


class BuiltImage(Struct, frozen=True):
    """An image on disk that can be booted: it, the kernel and the manifest beside it."""

    image: Path
    kernel: Path
    manifest: Manifest


class BootOptions(Struct, frozen=True):
    """How an image is booted. `timeout` in seconds of this host, `memory` in MiB."""

    #: one of TINY_ROOTS or REAL_ROOTS
    root: str = "ext4"
    bus: Bus = "virtio"
    timeout: float = 180
    memory: int = 1024
    #: added to the command line, after everything else
    cmdline: str = ""


class Proof(Struct, frozen=True):
    """What a boot came to; `system` is what a whole distribution said of itself."""

    result: BootResult
    system: SystemReport | None
    cmdline: str

    @property
    def problems(self) -> tuple[str, ...]:
        """Return what was not as expected, one line each; empty: proven."""
        if self.system is None or not self.result.reached:
            return self.result.problems
        return (*self.result.problems, *system_problems(self.system))


def read_built(image: Path) -> BuiltImage:
    """Return the built image at `image`, with the kernel and the manifest that a build puts beside it.

    Raises BuildError where one of them is missing, or the manifest is of another image or kernel.
    """
    names = output_names(image.stem, image.parent)
    for name in ("image", "manifest", "kernel"):
        path = image if name == "image" else names[name]
        if not path.is_file():
            raise BuildError(f"{image} can't be booted: there is no {name} {path}",
                             "boot an image where `preroot build` wrote it, or name a recipe")  # fmt: skip
    manifest = read_manifest(names["manifest"])
    _check_digest(image, manifest.image_sha256, names["manifest"])
    for role, sha256 in manifest.beside.items():
        if names[role].exists():  # what is only about the image need not be there
            _check_digest(names[role], sha256, names["manifest"])
    return BuiltImage(image, names["kernel"], manifest)


def _check_digest(path: Path, sha256: str, manifest: Path) -> None:
    """Raise BuildError for a file that is not the manifest's: a build that was killed between two, or edited."""
    import hashlib

    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != sha256:
            raise BuildError(f"{path} is not what its manifest {manifest} says: they are of two builds", "build again")


def check_root(root: str, manifest: Manifest) -> FsType:
    """Return the file system of a root.

    Raises RecipeError for an unknown one, BuildError if the image can't mount it.
    """
    fstype = REAL_ROOTS.get(root) or next((each for each in TINY_ROOTS if each == root), None)
    if fstype is None:
        known = (*TINY_ROOTS, *REAL_ROOTS)
        raise RecipeError(f"no root {root!r} can be made", nearest(root, known) or "known: " + ", ".join(known))
    kernel = manifest.kernel
    if kernel is not None and fstype not in kernel.modules and fstype not in kernel.builtin:
        raise BuildError(
            f"the image has no module {fstype}, so it can't mount the root", f"build with --feature {fstype}"
        )
    return fstype


def prove_image(
    built: BuiltImage, options: BootOptions, *, workspace: Workspace, store: Store, reporter: Reporter,
    distribution: Distribution | None = None, source: Source | None = None,
) -> Proof:  # fmt: skip
    """Boot an image against a root made on the spot and return what was seen; the logs stay in the cache.

    `distribution` (None: the manifest's, from this host's mirror) and `source` say where the root's programs come
    from. Raises BuildError when no machine could be started, RecipeError for a root that there is not; a root that
    was not reached is no exception: see Proof.problems.
    """
    manifest = built.manifest
    fstype = check_root(options.root, manifest)
    distribution = distribution or Distribution(manifest.distribution, manifest.release, manifest.arch)
    source = source or source_of(distribution, workspace)
    roots = _Roots(workspace, store, source, distribution, reporter)
    recipe, content = roots.real(options.root, fstype) if options.root in REAL_ROOTS else roots.tiny(fstype)
    recipe = fit_disk(recipe, options.bus)
    with reporter.step("making the root"):
        disk = make_disk(recipe, content, workspace.boot / "disks")
    cmdline = full_cmdline(manifest.cmdline, _root_option(recipe), options.cmdline)
    scenario = Scenario(
        name=f"{manifest.name}-{options.root}", kernel=str(built.kernel), initrds=(str(built.image),),
        cmdline=cmdline, disks=(DiskSpec(str(disk), bus=options.bus),), expect=Expect(identity=_IDENTITY),
        timeout=options.timeout, arch=arch(manifest.arch).name, memory=options.memory,
    )  # fmt: skip
    with reporter.step(f"booting ({options.root} root)"):
        result = run_scenario(scenario, run_directory(workspace, manifest.name), workspace.boot)
    system = read_system_report(Path(result.log)) if options.root in REAL_ROOTS else None
    return Proof(result, system, cmdline)


class _Roots:
    """Makes disk recipes for roots, and what they are filled with."""

    def __init__(
        self, workspace: Workspace, store: Store, source: Source, distribution: Distribution, reporter: Reporter
    ) -> None:
        self.workspace = workspace
        self.store = store
        self.source = source
        self.distribution = distribution
        self.reporter = reporter

    def tiny(self, fstype: FsType) -> tuple[DiskRecipe, dict[str, Content]]:
        """Return a root whose init proves that it was reached, and nothing else."""
        busybox = static_busybox(
            self.distribution, workspace=self.workspace, store=self.store, source=self.source, reporter=self.reporter
        )  # fmt: skip
        entries = tuple(entries_of(tiny_root(busybox, _IDENTITY)))
        name = digest(entries)
        # what has no UUID is found by that of its partition
        volumes = (Volume(fstype, content=name),)
        recipe = DiskRecipe(volumes, table="gpt") if KINDS[fstype].no_uuid else DiskRecipe(volumes)
        return recipe, {name: lambda: entries}

    def real(self, root: str, fstype: FsType) -> tuple[DiskRecipe, dict[str, Content]]:
        """Return a root that is a whole, small installation of the distribution `root`."""
        import uuid

        from preroot.engine.realroot import DEBIAN_ROOT, distribution_root

        if root != self.distribution.name:
            raise RecipeError(f"the root {root!r} is of another distribution than the image ({self.distribution.name})",
                              "use --root ext4")  # fmt: skip
        # its fstab names it, so its UUID can't be derived from its content
        seed = f"preroot root {self.distribution.name} {self.distribution.release} {self.distribution.arch}"
        own = str(uuid.uuid5(uuid.NAMESPACE_OID, seed))
        entries: list[DiskEntry] = distribution_root(
            self.distribution, DEBIAN_ROOT, identity=_IDENTITY, root_device=f"UUID={own}", workspace=self.workspace,
            store=self.store, source=self.source, reporter=self.reporter,
        )  # fmt: skip
        name = digest(entries)
        return DiskRecipe((Volume(fstype, content=name, uuid=own),)), {name: lambda: entries}


def fit_disk(recipe: DiskRecipe, bus: Bus) -> DiskRecipe:
    """Return the recipe of a disk that can be attached to `bus`: the size of an SD card is a power of two."""
    return structs.replace(recipe, power_of_two=recipe.power_of_two or bus == "mmc")


def _root_option(recipe: DiskRecipe) -> str:
    if recipe.table == "gpt":
        return f"root=PARTUUID={part_uuid(recipe)}"
    return f"root=UUID={volume_uuid(recipe)}"


def full_cmdline(recipe: Iterable[str], root: str, extra: str) -> str:
    """Return the command line: the recipe's without its own root, the test's root, and what the user adds."""
    kept = [word for word in recipe if not word.startswith(_ROOT_OPTIONS[:3]) and word not in _ROOT_OPTIONS[3:]]
    return " ".join([*kept, root, *([extra] if extra else [])])


def run_directory(workspace: Workspace, name: str) -> Path:
    """Return a new directory for a run's logs; those of runs long ago are removed."""
    runs = workspace.boot / "runs"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        for old in runs.iterdir():
            with contextlib.suppress(OSError):
                if time.time() - old.stat().st_mtime > _KEEP_RUNS:
                    shutil.rmtree(old)
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=runs))
    except OSError as error:
        raise BuildError(f"cannot write the log of the boot below {runs}: {error.strerror}",
                         "set PREROOT_CACHE to a directory that you can write") from None  # fmt: skip
