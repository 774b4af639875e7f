# SPDX-License-Identifier: LGPL-2.1-or-later
"""Libraries without NEEDED are loaded where it counts: in the initrd, by the programs of systemd 252, 257 and 262."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from lab import Lab

from preroot.boot.scenario import Expect

SCRIPT = Path(__file__).with_name("look_at_libraries.sh")
UNIT = """
[Unit]
DefaultDependencies=no
Requires=initrd-root-device.target
After=initrd-root-device.target
Before=initrd-root-fs.target sysroot.mount

[Service]
Type=oneshot
ExecStart=/usr/bin/sh /usr/lib/look

[Install]
RequiredBy=initrd-root-fs.target
"""
SETS = (
    'part.base.features=["...", "luks", "tpm2", "fido2", "pkcs11"]',
    f"file=[{{path='usr/lib/look', content={json.dumps(SCRIPT.read_text())}}}]",
    f"unit=[{{name='look.service', content={json.dumps(UNIT)}}}]",
)


@pytest.mark.parametrize(
    ("release", "version", "threads"),
    [
        # cryptsetup hashes by libargon2, whose threads end with pthread_exit(3); later by OpenSSL, whose threads return
        ("bookworm", 252, ("LOADED cryptsetup libargon2", "LOADED cryptsetup libgcc_s")),
        ("trixie", 257, ("LOADED cryptsetup libcrypto",)),
        pytest.param("sid", 262, ("LOADED cryptsetup libcrypto",), marks=pytest.mark.matrix),
    ],
)
def test_libraries_of_kmod_blkid_cryptsetup_tpm_and_tokens(
    lab: Lab, release: str, version: int, threads: tuple[str, ...]
) -> None:
    image = lab.image(*SETS, release=release)
    seen = (
        f"systemd {version}", "MAPPED pid1 libkmod", "MAPPED udevd libkmod", "LOADED kmod libkmod",
        "LOADED blkid libblkid", "LOOK cryptsetup exits 0", "LOADED cryptsetup libcryptsetup", *threads,
        "LOOK wrong-key exits 2", "LOADED attach libcryptsetup", "LOOK attach exits 0", "OPENED /dev/mapper/test",
        "LOADED tpm libtss2-esys", "LOADED tpm libtss2-mu", "LOADED tpm libtss2-rc",
        "LOADED fido2 libcryptsetup-token-systemd-fido2", "LOADED fido2 libfido2",
        "LOADED pkcs11 libcryptsetup-token-systemd-pkcs11", "LOADED pkcs11 libp11-kit", "LOOKED AT LIBRARIES",
    )  # fmt: skip
    lines = tuple(map(re.escape, seen))
    expect = Expect(identity="ext4-virtio", must=lines, must_not=("TPM2 support is not installed",))
    lab.boot(f"libraries-{release}", image, lab.disk("ext4", label="root"), expect=expect)
