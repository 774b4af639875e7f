# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot sbom` and `build --sbom` with real packages: complete, valid, the same again, and of this image only."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fixture_types import Command, LockMaker

RECIPE = """
name = "server"
[kernel]
modules = "virtual"
[[file]]
path = "etc/motd"
content = "hello"
[[secret]]
path = "etc/key"
source = "key"
"""


@pytest.fixture
def image(tmp_path: Path, debian_lock: LockMaker, preroot: Command) -> Path:
    """An image with a secret inside and SBOMs beside it, its recipe and lock in the directory above."""
    (tmp_path / "server.toml").write_text(RECIPE)
    shutil.copy(debian_lock(), tmp_path / "server.lock")
    (tmp_path / "key").write_text("planted4711")
    (tmp_path / "key").chmod(0o600)
    done = preroot(
        "build", tmp_path / "server.toml", "--output", tmp_path / "out", "--sbom", "spdx", "--sbom", "cyclonedx"
    )
    assert done.returncode == 0, done.stderr
    return tmp_path / "out" / "server.initrd"


def test_it_names_all_packages_and_files_of_the_image(preroot: Command, image: Path) -> None:
    lock = image.parent.parent / "server.lock"
    manifest = json.loads((image.parent / "server.manifest.json").read_bytes())
    entries = [entry for part in manifest["parts"] for entry in part["entries"] if entry["type"] == "file"]
    locked = {package["sha256"]: package["name"] for package in json.loads(lock.read_bytes())["packages"]}
    done = preroot("sbom", image, "--lock", lock)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    digests = {each["checksums"][0]["checksumValue"] for each in document["packages"] if "packageFileName" in each}
    owners = {entry["owner"].partition("=")[0] for entry in entries if "=" in entry["owner"]}
    assert {locked[digest] for digest in digests} >= owners and len(digests) < len(locked)
    files = {each["fileName"].removeprefix("./"): each["checksums"][1]["checksumValue"] for each in document["files"]}
    assert files == {entry["path"]: entry["sha256"] for entry in entries if entry["path"] != "etc/key"}
    licences = {each["name"]: each["licenseDeclared"] for each in document["packages"] if "packageFileName" in each}
    assert licences["zlib1g"] == "Zlib" and licences["libseccomp2"] == "LGPL-2.1-only"
    assert "GPL-2.0-or-later" in licences["kmod"]  # whose copyright file is another package's
    assert licences["busybox"] == "NOASSERTION"  # in free text
    sources = {each["name"]: each.get("sourceInfo", "") for each in document["packages"]}
    assert "source package systemd " in sources["udev"]
    assert "server (recipe)" in sources and "libzstd" in sources


def test_their_own_tools_find_nothing_wrong(image: Path) -> None:
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator
    from spdx_tools.spdx.parser.parse_anything import parse_file
    from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

    document = parse_file(str(image.parent / "server.spdx.json"))
    assert validate_full_spdx_document(document, "SPDX-2.3") == []
    text = (image.parent / "server.cdx.json").read_text()
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text) is None


def test_the_same_again_wherever_it_is_made(preroot: Command, image: Path, tmp_path: Path) -> None:
    lock = image.parent.parent / "server.lock"
    for form, name in (("spdx", "server.spdx.json"), ("cyclonedx", "server.cdx.json")):
        again = tmp_path / f"again-{name}"
        env = {"TZ": "Asia/Kathmandu", "PYTHONHASHSEED": "4711"}
        assert preroot("sbom", image, "--lock", lock, "--format", form, "--output", again, env=env).returncode == 0
        assert again.read_bytes() == (image.parent / name).read_bytes()
        assert b"planted" not in again.read_bytes() and b"etc/key" not in again.read_bytes()
    dated = preroot("sbom", image, "--lock", lock, env={"SOURCE_DATE_EPOCH": "86400"})
    assert json.loads(dated.stdout)["creationInfo"]["created"] == "1970-01-02T00:00:00Z"
    # verify knows the files beside the image, and a build when one is gone
    assert preroot("verify", image).returncode == 0
    (image.parent / "server.spdx.json").unlink()
    command = ("build", tmp_path / "server.toml", "--output", tmp_path / "out", "--sbom", "spdx", "--sbom", "cyclonedx")
    assert preroot(*command).returncode == 0 and (image.parent / "server.spdx.json").exists()
    (image.parent / "server.cdx.json").write_text("{}")
    assert "the cyclonedx" in preroot("verify", image).stdout


def test_another_image_or_lock_is_refused(preroot: Command, image: Path, debian_lock: LockMaker) -> None:
    done = preroot("sbom", image)  # neither beside the image nor here
    assert done.returncode == 1 and "there is no lock of" in done.stderr and "--lock" in done.stderr
    assert preroot("sbom", image, cwd=image.parent.parent).returncode == 0
    done = preroot("sbom", image, "--lock", debian_lock("bookworm"))
    assert done.returncode == 1 and "which the lock has not" in done.stderr
    lock = image.parent.parent / "server.lock"
    done = preroot("sbom", image, "--lock", lock, "--location", "https://me:planted@mirror.invalid")
    assert done.returncode == 2 and "credentials" in done.stderr and "planted" not in done.stderr
    image.write_bytes(image.read_bytes() + b"x")
    done = preroot("sbom", image, "--lock", lock)
    assert done.returncode == 1 and "is not what its manifest says" in done.stderr
    (image.parent / "server.manifest.json").unlink()
    assert "cannot read the manifest" in preroot("sbom", image, "--lock", lock).stderr
