# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a recipe to its features, what they need of the packages, and the lock that pins those."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

from msgspec import Struct, structs

import preroot
from preroot.engine.cmdline import cmdline_warnings
from preroot.engine.local import NOTHING_LOCAL, Local
from preroot.engine.parts import PartSpec, check_policies, names_part, part_specs
from preroot.engine.pinning import data_digests
from preroot.engine.workspace import read_runtime
from preroot.errors import BuildError, RecipeError
from preroot.facts.arch import arch
from preroot.facts.microcode import vendors_of
from preroot.packages.lock import FORMAT as LOCK_FORMAT
from preroot.packages.lock import fits, read_lock, request_digest
from preroot.packages.model import Lock, Resolution
from preroot.packages.source import Source
from preroot.progress import Reporter
from preroot.recipe.conditions import Chosen, Facts
from preroot.recipe.distributions import (
    DistributionInfo,
    component_of,
    kernel_package,
    kernel_releases,
    load_distribution,
    needed_in_images,
    requests_for,
)
from preroot.recipe.drivers import Driver, driver_files, load_drivers
from preroot.recipe.libraries import Libraries, load_libraries
from preroot.recipe.library import Features
from preroot.recipe.load import LoadedRecipe
from preroot.recipe.search import SearchPath
from preroot.recipe.select import check_options, select
from preroot.recipe.template import recipe_values
from preroot.tree.hooks import check_points
from preroot.unchanged import Stamp

#: Packages whose versions features compare (`when = { systemd = ">=256" }`).
_COMPARED = ("systemd",)


#: (package, version before, version now); '' for one that was not there
LockChange = tuple[str, str, str]


class Locked(Struct, frozen=True):
    """A recipe with its features chosen and its packages pinned."""

    lock: Lock
    specs: tuple[PartSpec, ...]
    #: part → its features, for parts that have features of their own
    chosen: dict[str, tuple[Chosen, ...]]
    requests: tuple[str, ...]
    distribution: DistributionInfo
    #: the files of runtime/ by path below it
    runtime: dict[str, bytes]
    #: what is known of kernel drivers, by module
    drivers: dict[str, Driver]
    #: what is known of libraries that are loaded without NEEDED
    libraries: Libraries
    #: digests of the data that is used, as the lock has them
    data: dict[str, str]
    #: every file that was looked at for it, with its stamp
    files: dict[Path, Stamp]
    #: what is other than in the lock that was there before
    changes: tuple[LockChange, ...] = ()
    #: what is read from directories of the user's, as it is now
    local: Local = NOTHING_LOCAL
    #: what was noticed about the recipe and does not hinder a build
    warnings: tuple[str, ...] = ()


def lock_path(loaded: LoadedRecipe, output: Path, search: SearchPath) -> Path:
    """Return where the lock of a recipe lies: beside it, named like it; in the output directory for one that is no file
    (by the recipe's name) or came with preroot or the system.

    A kernel that `--kernel` names has a lock of its own (see `common_lock`), unless the recipe names the package: it is
    the same for all kernels then.
    """
    if loaded.path is None:
        path = output / f"{loaded.recipe.name}.lock"
    elif any(loaded.path.is_relative_to(directory) for directory in search.directories):
        path = output / "preroot.lock"
    else:
        path = loaded.path.with_suffix(".lock")
    own = loaded.kernel and not loaded.recipe.kernel.package
    return path.with_name(f"{path.stem}-{loaded.kernel}.lock") if own else path


def common_lock(path: Path, loaded: LoadedRecipe) -> Path | None:
    """Return the recipe's own lock, where `path` is the one of a kernel that the command line names; else None.

    Where a new one begins: all but the kernel then has the same versions in the images of all kernels.
    """
    own = f"-{loaded.kernel}.lock"
    if not loaded.kernel or not path.name.endswith(own):
        return None
    return path.with_name(path.name.removesuffix(own) + ".lock")


class Chooser:
    """Chooses the features of a recipe's parts, under given facts."""

    def __init__(self, loaded: LoadedRecipe, search: SearchPath, local: Local = NOTHING_LOCAL) -> None:
        self.loaded = loaded
        self.recipe = loaded.recipe
        self._search = search
        self.specs = part_specs(loaded.recipe)
        self.features = Features(search)
        distribution = self.recipe.distribution
        architecture = arch(distribution.arch).name
        self.distribution = load_distribution(distribution.name, distribution.release, architecture, search)
        self.local = local

    @cached_property
    def runtime(self) -> dict[str, bytes]:
        """Return the files of runtime/ by path below it."""
        return read_runtime(self._search)

    def choose(self, versions: Mapping[str, str]) -> dict[str, tuple[Chosen, ...]]:
        """Return part → features, evaluated under `versions` of packages (empty: none known yet)."""
        chosen = {
            spec.name: self._select(spec, spec.features, versions)
            for spec in self.specs if spec.features and not spec.kind.on_request
        }  # fmt: skip
        if not chosen:
            raise RecipeError("the recipe chooses no feature", 'for example [part.base] features = ["systemd", "ext4"]')
        for spec in self.specs:
            if spec.kind.on_request:
                chosen |= self._choose_on_request(spec, chosen, versions)
        check_options(self.recipe.features, {each.name for group in chosen.values() for each in group})
        check_policies(self.recipe, (each for group in chosen.values() for each in group))
        return chosen

    def _choose_on_request(
        self, spec: PartSpec, chosen: Mapping[str, Sequence[Chosen]], versions: Mapping[str, str]
    ) -> dict[str, tuple[Chosen, ...]]:
        """Return the features of a part that is there on request, and those of the base that keeps it; or nothing.

        `chosen` are the features of the other parts. What they ask for can be refused in the part's own list.
        """
        wishes = [name for group in chosen.values() for each in group for name in each.content.exitrd]
        named = names_part(self.recipe, spec.name, spec.kind.points)
        if named:
            wishes.append(spec.name)  # the feature that runs it has the part's name
        names = (*dict.fromkeys(wishes), *spec.features)
        found = self._select(spec, names, versions) if names else ()
        if named and not found:
            raise RecipeError(
                f"the recipe puts something into part {spec.name}, and refuses the feature {spec.name!r} in it",
                f"leave out '-{spec.name}'",
            )
        if not found:
            return {}
        base = next(each for each in self.specs if each.name == "base")
        return {"base": self._select(base, (*base.features, spec.kind.keeper), versions), spec.name: found}

    def _select(self, spec: PartSpec, names: Sequence[str], versions: Mapping[str, str]) -> tuple[Chosen, ...]:
        """Return the features of one part that lists `names`. Raises RecipeError naming where they are listed."""
        distribution = self.distribution
        name = self.recipe.distribution.name
        facts = Facts(
            name, distribution.release, distribution.arch, spec.flavour, dict(versions),
            recipe=recipe_values(self.recipe),
        )  # fmt: skip
        where = self.loaded.where(("part", spec.name, "features"))
        return select(names, self.features, self.recipe.features, facts, where=where, elsewhere=self.recipe.features)

    def requests(self, chosen: Mapping[str, Sequence[Chosen]]) -> tuple[str, ...]:
        """Return what the source is asked for: the kernel's package, what features need, the recipe's packages."""
        found: dict[str, None] = {}
        for feature in (each for group in chosen.values() for each in group):
            found |= dict.fromkeys(requests_for(feature.content.needs, self.distribution, feature.name))
        for vendor in vendors_of(self.recipe.microcode.vendors, self.recipe.microcode.cpus):
            found |= dict.fromkeys(requests_for((f"cap:microcode-{vendor}",), self.distribution, "[microcode]"))
        if self.recipe.output.licences != "none":
            found |= dict.fromkeys(requests_for(("cap:licence-texts",), self.distribution, "output.licences"))
        kernel = self.recipe.kernel
        if not kernel.directory:
            found[self.kernel_package()] = None
        found.update(dict.fromkeys(self.recipe.packages))
        return tuple(sorted(found))

    def kernel_package(self) -> str:
        """Return the package that the kernel is found through. Raises RecipeError where it can't be told."""
        kernel = self.recipe.kernel
        return kernel.package or kernel_package(kernel.version, self.distribution)

    def locked(self, lock: Lock) -> Locked:
        """Return the recipe with `lock`, features evaluated under its versions."""
        chosen = self.choose(lock.versions)
        libraries = load_libraries(self._search)
        everything = [each for group in chosen.values() for each in group]
        check_points(self.recipe, chosen)
        warnings = cmdline_warnings(self.recipe, everything, self.features, lock.versions)
        # what several looked at counts as it was at first
        files = {
            **self.local.paths,
            **driver_files(self._search),
            **libraries.files,
            **self.distribution.consulted,
            **self.features.files,
            **self.loaded.files,
        }
        drivers = load_drivers(self._search)
        data = data_digests(
            everything, self.features, distribution=self.distribution, runtime=self.runtime, drivers=drivers,
            libraries=libraries,
        )  # fmt: skip
        return Locked(
            lock, self.specs, chosen, self.requests(chosen), self.distribution, self.runtime, drivers, libraries, data,
            files, local=self.local, warnings=warnings,
        )  # fmt: skip

    def resolve(self, source: Source, old: Lock | None, reporter: Reporter) -> Locked:
        """Resolve the recipe's packages and return it with a new lock.

        With `old`, packages that it has keep their versions: only what the recipe asks for beyond it is new.
        """
        with reporter.step("reading indexes"):
            now = self.recipe.distribution
        if old is not None and (old.source, old.distribution, old.release, old.arch) != (
            now.source, now.name, now.release, now.arch,
        ):  # fmt: skip
            old = None  # versions of another archive can't be kept
        given = self.recipe.kernel
        by_release = bool(given.version) and not given.package and not given.directory
        kernel = [self.kernel_package()] if by_release else []
        candidates = source.candidates([*_COMPARED, *kernel])
        for package in kernel:
            if package not in candidates:
                raise self._no_kernel(package, source)
        versions = dict(candidates) if old is None else {**candidates, **old.versions}
        chosen = self.choose(versions)
        requests = self.requests(chosen)
        try:
            resolution = source.resolve(requests, reporter)
        except BuildError as error:
            raise self._explained(error, requests) from error
        if old is not None:
            resolution = source.resolve(_pinned(requests, resolution, old), reporter)
        locked = self.locked(self._lock(resolution, requests, old))
        # features are evaluated under the versions that were resolved, so what they say is known only now
        return structs.replace(locked, lock=structs.replace(locked.lock, data=locked.data))

    def _no_kernel(self, package: str, source: Source) -> BuildError:
        """Return the error for a kernel release that the source has no package of."""
        wanted, distribution = self.recipe.kernel.version, self.distribution
        releases = kernel_releases(source.names(distribution.kernel_release.partition("{version}")[0]), distribution)
        where = f"{distribution.name} {distribution.release} ({distribution.arch})"
        return BuildError(
            f"no kernel {wanted} in {where}: there is no package {package}", near_releases(wanted, releases)
        )

    def _explained(self, error: BuildError, requests: Iterable[str]) -> BuildError:
        """Return a source's error, with the component that a package which it does not know is in as the way out."""
        have = self.recipe.distribution.components
        for name in requests:
            component = component_of(name, self.distribution)
            if component and component not in have and f"unknown package {name!r}" in error.message:
                names = ", ".join(f'"{each}"' for each in (*have, component))
                return BuildError(error.message, f"it is in the component {component}: components = [{names}]")
        return error

    def _lock(self, resolution: Resolution, requests: Sequence[str], old: Lock | None) -> Lock:
        distribution = self.recipe.distribution
        packages = [each for each in resolution.packages if needed_in_images(each.name, requests, self.distribution)]
        by_name = {package.name: package.version for package in packages}
        return Lock(
            format=LOCK_FORMAT,
            preroot=preroot.__version__,
            request=request_digest(distribution, requests),
            data={},
            source=distribution.source,
            distribution=distribution.name,
            release=distribution.release,
            arch=distribution.arch,
            versions={name: by_name[name] for name in _COMPARED if name in by_name},
            packages=tuple(packages),
            local=self.local.pins,
            users=old.users if old else {},
            groups=old.groups if old else {},
            trust=resolution.trust,
        )

    def misfit(self, lock: Lock) -> str | None:
        """Return why a lock does not fit the recipe, None when it does."""
        chosen = self.choose(lock.versions)
        return fits(lock, request_digest(self.recipe.distribution, self.requests(chosen)))


def _pinned(requests: Iterable[str], resolution: Resolution, old: Lock) -> list[str]:
    kept = {package.name: package for package in old.packages}
    pins = [f"{each.name}={kept[each.name].version}" for each in resolution.packages if each.name in kept]
    named = {pin.partition("=")[0] for pin in pins}
    return [*pins, *(request for request in requests if request not in named)]


def near_releases(wanted: str, releases: Sequence[str]) -> str:
    """Return a hint with those of the kernel releases that there are that may be meant: at most five."""
    import difflib
    import re

    def age(release: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", release)]

    begun = [each for each in releases if each.startswith(wanted)]
    near = begun or difflib.get_close_matches(wanted, releases, n=5)
    if near:
        return f"near to it: {', '.join(near[:5])}"
    newest = sorted(releases, key=age, reverse=True)[:5]
    return f"the newest: {', '.join(newest)}" if newest else "name the kernel's package with kernel.package"


def find_lock(path: Path) -> Lock | None:
    """Return the lock at `path`, None where there is none. Raises RecipeError for a broken one."""
    return read_lock(path) if path.exists() else None
