# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Finds the root of the command line, loading drivers while it waits, and mounts it.

# coldplug: loads the module of every device that is there. Buses show new devices once their driver is loaded,
# so the caller repeats it.
coldplug() {
    # MMC cards have their modalias in uevent alone (drivers/mmc/core/bus.c of 7.2); to read all of those would take
    # a third longer.
    # NUL-separated: a quote in a DMI string would end xargs otherwise
    {
        if [ -d /sys/bus/mmc ]; then
            cat /sys/bus/mmc/devices/*/uevent | awk '/^MODALIAS=/ { print substr($0, 10) }'
        fi
        find /sys/devices -name modalias -exec cat {} +
    } 2> /dev/null | sort -u | tr '\n' '\0' | xargs -0 -r modprobe -a -b -q 2> /dev/null || :
}

# find_root: prints the device of $root, false where it is not there (yet).
find_root() {
    case $root in
        UUID=* | LABEL=* | PARTUUID=* | PARTLABEL=*) findfs "$root" 2> /dev/null ;;
        *) [ -b "$root" ] && printf '%s\n' "$root" ;;
    esac
}

# root_is_ready: true once the device of $root is there, as $device, and no step holds it back.
root_is_ready() {
    device=$(find_root) || return 1
    for hold in $holds; do
        ! "$hold" || return 1
    done
}

root=$(cmdline_value root) || fail "no root= on the command line"
rootfstype=$(cmdline_value rootfstype) || rootfstype=
rootflags=$(cmdline_value rootflags) || rootflags=
mode=ro
if cmdline_has rw; then
    mode=rw
fi
timeout=90
while IFS='=' read -r key value; do
    if [ "$key" = timeout ]; then
        timeout=$value
    fi
done < /etc/preroot/policy

IFS='. ' read -r begun rest < /proc/uptime
waited=0
device=
until root_is_ready; do
    coldplug
    for round in $rounds; do "$round"; done
    root_is_ready && break
    IFS='. ' read -r now rest < /proc/uptime
    waited=$((now - begun))
    if [ "$waited" -ge "$timeout" ]; then
        [ -z "$device" ] || fail "root device $device (root=$root) is there, but was not ready within $timeout seconds"
        say "The device of root=$root did not appear within $timeout seconds. These are there:"
        blkid | while read -r line; do say "  $line"; done
        fail "root device $root is missing"
    fi
    sleep 0.2
done
say "milestone root-device $device"

if [ -z "$rootfstype" ]; then
    rootfstype=$(blkid -o value -s TYPE "$device") || fail "no file system is known on $device (root=$root)"
fi
modprobe -b -q "$rootfstype" || :
mkdir -p /sysroot
mount -t "$rootfstype" -o "$mode${rootflags:+,$rootflags}" "$device" /sysroot ||
    fail "can't mount $device ($rootfstype, root=$root)"
say "milestone sysroot-mounted"
