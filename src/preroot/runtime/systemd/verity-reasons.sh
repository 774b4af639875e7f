# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Tells what verity-attach, the guard and the check of the command line have left.
if [ -e /run/preroot/reasons ]; then
    while read -r reason; do
        tell "$reason"
    done < /run/preroot/reasons
fi
