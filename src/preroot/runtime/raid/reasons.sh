# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Tells which arrays were not started, and how many of their disks are there. Sourced when the root was not reached.
raid_reasons() {
    raid_members= # ARRAY|DEVICE, one a line
    for raid_device in /sys/class/block/*; do
        raid_device=${raid_device##*/}
        case $raid_device in loop* | ram* | zram*) continue ;; esac
        raid_array=$(raid_member_of "$raid_device") || continue
        raid_members="$raid_members$raid_array|$raid_device
"
    done
    raid_told=
    while IFS='|' read -r raid_array raid_device; do
        case "$raid_told" in *"|$raid_array|"*) continue ;; esac
        raid_told="$raid_told|$raid_array|"
        raid_there=
        raid_count=0
        while IFS='|' read -r raid_other raid_device; do
            if [ "$raid_other" = "$raid_array" ]; then
                raid_there="$raid_there /dev/$raid_device"
                raid_count=$((raid_count + 1))
            fi
        done << END
${raid_members%?}
END
        [ -z "$raid_array" ] ||
            tell "RAID: the array $raid_array was not started: $raid_count of them are there:$raid_there"
    done << END
${raid_members%?}
END
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
