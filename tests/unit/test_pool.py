# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pool: canonical paths of a merged /usr, links as path_resolution(7) follows them, globs."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from worlds import MERGED, directory, file, index, link, pool

from preroot.tree.pool import Declared, Pool, clean, glob_pattern


def test_paths_of_a_merged_usr_are_canonical() -> None:
    files = pool(file("lib/x86_64-linux-gnu/libc.so.6"), file("bin/sh"), link("lib64", "usr/lib64"), file("etc/x"))
    assert sorted(files.paths()) == ["etc/x", "usr/bin/sh", "usr/lib/x86_64-linux-gnu/libc.so.6"]
    assert files.canonical("/lib/../bin//sh") == "usr/bin/sh"
    assert files.canonical("/library/x") == "library/x"
    assert files.canonical("sbin") == "usr/sbin"
    assert files.resolve("/bin/sh").path == "usr/bin/sh"


def test_without_a_merged_usr_paths_stay() -> None:
    files = Pool([index([file("bin/sh")])], {})
    assert list(files.paths()) == ["bin/sh"]


def test_a_file_wins_over_another_packages_directory_and_the_first_package_over_the_second() -> None:
    files = Pool(
        [
            index([directory("usr/share/x")], "a"),
            index([file("usr/share/x", "b")], "b"),
            index([file("usr/share/x", "c")], "c"),
        ],
        MERGED,
    )
    found = files.get("usr/share/x")
    assert found is not None
    assert found.package.name == "b"


def test_chains_are_followed_and_named_in_order() -> None:
    files = pool(
        link("usr/bin/awk", "/etc/alternatives/awk"),
        link("etc/alternatives/awk", "/usr/bin/mawk"),
        file("usr/bin/mawk"),
    )
    resolved = files.resolve("/bin/awk")
    assert (resolved.links, resolved.path) == (("usr/bin/awk", "etc/alternatives/awk"), "usr/bin/mawk")
    assert resolved.chain == ("usr/bin/awk", "etc/alternatives/awk", "usr/bin/mawk")


def test_links_to_directories_are_followed_on_the_way() -> None:
    files = pool(link("usr/share/new", "old/deep"), file("usr/share/old/deep/x"), directory("usr/share/old/deep"))
    resolved = files.resolve("usr/share/new/x")
    assert (resolved.links, resolved.path) == (("usr/share/new",), "usr/share/old/deep/x")


def test_dot_dot_is_the_parent_of_where_a_link_led() -> None:
    files = pool(
        link("usr/share/new", "/opt/far/deep"), directory("opt/far/deep"), file("opt/far/x"), file("usr/share/x")
    )
    resolved = files.resolve("usr/share/new/../x")
    assert resolved.path == "opt/far/x"
    assert resolved.through == ("opt/far/deep",)


def test_dot_dot_in_a_links_target_starts_where_the_link_lies() -> None:
    files = pool(
        link("usr/share/new", "old"), directory("usr/share/old"), link("usr/share/old/y", "../x"), file("usr/share/x")
    )
    assert files.resolve("usr/share/new/y").path == "usr/share/x"
    assert files.resolve("../../usr/share/x").path == "usr/share/x"


def test_dot_dot_out_of_what_is_not_there_leads_nowhere() -> None:
    assert pool(file("usr/bin/x")).resolve("usr/nothing/../bin/x").path is None


def test_a_loop_leads_nowhere() -> None:
    files = pool(link("usr/a", "b"), link("usr/b", "a"))
    resolved = files.resolve("usr/a/x")
    assert (resolved.path, resolved.end, resolved.followed) == (None, "", False)


def test_a_chain_as_long_as_the_kernel_follows() -> None:
    links = [link(f"l{number}", f"l{number + 1}") for number in range(41)]
    files = pool(*links, file("l41"))
    assert files.resolve("l1").path == "l41"
    assert files.resolve("l0").path is None


@pytest.mark.parametrize("target", ["/run/systemd/resolve/stub.conf", "../run/x", "/dev/null", "../proc/self/mounts"])
def test_what_exists_only_at_boot(target: str) -> None:
    resolved = pool(link("etc/x", target)).resolve("etc/x")
    assert (resolved.path, resolved.at_boot, resolved.chain) == (None, True, ("etc/x",))


def test_a_dangling_link_names_where_it_would_lead() -> None:
    resolved = pool(link("etc/x", "y/z")).resolve("etc/x")
    assert (resolved.path, resolved.at_boot, resolved.end) == (None, False, "etc/y/z")


def test_a_directory_that_no_package_lists_is_there_when_files_are_in_it() -> None:
    assert pool(file("usr/share/x/y")).exists("usr/share/x")
    assert not pool(file("usr/share/x/y")).exists("usr/share/z")


def test_declarations_win_and_stay_in_their_own_overlay() -> None:
    packages = pool(file("usr/bin/x"), file("usr/bin/y"))
    one, other = packages.overlay(), packages.overlay()
    one.declare("/bin/x", Declared("recipe", "y"))
    one.declare("opt/own/z", Declared("recipe"))
    assert one.resolve("usr/bin/x").path == "usr/bin/y"
    assert other.resolve("usr/bin/x").path == "usr/bin/x"
    assert one.listing("usr/bin") == ["x", "y"]
    assert one.listing("opt") == ["own"]
    assert one.exists("opt/own")
    assert other.listing("opt") == []


def test_globs() -> None:
    files = pool(*(file(path) for path in ("usr/lib/a.so", "usr/lib/b.so", "usr/lib/deep/c.so", "usr/lib/[x].so")))
    assert files.glob("/lib/*.so") == ["usr/lib/[x].so", "usr/lib/a.so", "usr/lib/b.so"]
    assert files.glob("usr/lib/**/*.so") == ["usr/lib/[x].so", "usr/lib/a.so", "usr/lib/b.so", "usr/lib/deep/c.so"]
    assert files.glob("usr/lib/[ab].so") == ["usr/lib/a.so", "usr/lib/b.so"]
    assert files.glob("usr/lib/[!a].so") == ["usr/lib/b.so"]
    assert files.glob("usr/lib/?.so") == ["usr/lib/a.so", "usr/lib/b.so"]
    assert files.glob("usr/lib/[z-a].so") == []
    assert files.glob("usr/lib/a.so") == ["usr/lib/a.so"]
    assert files.glob("usr/lib/nothing") == []


@example("[?/]", "?")
@given(st.text("ab*?[]!^-/\\&~|.", max_size=12), st.text("ab*?[]/\\.", max_size=8))
def test_any_glob_is_a_pattern_and_none_crosses_a_slash_unasked(pattern: str, path: str) -> None:
    matched = glob_pattern(pattern).fullmatch(path)
    if matched and "**" not in pattern:
        assert pattern.count("/") == path.count("/")


NAMES = st.sampled_from(["a", "b", "c"])
TARGETS = st.lists(st.sampled_from(["a", "b", "c", "..", "."]), min_size=1, max_size=4).map("/".join)


@given(
    st.dictionaries(st.tuples(NAMES, NAMES).map("/".join), st.tuples(st.booleans(), TARGETS), max_size=8),
    st.lists(st.sampled_from(["a", "b", "c", ".."]), min_size=1, max_size=5).map("/".join),
)
def test_links_lead_where_the_kernel_follows_them(entries: dict[str, tuple[bool, str]], asked: str) -> None:
    """Against the kernel itself: the same links on a real file system, below a root that `..` can't leave."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        top = Path(name)
        for path, (absolute, target) in entries.items():
            (top / path).parent.mkdir(exist_ok=True)
            depth = len(Path(path).parts) - 1
            # An absolute link is written relative, because this root is not the process's root.
            (top / path).symlink_to("/".join([*[".."] * depth, clean(target)]) if absolute else target)
        for path in ("a", "b", "c"):
            (top / path).mkdir(exist_ok=True)
        infos = [directory(path) for path in ("a", "b", "c")]
        infos += [
            link(path, ("/" if absolute else "") + (clean(target) if absolute else target))
            for path, (absolute, target) in entries.items()
        ]
        resolved = Pool([index(infos)], {}).resolve(asked)
        real = os.path.realpath(top / asked)
        inside = real == str(top) or real.startswith(f"{top}/")
        if inside and not _leaves(top, asked) and (top / asked).exists():
            assert resolved.path == ("" if real == str(top) else os.path.relpath(real, top))


def _leaves(top: Path, asked: str) -> bool:
    """Return whether following the path would leave the directory that stands for the root."""
    here = top
    todo = asked.split("/")
    for _ in range(400):
        if not todo:
            return False
        name = todo.pop(0)
        if name == ".." and here == top:
            return True
        path = here / name
        if path.is_symlink():
            todo = str(path.readlink()).split("/") + todo
        else:
            here = here.parent if name == ".." else path if name != "." else here
    return False
