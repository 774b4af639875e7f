# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which values of a recipe are secrets: known by their names alone, so that every message can tell, also one about a
recipe that could not be read to its end."""

from __future__ import annotations

import re

from preroot.recipe.toml import Key

#: what the name of a key has in it whose value is never shown (`password-hash`, `chap-secret`)
SECRET_WORDS = ("password", "passphrase", "secret")
#: what stands for the value
HIDDEN = "(secret)"

#: crypt(5): `$ID$…`, as a password's hash begins that somebody wrote to the wrong key
_HASH = re.compile(r"\$[0-9a-z]{1,8}\$\S{8,}")


def is_secret_key(name: str | int) -> bool:
    """Return whether a key of this name holds a secret."""
    return isinstance(name, str) and any(word in name.lower() for word in SECRET_WORDS)


def holds_secret(key: Key, value: object) -> bool:
    """Return whether `value`, given for `key`, must not be shown: by the key's name, or because it looks like a hash
    or a private key."""
    if key and is_secret_key(key[-1]):
        return True
    return isinstance(value, str) and (bool(_HASH.search(value)) or "PRIVATE KEY-----" in value)
