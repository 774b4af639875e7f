# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images for kernels in directories, laid out as distributions and `make` leave them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fixture_types import Command
from kernel_package import unpacked_kernel

import kernel_shapes as shapes

RECIPE = """\
name = "own"
[kernel]
directory = "kernel"
modules = "virtual"
[part.base]
flavour = "busybox"
features = ["busybox", "ext4", "virtio", "nvme"]
"""


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    (tmp_path / "own.toml").write_text(RECIPE)
    return tmp_path / "own.toml"


def build(preroot: Command, recipe: Path, *arguments: str) -> tuple[dict[str, object], str]:
    """Build and return the manifest, and what was said to standard error."""
    done = preroot("build", recipe, "--output", recipe.parent / "out", *arguments)
    assert done.returncode == 0, done.stderr
    manifest = json.loads((recipe.parent / "out/own.manifest.json").read_bytes())
    assert isinstance(manifest, dict)
    return manifest, done.stderr + done.stdout


def test_all_arrangements_make_the_same_image(preroot: Command, recipe: Path, tmp_path: Path) -> None:
    """Which also is the one that the package itself makes."""
    root = unpacked_kernel()
    recipe.write_text(RECIPE.replace('directory = "kernel"', f'version = "{shapes.release(root)}"'))
    expected, _ = build(preroot, recipe)
    recipe.write_text(RECIPE)
    own = f"kernel-directory={shapes.release(root)}"
    for number, lay_out in enumerate((shapes.made, shapes.staged, shapes.all_in_modules)):
        lay_out(root, tmp_path / "kernel")
        manifest, said = build(preroot, recipe)
        assert manifest["tree-digest"] == expected["tree-digest"], lay_out.__name__
        assert manifest["kernel"]["packages"] == [own]  # type: ignore[index]
        assert (tmp_path / "out/own.vmlinuz").read_bytes() == shapes.boot_file(root, "vmlinuz").read_bytes()
        # only `made` has other bytes: uncompressed modules
        assert ("not as when the lock was written" in said) == (number == 1), said
        shutil.rmtree(tmp_path / "kernel")
    lock = json.loads((tmp_path / "own.lock").read_bytes())
    assert [(each["name"], each["paths"]) for each in lock["local"]] == [("kernel-directory", ["kernel"])]
    assert not [each["name"] for each in lock["packages"] if each["name"].startswith("linux-image")]


def test_a_changed_directory_is_noticed(preroot: Command, recipe: Path, tmp_path: Path) -> None:
    modules = shapes.made(unpacked_kernel(), tmp_path / "kernel") / "lib/modules" / shapes.release(unpacked_kernel())
    build(preroot, recipe)
    assert "nothing has changed" in build(preroot, recipe)[1]
    build(preroot, recipe, "--locked")
    locked = (tmp_path / "own.lock").read_bytes()
    (modules / "kernel/drivers/virtio/virtio_balloon.ko").unlink()
    done = preroot("build", recipe, "--output", tmp_path / "out", "--locked")
    assert done.returncode == 1
    assert "error: --locked: kernel (kernel-directory" in done.stderr and "without --locked" in done.stderr
    assert (tmp_path / "own.lock").read_bytes() == locked
    _, said = build(preroot, recipe)
    assert "kernel (kernel-directory" in said and "the lock has been brought up to date" in said
    assert (tmp_path / "own.lock").read_bytes() != locked
    assert "nothing has changed" in build(preroot, recipe)[1]
    listed = (modules / "modules.builtin").read_bytes()
    changes: list[Callable[[], object]] = [
        (modules / "updates").mkdir,
        lambda: (modules / "updates/new.ko").symlink_to("../kernel/drivers/virtio/virtio_input.ko"),
        (modules / "modules.builtin").unlink,
        lambda: (modules / "modules.builtin").write_bytes(listed),
    ]
    for change in changes:
        change()
        assert "nothing has changed" not in build(preroot, recipe)[1]
    assert "nothing has changed" in build(preroot, recipe)[1]


@pytest.mark.parametrize(
    ("remove", "words"),
    [
        ("vmlinuz", ("no kernel in {kernel}", "looked for vmlinuz, bzImage")),
        (
            "lib",
            ("the kernel {release} in {kernel} (vmlinuz) has no modules: looked for lib/mod", "make modules_install"),
        ),
        ("", ("{recipe}:3: kernel.directory: {kernel} does not exist", "relative paths start from")),
    ],
)
def test_what_is_missing(preroot: Command, recipe: Path, tmp_path: Path, remove: str, words: tuple[str, ...]) -> None:
    root, kernel = unpacked_kernel(), tmp_path / "kernel"
    if remove:
        shapes.made(root, kernel)
        shutil.rmtree(kernel / remove) if (kernel / remove).is_dir() else (kernel / remove).unlink()
    done = preroot("build", recipe, "--output", tmp_path / "out")
    assert done.returncode in (1, 2)
    for each in words:
        assert each.format(release=shapes.release(root), kernel=kernel, recipe=recipe) in done.stderr, done.stderr
    assert not (tmp_path / "out").exists() or not any((tmp_path / "out").iterdir())
    assert not (tmp_path / "own.lock").exists()


MONOLITHIC = 'directory = "kernel"\nmonolithic = true'


def test_a_kernel_without_modules(preroot: Command, recipe: Path, tmp_path: Path) -> None:
    """What is built in is known from modules.builtin, else from the configuration, else not at all."""
    root, kernel = unpacked_kernel(), tmp_path / "kernel"
    kernel.mkdir()
    shutil.copy(shapes.boot_file(root, "vmlinuz"), kernel / "vmlinuz")
    shutil.copy(shapes.boot_file(root, "config"), kernel / "config")
    recipe.write_text(RECIPE.replace('directory = "kernel"', MONOLITHIC).replace('"virtio", ', ""))
    manifest, said = build(preroot, recipe)
    assert [part["name"] for part in manifest["parts"]] == ["base"]  # type: ignore[attr-defined]
    assert manifest["kernel"]["modules"] == {} and {"ext4", "nvme"} <= set(manifest["kernel"]["builtin"])  # type: ignore[index]
    assert "warning" not in said

    done = preroot("build", recipe, "--output", tmp_path / "out", "--feature", "xfs", "--feature", "virtio")
    assert done.returncode == 1
    assert "without modules: xfs, wanted by xfs, is not built in: CONFIG_XFS_FS is m" in done.stderr
    assert "without modules: virtio_blk, wanted by virtio, is not built in: CONFIG_VIRTIO_BLK is m" in done.stderr

    (kernel / "config").unlink()
    _, said = build(preroot, recipe)
    assert said.count("warning: ") == 1 and "may or may not be built in: ext4 (ext4), nvme (nvme)" in said
    assert said.count("has no configuration among its files") == 1

    modules = kernel / "lib/modules" / shapes.release(root)
    shapes.copy_modules(root, modules)
    manifest, said = build(preroot, recipe)
    assert "warning" not in said
    assert [part["name"] for part in manifest["parts"]] == ["base"]  # type: ignore[attr-defined]
    done = preroot("build", recipe, "--output", tmp_path / "out", "--feature", "xfs")
    assert done.returncode == 1 and "xfs, wanted by xfs, is not built in (modules.builtin)" in done.stderr

    # a package's modules are left out alike
    text = recipe.read_text().replace('directory = "kernel"\n', "").replace('flavour = "busybox"\n', "")
    recipe.write_text(text.replace('"busybox"', '"systemd"'))  # which takes autofs4 if it is there
    manifest, _ = build(preroot, recipe)
    assert [part["name"] for part in manifest["parts"]] == ["base"]  # type: ignore[attr-defined]
    assert manifest["kernel"]["modules"] == {}  # type: ignore[index]


def test_a_configuration_that_lacks_something(preroot: Command, recipe: Path, tmp_path: Path) -> None:
    root, kernel = unpacked_kernel(), tmp_path / "kernel"
    shapes.made(root, kernel)
    config = (kernel / "config").read_text()
    for lacking in ("DEVTMPFS", "UNIX98_PTYS", "EXT4_USE_FOR_EXT2"):
        config = config.replace(f"CONFIG_{lacking}=y", f"# CONFIG_{lacking} is not set")
    (kernel / "config").write_text(config)
    done = preroot("build", recipe, "--output", tmp_path / "out")
    assert done.returncode == 1
    for lacking in ("DEVTMPFS", "UNIX98_PTYS"):
        assert f"CONFIG_{lacking} is not set; needed by feature busybox" in done.stderr
    (kernel / "config").write_text(config.replace("# CONFIG_DEVTMPFS is not set", "CONFIG_DEVTMPFS=y")
                                   .replace("# CONFIG_UNIX98_PTYS is not set", "CONFIG_UNIX98_PTYS=y"))  # fmt: skip
    _, said = build(preroot, recipe)
    assert "lacks what features recommend: CONFIG_EXT4_USE_FOR_EXT2 is not set and CONFIG_EXT2_FS is not set" in said
