# SPDX-License-Identifier: LGPL-2.1-or-later
"""A hand-made initrd: busybox, a few modules, mount, switch_root. What machines and disks are tested with, and no more.

It is written without preroot's own archive writer, so that neither can hide a fault of the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

_INIT = """#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
for module in {modules}; do /bin/busybox insmod /modules/$module.ko || echo "cannot load $module"; done
for word in $(/bin/busybox cat /proc/cmdline); do
    case $word in root=*) root=${{word#root=}} ;; rootfstype=*) type=${{word#*=}} ;; esac
done
case $root in LABEL*|UUID*|PARTUUID*|PARTLABEL*) search=findfs ;; *) search=echo ;; esac
until device=$(/bin/busybox $search "$root" 2>/dev/null) && [ -b "$device" ]; do /bin/busybox sleep 0.1; done
echo "preroot: milestone root-device $device"
/bin/busybox mount -o ro ${{type:+-t $type}} "$device" /root || {{ echo "mount failed"; /bin/busybox sleep 1000; }}
echo "preroot: milestone sysroot-mounted"
{before_switch}
/bin/busybox mount -o move /proc /root/proc
/bin/busybox mount -o move /sys /root/sys
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""


def _member(name: str, mode: int, data: bytes = b"", device: tuple[int, int] = (0, 0)) -> bytes:
    """Return one member of a newc archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    encoded = name.encode() + b"\0"
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, *device, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return head + b"\0" * (-len(head) % 4) + data + b"\0" * (-len(data) % 4)


def make(busybox: bytes, modules: Mapping[str, bytes], *, order: Sequence[str] = (), before_switch: str = "") -> bytes:
    """Return the archive, uncompressed. `modules` are loaded in their order, or that of `order`."""
    init = _INIT.format(modules=" ".join(order or modules), before_switch=before_switch)
    members = [_member(name, 0o040755) for name in ("bin", "dev", "proc", "sys", "root", "modules")]
    members.append(_member("dev/console", 0o020600, device=(5, 1)))
    members.append(_member("bin/busybox", 0o100755, busybox))
    members.append(_member("init", 0o100755, init.encode()))
    members += [_member(f"modules/{name}.ko", 0o100644, data) for name, data in modules.items()]
    return b"".join(members) + _member("TRAILER!!!", 0)
