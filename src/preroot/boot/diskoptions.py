# SPDX-License-Identifier: LGPL-2.1-or-later
"""QEMU's options for the disks of a machine. Pure. Source: qemu(1), `-device X,help`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from preroot.boot.platforms import Platform
from preroot.errors import BuildError

if TYPE_CHECKING:
    from preroot.boot.machine import MachineSpec

#: the controller that each bus needs once, and the device for disk NUMBER on it
_CONTROLLERS: dict[str, str] = {
    "sata": "ich9-ahci,id=ahci",
    "usb": "qemu-xhci,id=xhci",
    "scsi": "virtio-scsi-{virtio},id=scsi",
}
_DEVICES: dict[str, str] = {
    "virtio": "virtio-blk-{virtio},drive={drive}",
    "nvme": "nvme,drive={drive}",
    "sata": "ide-hd,bus=ahci.{on_bus},drive={drive}",
    "usb": "usb-storage,bus=xhci.0,drive={drive}",
    "scsi": "scsi-hd,bus=scsi.0,drive={drive}",
    "mmc": "sdhci-pci,id=sdhci{number}",
}
#: a name of the kind NAA 5 ("IEEE registered"), with the company number of QEMU's own MAC addresses (52:54:00)
_WWN = 0x5525400000000000


def escape(value: str) -> str:
    """Return `value` as QEMU's option syntax wants it: a comma is doubled (qemu(1), "-drive")."""
    return value.replace(",", ",,")


def disk_options(spec: MachineSpec, kind: Platform) -> list[str]:
    """Return QEMU's options for the disks of `spec`, whose formats are known.

    Raises BuildError for a disk on a bus that the machine lacks, ValueError for what no caller may ask for.
    """
    options: list[str] = []
    seen: dict[str, int] = {}
    for number, disk in enumerate(spec.disks):
        if disk.bus not in kind.buses:
            raise BuildError(f"an {spec.arch} machine has no {disk.bus} bus for {disk.image}",
                             "use one of: " + ", ".join(kind.buses))  # fmt: skip
        if not disk.format:
            raise ValueError(f"the format of {disk.image} is not known yet")
        if disk.paths > 1 and (disk.bus != "scsi" or disk.snapshot):
            raise ValueError(f"only a SCSI disk without snapshot has several paths: {disk.image}")
        flags = (",readonly=on" if disk.readonly else "") + (",snapshot=on" if disk.snapshot else "")
        options += ["-drive", f"if=none,id=disk{number},file={escape(disk.image)},format={disk.format}"
                    f",cache=unsafe{flags}" + (f",node-name=node{number}" if disk.paths > 1 else "")]  # fmt: skip
        on_bus = seen.get(disk.bus, 0)
        seen[disk.bus] = on_bus + 1
        if disk.bus in _CONTROLLERS and not on_bus:
            options += ["-device", _CONTROLLERS[disk.bus].format(virtio=kind.virtio)]
        device = _DEVICES[disk.bus].format(virtio=kind.virtio, drive=f"disk{number}", on_bus=on_bus, number=number)
        # NVMe has no device without a serial number; elsewhere it is only given when asked for.
        serial = disk.serial or (f"disk{number}" if disk.bus == "nvme" else "")
        if disk.bus == "mmc":
            # Every controller's bus is called sd-bus and takes one card, so QEMU finds the free one by itself.
            options += ["-device", device, "-device", f"sd-card,drive=disk{number}"]
        else:
            device += f",serial={escape(serial)}" if serial else ""
            options += ["-device", device] if disk.paths == 1 else _several_paths(device, number, disk.paths)
    return options


def _several_paths(device: str, number: int, paths: int) -> list[str]:
    """Return the options for `paths` devices on one drive.

    A drive serves one device; a node of the block layer serves several, if they say that they share it (share-rw). The
    name of a node goes to the image file, not to what snapshot=on puts over it (QEMU 10.0).
    """
    device = device.replace(f"drive=disk{number}", f"drive=node{number},share-rw=on")
    # multipath looks only at disks that have a WWN (multipath.conf(5), blacklist_exceptions: "property")
    device += f",wwn={_WWN + number:#x}"
    return ["-device", device] * paths
