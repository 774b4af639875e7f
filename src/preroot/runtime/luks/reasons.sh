# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Which encrypted volumes the boot has waited for in vain. Sourced when the root was not reached; tell is the caller's.
luks_reasons() {
    if ! cmdline_true rd.luks yes; then
        tell "LUKS: the command line has rd.luks=0: nothing was unlocked."
        return
    fi
    if [ -e /etc/crypttab ] && ! cmdline_true rd.luks.crypttab yes; then
        tell "LUKS: the command line has rd.luks.crypttab=0: no volume of /etc/crypttab was unlocked."
    fi
    for luks_value in $(cmdline_values rd.luks.uuid) $(cmdline_values rd.luks.name); do
        luks_value=${luks_value#luks-}
        luks_value=${luks_value%%=*}
        if ! luks_is_there "$luks_value"; then
            tell "No disk has the LUKS volume $luks_value: it is not attached, or its header is destroyed (cryptsetup luksHeaderRestore)."
        fi
    done
}

luks_is_there() {
    if [ -d /run/udev ]; then
        [ -e "/dev/disk/by-uuid/$1" ]
    else
        blkid -c /dev/null -o value -s UUID | grep -q -x "$1"
    fi
}

luks_reasons
