# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# The first half of [verity] required, sourced by /init before systemd is PID 1. The guard before the switch looks at what is
# mounted; this keeps the command line from changing who looks. What systemd is told by others than the image could make units
# (credentials, SYSTEMD_UNIT_PATH=), set the environment of all programs (systemd.setenv=LD_PRELOAD=), leave programs out
# (systemd.confirm_spawn=) or have the root's init be something else. So of systemd's options only those are known here that
# change none of this; the rest is refused, unless the recipe's own cmdline has the very same word. Nothing here may end the
# script, for it is PID 1.

# verity_name WORD: sets $verity_name as systemd reads it: - and _ are alike, and `rd.` is the initrd's
verity_name() {
    verity_name=${1%%=*}
    while :; do
        case $verity_name in *-*) verity_name=${verity_name%%-*}_${verity_name#*-} ;; *) break ;; esac
    done
    verity_name=${verity_name#rd.}
}

# verity_is_harmless WORD
verity_is_harmless() {
    case "$verity_allowed" in *" $1 "*) return 0 ;; esac
    verity_name "$1"
    case $verity_name in
        systemd.verity_root_* | systemd.verity_usr_* | systemd.image_policy | systemd.gpt_auto | systemd.swap | \
            systemd.log_* | systemd.journald.* | systemd.show_status | systemd.status_unit_format | systemd.tty.* | \
            systemd.machine_id | systemd.hostname | systemd.random_seed | systemd.cpu_affinity | systemd.watchdog_sec | \
            systemd.default_device_timeout_sec | systemd.default_timeout_start_sec | systemd.battery_check | \
            systemd.tpm2_* | systemd.condition_needs_update | systemd.unified_cgroup_hierarchy | systemd.crash_reboot | systemd.crash_action) ;;
        # the kernel's: sysctl.kernel.modprobe= and core_pattern= name programs that it runs
        systemd.* | init | sysctl.* | firmware_class.path) return 1 ;;
    esac
}

# verity_check: sets $verity_refused to the words that are not allowed. Quotes and backslashes are taken out before: systemd
# takes them out too, wherever they are in a word.
verity_check() {
    verity_refused=
    verity_allowed=' '
    while IFS='=' read -r verity_key verity_given; do
        if [ "$verity_key" = cmdline ]; then
            verity_allowed=" $(printf '%s' "$verity_given" | busybox tr -d "\"'\\\\") "
        fi
    done < /etc/preroot/verity
    set -f
    for verity_word in $(busybox tr -d "\"'\\\\" < /proc/cmdline | busybox tr '\r\v\f' '   '); do
        verity_is_harmless "$verity_word" || verity_refused="$verity_refused $verity_word"
    done
    set +f
}

# Not as much as its environment is the command line's: the kernel puts there what it does not know. With this variable set,
# systemd takes no credentials of firmware, hypervisor or boot loader (import_credentials() in src/core/import-creds.c).
case ${TERM-} in *[!A-Za-z0-9-]* | '') TERM=linux ;; esac
set -- busybox env -i "TERM=$TERM" CREDENTIALS_DIRECTORY=/run/credentials/@system /usr/lib/systemd/systemd

if ! verity_check || [ -n "$verity_refused" ]; then
    mount -t tmpfs -o mode=0755,nosuid,nodev tmpfs /run
    busybox mkdir -p /run/preroot
    set -f
    for verity_word in ${verity_refused:-the-check-itself-failed}; do
        printf '%s\n' "Refused on the command line: $verity_word (the image requires verity; docs/verity.md says why)"
    done > /run/preroot/reasons
    set +f
    # not one word of it is used any more
    printf '\n' > /run/preroot/cmdline
    mount --bind /run/preroot/cmdline /proc/cmdline
    set -- "$@" --unit=emergency.target
fi
