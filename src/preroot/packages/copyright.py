# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a package's copyright file says of its licence, as an SPDX licence expression.

Source: Debian's machine-readable copyright format 1.0 (copyright-format/1.0, "DEP-5"), and SPDX 2.3 annex D for
expressions. A short name that SPDX has under another one is translated; any other becomes a reference (`LicenseRef-…`)
with the text that the file has for it. Files in free text say nothing here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from hashlib import sha256

from msgspec import Struct

#: Short names (in lower case, without `+`) → identifiers of SPDX, where these are one licence without doubt. Of GNU's
#: licences the version and `+` are read apart. Not here, as they are several licences each: MIT, Artistic, GPL, BSD.
_IDENTIFIERS = {
    each.lower(): each
    for each in (
        "0BSD", "AFL-2.1", "Apache-1.0", "Apache-1.1", "Apache-2.0", "Artistic-2.0", "Beerware", "BSD-2-Clause",
        "BSD-3-Clause", "BSD-4-Clause", "BSD-4-Clause-UC", "BSL-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0",
        "CC-BY-SA-4.0", "CC0-1.0", "CDDL-1.0", "CPL-1.0", "curl", "EFL-2.0", "EPL-1.0", "EPL-2.0", "FSFAP", "FSFUL",
        "FSFULLR", "FTL", "HPND", "ICU", "IJG", "ISC", "Latex2e", "LPPL-1.3c", "MIT-0", "MPL-1.1", "MPL-2.0", "MS-PL",
        "NTP", "OFL-1.1", "OpenSSL", "PostgreSQL", "Python-2.0", "QPL-1.0", "Sleepycat", "Unicode-DFS-2015",
        "Unicode-DFS-2016", "Unlicense", "W3C", "WTFPL", "X11", "Zlib", "ZPL-2.1",
    )
} | {"expat": "MIT", "apache-2": "Apache-2.0", "zope-2.1": "ZPL-2.1", "mit-1": "MIT"}  # fmt: skip
_GNU = re.compile(r"(A?GPL|LGPL)-?(\d)(\.\d)?(?:\.0)?(\+)?", re.IGNORECASE)
#: what GNU's licences there are by these names
_GNU_VERSIONS = {"GPL-1.0", "GPL-2.0", "GPL-3.0", "LGPL-2.0", "LGPL-2.1", "LGPL-3.0", "AGPL-1.0", "AGPL-3.0"}
#: words before `exception` (in lower case) → identifiers of SPDX's exceptions
_EXCEPTIONS = {
    "linux-syscall-note": "Linux-syscall-note", "bison": "Bison-exception-2.2", "texinfo": "Texinfo-exception",
    "classpath": "Classpath-exception-2.0", "font": "Font-exception-2.0", "libtool": "Libtool-exception",
}  # fmt: skip
_FIELD = re.compile(r"([A-Za-z][A-Za-z0-9-]*):[ \t]*(.*)")


class LicenceText(Struct, frozen=True):
    """A licence that SPDX has no identifier for: the reference to it, its name in the copyright file, and its text."""

    reference: str
    name: str
    text: str


class Licence(Struct, frozen=True):
    """What a copyright file says: an SPDX expression ('' where that can't be told), and the texts that it refers to."""

    expression: str = ""
    texts: tuple[LicenceText, ...] = ()


UNKNOWN = Licence()


def read_licence(text: str) -> Licence:
    """Return the licence of all that a copyright file is about: of the whole source package, in its order.

    UNKNOWN for a file in free text, and for one without any `License` field.
    """
    paragraphs = list(_paragraphs(text))
    if not paragraphs or "format" not in paragraphs[0]:
        return UNKNOWN
    texts: dict[str, str] = {}
    names: dict[str, None] = {}
    for paragraph in paragraphs:
        name, _, body = paragraph.get("license", "").partition("\n")
        if not name.strip():
            continue
        if body.strip():
            texts.setdefault(name.strip(), _unescaped(body))
        if "files" in paragraph:
            names[name.strip()] = None
    names = names or dict.fromkeys(texts)
    made = _Expressions(texts)
    whole = _all(" AND ", [made.parse(name) for name in names])
    return Licence(_written(whole) if names else "", tuple(made.used.values()))


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of deb822(5) text: field (in lower case) → value, with its line breaks."""
    fields: dict[str, str] = {}
    last = ""
    for line in [*text.splitlines(), ""]:
        if not line.strip():
            if fields:
                yield fields
            fields, last = {}, ""
        elif line[0] in " \t":
            if last:
                fields[last] += "\n" + line[1:].rstrip()
        elif line[0] != "#":
            found = _FIELD.match(line)
            last = found[1].lower() if found else ""
            if found:
                fields[last] = found[2].strip()


def _unescaped(body: str) -> str:
    """Return a formatted text without what stands for its empty lines (deb-control(5), Description)."""
    return "\n".join("" if line.strip() == "." else line for line in body.split("\n")).strip("\n")


class _Joined(Struct, frozen=True):
    """Several expressions with one operator between them."""

    operator: str
    parts: tuple[str | _Joined, ...]


def _all(operator: str, parts: Iterable[str | _Joined]) -> str | _Joined:
    """Return expressions joined by an operator, each once; what is joined by the same one already is taken apart."""
    found: dict[str | _Joined, None] = {}
    for part in parts:
        inner = part.parts if isinstance(part, _Joined) and part.operator == operator else (part,)
        found |= dict.fromkeys(inner)
    return next(iter(found)) if len(found) == 1 else _Joined(operator, tuple(found))


def _written(expression: str | _Joined) -> str:
    """Return an expression as SPDX has it; what is inside another is in brackets."""
    if isinstance(expression, str):
        return expression
    parts = ((part, _written(part)) for part in expression.parts)
    return expression.operator.join(text if isinstance(part, str) else f"({text})" for part, text in parts)


class _Expressions:
    """Makes expressions, and collects the texts that they refer to."""

    def __init__(self, texts: dict[str, str]) -> None:
        self._texts = texts
        self.used: dict[str, LicenceText] = {}

    def parse(self, synopsis: str) -> str | _Joined:
        """Return the expression for the first line of a `License` field.

        `and` goes before `or`, unless there is a comma before it (copyright-format/1.0, "License specification").
        """
        return self._split(" ".join(synopsis.split()), (r",\s+or\s+", r",\s+and\s+", r"\s+or\s+", r"\s+and\s+"))

    def _split(self, text: str, separators: tuple[str, ...]) -> str | _Joined:
        if not separators:
            return self._single(text)
        parts = [each for each in re.split(separators[0], text, flags=re.IGNORECASE) if each]
        operator = " AND " if "and" in separators[0] else " OR "
        return _all(operator, [self._split(each, separators[1:]) for each in parts or [text]])

    def _single(self, name: str) -> str:
        known = identifier(name)
        if known:
            return known
        text = self._texts.get(name) or f"{name}\n(the copyright file has the name alone)"
        # licences of one name differ from package to package (public-domain, BSD of somebody)
        mark = sha256(text.encode("utf-8", "replace")).hexdigest()[:8]
        reference = f"LicenseRef-{re.sub(r'[^A-Za-z0-9.]+', '-', name).strip('-.') or 'unnamed'}-{mark}"
        self.used[reference] = LicenceText(reference, name, text)
        return reference


def identifier(name: str) -> str:
    """Return the SPDX expression of one short name, exception included, or '' where that is not beyond doubt."""
    licence, with_, exception = name.partition(" with ")
    known = _gnu(licence) or _IDENTIFIERS.get(licence.strip().lower(), "")
    if not with_ or not known:
        return known if not with_ else ""
    words = exception.strip().lower().removesuffix(" exception").removesuffix("-exception").strip()
    return f"{known} WITH {_EXCEPTIONS[words]}" if words in _EXCEPTIONS and _gnu(licence) else ""


def _gnu(name: str) -> str:
    """Return the identifier of one of GNU's licences with a version: `GPL-2+` is GPL-2.0-or-later."""
    found = _GNU.fullmatch(name.strip())
    if not found:
        return ""
    known = f"{found[1].upper()}-{found[2]}{found[3] or '.0'}"
    return f"{known}-{'or-later' if found[4] else 'only'}" if known in _GNU_VERSIONS else ""
