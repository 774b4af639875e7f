# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a plan to files: image, manifest, kernel and lock, each whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.image.kept import KeptParts
from preroot.image.manifest import Manifest, decode, encode, make_manifest
from preroot.image.write import Output, WrittenImage, WrittenPart, replace_file, write_image
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.tree.model import Plan


class BuildResult(Struct, frozen=True):
    """What a build wrote. Sizes are in bytes, digests SHA-256 in hexadecimal."""

    image: Path
    manifest: Path
    #: vmlinuz beside the image, for `preroot boot`; None for an image without a kernel
    kernel: Path | None
    size: int
    sha256: str
    #: of the contents before compression: the same whatever the compressor
    tree_digest: str
    parts: tuple[WrittenPart, ...]
    #: there is a secret in the image, so only its owner can read it
    secret: bool
    #: the plan's
    warnings: tuple[str, ...] = ()
    #: every file that decided about it, those that do not exist included (one that appears is a change); only
    #: Engine.build knows them, after Engine.write alone there are none
    consulted: tuple[Path, ...] = ()


def output_names(name: str, directory: Path) -> dict[str, Path]:
    """Return where a build writes: `image`, `manifest`, `kernel`, by its name (`LoadedRecipe.output_name`)."""
    return {
        "image": directory / f"{name}.initrd",
        "manifest": directory / f"{name}.manifest.json",
        "kernel": directory / f"{name}.vmlinuz",
    }


def write_outputs(
    plan: Plan, directory: Path, store: Store, *, name: str, threads: int, reporter: Reporter
) -> BuildResult:
    """Write image, manifest and kernel of a plan into `directory`, named after `name`.

    The image is renamed into place before its manifest, and the manifest carries the image's digest: who finds the
    two apart after a crash can tell. Raises BuildError; each file then is as it was before.
    """
    names = output_names(name, directory)
    reader = ContentReader(store)
    kept = KeptParts(store, plan)
    written = write_image(plan, names["image"], reader, threads=threads, kept=kept, reporter=reporter)
    manifest = make_manifest(plan, written)
    write_file(names["manifest"], encode(manifest), secret=plan.secret)
    kernel = plan.kernel.image if plan.kernel else None
    if kernel is not None:
        write_file(names["kernel"], reader.read(kernel), secret=False)
    return _result(plan, written, manifest, names, kernel is not None)


def _result(
    plan: Plan, written: WrittenImage, manifest: Manifest, names: Mapping[str, Path], has_kernel: bool
) -> BuildResult:
    return BuildResult(
        image=names["image"],
        manifest=names["manifest"],
        kernel=names["kernel"] if has_kernel else None,
        size=written.size,
        sha256=written.sha256,
        tree_digest=manifest.tree_digest,
        parts=written.parts,
        secret=plan.secret,
        warnings=plan.warnings,
    )


def make_directory(directory: Path) -> None:
    """Make the directory that a build writes to, unless it is there, and see that it can be written.

    Raises BuildError: better before the packages are resolved and fetched than after it.
    """
    import os

    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BuildError(
            f"cannot make the directory {directory}: {error.strerror}", "choose another --output"
        ) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise BuildError(f"the directory {directory} cannot be written", "choose another --output")


def read_manifest(path: Path) -> Manifest:
    """Return the manifest in a file. Raises BuildError where it can't be read."""
    try:
        return decode(path.read_bytes(), str(path))
    except OSError as error:
        raise BuildError(f"cannot read the manifest {path}: {error.strerror}") from None


def secrets_of(image: Path) -> frozenset[str]:
    """Return the paths of an image's secrets, by the manifest beside it; none where there is no such manifest.

    Raises BuildError for a manifest that can't be read.
    """
    path = output_names(image.stem, image.parent)["manifest"]
    if not path.is_file():
        return frozenset()
    return frozenset(entry.path for part in read_manifest(path).parts for entry in part.entries if entry.secret)


def write_file(path: Path, data: bytes, *, secret: bool) -> None:
    """Write a whole file aside and rename it into place; one that is the same already is left alone."""
    if not secret and path.is_file() and path.stat().st_size == len(data) and path.read_bytes() == data:
        return

    def write(output: Output) -> tuple[WrittenPart, ...]:
        output.write(data)
        return ()

    replace_file(path, write, secret=secret)
