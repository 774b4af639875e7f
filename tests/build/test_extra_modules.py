# SPDX-License-Identifier: LGPL-2.1-or-later
"""Modules from elsewhere than the kernel's package: prebuilt by DKMS in a package, or files of the recipe's."""

from __future__ import annotations

import hashlib
import json
import lzma
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from fixture_types import Command
from kernel_package import unpacked_kernel

import kernel_shapes as shapes
from preroot.engine import BuildError, Engine, Package, Plan, Reporter, Resolution, Silent, Source
from preroot.recipe.load import LoadedRecipe

RECIPE = """\
name = "own"
[kernel]
version = "{release}"
modules = "virtual"
extra-modules = ["mods"]
[part.base]
flavour = "busybox"
features = ["busybox", "ext4", "virtio"]
"""


def release() -> str:
    return shapes.release(unpacked_kernel())


def base() -> str:
    return f"usr/lib/modules/{release()}"


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "mods").mkdir()
    (tmp_path / "own.toml").write_text(RECIPE.format(release=release()))
    return tmp_path / "own.toml"


def plan(engine: Engine, recipe: Path) -> Plan:
    loaded = engine.load(recipe)
    return engine.plan(loaded, engine.lock(loaded, recipe.with_suffix(".lock")))


def contents(engine: Engine, planned: Plan) -> dict[str, bytes]:
    """Return the files of the part modules."""
    (part,) = (part for part in planned.parts if part.name == "modules")
    return {path: engine.read(entry) for path, entry in part.tree.entries.items() if entry.type == "file"}


def test_signatures_are_kept_and_updates_go_first(engine: Engine, recipe: Path) -> None:
    root, mods = unpacked_kernel(), recipe.parent / "mods"
    signed, blk = shapes.module(root, "virtio_balloon"), shapes.out_of_tree(shapes.module(root, "virtio_blk"))
    assert signed.endswith(b"~Module signature appended~\n")
    (mods / "virtio_balloon.ko").write_bytes(signed)
    (mods / "virtio_blk.ko.xz").write_bytes(lzma.compress(blk, check=lzma.CHECK_CRC32))
    planned = plan(engine, recipe)
    files = contents(engine, planned)
    assert files[f"{base()}/updates/virtio_balloon.ko"] == signed
    assert files[f"{base()}/updates/virtio_blk.ko"] == blk
    assert not [path for path in files if path.endswith("/block/virtio_blk.ko")], "the kernel's own is not there, too"
    own = f"{base()}/kernel/drivers/scsi/virtio_scsi.ko"
    assert files[own] == shapes.module(root, "virtio_scsi") and files[own].endswith(b"~Module signature appended~\n")
    assert "updates/virtio_blk.ko:" in files[f"{base()}/modules.dep"].decode().splitlines()
    (part,) = (part for part in planned.parts if part.name == "modules")
    entry = part.tree.entries[f"{base()}/updates/virtio_balloon.ko"]
    assert entry.owner == f"extra-modules={release()}" and entry.reasons[0].asker == "kernel.extra-modules"
    warnings = [warning for warning in planned.warnings if "signature" in warning]
    assert warnings == [
        f"kernel {release()} loads no modules without a signature under Secure Boot "
        "(CONFIG_LOCK_DOWN_IN_EFI_SECURE_BOOT), and these have none: virtio_blk"
    ]
    assert [(pin.name, pin.paths) for pin in planned.lock.local] == [("extra-modules", ("mods",))]


def test_a_kernel_that_wants_signatures_always(engine: Engine, recipe: Path) -> None:
    """Then those of its own modules count, too."""
    root, directory = unpacked_kernel(), recipe.parent
    kernel = shapes.made(root, directory / "kernel")
    config = (kernel / "config").read_text()
    (kernel / "config").write_text(config.replace("# CONFIG_MODULE_SIG_FORCE is not set", "CONFIG_MODULE_SIG_FORCE=y"))
    scsi = kernel / "lib/modules" / release() / "kernel/drivers/scsi/virtio_scsi.ko.xz"
    scsi.unlink()
    scsi.with_suffix("").write_bytes(shapes.out_of_tree(shapes.module(root, "virtio_scsi")))
    text = recipe.read_text().replace('extra-modules = ["mods"]', 'directory = "kernel"')
    recipe.write_text(text)
    (warning,) = (each for each in plan(engine, recipe).warnings if "signature" in each)
    assert "loads no modules without a signature (CONFIG_MODULE_SIG_FORCE)" in warning
    assert warning.endswith("these have none: virtio_scsi")


def test_modules_for_another_kernel_are_refused(preroot: Command, recipe: Path, tmp_path: Path) -> None:
    data = shapes.module(unpacked_kernel(), "virtio_balloon").replace(release().encode(), b"9" * len(release()))
    (tmp_path / "mods/virtio_balloon.ko").write_bytes(data)
    done = preroot("build", recipe, "--output", tmp_path / "out")
    assert done.returncode == 1
    other = "9" * len(release())
    assert (
        f"error: the extra modules (mods) are built for kernel {other}, and the image is for {release()}" in done.stderr
    )
    assert not list((tmp_path / "out").iterdir())


def test_a_changed_module_is_noticed(preroot: Command, recipe: Path, tmp_path: Path) -> None:
    root = unpacked_kernel()
    file = tmp_path / "mods/virtio_balloon.ko"
    file.write_bytes(shapes.module(root, "virtio_balloon"))

    def build(*arguments: str) -> str:
        done = preroot("build", recipe, "--output", tmp_path / "out", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    build()
    assert "nothing has changed" in build()
    file.write_bytes(shapes.out_of_tree(file.read_bytes()))
    done = preroot("build", recipe, "--output", tmp_path / "out", "--locked")
    assert done.returncode == 1 and "--locked: mods (extra-modules" in done.stderr
    said = build()
    assert "mods (extra-modules" in said and "under Secure Boot" in said
    assert "nothing has changed" in build()
    locked = json.loads((tmp_path / "own.lock").read_bytes())["local"][0]
    assert (locked["name"], locked["version"], locked["paths"]) == ("extra-modules", release(), ["mods"])


class WithPackage:
    """A source that also has one package of the test's own."""

    def __init__(self, source: Source, file: Path, name: str) -> None:
        self.source = source
        self.file = file
        data = file.read_bytes()
        self.package = Package(name, "1.0", "amd64", hashlib.sha256(data).hexdigest(), len(data), file.name)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.source, name)

    def resolve(self, requests: Sequence[str], reporter: Reporter) -> Resolution:
        """Resolve the others, and add the own one."""
        others = [each for each in requests if each.partition("=")[0] != self.package.name]
        found = self.source.resolve(others, reporter)
        added = (self.package,) if len(others) < len(requests) else ()
        return Resolution(tuple(sorted((*found.packages, *added), key=lambda each: each.name)), found.trust)

    def fetch(self, packages: Sequence[Package], reporter: Reporter) -> Mapping[str, Path]:
        """Fetch the others."""
        found = self.source.fetch([each for each in packages if each != self.package], reporter)
        return {**found, self.package.sha256: self.file}


def debian_package(directory: Path, files: Mapping[str, bytes]) -> Path:
    """Return a package own-modules with these files, as DKMS makes them (`dkms mkbmdeb`)."""
    tree = directory / "tree"
    for path, data in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(data)
    (tree / "DEBIAN").mkdir()
    control = "Package: own-modules\nVersion: 1.0\nArchitecture: amd64\nMaintainer: x <x@example.org>\nDescription: x\n"
    (tree / "DEBIAN/control").write_text(control)
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, directory / "own.deb"], check=True,
                   capture_output=True)  # fmt: skip
    return directory / "own.deb"


def loaded_with(engine: Engine, recipe: Path, more: str) -> LoadedRecipe:
    text = recipe.read_text().replace('extra-modules = ["mods"]\n', more)
    recipe.write_text(f'packages = ["own-modules"]\n{text}')
    return engine.load(recipe)


def test_modules_of_a_package_below_updates(engine: Engine, recipe: Path, tmp_path: Path) -> None:
    """One takes the place of the kernel's own, one is asked for, and what is for another kernel is in nobody's way."""
    root = unpacked_kernel()
    blk = shapes.out_of_tree(shapes.module(root, "virtio_blk"))
    other = shapes.module(root, "virtio_balloon").replace(release().encode(), b"9" * len(release()))
    packed = lzma.compress(shapes.module(root, "virtio_input"), check=lzma.CHECK_CRC32)
    file = debian_package(tmp_path, {
        f"lib/modules/{release()}/updates/dkms/virtio_blk.ko": blk,
        f"lib/modules/{release()}/updates/dkms/virtio_input.ko.xz": packed,
        "lib/modules/9.9/updates/dkms/only_there.ko": other,
    })  # fmt: skip
    loaded = loaded_with(engine, recipe, 'add-modules = ["virtio_input"]\n')
    source = WithPackage(engine.source(loaded.recipe.distribution), file, "own-modules")
    with Engine(engine.workspace, Silent(), source) as own:
        planned = own.plan(loaded, own.lock(loaded, tmp_path / "own.lock"))
        files = contents(own, planned)
        assert files[f"{base()}/updates/dkms/virtio_blk.ko"] == blk
        assert files[f"{base()}/updates/dkms/virtio_input.ko"] == lzma.decompress(packed)
        assert not [
            path for path in files if "/kernel/" in path and path.endswith(("virtio_blk.ko", "virtio_input.ko"))
        ]
        assert planned.kernel is not None and "own-modules=1.0" in planned.kernel.packages
        recipe.write_text(recipe.read_text().replace('["virtio_input"]', '["only_there"]'))
        loaded = own.load(recipe)
        with pytest.raises(BuildError, match=r"only_there, wanted by the recipe, exists nowhere .*it for kernel 9\.9"):
            own.plan(loaded, own.lock(loaded, tmp_path / "own.lock"))
