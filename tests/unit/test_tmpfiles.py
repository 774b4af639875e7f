# SPDX-License-Identifier: LGPL-2.1-or-later
"""The users and groups of tmpfiles.d(5) are in the image, or systemd-tmpfiles refuses the line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from worlds import closed, file, path_request

from preroot.packages.learn import learn
from preroot.packages.learn.tmpfiles import read_tmpfiles
from preroot.packages.model import Tmpfiles
from preroot.tree.model import Reason

TEXT = b"""# d /no 0755 no no -
d  /run/log        2755  root  systemd-journal - -
z  /dev/kvm        0660  -     :kvm
F! "/run/a b"      0664  :own  utmp            - text
d  /run/user/%i    0700  %u    0
L  /run/x          -     linkuser linkgroup    - ../y
a+ /var/log/%m     -     -     -               - d:group::r-x,d:group:adm:r-x,user:alice:rw-
d
"""


def test_names_of_every_column_that_has_them() -> None:
    assert read_tmpfiles(TEXT) == Tmpfiles(
        ("root", "own", "linkuser", "alice"), ("systemd-journal", "kvm", "utmp", "linkgroup", "adm")
    )


def test_they_come_along() -> None:
    path = "usr/lib/tmpfiles.d/x.conf"
    closure = closed([file(path, TEXT)], path_request(path))
    assert set(closure.users) == {"root", "own", "linkuser", "alice"}
    assert closure.groups["kvm"] == (Reason("generator", path, "kvm"),)


def test_only_configuration_of_the_system_manager_is_read() -> None:
    assert isinstance(learn("etc/tmpfiles.d/x.conf", 0o644, TEXT), Tmpfiles)
    assert learn("usr/share/user-tmpfiles.d/x.conf", 0o644, TEXT) is None
    assert learn("usr/lib/tmpfiles.d/README", 0o644, TEXT) is None


@given(st.binary())
def test_any_bytes_are_read(data: bytes) -> None:
    found = read_tmpfiles(data)
    assert all(name.isascii() and ":" not in name for name in (*found.users, *found.groups))
