# SPDX-License-Identifier: LGPL-2.1-or-later
"""Is an image what it is said to be: compared with its manifest, or with one that is built anew from the lock."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from preroot.engine.building import beside, output_names, read_manifest
from preroot.engine.local import read_local
from preroot.engine.locking import Chooser
from preroot.engine.pinning import changes, tool_changes
from preroot.errors import BuildError
from preroot.image.content import ContentReader
from preroot.image.manifest import Manifest, make_manifest
from preroot.image.write import write_image
from preroot.inspect.archive import Archive, read_archive
from preroot.inspect.verify import OTHER_SECRETS, PACKED_OTHERWISE, Finding, check_image
from preroot.packages.lock import read_lock
from preroot.recipe.load import LoadedRecipe
from preroot.scratch import scratch
from preroot.tree.model import Plan

if TYPE_CHECKING:
    from preroot.engine import Engine


class Verdict(Struct, frozen=True):
    """What a verification came to: nothing in `findings`, and the image is what it is said to be."""

    image: Path
    #: what the image was compared with: its manifest, or the lock that it was rebuilt from
    against: Path
    tree_digest: str
    parts: int
    paths: int
    findings: tuple[Finding, ...]
    #: what is otherwise than when the lock was written, and may be why there are findings
    notes: tuple[str, ...] = ()


def verify_manifest(image: Path) -> Verdict:
    """Compare an image with the manifest beside it. Raises BuildError where one of them can't be read."""
    path = output_names(image.stem, image.parent)["manifest"]
    if not path.is_file():
        raise BuildError(f"there is no manifest {path} beside {image}",
                         "name its recipe or its lock, and it is built anew and compared")  # fmt: skip
    manifest = read_manifest(path)
    findings = (*check_image(_read(image), manifest), *_beside(image, manifest))
    return _verdict(image, path, manifest, findings)


def verify_rebuilt(engine: Engine, image: Path, loaded: LoadedRecipe, lock: Path | None) -> Verdict:
    """Build a recipe's image anew from its lock, or from `lock`; compare `image` and the kernel beside it with that.

    Nothing is resolved: only packages that neither store nor cache have are fetched. Nothing that is kept compressed is
    taken. The lock is left as it is. Raises BuildError where the image can't be read, the lock does not fit, or the
    image can't be built.
    """
    data = _read(image)
    path = lock or engine.lock_path(loaded, image.parent)
    chooser = Chooser(loaded, engine.workspace.search, read_local(loaded, engine.store, engine.reporter))
    found = read_lock(path)
    misfit = chooser.misfit(found)
    if misfit:
        raise BuildError(f"{path}: {misfit}", "name the lock and the recipe that the image was built from")
    locked = chooser.locked(found)
    plan = engine.plan(loaded, locked)
    notes = (*changes(found, locked.data, locked.local.pins), *tool_changes(found, plan.lock.tools))
    manifest, rebuilt = _rebuilt(engine, plan, loaded.recipe.compression.threads)
    findings = check_image(data, manifest)
    if OTHER_SECRETS in findings:
        others = tuple(_other_secrets(read_archive(data, str(image)), rebuilt, manifest)) or (PACKED_OTHERWISE,)
        findings = (*findings[:-1], *others)
    return _verdict(image, path, manifest, (*findings, *_beside(image, manifest)), notes)


def _rebuilt(engine: Engine, plan: Plan, threads: int) -> tuple[Manifest, Archive]:
    """Build the image of a plan and return its manifest and what is in it; no file of it is left."""
    # the directory is for this user alone: there may be a secret in the image
    with scratch("verify") as directory:
        # below it: the directory itself is locked by its owner, and so is that of a file while it is written
        (directory / "built").mkdir()
        target = directory / "built/image"
        reader = ContentReader(engine.store)
        written = write_image(plan, target, reader, threads=threads, reporter=engine.reporter)
        digests = {role: digest for role, _, digest in beside(plan, reader)}
        return make_manifest(plan, written, digests), read_archive(target.read_bytes(), "the rebuilt image")


def _other_secrets(image: Archive, rebuilt: Archive, manifest: Manifest) -> Iterator[Finding]:
    """Yield which secrets have another content than the recipe's sources."""
    there, wanted = image.effective(), rebuilt.effective()
    for part in manifest.parts:
        for entry in part.entries:
            if entry.secret and image.read(there[entry.path]) != rebuilt.read(wanted[entry.path]):
                yield Finding(part.name, entry.path, "is another secret than the recipe's")


def _beside(image: Path, manifest: Manifest) -> Iterator[Finding]:
    """Yield which of the files that a build puts beside an image are others; those that are not there say nothing."""
    names = output_names(image.stem, image.parent)
    for role, digest in manifest.beside.items():
        path = names.get(role)
        if path is not None and path.is_file() and sha256(_read(path)).hexdigest() != digest:
            yield Finding("", "", f"the {role} {path} beside it is another one")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read {path}: {error.strerror}") from None


def _verdict(
    image: Path, against: Path, manifest: Manifest, findings: tuple[Finding, ...], notes: tuple[str, ...] = ()
) -> Verdict:
    paths = sum(len(part.entries) for part in manifest.parts)
    return Verdict(image, against, manifest.tree_digest, len(manifest.parts), paths, findings, notes)
