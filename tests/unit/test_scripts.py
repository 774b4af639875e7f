# SPDX-License-Identifier: LGPL-2.1-or-later
from __future__ import annotations

import pytest

from preroot.packages.model import Package, PackageIndex
from preroot.tree.scripts import does_something, unknown_scripts

GENERATED = """#!/bin/sh
set -e
# Automatically added by dh_installsystemd/13.24
if [ "$1" = "configure" ]; then
\tdeb-systemd-helper unmask x.service >/dev/null || true
fi
# End automatically added section
exit 0
"""


@pytest.mark.parametrize(
    ("script", "does"),
    [
        ("", False),
        ("#!/bin/sh\nset -e\nexit 0\n", False),
        (GENERATED, False),
        ('#!/bin/sh\ncase "$1" in\n  configure|abort-upgrade)\n  ;;\n  *)\n  ;;\nesac\n', False),
        ("#!/bin/sh\nadduser --system x\n", True),
        (GENERATED + "mkdir /var/lib/x\n", True),
    ],
)
def test_what_a_script_does(script: str, does: bool) -> None:
    assert does_something(script) is does


def test_known_scripts_are_not_named() -> None:
    def pair(name: str, **scripts: str) -> tuple[Package, PackageIndex]:
        package = Package(name, "1", "amd64", "0" * 64, 1, "x")
        return package, PackageIndex(1, "0" * 64, name, "1", "amd64", 0, (), (), scripts, {})

    packages = [
        pair("libc6", postinst="ldconfig-ish thing"),
        pair("daemon", postinst="adduser daemon", prerm="stop it"),
        pair("quiet", postinst="exit 0"),
    ]
    assert unknown_scripts(packages, {"libc*": "restarts services"}) == (("daemon", "postinst"),)
