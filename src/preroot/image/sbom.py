# SPDX-License-Identifier: LGPL-2.1-or-later
"""What an SBOM says of an image, whatever its format: from manifest, lock, and what packages say of themselves. Pure.

It can be given to anybody: there is nothing of a secret in it, and of an image with one neither digest nor size. It is
reproducible: equal images from equal locks have equal SBOMs.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha1
from typing import Literal
from urllib.parse import quote, urlsplit

from msgspec import Struct

from preroot.errors import BuildError, RecipeError
from preroot.image.manifest import Manifest, ManifestEntry
from preroot.packages.copyright import UNKNOWN, Licence, LicenceText
from preroot.packages.model import LocalPackage, Lock, Package

#: `kernel`: packages and directories that the kernel and its modules are from; `firmware`: what is firmware and
#: microcode alone; `preroot`: what preroot wrote, features and runtime files included; `recipe`: the recipe's own files
Kind = Literal["package", "kernel", "firmware", "preroot", "recipe"]

#: source of a lock → type of its packages' purls
_PURL_TYPES = {"dnf": "rpm", "zypper": "rpm", "pacman": "alpm"}
#: paths whose files are for devices and processors, not for the kernel
_FIRMWARE = ("usr/lib/firmware/", "kernel/x86/microcode/")


class PackageFacts(Struct, frozen=True):
    """What a package says of itself: its source package (name and version), and its licence."""

    source: str
    source_version: str
    licence: Licence = UNKNOWN


class Component(Struct, frozen=True):
    """Something that files of the image are from."""

    kind: Kind
    #: tells it from all others: a purl, or preroot's own name for it
    key: str
    name: str
    version: str = ""
    arch: str = ""
    #: https://github.com/package-url/purl-spec; '' for the recipe
    purl: str = ""
    #: of the package file
    sha256: str = ""
    #: path of the package file below any mirror, and its address where one was named
    filename: str = ""
    location: str = ""
    source: str = ""
    source_version: str = ""
    source_purl: str = ""
    #: an SPDX expression, '' where it is not known
    licence: str = ""


class SbomFile(Struct, frozen=True):
    """A file of the image. `key` is its component's."""

    part: str
    path: str
    sha1: str
    sha256: str
    key: str
    changes: tuple[str, ...] = ()


class Sbom(Struct, frozen=True):
    """All that there is to say of an image."""

    #: file name of the image
    image: str
    #: '' for an image with a secret inside
    image_sha256: str
    tree_digest: str
    lock_digest: str
    preroot: str
    distribution: str
    #: number of the release, or its name where it has none
    release: str
    arch: str
    #: RFC 3339, in UTC and whole seconds
    created: str
    #: derived from all of the above
    serial: uuid.UUID
    components: tuple[Component, ...]
    files: tuple[SbomFile, ...]
    texts: tuple[LicenceText, ...]
    #: what shaped the image's bytes: name → version
    tools: dict[str, str]


def make_sbom(
    manifest: Manifest, lock: Lock, *, image: str, release: str, facts: Mapping[str, PackageFacts],
    digests: Mapping[tuple[str, str], str], created: str, locations: Sequence[str] = (),
) -> Sbom:  # fmt: skip
    """Return the SBOM of an image.

    Arguments: its manifest and lock, its file name, the number of the release; by the SHA-256 of each package what it
    says of itself; by (part, path) the SHA-1 of each file that is no secret, which SPDX wants; the date of the SBOM;
    the public addresses of the lock's repositories, in its order, where they are to be named.
    Raises BuildError where the lock has not what the manifest names.
    """
    distro = f"{manifest.distribution}-{release}"
    _check_locations(locations)
    packages = _packages(manifest, lock, _Namer(lock, distro, facts, tuple(locations)))
    own = [
        Component("preroot", f"preroot@{manifest.preroot}", "preroot", manifest.preroot,
                  purl=f"pkg:generic/preroot@{_escaped(manifest.preroot)}", licence="LGPL-2.1-or-later"),
        Component("recipe", f"recipe {manifest.name}", f"{manifest.name} (recipe)"),
    ]  # fmt: skip
    keys = {owner: component.key for owner, components in packages.items() for component in components[:1]}
    files = tuple(_files(manifest, keys, own, digests))
    used = {file.key for file in files}
    components = [each for several in packages.values() for each in several]
    components += [each for each in own if each.key in used or each.kind == "preroot"]
    digest = "" if manifest.secret else manifest.image_sha256
    seed = "\0".join(
        ("preroot sbom", image, digest, manifest.tree_digest, manifest.lock_digest, manifest.preroot, created)
    )
    texts = {text.reference: text for each in facts.values() for text in each.licence.texts
             if any(text.reference in component.licence for component in components)}  # fmt: skip
    return Sbom(
        image=image, image_sha256=digest, tree_digest=manifest.tree_digest, lock_digest=manifest.lock_digest,
        preroot=manifest.preroot, distribution=manifest.distribution, release=release, arch=manifest.arch,
        created=created, serial=uuid.uuid5(uuid.NAMESPACE_OID, seed), components=tuple(components), files=files,
        texts=tuple(texts[reference] for reference in sorted(texts)), tools=dict(manifest.tools),
    )  # fmt: skip


def entries_of(manifest: Manifest) -> Iterator[tuple[str, ManifestEntry]]:
    """Yield (part, entry) of every path of an image."""
    for part in manifest.parts:
        for entry in part.entries:
            yield part.name, entry


def package_owners(manifest: Manifest) -> tuple[str, ...]:
    """Return `name=version` of the packages that are really in an image: that have more there than directories."""
    owners = {entry.owner for _, entry in entries_of(manifest) if entry.type != "directory"}
    kernel = manifest.kernel.packages if manifest.kernel else ()
    return tuple(sorted({owner for owner in (*owners, *kernel) if "=" in owner}))


def _check_locations(locations: Iterable[str]) -> None:
    """Raise RecipeError for an address that is none to be given to anybody."""
    for address in locations:
        parts = urlsplit(address)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise RecipeError(f"the location {address!r} is no http or https address", "name a mirror or a snapshot")
        if "@" in parts.netloc:
            raise RecipeError(f"the location at {parts.hostname} has credentials in it", "an SBOM is for everybody")


def _packages(manifest: Manifest, lock: Lock, namer: _Namer) -> dict[str, list[Component]]:
    """Return owner → components; a lock may have a package for several architectures."""
    locked: dict[str, list[Package]] = {}
    for package in lock.packages:
        locked.setdefault(package.owner, []).append(package)
    local = {each.owner: each for each in lock.local}
    kernels = set(manifest.kernel.packages) if manifest.kernel else set()
    firmware = _all_firmware(manifest)
    found: dict[str, list[Component]] = {}
    for owner in package_owners(manifest):
        kind: Kind = "firmware" if owner in firmware else "kernel" if owner in kernels else "package"
        if owner in local:
            found[owner] = [_local(kind, local[owner])]
            continue
        if owner not in locked:
            raise BuildError(f"the image has files of {owner}, which the lock has not",
                             "name the lock that the image was built from: --lock")  # fmt: skip
        found[owner] = [namer.component(kind, each) for each in locked[owner]]
    return found


def _all_firmware(manifest: Manifest) -> set[str]:
    """Return the owners all of whose files are firmware or microcode."""
    firmware: dict[str, bool] = {}
    for _, entry in entries_of(manifest):
        if entry.type == "file":
            firmware[entry.owner] = firmware.get(entry.owner, True) and entry.path.startswith(_FIRMWARE)
    return {owner for owner, all_of_it in firmware.items() if all_of_it}


class _Namer(Struct, frozen=True):
    """Makes components of a lock's packages."""

    lock: Lock
    #: `debian-13`, by which scanners know what the versions are to be compared with
    distro: str
    facts: Mapping[str, PackageFacts]
    locations: tuple[str, ...]

    def component(self, kind: Kind, package: Package) -> Component:
        """Return the component of a package."""
        said = self.facts[package.sha256]
        key = self._purl(package.name, package.version, package.arch)
        at = package.repository
        location = f"{self.locations[at].rstrip('/')}/{quote(package.filename)}" if at < len(self.locations) else ""
        return Component(
            kind, key, package.name, package.version, package.arch, purl=key, sha256=package.sha256,
            filename=package.filename, location=location, source=said.source, source_version=said.source_version,
            source_purl=self._purl(said.source, said.source_version, "source"), licence=said.licence.expression,
        )  # fmt: skip

    def _purl(self, name: str, version: str, arch: str) -> str:
        kind = _PURL_TYPES.get(self.lock.source, "deb")
        where = f"arch={_escaped(arch)}&distro={_escaped(self.distro)}"
        return f"pkg:{kind}/{_escaped(self.lock.distribution)}/{_escaped(name)}@{_escaped(version)}?{where}"


def _local(kind: Kind, package: LocalPackage) -> Component:
    """Return the component for what a build took from a directory: it has a digest, and no place in any archive."""
    purl = f"pkg:generic/{_escaped(package.name)}@{_escaped(package.version)}?checksum=sha256:{package.sha256}"
    return Component(kind, purl, package.name, package.version, purl=purl)


def _escaped(text: str) -> str:
    """Return text as purl wants it: percent-encoded but for letters, digits, `.-_~` and the colon of an epoch."""
    return quote(text, safe=":~")


def _files(
    manifest: Manifest, keys: Mapping[str, str], own: Iterable[Component], digests: Mapping[tuple[str, str], str]
) -> Iterator[SbomFile]:
    preroot, recipe = own
    for part, entry in entries_of(manifest):
        if entry.type == "file" and not entry.secret:
            key = keys.get(entry.owner) or (recipe if entry.owner == "recipe" else preroot).key
            yield SbomFile(part, entry.path, digests[part, entry.path], entry.sha256, key, entry.changes)


def verification_code(files: Iterable[SbomFile]) -> str:
    """Return SPDX's package verification code: the SHA-1 of the files' SHA-1 digests, sorted (SPDX 2.3, 7.9)."""
    return sha1("".join(sorted(file.sha1 for file in files)).encode(), usedforsecurity=False).hexdigest()
