# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154  # `device`, `rounds` …: steps and init are one shell
# What steps find devices with. It only defines functions.

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

# policy KEY DEFAULT: prints what the recipe says in /etc/preroot/policy.
policy() {
    value_of=$2
    while IFS='=' read -r key value; do
        if [ "$key" = "$1" ]; then
            value_of=$value
        fi
    done < /etc/preroot/policy
    printf '%s\n' "$value_of"
}

# plain_name NAME: prints a device's name in the one spelling that find_device works with, a tag or a path:
# quotes around a tag's value go, dracut's `block:` too, links that udev would make become tags (in their names, udev
# writes odd characters as \xNN: encode_devnode_name() of systemd), and \xNN in a tag is read as dracut does.
plain_name() {
    name=${1#block:}
    case $name in
        /dev/disk/by-uuid/*) name=UUID=${name#/dev/disk/by-uuid/} ;;
        /dev/disk/by-label/*) name=LABEL=${name#/dev/disk/by-label/} ;;
        /dev/disk/by-partuuid/*) name=PARTUUID=${name#/dev/disk/by-partuuid/} ;;
        /dev/disk/by-partlabel/*) name=PARTLABEL=${name#/dev/disk/by-partlabel/} ;;
    esac
    case $name in
        UUID=* | LABEL=* | PARTUUID=* | PARTLABEL=*)
            tag=${name%%=*} name=${name#*=}
            case $name in
                \"*\" | \'*\') name=${name#?} name=${name%?} ;;
            esac
            case $name in
                *\\x[0-9a-fA-F][0-9a-fA-F]*) name=$(decoded "$name") ;;
            esac
            name=$tag=$name
            ;;
    esac
    printf '%s\n' "$name"
}

# decoded TEXT: prints it with each \xNN as the byte that it stands for.
decoded() {
    printf '%s\n' "$1" | awk '{
        while ((at = match($0, /\\x[0-9a-fA-F][0-9a-fA-F]/)) > 0) {
            digits = tolower(substr($0, at + 2, 2)); known = "0123456789abcdef"
            byte = 16 * (index(known, substr(digits, 1, 1)) - 1) + index(known, substr(digits, 2, 1)) - 1
            printf "%s%c", substr($0, 1, at - 1), byte
            $0 = substr($0, at + 4)
        }
        print
    }'
}

# devices_of NAME: prints every device that has this name (see plain_name), one a line; nothing where there is none.
devices_of() {
    case $1 in
        PARTUUID=*/PARTNROFF=*) neighbour "${1%/PARTNROFF=*}" "${1##*/PARTNROFF=}" ;;
        UUID=* | LABEL=* | PARTUUID=* | PARTLABEL=*)
            # Compared here: `-t`, and findfs, take a quote in a label for one around it. Of all formats only `value`
            # shows a label as it is.
            for each in $(blkid -c /dev/null -o device); do
                value=$(blkid -c /dev/null -o value -s "${1%%=*}" "$each") || continue
                if [ "$value" = "${1#*=}" ] && ! is_held "$each"; then printf '%s\n' "$each"; fi
            done
            ;;
        /dev/*) if [ -b "$1" ]; then printf '%s\n' "$1"; fi ;;
        *:*) node_of "$1" ;;
        # the kernel's old notation (early_lookup_bdev(), block/early-lookup.c): a hexadecimal device number
        *[!0-9a-fA-F]* | '') ;;
        *) node_of "$(((0x$1 & 0xfff00) >> 8)):$(((0x$1 & 0xff) | ((0x$1 >> 12) & 0xfff00)))" ;;
    esac
}

# is_held DEVICE: true for what another device holds, and whose content it may show: a leg of a RAID volume, a path of a
# multipath device.
is_held() {
    numbers=$(busybox stat -L -c '%t %T' "$1" 2> /dev/null) || return 1
    for holder in "/sys/dev/block/$((0x${numbers% *})):$((0x${numbers#* }))"/holders/*; do
        [ ! -e "$holder" ] || return 0
    done
    return 1
}

# node_of MAJOR:MINOR: prints the node of a device number.
node_of() {
    if [ -r "/sys/dev/block/$1/uevent" ]; then
        while IFS='=' read -r key value; do
            if [ "$key" = DEVNAME ]; then printf '/dev/%s\n' "$value"; fi
        done < "/sys/dev/block/$1/uevent"
    fi
}

# neighbour PARTUUID=ID N: prints the partition N places after (or before) that one on the same disk, as the kernel does.
neighbour() {
    for base in $(devices_of "$1"); do
        base=${base#/dev/}
        read -r number < "/sys/class/block/$base/partition" || continue
        for sibling in /sys/class/block/"$base"/../*/partition; do
            read -r each < "$sibling" || continue
            if [ "$each" -eq "$((number + $2))" ]; then
                sibling=${sibling%/partition}
                printf '/dev/%s\n' "${sibling##*/}"
            fi
        done
    done
}

# find_device NAME: prints the device of this name, the first where there are several; false where there is none (yet).
find_device() {
    found=$(devices_of "$(plain_name "$1")")
    [ -n "$found" ] || return 1
    printf '%s\n' "${found%%
*}"
}

# refuse_name NAME: ends the boot for a name that no waiting can make good in a part without udev, and says why.
refuse_name() {
    case $(plain_name "$1") in
        UUID=?* | LABEL=?* | PARTUUID=?* | PARTLABEL=?* | *[0-9]:[0-9]*) ;;
        /dev/disk/*) fail "$1 is a link that only udev makes: name the device by UUID=, LABEL=, PARTUUID= or PARTLABEL=" ;;
        /dev/?*) ;;
        *[!0-9a-fA-F]* | '')
            fail "$1 is no name of a device: give UUID=, LABEL=, PARTUUID=, PARTLABEL=, /dev/… or MAJOR:MINOR"
            ;;
    esac
}

# is_ready NAME: true once the device of this name is there, as $device, and no step holds it back.
is_ready() {
    device=$(find_device "$1") || return 1
    for hold in $holds; do
        ! "$hold" || return 1
    done
}

# await_device NAME SECONDS: waits until a device is_ready, loading drivers meanwhile; false after so many seconds.
await_device() {
    IFS='. ' read -r begun rest < /proc/uptime
    waited=0
    until is_ready "$1"; do
        coldplug
        for round in $rounds; do "$round"; done
        is_ready "$1" && return
        IFS='. ' read -r now rest < /proc/uptime
        waited=$((now - begun))
        [ "$waited" -lt "$2" ] || return 1
        sleep 0.2
    done
}

# warn_of_others NAME DEVICE: says which other devices have the same name. It is not refused: a copy of a disk that was
# left in the machine must not keep it from booting.
warn_of_others() {
    for each in $(devices_of "$(plain_name "$1")"); do
        case ,${more_options:-}, in *",device=$each,"*) continue ;; esac  # a device of the same Btrfs
        if [ "$each" != "$2" ]; then
            say "Warning: $1 is the name of both $2, which is taken, and $each."
        fi
    done
}

# say_devices: what file systems and other contents there are, and where.
say_devices() {
    blkid -c /dev/null | while read -r line; do say "  $line"; done
    [ -n "$(blkid -c /dev/null -o device)" ] || say "  no disk at all: is the driver of its bus in the image?"
}
