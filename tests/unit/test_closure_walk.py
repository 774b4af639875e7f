# SPDX-License-Identifier: LGPL-2.1-or-later
"""The closure as a whole: links, exceptions, excludes, references that features know of, and its laws."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import (
    LIBC,
    MERGED,
    UNITS,
    WORLD,
    ask,
    closed,
    directory,
    file,
    index,
    left_out,
    library,
    link,
    missing,
    path_request,
    pool,
    program,
    unit,
    unit_request,
)

from preroot.packages.model import FileInfo
from preroot.recipe.features import Refers
from preroot.recipe.schema import Exception_
from preroot.tree.check import missing_problems
from preroot.tree.closure.model import Closure, Request
from preroot.tree.closure.walk import close, is_excluded
from preroot.tree.model import Reason
from preroot.tree.pool import Declared, Pool

X = path_request("usr/bin/x")


def test_links_are_taken_with_all_on_the_way() -> None:
    files = [link("usr/bin/x", "/etc/alternatives/x"), link("etc/alternatives/x", "/bin/y"), program("bin/y")]
    closure = closed(files, X)
    assert closure.paths["etc/alternatives/x"] == (Reason("symlink", "usr/bin/x", "etc/alternatives/x"),)
    assert closure.paths["usr/bin/y"] == (Reason("symlink", "etc/alternatives/x", "usr/bin/y"),)


def test_directories_that_a_link_leaves_through_dot_dot_come_along() -> None:
    files = [link("usr/bin/x", "deep/../y"), directory("usr/bin/deep"), program("usr/bin/y")]
    assert "usr/bin/deep" in closed(files, X).paths


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([link("usr/bin/x", "y")], "it leads to /usr/bin/y, which no package of the lock has"),
        ([link("usr/bin/x", "y"), link("usr/bin/y", "x")], "its symbolic links form a loop"),
        ([file("opt/x")], "/opt/x exists"),
        ([], "no package of the lock has it"),
    ],
)
def test_what_is_missing_says_why(files: list[FileInfo], words: str) -> None:
    closure = closed(files, X)
    (line,) = missing_problems(closure.missing, pool(*files), WORLD)
    assert line == f"the file usr/bin/x, asked for by feature test, is missing: {words}"


def test_a_link_out_of_the_image_is_taken_without_its_target() -> None:
    closure = closed([link("etc/mtab", "../proc/self/mounts")], path_request("etc/mtab"))
    assert (set(closure.paths), missing(closure)) == ({"etc/mtab"}, set())


def test_programs_are_looked_up_by_name() -> None:
    assert "usr/sbin/x" in closed([program("sbin/x"), program("bin/x")], ask("program", "x")).paths
    assert missing(closed([], ask("program", "x"))) == {"x"}
    assert missing(closed([], ask("program", "x", hard=False))) == set()


def test_declared_paths_win_over_packages_and_bring_what_they_refer_to() -> None:
    declared = pool(*LIBC, program("usr/bin/x", "libz.so.1"), program("usr/bin/y")).overlay()
    declared.declare("usr/bin/x", Declared("recipe", "y"))
    closure = close([X], declared, WORLD)
    assert missing(closure) == set()
    assert "usr/bin/y" in closure.paths


def test_references_that_features_know_hold_for_files_and_links_when_they_are_there() -> None:
    refers = Refers(asker="usr/bin/modprobe", units=("a.service",), paths=("y", "etc/z"), evidence="seen")
    files = [
        link("usr/bin/modprobe", "kmod"),
        program("usr/bin/kmod"),
        unit("a.service", " "),
        program("usr/bin/y"),
        file("etc/z"),
    ]
    closure = closed(files, path_request("usr/bin/modprobe"), refers=(refers,))
    assert {"usr/bin/y", "etc/z", f"{UNITS}/a.service"} <= closure.paths.keys()
    assert closure.paths["usr/bin/y"] == (Reason("generator", "usr/bin/modprobe", "seen"),)
    assert "usr/bin/y" not in closed(files, path_request("usr/bin/kmod"), refers=(refers,)).paths
    assert missing(closed(files[:2], path_request("usr/bin/modprobe"), refers=(refers,))) == {"a.service", "y", "etc/z"}


@pytest.mark.parametrize("path", ["libz.so.1", "libz.*"])
def test_an_exception_lets_a_library_be_missing(path: str) -> None:
    exception = Exception_(path, "usr/bin/*", "not needed here")
    closure = closed([program("usr/bin/x", "libz.so.1")], X, exceptions=(exception,))
    assert (missing(closure), closure.used_exceptions) == (set(), (exception,))


def test_an_exception_refuses_what_is_there() -> None:
    files = [program("usr/bin/x", "libz.so.1"), program("usr/bin/y", "libz.so.1"), library("libz.so.1")]
    exception = Exception_("libz.so.1", "usr/bin/x", "too big")
    assert not any("libz" in path for path in closed(files, X, exceptions=(exception,)).paths)
    both = closed(files, X, path_request("usr/bin/y"), exceptions=(exception,))
    assert any("libz" in path for path in both.paths)


def test_an_exception_that_nothing_needs_is_not_used() -> None:
    closure = closed([program("usr/bin/x")], X, exceptions=(Exception_("libz.so.1", "usr/bin/x", "r"),))
    assert closure.used_exceptions == ()


def test_an_exception_for_a_group_of_udev_rules() -> None:
    rules = file("usr/lib/udev/rules.d/1.rules", 'GROUP="sgx"\n')
    exception = Exception_("sgx", rules.path, "no such hardware")
    closure = closed([rules], path_request(rules.path), exceptions=(exception,))
    assert (closure.groups, closure.used_exceptions) == ({}, (exception,))


@pytest.mark.parametrize(
    "pattern", ["usr/lib/x86_64-linux-gnu/libz.so.1", "**/libz.so.1.2", "usr/lib/x86_64-linux-gnu"]
)
def test_excluding_what_something_needs_fails_with_the_askers_name(pattern: str) -> None:
    files = [
        program("usr/bin/x", "libz.so.1"),
        link("usr/lib/x86_64-linux-gnu/libz.so.1", "libz.so.1.2"),
        library("libz.so.1.2"),
    ]
    closure = closed(files, X, exclude=(pattern,))
    (line,) = [each for each in missing_problems(closure.missing, pool(*files), WORLD) if "libz" in each]
    assert "the library libz.so.1, asked for by /usr/bin/x, is missing: the recipe excludes" in line


def test_excluding_an_entry_point_or_what_is_only_wanted_leaves_it_out() -> None:
    closure = closed([link("usr/bin/x", "y"), program("usr/bin/y")], X, exclude=("usr/bin/y",))
    assert (missing(closure), set(closure.paths), left_out(closure)) == (
        set(),
        set(),
        {"usr/bin/x": "the recipe excludes it"},
    )
    closure = closed(
        [unit("a.service", "[Service]\nExecStart=-/usr/bin/y\n"), program("usr/bin/y")],
        unit_request("a.service"),
        exclude=("usr/bin/y",),
    )
    assert (missing(closure), left_out(closure)) == (set(), {"/usr/bin/y": "the recipe excludes it"})


def test_excluding_a_unit_a_drop_in_or_a_dependency_link() -> None:
    files = [
        unit("a.service", "[Unit]\nRequires=b.service\n"),
        unit("b.service", " "),
        unit("a.service.d/1.conf", "[Service]\nExecStart=/usr/bin/gone\n"),
        unit("c.service", " "),
        link(f"{UNITS}/a.service.wants/c.service", "../c.service"),
    ]
    closure = closed(
        files,
        unit_request("a.service"),
        wanted=frozenset({"c.service"}),
        exclude=(f"{UNITS}/b.service", f"{UNITS}/a.service.d/*", f"{UNITS}/a.service.wants"),
    )
    assert missing(closure) == {"b.service"}
    assert f"{UNITS}/c.service" in closure.paths
    assert not any(".wants" in path or ".d/" in path for path in closure.paths)


def test_what_is_excluded() -> None:
    assert is_excluded(("usr/share/doc/x",), ("usr/share/doc",))
    assert is_excluded(("a", "usr/bin/x"), ("usr/b*/x",))
    assert not is_excluded(("usr/share/docs",), ("usr/share/doc",))
    assert not is_excluded((), ("*",))


# Random worlds: programs, libraries, links and units that refer to each other, some to nothing.

_NAMES = "abcde"
_LIBRARIES = st.lists(st.sampled_from([f"lib{name}.so" for name in _NAMES]), max_size=3, unique=True)
_UNIT_LINES = st.lists(
    st.tuples(st.sampled_from(["Requires", "Wants", "BindsTo"]), st.sampled_from(list(_NAMES)))
    .map(lambda pair: f"[Unit]\n{pair[0]}={pair[1]}.service\n")
    | st.tuples(st.sampled_from(["", "-"]), st.sampled_from(list(_NAMES)))
    .map(lambda pair: f"[Service]\nExecStart={pair[0]}/usr/bin/{pair[1]}\n")
    | st.sampled_from(["[Service]\nExecStart=\n", "[Service]\nUser=u\n"]),
    max_size=4,
).map("".join)  # fmt: skip


@st.composite
def worlds(draw: st.DrawFn) -> list[FileInfo]:
    files: list[FileInfo] = [directory("usr/bin"), directory("usr/lib")]
    for name in _NAMES:
        kind = draw(st.sampled_from(["program", "script", "link", "none"]))
        if kind == "program":
            files.append(program(f"usr/bin/{name}", *draw(_LIBRARIES)))
        elif kind == "script":
            files.append(file(f"usr/bin/{name}", f"#!/bin/{draw(st.sampled_from(_NAMES))}\n"))
        elif kind == "link":
            files.append(link(f"usr/bin/{name}", draw(st.sampled_from([*_NAMES, "/run/x", "../bin/a", "gone"]))))
        if draw(st.booleans()):
            files.append(library(f"lib{name}.so", *draw(_LIBRARIES)))
        if draw(st.booleans()):
            files.append(unit(f"{name}.service", draw(_UNIT_LINES) + " "))
        if draw(st.booleans()):
            files.append(unit(f"{name}.service.d/{draw(st.sampled_from(_NAMES))}.conf", draw(_UNIT_LINES)))
        if draw(st.booleans()):
            suffix = draw(st.sampled_from(["wants", "requires"]))
            files.append(link(f"{UNITS}/{name}.service.{suffix}/a.service", "../a.service"))
    return files


_REQUESTS = st.lists(
    st.sampled_from([*(path_request(f"usr/bin/{name}") for name in _NAMES),
                     *(unit_request(f"{name}.service") for name in _NAMES),
                     *(path_request(f"{UNITS}/{name}.service") for name in _NAMES)]),
    max_size=4,
)  # fmt: skip


def _frozen(closure: Closure) -> tuple[object, ...]:
    """Return what a closure says, without the order in which it was found."""
    return (
        {path: frozenset(reasons) for path, reasons in closure.paths.items()},
        {name: frozenset(reasons) for name, reasons in closure.users.items()},
        closure.units,
        {each.request.value for each in closure.missing},
    )


@given(worlds(), _REQUESTS, st.randoms(use_true_random=False))
def test_the_order_of_packages_and_requests_decides_nothing(
    files: list[FileInfo], requests: list[Request], random: object
) -> None:
    before = close(requests, pool(*LIBC, *files), WORLD)
    packages = [index([each], f"p{number}") for number, each in enumerate([*LIBC, *files])]
    random.shuffle(packages)  # type: ignore[attr-defined]
    shuffled = list(requests)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert _frozen(close(shuffled, Pool(packages, MERGED), WORLD)) == _frozen(before)


@given(worlds(), _REQUESTS, _REQUESTS)
def test_more_entry_points_bring_no_less(files: list[FileInfo], some: list[Request], more: list[Request]) -> None:
    packages = pool(*LIBC, *files)
    small, large = close(some, packages, WORLD), close([*some, *more], packages, WORLD)
    assert small.paths.keys() <= large.paths.keys()
    assert small.users.keys() <= large.users.keys()
    assert small.units.keys() <= large.units.keys()
    assert missing(small) <= missing(large)


@given(worlds(), _REQUESTS)
def test_a_closure_is_closed(files: list[FileInfo], requests: list[Request]) -> None:
    """What is found asks for nothing more, and each link in it leads to something in it, or out of the image."""
    packages = pool(*LIBC, *files)
    once = close(requests, packages, WORLD)
    again = close([*requests, *map(path_request, once.paths)], packages, WORLD)
    assert again.paths.keys() == once.paths.keys()
    assert missing(again) == missing(once)
    for path in once.paths:
        resolved = packages.resolve(path)
        assert resolved.followed
        assert once.paths.keys() >= set(resolved.chain)


@given(worlds(), _REQUESTS)
def test_a_declared_file_makes_no_reason_twice(files: list[FileInfo], requests: list[Request]) -> None:
    closure = close([*requests, *requests], pool(*LIBC, *files), msgspec.structs.replace(WORLD, wanted=frozenset()))
    assert all(len(set(reasons)) == len(reasons) for reasons in closure.paths.values())
