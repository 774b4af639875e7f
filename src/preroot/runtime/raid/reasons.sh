# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Tells which arrays were not started, and how many of their disks are there. Sourced when the root was not reached.
raid_reasons() {
    raid_seen=
    for raid_device in /sys/class/block/*; do
        raid_device=${raid_device##*/}
        case $raid_device in md* | loop* | ram* | zram*) continue ;; esac
        raid_member=$(raid_member_of "$raid_device") || continue
        case "$raid_seen" in *"
$raid_member
"*) continue ;; esac
        raid_seen="$raid_seen
$raid_member
"
        raid_there=
        raid_count=0
        for raid_other in /sys/class/block/*; do
            raid_other=${raid_other##*/}
            if [ "$(raid_member_of "$raid_other")" = "$raid_member" ]; then
                raid_there="$raid_there /dev/$raid_other"
                raid_count=$((raid_count + 1))
            fi
        done
        tell "RAID: the array $raid_member was not started: $raid_count of them are there:$raid_there"
    done
}

# raid_member_of DEVICE: prints the array that DEVICE is a member of, and no running array has: its name, level, UUID and
# number of disks as the member's superblock has them; false where there is none.
raid_member_of() {
    for raid_holder in "/sys/class/block/$1"/holders/md*; do
        [ -e "$raid_holder/md/array_state" ] || continue
        read -r raid_state < "$raid_holder/md/array_state"
        case $raid_state in inactive | clear) ;; *) return 1 ;; esac
    done
    mdadm --examine --export "/dev/$1" 2> /dev/null | {
        raid_level='' raid_devices='' raid_uuid='' raid_name=''
        while IFS='=' read -r raid_key raid_value; do
            case $raid_key in
                MD_LEVEL) raid_level=$raid_value ;;
                MD_DEVICES) raid_devices=$raid_value ;;
                MD_UUID) raid_uuid=$raid_value ;;
                MD_NAME) raid_name=$raid_value ;;
            esac
        done
        [ -n "$raid_uuid" ] || exit 1
        printf '%s (%s, %s) of %s disks\n' "${raid_name:-without a name}" "$raid_level" "$raid_uuid" "$raid_devices"
    }
}

raid_reasons
