# SPDX-License-Identifier: LGPL-2.1-or-later
"""crypttab(5) of an image: which files it refers to, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worlds import part

from preroot.packages.learn import learn
from preroot.packages.learn.crypttab import crypttab_problems, read_crypttab
from preroot.packages.model import PluginConfiguration
from preroot.recipe.schema import File, Recipe, Secret
from preroot.tree.plan import plan_part
from preroot.tree.pool import Pool


@pytest.mark.parametrize(
    ("line", "paths"),
    [
        ("root UUID=1 /etc/keys/root.key discard", ("/etc/keys/root.key",)),
        ("root UUID=1 - header=/etc/root.header,discard", ("/etc/root.header",)),
        ("root /images/root.img none", ("/images/root.img",)),
        ("root UUID=1 /root.key:LABEL=keys", ()),
        ("root UUID=1 /root.key:/dev/sdb1 header=/h:UUID=2", ()),
        ("root UUID=1 /etc/a:b", ("/etc/a:b",)),  # no device: part of the name
        ("root /dev/sda2 /dev/urandom", ()),
        ("root UUID=1 /run/keys/socket", ()),
        ("# root UUID=1 /etc/root.key", ()),
        ("root UUID=1", ()),
        ("root", ()),
        ("", ()),
    ],
)
def test_files_of_the_image(line: str, paths: tuple[str, ...]) -> None:
    assert learn("etc/crypttab", 0o644, line.encode()) == PluginConfiguration((), (), paths)


@pytest.mark.parametrize(
    ("text", "flavour", "problem"),
    [
        ("root UUID=1 - discard,x-initrd.attach,tpm2-device=auto\n\n# x\n", "systemd", ""),
        ("root UUID=1 - discard,key-slot=1\n", "busybox", ""),
        ("root UUID=1 - discarded", "systemd", "'discarded' of crypttab(5) is known in a systemd part (did you"),
        ("root UUID=1 - swap", "systemd", "no option 'swap'"),
        ("root UUID=1 - discard=1", "systemd", "no option 'discard=1'"),
        ("root UUID=1 - header", "systemd", "no option 'header'"),
        ("root UUID=1 - tpm2-device=auto", "busybox", "is known in a busybox part"),
        ("\nroot", "systemd", "/etc/crypttab:2: a volume has two to four fields"),
        ("root UUID=1 - discard x", "systemd", "this one has 5"),
        ("a/b UUID=1", "systemd", "'a/b' can't be the name of a volume"),
        ("a UUID=1\n#\na UUID=2", "systemd", "/etc/crypttab:3: the volume 'a' is there twice, in line 1 too"),
    ],
)  # fmt: skip
def test_problems(text: str, flavour: str, problem: str) -> None:
    found = crypttab_problems(text, flavour)
    assert (len(found) == 1 and problem in found[0]) if problem else not found, found


def test_what_a_crypttab_names_must_be_in_the_image() -> None:
    def problems(line: str, *secrets: Secret) -> tuple[str, ...]:
        recipe = Recipe(file=(File("etc/crypttab", content=f"{line}\n"),), secret=secrets)
        return plan_part(part(recipe=recipe, is_default=True), Pool([], {})).problems

    keyed = "root UUID=1 /etc/keys/root.key discard"
    assert any("etc/keys/root.key" in each and "etc/crypttab" in each for each in problems(keyed))
    assert problems(keyed, Secret("/etc/keys/root.key", "k")) == ()
    assert any("no option 'discrad'" in each for each in problems("root UUID=1 - discrad"))


@given(st.text())
def test_random_text_raises_nothing(text: str) -> None:
    read_crypttab(text.encode("utf-8", "surrogatepass"))
    crypttab_problems(text, "systemd")
