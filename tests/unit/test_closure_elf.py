# SPDX-License-Identifier: LGPL-2.1-or-later
"""Libraries as the image's own ld.so finds them (ld.so(8)), dlopen notes, and what features know of dlopen."""

from __future__ import annotations

import msgspec
import pytest
from worlds import LIB, LOADER, WORLD, closed, elf, file, left_out, library, link, missing, path_request, pool, program

from preroot.facts.arch import ARCHES
from preroot.packages.model import DlopenNote
from preroot.recipe.features import DlopenFact
from preroot.recipe.schema import Exception_
from preroot.tree.check import missing_problems
from preroot.tree.closure.elf import find_library
from preroot.tree.closure.walk import close
from preroot.tree.model import Reason

PRIVATE = "usr/lib/private"
X = path_request("usr/bin/x")


def note(feature: str, *sonames: str, priority: str = "recommended") -> DlopenNote:
    return DlopenNote(feature, "", priority, sonames)  # type: ignore[arg-type]


def test_libraries_and_the_loader_come_along_with_their_links_and_reasons() -> None:
    files = [
        program("usr/bin/x", "liba.so.1", "libc.so.6"),
        link(f"{LIB}/liba.so.1", "liba.so.1.2"),
        library("liba.so.1.2", "libc.so.6", soname="liba.so.1"),
    ]
    closure = closed(files, X)
    assert closure.missing == ()
    assert set(closure.paths) == {
        "usr/bin/x",
        "usr/lib64/ld-linux-x86-64.so.2",
        f"{LIB}/liba.so.1",
        f"{LIB}/liba.so.1.2",
        f"{LIB}/libc.so.6",
    }
    assert closure.paths[f"{LIB}/liba.so.1"] == (Reason("needed", "usr/bin/x", "liba.so.1"),)
    assert closure.paths[f"{LIB}/liba.so.1.2"] == (Reason("symlink", f"{LIB}/liba.so.1", f"{LIB}/liba.so.1.2"),)
    assert Reason("interpreter", "usr/bin/x") in closure.paths["usr/lib64/ld-linux-x86-64.so.2"]


def test_the_loader_serves_who_needs_it_by_name_though_it_lies_in_no_library_directory() -> None:
    closure = closed([program("usr/bin/x", "libc.so.6")], X)
    assert (
        Reason("needed", f"{LIB}/libc.so.6", "ld-linux-x86-64.so.2") in closure.paths["usr/lib64/ld-linux-x86-64.so.2"]
    )


def test_a_missing_library_is_named_with_who_needs_it() -> None:
    closure = closed([program("usr/bin/x", "libz.so.1")], X)
    (line,) = missing_problems(closure.missing, pool(), WORLD)
    assert line == "the library libz.so.1, asked for by /usr/bin/x, is missing: no package of the lock has it"


def test_a_library_in_a_private_directory_is_named_with_where_it_is_and_what_is_searched() -> None:
    files = [program("usr/bin/x", "libz.so.1"), library(f"{PRIVATE}/libz.so.1")]
    closure = closed(files, X)
    (line,) = missing_problems(closure.missing, pool(*files), WORLD)
    assert "it is at /usr/lib/private/libz.so.1, which ld.so does not search" in line
    assert f"(it searches /{LIB}, /usr/lib)" in line


@pytest.mark.parametrize("where", ["runpath", "rpath"])
def test_a_private_directory_in_runpath_or_rpath(where: str) -> None:
    files = [program("usr/bin/x", "libz.so.1", **{where: [f"/{PRIVATE}"]}), library(f"{PRIVATE}/libz.so.1")]
    assert f"{PRIVATE}/libz.so.1" in closed(files, X).paths


def test_rpath_is_inherited() -> None:
    files = [
        program("usr/bin/x", "liba.so.1", rpath=[f"/{PRIVATE}"]),
        library("liba.so.1", "libz.so.1"),
        library(f"{PRIVATE}/libz.so.1"),
    ]
    assert missing(closed(files, X)) == set()


def test_runpath_is_not_inherited() -> None:
    files = [
        program("usr/bin/x", "liba.so.1", runpath=[f"/{PRIVATE}"]),
        library("liba.so.1", "libz.so.1"),
        library(f"{PRIVATE}/libz.so.1"),
    ]
    assert missing(closed(files, X)) == {"libz.so.1"}


def test_runpath_switches_own_and_inherited_rpaths_off_for_what_the_file_itself_loads() -> None:
    files = [
        program("usr/bin/x", "liba.so.1", rpath=[f"/{PRIVATE}"]),
        library("liba.so.1", "libz.so.1", runpath=["/usr/lib/empty"], rpath=[f"/{PRIVATE}"]),
        library(f"{PRIVATE}/libz.so.1"),
    ]
    assert missing(closed(files, X)) == {"libz.so.1"}


def test_inherited_rpaths_pass_through_a_library_with_runpath() -> None:
    files = [
        program("usr/bin/x", "liba.so.1", rpath=[f"/{PRIVATE}"]),
        library("liba.so.1", "libb.so.1", runpath=["/usr/lib/empty"]),
        library("libb.so.1", "libz.so.1"),
        library(f"{PRIVATE}/libz.so.1"),
    ]
    assert missing(closed(files, X)) == set()


def test_rpath_of_the_file_comes_before_that_of_its_loader_and_before_the_systems() -> None:
    files = [
        program("usr/bin/x", "liba.so.1", rpath=["/usr/lib/outer"]),
        library("liba.so.1", "libz.so.1", rpath=["/usr/lib/inner"]),
        *(library(f"{each}/libz.so.1") for each in ("usr/lib/inner", "usr/lib/outer", LIB)),
    ]
    assert [path for path in closed(files, X).paths if path.endswith("libz.so.1")] == ["usr/lib/inner/libz.so.1"]


@pytest.mark.parametrize(
    "spelling",
    ["$ORIGIN/../lib/private", "${ORIGIN}/../lib/private", "/usr/$LIB/../private", "/usr/lib/$PLATFORM/../private"],
)
def test_tokens(spelling: str) -> None:
    files = [
        program("usr/bin/x", "libz.so.1", runpath=[spelling]),
        library(f"{PRIVATE}/libz.so.1"),
        file("usr/lib/x86_64/there"),
    ]
    assert missing(closed(files, X)) == set()


def test_what_only_starts_like_a_token_is_none() -> None:
    files = [
        program("usr/bin/x", "libz.so.1", runpath=["/usr/$LIBRARY"]),
        library("usr/lib/x86_64-linux-gnuRARY/libz.so.1"),
    ]
    assert missing(closed(files, X)) == {"libz.so.1"}


def test_origin_of_a_library_is_the_directory_of_the_link_and_of_a_program_that_of_the_file() -> None:
    files = [
        program("usr/bin/x", "liba.so.1"),
        link(f"{LIB}/liba.so.1", "/opt/a/liba.so.1"),
        library("opt/a/liba.so.1", "libz.so.1", runpath=["$ORIGIN/sub"]),
        library(f"{LIB}/sub/libz.so.1"),
    ]
    assert f"{LIB}/sub/libz.so.1" in closed(files, X).paths
    files = [
        link("usr/bin/x", "/opt/a/x"),
        program("opt/a/x", "libz.so.1", runpath=["$ORIGIN"]),
        library("opt/a/libz.so.1"),
    ]
    assert "opt/a/libz.so.1" in closed(files, X).paths


@pytest.mark.parametrize("other", [{"bits": 32}, {"machine": 3}, {"little_endian": False}])
def test_files_of_another_class_machine_or_byte_order_are_passed_over(other: dict[str, int]) -> None:
    files = [program("usr/bin/x", "libz.so.1"), library("libz.so.1", **other), library("usr/lib/libz.so.1")]
    assert [path for path in closed(files, X).paths if path.endswith("libz.so.1")] == ["usr/lib/libz.so.1"]
    assert missing(closed(files[:2], X)) == {"libz.so.1"}


def test_ppc64_of_the_other_byte_order_is_another_machine() -> None:
    rules = msgspec.structs.replace(WORLD, arch=ARCHES["ppc64el"])
    for little_endian in (True, False):
        files = pool(library("libz.so.1", machine=21, little_endian=little_endian))
        assert (find_library("libz.so.1", (), files, rules) is not None) == little_endian


def test_what_is_no_elf_file_or_a_dangling_link_is_passed_over() -> None:
    files = [
        program("usr/bin/x", "libz.so.1", runpath=["/usr/lib/t", "/usr/lib/d"]),
        file("usr/lib/t/libz.so.1", "INPUT(libz.so.2)"),
        link("usr/lib/d/libz.so.1", "nowhere"),
        library("libz.so.1"),
    ]
    assert f"{LIB}/libz.so.1" in closed(files, X).paths


def test_a_needed_path_is_taken_as_it_is() -> None:
    files = [program("usr/bin/x", "/opt/a/libz.so.1"), library("opt/a/libz.so.1")]
    assert "opt/a/libz.so.1" in closed(files, X).paths


def test_libraries_load_breadth_first_and_one_that_is_loaded_serves_all() -> None:
    # systemd 257: libsystemd-core has no RUNPATH and finds libsystemd-shared only because systemd has loaded it.
    files = [
        program("usr/lib/systemd/systemd", "libcore.so", "libshared.so", runpath=[f"/{PRIVATE}"]),
        library(f"{PRIVATE}/libcore.so", "libshared.so"),
        library(f"{PRIVATE}/libshared.so"),
    ]
    assert missing(closed(files, path_request("usr/lib/systemd/systemd"))) == set()
    alone = closed(files, path_request(f"{PRIVATE}/libcore.so"))
    assert missing(alone) == {"libshared.so"}


def test_a_loaded_library_also_answers_to_its_soname() -> None:
    files = [
        program("usr/bin/x", "libalias.so", "libb.so.1", runpath=[f"/{PRIVATE}"]),
        library(f"{PRIVATE}/libalias.so", soname="libreal.so.1"),
        library("libb.so.1", "libreal.so.1"),
    ]
    assert missing(closed(files, X)) == set()


def test_what_one_program_has_loaded_is_nothing_to_another() -> None:
    files = [
        program("usr/bin/x", "libz.so.1", runpath=[f"/{PRIVATE}"]),
        program("usr/bin/y", "libz.so.1"),
        library(f"{PRIVATE}/libz.so.1"),
    ]
    closure = closed(files, X, path_request("usr/bin/y"))
    assert [(each.request.reason.asker, each.request.value) for each in closure.missing] == [("usr/bin/y", "libz.so.1")]


def test_libraries_in_a_circle() -> None:
    files = [program("usr/bin/x", "liba.so.1"), library("liba.so.1", "libb.so.1"), library("libb.so.1", "liba.so.1")]
    assert {f"{LIB}/liba.so.1", f"{LIB}/libb.so.1"} <= closed(files, X).paths.keys()


@pytest.mark.parametrize(
    ("priority", "there", "absent"),
    [("required", True, {"liba.so.1"}), ("recommended", True, {"liba.so.1"}), ("suggested", False, set())],
)
def test_notes_of_programs(priority: str, there: bool, absent: set[str]) -> None:
    x = program("usr/bin/x", dlopen=[note("a", "liba.so.1", priority=priority)])
    assert (f"{LIB}/liba.so.1" in closed([x, library("liba.so.1")], X).paths) == there
    closure = closed([x], X)
    assert missing(closure) == absent
    if priority == "suggested":
        assert left_out(closure) == {"liba.so.1": "only suggested, and no feature asks for it"}


def test_notes_of_libraries_decide_nothing() -> None:
    files = [
        program("usr/bin/x", "liba.so.1"),
        library("liba.so.1", dlopen=[note("b", "libb.so.1", priority="required")]),
        library("libb.so.1"),
    ]
    assert f"{LIB}/libb.so.1" not in closed(files, X).paths


def test_a_feature_takes_what_is_only_suggested() -> None:
    files = [program("usr/bin/x", dlopen=[note("tpm", "liba.so.1", priority="suggested")]), library("liba.so.1")]
    assert f"{LIB}/liba.so.1" in closed(files, X, dlopen_features=frozenset({"tpm"})).paths


def test_a_feature_refuses_what_is_recommended_but_not_what_is_required() -> None:
    refused = frozenset({"!tpm"})
    for priority, there in (("recommended", False), ("required", True)):
        files = [program("usr/bin/x", dlopen=[note("tpm", "liba.so.1", priority=priority)]), library("liba.so.1")]
        assert (f"{LIB}/liba.so.1" in closed(files, X, dlopen_features=refused).paths) == there


def test_what_one_feature_takes_no_refusal_of_another_undoes() -> None:
    files = [program("usr/bin/x", dlopen=[note("tpm", "liba.so.1")]), library("liba.so.1")]
    refusal = Exception_("liba.so.*", "usr/bin/x", "too big")
    closure = closed(files, X, dlopen_features=frozenset({"!tpm", "tpm"}), exceptions=(refusal,))
    assert f"{LIB}/liba.so.1" in closure.paths
    assert closure.used_exceptions == (refusal,)
    assert f"{LIB}/liba.so.1" not in closed(files, X, exceptions=(refusal,)).paths


def test_a_suggested_library_that_is_loaded_anyway_is_not_left_out() -> None:
    files = [
        program("usr/bin/x", "liba.so.1", dlopen=[note("a", "liba.so.1", priority="suggested")]),
        library("liba.so.1"),
    ]
    closure = closed(files, X)
    assert left_out(closure) == {}
    assert len(closure.paths[f"{LIB}/liba.so.1"]) == 2


def test_of_alternatives_the_first_that_is_there() -> None:
    files = [
        program("usr/bin/x", dlopen=[note("a", "liba.so.3", "liba.so.2", "liba.so.1")]),
        library("liba.so.2"),
        library("liba.so.1"),
    ]
    assert [path for path in closed(files, X).paths if "liba" in path] == [f"{LIB}/liba.so.2"]
    assert missing(closed(files[:1], X)) == {"liba.so.3"}


def test_what_is_loaded_late_finds_what_is_loaded_already_and_brings_its_own() -> None:
    files = [
        program("usr/bin/x", "libp.so.1", runpath=[f"/{PRIVATE}"], dlopen=[note("a", "liba.so.1")]),
        library(f"{PRIVATE}/libp.so.1"),
        library("liba.so.1", "libp.so.1", "libq.so.1"),
        library("libq.so.1"),
    ]
    closure = closed(files, X)
    assert missing(closure) == set()
    assert f"{LIB}/libq.so.1" in closure.paths


def test_what_features_know_of_dlopen() -> None:
    fact = DlopenFact(asker="usr/bin/x", sonames=("libk.so.2",), evidence="seen")
    files = [program("usr/bin/x"), program("usr/bin/y"), library("libk.so.2")]
    closure = closed(files, X, dlopen=(fact,))
    assert closure.paths[f"{LIB}/libk.so.2"] == (Reason("dlopen", "usr/bin/x", "seen"),)
    assert f"{LIB}/libk.so.2" not in closed(files, path_request("usr/bin/y"), dlopen=(fact,)).paths
    assert missing(closed(files[:1], X, dlopen=(fact,))) == {"libk.so.2"}


def test_an_optional_fact_takes_what_is_there_and_misses_nothing() -> None:
    fact = DlopenFact(asker="/usr/bin/*", sonames=("libk.so.2",), evidence="seen", optional=True)
    assert f"{LIB}/libk.so.2" in closed([program("usr/bin/x"), library("libk.so.2")], X, dlopen=(fact,)).paths
    closure = closed([program("usr/bin/x")], X, dlopen=(fact,))
    assert (missing(closure), left_out(closure)) == (set(), {"libk.so.2": "no package of the lock has it"})


def test_a_fact_of_a_library_is_searched_by_the_librarys_rules() -> None:
    fact = DlopenFact(asker=f"{LIB}/liba.so.1", sonames=("libk.so.2",), evidence="seen")
    files = [
        program("usr/bin/x", "liba.so.1"),
        library("liba.so.1", runpath=[f"/{PRIVATE}"]),
        library(f"{PRIVATE}/libk.so.2"),
    ]
    assert missing(closed(files, X, dlopen=(fact,))) == set()


def test_an_interpreter_that_is_missing() -> None:
    closure = close([X], pool(file("usr/bin/x", learnt=elf(interpreter=LOADER))), WORLD)
    assert missing(closure) == {LOADER}
