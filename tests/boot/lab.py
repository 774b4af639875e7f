# SPDX-License-Identifier: LGPL-2.1-or-later
"""What boot tests are written with: images by recipe, disks by what is on them, and one call that boots and judges.

Images and disks are made once a session, whichever worker needs them first, and kept by what they were made from.
"""

from __future__ import annotations

from pathlib import Path

import packages
from msgspec import Struct

from preroot.boot import rootfs, stage
from preroot.boot.disks import DiskRecipe, Volume, make_disk, part_uuid, volume_uuid
from preroot.boot.filesystems import FsType
from preroot.boot.machine import DiskSpec
from preroot.boot.platforms import Bus
from preroot.boot.scenario import BootResult, Expect, Scenario, prove
from preroot.engine import Engine, Overrides, Workspace
from preroot.engine.preparing import alone
from preroot.engine.testing import Image, ScenarioRunner
from preroot.facts.arch import arch as architecture

#: The recipe of an image in short: release, architecture, kernel package, and values to `--set`.
BUSYBOX = ("part.base.flavour=busybox", 'part.base.features=["busybox", "ext4", "virtio", "nvme"]')


class Disk(Struct, frozen=True):
    """A disk with a root on it, and every way to name that root on the command line."""

    path: Path
    bus: Bus
    names: dict[str, str]
    identity: str


class Lab:
    """Makes images and disks, and boots them. `session` is shared by all workers of one test run."""

    def __init__(self, session: Path) -> None:
        self.session = session
        self.cache = packages.cache_directory()
        self.workspace = Workspace(self.cache / "preroot")

    def image(self, *sets: str, release: str = "trixie", arch: str = "amd64", kernel: str = "") -> Image:
        """Return the image of the built-in recipe with these values."""
        values = [f"distribution.release={release}", f"distribution.arch={arch}", *sets]
        if kernel:
            values.append(f"kernel.package={kernel}")
        with Engine(self.workspace) as engine:
            return ScenarioRunner(engine, self.session).build(tuple(values))

    def disk(
        self, fstype: FsType = "ext4", *, bus: Bus = "virtio", label: str = "", gpt: bool = False,
        release: str = "trixie", arch: str = "amd64",
    ) -> Disk:  # fmt: skip
        """Return a disk with the tiny root on it: bare, or in a partition called like its label."""
        identity = f"{fstype}-{bus}"
        entries = tuple(stage.entries_of(rootfs.tiny_root(packages.busybox(release=release, arch=arch), identity)))
        content = stage.digest(entries)
        # An MMC card's size is a power of two; the smallest that takes the root.
        volume = Volume(fstype, content, label=label, part_label=label if gpt else "")
        recipe = DiskRecipe((volume,), "gpt" if gpt else "none", power_of_two=bus == "mmc")
        with alone(self.session / f"disk-{content}.lock"):
            path = make_disk(recipe, {content: lambda: entries}, self.cache / "disks")
        names = {
            "UUID": f"UUID={volume_uuid(recipe)}",
            "LABEL": f'"LABEL={label}"' if " " in label else f"LABEL={label}",
        }
        if gpt:
            names |= {"PARTUUID": f"PARTUUID={part_uuid(recipe)}", "PARTLABEL": f"PARTLABEL={label}"}
        return Disk(path, bus, names, identity)

    def debian(self, release: str = "trixie", arch: str = "amd64") -> Disk:
        """Return a disk with a real Debian root that looks at itself once it is booted."""
        identity = f"debian-{release}-{arch}"
        volume = Volume("ext4", identity, label="debian", size=1536)
        recipe = DiskRecipe((volume,))
        uuid = volume_uuid(recipe)
        overrides = Overrides(set=(f"distribution.release={release}", f"distribution.arch={arch}"))
        with alone(self.session / f"{identity}.lock"), Engine(self.workspace) as engine:
            loaded = engine.load(None, overrides)

            def entries() -> list[stage.DiskEntry]:
                return engine.distribution_root(
                    loaded.recipe.distribution, identity=identity, root_device=f"UUID={uuid}"
                )  # fmt: skip

            path = make_disk(recipe, {identity: entries}, self.session / "disks")
        return Disk(path, "virtio", {"UUID": f"UUID={uuid}"}, identity)

    def boot(
        self, name: str, image: Image, *disks: Disk, root: str = "UUID", cmdline: str = "", memory: int = 1024,
        expect: Expect | None = None, timeout: float = 240,
    ) -> BootResult:  # fmt: skip
        """Boot an image with disks and return the result; the root is on the first, named by `root` (a key of its
        names, or the option's value itself). Raises BuildError when anything is not as expected."""
        named = disks[0].names.get(root, root) if disks else root
        scenario = Scenario(
            name=name,
            kernel=str(image.kernel),
            initrds=(str(image.initrd),),
            arch=image.distribution.arch,
            memory=memory,
            cmdline=f"console={architecture(image.distribution.arch).console} panic=-1 root={named} {cmdline}",
            disks=tuple(DiskSpec(str(disk.path), bus=disk.bus) for disk in disks),
            expect=expect or Expect(identity=disks[0].identity),
            timeout=timeout,
        )
        return prove(scenario, self.session / "logs", self.cache / "boot")
