# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot.lock`: reading, writing and comparing it.

JSON with sorted keys, one package a line, so that differences read well. A lock may come from a stranger's
repository: nothing in it can name a path outside a mirror or an option of a program.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from preroot.errors import BuildError, RecipeError
from preroot.packages.model import Lock, Package
from preroot.recipe.schema import Distribution
from preroot.staging import Staging

#: format of the file; another one does not fit
FORMAT = 1

_AGAIN = "`preroot lock --update` makes a new one"


def read_lock(path: Path) -> Lock:
    """Return the lock in the file `path`.

    Raises RecipeError naming the file and the key when it is no lock, BuildError when it cannot be read.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BuildError(f"cannot read the lock {path}: {error.strerror}") from None
    try:
        lock = msgspec.json.decode(data, type=Lock)
    except msgspec.ValidationError as error:
        raise RecipeError(f"{path}: {_described(error)}", _AGAIN) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: not JSON: {error}", _AGAIN) from None
    for key, problem in _problems(lock):
        raise RecipeError(f"{path}: {key}: {problem}", _AGAIN)
    return lock


def _described(error: msgspec.ValidationError) -> str:
    """Return msgspec's `Expected …, got … - at `$.packages[0].size`` as `packages[0].size: expected …, got …`."""
    what, _, where = str(error).partition(" - at `$")
    what = what[:1].lower() + what[1:]
    key = where.rstrip("`").lstrip(".")
    return f"{key}: {what}" if key else what


def _problems(lock: Lock) -> Iterator[tuple[str, str]]:
    """Yield (key, problem) for what the types do not say."""
    import re

    digest = re.compile(r"[0-9a-f]{64}")
    name = re.compile(r"[A-Za-z0-9_][A-Za-z0-9+._-]*")
    version = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+:~^_-]*")
    if lock.format != FORMAT:
        yield "format", f"{lock.format} is not the format of this preroot, {FORMAT}"
    for place, each in enumerate(lock.local):
        for field, pattern in (("name", name), ("version", version), ("sha256", digest)):
            if not pattern.fullmatch(getattr(each, field)):
                yield f"local[{place}].{field}", f"{getattr(each, field)!r} cannot be right"
    seen: set[tuple[str, str]] = set()
    for place, package in enumerate(lock.packages):
        key = f"packages[{place}]"
        for field, pattern in (("name", name), ("version", version), ("arch", name), ("sha256", digest)):
            if not pattern.fullmatch(getattr(package, field)):
                yield f"{key}.{field}", f"{getattr(package, field)!r} cannot be right"
        if not _is_relative(package.filename):
            yield f"{key}.filename", f"{package.filename!r} is not a path below a mirror"
        for field in ("size", "repository"):
            if getattr(package, field) < 0:
                yield f"{key}.{field}", f"{getattr(package, field)} is negative"
        if (package.name, package.arch) in seen:
            yield key, f"{package.name} ({package.arch}) is there twice"
        seen.add((package.name, package.arch))


def _is_relative(filename: str) -> bool:
    return bool(filename) and filename.isprintable() and not {"", ".", ".."} & set(filename.split("/"))


def render_lock(lock: Lock) -> bytes:
    """Return the lock as it is written: keys sorted, one entry of each table and one package a line."""
    lines = []
    plain: dict[str, Any] = msgspec.to_builtins(lock)
    for key, value in sorted(plain.items()):
        if key == "packages":
            ordered = sorted(value, key=lambda package: (package["name"], package["arch"], package["version"]))
            body = _block("[", [_json(package) for package in ordered], "]")
        elif key == "local":
            body = _block("[", [_json(package) for package in sorted(value, key=lambda each: each["name"])], "]")
        elif isinstance(value, dict):
            body = _block("{", [f"{_json(name)}: {_json(value[name])}" for name in sorted(value)], "}")
        else:
            body = _json(value)
        lines.append(f" {_json(key)}: {body}")
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _block(opening: str, entries: Sequence[str], closing: str) -> str:
    return f"{opening}\n  " + ",\n  ".join(entries) + f"\n {closing}" if entries else opening + closing


def _json(value: Any) -> str:
    return msgspec.json.encode(value, order="sorted").decode()


def write_lock(path: Path, lock: Lock) -> None:
    """Write `lock` to `path`: aside, then renamed; a file that says the same already is not touched.

    Raises BuildError when it cannot be written.
    """
    with Staging() as staging:
        stage_lock(path, lock, staging)
        staging.commit()


def stage_lock(path: Path, lock: Lock, staging: Staging) -> None:
    """Write `lock` aside; it is at `path` when `staging` is committed. Raises BuildError as `write_lock` does."""
    staging.write(path, render_lock(lock), what="the lock ")


def request_digest(distribution: Distribution, requests: Sequence[str]) -> str:
    """Return the SHA-256 of exactly the values that decide a resolution.

    Of the table: all but how the archive is reached and checked (mirror, URLs before suites, proxy, certificates,
    keyring), for these differ between machines that share a lock. The order of the requests does not count.
    """
    import hashlib

    suites = [suite.split()[-1] if suite.split() else "" for suite in distribution.suites]
    deciding = {
        "name": distribution.name,
        "release": distribution.release,
        "arch": distribution.arch,
        "source": distribution.source,
        "suites": suites,
        "components": distribution.components,
        "snapshot": distribution.snapshot,
        "requests": sorted(set(requests)),
    }
    return hashlib.sha256(msgspec.json.encode(deciding, order="sorted")).hexdigest()


def fits(lock: Lock, request: str) -> str | None:
    """Return why `lock` does not fit a recipe with this request_digest, or None when it fits."""
    if lock.format != FORMAT:
        return f"the lock has format {lock.format}, this preroot writes {FORMAT}"
    if lock.request != request:
        made_for = f"{lock.distribution} {lock.release} {lock.arch}"
        return f"the recipe asks for other packages than the lock (made for {made_for}) answers"
    return None


def lock_diff(old: Lock, new: Lock) -> list[tuple[str, str, str]]:
    """Return (name, old version, new version) of the packages whose bytes differ, sorted by name.

    A version that is not there is ''. Two equal versions: the package was rebuilt without a new one. A package that
    a lock has for several architectures is named `name:arch`.
    """
    several = _several(old.packages) | _several(new.packages)
    before, after = _by_name(old.packages, several), _by_name(new.packages, several)
    changes = []
    for name in sorted(before.keys() | after.keys()):
        was, now = before.get(name), after.get(name)
        if was is None or now is None or was.sha256 != now.sha256:
            changes.append((name, was.version if was else "", now.version if now else ""))
    return changes


def _several(packages: Sequence[Package]) -> set[str]:
    from collections import Counter

    return {name for name, count in Counter(package.name for package in packages).items() if count > 1}


def _by_name(packages: Sequence[Package], several: set[str]) -> Mapping[str, Package]:
    return {
        f"{package.name}:{package.arch}" if package.name in several else package.name: package for package in packages
    }
