# SPDX-License-Identifier: LGPL-2.1-or-later
"""Builds through the command line, with real packages: what comes out, and when nothing is done at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Command, LockMaker

import preroot as package
from preroot.engine import Workspace

_NAMES = ["preroot.initrd", "preroot.lock", "preroot.manifest.json", "preroot.vmlinuz"]


@pytest.fixture
def output(tmp_path: Path, debian_lock: LockMaker) -> Path:
    """An output directory with the lock of the built-in recipe."""
    directory = tmp_path / "out"
    directory.mkdir()
    shutil.copy(debian_lock(), directory / "preroot.lock")
    return directory


def contents(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_the_built_in_recipe(preroot: Command, output: Path) -> None:
    done = preroot("build", "--output", output)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in output.iterdir()) == _NAMES
    manifest = json.loads((output / "preroot.manifest.json").read_bytes())
    assert (manifest["distribution"], manifest["release"], manifest["arch"]) == ("debian", "trixie", "amd64")
    size = (output / "preroot.initrd").stat().st_size
    assert manifest["image-size"] == size
    assert done.stdout.splitlines() == [
        f"{output}/preroot.initrd: {size / 1e6:.1f} MB ("
        + ", ".join(f"{part['name']} {part['size'] / 1e6:.1f} MB" for part in manifest["parts"])
        + ")",
        f"tree {manifest['tree-digest']}",
    ]
    listed = preroot("ls", output / "preroot.initrd").stdout.splitlines()
    entries = {entry["path"] for part in manifest["parts"] for entry in part["entries"]}
    assert set(listed) == entries and "usr/lib/systemd/systemd" in entries


def test_json_and_quiet(preroot: Command, output: Path) -> None:
    done = preroot("build", "--output", output, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["size"] == (output / "preroot.initrd").stat().st_size and result["secret"] is False
    done = preroot("build", "--output", output, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_plan_writes_nothing_and_says_all(preroot: Command, output: Path) -> None:
    before = contents(output)
    done = preroot("plan", "--output", output, "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout)
    assert [part["name"] for part in plan["parts"] if part["entries"]] == ["base", "modules"]
    assert any(value["key"] == "distribution.release" for value in plan["values"])
    for options in ([], ["--explain"], ["--left-out"], ["--size"]):
        done = preroot("plan", "--output", output, *options)
        assert done.returncode == 0 and len(done.stdout.splitlines()) > 5
    assert contents(output) == before


def test_why_from_a_manifest_and_from_a_plan(preroot: Command, output: Path) -> None:
    assert preroot("build", "--output", output).returncode == 0
    image = output / "preroot.initrd"
    found = [preroot("why", *where, "btrfs") for where in (("--image", image), ("--output", output))]
    assert [done.returncode for done in found] == [0, 0]
    assert found[0].stdout == found[1].stdout
    lines = found[0].stdout.splitlines()
    assert lines[0].split()[0].endswith("/kernel/fs/btrfs/btrfs.ko") and "[linux-image-" in lines[0]
    assert "feature btrfs takes it" in found[0].stdout
    # a module's dependency leads, over the module, to the feature
    chain = preroot("why", "--image", image, "raid6_pq").stdout.splitlines()
    assert "fs/btrfs/btrfs.ko depends on it" in chain[1] and "feature btrfs" in chain[2]
    done = preroot("why", "--image", image, "btrffs")
    assert done.returncode == 1 and "btrffs is not in" in done.stderr and "did you mean" in done.stderr
    data = json.loads(preroot("why", "--json", "--image", image, "usr/bin/udevadm").stdout)
    assert data["owner"].startswith("udev=") and data["chains"][0][0]["reason"][:2] == ["feature", "udev"]


def test_lock_pins_and_updates(preroot: Command, output: Path) -> None:
    lock = output / "preroot.lock"
    assert preroot("build", "--output", output, "--locked").returncode == 0
    before = lock.read_bytes()
    done = preroot("lock", "--output", output, "--json")
    assert json.loads(done.stdout)["changes"] == [] and lock.read_bytes() == before
    done = preroot("build", "--output", output, "--locked", "--set", 'packages=["hello"]')
    assert done.returncode == 1
    assert done.stderr.startswith("error: --locked: the recipe asks for other packages than the lock")
    done = preroot("lock", "--output", output, "--set", 'packages=["hello"]')
    assert done.returncode == 0, done.stderr
    assert any(line.split()[:2] == ["hello", "(new)"] for line in done.stdout.splitlines())
    older, newer = (json.loads(data)["packages"] for data in (before, lock.read_bytes()))
    kept = {(each["name"], each["sha256"]) for each in newer}
    assert {(each["name"], each["sha256"]) for each in older} <= kept


def imported(preroot: Command, *arguments: str | Path, **options: object) -> set[str]:
    """Run a command, which must succeed, and return the modules that it imported."""
    done = preroot(*arguments, python=("-X", "importtime"), **options)
    assert done.returncode == 0, done.stderr
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def test_nothing_changed_is_answered_without_importing_anything_heavy(preroot: Command, output: Path) -> None:
    command = ("build", "--output", output)
    assert "msgspec" in imported(preroot, *command)
    heavy = {"msgspec", "click", "rich", "zstandard", "tomllib", "preroot.engine", "subprocess"}
    assert not heavy & imported(preroot, *command)
    assert preroot(*command).stdout == f"{output}/preroot.initrd: nothing has changed\n"
    # another command, another directory, another cache: all of it is something else
    assert "msgspec" in imported(preroot, *command, "--set", "compression.level=1")
    assert "msgspec" in imported(preroot, *command, cwd=output)


def test_what_is_changed_is_built_anew(preroot: Command, tmp_path: Path, debian_lock: LockMaker) -> None:
    """Recipe, a drop-in that appears, feature, output, lock: each undoes the answer that nothing has changed."""
    source = tmp_path / "source"
    shutil.copytree(Path(package.__file__).parent, source / "preroot", ignore=shutil.ignore_patterns("__pycache__"))
    recipe = tmp_path / "my.toml"
    recipe.write_text("[compression]\nlevel = 1\n")
    shutil.copy(debian_lock(), tmp_path / "my.lock")
    env = {"PYTHONPATH": str(source)}

    def touch_lock() -> None:
        (tmp_path / "my.lock").touch()

    def heavy() -> bool:
        found = imported(preroot, "build", recipe, "--output", tmp_path / "out", env=env, cwd=tmp_path)
        return "msgspec" in found

    def edit(path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text((path.read_text() if path.exists() else "") + text)

    assert heavy() and not heavy()
    image = tmp_path / "out" / "preroot.initrd"
    changes: dict[str, Callable[[], object]] = {
        "recipe": lambda: edit(recipe, "threads = 1\n"),
        "drop-in": lambda: edit(tmp_path / "my.toml.d" / "a.toml", "[compression]\nlevel = 2\n"),
        "feature": lambda: edit(source / "preroot/features/xen.toml", "# a comment\n"),
        "code": lambda: edit(source / "preroot/engine/parts.py", "# a comment\n"),
        "runtime": lambda: edit(source / "preroot/runtime/new", "x"),
        "lock": touch_lock,
        "output edited": lambda: image.write_bytes(b"x"),
        "output removed": image.unlink,
        "manifest removed": (tmp_path / "out" / "preroot.manifest.json").unlink,
    }
    for name, change in changes.items():
        change()
        assert heavy(), name
        assert not heavy(), name
    assert image.stat().st_size > 1e6


def test_a_recipe_that_is_saved_while_it_is_built(
    workspace: Workspace, preroot: Command, tmp_path: Path, debian_lock: LockMaker
) -> None:
    """What was saved then is not what was built, so the next build has something to do."""
    recipe = tmp_path / "my.toml"
    recipe.write_text("[compression]\nlevel = 12\n")
    shutil.copy(debian_lock(), tmp_path / "my.lock")
    argv = [sys.executable, "-m", "preroot", "build", "my.toml", "--output", "out"]
    env: Mapping[str, str] = {**os.environ, "PREROOT_CACHE": str(workspace.cache)}
    with subprocess.Popen(argv, env=env, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as build:
        wait_for_writing(build, tmp_path / "out")
        recipe.write_text("[compression]\nlevel = 11\n")
        assert build.wait() == 0
    assert json.loads((tmp_path / "out/preroot.manifest.json").read_bytes())["parts"][0]["level"] == 12
    assert preroot(*argv[3:], cwd=tmp_path).returncode == 0
    assert json.loads((tmp_path / "out/preroot.manifest.json").read_bytes())["parts"][0]["level"] == 11
    assert "nothing has changed" in preroot(*argv[3:], cwd=tmp_path).stdout


def wait_for_writing(build: subprocess.Popen[Any], output: Path) -> None:
    """Wait until a build writes its image."""
    until = time.monotonic() + 60
    while not list(output.glob(".*.initrd.*.part")):
        assert build.poll() is None and time.monotonic() < until
        time.sleep(0.01)


def test_building_again_leaves_no_trace(preroot: Command, output: Path) -> None:
    """The same build, done anew over the old one, gives the same bytes and leaves nothing else behind."""
    for _ in range(2):
        assert preroot("build", "--output", output, "--json").returncode == 0
        again = contents(output)
        assert sorted(again) == _NAMES
    assert preroot("build", "--output", output, "--json").returncode == 0
    assert contents(output) == again


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_build_leaves_the_last_image(
    number: int, status: int, workspace: Workspace, preroot: Command, output: Path
) -> None:
    assert preroot("build", "--output", output).returncode == 0
    before = contents(output)
    argv = [sys.executable, "-m", "preroot", "build", "--output", str(output), "--set", "compression.level=19"]
    env: Mapping[str, str] = {**os.environ, "PREROOT_CACHE": str(workspace.cache)}
    # Of a job in the background of a shell, SIGINT is ignored, and what it starts inherits that.
    before_signals = signal.signal(number, signal.SIG_DFL)
    build_process = subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    signal.signal(number, before_signals)
    with build_process as build:
        wait_for_writing(build, output)
        build.send_signal(number)
        _, said = build.communicate(timeout=60)
    assert build.returncode == status, said
    assert "Traceback" not in said
    assert contents(output) == before


def test_sizes_of_a_build_add_up_and_are_what_was_planned(preroot: Command, output: Path) -> None:
    assert preroot("build", "--output", output).returncode == 0
    every = [word for by in ("package", "feature", "directory", "reason", "kind") for word in ("--by", by)]
    done = preroot("size", output / "preroot.initrd", *every, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    parts = json.loads((output / "preroot.manifest.json").read_bytes())["parts"]
    assert found["unpacked"] == sum(part["uncompressed"] for part in parts)
    for groups in found["by"].values():
        assert sum(group["size"] for group in groups) + found["headers"] == found["unpacked"]
    names = {by: {group["name"] for group in groups} for by, groups in found["by"].items()}
    assert {"systemd", "udev", "(shared)"} <= names["feature"] and not any(
        "unexplained" in name for name in names["feature"]
    )
    assert {"kernel modules", "libraries", "programs"} <= names["kind"]
    planned = json.loads(preroot("plan", "--output", output, *every, "--json").stdout)["sizes"]
    assert (planned["by"], planned["headers"]) == (found["by"], found["headers"])


def test_a_part_over_its_budget_fails_and_leaves_the_last_image(preroot: Command, output: Path) -> None:
    built = preroot("build", "--output", output, "--set", "part.base.budget.compressed-mb=99")
    assert built.returncode == 0, built.stderr
    before = contents(output)
    bound = json.loads(before["preroot.manifest.json"])["parts"][0]["uncompressed"] / 1e6
    for value, status in ((bound, 0), (bound - 0.001, 1)):
        done = preroot("build", "--output", output, "--set", f"part.base.budget.uncompressed-mb={value}")
        assert done.returncode == status, done.stderr
        assert contents(output) == before
    assert "error: part base takes " in done.stderr and "largest packages: libsystemd-shared=" in done.stderr


def test_licence_texts_beside_the_image_or_in_it(preroot: Command, tmp_path: Path, debian_lock: LockMaker) -> None:
    found = {}
    for place in ("sidecar", "image"):
        output = tmp_path / place
        output.mkdir()
        shutil.copy(debian_lock("trixie", "amd64", "output.licences=sidecar"), output / "preroot.lock")
        done = preroot("build", "--output", output, "--set", f"output.licences={place}")
        assert (done.returncode, done.stderr.count("licence text")) == (0, 0), done.stderr
        found[place] = json.loads((output / "preroot.manifest.json").read_bytes())
    sidecar = tmp_path / "sidecar" / "preroot.licences.tar.zst"
    listed = subprocess.run(["tar", "--zstd", "--list", "--file", sidecar], capture_output=True, text=True, check=True)
    beside = {line for line in listed.stdout.splitlines() if not line.endswith("/")}
    inside = {
        entry["path"] for part in found["image"]["parts"] for entry in part["entries"]
        if entry["type"] != "directory" and entry["reasons"][0][0] == "licence"
    }  # fmt: skip
    assert beside == inside
    owners = {
        entry["owner"].partition("=")[0] for part in found["sidecar"]["parts"] for entry in part["entries"]
        if entry["type"] != "directory" and "=" in entry["owner"]
    }  # fmt: skip
    assert len(owners) > 20
    for name in owners:
        assert {f"usr/share/doc/{name}/copyright", f"usr/share/doc/{name}"} & beside, name
    image = tmp_path / "sidecar" / "preroot.initrd"
    assert preroot("verify", image).returncode == 0
    sidecar.write_bytes(sidecar.read_bytes()[:-1] + b"?")
    refused = preroot("verify", image)
    assert refused.returncode == 1 and "preroot.licences.tar.zst" in refused.stdout + refused.stderr
