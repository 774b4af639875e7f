# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Tells which device of the root's Btrfs is missing. Only the kernel knows, and says so when it is asked to mount it
# ("devid 2 uuid … is missing", btrfs_report_missing_device() in fs/btrfs/volumes.c).
btrfs_reasons() {
    root=$(cmdline_value root) || return 0
    path=
    ! command -v device_path > /dev/null || device_path "$root" || return 0
    while read -r _ place _; do
        [ "$place" != /sysroot ] || return 0
    done < /proc/mounts
    # no udev in a busybox part, and no links then
    [ -e "$path" ] || path=${device:-}
    [ -b "$path" ] || return 0
    mount -t btrfs -o ro,rescue=nologreplay "$path" /sysroot 2> /dev/null && umount /sysroot && return 0
    if command -v dmesg > /dev/null; then
        dmesg
    else
        journalctl -k -b -o cat --no-pager 2> /dev/null
    fi | while read -r line; do
        case $line in
            *BTRFS*devid*" is missing"*) tell "Btrfs: a device of $path is missing: ${line#*): }" ;;
        esac
    done
}
btrfs_reasons
