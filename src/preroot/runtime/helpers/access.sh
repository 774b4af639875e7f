#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2034,SC2329  # the functions are called by who sources this
# Who may have a shell: the one place that decides it, whatever asks for one. To be sourced after cmdline.sh, by scripts
# that have `tell TEXT` (a line on every console), `open_shell` and `ask_shell` (a shell, and one behind root's password).

# access_policy: prints locked, password or open. /etc/preroot/policy is written at build time; nothing else widens it.
access_policy() {
    access_found=locked
    while IFS='=' read -r access_key access_value; do
        [ "$access_key" != access ] || access_found=$access_value
    done < /etc/preroot/policy
    printf '%s\n' "$access_found"
}

# access_password: whether root has a password in this image. Where the recipe gives none, the credential
# passwd.hashed-password.root may bring it (systemd.exec(5)): it comes from the machine's firmware or its host, and what the
# command line would set is taken away before systemd sees it.
access_password() {
    while IFS=: read -r access_key access_value access_rest; do
        case $access_key:$access_value in
            root: | root:'*' | root:!*) break ;;
            root:*) return 0 ;;
        esac
    done < /etc/shadow
    access_value=
    access_key=/run/credentials/@system/passwd.hashed-password.root
    [ ! -r "$access_key" ] || read -r access_value < "$access_key" || :
    case $access_value in
        *[:[:space:]]*) return 1 ;;
        [\$_]?*) printf 'root:%s:::::::\n' "$access_value" > /etc/shadow ;;
        *) return 1 ;;
    esac
}

# access_shell TEXT: opens a shell as far as the policy allows, and returns when it is left; TEXT says what leaving it
# leads to. False where none is opened: it has been told why then.
access_shell() {
    if ! cmdline_true rd.shell yes; then
        tell "No shell is opened: rd.shell=0 is on the command line."
        return 1
    fi
    case $(access_policy) in
        open)
            tell "A shell is open on this console; $1."
            open_shell
            ;;
        password)
            if ! access_password; then
                tell "The shell is locked: the policy asks for a password, and neither recipe nor credential gives one."
                return 1
            fi
            tell "A shell is open on this console for who knows the password; $1."
            ask_shell
            ;;
        *)
            tell "The shell is locked. To open it, build the image with [access] policy = \"open\" or \"password\"."
            return 1
            ;;
    esac
}

# access_keys: without a shell for everybody, only those keys of SysRq work that end things in good order: sync, remount
# read-only, restart (Documentation/admin-guide/sysrq.rst: 16, 32, 128). None of them would open a shell; others kill
# what tells the reason, or show memory.
access_keys() {
    [ "$(access_policy)" = open ] || printf '176\n' 2> /dev/null > /proc/sys/kernel/sysrq || :
}
