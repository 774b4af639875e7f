# SPDX-License-Identifier: LGPL-2.1-or-later
"""The command line's words, and its translation: by the table and the shells that run it in images."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preroot.engine.cmdline import cmdline_warnings
from preroot.errors import RecipeError
from preroot.recipe.cmdline import Word, is_option, problem_of, template, words
from preroot.recipe.conditions import Chosen
from preroot.recipe.features import Cmdline, Content, Feature, Variant
from preroot.recipe.library import check_feature, load_features
from preroot.recipe.schema import Access, Recipe
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.tree.cmdline import cmdline_table, effective

HELPER = Path(__file__).parents[2] / "src/preroot/runtime/helpers/cmdline.sh"
SHELLS = (["dash"], ["busybox", "sh"])


def run(shell: Sequence[str], script: str, *arguments: str, table: str = "") -> tuple[str, str]:
    """Return what the script prints after the helper and the table, and what is noted (on standard error)."""
    note = 'cmdline_note() { printf "%s: %s\\n" "$cmdline_bare" "$1" >&2; }\n'
    text = f"set -eu\n{HELPER.read_text()}\n{note}{table}\ncmdline=$1; shift\n{script}\n"
    done = subprocess.run(
        [*shell, "-c", text, "sh", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def translated(shell: Sequence[str], entries: Sequence[Cmdline], cmdline: str) -> str:
    made = cmdline_table(effective(entries, "locked"))
    return run(shell, 'cmdline_normalise; printf %s "$cmdline"', cmdline, table=made)[0]


def reference(entries: Sequence[Cmdline], cmdline: str) -> str:
    """Return what the table makes of a command line, by other means: regular expressions."""

    def late(entry: Cmdline) -> bool:
        return any("." in place for target in entry.maps_to for place in template(target).places)

    def put(text: str) -> str:
        return f'"{text}"' if re.search(r"[\s']", text) else text

    def options(entry: Cmdline, word: Word, line: str) -> list[str] | None:
        if entry.ignored or entry.widens_access:
            return []
        if entry.flag:
            return list(entry.maps_to) if (word.value or "").lower() in ("1", "y", "yes", "t", "true", "on") or (
                word.value is None) else None  # fmt: skip
        if word.value is None:
            return None
        captured = {"value": word.value}
        if entry.value:
            form = template(entry.value)
            pattern = "(.*?)".join(map(re.escape, form.texts))
            found = re.fullmatch(pattern, word.value, re.DOTALL)
            if not found or not all(found.groups()):
                return None
            captured |= dict(zip(form.places, found.groups(), strict=True))
        made = []
        for target in entry.maps_to:
            text = re.sub(r"\{([^.{}]*)\}", lambda place: captured[place[1]], target)
            if across := re.search(r"\{([^{}]*\.[^{}]*)\}", target):
                before, after = (re.sub(r"\{([^.{}]*)\}", lambda place: captured[place[1]], each)
                                 for each in target.split(across[0]))  # fmt: skip
                made += [f"{before}{other.value.partition('=')[0]}{after}" for other in words(line)
                         if is_option(other.name, across[1]) and other.value is not None]  # fmt: skip
            else:
                made.append(text)
        return made or None

    for is_late in (False, True):
        new: list[str] = []
        for word in words(cmdline):
            for entry in entries:
                about = is_option(word.name, entry.name) and late(entry) == is_late
                if about and (made := options(entry, word, cmdline)) is not None:
                    new += map(put, made)
                    break
            else:
                new.append(word.raw)
        cmdline = " ".join(new)
    return cmdline


ENTRIES = (
    Cmdline("rd.skipfsck", flag=True, maps_to=("fsck.mode=skip",)),
    Cmdline("rd.wait_for", value="0", maps_to=("wait=infinity",)),
    Cmdline("rd.wait_for", maps_to=("wait={value}",)),
    Cmdline("rd.luks.uuid", value="luks-{uuid}", maps_to=("rd.luks.uuid={uuid}",)),
    Cmdline("rd.luks.key", value="/{path}:{device}:{luks}", maps_to=("rd.luks.key={luks}=/{path}:{device}",)),
    Cmdline("rd.luks.key", value="/{path}:{device}", maps_to=(
        "rd.luks.key={rd.luks.uuid}=/{path}:{device}", "rd.luks.key={rd.luks.name}=/{path}:{device}")),
    Cmdline("verity.usr", maps_to=("data={value}", "hash={value}")),
    Cmdline("x$y", value="a*{it}`", maps_to=("it's=\\{it}$HOME",)),
    Cmdline("gone", ignored="it's nothing"),
    Cmdline("shell.*", widens_access=True),
)  # fmt: skip

CASES = {
    "quiet ro": "quiet ro",
    "  ro\t\tquiet ": "ro quiet",
    "rd.skipfsck x": "fsck.mode=skip x",
    "rd.skipfsck=YES": "fsck.mode=skip",
    "rd.skipfsck=0": "rd.skipfsck=0",
    "rd.wait-for=0 rd.wait_for=5": "wait=infinity wait=5",
    "rd.wait_for": "rd.wait_for",
    "rd.wait_for=": "wait=",
    'rd.wait_for="a b" "rd.wait_for=c d"': '"wait=a b" "wait=c d"',
    'root="LABEL=my root" rd.skipfsck': 'root="LABEL=my root" fsck.mode=skip',
    "rd.luks.key=/k:UUID=1:42": "rd.luks.key=42=/k:UUID=1",
    "rd.luks.key=/k:UUID=1 rd.luks.uuid=luks-7 rd.luks.name=8=root":
        "rd.luks.key=7=/k:UUID=1 rd.luks.key=8=/k:UUID=1 rd.luks.uuid=7 rd.luks.name=8=root",
    "rd.luks.key=/k:UUID=1": "rd.luks.key=/k:UUID=1",  # for no volume that is named
    "rd.luks.key=/k": "rd.luks.key=/k",
    "rd.luks.key=/k:": "rd.luks.key=/k:",
    "verity.usr=PARTUUID=7": "data=PARTUUID=7 hash=PARTUUID=7",
    "x$y=a*b`": "\"it's=\\b$HOME\"",
    "x$y=aab`": "x$y=aab`",
    "gone=1 gone ro": "ro",
    "shell.x=1 shell. shell ro": "shell ro",
    "never=rd.skipfsck": "never=rd.skipfsck",
    'unbalanced="a rd.skipfsck': 'unbalanced="a rd.skipfsck',
    "": "",
    # systemd takes quotes of both kinds out of names
    """shell.'x'=1 sh"el"l.y 'shell.z=1' ro""": "ro",
}  # fmt: skip


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize("cmdline", CASES)
def test_translation(shell: list[str], cmdline: str) -> None:
    assert translated(shell, ENTRIES, cmdline) == CASES[cmdline]
    assert reference(ENTRIES, cmdline) == CASES[cmdline]


_PIECES = st.sampled_from([
    *(entry.name for entry in ENTRIES if "*" not in entry.name), "rd.luks.name", "root", "rd-wait.for",
    "luks-", "=", ":", "/", '"', " ",
    "'", "\\", "$", "*", "?", "[", "a", "0", "yes", "-", "_", "`", "\t", "ä", "#", ";", "\\n", "%s", "-n",
])  # fmt: skip
CMDLINES = st.lists(_PIECES, max_size=14).map("".join) | st.text(
    st.characters(codec="utf-8", exclude_characters="\0\n\r\x85\v\f", exclude_categories=("Cs", "Zs", "Zl", "Zp")),
    max_size=40,
)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@settings(max_examples=150, deadline=None)
@given(CMDLINES)
def test_any_command_line_is_translated_as_the_reference_does(shell: list[str], cmdline: str) -> None:
    assert translated(shell, ENTRIES, cmdline) == reference(ENTRIES, cmdline)


@settings(max_examples=60, deadline=None)
@given(CMDLINES)
def test_what_is_translated_is_seen_at_a_glance(cmdline: str) -> None:
    """Where cmdline_is_foreign says no, nothing is translated: the words are not even looked at then."""
    made = cmdline_table(effective(ENTRIES, "locked"))
    if run(SHELLS[0], 'cmdline_is_foreign "$cmdline" || echo no', cmdline, table=made)[0]:
        assert reference(ENTRIES, cmdline) == " ".join(word.raw for word in words(cmdline))


@settings(max_examples=60, deadline=None)
@given(CMDLINES)
def test_shell_and_program_agree_about_words(cmdline: str) -> None:
    script = 'cmdline_rest=$cmdline; while cmdline_next; do printf "%s\\n" "$cmdline_word" "$cmdline_name"; done'
    expected = "".join(f"{word.raw}\n{word.name}\n" for word in words(cmdline))
    assert {run(shell, script, cmdline)[0] for shell in SHELLS} == {expected}


@given(CMDLINES)
def test_what_is_not_translated_stays_as_it_is(cmdline: str) -> None:
    assert words(reference((), cmdline)) == words(cmdline)


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
def test_what_is_taken_away_is_told(shell: list[str]) -> None:
    made = cmdline_table(effective(ENTRIES, "locked"))
    noted = run(shell, "cmdline_normalise", "gone=1 shell.open=2", table=made)[1]
    assert noted == "gone=1: ignored: it's nothing\nshell.open=2: taken away, the access policy forbids it\n"


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(
    ("script", "cmdline", "printed"),
    [
        ("cmdline_value root", 'root=a "root=b c"', "b c\n"),
        ("cmdline_value root || echo none", "rootx=a root", "none\n"),
        ("cmdline_value rd.a-b", "rd.a_b=1", "1\n"),
        ("cmdline_values rd.v", "rd.v=1 x rd.v=2=3", "1\n2=3\n"),
        ("cmdline_value root", 'root=LABEL="my  root"', "LABEL=my  root\n"),
        ("cmdline_value root || echo none", "xroot=1 root.x=2", "none\n"),
        ("cmdline_value root", "root=", "\n"),
        ("cmdline_last ro rw", "ro rw", "rw\n"),
        ("cmdline_last ro rw", "rw quiet ro", "ro\n"),
        ("cmdline_last ro rw || echo none", '"x rw y"', "none\n"),
        ("cmdline_has rw && echo yes", "ro rw", "yes\n"),
        ("cmdline_has rw || echo no", "x=rw rwx", "no\n"),
        ("cmdline_true a && echo yes", "a=0 a", "yes\n"),
        ("cmdline_true a || echo no", "a a=off", "no\n"),
        ("cmdline_true a yes && echo yes", "b", "yes\n"),
        ("cmdline_is_foreign 'x rd.skipfsck' && echo yes", "", "yes\n"),
        ("cmdline_is_foreign 'rd.luks.key=/x' && echo yes", "", "yes\n"),
        ("""cmdline_is_foreign 'sh"el"l.y' && echo yes""", "", "yes\n"),
        ("""cmdline_is_foreign "shel'l'.y" && echo yes""", "", "yes\n"),
        ("cmdline_is_foreign 'root=x quiet' || echo no", "", "no\n"),
    ],
)
def test_questions(shell: list[str], script: str, cmdline: str, printed: str) -> None:
    made = cmdline_table(effective(ENTRIES, "locked"))
    assert run(shell, script, cmdline, table=made)[0] == printed


def test_the_policy_decides_what_is_taken_away() -> None:
    opening = Cmdline("shell.*", widens_access=True)
    assert effective([opening], "open") == ()
    assert effective([opening], "password") == effective([opening], "locked") == (opening,)


def test_what_a_feature_implements_is_not_ignored() -> None:
    ignored, own = Cmdline("rd.retry", ignored="why"), Cmdline("rd.retry", by="preroot")
    assert effective([ignored, own], "locked") == ()


@pytest.mark.parametrize(
    ("entry", "words_of_it"),
    [
        (Cmdline("a b"), "has a blank"),
        (Cmdline("a=b"), "has a blank, a quote or ="),
        (Cmdline("a", maps_to=("x",), ignored="y"), "only have one of"),
        (Cmdline("a.*", maps_to=("x",)), "stands for several options"),
        (Cmdline("a", value="{x}"), "no maps-to"),
        (Cmdline("a", value="x", flag=True, maps_to=("b",)), "is a flag"),
        (Cmdline("a", value="{x}{y}", maps_to=("b",)), "nothing is between"),
        (Cmdline("a", value="{x}:{x}", maps_to=("b",)), "has a name twice"),
        (Cmdline("a", maps_to=("b c",)), "is not one option"),
        (Cmdline("a", maps_to=("",)), "is not one option"),
        (Cmdline("a", maps_to=("b={c}",)), "has no part 'c'"),
        (Cmdline("a", flag=True, maps_to=("b={value}",)), "has no part 'value'"),
        (Cmdline("a", maps_to=("{b.c}={d.e}",)), "values of two options"),
    ],
)
def test_wrong_entries_are_refused(entry: Cmdline, words_of_it: str) -> None:
    assert words_of_it in problem_of(entry)
    with pytest.raises(RecipeError, match=words_of_it):
        check_feature("f", Feature(cmdline=(entry,)), lambda key: "f.toml:1")


def test_the_tables_of_the_built_in_features_are_sound_shell(tmp_path: Path, shellcheck: Callable[[str], str]) -> None:
    library = load_features(SearchPath((BUILT_IN,)))
    contents = [content for name in library for content in (library[name], *library[name].variant)]
    entries = [entry for content in contents for entry in content.cmdline]
    assert any(entry.maps_to for entry in entries)
    assert shellcheck(cmdline_table(effective(entries, "locked"))) == ""
    assert shellcheck(cmdline_table(ENTRIES)) == ""


LIBRARY = {
    "systemd": Feature(cmdline=(Cmdline("root"), Cmdline("rd.systemd.*"), Cmdline("systemd.*"),
                                Cmdline("rd.systemd.break", since=258))),
    "lvm": Feature(cmdline=(Cmdline("rd.lvm.vg", by="preroot"), Cmdline("resume"))),
    "raid": Feature(variant=(Variant(cmdline=(Cmdline("resume"), Cmdline("rd.md-uuid"))),)),
}  # fmt: skip


@pytest.mark.parametrize(
    ("cmdline", "said"),
    [
        (("root=UUID=1", "quiet console=ttyS0", "systemd.unit=x", "i915.modeset=0", "rd.systemd.x"), ()),
        (("rd.lvm.vg=a rd.lvm.vg=b",),
         ("rd.lvm.vg of the recipe's cmdline has no effect: the feature lvm would understand it "
          "(add 'lvm' to the features of a part)",)),
        (("resume=/dev/vda2",),
         ("resume of the recipe's cmdline has no effect: the features lvm, raid would understand it "
          "(add 'lvm' or 'raid' to the features of a part)",)),
        (("rd.md_uuid=1",),
         ("rd.md_uuid of the recipe's cmdline has no effect: the feature raid would understand it "
          "(add 'raid' to the features of a part)",)),
        (("rd.lvm.vh=x",),
         ("rd.lvm.vh of the recipe's cmdline has no effect: no feature understands it (did you mean 'rd.lvm.vg'?)",)),
        (("rd.nobody",),
         ("rd.nobody of the recipe's cmdline has no effect: no feature understands it "
          "(docs/cmdline.md lists what there is)",)),
    ],
)  # fmt: skip
def test_what_no_feature_understands_is_named(cmdline: tuple[str, ...], said: tuple[str, ...]) -> None:
    chosen = [Chosen("systemd", "", {}, Content(cmdline=LIBRARY["systemd"].cmdline[:3]))]
    assert cmdline_warnings(Recipe(cmdline=cmdline), chosen, LIBRARY, {"systemd": "257.9-1~deb13u1"}) == said


def test_what_is_also_for_the_real_root_is_not_named() -> None:
    assert cmdline_warnings(Recipe(cmdline=("systemd.unit=x",)), [], LIBRARY, {}) == ()
    assert len(cmdline_warnings(Recipe(cmdline=("rd.systemd.unit=x",)), [], LIBRARY, {})) == 1


def test_what_is_taken_away_is_named() -> None:
    chosen = [Chosen("a", "", {}, Content(cmdline=(
        Cmdline("shell.*", widens_access=True), Cmdline("gone", ignored="it is nothing"),
        Cmdline("rd.break", value="mount", maps_to=("rd.break=mount",)), Cmdline("rd.break", ignored="no such point"),
    )))]  # fmt: skip
    cmdline = ("shell.x=1", "gone", "rd.break=mount")
    assert cmdline_warnings(Recipe(cmdline=cmdline), chosen, {}, {}) == (
        "shell.x of the recipe's cmdline has no effect: it could give a shell, and access.policy is locked",
        "gone of the recipe's cmdline has no effect: it is nothing",
    )
    assert len(cmdline_warnings(Recipe(cmdline=cmdline, access=Access(policy="open")), chosen, {}, {})) == 1


def test_an_option_that_is_too_new_is_named() -> None:
    chosen = [Chosen("systemd", "", {}, Content(cmdline=(Cmdline("rd.systemd.break", since=258),)))]
    found = cmdline_warnings(Recipe(cmdline=("rd.systemd.break",)), chosen, LIBRARY, {"systemd": "257.9-1~deb13u1"})
    assert found == (
        "rd.systemd.break of the recipe's cmdline has no effect: systemd has it since 258, and the image has "
        "257.9-1~deb13u1",
    )
    assert cmdline_warnings(Recipe(cmdline=("rd.systemd.break",)), chosen, LIBRARY, {"systemd": "258~rc1-1"}) == ()
    assert cmdline_warnings(Recipe(cmdline=("rd.systemd.break",)), chosen, LIBRARY, {}) == ()


@pytest.fixture
def shellcheck(tmp_path: Path) -> Callable[[str], str]:
    def check(text: str) -> str:
        file = tmp_path / "table"
        file.write_text(text)
        return subprocess.run(["shellcheck", file], capture_output=True, text=True, check=False).stdout

    return check
