# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# Tells which volume groups there are, which of their disks are missing, and which volumes are not active.
# --nolocking: nothing is written, so it can not fail where /run is full (lvs(8)).
lvm_reasons() {
    cmdline_true rd.lvm yes || tell "LVM: nothing was activated, because the command line has rd.lvm=0."
    lvm vgs --nolocking --noheadings -o vg_name,pv_count,vg_missing_pv_count 2> /dev/null |
        while read -r group disks missing; do
            if [ "$missing" = 0 ]; then
                tell "LVM: volume group $group is complete ($disks physical volumes)."
            else
                tell "LVM: volume group $group: $missing of its $disks physical volumes are missing."
            fi
        done
    lvm pvs --nolocking --noheadings -o pv_missing,vg_name,pv_uuid -S pv_missing=1 2> /dev/null |
        while read -r _ group uuid; do
            tell "LVM:   missing of $group: the physical volume $uuid"
        done
    lvm lvs --nolocking --noheadings -o vg_name,lv_name,lv_attr 2> /dev/null |
        while read -r group volume attributes; do
            case $attributes in
                ????a*) tell "LVM:   $group/$volume is active." ;;
                *) tell "LVM:   $group/$volume is not active." ;;
            esac
        done
}
lvm_reasons
