# SPDX-License-Identifier: LGPL-2.1-or-later
"""A detached header that lies in the image, named by its crypttab beside a key file: the disk itself is only noise."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from lab import Disk, Lab

UUID = "66666666-2222-3333-4444-555555555555"


def test_header_and_key_in_the_image(lab: Lab, tmp_path: Path) -> None:
    plain = lab.disk("ext4", label="root")
    disk, header, key = tmp_path / "noise.img", tmp_path / "header", tmp_path / "key"
    shutil.copy(plain.path, disk)
    key.write_text("the key in a file")
    key.chmod(0o600)
    # made in place, without device-mapper on this machine
    command = ["cryptsetup", "reencrypt", "--encrypt", "--batch-mode", "--type", "luks2", "--uuid", UUID,
               "--header", str(header), "--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000", "--key-file", str(key),
               str(disk)]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    header.chmod(0o600)
    assert b"LUKS" not in disk.read_bytes()[: 1 << 20]
    crypttab = "root /dev/vda /etc/root.key header=/etc/root.header,x-initrd.attach"
    image = lab.image(
        'part.base.features=["...", "luks"]',
        f'file=[{{path="etc/crypttab", content="{crypttab}\\n"}}]',
        f'secret=[{{path="etc/root.key", source="{key}"}}, {{path="etc/root.header", source="{header}"}}]',
    )
    lab.boot("luks-header-in-image", image, Disk(disk, "virtio", {}, plain.identity), root="/dev/mapper/root")
