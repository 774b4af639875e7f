# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# What scripts of the preparation machine are written with.
set -eu
# Nothing else looks at devices here, so nobody would complete what libdevmapper waits for.
export DM_DISABLE_UDEV=1

# disk NAME: prints the device of the disk with that serial number.
disk() {
    for block in /sys/block/vd*; do
        if [ "$(cat "$block/serial")" = "$1" ]; then
            printf '/dev/%s\n' "${block##*/}"
            return 0
        fi
    done
    printf 'there is no disk %s\n' "$1" >&2
    return 1
}

# value NAME VALUE: hands a value out, for command lines and offsets of the scenario.
value() {
    printf '\npreroot-value %s %s\n' "$1" "$2"
}

# make_fs DEVICE [ext4|xfs|btrfs] [LABEL] [UUID]: makes an empty file system.
make_fs() {
    case ${2:-ext4} in
        ext4) mkfs.ext4 -q -F -E lazy_itable_init=1 ${3:+-L "$3"} ${4:+-U "$4"} "$1" ;;
        xfs) mkfs.xfs -q -f ${3:+-L "$3"} ${4:+-m "uuid=$4"} "$1" ;;
        btrfs) mkfs.btrfs -q -f ${3:+-L "$3"} ${4:+-U "$4"} "$1" ;;
        *)
            printf 'no file system %s can be made here\n' "$2" >&2
            return 1
            ;;
    esac
}

# copy_tree DIRECTORY: copies the root's tree there.
copy_tree() {
    mkdir -p /tree
    mount -t ext4 -o ro,noload "$(disk tree)" /tree
    cp -a /tree/. "$1"
    umount /tree
}

# fill DEVICE [ext4|xfs|btrfs] [LABEL] [UUID]: makes a file system with the root's tree in it.
fill() {
    make_fs "$@"
    mkdir -p /filled
    mount -t "${2:-ext4}" "$1" /filled
    copy_tree /filled
    umount /filled
}
