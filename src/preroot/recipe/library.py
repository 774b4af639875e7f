# SPDX-License-Identifier: LGPL-2.1-or-later
"""The feature files: found in the search path, read when they are asked for, and checked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from preroot.errors import RecipeError, nearest
from preroot.recipe.cmdline import problem_of
from preroot.recipe.conditions import check_version, content_fields, misfit, replaceable
from preroot.recipe.features import Cmdline, DlopenFact, Feature, Option, When
from preroot.recipe.merge import merge
from preroot.recipe.search import SEARCH_PATH, Consulted, SearchPath, drop_ins, find, is_masked, toml_names
from preroot.recipe.secrets import SECRET_WORDS, is_secret_key
from preroot.recipe.template import NAMES, names_in, uses_secret
from preroot.recipe.toml import Key, dotted, parse, places, positions, read_text
from preroot.recipe.validate import convert
from preroot.unchanged import Stamp


class Features(Mapping[str, Feature]):
    """The features of a search path, by name. A file is read when its feature is first asked for.

    `features/NAME.toml` of a higher directory replaces a lower one's; `features/NAME.toml.d/*.toml` are merged over
    it. Looking up one that is wrong raises RecipeError, one that does not exist KeyError.
    """

    def __init__(self, search: SearchPath = SEARCH_PATH) -> None:
        self._search = search
        self._read: dict[str, Feature | None] = {}
        self._consulted = Consulted()

    def __getitem__(self, name: str) -> Feature:
        if name not in self._read:
            self._read[name] = self._load(name) if _is_name(name) else None
        feature = self._read[name]
        if feature is None:
            raise KeyError(name)
        return feature

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names, sorted, without reading the features."""
        names: dict[str, bool] = {}
        for directory in self._search.directories:
            folder = directory / "features"
            for name in toml_names(folder, self._consulted):
                names[name[:-5]] = not is_masked(folder / name, empty=True)
        return iter(sorted(name for name, live in names.items() if live))

    def __len__(self) -> int:
        return sum(1 for _ in self)

    @property
    def files(self) -> dict[Path, Stamp]:
        """Return every path that was looked at so far, those that do not exist included, with its stamp."""
        return self._consulted.stamps

    def _load(self, name: str) -> Feature | None:
        file = find(self._search, f"features/{name}.toml", self._consulted)
        if file is None:
            return None
        folders = tuple(each / "features" / f"{name}.toml.d" for each in self._search.directories)
        layers = [_read(each) for each in (file, *drop_ins(folders, self._consulted))]
        data: dict[str, Any] = {}
        for _, _, values in layers:
            data = merge(data, values)

        def where(key: Key) -> str:
            """Return the place of `key` in the highest file that has its table."""
            best: tuple[int, str] = (-1, str(file))
            for path, text, _ in layers:
                lines = positions(text)
                near = key
                while near and near not in lines:
                    near = near[:-1]
                if near and len(near) >= best[0]:
                    best = (len(near), f"{path}:{lines[near]}")
            return best[1]

        feature = convert(data, Feature, where)
        check_feature(name, feature, where)
        return feature


def load_features(search: SearchPath = SEARCH_PATH) -> Features:
    """Return the features of the search path; no file is read yet."""
    return Features(search)


def _is_name(name: str) -> bool:
    return bool(name) and "/" not in name and "\0" not in name and not name.startswith(".")


def _read(path: Path) -> tuple[Path, str, dict[str, Any]]:
    text = read_text(path)
    data = parse(text, str(path))
    convert(data, Feature, places(path, text))
    return path, text, data


def check_feature(name: str, feature: Feature, where: Callable[[Key], str]) -> None:
    """Raise RecipeError for what a feature file has wrong beyond types: conditions, replaces, options, templates."""
    for key, option in feature.options.items():
        at: Key = ("options", key)
        if option.type == "choice" and not option.choices:
            raise RecipeError(f"{where(at)}: {dotted(at)} is a choice without choices", "add choices = […]")
        if option.type == "choice" and option.default is None:
            raise RecipeError(f"{where(at)}: {dotted(at)} is a choice without a default", "add default = …")
        _check_secret(key, option, where)
        problem = misfit(option, option.default) if option.default is not None else ""
        if problem:
            raise RecipeError(f"{where(at)}: the default of {dotted(at)} is {option.default!r}: it must be {problem}")
    _check_needs(feature.needs, ("needs",), where)
    _check_facts(feature.dlopen, (), where)
    _check_generated(feature, feature, (), where)
    _check_cmdline(feature.cmdline, (), where)
    for number, variant in enumerate(feature.variant):
        at = ("variant", number)
        _check_when(name, feature, variant.when, where((*at, "when")))
        for key in variant.replaces:
            if key not in replaceable():
                hint = nearest(key, replaceable()) or "known: " + ", ".join(content_fields())
                raise RecipeError(f"{where((*at, 'replaces'))}: replaces {key!r}, which is no key of a feature", hint)
        _check_needs(variant.needs, (*at, "needs"), where)
        _check_facts(variant.dlopen, at, where)
        _check_generated(feature, variant, at, where)
        _check_cmdline(variant.cmdline, at, where)


def _check_when(name: str, feature: Feature, when: When, place: str) -> None:
    """Raise RecipeError for a condition that can't be compared, or that nothing could ever fulfil."""
    for comparison in (when.systemd, when.kernel):
        check_version(comparison or "", place)
    for key, value in when.option.items():
        if key not in feature.options:
            hint = nearest(key, feature.options) or f"add it as [options.{key}]"
            raise RecipeError(f"{place}: feature {name!r} has no option {key!r}", hint)
        wishes = value if isinstance(value, list) and feature.options[key].type != "list" else [value]
        problem = next((text for wish in wishes if (text := misfit(feature.options[key], wish))), "")
        if problem:
            raise RecipeError(f"{place}: option {key} is never {value!r}: it must be {problem}")
    for key in when.recipe:
        if key not in NAMES or key == "kernel.version":
            hint = nearest(key, NAMES) or "known: " + ", ".join(NAMES)
            raise RecipeError(f"{place}: when.recipe has {key!r}, which is no value of a recipe", hint)


def _check_secret(key: str, option: Option, where: Callable[[Key], str]) -> None:
    """Raise RecipeError where an option's name and what it says of itself do not agree: values are hidden by name."""
    at: Key = ("options", key)
    if option.secret != is_secret_key(key):
        words = ", ".join(SECRET_WORDS)
        text = "is a secret, and its name does not say so" if option.secret else "has the name of a secret and is none"
        raise RecipeError(f"{where(at)}: {dotted(at)} {text}", f"secrets have one of {words} in their names")
    if option.secret and (option.type != "string" or option.default):
        raise RecipeError(f"{where(at)}: {dotted(at)} is a secret: it must be a string without a default")


def _check_needs(needs: tuple[str, ...], key: Key, where: Callable[[Key], str]) -> None:
    for number, need in enumerate(needs):
        kind, colon, rest = need.partition(":")
        if kind not in ("bin", "file", "cap") or not colon or not rest:
            raise RecipeError(f"{where((*key, number))}: {need!r} is no need", "write bin:NAME, file:PATH or cap:NAME")


def _check_facts(facts: tuple[DlopenFact, ...], at: Key, where: Callable[[Key], str]) -> None:
    for number, fact in enumerate(facts):
        check_version(fact.version, where((*at, "dlopen", number)))


def _check_cmdline(entries: tuple[Cmdline, ...], at: Key, where: Callable[[Key], str]) -> None:
    for number, entry in enumerate(entries):
        if problem := problem_of(entry):
            raise RecipeError(f"{where((*at, 'cmdline', number))}: {problem}", "docs/feature.md says what it can be")


def _check_generated(feature: Feature, content: Any, at: Key, where: Callable[[Key], str]) -> None:
    known = [*NAMES, *(f"option.{key}" for key in feature.options)]
    for number, generated in enumerate(content.generate):
        key = (*at, "generate", number)
        if (generated.content is None) == (generated.source is None):
            raise RecipeError(f"{where(key)}: {dotted(key)} must have either content or source", "give one of them")
        for name in names_in(generated.content or ""):
            if name not in known:
                hint = nearest(name, known) or "known: " + ", ".join(known)
                raise RecipeError(f"{where((*key, 'content'))}: unknown name {{{{{name}}}}} in a template", hint)
        if uses_secret(generated.content or "") and int(generated.mode, 8) & 0o077:
            raise RecipeError(f"{where((*key, 'mode'))}: {dotted(key)} has a secret inside, and others may read it",
                              'mode = "0600"')  # fmt: skip
    shown = [("link", each.path + each.target) for each in content.link]
    shown += [("directory", each) for each in content.directory]
    shown += [("generate", each.path) for each in content.generate]
    for table, template in shown:
        if uses_secret(template):
            raise RecipeError(f"{where((*at, table))}: {dotted((*at, table))} shows a secret in a path",
                              "only the content of a generated file may have one")  # fmt: skip
