# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a recipe takes from directories of this machine, as packages of a kind of their own in the store.

They are no part of a resolution, so the lock pins them apart, by digest alone. Their files are read once: as long as
lstat(2) says the same of them, the digest that was found last is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct, structs

import preroot
from preroot.errors import BuildError
from preroot.packages.model import LocalPackage, Package, PackageIndex
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.recipe.load import LoadedRecipe
from preroot.unchanged import Stamp, stamp

if TYPE_CHECKING:
    from preroot.packages.directory import Found

#: the package that a kernel's directory becomes
KERNEL = "kernel-directory"
#: the package that modules built apart become
EXTRA = "extra-modules"


class Local(Struct, frozen=True):
    """What was found in the user's directories."""

    #: as the lock pins them
    pins: tuple[LocalPackage, ...] = ()
    packages: tuple[tuple[Package, PackageIndex], ...] = ()
    #: directories and files that were looked at, with their stamps from before they were read
    paths: dict[Path, Stamp] = {}


NOTHING_LOCAL = Local()


def read_local(loaded: LoadedRecipe, store: Store, reporter: Reporter) -> Local:
    """Return what the recipe takes from directories; it is in the store afterwards.

    Raises BuildError for a directory that lacks what it is named for, or can't be read.
    """
    kernel = loaded.recipe.kernel
    found = [_read_kernel(loaded, store, reporter)] if kernel.directory else []
    if kernel.extra_modules:
        found.append(_read_extra(loaded, store, reporter))
    return Local(
        tuple(pin for each in found for pin in each.pins),
        tuple(package for each in found for package in each.packages),
        {path: seen for each in found for path, seen in each.paths.items()},
    )


def spelling(path: Path, loaded: LoadedRecipe) -> str:
    """Return how a path is named in the lock: as in the recipe, that is from where the recipe lies if it is below."""
    return str(path.relative_to(loaded.base)) if path.is_relative_to(loaded.base) else str(path)


def _read_kernel(loaded: LoadedRecipe, store: Store, reporter: Reporter) -> Local:
    from preroot.facts.kernel_directory import enter, wanted
    from preroot.packages.directory import walk

    recipe = loaded.recipe
    root = loaded.base / recipe.kernel.directory
    found, directories = walk(root, enter, wanted)
    name = spelling(root, loaded)
    deciding = f"{KERNEL}\0{recipe.kernel.version}\0{recipe.kernel.monolithic}\0{recipe.distribution.arch}\0{name}"
    paths = directories | {root / each.path: stamp(root / each.path) for each in found}
    ends, outside = _followed(root, found)
    package, index = _once(
        _key(deciding, root, ends, outside), ends, lambda: _ingest_kernel(loaded, root, ends, outside, store),
        store=store, reporter=reporter, step=f"reading the kernel in {name}",
    )  # fmt: skip
    pin = LocalPackage(package.name, package.version, package.sha256, (name,))
    return Local((pin,), ((package, index),), paths)


def _ingest_kernel(
    loaded: LoadedRecipe, root: Path, ends: Mapping[str, Found], outside: Sequence[Found], store: Store
) -> tuple[Package, PackageIndex]:
    from preroot.facts.kernel_directory import choose, images
    from preroot.packages.directory import ingest

    recipe = loaded.recipe
    releases = {path: _release(root / ends[path].path, path) for path in images(ends)}
    if not releases and outside:
        raise BuildError(f"no kernel in {root}: {_told(outside[0])}", "copy it there")
    for link in outside:
        # those in /boot and beside it are names for what is there under its own name, too
        if link.path.startswith(("lib/", "usr/")):
            raise BuildError(f"{root}: {_told(link)}", "copy it there, or remove the link")
    chosen = choose(ends, releases, recipe.kernel.version, monolithic=recipe.kernel.monolithic, where=str(root))
    files = {target: ends[path] for target, path in chosen.files.items()}
    return ingest(root, files, name=KERNEL, version=chosen.release, arch=recipe.distribution.arch,
                  spelling=spelling(root, loaded), store=store)  # fmt: skip


def _told(link: Found) -> str:
    return f"{link.path} is a link to {link.target}, which is not in that directory and so not followed"


def _followed(root: Path, found: Sequence[Found]) -> tuple[dict[str, Found], list[Found]]:
    """Return path → the file that it is or leads to, and the links that lead to nothing in the directory."""
    from preroot.packages.directory import follow

    ends, outside = {}, []
    for each in found:
        end = follow(root, each) if each.kind == "symlink" else each
        if end is not None and end.kind == "file":
            ends[each.path] = end
        elif each.kind == "symlink":
            outside.append(each)
        else:
            raise BuildError(f"{root / each.path} is no file, but a device, pipe or socket", "remove it")
    return ends, outside


def _release(file: Path, path: str) -> str:
    """Return the release that an image says it is of, '' where that is not known; only as much is read as is needed."""
    from preroot.facts.kernel_directory import named_release
    from preroot.packages.learn.kernel_image import HEAD, bzimage_release, kernel_release

    try:
        with file.open("rb") as opened:
            head = opened.read(HEAD)
            said = bzimage_release(head) or named_release(path)
            return said or kernel_release(head + opened.read())
    except OSError as error:
        raise BuildError(f"cannot read {file}: {error.strerror}") from None


def _key(deciding: str, root: Path, ends: Mapping[str, Found], outside: Sequence[Found]) -> str:
    """Return a digest of all that decides which package is made: what the recipe says, and lstat(2) of each file."""
    stamps = msgspec.msgpack.encode([sorted(ends.items()), outside])
    what = f"local 1\0{preroot.__version__}\0{deciding}\0{root}\0".encode("utf-8", "surrogateescape")
    return hashlib.sha256(what + stamps).hexdigest()


def _once(
    key: str, ends: Mapping[str, Found], make: Callable[[], tuple[Package, PackageIndex]], *, store: Store,
    reporter: Reporter, step: str,
) -> tuple[Package, PackageIndex]:  # fmt: skip
    """Return the package that was made of the same files before, else one that is made now."""
    from preroot.packages.directory import is_settled

    kept = store.recall(key)
    package = msgspec.msgpack.decode(kept, type=Package) if kept else None
    index = store.index(package) if package else None
    if package and index:
        return package, index
    with reporter.step(step):
        made = make()
    if is_settled(ends):
        store.remember(key, msgspec.msgpack.encode(made[0]))
    return made


def _read_extra(loaded: LoadedRecipe, store: Store, reporter: Reporter) -> Local:
    from preroot.packages.directory import named, walk
    from preroot.packages.learn.modinfo import MODULE_SUFFIXES, is_module

    found: dict[str, Found] = {}
    paths: dict[Path, Stamp] = {}
    given = [loaded.base / each for each in loaded.recipe.kernel.extra_modules]
    suffixes = ", ".join(MODULE_SUFFIXES)
    for path in given:
        paths[path] = stamp(path)
        if not path.is_dir():
            if not is_module(path.name):
                raise BuildError(f"{path} is not named like a kernel module", f"their names end in {suffixes}")
            found[str(path)] = named(path)
            continue
        listed, looked_into = walk(path, lambda _: True, is_module)
        ends, outside = _followed(path, listed)
        if outside:
            raise BuildError(f"{path}: {_told(outside[0])}", "copy it there, or remove the link")
        if not ends:
            raise BuildError(f"no kernel module in {path}", f"looked for files whose names end in {suffixes}")
        paths |= looked_into | {path / each.path: stamp(path / each.path) for each in listed}
        root = str(path).lstrip("/")
        found |= {str(path / below): structs.replace(each, path=f"{root}/{each.path}") for below, each in ends.items()}
    names = tuple(spelling(path, loaded) for path in given)
    deciding = f"{EXTRA}\0{loaded.recipe.distribution.arch}\0{' '.join(names)}"
    package, index = _once(
        _key(deciding, Path("/"), found, ()), found, lambda: _ingest_extra(loaded, found, names, store),
        store=store, reporter=reporter, step="reading extra modules",
    )  # fmt: skip
    pin = LocalPackage(package.name, package.version, package.sha256, names)
    return Local((pin,), ((package, index),), paths)


def _ingest_extra(
    loaded: LoadedRecipe, found: Mapping[str, Found], names: Sequence[str], store: Store
) -> tuple[Package, PackageIndex]:
    from preroot.facts.kernel import module_name
    from preroot.packages.directory import ingest

    places: dict[str, str] = {}
    releases: dict[str, str] = {}
    for path in sorted(found):
        name = module_name(path)
        if name in places:
            raise BuildError(f"{places[name]} and {path} are the same module, {name}", "leave one of them out")
        places[name] = path
        releases.setdefault(_built_for(Path(path)), path)
    if len(releases) > 1:
        (one, first), (other, second) = list(releases.items())[:2]
        raise BuildError(f"{first} is built for kernel {one}, and {second} for {other}", "an image has one kernel")
    release = next(iter(releases))
    files = {f"lib/modules/{release}/updates/{Path(path).name}": found[path] for path in places.values()}
    return ingest(Path("/"), files, name=EXTRA, version=release, arch=loaded.recipe.distribution.arch,
                  spelling=" ".join(names), store=store)  # fmt: skip


def _built_for(path: Path) -> str:
    """Return the kernel release that a module is built for. Raises BuildError for what is no module."""
    from preroot.packages.codec import CodecError
    from preroot.packages.learn.modinfo import decompress_module, read_modinfo

    try:
        info = read_modinfo(decompress_module(path.name, path.read_bytes()), path.name)
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}") from None
    except CodecError as error:
        raise BuildError(f"{path} is damaged: {error}") from None
    if info is None or not info.vermagic:
        raise BuildError(f"{path} is no kernel module: it does not say which kernel it is built for")
    return info.vermagic.split()[0]
