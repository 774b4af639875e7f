# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a recipe takes from directories of this machine, as packages of a kind of their own in the store.

They are no part of a resolution, so the lock pins them apart, by digest alone. Their files are read once: as long as
lstat(2) says the same of them, the digest that was found last is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from preroot.errors import BuildError
from preroot.packages.model import LocalPackage, Package, PackageIndex
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.recipe.load import LoadedRecipe

if TYPE_CHECKING:
    from preroot.packages.directory import Found

#: the package that a kernel's directory becomes
KERNEL = "kernel-directory"


class Local(Struct, frozen=True):
    """What was found in the user's directories."""

    #: as the lock pins them
    pins: tuple[LocalPackage, ...] = ()
    packages: tuple[tuple[Package, PackageIndex], ...] = ()
    #: directories and files that were looked at
    paths: tuple[Path, ...] = ()


NOTHING_LOCAL = Local()


def read_local(loaded: LoadedRecipe, store: Store, reporter: Reporter) -> Local:
    """Return what the recipe takes from directories; it is in the store afterwards.

    Raises BuildError for a directory that lacks what it is named for, or can't be read.
    """
    kernel = loaded.recipe.kernel
    return _read_kernel(loaded, store, reporter) if kernel.directory else NOTHING_LOCAL


def spelling(path: Path, loaded: LoadedRecipe) -> str:
    """Return how a path is named in the lock: as in the recipe, that is from where the recipe lies if it is below."""
    return str(path.relative_to(loaded.base)) if path.is_relative_to(loaded.base) else str(path)


def _read_kernel(loaded: LoadedRecipe, store: Store, reporter: Reporter) -> Local:
    from preroot.facts.kernel_directory import enter, wanted
    from preroot.packages.directory import is_settled, walk

    recipe = loaded.recipe
    root = loaded.base / recipe.kernel.directory
    found, directories = walk(root, enter, wanted)
    name = spelling(root, loaded)
    deciding = f"{KERNEL}\0{recipe.kernel.version}\0{recipe.kernel.monolithic}\0{recipe.distribution.arch}\0{name}"
    ends, outside = _followed(root, found)
    key = _key(deciding, root, ends, outside)
    kept = _kept(key, store)
    if kept is None:
        with reporter.step(f"reading the kernel in {name}"):
            kept = _ingest_kernel(loaded, root, ends, outside, store)
        if is_settled(ends):
            store.remember(key, msgspec.msgpack.encode(kept[0]))
    package, index = kept
    pin = LocalPackage(package.name, package.version, package.sha256, (name,))
    return Local((pin,), ((package, index),), (*directories, *(root / each.path for each in found)))


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
    return hashlib.sha256(f"local 1\0{deciding}\0{root}\0".encode("utf-8", "surrogateescape") + stamps).hexdigest()


def _kept(key: str, store: Store) -> tuple[Package, PackageIndex] | None:
    """Return the package that was made of the same files before, None where it has to be made (again)."""
    kept = store.recall(key)
    package = msgspec.msgpack.decode(kept, type=Package) if kept else None
    index = store.index(package) if package else None
    return (package, index) if package and index else None
