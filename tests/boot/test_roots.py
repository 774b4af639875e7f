# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every file system, every way to name the root, every bus, cloud and generic kernel."""

from __future__ import annotations

import pytest
from lab import BUSYBOX, Lab

from preroot.boot.filesystems import FsType
from preroot.boot.platforms import Bus

GENERIC = "linux-image-amd64"


@pytest.mark.parametrize(
    ("fstype", "bus", "name", "label"),
    [
        ("ext4", "virtio", "UUID", "root"),
        ("xfs", "nvme", "LABEL", "my root"),  # a label with a space, quoted on the command line
        ("btrfs", "sata", "PARTUUID", "root"),
        pytest.param("ext4", "nvme", "PARTLABEL", "root", marks=pytest.mark.matrix),
        pytest.param("ext4", "virtio", "LABEL", "a b  c", marks=pytest.mark.matrix),
        pytest.param("xfs", "virtio", "UUID", "root", marks=pytest.mark.matrix),
        pytest.param("xfs", "sata", "PARTLABEL", "root", marks=pytest.mark.matrix),
        pytest.param("btrfs", "virtio", "UUID", "root", marks=pytest.mark.matrix),
        pytest.param("btrfs", "nvme", "LABEL", "root", marks=pytest.mark.matrix),
    ],
)
def test_cloud_kernel(lab: Lab, fstype: FsType, bus: Bus, name: str, label: str) -> None:
    disk = lab.disk(fstype, bus=bus, label=label, gpt=name.startswith("PART"))
    lab.boot(f"cloud-{fstype}-{bus}-{name}-{label.count(' ')}", lab.image(), disk, root=name)


@pytest.mark.parametrize(
    ("fstype", "bus", "name"),
    [
        ("ext4", "usb", "PARTLABEL"),
        ("ext4", "mmc", "UUID"),
        pytest.param("ext4", "virtio", "UUID", marks=pytest.mark.matrix),
        pytest.param("xfs", "sata", "LABEL", marks=pytest.mark.matrix),
        pytest.param("btrfs", "nvme", "PARTUUID", marks=pytest.mark.matrix),
        pytest.param("ext4", "scsi", "UUID", marks=pytest.mark.matrix),
    ],
)
def test_generic_kernel(lab: Lab, fstype: FsType, bus: Bus, name: str) -> None:
    """Here everything is a module: the bus, the disk, the file system."""
    image = lab.image('part.base.features=["...", "mmc", "scsi"]', "kernel.modules=generic", kernel=GENERIC)
    disk = lab.disk(fstype, bus=bus, label="root", gpt=name.startswith("PART"))
    lab.boot(f"generic-{fstype}-{bus}-{name}", image, disk, root=name)


@pytest.mark.parametrize(
    ("bus", "name"),
    [("virtio", "UUID"), pytest.param("nvme", "PARTLABEL", marks=pytest.mark.matrix)],
)
def test_busybox_part(lab: Lab, bus: Bus, name: str) -> None:
    disk = lab.disk("ext4", bus=bus, label="root", gpt=name.startswith("PART"))
    lab.boot(f"busybox-{bus}-{name}", lab.image(*BUSYBOX), disk, root=name, memory=256)


def test_bookworm(lab: Lab) -> None:
    lab.boot("bookworm", lab.image(release="bookworm"), lab.disk("ext4", label="root"))


@pytest.mark.matrix
def test_sid(lab: Lab) -> None:
    lab.boot("sid", lab.image(release="sid"), lab.disk("ext4", label="root"))
