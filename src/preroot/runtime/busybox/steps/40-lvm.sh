# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Activates logical volumes while the root is waited for (50-root).

# There is no udev to complete cookies, or to make nodes: libdevmapper does (dmsetup(8), "ENVIRONMENT VARIABLES").
DM_DISABLE_UDEV=1
export DM_DISABLE_UDEV

lvm_degraded_after=30
read -r lvm_degraded_after < /etc/preroot/lvm || :
lvm_seen=
lvm_degraded=

# lvm_round: a turn of the wait. lvm is asked only when there are other block devices than before: a call takes 0.1 s.
lvm_round() {
    lvm_now=$(echo /sys/class/block/*)
    if [ "$lvm_now" != "$lvm_seen" ]; then
        lvm_seen=$lvm_now
        /usr/lib/preroot/lvm-activate complete > /dev/null 2>&1 || :
    fi
    if [ -z "$lvm_degraded" ] && [ "$waited" -ge "$lvm_degraded_after" ]; then
        lvm_degraded=yes
        /usr/lib/preroot/lvm-activate degraded 2>&1 | while read -r line; do say "lvm: $line"; done
    fi
}

if ! cmdline_true rd.lvm.conf yes; then
    : > /etc/lvm/lvm.conf
fi
rounds="$rounds lvm_round"
