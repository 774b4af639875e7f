# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
# shellcheck disable=SC2034,SC2154  # await_device sets `device`; other steps read `root` and `options`
# Finds the root of the command line, loading drivers while it waits, and mounts it; /usr too where `mount.usr=` names it.

# mount_file_system OPTION DEVICE TYPES OPTIONS DIRECTORY: mounts it, or ends the boot saying why; OPTION is what asked
# for it. TYPES is empty (what blkid finds) or a list of types to try, divided by commas.
mount_file_system() {
    seen=$(blkid -c /dev/null -o value -s TYPE "$2") || seen=
    types=${3:-$seen}
    [ -n "$types" ] || fail "no file system is known on $2 ($1): it is empty, damaged, or of a kind that blkid does not know"
    why=
    for each in $(printf '%s\n' "$types" | tr ',' ' '); do
        modprobe -b -q "$each" || :
        why=$(mount -t "$each" -o "$4" "$2" "$5" 2>&1) && return
    done
    if [ "$types" != "$seen" ]; then
        why="$why; it has ${seen:-no file system that blkid knows}"
    fi
    fail "can't mount $2 as $types with the options $4 ($1): $why"
}

# device_timeout: prints how many seconds to wait for a device: rd.timeout= (0: without end) or what the recipe says.
device_timeout() {
    seconds=$(cmdline_value rd.timeout) || seconds=
    case $seconds in
        '' | *[!0-9]* | ??????????*) policy timeout 90 ;;
        *[!0]*) printf '%s\n' "$seconds" ;;
        *) printf '999999999\n' ;;
    esac
}

# load_named OPTION: loads the modules that OPTION= of the command line names, separated by commas.
load_named() {
    for module in $(cmdline_values "$1" | tr ',' ' '); do
        modprobe -b -q "$module" || say "the module $module of $1 could not be loaded"
    done
}

# mount_option OPTION TYPES OPTIONS DIRECTORY: mounts on DIRECTORY what OPTION= of the command line names. What holds the
# device back may look at `options`, and add to them in `more_options` (",OPTION…").
mount_option() {
    wanted=$(cmdline_value "$1")
    refuse_name "$wanted"
    timeout=$(device_timeout)
    options=$3
    more_options=
    if ! await_device "$wanted" "$timeout"; then
        [ -z "$device" ] || fail "$1 device $device ($1=$wanted) is there, but was not ready within $timeout seconds"
        say "The device of $1=$wanted did not appear within $timeout seconds. These are there:"
        say_devices
        fail "$1 device $wanted is missing"
    fi
    warn_of_others "$wanted" "$device"
    if [ "$1" = root ]; then say "milestone root-device $device"; fi
    if [ "$1" = root ]; then
        load_named rd.driver.post # by now, drivers of the devices that are there have been loaded
        at_point pre-mount
    fi
    mount_file_system "$1=$wanted" "$device" "$2" "$options$more_options" "$4"
}

load_named rd.driver.pre
at_point initqueue
mkdir -p /sysroot
root=$(cmdline_value root) || fail "no root= on the command line"
rootfstype=$(cmdline_value rootfstype) || rootfstype=
rootflags=$(cmdline_values rootflags | tr '\n' ',')
mode=$(cmdline_last ro rw) || mode=ro
mount_option root "$rootfstype" "$mode${rootflags:+,${rootflags%,}}" /sysroot
say "milestone sysroot-mounted"
at_point mount

if cmdline_value mount.usr > /dev/null; then
    usrfstype=$(cmdline_value mount.usrfstype) || usrfstype=
    usrflags=$(cmdline_values mount.usrflags | tr '\n' ',')
    [ -d /sysroot/usr ] || fail "the root has no directory /usr to mount the device of mount.usr= on"
    mount_option mount.usr "$usrfstype" "$mode${usrflags:+,${usrflags%,}}" /sysroot/usr
fi
