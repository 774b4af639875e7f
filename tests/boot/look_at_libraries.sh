#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Runs in the initrd before the root is mounted: starts programs, and says on the console which libraries ld.so has
# initialised in each (LD_DEBUG=files, ld.so(8)), which the long-running ones have mapped, and what came of it.
set -u
exec >/dev/console 2>&1

look() { # NAME PROGRAM ARGUMENT...
    name=$1
    shift
    LD_DEBUG=files LD_DEBUG_OUTPUT=/run/loaded-$name "$@" </dev/null >"/run/said-$name" 2>&1
    echo "LOOK $name exits $?"
    for log in "/run/loaded-$name".*; do
        while read -r line; do
            case $line in *'calling init: '*) echo "LOADED $name ${line##*/}" ;; esac
        done <"$log"
    done
}

mapped() { # NAME PID
    while read -r line; do
        case $line in *.so*' '* | *' '*.so*) echo "MAPPED $1 ${line##*/}" ;; esac
    done <"/proc/$2/maps"
}

mapped pid1 1
mapped udevd "$(systemctl show --property MainPID --value systemd-udevd.service)"
look kmod udevadm test-builtin 'kmod load dm-crypt' /sys/class/block/vda
look blkid udevadm test-builtin blkid /sys/class/block/vda

# Two lanes, so that argon2 has threads that end
printf secret >/run/key
cryptsetup luksFormat --batch-mode --type luks2 --pbkdf argon2id --pbkdf-memory 64 --pbkdf-force-iterations 4 \
    --pbkdf-parallel 2 --key-file /run/key --header /run/header /dev/vda
look cryptsetup cryptsetup open --test-passphrase --key-file /run/key --header /run/header /dev/vda
printf wrong >/run/wrong
look wrong-key cryptsetup open --test-passphrase --key-file /run/wrong --header /run/header /dev/vda

# Without the rules of device-mapper nobody tells libdevmapper that udev is done
export DM_DISABLE_UDEV=1
attach=/usr/bin/systemd-cryptsetup
[ -x "$attach" ] || attach=/usr/lib/systemd/systemd-cryptsetup
look attach "$attach" attach test /dev/vda /run/key luks,header=/run/header
if [ -b /dev/mapper/test ]; then echo "OPENED /dev/mapper/test"; fi
"$attach" detach test

# Tokens that no device is there for: their handlers look for one, and say so. What is asked for is not what counts.
printf '%s' '{"type":"systemd-fido2","keyslots":["0"],"fido2-credential":"AAAA","fido2-salt":"AAAA",
"fido2-rp":"io.systemd.cryptsetup","fido2-clientPin-required":false,"fido2-up-required":true,
"fido2-uv-required":false}' >/run/fido2.json
printf '%s' '{"type":"systemd-pkcs11","keyslots":["0"],"pkcs11-uri":"pkcs11:token=test","pkcs11-key":"AAAA"}' \
    >/run/pkcs11.json
for kind in fido2 pkcs11; do
    cryptsetup token import --json-file "/run/$kind.json" /run/header
    look "$kind" cryptsetup open --token-only --token-type "systemd-$kind" --header /run/header /dev/vda test
    while read -r line; do echo "SAID $kind $line"; done <"/run/said-$kind"
done

look tpm systemd-creds --tpm2-device=list
while read -r line; do echo "SAID tpm $line"; done </run/said-tpm
echo "LOOKED AT LIBRARIES"
