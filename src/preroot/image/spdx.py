# SPDX-License-Identifier: LGPL-2.1-or-later
"""An SBOM as SPDX 2.3 in JSON (https://spdx.github.io/spdx-spec/v2.3/).

The image is a package that has been analysed and contains all files. The packages that these are from have not been
analysed (most of their files are not there), so by the specification they contain none; each file points to its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from typing import Any

from preroot.image.sbom import Component, Sbom, SbomFile, verification_code

_IMAGE = "SPDXRef-Image"
_DISTRIBUTION = "SPDXRef-Distribution"
_UNSAID = "NOASSERTION"
_PURPOSES = {"kernel": "OPERATING-SYSTEM", "firmware": "FIRMWARE", "preroot": "APPLICATION", "recipe": "OTHER"}


def spdx(sbom: Sbom) -> dict[str, Any]:
    """Return the document as plain data."""
    ids = {component.key: _reference("Package", component.name, component.key) for component in sbom.components}
    return {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": sbom.image,
        "documentNamespace": f"urn:uuid:{sbom.serial}",
        "creationInfo": {"created": sbom.created, "creators": [f"Tool: preroot-{sbom.preroot}"]},
        "packages": [
            _image(sbom), _distribution(sbom), *(_package(each, ids[each.key]) for each in sbom.components),
            *(_tool(name, version) for name, version in sorted(sbom.tools.items())),
        ],
        "files": [_file(file) for file in sbom.files],
        "relationships": list(_relationships(sbom, ids)),
        "hasExtractedLicensingInfos": [
            {"licenseId": each.reference, "name": each.name, "extractedText": each.text} for each in sbom.texts
        ],
    }  # fmt: skip


def _reference(kind: str, name: str, key: str) -> str:
    """Return an identifier of the document: readable, and of each key another one."""
    return f"SPDXRef-{kind}-{re.sub(r'[^A-Za-z0-9.]+', '-', name)}-{sha256(key.encode()).hexdigest()[:12]}"


def _file_reference(file: SbomFile) -> str:
    return _reference("File", file.path.rpartition("/")[2], f"{file.part}\0{file.path}")


def _image(sbom: Sbom) -> dict[str, Any]:
    found = {
        "SPDXID": _IMAGE,
        "name": sbom.image,
        "downloadLocation": _UNSAID,
        "filesAnalyzed": True,
        "packageVerificationCode": {"packageVerificationCodeValue": verification_code(sbom.files)},
        "licenseConcluded": _UNSAID,
        "licenseDeclared": _UNSAID,
        "licenseInfoFromFiles": [_UNSAID],
        "copyrightText": _UNSAID,
        "primaryPackagePurpose": "ARCHIVE",
        "comment": f"tree digest {sbom.tree_digest}; lock digest {sbom.lock_digest}; architecture {sbom.arch}",
    }
    if sbom.image_sha256:
        found["checksums"] = [{"algorithm": "SHA256", "checksumValue": sbom.image_sha256}]
    return found


def _unanalysed(reference: str, name: str, version: str, purpose: str) -> dict[str, Any]:
    return {
        "SPDXID": reference,
        "name": name,
        "versionInfo": version,
        "downloadLocation": _UNSAID,
        "filesAnalyzed": False,
        "licenseConcluded": _UNSAID,
        "licenseDeclared": _UNSAID,
        "copyrightText": _UNSAID,
        **({"primaryPackagePurpose": purpose} if purpose else {}),
    }


def _distribution(sbom: Sbom) -> dict[str, Any]:
    return _unanalysed(_DISTRIBUTION, sbom.distribution, sbom.release, "OPERATING-SYSTEM")


def _tool(name: str, version: str) -> dict[str, Any]:
    return _unanalysed(_reference("Tool", name, name), name, version, "APPLICATION")


def _package(component: Component, reference: str) -> dict[str, Any]:
    found = _unanalysed(reference, component.name, component.version, _PURPOSES.get(component.kind, ""))
    if not component.version:
        del found["versionInfo"]
    if component.licence:
        found["licenseDeclared"] = component.licence
    if component.location:
        found["downloadLocation"] = component.location
    if component.filename:
        found["packageFileName"] = component.filename
    if component.sha256:
        found["checksums"] = [{"algorithm": "SHA256", "checksumValue": component.sha256}]
    if component.source:
        found["sourceInfo"] = f"built from source package {component.source} {component.source_version}"
    if component.purl:
        found["externalRefs"] = [
            {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": component.purl}
        ]
    return found


def _file(file: SbomFile) -> dict[str, Any]:
    found: dict[str, Any] = {
        "SPDXID": _file_reference(file),
        "fileName": f"./{_plain(file.path)}",
        "checksums": [
            {"algorithm": "SHA1", "checksumValue": file.sha1}, {"algorithm": "SHA256", "checksumValue": file.sha256},
        ],
        "licenseConcluded": _UNSAID,
        "copyrightText": _UNSAID,
        "comment": "; ".join((f"part {file.part}", *file.changes)),
    }  # fmt: skip
    return found


def _plain(path: str) -> str:
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _relationships(sbom: Sbom, ids: dict[str, str]) -> Iterator[dict[str, str]]:
    def related(one: str, kind: str, other: str) -> dict[str, str]:
        return {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other}

    yield related("SPDXRef-DOCUMENT", "DESCRIBES", _IMAGE)
    yield related(_IMAGE, "GENERATED_FROM", _DISTRIBUTION)
    for component in sbom.components:
        yield related(_IMAGE, "CONTAINS", ids[component.key])
    archives = {component.key for component in sbom.components if component.filename}
    for file in sbom.files:
        yield related(_IMAGE, "CONTAINS", _file_reference(file))
        kind = "EXPANDED_FROM_ARCHIVE" if file.key in archives and not file.changes else "GENERATED_FROM"
        yield related(_file_reference(file), kind, ids[file.key])
    for name in sorted(sbom.tools):
        yield related(_reference("Tool", name, name), "BUILD_TOOL_OF", _IMAGE)
