# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernels from elsewhere than a package."""

from __future__ import annotations

from pathlib import Path

import packages
from lab import BUSYBOX, Lab

import kernel_shapes as shapes
from preroot.boot.scenario import Expect
from preroot.engine import read_built


def unpacked() -> Path:
    """Return the directory of the unpacked cloud kernel."""
    return packages.kernel().image.parent.parent


def test_a_kernel_as_make_installs_it(lab: Lab, tmp_path: Path) -> None:
    directory = shapes.made(unpacked(), tmp_path / "linux")
    image = lab.image(*BUSYBOX, f"kernel.directory={directory}", "kernel.modules=virtual")
    lab.boot("kernel-directory", image, lab.disk("ext4", label="root"), memory=256)


def test_a_kernel_without_modules(lab: Lab, tmp_path: Path) -> None:
    """Debian's cloud kernel has ext4 and NVMe built in: nothing but its image and configuration is there."""
    for name in ("vmlinuz", "config"):
        (tmp_path / name).write_bytes(shapes.boot_file(unpacked(), name).read_bytes())
    image = lab.image(
        "part.base.flavour=busybox", 'part.base.features=["busybox", "ext4", "nvme"]', f"kernel.directory={tmp_path}",
        "kernel.monolithic=true",
    )  # fmt: skip
    assert [part.name for part in read_built(image.initrd).manifest.parts] == ["base"]
    lab.boot("monolithic", image, lab.disk("ext4", bus="nvme", label="root"), memory=256)


def test_a_module_of_updates_takes_the_place_of_the_kernel_s_own(lab: Lab, tmp_path: Path) -> None:
    """The disk needs virtio_blk, and the kernel tells when a module was not built together with it."""
    (tmp_path / "virtio_blk.ko").write_bytes(shapes.out_of_tree(shapes.module(unpacked(), "virtio_blk")))
    image = lab.image(
        *BUSYBOX, f'kernel.extra-modules=["{tmp_path}/virtio_blk.ko"]', f"kernel.version={shapes.release(unpacked())}",
        "kernel.modules=virtual",
    )  # fmt: skip
    disk = lab.disk("ext4", label="root")
    expect = Expect(identity=disk.identity, must=("virtio_blk: loading out-of-tree module taints kernel",))
    lab.boot("extra-module", image, disk, memory=256, expect=expect)
