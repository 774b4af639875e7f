# SPDX-License-Identifier: LGPL-2.1-or-later
"""Copyright files become licence expressions, as SPDX's own parser reads them."""

from __future__ import annotations

import functools
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from preroot.packages.copyright import _EXCEPTIONS, _IDENTIFIERS, UNKNOWN, identifier, read_licence

FILE = """Format: 1.0
Upstream-Name: x

Files: *
Copyright: 2001 Somebody
License: LGPL-2.1+

Files: a
Copyright: 2001 Somebody
License: GPL-2 or BSD-3-clause, and public-domain

Files: b
License: Own
# a comment, which ends nothing
 Do as you please.
 .
  But not on Sundays.

License: public-domain
 Nobody owns this.

License: LGPL-2.1+
 On Debian systems …
"""


@functools.cache
def spdx() -> Any:
    from license_expression import get_spdx_licensing  # type: ignore[import-untyped]

    return get_spdx_licensing()


def test_a_whole_file() -> None:
    found = read_licence(FILE)
    nobodys, own = found.texts
    assert (nobodys.name, nobodys.text) == ("public-domain", "Nobody owns this.")
    assert (own.name, own.text) == ("Own", "Do as you please.\n\n But not on Sundays.")
    assert nobodys.reference == f"LicenseRef-public-domain-{sha256(b'Nobody owns this.').hexdigest()[:8]}"
    assert found.expression == (
        f"LGPL-2.1-or-later AND (GPL-2.0-only OR BSD-3-Clause) AND {nobodys.reference} AND {own.reference}"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("GPL-2", "GPL-2.0-only"), ("GPL-2+", "GPL-2.0-or-later"), ("GPL-2.0+", "GPL-2.0-or-later"),
        ("LGPL-2.1", "LGPL-2.1-only"), ("LGPL-2", "LGPL-2.0-only"), ("AGPL-3+", "AGPL-3.0-or-later"),
        ("Expat", "MIT"), ("BSD-3-clause", "BSD-3-Clause"), ("zlib", "Zlib"), ("CC0-1.0", "CC0-1.0"),
        ("GPL-2 with Linux-syscall-note exception", "GPL-2.0-only WITH Linux-syscall-note"),
        ("GPL-3+ with Bison exception", "GPL-3.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2+ with own exception", ""), ("Expat with Bison exception", ""), ("GPL", ""), ("LGPL-2.7", ""),
        ("GPL-9", ""), ("MIT", ""), ("Artistic", ""), ("public-domain", ""), ("GPL-2+-or-X11", ""),
    ],
)  # fmt: skip
def test_short_names(name: str, expected: str) -> None:
    assert identifier(name) == expected


@pytest.mark.parametrize(
    ("synopsis", "expected"),
    [
        ("GPL-1+ or Expat", "GPL-1.0-or-later OR MIT"),
        ("GPL-1+ or Expat and ISC", "GPL-1.0-or-later OR (MIT AND ISC)"),
        ("GPL-1+ or Expat, and ISC", "(GPL-1.0-or-later OR MIT) AND ISC"),
        ("GPL-1+ and  Expat", "GPL-1.0-or-later AND MIT"),
        ("ISC or ISC", "ISC"),
    ],
)
def test_and_goes_before_or_unless_there_is_a_comma(synopsis: str, expected: str) -> None:
    assert read_licence(f"Format: x\n\nFiles: *\nLicense: {synopsis}\n").expression == expected


def test_every_identifier_is_one_of_spdx() -> None:
    names = [*_IDENTIFIERS, "GPL-1", "GPL-2+", "GPL-3", "LGPL-2", "LGPL-2.1+", "LGPL-3", "AGPL-1", "AGPL-3+"]
    names += [f"GPL-3+ with {each} exception" for each in _EXCEPTIONS]
    for name in names:
        info = spdx().validate(identifier(name))
        assert not info.errors, (name, info.errors)
        assert info.normalized_expression == identifier(name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "This package was debianized by somebody.\n",
        "Format: x\n",
        "\n\n",
        "Files: *\nLicense: GPL-2\n",
        "Format: x\n\nFiles: *\n",
    ],
)
def test_what_says_nothing(text: str) -> None:
    assert read_licence(text) == UNKNOWN


_LINES = st.lists(
    st.sampled_from(
        ["Format: x", "Files: *", "License:", "License: GPL-2+", " text", " .", "", "#", "License: a (b), and c"]
    )
    | st.text(max_size=20).map(lambda text: f"License: {text}"),
    max_size=12,
).map("\n".join)


@given(_LINES | st.text())
def test_anything_gives_an_expression_that_spdx_reads(text: str) -> None:
    found = read_licence("Format: x\n\n" + text)
    if found.expression:
        parsed = spdx().parse(found.expression)
        known = {each.reference for each in found.texts}
        assert {key for key in spdx().license_keys(parsed) if key.startswith("LicenseRef-")} <= known
        assert all(each.text for each in found.texts)
