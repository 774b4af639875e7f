#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2329  # the functions are called by who sources this
# What scripts of a systemd part have in common that speak to a person.

# tell TEXT: every console of the kernel gets the text; a console that can't be written to is passed over.
tell() {
    read -r consoles < /sys/class/tty/console/active
    for console in $consoles; do
        printf '%s\r\n' "$1" 2> /dev/null > "/dev/$console"
    done
    printf 'preroot: %s\n' "$1" 2> /dev/null > /dev/kmsg
}

# open_shell: a shell on this console, until it is left.
open_shell() {
    if command -v busybox > /dev/null; then
        busybox sh -l
    else
        sh -l
    fi
    return 0
}

# ask_shell: the same for who knows root's password.
ask_shell() {
    if command -v sulogin > /dev/null; then
        sulogin
        return 0
    fi
    tell "The policy asks for a password, but the image has no emergency-shell feature."
    return 1
}

# block_name MAJOR:MINOR: prints a device's name.
block_name() {
    while IFS='=' read -r key value; do
        if [ "$key" = DEVNAME ]; then printf '%s\n' "$value"; fi
    done < "/sys/dev/block/$1/uevent"
}
