# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh disable=SC2154  # of the shutdown program
# The monitor of external metadata (IMSM, DDF) marks an array clean, so it must live until the array is stopped, and the one
# that runs is a program of the real root, which could not be unmounted: one of the exitrd's takes over (mdmon(8)).
for metadata in /sys/block/md*/md/metadata_version; do
    [ -e "$metadata" ] || continue
    read -r version < "$metadata"
    case $version in
        external:*)
            mdmon --takeover --all --offroot
            timeout "$per_hook" mdadm --wait-clean --scan
            break
            ;;
    esac
done
