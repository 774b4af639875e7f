# SPDX-License-Identifier: LGPL-2.1-or-later
"""preroot's own side: the recipe that is measured, and each way in which it can be built, as processes."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from bench.chroots import KernelFiles, kernel_files
from bench.measure import Cost, Costs, run_often, run_once
from bench.results import Case
from preroot.errors import BuildError
from preroot.run import run

PREROOT = str(Path(sys.executable).with_name("preroot"))

#: Features of the comparison: the built-in recipe's, those of the buses that generic images cover, and of what can lie
#: between a disk and the root.
FEATURES = ("...", "keymap", "tmpfiles", "sysctl", "mmc", "hyperv", "vmware", "xen",
            "luks", "lvm", "raid", "verity", "tpm2", "fido2")  # fmt: skip

#: What dracut's generic image has, and no feature takes: checkers that systemd-fsck runs for other file systems than
#: ext4, and (by the kernel's package: not all have them) what drives keyboards that have no driver of their own.
PACKAGES = ("btrfs-progs", "dosfstools", "xfsprogs")
TAKE = ("usr/bin/btrfs", "usr/sbin/fsck.btrfs", "usr/sbin/fsck.fat", "usr/sbin/fsck.vfat", "usr/sbin/fsck.xfs",
        "usr/sbin/xfs_repair")  # fmt: skip
MODULES = {"linux-image-cloud-amd64": ("hid_generic",), "linux-image-amd64": ("hid_generic", "usbhid")}

#: the design's figures for a case: the unit, the bar and the aim (0: none)
Bounds = tuple[str, float, float]

#: the value that is changed from one warm build to the next
_CHANGED = "failure.timeout"


#: name of a kernel's package, which says its release
_KERNEL = re.compile(r"linux-image-(\d.*)")

#: the package that is unpacked anew in the case of one package that changed
_PACKAGE = "systemd"


class Locked(Struct, frozen=True):
    """What the bench needs of a package in preroot.lock."""

    name: str
    version: str
    sha256: str


class Lock(Struct, frozen=True):
    """What the bench needs of preroot.lock."""

    packages: tuple[Locked, ...]


class Variant(Struct, frozen=True):
    """A recipe of preroot's that is measured: features, module selection, and modules by name beside those."""

    key: str
    title: str
    features: tuple[str, ...] = FEATURES
    selection: str = "generic"
    modules: tuple[str, ...] = ()
    packages: tuple[str, ...] = ()
    take: tuple[str, ...] = ()
    keyboards: bool = False

    def recipe(self, package: str, suite: str) -> str:
        """Return the recipe for a kernel package.

        It has one suite only: the peers' chroots have no other, and all must have the same kernel.
        """
        modules = sorted({*self.modules, *(MODULES[package] if self.keyboards else ())})
        return "\n".join([
            'name = "bench"', f"packages = {list(self.packages)}", f"take = {list(self.take)}",
            "[distribution]", f'release = "{suite}"', f'suites = ["{suite}"]',
            "[kernel]", f'package = "{package}"', f'modules = "{self.selection}"',
            f"add-modules = {modules}",
            "[part.base]", f"features = {list(self.features)}",
            "[compression]", 'codec = "zstd"', "level = 3", "",
        ])  # fmt: skip


GENERIC = Variant("preroot", "preroot", packages=PACKAGES, take=TAKE, keyboards=True)
#: What is smallest with systemd in it; of no scope that a peer has, so reported and compared with none.
MINIMAL = Variant("preroot-minimal", "preroot, minimal: ext4 on virtio",
                  features=("systemd", "udev", "ext4", "virtio", "emergency-shell"), selection="virtual")  # fmt: skip


def with_modules(modules: Iterable[str]) -> Variant:
    """Return the variant that has all of another image's modules too, so that nobody's list decides about sizes."""
    # by globs: dracut has them without their firmware, which a driver that is named must have
    every = tuple(f"{name[:-1]}[{name[-1]}]" for name in sorted(modules))
    return replace(GENERIC, key="preroot-modules", title="preroot, with all modules of that dracut", modules=every)


class Ours(Struct, frozen=True):
    """A variant that was built: its recipe, preroot's cache and output directories, the image, and its kernel."""

    variant: Variant
    recipe: Path
    cache: Path
    output: Path
    image: Path
    kernel: KernelFiles

    def build(
        self, log: Path, *, memory: bool = False, value: int = 90, lock: bool = True, release: str = "",
        modules: bool = True,
    ) -> Cost:  # fmt: skip
        """Build the recipe once, with `value` as what changes; without `lock`, packages are resolved anew.

        `release`: that kernel's image instead of the recipe's own. `modules`: with those that the recipe adds by name,
        which another kernel may not have.
        """
        if not lock:
            self.recipe.with_suffix(".lock").unlink(missing_ok=True)
        return _build(self.recipe, self.output, self.cache, log, value=value, memory=memory, release=release,
                      modules=modules)  # fmt: skip


def _build(
    recipe: Path, output: Path, cache: Path, log: Path, *, value: int, memory: bool, release: str = "",
    modules: bool = True,
) -> Cost:  # fmt: skip
    argv = [PREROOT, "build", "--quiet", str(recipe), "--output", str(output), "--set", f"{_CHANGED}={value}"]
    if release:
        argv += ["--kernel", release, "--set", "kernel.package="]
    if not modules:
        argv += ["--set", "kernel.add-modules=[]"]
    return run_once(argv, log, {"PREROOT_CACHE": str(cache)}, memory=memory)


def prepare(variant: Variant, package: str, suite: str, cache: Path, logs: Path) -> Ours:
    """Write a variant's recipe for a kernel and build it once."""
    directory = logs / f"{variant.key}-{package}"
    directory.mkdir(parents=True, exist_ok=True)
    recipe = directory / "bench.toml"
    recipe.write_text(variant.recipe(package, suite))
    output, own = directory / "out", cache / "preroot"
    recipe.with_suffix(".lock").unlink(missing_ok=True)
    _build(recipe, output, own, logs / f"{variant.key}-prepare.log", value=90, memory=False)
    kernel = _kernel(own, cache / "kernels", recipe)
    return Ours(variant, recipe, own, output, output / "bench.initrd", kernel)


def _kernel(ours: Path, kernels: Path, recipe: Path) -> KernelFiles:
    """Unpack the kernel's package that the lock names, for vmlinuz and the names of its modules.

    It goes outside of preroot's cache `ours`, which is emptied for some cases.
    """
    release, package = next(
        (found[1], package) for name, package in _locked(recipe).items() if (found := _KERNEL.fullmatch(name))
    )
    root = kernels / release
    if not root.exists():
        aside = root.with_name(f"{release}.new")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        run(["dpkg-deb", "-x", ours / "archives" / package.sha256, aside], purpose="to unpack the kernel")
        aside.rename(root)
    return kernel_files(root, release, package.version)


def _locked(recipe: Path) -> dict[str, Locked]:
    """Return the packages of a recipe's lock by name."""
    lock = msgspec.json.decode(recipe.with_suffix(".lock").read_bytes(), type=Lock)
    return {package.name: package for package in lock.packages}


class Runs:
    """The ways in which one variant can be built: each is a function of the run's number and of "sample memory"."""

    def __init__(self, ours: Ours, logs: Path) -> None:
        self._ours = ours
        self._logs = logs
        self._seen = {_digest(ours.image)}

    def _log(self, key: str, number: int) -> Path:
        return self._logs / f"{self._ours.variant.key}-{key}-{number}.log"

    def first(self, number: int, memory: bool) -> Cost:
        """Build with nothing there: no lock, no package file, no store."""
        shutil.rmtree(self._ours.cache)
        return self._ours.build(self._log("first", number), memory=memory, lock=False)

    def cold(self, number: int, memory: bool) -> Cost:
        """Build with lock and package files, without a store.

        A value changes too: with recipe and image as they were, there is nothing to build.
        """
        shutil.rmtree(self._ours.cache / "store")
        return self._ours.build(self._log("cold", number), memory=memory, value=500 + number)

    def warm(self, number: int, memory: bool) -> Cost:
        """Build with a full store and one value of the recipe changed; the image must be another each time."""
        cost = self._ours.build(self._log("warm", number), memory=memory, value=100 + number)
        digest = _digest(self._ours.image)
        if digest in self._seen:
            raise BuildError("a warm build made an image that was there before", "what is measured must be made anew")
        self._seen.add(digest)
        return cost

    def package(self, number: int, memory: bool) -> Cost:
        """Build as if one package were new: it is not in the store, and the image changes."""
        package = _locked(self._ours.recipe)[_PACKAGE]
        entries = [path for path in (self._ours.cache / "store").rglob(f"{package.sha256}*") if path.is_file()]
        if not entries:
            raise BuildError(f"the store has no entry of {_PACKAGE}", "has its layout changed?")
        for entry in entries:
            entry.unlink()
        return self.warm(1000 + number, memory)

    def second(self, number: int, memory: bool) -> Cost:
        """Build a second kernel's image, the one's that is measured, after a first kernel's: the base is the same.

        Both kernels' packages are in the store: what unpacking one costs is in the case "cold".
        """
        own = self._ours.kernel.release
        other = own.replace("-cloud-", "-") if "-cloud-" in own else own.replace("-amd64", "-cloud-amd64")
        value = 2000 + number
        if not number:  # packages are fetched and unpacked once
            self._ours.build(self._log("second", -1), value=value - 1, release=own)
        self._ours.build(self._log("second-first", number), value=value, release=other, modules=False)
        return self._ours.build(self._log("second", number), memory=memory, value=value, release=own)

    def unchanged(self, number: int, memory: bool) -> Cost:
        """Build what the build before this one has built; the image must be left alone."""
        before = self._ours.image.stat().st_mtime_ns
        cost = self._ours.build(self._log("unchanged", number), memory=memory)
        if self._ours.image.stat().st_mtime_ns != before:
            raise BuildError("a build with nothing changed wrote the image again", "it must notice that it need not")
        return cost


def measure(ours: Ours, times: int, logs: Path) -> tuple[Case, ...]:
    """Measure all ways in which preroot builds a variant."""
    runs = Runs(ours, logs)

    def case(key: str, title: str, once: Callable[[int, bool], Cost], bounds: Bounds) -> Case:
        unit, bar, aim = bounds
        return Case(key=key, title=title, cost=run_often(times, once), unit=unit, bar=bar, aim=aim)

    cloud = "cloud" in ours.kernel.release
    cold: Bounds = ("CPU s", 5, 3) if cloud else ("CPU s", 15, 8)
    warm: Bounds = ("CPU s", 1.0, 0.5) if cloud else ("CPU s", 1.5, 0.5)
    found = [
        case("first", "first ever, download included", runs.first, ("CPU s", 0, 0)),
        case("cold", "cold: package files there, store empty", runs.cold, cold),
        case("warm", "warm: one value of the recipe changed", runs.warm, warm),
        case("second", "a second kernel's image after the first", runs.second, ("CPU s", 0.7, 0)),
        case("package", f"one package changed ({_PACKAGE})", runs.package, ("CPU s", 0, 0)),
    ]
    ours.build(logs / f"{ours.variant.key}-before-unchanged.log")
    found.append(case("unchanged", "nothing changed", runs.unchanged, ("wall s", 0.3, 0.1)))
    return tuple(found)


def measure_warm(ours: Ours, times: int, logs: Path) -> Costs:
    """Measure warm builds of a variant alone; the store is filled first."""
    ours.build(logs / f"{ours.variant.key}-before-warm.log")
    return run_often(times, Runs(ours, logs).warm)


def _digest(image: Path) -> str:
    return hashlib.sha256(image.read_bytes()).hexdigest()
