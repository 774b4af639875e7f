# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot verify`: an image against the manifest beside it, and against one that is built anew from the lock."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from fixture_types import Command, LockMaker

RECIPE = '[kernel]\nmodules = "virtual"\n[[secret]]\npath = "etc/key"\nsource = "key"\n'
#: what verify is to do with: nothing from a mirror
OFFLINE = ("--set", "distribution.mirror=http://127.0.0.1:1/none")


@pytest.fixture
def image(tmp_path: Path, debian_lock: LockMaker, preroot: Command) -> Path:
    """An image with a secret inside, its recipe and lock in the directory above."""
    (tmp_path / "my.toml").write_text(RECIPE)
    shutil.copy(debian_lock(), tmp_path / "my.lock")
    key = tmp_path / "key"
    key.write_text("planted4711")
    key.chmod(0o600)
    done = preroot("build", tmp_path / "my.toml", "--output", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    return tmp_path / "out" / "preroot.initrd"


def test_against_the_manifest(preroot: Command, image: Path) -> None:
    done = preroot("verify", image)
    assert done.returncode == 0 and f"{image}: as {image.parent}/preroot.manifest.json says (2 parts" in done.stdout
    assert preroot("verify", image, "--quiet").stdout == ""
    whole = image.read_bytes()
    image.write_bytes(whole + b"\0\0\0\0")
    done = preroot("verify", image)
    assert done.returncode == 1
    assert done.stdout.splitlines()[0] == "differs: 4 bytes follow it that are not in the manifest, all of them zero"
    image.write_bytes(whole[:-9])
    done = preroot("verify", image, "--json")
    assert done.returncode == 1
    findings = json.loads(done.stdout)["findings"]
    assert {
        "part": "modules",
        "path": "",
        "text": "the image ends 9 bytes before its end",
        "packing": False,
    } in findings
    (image.parent / "preroot.manifest.json").unlink()
    done = preroot("verify", image)
    assert done.returncode == 1 and "there is no manifest" in done.stderr and "hint:" in done.stderr


def test_against_a_rebuilt_one_offline(preroot: Command, image: Path) -> None:
    recipe, lock = image.parent.parent / "my.toml", image.parent.parent / "my.lock"
    before = lock.read_bytes()
    done = preroot("verify", image, recipe, *OFFLINE)
    assert done.returncode == 0, done.stderr + done.stdout
    assert f"{image}: as {lock} says (2 parts" in done.stdout and "planted" not in done.stdout + done.stderr
    # a copy of it is enough, wherever it lies
    other = image.parent.parent / "copy.img"
    shutil.copy(image, other)
    assert preroot("verify", other, recipe, "--lock", lock, *OFFLINE).returncode == 0
    assert lock.read_bytes() == before


def test_what_was_built_otherwise_is_named(preroot: Command, image: Path) -> None:
    recipe = image.parent.parent / "my.toml"
    done = preroot("verify", image, recipe, "--set", 'exclude=["etc/shadow"]', *OFFLINE)
    assert done.returncode == 1
    assert "differs: base: etc/shadow: should not be there" in done.stdout.splitlines()
    done = preroot("verify", image, recipe, "--set", "compression.level=1", *OFFLINE)
    assert done.returncode == 1
    assert "differs: every path is right and the bytes are not: the same tree, packed otherwise" in done.stdout
    (image.parent.parent / "key").write_text("planted4712")
    done = preroot("verify", image, recipe, *OFFLINE)
    assert (done.returncode, done.stdout.splitlines()[0]) == (
        1,
        "differs: base: etc/key: is another secret than the recipe's",
    )
    (image.parent / "preroot.vmlinuz").write_bytes(b"another kernel")
    says = f"differs: the kernel {image.parent}/preroot.vmlinuz beside it is another one"
    assert says in preroot("verify", image, recipe, *OFFLINE).stdout
    assert says in preroot("verify", image).stdout


def test_what_the_lock_was_written_with_is_told(preroot: Command, image: Path) -> None:
    recipe, lock = image.parent.parent / "my.toml", image.parent.parent / "my.lock"
    data = json.loads(lock.read_bytes())
    data["preroot"], data["tools"]["libzstd"] = "0.0.1", "1.4.0"
    lock.write_text(json.dumps(data))
    done = preroot("verify", image, recipe, *OFFLINE)
    assert done.returncode == 0
    assert "note: the lock was written by preroot 0.0.1" in done.stderr
    assert "and 1.4.0 in the lock" in done.stderr


def test_a_lock_that_does_not_fit_is_refused(preroot: Command, image: Path) -> None:
    recipe = image.parent.parent / "my.toml"
    done = preroot("verify", image, recipe, "--set", 'packages=["hello"]', *OFFLINE)
    assert done.returncode == 1 and "the recipe asks for other packages than the lock" in done.stderr
    done = preroot("verify", image, recipe, "--lock", image.parent / "none.lock")
    assert done.returncode == 1 and "cannot read the lock" in done.stderr
    done = preroot("verify", image.parent / "none.initrd", recipe)
    assert done.returncode == 1 and "cannot read" in done.stderr
