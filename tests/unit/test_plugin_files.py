# SPDX-License-Identifier: LGPL-2.1-or-later
"""Configurations of plugins: which plugins they name, and nothing raised for broken ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.packages.learn import learn
from preroot.packages.learn.plugins import read_gconv, read_nsswitch, read_openssl, read_p11kit, read_pam, read_plymouth
from preroot.packages.model import PluginConfiguration

WORDS = st.from_regex(r"[a-z][a-z0-9_]{0,9}", fullmatch=True)
ACTIONS = st.sampled_from(["", "[NOTFOUND=return]", "[!UNAVAIL=return SUCCESS=continue]", "[ SUCCESS=merge ]"])
READERS = [read_nsswitch, read_pam, read_gconv, read_openssl, read_p11kit, read_plymouth]


@given(st.dictionaries(WORDS, st.lists(st.tuples(WORDS, ACTIONS), max_size=4), max_size=4), st.booleans())
def test_services_of_nsswitch(databases: dict[str, list[tuple[str, str]]], tight: bool) -> None:
    lines = [
        f"{name}:{'' if tight else '   '}{' '.join(f'{a} {b}' for a, b in its)} # x: y"
        for name, its in databases.items()
    ]
    wanted = dict.fromkeys(f"nss:{name}" for its in databases.values() for name, _ in its)
    assert read_nsswitch("\n".join(["# passwd: no", *lines]).encode()) == PluginConfiguration(tuple(wanted))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("auth required pam_unix.so nullok", PluginConfiguration(("pam:unix",))),
        ("AUTH\tsufficient\tpam_rootok.so", PluginConfiguration(("pam:rootok",))),
        ("-session optional pam_systemd.so", PluginConfiguration((), ("pam:systemd",))),
        ("session [success=ok default=bad] pam_selinux.so close", PluginConfiguration(("pam:selinux",))),
        ("session [success=ok module_unknown=ignore] pam_selinux.so", PluginConfiguration((), ("pam:selinux",))),
        ("auth required /opt/pam_x.so", PluginConfiguration((), (), ("/opt/pam_x.so",))),
        ("auth required my.so", PluginConfiguration(("pam:my.so",))),
        ("@include common-auth", PluginConfiguration((), (), (), ("common-auth",))),
        ("auth include system", PluginConfiguration((), (), (), ("system",))),
        ("auth substack system", PluginConfiguration((), (), (), ("system",))),
        ("auth required \\\n pam_x.so", PluginConfiguration(("pam:x",))),
        ("-auth required pam_x.so\nauth required pam_x.so", PluginConfiguration(("pam:x",))),
        ("other auth required pam_x.so", PluginConfiguration(())),  # the form of pam.conf, which pam.d has not
        ("# auth required pam_x.so", PluginConfiguration(())),
        ("auth required", PluginConfiguration(())),
    ],
)  # fmt: skip
def test_a_line_of_pam(line: str, found: PluginConfiguration) -> None:
    assert read_pam(line.encode()) == found


def test_modules_of_gconv() -> None:
    text = b"""
alias\tLATIN1//\tISO-8859-1//
module\tISO-8859-1//\tINTERNAL\tISO8859-1\t1
module INTERNAL ISO-8859-1// ISO8859-1 1
module\tIBM850//\tINTERNAL\tIBM850.so   # a comment
module\tshort//
"""
    assert read_gconv(text) == PluginConfiguration(("gconv:ISO8859-1", "gconv:IBM850"))


OPENSSL = """
openssl_conf = init
[init]
providers = providers
engines = engines
[providers]
default = default_sect
1.legacy = legacy_sect
own = own_sect
idle = idle_sect
[default_sect]
activate = 1
[legacy_sect]
activate = yes
[ own_sect ]
module = "/opt/own.so"
activate = 1
[idle_sect]
# activate = 1
[engines]
pkcs11 = pkcs11_sect
afalg = afalg_sect
[pkcs11_sect]
dynamic_path = /opt/pkcs11.so
[afalg_sect]
default_algorithms = ALL
[unused]
providers = unused_providers
[unused_providers]
fips = default_sect
"""


def test_providers_and_engines_of_openssl() -> None:
    found = read_openssl(b".include /etc/ssl/more.cnf\n" + OPENSSL.encode())
    assert found == PluginConfiguration(
        ("openssl:default", "openssl:legacy", "openssl-engine:afalg"), (), ("/opt/own.so", "/opt/pkcs11.so"),
        ("/etc/ssl/more.cnf",),
    )  # fmt: skip


def test_a_part_of_openssl_configuration() -> None:
    """What another file includes has no openssl_conf of its own."""
    text = OPENSSL.replace("openssl_conf = init\n", "")
    assert "openssl:fips" in read_openssl(text.encode()).names
    assert "openssl:fips" not in read_openssl(OPENSSL.encode()).names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("# a comment\nmodule: opensc-pkcs11.so\n", PluginConfiguration(("p11-kit:opensc-pkcs11.so",))),
        ("module : /opt/x.so\ncritical: yes", PluginConfiguration((), (), ("/opt/x.so",))),
        ("module: one.so\nmodule: sub/two.so", PluginConfiguration(("p11-kit:sub/two.so",))),
        ("remote: |/usr/bin/p11-kit remote x.so\nmodule:\n", PluginConfiguration(())),
    ],
)
def test_a_module_of_p11_kit(text: str, found: PluginConfiguration) -> None:
    assert read_p11kit(text.encode()) == found


def test_a_theme_of_plymouth() -> None:
    text = b"""
ModuleName=before-any-section
[Plymouth Theme]
Name=Script
#ModuleName=no
ModuleName=script
[script]
ImageDir=/usr/share/plymouth/themes/script
ScriptFile=/usr/share/plymouth/themes/script/script.script
[other]
ModuleName=another
"""
    script = "/usr/share/plymouth/themes/script/script.script"
    assert read_plymouth(text) == PluginConfiguration(("plymouth:script",), (), (script,))


@given(st.binary() | st.text(alphabet="ab:[]=#@-/\\\"'. \n\t", max_size=200).map(str.encode))
def test_anything_is_read(data: bytes) -> None:
    for reader in READERS:
        assert isinstance(reader(data), PluginConfiguration)


@pytest.mark.parametrize("reader", READERS)
def test_hostile_files_cost_little(reader: Callable[[bytes], PluginConfiguration]) -> None:
    for text in (b"auth [" + b"\\]" * 200_000, b"passwd: " + b"[" * 200_000, b"[a]\n" * 100_000, b"a=" * 200_000):
        reader(text)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("etc/nsswitch.conf", "nss:x"), ("etc/pam.d/login", "pam:x"), ("usr/lib/pam.d/login", "pam:x"),
        ("usr/lib/x86_64-linux-gnu/gconv/gconv-modules", "gconv:x"),
        ("usr/lib/x86_64-linux-gnu/gconv/gconv-modules.d/more.conf", "gconv:x"),
        ("usr/share/p11-kit/modules/x.module", "p11-kit:x"), ("etc/pkcs11/modules/x.module", "p11-kit:x"),
        ("usr/share/plymouth/themes/x/x.plymouth", "plymouth:x"),
        ("etc/ssl/openssl.cnf", "openssl:x"), ("usr/lib/ssl/openssl.cnf", "openssl:x"),
    ],
)  # fmt: skip
def test_files_are_known_by_their_paths(path: str, name: str) -> None:
    text = b"module a b x 1\nauth required pam_x.so\npasswd: x\nproviders=p\n[p]\nx=s\n[s]\nactivate=1\n"
    text += b"module: x\n[Plymouth Theme]\nModuleName=x\n"
    found = learn(path, 0o644, text)
    assert isinstance(found, PluginConfiguration)
    assert name in found.names
    assert learn("usr/share/doc/" + path, 0o644, text) is None
