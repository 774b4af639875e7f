# SPDX-License-Identifier: LGPL-2.1-or-later
"""An SBOM as CycloneDX 1.6 in JSON (ECMA-424, https://cyclonedx.org/docs/1.6/json/)."""

from __future__ import annotations

from typing import Any

from preroot.image.sbom import Component, Sbom, SbomFile

_IMAGE = "image"
_TYPES = {"package": "library", "kernel": "operating-system", "firmware": "firmware", "preroot": "application",
          "recipe": "data"}  # fmt: skip


def cyclonedx(sbom: Sbom) -> dict[str, Any]:
    """Return the document as plain data."""
    by_component: dict[str, list[SbomFile]] = {}
    for file in sbom.files:
        by_component.setdefault(file.key, []).append(file)
    components = [_component(each, by_component.get(each.key, [])) for each in sbom.components]
    # scanners for vulnerabilities find out by it which distribution the packages are of
    distribution = {
        "type": "operating-system", "bom-ref": "distribution", "name": sbom.distribution, "version": sbom.release,
    }  # fmt: skip
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{sbom.serial}",
        "version": 1,
        "metadata": {
            "timestamp": sbom.created,
            "tools": {"components": [{"type": "application", "name": "preroot", "version": sbom.preroot}]},
            "component": _image(sbom),
        },
        "components": [distribution, *components],
        "dependencies": [
            {"ref": _IMAGE, "dependsOn": ["distribution", *sorted(component.key for component in sbom.components)]}
        ],
        "formulation": [_formula(sbom)],
    }


def _image(sbom: Sbom) -> dict[str, Any]:
    found: dict[str, Any] = {"type": "file", "bom-ref": _IMAGE, "name": sbom.image}
    if sbom.image_sha256:
        found["hashes"] = _hashes(sbom.image_sha256)
    found["properties"] = _properties(
        {"tree-digest": sbom.tree_digest, "lock-digest": sbom.lock_digest, "arch": sbom.arch}
    )
    return found


def _formula(sbom: Sbom) -> dict[str, Any]:
    """Return how the image was made: the tools that shape bytes."""
    tools = [
        {"type": "application", "bom-ref": f"tool {name}", "name": name, "version": version}
        for name, version in sorted(sbom.tools.items())
    ]
    return {"bom-ref": "build", "components": tools}


def _component(component: Component, files: list[SbomFile]) -> dict[str, Any]:
    found: dict[str, Any] = {"type": _TYPES[component.kind], "bom-ref": component.key, "name": component.name}
    if component.version:
        found["version"] = component.version
    if component.sha256:
        found["hashes"] = _hashes(component.sha256)
    if component.licence:
        found["licenses"] = [{"expression": component.licence}]
    if component.purl:
        found["purl"] = component.purl
    if component.location:
        found["externalReferences"] = [{"type": "distribution", "url": component.location}]
    if files:
        found["components"] = [_file(file) for file in files]
    if component.source:
        source = {"type": "library", "name": component.source, "version": component.source_version,
                  "purl": component.source_purl}  # fmt: skip
        found["pedigree"] = {"ancestors": [source]}
    said = {"arch": component.arch, "filename": component.filename, "kind": component.kind}
    found["properties"] = _properties(said)
    return found


def _file(file: SbomFile) -> dict[str, Any]:
    path = file.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    said = {"part": file.part, "changes": "; ".join(file.changes)}
    return {
        "type": "file", "bom-ref": f"{file.part}:/{path}", "name": f"/{path}",
        "hashes": [{"alg": "SHA-1", "content": file.sha1}, *_hashes(file.sha256)], "properties": _properties(said),
    }  # fmt: skip


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(said: dict[str, str]) -> list[dict[str, str]]:
    return [{"name": f"preroot:{name}", "value": value} for name, value in sorted(said.items()) if value]
