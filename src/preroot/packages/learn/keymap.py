# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a console keymap includes, read by keymaps(5) and libkeymap/analyze.l of kbd 2.7."""

from __future__ import annotations

import re

from preroot.packages.codec import CODECS, CodecError, decompress
from preroot.packages.model import Keymap

#: More than any keymap; a larger file is none.
_LARGEST = 1 << 20
_INCLUDE = re.compile(r'^[ \t]*include[ \t]*"([^"\n]+)"', re.MULTILINE)
#: `compose as usual for "latin1"` includes the file compose.latin1
_COMPOSE = re.compile(r'^[ \t]*compose[ \t]+as[ \t]+usual[ \t]+for[ \t]+"(?:iso-8859-)?([^"\n]+)"', re.MULTILINE)
_LATIN = {"1": "latin1", "2": "latin2", "3": "latin3", "4": "latin4"}


def read_keymap(path: str, data: bytes) -> Keymap | None:
    """Read which files a keymap includes, in their order.

    Arguments: path in the package, whose suffix says how it is compressed, and content. Returns None when it can't be
    decompressed. Never raises.
    """
    suffix = path.rpartition(".")[2]
    if suffix in CODECS:
        try:
            data = decompress(data, suffix, limit=_LARGEST)
        except CodecError:
            return None
    text = data.decode("latin-1")
    composed = [f"compose.{_LATIN.get(name, name)}" for name in _COMPOSE.findall(text)]
    return Keymap(tuple(dict.fromkeys([*_INCLUDE.findall(text), *composed])))
