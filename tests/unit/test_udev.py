# SPDX-License-Identifier: LGPL-2.1-or-later
"""udev rules: what they refer to, by udev(7)."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.packages.learn import learn
from preroot.packages.learn.udev import read_rules
from preroot.packages.model import UdevRules

RULES = rb"""# comment with RUN+="lost"
ACTION=="add", SUBSYSTEM=="block", RUN+="/usr/bin/one --a $devnode"
IMPORT{program}="two %k", PROGRAM=="three" , RUN{program}+="one more"
IMPORT{builtin}="blkid", RUN{builtin}+="kmod load $env{MODALIAS}", RUN{builtin}+="kmod load x"
KERNEL=="a", \
  # comment inside
  RUN+="begun \
# comment within a value
and ended", \
  OWNER="tss", GROUP="disk", \
  MODE="0660"
OWNER="0", GROUP="$env{X}", OWNER=="not-assigned", GROUP:="kvm"
ENV{SYSTEMD_WANTS}+="a.service b@%k.service", ENV{SYSTEMD_WANTS}=="matched.service", ENV{SYSTEMD_WANTS}-="gone.service"
ENV{SYSTEMD_USER_WANTS}+="sound.target", ENV{SYSTEMD_WANTS}=""
RUN+="quote \"inside\" \x20", RUN+=e"escaped \"\x2f\u0041\\"
RUN-="/usr/bin/removed", RUN+=i"i-string"
KERNEL=="b"RUN+="no comma"   GROUP="tape"
RUN+="before" nonsense RUN+="after"
RUN+="unclosed
KERNEL=="c", RUN+="cut off" \
"""


def test_references() -> None:
    assert read_rules(RULES) == UdevRules(
        programs=("/usr/bin/one --a $devnode", "two %k", "three", "one more", "begun and ended",
                  'quote "inside" \\x20', 'escaped "/A\\',
                  "i-string", "no comma", "before"),
        builtins=("blkid", "kmod"), users=("tss",), groups=("disk", "kvm", "tape"),
        units=("a.service", "b@%k.service"),
    )  # fmt: skip


def test_a_backslash_before_the_closing_quote_escapes_it_in_plain_strings() -> None:
    """udev-rules.c knows one escape in a plain string, so a double backslash is no pair there; in e"" it is."""
    assert read_rules(rb'RUN+="a\\", RUN+="b"').programs == ('a\\", RUN+=',)
    assert read_rules(rb'RUN+=e"a\\", RUN+="b"').programs == ("a\\", "b")


PLAIN = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters='\\"'), min_size=1).filter(
    lambda text: bool(text.strip())
)


@given(st.lists(PLAIN, unique=True))
def test_what_was_written_is_read_back(programs: list[str]) -> None:
    text = "".join(f'ACTION=="add", RUN+="{program}"\n' for program in programs)
    assert read_rules(text.encode()).programs == tuple(programs)


@given(st.binary())
def test_random_bytes_raise_nothing_and_can_be_kept(noise: bytes) -> None:
    for data in (noise, b'RUN+=e"' + noise + b'"', b'ENV{SYSTEMD_WANTS}+="' + noise + b'"'):
        rules = read_rules(data)
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(rules), type=UdevRules) == rules


def test_quotes_without_end_cost_no_more_than_their_length() -> None:
    assert read_rules(b'RUN+="' + b'\\"' * 200_000).programs == ()
    assert read_rules(b'A="",' * 50_000 + b"RUN+=").programs == ()


@pytest.mark.parametrize(
    "path", ["usr/lib/udev/rules.d/1.rules", "lib/udev/rules.d/1.rules", "etc/udev/rules.d/1.rules"]
)
def test_where_rules_are(path: str) -> None:
    assert isinstance(learn(path, 0o644, b""), UdevRules)
    assert learn(path.replace("rules.d", "hwdb.d"), 0o644, b"") is None
