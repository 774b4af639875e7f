# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# The points after everything is mounted.
for point in pre-pivot cleanup switch-root; do
    at_point "$point"
done
