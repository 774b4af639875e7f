# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Leaves this part for the real root.
init=$(cmdline_value init) || init=
if [ -z "$init" ]; then
    for candidate in /sbin/init /usr/lib/systemd/systemd /etc/init /bin/init /bin/sh; do
        if [ -x "/sysroot$candidate" ] || [ -L "/sysroot$candidate" ]; then
            init=$candidate
            break
        fi
    done
fi
[ -n "$init" ] || fail "the root has no init"
[ -x "/sysroot$init" ] || [ -L "/sysroot$init" ] || fail "the root has no program $init"
umount /dev/pts
if [ -e /etc/preroot/cmdline ]; then
    umount /proc/cmdline # the real root is to see the command line as it was given
fi
for each in run dev sys proc; do
    mkdir -p "/sysroot/$each" 2> /dev/null || :
    if [ -d "/sysroot/$each" ]; then
        mount -o move "/$each" "/sysroot/$each"
    else
        umount -l "/$each"
    fi
done
trap - EXIT
exec switch_root /sysroot "$init" "$@"
