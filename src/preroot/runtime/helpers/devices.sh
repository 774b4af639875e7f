#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2034  # the results are for those who source this
# Names of devices for POSIX shells: the link that udev makes for what root= and its like say, and systemd's unit for it. To
# be sourced, with LC_ALL=C: one byte is one character.

# escaped TEXT KEPT: sets $result to TEXT with each byte that does not match the pattern KEPT as \xNN.
escaped() {
    rest=$1 result=
    while [ -n "$rest" ]; do
        char=${rest%"${rest#?}"}
        rest=${rest#?}
        # shellcheck disable=SC2254  # it is a pattern
        case $char in
            $2) result=$result$char ;;
            -) result=$result'\x2d' ;; # the most frequent by far, and printf would be a process of its own
            *) result=$result$(printf '\\x%02x' "'$char") ;;
        esac
    done
}

# device_path SPEC: sets $path to the path of what UUID=, LABEL=, PARTUUID=, PARTLABEL= or a path in /dev names; false for
# anything else.
device_path() {
    # names of udev's links (encode_devnode_name() in src/shared/device-nodes.c)
    case $1 in
        UUID=*) directory=by-uuid ;;
        LABEL=*) directory=by-label ;;
        PARTUUID=*) directory=by-partuuid ;;
        PARTLABEL=*) directory=by-partlabel ;;
        /dev/*) directory= ;;
        *) return 1 ;;
    esac
    path=$1
    if [ -n "$directory" ]; then
        escaped "${1#*=}" '[! !"$-*,/;<>?[-^`{-~]'
        path=/dev/disk/$directory/$result
    fi
}

# device_unit PATH: sets $unit to its device unit (unit_name_path_escape() in src/basic/unit-name.c).
device_unit() {
    left=${1#/} unit=
    while [ -n "$left" ]; do
        part=${left%%/*}
        case $left in */*) left=${left#*/} ;; *) left= ;; esac
        [ -n "$part" ] || continue
        escaped "$part" '[0-9A-Za-z:_.]'
        unit=$unit${unit:+-}$result
    done
    unit=$unit.device
}
