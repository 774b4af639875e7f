#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# What the programs of writable layers and live images begin with: they are to be sourced.
LC_ALL=C
export LC_ALL
set -eu
library=/usr/lib/preroot
# shellcheck source=src/preroot/runtime/helpers/cmdline.sh
. "$library/cmdline.sh"
# shellcheck source=src/preroot/runtime/helpers/devices.sh
. "$library/devices.sh"
# shellcheck source=src/preroot/runtime/layers/options.sh
. "$library/layers-options.sh"
cmdline_read

# fail TEXT: ends the unit; the reason is on the console even where the boot is quiet, and is told again at the end.
fail() {
    printf '<3>preroot: %s\n' "$1" > /dev/kmsg
    printf '%s\n' "$1" >> /run/preroot-layers-failed || :
    exit 1
}

note() {
    printf '<5>preroot: %s\n' "$1" > /dev/kmsg
}
