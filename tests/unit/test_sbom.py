# SPDX-License-Identifier: LGPL-2.1-or-later
"""SBOMs of a synthetic image: what is in them, in both formats, as the formats' own tools read them."""

from __future__ import annotations

import json
from hashlib import sha1, sha256
from pathlib import Path
from typing import Any

import pytest
from image_samples import LOCK, file, other, part, plan, tree
from msgspec import structs

from preroot.engine.sbom import created, find_lock_of, render
from preroot.errors import BuildError, RecipeError
from preroot.image.content import ContentReader
from preroot.image.manifest import Manifest, make_manifest
from preroot.image.sbom import Component, PackageFacts, Sbom, make_sbom, verification_code
from preroot.image.write import write_image
from preroot.packages.copyright import Licence, LicenceText
from preroot.packages.lock import write_lock
from preroot.packages.model import LocalPackage, Lock, Package
from preroot.tree.model import BytesContent, Entry, KernelPlan, Tree

TEXT = LicenceText("LicenseRef-Own-12345678", "Own", "Do as you please.")
PACKAGES = (
    Package("libstdc++6", "1:14.2.0-19+b1~x", "amd64", "1" * 64, 10, "pool/main/g/gcc/libstdc++6.deb"),
    Package("linux-image", "6.1-1", "amd64", "2" * 64, 10, "pool/updates/l/linux.deb", 1),
    Package("firmware-x", "2024", "all", "3" * 64, 10, "pool/non-free/f/firmware.deb"),
    Package("not-in-the-image", "1", "amd64", "4" * 64, 10, "pool/n.deb"),
)
FACTS = {
    "1" * 64: PackageFacts("gcc-14", "14.2.0-19", Licence(f"GPL-3.0-or-later AND {TEXT.reference}", (TEXT,))),
    "2" * 64: PackageFacts("linux", "6.1-1", Licence("GPL-2.0-only WITH Linux-syscall-note")),
    "3" * 64: PackageFacts("firmware-nonfree", "2024"),
    "4" * 64: PackageFacts("n", "1", Licence("LicenseRef-Other-1", (LicenceText("LicenseRef-Other-1", "n", "t"),))),
}
TRUST = {"x": "Sat, 21 Nov 2026 09:15:44 UTC; KEY", "y": "Tue, 24 Nov 2026 00:34:34 UTC; KEY", "z": "left out"}
OWNED: dict[str, tuple[str, tuple[str, ...]]] = {
    "usr/lib/libstdc++.so.6": ("libstdc++6=1:14.2.0-19+b1~x", ()),
    "usr/lib/modules/6.1/x.ko": ("linux-image=6.1-1", ("decompressed xz",)),
    "usr/lib/firmware/x.bin": ("firmware-x=2024", ()),
    "etc/passwd": ("preroot", ()), "usr/lib/x.service": ("feature x", ()), "etc/motd": ("recipe", ()),
}  # fmt: skip
SECRET = Entry("etc/key", "file", 0o400, 0, 0, "recipe", (), content=BytesContent(b"planted4711", secret=True))


def entries(*more: Entry) -> Tree:
    owned = [structs.replace(file(path, path.encode()), owner=owner, changes=changes)
             for path, (owner, changes) in OWNED.items()]  # fmt: skip
    return tree(*owned, other("dev/null", "node", device=("c", 1, 3)), other("bin", "symlink", target="usr/bin"),
                structs.replace(other("srv", "directory"), owner="not-in-the-image=1"), *more)  # fmt: skip


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return built(tmp_path)


def lock(**values: Any) -> Lock:
    made = structs.replace(LOCK, packages=PACKAGES, trust=TRUST, tools={"kmod": "30", "libzstd": "1.5.7"})
    return structs.replace(made, **values)


def built(where: Path, *more: Entry, of: Lock | None = None) -> Manifest:
    made = plan(part("base", entries(*more), "zstd"), secret=bool(more))
    kernel = KernelPlan("6.1", ("linux-image=6.1-1",), {}, {}, (), {}, None)
    made = structs.replace(made, kernel=kernel, lock=of or lock())
    return make_manifest(made, write_image(made, where / "image", ContentReader()), {})


def sbom(manifest: Manifest, *, of: Lock | None = None, **values: Any) -> Sbom:
    digests = {("base", path): sha1(path.encode()).hexdigest() for path in OWNED}
    return make_sbom(manifest, of or lock(), image="t.initrd", release="13", facts=FACTS, digests=digests,
                     created="2026-11-24T00:34:34Z", **values)  # fmt: skip


def spdx_problems(data: bytes) -> list[str]:
    """Return what SPDX's own library finds wrong with a document. (It takes seconds to import, as the other does.)"""
    from spdx_tools.spdx.parser.error import SPDXParsingError
    from spdx_tools.spdx.parser.jsonlikedict.json_like_dict_parser import JsonLikeDictParser
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    try:
        document = JsonLikeDictParser().parse(json.loads(data))  # type: ignore[no-untyped-call]
    except SPDXParsingError as error:
        return [str(each) for each in error.get_messages()]  # type: ignore[no-untyped-call]
    return [each.validation_message for each in validate_full_spdx_document(document, "SPDX-2.3")]


def cyclonedx_problem(data: bytes) -> str:
    """Return what CycloneDX's own library finds wrong with a document."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    return str(JsonStrictValidator(SchemaVersion.V1_6).validate_str(data.decode()) or "")


def test_the_tools_of_both_formats_find_nothing_wrong(manifest: Manifest) -> None:
    made = sbom(manifest, locations=("https://mirror.invalid/debian", "https://mirror.invalid/security/"))
    assert spdx_problems(render(made, "spdx")) == []
    assert cyclonedx_problem(render(made, "cyclonedx")) == ""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("GPL-3.0-or-later AND", "GPL-3.0-or-lager AND"), ('"SPDXID": "SPDXRef-Image"', '"SPDXID": "SPDXRef-Imag_"'),
        ('"filesAnalyzed": false', '"filesAnalyzed": 7'), ('"created": "2026', '"created": "yesterday'),
        ('"relatedSpdxElement": "SPDXRef-Image"', '"relatedSpdxElement": "SPDXRef-Nowhere"'),
        ('"algorithm": "SHA1"', '"algorithm": "SHA2"'), ("urn:uuid:", "urn uuid "),
    ],
)  # fmt: skip
def test_they_find_a_broken_spdx_document(manifest: Manifest, before: str, after: str) -> None:
    data = render(sbom(manifest), "spdx").decode()
    assert before in data
    assert spdx_problems(data.replace(before, after, 1).encode())


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"type": "library"', '"type": "libary"'), ("urn:uuid:", "urn uuid "), ('"alg": "SHA-256"', '"alg": "SHA-255"'),
        ('"bomFormat"', '"bomFormat2"'), ('"timestamp": "2026', '"timestamp": "yesterday'),
        ('"bom-ref": "image"', '"bom-ref": 7'),
    ],
)  # fmt: skip
def test_they_find_a_broken_cyclonedx_document(manifest: Manifest, before: str, after: str) -> None:
    data = render(sbom(manifest), "cyclonedx").decode()
    assert before in data
    assert cyclonedx_problem(data.replace(before, after, 1).encode())


def by_name(made: Sbom) -> dict[str, Component]:
    return {component.name: component for component in made.components}


def test_components_are_what_is_really_in_the_image(manifest: Manifest) -> None:
    found = by_name(sbom(manifest))
    assert {name: each.kind for name, each in found.items()} == {
        "libstdc++6": "package", "linux-image": "kernel", "firmware-x": "firmware", "preroot": "preroot",
        "t (recipe)": "recipe",
    }  # fmt: skip
    library = found["libstdc++6"]
    assert (library.sha256, library.source, library.source_version) == ("1" * 64, "gcc-14", "14.2.0-19")
    assert library.location == ""
    assert sbom(manifest).texts == (TEXT,)


def test_purls_are_canonical(manifest: Manifest) -> None:
    from packageurl import PackageURL

    made = sbom(manifest)
    for component in made.components:
        for purl in (component.purl, component.source_purl):
            assert not purl or PackageURL.from_string(purl).to_string() == purl
    library = PackageURL.from_string(by_name(made)["libstdc++6"].purl)
    assert (library.type, library.namespace, library.name, library.version) == (
        "deb", "debian", "libstdc++6", "1:14.2.0-19+b1~x",
    )  # fmt: skip
    assert library.qualifiers == {"arch": "amd64", "distro": "debian-13"}


def test_files_have_digests_and_point_to_what_they_are_from(manifest: Manifest) -> None:
    data = json.loads(render(sbom(manifest), "spdx"))
    ids = {each["SPDXID"]: each["name"] for each in data["packages"]}
    files = {each["SPDXID"]: each for each in data["files"]}
    assert {each["fileName"] for each in files.values()} == {f"./{path}" for path in OWNED}
    related = {
        (one["spdxElementId"], one["relationshipType"], one["relatedSpdxElement"]) for one in data["relationships"]
    }
    assert all(
        ("SPDXRef-Image", "CONTAINS", each) in related
        for each in (*files, *ids)
        if "-Package-" in each or "-File-" in each
    )
    origin = {files[one]["fileName"]: (kind, ids[other_]) for one, kind, other_ in related if one in files}
    assert origin["./usr/lib/libstdc++.so.6"] == ("EXPANDED_FROM_ARCHIVE", "libstdc++6")
    assert origin["./usr/lib/modules/6.1/x.ko"] == ("GENERATED_FROM", "linux-image")
    assert origin["./usr/lib/x.service"] == ("GENERATED_FROM", "preroot")
    assert origin["./etc/motd"] == ("GENERATED_FROM", "t (recipe)")
    assert {ids[one] for one, kind, _ in related if kind == "BUILD_TOOL_OF"} == {"kmod", "libzstd"}
    motd = next(each for each in files.values() if each["fileName"] == "./etc/motd")
    assert [each["checksumValue"] for each in motd["checksums"]] == [
        sha1(b"etc/motd").hexdigest(), sha256(b"etc/motd").hexdigest(),
    ]  # fmt: skip
    code = sha1("".join(sorted(sha1(path.encode()).hexdigest() for path in OWNED)).encode()).hexdigest()
    assert verification_code(sbom(manifest).files) == code


def test_cyclonedx_nests_files_and_names_distribution_tools_and_sources(manifest: Manifest) -> None:
    data = json.loads(render(sbom(manifest, locations=["https://mirror.invalid/debian/"]), "cyclonedx"))
    components = {each["name"]: each for each in data["components"]}
    assert (components["debian"]["type"], components["debian"]["version"]) == ("operating-system", "13")
    library = components["libstdc++6"]
    assert [each["name"] for each in library["components"]] == ["/usr/lib/libstdc++.so.6"]
    assert library["pedigree"]["ancestors"][0]["name"] == "gcc-14"
    assert library["externalReferences"] == [
        {"type": "distribution", "url": "https://mirror.invalid/debian/pool/main/g/gcc/libstdc%2B%2B6.deb"}
    ]
    assert "externalReferences" not in components["linux-image"]  # of another repository
    assert {each["name"]: each["version"] for each in data["formulation"][0]["components"]} == {
        "kmod": "30", "libzstd": "1.5.7",
    }  # fmt: skip
    refs = {each["bom-ref"] for each in data["components"]}
    assert set(data["dependencies"][0]["dependsOn"]) == refs


def test_equal_images_have_equal_sboms_and_others_other_names(tmp_path: Path, manifest: Manifest) -> None:
    for form in ("spdx", "cyclonedx"):
        assert render(sbom(manifest), form) == render(sbom(built(tmp_path)), form)
    serials = {sbom(each).serial for each in (
        manifest, built(tmp_path, file("etc/other")), structs.replace(manifest, preroot="2"),
        structs.replace(manifest, lock_digest="x"),
    ) if not any(entry.path == "etc/other" for entry in each.parts[0].entries)}  # fmt: skip
    assert len(serials) == 3


def test_an_image_with_a_secret(tmp_path: Path) -> None:
    manifest = built(tmp_path, SECRET)
    made = sbom(manifest)
    for form in ("spdx", "cyclonedx"):
        data = render(made, form)
        assert b"etc/key" not in data and b"planted" not in data
        assert manifest.image_sha256.encode() not in data and manifest.tree_digest.encode() in data
        assert sha256(b"planted4711").hexdigest().encode() not in data
    assert spdx_problems(render(made, "spdx")) == [] and cyclonedx_problem(render(made, "cyclonedx")) == ""


def test_what_is_from_a_directory_has_a_digest_and_no_place(tmp_path: Path) -> None:
    own = lock(local=(LocalPackage("linux-image", "6.1-1", "5" * 64, ("linux",)),))
    own = structs.replace(own, packages=tuple(each for each in PACKAGES if each.name != "linux-image"))
    kernel = by_name(sbom(built(tmp_path, of=own), of=own))["linux-image"]
    assert kernel.purl == f"pkg:generic/linux-image@6.1-1?checksum=sha256:{'5' * 64}" and kernel.kind == "kernel"
    from packageurl import PackageURL

    assert PackageURL.from_string(kernel.purl).qualifiers == {"checksum": f"sha256:{'5' * 64}"}


def test_a_lock_is_found_by_what_it_has_from_directories_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that --locked has used is not completed, so its digest is not the manifest's."""
    monkeypatch.chdir(tmp_path)
    own = lock(local=(LocalPackage("linux-image", "6.1-1", "5" * 64, ("linux",)),))
    own = structs.replace(own, packages=tuple(each for each in PACKAGES if each.name != "linux-image"))
    made = built(tmp_path, of=structs.replace(own, tools={"more": "1"}))
    write_lock(tmp_path / "x.lock", structs.replace(own, local=()))
    with pytest.raises(BuildError, match="there is no lock of"):
        find_lock_of(tmp_path / "x.initrd", made, None)
    write_lock(tmp_path / "x.lock", own)
    assert find_lock_of(tmp_path / "x.initrd", made, None).local == own.local


def test_the_lock_of_another_image_is_refused(manifest: Manifest) -> None:
    with pytest.raises(BuildError, match="files of firmware-x=2024, which the lock has not"):
        sbom(manifest, of=lock(packages=PACKAGES[:2]))


@pytest.mark.parametrize(
    "address", ["ftp://mirror.invalid", "mirror.invalid", "http://", "https://me:planted@mirror.invalid/"]
)
def test_locations_are_public_addresses(manifest: Manifest, address: str) -> None:
    with pytest.raises(RecipeError) as caught:
        sbom(manifest, locations=[address])
    assert "planted" not in str(caught.value)


def test_the_date_is_no_clock_s() -> None:
    assert created(TRUST, "") == "2026-11-24T00:34:34Z"
    assert created(TRUST, "0") == "1970-01-01T00:00:00Z"
    assert created({}, "") == "1970-01-01T00:00:00Z"
    for epoch in ("yesterday", "9" * 30):
        with pytest.raises(RecipeError, match="SOURCE_DATE_EPOCH"):
            created(TRUST, epoch)
