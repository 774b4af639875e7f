# SPDX-License-Identifier: LGPL-2.1-or-later
"""What definitions of partitions ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.tree.closure.repart import repart_requests


@pytest.mark.parametrize(
    ("text", "programs"),
    [
        ("[Partition]\nType=root\nFormat=ext4\n", ["mkfs.ext4"]),
        ("[Partition]\nFormat = swap\n", ["mkswap"]),
        ("[Partition]\nFormat=xfs\nFormat=vfat\n", ["mkfs.vfat"]),
        ("[Partition]\nFormat=xfs\nFormat=\n", []),
        ("[Partition]\nFormat=empty\n", []),
        ("[Partition]\n#Format=xfs\nType=root\n", []),
        ("[Other]\nFormat=xfs\n", []),
        ("", []),
    ],
)
def test_programs(text: str, programs: list[str]) -> None:
    assert [each.value for each in repart_requests("/etc/repart.d/10-root.conf", text.encode())] == programs
    assert repart_requests("etc/repart.d/x/y.conf", text.encode()) == []
    assert repart_requests("etc/fstab", text.encode()) == []


@given(st.binary())
def test_any_bytes_are_read(data: bytes) -> None:
    assert len(repart_requests("usr/lib/repart.d/a.conf", data)) <= 1
