# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# shellcheck disable=SC2154  # `waited`: steps and init are one shell
# Assembles arrays while the root is waited for (50-root): each member as it appears, and after a while, without the
# members that are missing, what can do without.
raid_known=
raid_degraded=
read -r raid_degraded_after < /etc/preroot/raid

# raid_round: a turn of the wait.
raid_round() {
    # what Linux, Intel's firmware and DDF write
    for raid_device in $(blkid -c /dev/null | awk -F: '/ TYPE="(linux|isw|ddf)_raid_member"/ { print $1 }'); do
        case " $raid_known " in *" $raid_device "*) continue ;; esac
        raid_known="$raid_known $raid_device"
        mdadm --incremental --quiet "$raid_device" || :
    done
    if [ -n "$raid_known" ] && [ -z "$raid_degraded" ] && [ "$waited" -ge "$raid_degraded_after" ]; then
        raid_degraded=yes
        say "RAID: disks are missing after $raid_degraded_after seconds; arrays are started without them where that is possible"
        mdadm --incremental --run --scan --quiet || :
    fi
}

# raid_hold: true while the root's device is a member of an array: with the metadata at its end (0.90, 1.0), it looks
# like the file system itself.
raid_hold() {
    case $(blkid -p -o value -s TYPE "$device" 2> /dev/null) in *_raid_member) return 0 ;; esac
    return 1
}

for raid_option in rd.md rd.md.uuid rd.md.conf rd.md.imsm rd.md.ddf; do
    if cmdline_value "$raid_option" > /dev/null; then
        /usr/lib/preroot/raid-options
        break
    fi
done
if cmdline_true rd.md yes; then
    rounds="$rounds raid_round"
    holds="$holds raid_hold"
fi
