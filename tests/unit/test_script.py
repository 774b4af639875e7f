# SPDX-License-Identifier: LGPL-2.1-or-later
"""The #! line, as the kernel reads it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.packages.learn.script import read_script
from preroot.packages.model import Script


@pytest.mark.parametrize(
    ("data", "script"),
    [
        (b"#!/bin/sh\n", Script("/bin/sh", "")),
        (b"#! /bin/sh -e \nx", Script("/bin/sh", "-e")),
        (b"#!\t/usr/bin/env  python3 -I\t\n", Script("/usr/bin/env", "python3 -I")),
        (b"#!/bin/sh", Script("/bin/sh", "")),
        (b"#!/bin/sh\0junk", Script("/bin/sh", "")),
        (b"#!/bin/sh\r\n", Script("/bin/sh\r", "")),
        (b"#!sh\n", Script("sh", "")),
        (b"#!/bin/sh -" + b"x" * 400, Script("/bin/sh", "-" + "x" * 244)),
        (b"#!" + b" " * 253 + b"/bin/sh\n", None),
        (b"#!/" + b"x" * 300 + b"\n", None),
        (b"#!\n", None),
        (b"#!  \t", None),
        (b"", None),
        (b"\n#!/bin/sh", None),
    ],
)
def test_lines(data: bytes, script: Script | None) -> None:
    assert read_script(data) == script


@given(st.binary(max_size=400))
def test_random_lines_raise_nothing(noise: bytes) -> None:
    found = read_script(b"#!" + noise)
    assert found is None or found.interpreter
