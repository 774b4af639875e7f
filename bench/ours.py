# SPDX-License-Identifier: LGPL-2.1-or-later
"""preroot's own side: the recipe that is measured, and each way in which it can be built, as processes."""

from __future__ import annotations

import hashlib
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
from msgspec import Struct

from bench.chroots import KernelFiles, kernel_files
from bench.measure import Cost, run_often, run_once
from bench.results import Case
from preroot.errors import BuildError
from preroot.run import run

PREROOT = str(Path(sys.executable).with_name("preroot"))

#: The comparison is with generic images, so the module selection is `generic`. One suite only: the peers' chroots
#: have no other, and all must have the same kernel.
_RECIPE = """name = "bench"

[distribution]
release = "{suite}"
suites = ["{suite}"]

[kernel]
package = "{package}"
modules = "generic"

[part.base]
features = ["...", "mmc", "hyperv", "vmware", "xen"]

[compression]
codec = "zstd"
level = 3
"""

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


class Ours(Struct, frozen=True):
    """The recipe, preroot's cache and output directories, the image of the first build, and its kernel."""

    recipe: Path
    cache: Path
    output: Path
    image: Path
    kernel: KernelFiles

    def build(self, log: Path, *, memory: bool = False, value: int = 90, lock: bool = True) -> Cost:
        """Build the recipe once, with `value` as what changes; without `lock`, packages are resolved anew."""
        return _build(self.recipe, self.output, self.cache, log, value=value, memory=memory, locked=lock)


def _build(recipe: Path, output: Path, cache: Path, log: Path, *, value: int, memory: bool, locked: bool) -> Cost:
    if not locked:
        recipe.with_suffix(".lock").unlink(missing_ok=True)
    argv = [PREROOT, "build", "--quiet", str(recipe), "--output", str(output), "--set", f"{_CHANGED}={value}"]
    return run_once(argv, log, {"PREROOT_CACHE": str(cache)}, memory=memory)


def prepare(package: str, suite: str, cache: Path, logs: Path) -> Ours:
    """Write the recipe for a kernel and build it once."""
    directory = logs / f"ours-{package}"
    directory.mkdir(parents=True, exist_ok=True)
    recipe = directory / "bench.toml"
    recipe.write_text(_RECIPE.format(suite=suite, package=package))
    output, own = directory / "out", cache / "preroot"
    _build(recipe, output, own, logs / "ours-prepare.log", value=90, memory=False, locked=False)
    return Ours(
        recipe=recipe,
        cache=own,
        output=output,
        image=output / "bench.initrd",
        kernel=_kernel(own, cache / "kernels", recipe),
    )


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


def measure(ours: Ours, runs: int, logs: Path) -> tuple[Case, ...]:
    """Measure all ways in which preroot builds."""

    def case(key: str, title: str, once: Callable[[int, bool], Cost], bounds: Bounds) -> Case:
        unit, bar, aim = bounds
        return Case(key=key, title=title, cost=run_often(runs, once), unit=unit, bar=bar, aim=aim)

    def log(key: str, number: int) -> Path:
        return logs / f"ours-{key}-{number}.log"

    def first(number: int, memory: bool) -> Cost:
        shutil.rmtree(ours.cache)
        return ours.build(log("first", number), memory=memory, lock=False)

    def cold(number: int, memory: bool) -> Cost:
        # A value changes too: with recipe and image as they were, there is nothing to build.
        shutil.rmtree(ours.cache / "store")
        return ours.build(log("cold", number), memory=memory, value=500 + number)

    seen = {_digest(ours.image)}

    def warm(number: int, memory: bool) -> Cost:
        cost = ours.build(log("warm", number), memory=memory, value=100 + number)
        digest = _digest(ours.image)
        if digest in seen:
            raise BuildError("a warm build made an image that was there before", "what is measured must be made anew")
        seen.add(digest)
        return cost

    def one_package(number: int, memory: bool) -> Cost:
        package = _locked(ours.recipe)[_PACKAGE]
        entries = [path for path in (ours.cache / "store").rglob(f"{package.sha256}*") if path.is_file()]
        if not entries:
            raise BuildError(f"the store has no entry of {_PACKAGE}", "has its layout changed?")
        for entry in entries:
            entry.unlink()
        return warm(1000 + number, memory)

    def unchanged(number: int, memory: bool) -> Cost:
        before = ours.image.stat().st_mtime_ns
        cost = ours.build(log("unchanged", number), memory=memory)
        if ours.image.stat().st_mtime_ns != before:
            raise BuildError("a build with nothing changed wrote the image again", "it must notice that it need not")
        return cost

    generic = "cloud" not in ours.kernel.release
    found = [
        case("first", "first ever, download included", first, ("CPU s", 0, 0)),
        case("cold", "cold: package files there, store empty", cold, ("CPU s", 15, 8) if generic else ("CPU s", 5, 3)),
        case("warm", "warm: one value of the recipe changed", warm, ("CPU s", 1.0, 0.5)),
    ]
    found.append(case("package", f"one package changed ({_PACKAGE})", one_package, ("CPU s", 0, 0)))
    ours.build(log("unchanged", -1))
    found.append(case("unchanged", "nothing changed", unchanged, ("wall s", 0.3, 0.1)))
    return tuple(found)


def _digest(image: Path) -> str:
    return hashlib.sha256(image.read_bytes()).hexdigest()
