# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# The points before any device is looked for. There is no udev in this flavour: three of them are one moment.
for point in cmdline pre-udev pre-trigger; do
    at_point "$point"
done
