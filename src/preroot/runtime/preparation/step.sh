# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# In place of the search for a root: runs the script that lies on the disk with the serial number "script".
busybox mkdir -p /usr/lib/preroot/applets
busybox --install -s /usr/lib/preroot/applets
PATH=$PATH:/usr/lib/preroot/applets
modprobe -a virtio_pci virtio_blk
# shellcheck source=src/preroot/runtime/preparation/functions.sh
. /usr/lib/preroot/preparation.sh
status=0
sh "$(disk script)" < /dev/null || status=$?
sync
say "preparation ended: $status"
poweroff -f
