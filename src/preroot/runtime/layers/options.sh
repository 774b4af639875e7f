#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck disable=SC2034,SC2154  # what is found out here is for those who source this; cmdline.sh sets $cmdline
# What the kernel's command line says of writable layers and live images: dracut's options (dracut.cmdline(7) of
# dracut-ng 109, "OverlayFS" and "Booting live images"; the older spellings are translated before, see the features), and
# the simple cases of Debian's live-boot(7). To be sourced after cmdline.sh and devices.sh, with $cmdline set.

# layer_options: what the writable layer is.
#   $layer        none, tmpfs or device; empty where the command line says nothing of it
#   $layer_size   options of the tmpfs (`size=…`), or empty
#   $layer_device, $layer_path   the device's path, and the directory or file on it (`auto`, or empty: the usual place)
#   $layer_readonly, $layer_reset   yes or empty
#   $layer_wrong  what can't be done, or empty
layer_options() {
    layer='' layer_size='' layer_device='' layer_path='' layer_readonly='' layer_reset='' layer_wrong=''
    cmdline_rest=$cmdline
    while cmdline_next; do
        cmdline_is rd.overlay || continue
        case $cmdline_given in
            0 | no | off | false | none | None | NONE) layer=none ;;
            # a plain switch leaves the place where it is
            '' | 1 | yes | on | true | tmpfs) [ "$layer" = device ] || layer=tmpfs ;;
            tmpfs:*) layer_of_memory "${cmdline_given#tmpfs:}" ;;
            *) layer_of_device "$cmdline_given" ;;
        esac
    done
    if [ -z "$layer" ] && cmdline_has boot=live && cmdline_true persistence && ! cmdline_true nopersistence; then
        # live-boot's: a file system with this label, whose persistence.conf says what is kept
        layer_of_device LABEL=persistence:/persistence.conf
    fi
    if cmdline_true rd.overlay.readonly; then layer_readonly=yes; fi
    if cmdline_true rd.overlay.reset; then layer_reset=yes; fi
}

# layer_of_memory OPTIONS: of a tmpfs (tmpfs(5)); a layer on a device stays there.
layer_of_memory() {
    [ "$layer" = device ] || layer=tmpfs
    layer_size=$1 left=$1,
    while [ -n "$left" ]; do
        case ${left%%,*} in
            size=?* | nr_blocks=?* | nr_inodes=?*) ;;
            *) layer_wrong="rd.overlay=tmpfs:$1: there are size=, nr_blocks= and nr_inodes=" ;;
        esac
        left=${left#*,}
    done
}

# layer_of_device SPEC[:PATH]
layer_of_device() {
    layer=device layer_path='' spec=$1
    case $spec in
        *:/*)
            layer_path=/${spec#*:/}
            spec=${spec%%:/*}
            ;;
        *:auto)
            layer_path=auto
            spec=${spec%:auto}
            ;;
    esac
    if device_path "$spec"; then
        layer_device=$path
    else
        layer_wrong="rd.overlay=$1: '$spec' is neither a path in /dev nor LABEL=, UUID=, PARTLABEL= or PARTUUID="
    fi
    case $layer_path in
        # separators of overlayfs' options
        *[,:\\]* | *..*) layer_wrong="rd.overlay=$1: there must be no comma, colon, backslash or '..' in the path" ;;
    esac
}

# live_options: what the live image is; false where the root is none.
#   $live_device   path of the medium's device; empty: every file system is looked through
#   $live_file     path of the image in this initrd, instead of a medium
#   $live_iso      path of an ISO image on some file system, which then is the medium
#   $live_directory, $live_images   where on the medium the image is: directory, and name of the file (a glob)
#   $live_ram      yes: the image is copied to memory first
#   $live_check    yes: the medium's checksum is compared first
#   $live_wrong    what can't be done, or empty
live_options() {
    live_device='' live_file='' live_iso='' live_directory=LiveOS live_images=squashfs.img live_ram='' live_check=''
    live_wrong=''
    root=$(cmdline_value root) || root=
    live_iso=$(cmdline_value iso-scan/filename) || live_iso=
    live_iso=${live_iso#/}
    case $root in
        live:*://*) return 1 ;; # from a network: of other features
        live:*) root=${root#live:} ;;
        *)
            if cmdline_has boot=live; then
                debian_live
                return 0
            fi
            cmdline_true rd.live.image || return 1
            ;;
    esac
    case $root in
        '') ;;
        /dev/*) live_device=$root ;;
        /*) live_file=$root ;;
        *)
            # the label of a CD is one like any other
            if device_path "${root#CD}"; then
                live_device=$path
            else
                live_wrong="root=live:$root is neither a path nor LABEL=, CDLABEL=, UUID=, PARTLABEL= or PARTUUID="
            fi
            ;;
    esac
    if given=$(cmdline_value rd.live.dir); then live_directory=${given#/}; fi
    if given=$(cmdline_value rd.live.squashimg); then live_images=$given; fi
    if cmdline_true rd.live.ram; then live_ram=yes; fi
    if cmdline_true rd.live.check; then live_check=yes; fi
    if cmdline_true rd.writable.fsimg; then
        live_wrong="rd.writable.fsimg is not supported: what is written goes to an overlayfs (rd.overlay)"
    fi
}

# debian_live: as live_options, for live-boot: one *.squashfs in the directory live of some file system.
debian_live() {
    live_directory=live live_images='*.squashfs'
    if given=$(cmdline_value live-media-path); then live_directory=${given#/}; fi
    if given=$(cmdline_value live-media); then
        case $given in
            /dev/*) live_device=$given ;;
            *) live_wrong="live-media=$given is not supported: name a path in /dev, or leave it out" ;;
        esac
    fi
    if given=$(cmdline_value findiso); then live_iso=${given#/}; fi
    if cmdline_has toram; then live_ram=yes; fi
    for each in toram bootfrom fromiso netboot fetch httpfs ftpfs nfsroot plainroot live-media-encryption; do
        if cmdline_value "$each" > /dev/null; then
            live_wrong="$each= of live-boot is not supported: use live-media=, findiso=, plain toram, or root=live:"
        fi
    done
}
