# SPDX-License-Identifier: LGPL-2.1-or-later
"""How each architecture is emulated by QEMU, as far as a boot needs to know.

Sources: qemu(1) and the "System emulation" manual (machine types, `-cpu help`), kernel-parameters.txt (earlycon).
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from preroot.errors import RecipeError, nearest

Bus = Literal["virtio", "nvme", "sata", "usb", "scsi", "mmc"]


class Platform(Struct, frozen=True):
    """How one architecture is emulated: machine type, CPU model under TCG, buses that it lacks, console."""

    machine: str
    cpu: str
    console: str
    #: suffix of virtio device names: virtio-blk-pci, virtio-blk-ccw
    virtio: str = "pci"
    buses: tuple[Bus, ...] = ("virtio", "nvme", "sata", "usb", "scsi", "mmc")
    #: memory comes in pieces of so many MiB; a machine's is rounded up
    memory_step: int = 1
    #: serial port's early output (before the console driver), for a kernel that dies at once
    earlycon: str = ""
    #: the device by which QEMU gives it a TPM; empty: it has none there
    tpm: str = ""


#: By Debian's name of the architecture; the project's tests boot each of them.
#: arm64: `-cpu max` takes six times as long under TCG (pointer authentication in software, QEMU 10.0), so
#: cortex-a57. armhf: highmem=off, because a 32-bit kernel without LPAE cannot reach PCI above 4 GiB. riscv64: `max`
#: takes 1.7 times the processor time of `rv64` (10.7 s and 6.2 s of a boot). ppc64el, s390x and armhf: the models
#: differ by less than one in ten.
#: s390x has neither ATA nor SD controllers (no HAS_IOPORT), Debian's kernel for it no USB; NVMe is on its PCI.
PLATFORMS: dict[str, Platform] = {
    "amd64": Platform("q35", "max", "ttyS0", earlycon="earlycon=uart8250,io,0x3f8", tpm="tpm-tis"),
    "arm64": Platform("virt", "cortex-a57", "ttyAMA0", earlycon="earlycon=pl011,0x9000000", tpm="tpm-tis-device"),
    "armhf": Platform("virt,highmem=off", "cortex-a15", "ttyAMA0", earlycon="earlycon=pl011,0x9000000"),
    "riscv64": Platform("virt", "rv64", "ttyS0", earlycon="earlycon=sbi"),
    "ppc64el": Platform("pseries", "power9", "hvc0", memory_step=256),
    "s390x": Platform("s390-ccw-virtio", "max", "ttysclp0", virtio="ccw", buses=("virtio", "nvme", "usb", "scsi")),
}


class Emulator(Struct, frozen=True):
    """What this host has for an architecture: the QEMU program, its version, and whether KVM guests run."""

    program: str
    version: tuple[int, int, int]
    kvm: bool = False


def platform(arch: str) -> Platform:
    """Return how `arch` is emulated. Raises RecipeError for an architecture without an entry."""
    if arch not in PLATFORMS:
        known = "known: " + ", ".join(PLATFORMS)
        raise RecipeError(f"no machine is known for architecture {arch!r}", nearest(arch, PLATFORMS) or known)
    return PLATFORMS[arch]
