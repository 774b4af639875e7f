# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154  # await_device sets `device`; `options`: steps and init are one shell
# Resumes a hibernated system, before any of its file systems is looked at. Where none sleeps, the kernel says nothing and the
# boot goes on (Documentation/power/swsusp.rst, "resume" and "resume_offset" in Documentation/ABI/testing/sysfs-power).
if resume=$(cmdline_value resume) && ! cmdline_has noresume; then
    options=
    more_options=
    seconds=$(policy timeout 90)
    if await_device "$resume" "$seconds"; then
        offset=$(cmdline_value resume_offset) || offset=0
        printf '%s\n' "$offset" > /sys/power/resume_offset || say "resume_offset=$offset is no number of pages"
        number="$((0x$(stat -L -c %t "$device"))):$((0x$(stat -L -c %T "$device")))"
        printf '%s\n' "$number" > /sys/power/resume || say "The kernel can't resume from $device."
    else
        say "Nothing was resumed from $resume: it did not appear within $seconds seconds. The boot goes on."
    fi
fi
