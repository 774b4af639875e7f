# SPDX-License-Identifier: LGPL-2.1-or-later
"""The SBOM of a built image: what its manifest and lock do not have comes out of the packages and the image itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from hashlib import sha1
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from preroot.engine.building import output_names, read_manifest
from preroot.engine.planning import unpacked
from preroot.errors import BuildError, RecipeError
from preroot.facts.arch import arch
from preroot.image.content import ContentReader
from preroot.image.digest import is_secret
from preroot.image.manifest import Manifest, lock_digest
from preroot.image.sbom import PackageFacts, Sbom, make_sbom, package_owners
from preroot.inspect.archive import read_archive
from preroot.inspect.verify import check_image
from preroot.packages.copyright import UNKNOWN, Licence, read_licence
from preroot.packages.lock import read_lock
from preroot.packages.model import Lock, Package, PackageIndex
from preroot.packages.store import Store
from preroot.recipe.distributions import DistributionInfo, load_distribution
from preroot.recipe.schema import Distribution, SbomFormat
from preroot.tree.model import Plan
from preroot.tree.pool import Pool

if TYPE_CHECKING:
    from preroot.engine import Engine


def find_lock_of(image: Path, manifest: Manifest, asked: Path | None) -> Lock:
    """Return the lock of an image: the one asked for, else one beside it or in this directory that has its packages.

    Raises BuildError where there is none, RecipeError for one that is damaged.
    """
    if asked is not None:
        return read_lock(asked)
    names = dict.fromkeys((f"{image.stem}.lock", f"{manifest.name}.lock", "preroot.lock"))
    places = [directory / name for directory in (image.parent, Path()) for name in names]
    locks = [read_lock(path) for path in places if path.is_file()]
    for lock in locks:
        if lock_digest(lock) == manifest.lock_digest:
            return lock
    # one that --locked has used is not completed, and so has another digest than the manifest's
    for lock in locks:
        locked = {package.owner for package in lock.packages} | {package.owner for package in lock.local}
        if set(package_owners(manifest)) <= locked:
            return lock
    raise BuildError(f"there is no lock of {image}, neither beside it nor here", "name it with --lock")


def sbom_of(engine: Engine, image: Path, lock: Path | None, locations: Sequence[str] = ()) -> Sbom:
    """Return the SBOM of an image with its manifest beside it; packages that the store lacks are fetched.

    `locations` are the public addresses of the lock's repositories. Raises BuildError where the image is not what its
    manifest says, or the lock is not its own, RecipeError for an address that is none.
    """
    manifest = read_manifest(output_names(image.stem, image.parent)["manifest"])
    found = find_lock_of(image, manifest, lock)
    digests = _file_digests(image, manifest)
    return _made(engine, manifest, found, image=image.name, digests=digests, locations=locations)


def sboms_of_plan(
    engine: Engine, plan: Plan, image: str, forms: Iterable[SbomFormat], manifest: Manifest
) -> dict[str, bytes]:
    """Return format → SBOM of an image that is being written under the name `image`, its manifest made already."""
    reader = ContentReader(engine.store)
    digests = {
        (part.name, entry.path): sha1(reader.read(entry), usedforsecurity=False).hexdigest()
        for part in plan.parts
        for entry in part.tree.entries.values()
        if entry.type == "file" and not is_secret(entry)
    }
    made = _made(engine, manifest, plan.lock, image=image, digests=digests)
    return {form: render(made, form) for form in forms}


def _made(
    engine: Engine, manifest: Manifest, lock: Lock, *, image: str, digests: Mapping[tuple[str, str], str],
    locations: Sequence[str] = (),
) -> Sbom:  # fmt: skip
    search = engine.workspace.search
    info = load_distribution(manifest.distribution, manifest.release, arch(manifest.arch).name, search)
    source = engine.source(Distribution(manifest.distribution, manifest.release, manifest.arch), info)
    indexes = unpacked(lock.packages, engine.store, source, engine.reporter)
    facts = package_facts(lock.packages, indexes, info, engine.store)
    return make_sbom(
        manifest, lock, image=image, release=info.number or info.release, facts=facts, digests=digests,
        created=created(lock.trust, os.environ.get("SOURCE_DATE_EPOCH", "")), locations=locations,
    )  # fmt: skip


def render(sbom: Sbom, form: SbomFormat) -> bytes:
    """Return an SBOM as JSON in a format, indented, ended by a line break."""
    if form == "spdx":
        from preroot.image.spdx import spdx as as_data
    else:
        from preroot.image.cyclonedx import cyclonedx as as_data
    return msgspec.json.format(msgspec.json.encode(as_data(sbom)), indent=1) + b"\n"


def _file_digests(image: Path, manifest: Manifest) -> dict[tuple[str, str], str]:
    """Return (part, path) → SHA-1 of every file but secrets."""
    try:
        data = image.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read {image}: {error.strerror}") from None
    if check_image(data, manifest):
        raise BuildError(f"{image} is not what its manifest says", f"preroot verify {image} tells what differs")
    found = {}
    for part, segment in zip(manifest.parts, read_archive(data, str(image)).segments, strict=True):
        secrets = {entry.path for entry in part.entries if entry.secret}
        for entry in segment.entries:
            if entry.type == "file" and entry.path not in secrets:
                digest = sha1(segment.content(entry), usedforsecurity=False).hexdigest()
                found[part.name, entry.path] = digest
    return found


def package_facts(
    packages: Iterable[Package], indexes: Iterable[PackageIndex], info: DistributionInfo, store: Store
) -> dict[str, PackageFacts]:
    """Return what each package says of itself, by its SHA-256."""
    pairs = list(zip(packages, indexes, strict=True))
    pool = Pool(pairs, info.merged)
    read: dict[str, Licence] = {}
    found = {}
    for package, index in pairs:
        name, version = _source(package, index.control)
        found[package.sha256] = PackageFacts(name, version, _licence(package, pool, store, read))
    return found


def _source(package: Package, control: Mapping[str, str]) -> tuple[str, str]:
    """Return name and version of a package's source: those of the package where it says nothing else.

    Source: deb-control(5), `Source: NAME (VERSION)`.
    """
    name, _, version = control.get("Source", package.name).partition(" ")
    return name, version.strip("()") or package.version


def _licence(package: Package, pool: Pool, store: Store, read: dict[str, Licence]) -> Licence:
    """Return what the copyright file of a package says; several packages often have the same file, by content."""
    path = pool.resolve(f"usr/share/doc/{package.name}/copyright").path
    file = pool.get(path) if path else None
    if file is None or file.info.type not in ("file", "hardlink"):
        return UNKNOWN
    if file.info.sha256 not in read:
        text = store.read(file.package.sha256, file.info).decode("utf-8", "replace")
        read[file.info.sha256] = read_licence(text)
    return read[file.info.sha256]


def created(trust: Mapping[str, str], epoch: str) -> str:
    """Return the date of an SBOM, in RFC 3339: no clock's, so that it can be made again.

    It is SOURCE_DATE_EPOCH (https://reproducible-builds.org/specs/source-date-epoch/) where that is set; else the date
    of the newest Release file that the lock names, else the beginning of 1970. Raises RecipeError for a variable that
    is no number of seconds.
    """
    if epoch:
        try:
            return _rfc3339(datetime.fromtimestamp(int(epoch), UTC))
        except (ValueError, OverflowError, OSError):
            raise RecipeError(f"SOURCE_DATE_EPOCH is {epoch!r}, which is no date", "seconds since 1970") from None
    dates = [datetime.fromtimestamp(0, UTC)]
    for text in trust.values():
        try:
            date = parsedate_to_datetime(text.partition(";")[0])
        except ValueError:
            continue
        dates.append(date if date.tzinfo else date.replace(tzinfo=UTC))
    return _rfc3339(max(dates))


def _rfc3339(date: datetime) -> str:
    return date.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
