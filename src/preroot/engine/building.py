# SPDX-License-Identifier: LGPL-2.1-or-later
"""From a plan to files: image, manifest, kernel and lock, each whole or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from msgspec import Struct, structs

from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.image.digest import content_digest
from preroot.image.kept import KeptParts
from preroot.image.manifest import Manifest, decode, encode, make_manifest
from preroot.image.write import WrittenPart, write_image
from preroot.packages.store import Store
from preroot.progress import Reporter
from preroot.recipe.schema import Codec
from preroot.staging import Staging, check_target
from preroot.tree.model import Plan
from preroot.unchanged import Stamp


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
    #: every file that decided about it, those that do not exist included (one that appears is a change), with its
    #: stamp from before it was read; only Engine.build knows them, after Engine.write alone there are none
    consulted: dict[Path, Stamp] = {}
    #: every file that is its result, the lock of Engine.build included, with its stamp
    written: dict[Path, Stamp] = {}


def output_names(name: str, directory: Path) -> dict[str, Path]:
    """Return where a build writes, by its name (`LoadedRecipe.output_name`): image, manifest, what is beside."""
    return {
        "image": directory / f"{name}.initrd",
        "manifest": directory / f"{name}.manifest.json",
        "kernel": directory / f"{name}.vmlinuz",
        "licences": directory / f"{name}.licences.tar.zst",
        "spdx": directory / f"{name}.spdx.json",
        "cyclonedx": directory / f"{name}.cdx.json",
    }


def write_outputs(
    plan: Plan, directory: Path, store: Store, staging: Staging, *, name: str, threads: int, reporter: Reporter,
    sboms: Callable[[Manifest], Mapping[str, bytes]] | None = None,
) -> BuildResult:  # fmt: skip
    """Write all outputs of a plan, to be in `directory`, named after `name`, when `staging` is committed.

    `sboms` makes SBOMs from the manifest (role → content), where there are to be some. The manifest comes last and
    carries the digests of image, kernel and SBOMs: who finds them apart after a crash can tell. Raises BuildError.
    """
    names = output_names(name, directory)
    reader = ContentReader(store)
    digests = {}
    for role, data, digest in beside(plan, reader):
        staging.write(names[role], data)
        digests[role] = digest
    kept = KeptParts(store, plan)
    written = write_image(plan, names["image"], reader, staging=staging, threads=threads, kept=kept, reporter=reporter)
    if any(part.budget for part in plan.parts):
        from preroot.engine.budget import check_budgets

        check_budgets(plan, written.parts)
    manifest = make_manifest(plan, written, digests)
    for role, data in (sboms(manifest) if sboms else {}).items():
        staging.write(names[role], data)
        manifest = structs.replace(manifest, beside={**manifest.beside, role: sha256(data).hexdigest()})
    staging.write(names["manifest"], encode(manifest), secret=plan.secret)
    return BuildResult(
        image=names["image"], manifest=names["manifest"], kernel=names["kernel"] if "kernel" in digests else None,
        size=written.size, sha256=written.sha256, tree_digest=manifest.tree_digest, parts=written.parts,
        secret=plan.secret, warnings=plan.warnings,
    )  # fmt: skip


def beside(plan: Plan, reader: ContentReader) -> Iterator[tuple[str, bytes, str]]:
    """Yield what lies beside the image and belongs to it: role, as `output_names` has it, content and SHA-256."""
    if plan.kernel is not None and plan.kernel.image is not None:
        yield "kernel", reader.read(plan.kernel.image), content_digest(plan.kernel.image)
    if plan.licences.entries:
        from preroot.image.licences import licence_archive

        data = licence_archive(plan.licences, reader.read)
        yield "licences", data, sha256(data).hexdigest()


def codecs_of(plan: Plan) -> set[Codec]:
    """Return the codecs that what is written of a plan is compressed with."""
    from preroot.image.licences import CODEC

    codecs = {part.codec for part in plan.parts if part.tree.entries}
    return codecs | {CODEC} if plan.licences.entries else codecs


def check_outputs(name: str, directory: Path) -> None:
    """Raise BuildError when a build could not write there: better before packages are resolved than after it."""
    make_directory(directory)
    for path in output_names(name, directory).values():
        check_target(path)


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


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file aside and rename it into place; one that is the same already is left alone.

    Raises BuildError when it can't be written.
    """
    with Staging() as staging:
        staging.write(path, data)
        staging.commit()
