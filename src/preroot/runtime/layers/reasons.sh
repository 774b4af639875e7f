#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Tells why there is no writable layer or live image: what the units said, or which device they waited for.
layers_reasons() {
    if [ -r /run/preroot-layers-failed ]; then
        while read -r line; do tell "$line"; done < /run/preroot-layers-failed
        return
    fi
    # shellcheck source=src/preroot/runtime/layers/options.sh
    . /usr/lib/preroot/layers-options.sh
    layer_options
    if [ -n "$layer_device" ] && ! [ -e "$layer_device" ]; then
        tell "No writable layer: the device $layer_device did not appear."
    fi
    if [ -e /usr/lib/preroot/live ] && live_options && [ -n "$live_device" ] && ! [ -e "$live_device" ]; then
        tell "No live image: the medium $live_device did not appear."
    fi
}
layers_reasons
