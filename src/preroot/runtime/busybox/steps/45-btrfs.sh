# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Btrfs on several devices. The kernel must be told of each of them before it can mount any (btrfs-device(8)); the
# mount option device= does that without a program of Btrfs' own.

btrfs_degraded_after=30
read -r btrfs_degraded_after < /etc/preroot/btrfs || :

# btrfs_hold: true while devices of the Btrfs on $device are missing. Those that are there are added to the
# options of the mount; with "degraded" among these the wait for the others has a bound of its own.
# num_devices of the superblock: 8 bytes at 0x88 of it, and it is at 64 KiB (struct btrfs_super_block in
# include/uapi/linux/btrfs_tree.h).
btrfs_hold() {
    [ "$(blkid -o value -s TYPE "$device")" = btrfs ] || return 1
    btrfs_all=$(od -An -t d8 -j $((65536 + 136)) -N 8 "$device")
    btrfs_all=$((btrfs_all))
    [ "$btrfs_all" -gt 1 ] || return 1
    btrfs_there=0
    more_options=
    for each in $(blkid -c /dev/null -o device -t "UUID=$(blkid -o value -s UUID "$device")"); do
        btrfs_there=$((btrfs_there + 1))
        more_options=$more_options,device=$each
    done
    [ "$btrfs_there" -lt "$btrfs_all" ] || return 1
    case ,$options, in
        *,degraded,*) [ "$waited" -lt "$btrfs_degraded_after" ] ;;
    esac
}
holds="$holds btrfs_hold"
