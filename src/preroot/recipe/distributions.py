# SPDX-License-Identifier: LGPL-2.1-or-later
"""What preroot knows of a distribution: its releases, suites, keyrings, kernels, and which package has what.

The files are distributions/NAME.toml in the search path, with drop-ins NAME.toml.d/*.toml.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta, Struct

from preroot.errors import RecipeError, nearest
from preroot.recipe.merge import merge
from preroot.recipe.schema import Base
from preroot.recipe.search import SEARCH_PATH, Consulted, SearchPath, drop_ins, find, toml_names
from preroot.recipe.validate import convert, read_table
from preroot.unchanged import Stamp


class Packages(Base, frozen=True):
    """Which package has what. A package can be limited to architectures: `intel-microcode [amd64]`."""

    capabilities: Annotated[dict[str, tuple[str, ...]], Meta(description="cap:NAME → packages")] = {}
    programs: Annotated[dict[str, str], Meta(description="package → what it has in bin and sbin, by blanks")] = {}
    files: Annotated[dict[str, str], Meta(description="file:PATH (globs allowed) → package")] = {}


class Architecture(Base, frozen=True):
    """One architecture of a distribution."""

    kernel: Annotated[str, Meta(description="package of the default kernel")]
    library_directories: Annotated[tuple[str, ...], Meta(description="built into ld.so, canonical, in its order")]
    merged: Annotated[dict[str, str], Meta(description="links of a merged /usr besides the common ones")] = {}
    kernel_release: Annotated[str, Meta(description="instead of the common one")] = ""


class Release(Packages, frozen=True):
    """One release; its maps go over the common ones. An empty package (or list of them) removes an entry."""

    number: str = ""
    aliases: tuple[str, ...] = ()
    architectures: Annotated[tuple[str, ...], Meta(description="empty: all")] = ()
    suites: Annotated[
        tuple[str, ...],
        Meta(description="empty: the common ones; one can be limited to architectures: `{release}-security [amd64]`"),
    ] = ()  # fmt: skip
    components: Annotated[dict[str, str], Meta(description="over the common ones")] = {}


class DistributionFile(Packages, frozen=True):
    """A file of distributions/, as written."""

    suites: Annotated[
        tuple[str, ...], Meta(description="`SUITE` or `PATH SUITE`, PATH relative to the main mirror; {release}")
    ] = ()
    keyrings: Annotated[tuple[str, ...], Meta(description="files with the archive's keys, the best first")] = ()
    merged: Annotated[dict[str, str], Meta(description="links of a merged /usr")] = {}
    kernel_release: Annotated[
        str, Meta(description="package of the kernel with a given release (uname -r); {version} stands for that")
    ] = ""
    preset_directories: Annotated[tuple[str, ...], Meta(description="where packages put systemd.preset(5) files")] = ()
    unneeded: Annotated[
        dict[str, str],
        Meta(
            description="package (glob) that others depend on and no image needs → why; one that is asked for is taken"
        ),
    ] = {}
    scripts: Annotated[
        dict[str, str], Meta(description="package (glob) → why its maintainer scripts need not run for an image")
    ] = {}
    components: Annotated[
        dict[str, str], Meta(description="package (glob) → archive component, where that is not the first; for hints")
    ] = {}
    architecture: dict[str, Architecture] = {}
    release: dict[str, Release] = {}


class DistributionInfo(Struct, frozen=True):
    """A distribution, resolved for one release and architecture."""

    name: str
    #: the release's code name, whatever it was asked for by
    release: str
    #: "13", or "" for one that has none
    number: str
    arch: str
    #: `SUITE` or `PATH SUITE` (PATH relative to the main mirror), `{release}` filled in
    suites: tuple[str, ...]
    #: candidates, the best first
    keyrings: tuple[str, ...]
    #: package of the default kernel
    kernel: str
    #: package of the kernel of a release, `{version}` stands for that; "" where no package is named by it
    kernel_release: str
    #: links of a merged /usr: "bin" → "usr/bin"
    merged: dict[str, str]
    #: directories that ld.so searches without a cache, canonical
    library_directories: tuple[str, ...]
    preset_directories: tuple[str, ...]
    #: NAME of cap:NAME → packages
    capabilities: dict[str, tuple[str, ...]]
    #: NAME of bin:NAME → package
    programs: dict[str, str]
    #: path or glob → package
    files: dict[str, str]
    #: package (glob) that no image needs unless it is asked for → why
    unneeded: dict[str, str]
    #: package (glob) → why its scripts need not run
    scripts: dict[str, str]
    #: package (glob) → archive component, where that is not the first
    components: dict[str, str]
    #: every file that was looked at, those that do not exist included
    consulted: dict[Path, Stamp]


def load_distribution(name: str, release: str, arch: str, search: SearchPath = SEARCH_PATH) -> DistributionInfo:
    """Return the distribution `name`, resolved for `release` (code name, number or alias) and `arch`.

    Raises RecipeError for an unknown distribution, release or architecture, naming those that are known, and for a
    file that is wrong.
    """
    consulted = Consulted()
    file = find(search, f"distributions/{name}.toml", consulted) if name and "/" not in name else None
    if file is None:
        known = sorted(
            {each[:-5] for one in search.directories for each in toml_names(one / "distributions", consulted)}
        )
        raise RecipeError(f"unknown distribution {name!r}", nearest(name, known) or "known: " + ", ".join(known))
    folders = tuple(each / "distributions" / f"{name}.toml.d" for each in search.directories)
    data: dict[str, Any] = {}
    for path in (file, *drop_ins(folders, consulted)):
        data = merge(data, read_table(path, DistributionFile))
    loaded = convert(data, DistributionFile, lambda _: str(file))
    return _resolve(name, loaded, release, arch, consulted.stamps)


def _resolve(
    name: str, loaded: DistributionFile, wanted: str, arch: str, consulted: dict[Path, Stamp]
) -> DistributionInfo:
    names = [each for each, its in loaded.release.items() if wanted in (each, its.number, *its.aliases) and wanted]
    if not names:
        known = list(loaded.release)
        hint = nearest(wanted, known) or "known: " + ", ".join(known)
        raise RecipeError(f"unknown release {wanted!r} of {name}", hint)
    release = loaded.release[names[0]]
    arches = release.architectures or tuple(loaded.architecture)
    if arch not in arches or arch not in loaded.architecture:
        # arm64 is near to amd64 and yet never what was meant
        raise RecipeError(f"unknown architecture {arch!r} of {name} {names[0]}", "known: " + ", ".join(arches))
    at = loaded.architecture[arch]
    programs: dict[str, str] = {}
    for table in (loaded.programs, release.programs):
        programs |= {program: package for package, has in table.items() for program in has.split()}
    # the release's own come first: of globs, the first that fits counts
    files = release.files | {path: package for path, package in loaded.files.items() if path not in release.files}
    suites = release.suites or loaded.suites
    return DistributionInfo(
        name=name,
        release=names[0],
        number=release.number,
        arch=arch,
        suites=tuple(here.replace("{release}", names[0]) for here in (_on(suite, arch) for suite in suites) if here),
        keyrings=loaded.keyrings,
        kernel=at.kernel,
        kernel_release=at.kernel_release or loaded.kernel_release,
        merged=loaded.merged | at.merged,
        library_directories=at.library_directories,
        preset_directories=loaded.preset_directories,
        capabilities=loaded.capabilities | release.capabilities,
        programs={program: package for program, package in programs.items() if package},
        files={path: package for path, package in files.items() if package},
        unneeded=loaded.unneeded,
        scripts=loaded.scripts,
        components=loaded.components | release.components,
        consulted=consulted,
    )


def requests_for(needs: Sequence[str], info: DistributionInfo, asker: str = "") -> tuple[str, ...]:
    """Return the packages that have `needs` (`bin:NAME`, `file:PATH`, `cap:NAME`), each once, in the order of needs.

    `asker` names the feature in messages. Raises RecipeError for a need that the distribution's file does not map,
    or not for this architecture.
    """
    packages: dict[str, None] = {}
    for need in needs:
        found = _packages_for(need, info)
        here = [package for package in (_on(each, info.arch) for each in found) if package]
        if not here:
            by = f", which feature {asker!r} needs," if asker else ""
            place = f"{info.name} {info.release} ({info.arch})"
            hint = _hint(need, info)
            raise RecipeError(f"no package of {place} is known for {need}{by} in distributions/{info.name}.toml", hint)
        packages |= dict.fromkeys(here)
    return tuple(packages)


def kernel_package(version: str, info: DistributionInfo) -> str:
    """Return the package that the kernel is found through: that of the release `version`, '' for the default one.

    Raises RecipeError where the distribution does not name packages by the kernel's release.
    """
    if not version:
        return info.kernel
    if "{version}" not in info.kernel_release:
        raise RecipeError(
            f"distributions/{info.name}.toml does not say which package has the kernel {version}",
            "name it with kernel.package, or set kernel-release in a drop-in",
        )
    return info.kernel_release.replace("{version}", version)


def kernel_releases(packages: Iterable[str], info: DistributionInfo) -> tuple[str, ...]:
    """Return the kernel releases that have one of `packages` (names), sorted; the inverse of `kernel_package`.

    Names that only go on where another one ends (`…-dbg`, `…-unsigned`) are variants of that package, not releases,
    and a release begins with a digit: `linux-image-amd64` is none.
    """
    prefix, _, suffix = info.kernel_release.partition("{version}")
    found = sorted(
        name[len(prefix) : len(name) - len(suffix)]
        for name in packages
        if name.startswith(prefix) and name.endswith(suffix) and name[len(prefix) :][:1].isdigit()
    )
    releases: list[str] = []
    for name in found:  # sorted, so that what a name goes on from is before it
        if not any(name.startswith(f"{each}-") for each in releases):
            releases.append(name)
    return tuple(releases)


def needed_in_images(name: str, requests: Sequence[str], info: DistributionInfo) -> bool:
    """Return whether a package that was resolved is to be in the lock: asked for, or not one that no image needs.

    What is left out wrongly is no hole: the closed world names what is missing, and a recipe's `packages` brings it.
    """
    asked = {request.partition("=")[0].partition("/")[0] for request in requests}
    return name in asked or not any(fnmatchcase(name, pattern) for pattern in info.unneeded)


def package_of(path: str, info: DistributionInfo) -> str:
    """Return the package that has a canonical path, '' where that is not known."""
    return next((each for each in (_on(each, info.arch) for each in _packages_for(f"file:{path}", info)) if each), "")


def where_to_find(path: str, info: DistributionInfo, components: Collection[str]) -> str:
    """Return the package that has a path, with its component where that is not among `components`; '' if not known."""
    package = package_of(path, info)
    component = component_of(package, info) if package else ""
    return f"{package} (component {component})" if component and component not in components else package


def component_of(package: str, info: DistributionInfo) -> str:
    """Return the archive component of a package where that is not the first one, else ''."""
    return next((component for glob, component in info.components.items() if fnmatchcase(package, glob)), "")


def _packages_for(need: str, info: DistributionInfo) -> tuple[str, ...]:
    kind, _, name = need.partition(":")
    if kind == "cap":
        return info.capabilities.get(name, ())
    if kind == "bin":
        return (info.programs[name],) if name in info.programs else ()
    if kind != "file":
        return ()
    path = name.lstrip("/")
    if path in info.files:
        return (info.files[path],)
    directory, _, program = path.rpartition("/")
    if directory in ("usr/bin", "usr/sbin", "bin", "sbin") and program in info.programs:
        return (info.programs[program],)
    return next(((package,) for glob, package in info.files.items() if fnmatchcase(path, glob)), ())


def _on(package: str, arch: str) -> str:
    """Return the name in `package` (or suite), or '' if it is limited to other architectures than `arch`."""
    name, _, limit = package.partition(" [")
    return name if not limit or arch in limit.rstrip("]").split() else ""


def _hint(need: str, info: DistributionInfo) -> str:
    known = [f"cap:{each}" for each in info.capabilities] + [f"bin:{each}" for each in info.programs]
    return nearest(need, known) or f"add it in a drop-in: /etc/preroot/distributions/{info.name}.toml.d/NAME.toml"
