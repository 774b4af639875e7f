# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Keeps the exitrd where there is something for it to do: the conditions of preroot-exitrd.service.
exitrd=/usr/lib/preroot/exitrd
for each in /sys/block/dm-* /sys/block/md* "$exitrd"/usr/lib/preroot/hooks/shutdown/* \
    "$exitrd"/usr/lib/systemd/system-shutdown/*; do
    if [ -e "$each" ] && [ -e "$exitrd/shutdown" ]; then
        /usr/lib/preroot/keep-exitrd || say "the exitrd could not be kept: this machine powers off without it"
        break
    fi
done
