# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# The kernel's own file systems, and the command line.
mount -t proc -o nosuid,noexec,nodev proc /proc
mount -t sysfs -o nosuid,noexec,nodev sysfs /sys
# An initramfs gets no devtmpfs from the kernel, whatever CONFIG_DEVTMPFS_MOUNT says.
awk '$2 == "/dev" { found = 1 } END { exit !found }' /proc/mounts ||
    mount -t devtmpfs -o nosuid,mode=0755 devtmpfs /dev
mkdir -p /dev/pts
mount -t devpts -o nosuid,noexec,gid=5,mode=0620 devpts /dev/pts
mount -t tmpfs -o nosuid,nodev,mode=0755 tmpfs /run
cmdline_read
if [ -r /usr/lib/preroot/cmdline-table ]; then
    # shellcheck source=/dev/null
    . /usr/lib/preroot/cmdline-table
    cmdline_install
fi
if cmdline_true rd.debug; then
    # into the kernel's log, from which the real root's journal has it
    exec 2> /dev/kmsg
    PS4='preroot + '
    set -x
fi
