# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# A map of which all paths are gone keeps what is written for later, for good, and could never be unmounted. What is
# still to be written is lost then, as it would be anyway (dm-mpath.c, "fail_if_no_path").
for device in /sys/block/dm-*; do
    [ -e "$device/dm/uuid" ] || continue
    read -r uuid < "$device/dm/uuid"
    case $uuid in
        mpath-*)
            read -r mapped < "$device/dm/name"
            dmsetup message "$mapped" 0 fail_if_no_path
            ;;
    esac
done
