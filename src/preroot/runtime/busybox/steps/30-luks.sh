# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154  # `rounds`, `holds`, `begun`: steps and init are one shell
# Unlocks LUKS volumes while the root is waited for (50-root): those of rd.luks.uuid= and rd.luks.name=, and of
# /etc/crypttab, with the options that systemd-cryptsetup-generator(8) has for them.

# There is no udev to complete cookies, or to make nodes: libdevmapper does (dmsetup(8), "ENVIRONMENT VARIABLES").
DM_DISABLE_UDEV=1
export DM_DISABLE_UDEV

# NAME DEVICE KEY OPTIONS of each volume that is still locked, one a line, with - for nothing, as in crypttab(5)
luks_pending=
luks_passphrase=

# luks_option OPTION UUID: prints the value of OPTION=UUID=VALUE, or else the last OPTION=VALUE that names no volume.
luks_option() {
    luks_of_all=
    for luks_value in $(cmdline_values "$1"); do
        case ${luks_value#luks-} in
            "$2="*) printf '%s\n' "${luks_value#*=}" && return ;;
            ????????-????-????-????-????????????=*) ;;
            *) luks_of_all=$luks_value ;;
        esac
    done
    printf '%s\n' "${luks_of_all:--}"
}

# luks_add NAME UUID: notes a volume that the command line names.
luks_add() {
    case "
$luks_pending" in
        *"
$1 "*) return ;;
    esac
    luks_data=$(luks_option rd.luks.data "$2")
    [ "$luks_data" != - ] || luks_data=UUID=$2
    luks_pending="$luks_pending$1 $luks_data $(luks_option rd.luks.key "$2") $(luks_option rd.luks.options "$2")
"
}

luks_collect() {
    cmdline_true rd.luks yes || return 0
    for luks_value in $(cmdline_values rd.luks.name); do
        luks_value=${luks_value#luks-}
        luks_add "${luks_value#*=}" "${luks_value%%=*}"
    done
    for luks_value in $(cmdline_values rd.luks.uuid); do
        luks_value=${luks_value#luks-}
        case "
$luks_pending" in
            *" UUID=$luks_value "*) ;; # it has a name already
            *) luks_add "luks-$luks_value" "$luks_value" ;;
        esac
    done
    if cmdline_true rd.luks.crypttab yes && [ -r /etc/crypttab ]; then
        while read -r luks_name luks_device luks_key luks_options; do
            case $luks_name in '' | '#'*) continue ;; esac
            luks_pending="$luks_pending$luks_name $luks_device ${luks_key:--} ${luks_options:--}
"
        done < /etc/crypttab
    fi
    luks_check_options
}

# luks_check_options: names the options that this flavour has nothing for, once.
luks_check_options() {
    while read -r luks_name luks_device luks_key luks_options; do
        for luks_value in $(printf '%s\n' "$luks_options" | tr ',' ' '); do
            case ${luks_value%%=*} in
                - | none | luks | x-initrd.attach | discard | read-only | readonly | header | keyfile-size | keyfile-offset) ;;
                key-slot | no-read-workqueue | no-write-workqueue | same-cpu-crypt | submit-from-crypt-cpus) ;;
                *) say "the option $luks_value of the volume $luks_name is passed over: a busybox part has nothing for it" ;;
            esac
        done
    done <<END
$luks_pending
END
}

# luks_arguments OPTIONS: prints options of crypttab(5) as cryptsetup's; what there is no such option for is passed over.
luks_arguments() {
    printf '%s\n' "$1" | tr ',' '\n' | while IFS='=' read -r luks_key luks_value; do
        case $luks_key in
            discard) echo --allow-discards ;;
            read-only | readonly) echo --readonly ;;
            header) printf -- '--header\n%s\n' "$luks_value" ;;
            keyfile-size) printf -- '--keyfile-size\n%s\n' "$luks_value" ;;
            keyfile-offset) printf -- '--keyfile-offset\n%s\n' "$luks_value" ;;
            key-slot) printf -- '--key-slot\n%s\n' "$luks_value" ;;
            no-read-workqueue) echo --perf-no_read_workqueue ;;
            no-write-workqueue) echo --perf-no_write_workqueue ;;
            same-cpu-crypt) echo --perf-same_cpu_crypt ;;
            submit-from-crypt-cpus) echo --perf-submit_from_crypt_cpus ;;
        esac
    done
}

# luks_open NAME DEVICE OPTIONS KEYFILE: opens a volume; the key may come from standard input (-).
luks_open() {
    luks_said=$(luks_arguments "$3" | xargs cryptsetup open --type luks --key-file "$4" "$2" "$1" 2>&1)
}

# luks_type NAME DEVICE OPTIONS: asks for the passphrase, three times at most; what was typed for another is tried first.
luks_type() {
    if [ -n "$luks_passphrase" ] && luks_try "$1" "$2" "$3"; then return; fi
    luks_asked=0
    /usr/lib/preroot/console-level questions
    IFS='. ' read -r luks_before rest < /proc/uptime
    while [ "$luks_asked" -lt 3 ]; do
        luks_asked=$((luks_asked + 1))
        printf '\r\nPlease enter passphrase for disk %s (%s): ' "$2" "$1" > /dev/console
        # shellcheck disable=SC3045  # -s is busybox' own
        IFS= read -rs luks_passphrase < /dev/console || fail "the console has ended while the passphrase for $2 was asked for"
        printf '\r\n' > /dev/console
        if luks_try "$1" "$2" "$3"; then
            # nobody's time runs out while somebody types
            IFS='. ' read -r luks_now rest < /proc/uptime
            begun=$((begun + luks_now - luks_before))
            /usr/lib/preroot/console-level restore
            return
        fi
        say "$2 was not unlocked: $luks_said"
    done
    fail "Too many attempts to unlock $2 ($1)"
}

luks_try() {
    # Written to a file in memory that only root can read: in an argument, everybody would see it.
    (umask 077 && printf '%s' "$luks_passphrase" > /run/preroot-passphrase)
    luks_status=0
    luks_open "$1" "$2" "$3" /run/preroot-passphrase || luks_status=1
    rm -f /run/preroot-passphrase
    return $luks_status
}

# luks_unlock NAME DEVICE KEY OPTIONS: unlocks a volume if all that it takes is there; false where it is not (yet).
luks_unlock() {
    luks_device=$(find_device "$2") || return 1
    case $4 in
        *header=*)
            luks_header=${4##*header=} luks_header=${luks_header%%,*}
            [ -e "$luks_header" ] || luks_header=$(find_device "$luks_header") || return 1
            set -- "$1" "$2" "$3" "$4,header=$luks_header"
            ;;
    esac
    case $3 in
        - | none)
            # where systemd-cryptsetup looks by itself (crypttab(5))
            for luks_key_file in "/etc/cryptsetup-keys.d/$1.key" "/run/cryptsetup-keys.d/$1.key"; do
                if [ -e "$luks_key_file" ]; then
                    luks_unlock "$1" "$2" "$luks_key_file" "$4"
                    return
                fi
            done
            luks_type "$1" "$luks_device" "$4"
            ;;
        *:*)
            luks_of=$(find_device "${3#*:}") || return 1
            mkdir -p /run/preroot-key
            mount -o ro "$luks_of" /run/preroot-key 2> /dev/null || fail "can't mount $luks_of, which has the key of $luks_device"
            luks_status=0
            luks_open "$1" "$luks_device" "$4" "/run/preroot-key${3%%:*}" || luks_status=1
            umount /run/preroot-key
            [ "$luks_status" = 0 ] || luks_ask_instead "$1" "$luks_device" "$4" "${3%%:*} on $luks_of"
            ;;
        *) luks_open "$1" "$luks_device" "$4" "$3" || luks_ask_instead "$1" "$luks_device" "$4" "$3" ;;
    esac
    say "milestone unlocked $1"
}

# luks_ask_instead NAME DEVICE OPTIONS KEYFILE: the key did not fit, so somebody is asked.
luks_ask_instead() {
    say "the key file $4 does not unlock $2: $luks_said"
    luks_type "$1" "$2" "$3"
}

# luks_round: a turn of the wait.
luks_round() {
    luks_left=
    while read -r luks_name luks_of_volume luks_key luks_options <&3; do
        if [ -n "$luks_name" ] && ! luks_unlock "$luks_name" "$luks_of_volume" "$luks_key" "$luks_options"; then
            luks_left="$luks_left$luks_name $luks_of_volume $luks_key $luks_options
"
        fi
    done 3<<END
$luks_pending
END
    luks_pending=$luks_left
}

# luks_hold: true while a volume is locked: the root must not be left with one of its volumes missing.
luks_hold() {
    [ -n "$luks_pending" ]
}

luks_collect
if [ -n "$luks_pending" ]; then
    rounds="$rounds luks_round"
    holds="$holds luks_hold"
fi
