# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest
from msgspec.structs import replace

from preroot.boot.diskoptions import disk_options
from preroot.boot.machine import DiskSpec, MachineSpec
from preroot.boot.platforms import platform


def test_a_disk_on_several_paths() -> None:
    """Two devices on one node, with the same name for the guest; what it writes can't be thrown away then."""
    disk = DiskSpec("/d", bus="scsi", format="raw", serial="san", paths=2, snapshot=False)
    argv = disk_options(MachineSpec("/k", disks=(disk,)), platform("amd64"))
    drive = argv[argv.index("-drive") + 1]
    assert drive.endswith(",node-name=node0")
    devices = [each for each in argv if each.startswith("scsi-hd")]
    assert devices == ["scsi-hd,bus=scsi.0,drive=node0,share-rw=on,serial=san,wwn=0x5525400000000000"] * 2
    for impossible in (replace(disk, snapshot=True), replace(disk, bus="virtio")):
        with pytest.raises(ValueError, match="several paths"):
            disk_options(MachineSpec("/k", disks=(impossible,)), platform("amd64"))
