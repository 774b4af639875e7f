# SPDX-License-Identifier: LGPL-2.1-or-later
"""Kernels from elsewhere than a package."""

from __future__ import annotations

from pathlib import Path

import packages
from lab import BUSYBOX, Lab

import kernel_shapes as shapes


def unpacked() -> Path:
    """Return the directory of the unpacked cloud kernel."""
    return packages.kernel().image.parent.parent


def test_a_kernel_as_make_installs_it(lab: Lab, tmp_path: Path) -> None:
    directory = shapes.made(unpacked(), tmp_path / "linux")
    image = lab.image(*BUSYBOX, f"kernel.directory={directory}", "kernel.modules=virtual")
    lab.boot("kernel-directory", image, lab.disk("ext4", label="root"), memory=256)
