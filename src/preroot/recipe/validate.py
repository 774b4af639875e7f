# SPDX-License-Identifier: LGPL-2.1-or-later
"""Turning read TOML into the frozen data of the schema, and saying in plain words where and why that fails.

msgspec decides what is valid. Its messages leave out keys of open tables (`$.part[...]`) and speak of Python's types;
so what it refused is walked a second time, along the schema, to name the key, the line and what was expected.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from preroot.errors import RecipeError, nearest
from preroot.recipe.merge import without_markers
from preroot.recipe.secrets import holds_secret
from preroot.recipe.toml import Key, dotted, parse, places, read_text

T = TypeVar("T")

_WORDS = {str: "a string", int: "an integer", float: "a number", bool: "true or false", dict: "a table"}


def convert(data: dict[str, Any], kind: type[T], where: Callable[[Key], str]) -> T:
    """Return `data` as `kind`, a class of the schema.

    `where` gives the place of a key (`FILE:LINE`). Raises RecipeError naming place, key, value and what is expected.
    """
    plain = without_markers(data)
    try:
        return msgspec.convert(plain, kind)
    except msgspec.ValidationError as error:
        raise _blame(plain, kind, (), where) or RecipeError(f"{where(())}: {error}") from None


def read_table(path: Path, kind: type[Any]) -> dict[str, Any]:
    """Return the TOML file `path`, which must be a `kind` of its own, as plain data to be merged with others.

    Raises RecipeError, naming file and line, for a file that is wrong.
    """
    text = read_text(path)
    data = parse(text, str(path))
    convert(data, kind, places(path, text))
    return data


def _accepts(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _blame(value: Any, kind: Any, key: Key, where: Callable[[Key], str]) -> RecipeError | None:
    """Return the error for the first value in `value` that does not fit `kind`, or None."""
    if _accepts(value, kind):
        return None
    plain = bare(kind)
    if isinstance(plain, type) and issubclass(plain, msgspec.Struct) and isinstance(value, dict):
        return _blame_table(value, plain, key, where)
    inner: list[tuple[str | int, Any, Any]] = []
    if get_origin(plain) is dict and isinstance(value, dict):
        inner = [(name, each, get_args(plain)[1]) for name, each in value.items()]
    elif get_origin(plain) is tuple and isinstance(value, list):
        inner = [(number, each, get_args(plain)[0]) for number, each in enumerate(value)]
    for name, each, its_kind in inner:
        error = _blame(each, its_kind, (*key, name), where)
        if error:
            return error
    return _misfit(value, kind, key, where)


def _blame_table(
    value: dict[str, Any], kind: type[msgspec.Struct], key: Key, where: Callable[[Key], str]
) -> RecipeError | None:
    fields = {each.encode_name: each for each in msgspec.structs.fields(kind)}
    for name, each in value.items():
        if name not in fields:
            hint = nearest(name, fields) or "known: " + ", ".join(sorted(fields))
            return RecipeError(f"{where((*key, name))}: unknown key '{dotted((*key, name))}'", hint)
        error = _blame(each, fields[name].type, (*key, name), where)
        if error:
            return error
    for name, field in fields.items():
        if field.required and name not in value:
            return RecipeError(f"{where(key)}: {dotted(key)} has no '{name}'", f"add {name} = …")
    return None


def _misfit(value: Any, kind: Any, key: Key, where: Callable[[Key], str]) -> RecipeError:
    # a secret is not repeated on the terminal or in a log
    shown = "not valid" if holds_secret(key, value) else show(value)
    message = f"{where(key)}: {dotted(key)} is {shown}: it must be {wanted(kind)}"
    plain = bare(kind)
    hint = nearest(value, get_args(plain)) if get_origin(plain) is Literal and isinstance(value, str) else ""
    return RecipeError(message, hint)


def bare(kind: Any) -> Any:
    """Return `kind` without annotations and without `| None`."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        arms = [each for each in get_args(kind) if each is not type(None)]
        return bare(arms[0]) if len(arms) == 1 else kind
    return kind


def metas(kind: Any) -> list[msgspec.Meta]:
    """Return the annotations of `kind`, the outermost first."""
    found: list[msgspec.Meta] = []
    while get_origin(kind) is Annotated:
        kind, *extra = get_args(kind)
        found += [each for each in reversed(extra) if isinstance(each, msgspec.Meta)]
    if get_origin(kind) in (Union, UnionType):
        for arm in get_args(kind):
            found += metas(arm)
    return found


def wanted(kind: Any) -> str:
    """Return what a value of `kind` is, in words: `one of a, b`, `an integer from 1 to 3`."""
    words = _wanted_plain(bare(kind))
    for meta in metas(kind):
        if meta.ge is not None and meta.le is not None:
            words += f" from {meta.ge} to {meta.le}"
        elif meta.ge is not None:
            words += f", at least {meta.ge}"
        if meta.gt is not None:
            words += f" above {meta.gt}"
        if meta.min_length:
            words += ", not empty"
        if meta.pattern is not None:
            words += f" ({meta.description})" if meta.description else f" matching {meta.pattern}"
    return words


def _wanted_plain(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(str(each) for each in arguments)
    if origin is tuple:
        inner = bare(arguments[0])
        if isinstance(inner, type) and issubclass(inner, msgspec.Struct):
            return "an array of tables"
        each = wanted(arguments[0])
        return "an array of strings" if inner is str else f"an array, each {each}"
    if origin in (Union, UnionType):
        return " or ".join(_wanted_plain(bare(each)) for each in arguments if each is not type(None))
    if origin is dict or (isinstance(kind, type) and issubclass(kind, msgspec.Struct)):
        return "a table"
    return _WORDS.get(kind, "a value")


def show(value: Any) -> str:
    """Return `value` for a message: short, and as TOML has it."""
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, bool):
        return "true" if value else "false"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= 60 else text[:57] + "…"
