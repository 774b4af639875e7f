# SPDX-License-Identifier: LGPL-2.1-or-later
"""Plugins and libraries that no ELF file names: brought by features, by configurations, and by who uses them."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from worlds import (
    LIB,
    LIBC,
    LIBRARIES,
    LOADER,
    closed,
    elf,
    file,
    index,
    left_out,
    library,
    link,
    missing,
    part,
    path_request,
    program,
    unit,
    world,
)

from preroot.errors import RecipeError
from preroot.packages.model import FileInfo
from preroot.recipe.features import Content, DlopenFact, Take
from preroot.recipe.libraries import Dismissal, Libraries
from preroot.recipe.schema import Exception_
from preroot.tree.build import package_entry
from preroot.tree.closure.model import Closure
from preroot.tree.closure.walk import close
from preroot.tree.model import Entry, Reason
from preroot.tree.plan import plan_part
from preroot.tree.pool import Pool
from preroot.tree.unexplained import Unexplained, scan

FAMILIES = LIBRARIES.families


def closure(*files: FileInfo, takes: tuple[str, ...] = (), **changes: Any) -> Closure:
    requests = [path_request(path) for path in takes or (files[0].path,)]
    return closed(files, *requests, families=FAMILIES, dlopen=LIBRARIES.dlopen, **changes)


# Configurations


def test_services_of_nsswitch_come_in_and_those_inside_libc_need_no_file() -> None:
    conf = file("etc/nsswitch.conf", "passwd: files systemd\nhosts: files dns\n")
    found = closure(conf, library("libnss_systemd.so.2"))
    assert missing(found) == set()
    reason = Reason("configuration", "etc/nsswitch.conf", "nss:systemd")
    assert found.paths[f"{LIB}/libnss_systemd.so.2"] == (reason,)
    assert missing(closure(conf)) == {f"{LIB}/libnss_systemd.so.2"}


def test_an_exception_says_why_a_plugin_is_not_there() -> None:
    conf = file("etc/nsswitch.conf", "passwd: files systemd\n")
    exception = Exception_(path=f"{LIB}/libnss_systemd.so.2", asker="etc/nsswitch.conf", reason="no users of its own")
    found = closure(conf, exceptions=(exception,))
    assert missing(found) == set()
    assert found.used_exceptions == (exception,)


def test_modules_and_files_of_pam() -> None:
    login = file("etc/pam.d/login", "auth required pam_a.so\n-session optional pam_gone.so\n@include common\n")
    common = file("usr/lib/pam.d/common", "auth required pam_b.so\nauth required own.so\n")
    modules = [file(f"{LIB}/security/{name}", learnt=elf()) for name in ("pam_a.so", "pam_b.so", "own.so")]
    found = closure(login, common, *modules)
    assert missing(found) == set()
    assert {common.path, *(each.path for each in modules)} <= found.paths.keys()
    assert left_out(found) == {f"{LIB}/security/pam_gone.so": "no package of the lock has it"}
    assert missing(closure(login, common, *modules[1:])) == {f"{LIB}/security/pam_a.so"}
    assert missing(closure(login, *modules)) == {"etc/pam.d/common"}


def test_a_program_that_asks_pam_needs_its_service() -> None:
    assert missing(closure(program("usr/bin/login"))) == {"etc/pam.d/login"}
    busybox = (link("usr/bin/login", "busybox"), program("usr/bin/busybox"))
    assert missing(closure(*busybox)) == set()


def test_providers_of_openssl() -> None:
    text = "openssl_conf=i\n[i]\nproviders=p\n[p]\ndefault=s\nlegacy=s\n[s]\nactivate=1\n"
    conf = file("etc/ssl/openssl.cnf", text)
    assert missing(closure(conf)) == {f"{LIB}/ossl-modules/legacy.so"}
    assert missing(closure(conf, file(f"{LIB}/ossl-modules/legacy.so", learnt=elf()))) == set()


def test_a_plugin_of_a_family_that_nobody_knows_is_missing() -> None:
    conf = file("etc/nsswitch.conf", "passwd: files systemd\n")
    found = closed([conf], path_request(conf.path))
    assert missing(found) == {"nss:files", "nss:systemd"}


# Uses


TSS = [library("libtss2-esys.so.0"), library("libtss2-rc.so.0"), library("libtss2-mu.so.0")]
TCTI = library("libtss2-tcti-device.so.0")
TOKEN = library(f"{LIB}/cryptsetup/libcryptsetup-token-systemd-tpm2.so")
CRYPTSETUP = program("usr/bin/systemd-cryptsetup")


def test_a_family_in_use_is_missing_where_its_plugin_is() -> None:
    assert missing(closure(TSS[0])) == {f"{LIB}/libtss2-tcti-device.so.0"}
    found = closure(TSS[0], TCTI)
    assert missing(found) == set()
    assert found.paths[TCTI.path][0].asker == TSS[0].path


def test_a_use_may_need_two_to_be_there() -> None:
    assert TOKEN.path not in closure(CRYPTSETUP, *TSS, TCTI, TOKEN).paths
    both = (CRYPTSETUP.path, TSS[0].path)
    assert TOKEN.path in closure(CRYPTSETUP, *TSS, TCTI, TOKEN, takes=both).paths
    assert missing(closure(CRYPTSETUP, *TSS, TCTI, takes=both)) == {TOKEN.path}
    assert TOKEN.path in closure(CRYPTSETUP, *TSS, TCTI, TOKEN, takes=both[::-1]).paths


def test_all_plugins_of_a_family() -> None:
    plugins = [file(f"usr/lib/multipath/libcheck{name}.so", learnt=elf()) for name in ("tur", "rdac")]
    user = library("usr/lib/libmultipath.so.0")
    found = closure(user, *plugins, file("usr/lib/multipath/libprioconst.so", learnt=elf()))
    assert {"usr/lib/multipath/libcheckrdac.so", "usr/lib/multipath/libprioconst.so"} <= found.paths.keys()
    assert missing(closure(user, *plugins)) == {f"{LIB}/multipath/libprio*.so"}


# What libc loads libgcc_s for


GCC = library("libgcc_s.so.1")


def importing(path: str, *symbols: str, needed: tuple[str, ...] = ()) -> FileInfo:
    learnt = structs.replace(elf("libc.so.6", *needed, interpreter=LOADER), imports=symbols)
    return file(path, learnt=learnt, mode=0o755)


@pytest.mark.parametrize("symbol", ["pthread_cancel", "pthread_exit", "thrd_exit", "backtrace"])
def test_who_unwinds_needs_libgcc(symbol: str) -> None:
    user = importing("usr/bin/x", symbol)
    assert missing(closure(user)) == {"libgcc_s.so.1"}
    assert GCC.path in closure(user, GCC).paths
    assert GCC.path not in closure(program("usr/bin/x"), GCC).paths


def test_openssl_ends_no_threads() -> None:
    crypto = importing(f"{LIB}/libcrypto.so.3", "pthread_exit")
    assert GCC.path not in closure(program("usr/bin/x", "libcrypto.so.3"), crypto, GCC).paths


# Facts


def versioned(version: str, *files: FileInfo) -> Pool:
    package, contents = index((*LIBC, *files))
    return Pool([(structs.replace(package, version=version), contents)], {})


@pytest.mark.parametrize(("version", "taken"), [("252.39-1", True), ("257.9-1", True), ("262~rc1-1", False)])
def test_a_fact_is_of_some_versions_of_its_asker(version: str, taken: bool) -> None:
    pool = versioned(version, program("usr/bin/udevadm"), library("libkmod.so.2"))
    found = close([path_request("usr/bin/udevadm")], pool, world(dlopen=LIBRARIES.dlopen))
    assert (f"{LIB}/libkmod.so.2" in found.paths) is taken


def test_a_fact_of_a_version_is_not_of_a_file_without_package() -> None:
    fact = DlopenFact("usr/bin/x", ("liba.so.1",), "seen", version=">=1")
    made = plan_part(
        part(Content(take=Take(files=("usr/bin/x",)), dlopen=(fact,))), versioned("2", program("usr/bin/x"))
    )
    assert "liba.so.1" in made.problems[0]


@pytest.mark.parametrize(
    ("features", "priority", "taken"),
    [
        ((), "suggested", False), (("tpm",), "suggested", True), (("!tpm",), "recommended", False),
        ((), "recommended", True), (("!tpm",), "required", True),
    ],
)  # fmt: skip
def test_a_fact_that_stands_for_a_note_is_taken_and_refused_as_notes_are(
    features: tuple[str, ...], priority: Any, taken: bool
) -> None:
    askers, sonames = ("usr/bin/x", "usr/bin/y"), ("liba.so.2", "liba.so.1")
    fact = DlopenFact(askers, sonames, "seen", also=("libb.so.1",), feature="tpm", priority=priority)
    files = [program("usr/bin/x"), library("liba.so.1"), library("libb.so.1")]
    found = closed(files, path_request("usr/bin/x"), dlopen=(fact,), dlopen_features=frozenset(features))
    assert ({f"{LIB}/liba.so.1", f"{LIB}/libb.so.1"} <= found.paths.keys()) is taken
    assert missing(found) == set()


# Features


def test_a_character_set_comes_with_the_list_that_it_is_found_by() -> None:
    modules = file(f"{LIB}/gconv/gconv-modules", "module A// INTERNAL IBM850 1\nmodule B// INTERNAL OTHER 1\n")
    sets = [file(f"{LIB}/gconv/{name}.so", learnt=elf()) for name in ("IBM850", "OTHER", "LOST")]
    given = part(Content(take=Take(plugins=("gconv:IBM850",))))
    made = plan_part(given, Pool([index((*LIBC, modules, *sets))], {}))
    assert {modules.path, sets[0].path} <= made.tree.entries.keys()
    assert sets[1].path not in made.tree.entries
    for name in ("LOST", "IBM851"):
        wrong = part(Content(take=Take(plugins=(f"gconv:{name}",))))
        with pytest.raises(RecipeError, match=f"plugin gconv:{name}, which is not in"):
            plan_part(wrong, Pool([index((*LIBC, modules, *sets))], {}))


# The scan


def mentioning(path: str, *sonames: str, **more: Any) -> FileInfo:
    return file(path, learnt=structs.replace(elf("libc.so.6"), mentioned=sonames, **more), mode=0o755)


def entries(pool: Pool, *paths: str) -> dict[str, Entry]:
    return {path: package_entry(path, (), pool) for path in paths}


def test_what_nothing_explains_is_found() -> None:
    files = [
        mentioning("usr/bin/x", "liba.so.1", "libnss_y.so.2", "libz.so.1"),
        mentioning("usr/bin/y", "liba.so.1"),
        unit("z.service", "[Unit]\n"),
    ]
    pool = versioned("3.1", *files)
    facts = [DlopenFact("usr/bin/x", ("libq.so.1", "libz.so.1"), "seen")]
    found = scan(entries(pool, *(each.path for each in files)), pool, LIBRARIES, facts)
    assert found.unexplained == (
        Unexplained("liba.so.1", "usr/bin/x", "world=3.1"), Unexplained("liba.so.1", "usr/bin/y", "world=3.1"),
    )  # fmt: skip


def test_dismissals_that_explain_and_that_do_not() -> None:
    pool = versioned("3.1", mentioning("usr/bin/x", "liba.so.1", "libb.so.1"))
    good = Dismissal("usr/bin/*", ("liba.so.*",), "a message")
    stale = Dismissal("usr/bin/x", ("libc.so.*",), "a message")
    others = Dismissal("usr/bin/y", ("libb.so.*",), "a message")
    older = Dismissal("usr/bin/x", ("libb.so.*",), "a message", version="<3")
    found = scan(entries(pool, "usr/bin/x"), pool, Libraries(dismissals=(good, stale, others, older)), ())
    assert [each.soname for each in found.unexplained] == ["libb.so.1"]
    assert found.used == (good,)
    assert found.stale == (stale,)
