# SPDX-License-Identifier: LGPL-2.1-or-later
"""Images of other architectures than this machine's: built from the mirror's packages, and booted.

Those beyond amd64 and arm64 are taken from testing: all six of its architectures have the same kernel, so that what
differs between two of these boots is the architecture.
"""

from __future__ import annotations

import pytest
from lab import Lab

from preroot.boot.platforms import Bus
from preroot.boot.scenario import Expect

RELEASE = "forky"
#: every bus that QEMU can attach a disk to; drivers come with the module selection
BUSES = (
    "part.base.flavour=busybox",
    'part.base.features=["busybox", "ext4", "virtio", "nvme", "sata", "usb", "scsi", "mmc"]',
    "kernel.modules=generic",
)
#: of the main archive alone, which changes with a point release only
BOOKWORM = ('distribution.suites=["bookworm"]',)
MATRIX = pytest.mark.matrix


def matrix(*cases: tuple[str, Bus]) -> list[object]:
    return [pytest.param(*case, marks=MATRIX) for case in cases]


@pytest.mark.parametrize(
    ("arch", "bus"),
    [
        ("armhf", "virtio"),
        ("ppc64el", "nvme"),
        ("riscv64", "mmc"),  # mmc_block is a module, which only the uevent of a card names
        ("s390x", "virtio"),  # not on PCI but on channel I/O
        *matrix(
            ("armhf", "nvme"), ("armhf", "sata"), ("armhf", "usb"), ("armhf", "scsi"), ("armhf", "mmc"),
            ("ppc64el", "virtio"), ("ppc64el", "sata"), ("ppc64el", "usb"), ("ppc64el", "scsi"), ("ppc64el", "mmc"),
            ("riscv64", "virtio"), ("riscv64", "nvme"), ("riscv64", "sata"), ("riscv64", "usb"), ("riscv64", "scsi"),
            ("s390x", "nvme"), ("s390x", "usb"), ("s390x", "scsi"),
            ("arm64", "virtio"), ("arm64", "sata"), ("arm64", "usb"), ("arm64", "scsi"), ("arm64", "mmc"),
        ),
    ],
)  # fmt: skip
def test_busybox_part(lab: Lab, arch: str, bus: Bus) -> None:
    disk = lab.disk(bus=bus, release=RELEASE, arch=arch)
    # busybox of testing lacks applets that stable's has
    expect = Expect(identity=disk.identity, must_not=("applet not found",))
    lab.boot(f"{arch}-{bus}", lab.image(*BUSES, release=RELEASE, arch=arch), disk, memory=512, expect=expect)


@pytest.mark.matrix
@pytest.mark.parametrize("arch", ["armhf", "ppc64el", "s390x"])
def test_busybox_part_of_bookworm(lab: Lab, arch: str) -> None:
    disk = lab.disk(release="bookworm", arch=arch)
    image = lab.image(*BUSES, *BOOKWORM, release="bookworm", arch=arch)
    lab.boot(f"{arch}-bookworm", image, disk, memory=512)


@pytest.mark.parametrize("bus", ["virtio", "nvme"])
def test_systemd_on_arm64(lab: Lab, bus: Bus) -> None:
    lab.boot(f"arm64-{bus}", lab.image(arch="arm64"), lab.disk(bus=bus, arch="arm64"), timeout=400)


@pytest.mark.matrix
@pytest.mark.parametrize("arch", ["armhf", "ppc64el", "riscv64", "s390x"])
def test_systemd(lab: Lab, arch: str) -> None:
    disk = lab.disk(release=RELEASE, arch=arch)
    lab.boot(f"{arch}-systemd", lab.image(release=RELEASE, arch=arch), disk, timeout=600)
