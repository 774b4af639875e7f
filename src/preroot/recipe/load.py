# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loading a recipe: its layers, in increasing priority, validated one by one and merged into one.

The layers are `preroot.toml` of each directory of the search path, the drop-ins `preroot.toml.d/*.toml`, the recipe,
its drop-ins `RECIPE.d/*.toml`, and the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from preroot.errors import RecipeError, nearest
from preroot.recipe.data import plain
from preroot.recipe.merge import MORE, merge
from preroot.recipe.schema import Recipe
from preroot.recipe.search import SEARCH_PATH, Consulted, SearchPath, drop_ins, find, stack, toml_names
from preroot.recipe.secrets import HIDDEN, holds_secret
from preroot.recipe.toml import Key, dotted, parse, positions, quoted, read_text
from preroot.recipe.validate import convert
from preroot.unchanged import Stamp

#: The recipe that is built when none is named.
DEFAULT = "default"
#: What messages call a recipe that is no file.
FROM_DATA = "recipe from data"
#: Keys whose value is the path of a file or directory on this machine: (table, key), ("", …) for arrays of tables.
_LOCAL_FILES = (
    ("distribution", "keyring"), ("distribution", "ca"), ("distribution", "client-certificate"),
    ("distribution", "client-key"), ("kernel", "directory"),
)  # fmt: skip
#: the same for arrays of such paths
_LOCAL_LISTS = (("kernel", "extra-modules"),)
_LOCAL_SOURCES = ("file", "unit", "hook", "secret")


class Origin(Struct, frozen=True):
    """Where a value was written: a file (or `command line --set KEY`, `built-in`) and the line in it, 0 for none."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


BUILT_IN_DEFAULT = Origin("built-in")


class Overrides(Struct, frozen=True):
    """What the command line sets, as it was typed."""

    #: `KEY=VALUE`, the key dotted, the value as TOML or a bare string
    set: tuple[str, ...] = ()
    #: features added to the base part; `-NAME` refuses one
    features: tuple[str, ...] = ()
    kernel: str = ""
    kernel_modules: tuple[str, ...] = ()
    layout: str = ""
    #: `PART=FORMAT`
    formats: tuple[str, ...] = ()


NO_OVERRIDES = Overrides()


class Layer(Struct, frozen=True):
    """One source of values: its name in messages, the directory that its relative paths start from, and its values."""

    name: str
    directory: Path
    data: dict[str, Any]
    #: the TOML text; empty for the command line
    text: str = ""

    def where(self, key: Key) -> Origin:
        """Return the place of `key`, or of the nearest table around it."""
        if not self.text:
            return Origin(self.name)
        lines = positions(self.text)
        while key and key not in lines:
            key = key[:-1]
        return Origin(self.name, lines.get(key, 0))


class LoadedRecipe(Struct, frozen=True):
    """A recipe, and where it came from.

    `files` are all paths that were looked at, those that do not exist included (a path that appears is a change), each
    with its stamp from before it was read.
    `base` is the directory that relative paths in `recipe` start from.
    """

    recipe: Recipe
    layers: tuple[Layer, ...]
    files: dict[Path, Stamp]
    base: Path
    #: the recipe's file; None for a recipe that came as data
    path: Path | None
    #: the release that `--kernel` names, '' without one: locks and images of several kernels then lie side by side
    kernel: str = ""

    @property
    def output_name(self) -> str:
        """Return what the files of a build are named after: the recipe's name, with the kernel of `--kernel`."""
        return f"{self.recipe.name}-{self.kernel}" if self.kernel else self.recipe.name

    @property
    def origins(self) -> dict[str, Origin]:
        """Return the origin of each value that a layer gives, by dotted key. Scans the layers' text: not for free."""
        return {dotted(key): origin for key, origin in _origins(self.layers).items()}

    def where(self, key: Key) -> str:
        """Return the origin of `key` (`("part", "base", "features")`) for a message."""
        return str(_nearest_origin(_origins(self.layers), key))


def load_recipe(
    path: Path | None, overrides: Overrides = NO_OVERRIDES, search: SearchPath = SEARCH_PATH
) -> LoadedRecipe:
    """Load the recipe `path`: a file, the name of a recipe in the search path's recipes/, or None for the built-in one.

    Raises RecipeError, naming file and line, for whatever is wrong in any layer.
    """
    consulted = Consulted()
    file, its_drop_ins = _locate(path, search, consulted)
    own = [_read_layer(file), *(_read_layer(each) for each in drop_ins(its_drop_ins, consulted))]
    return _combined(own, overrides, search, consulted, base=file.absolute().parent, path=file)


def load_data(
    data: Mapping[str, Any] | Recipe, overrides: Overrides = NO_OVERRIDES, search: SearchPath = SEARCH_PATH,
    base: Path | None = None,
) -> LoadedRecipe:  # fmt: skip
    """Load a recipe that is data: what TOML would read of one, or a Recipe, whose defaults count as not set.

    It lies over the layers of the search path as a file does, and it has no drop-ins. `base` is the directory that its
    relative paths start from (None: the current one). Raises RecipeError naming the key for whatever is wrong.
    """
    values = msgspec.to_builtins(data) if isinstance(data, Recipe) else data
    layer = Layer(FROM_DATA, (base or Path.cwd()).absolute(), plain(values, FROM_DATA))
    convert(layer.data, Recipe, lambda _: FROM_DATA)
    return _combined([layer], overrides, search, Consulted(), base=layer.directory, path=None)


def _combined(
    own: list[Layer], overrides: Overrides, search: SearchPath, consulted: Consulted, *, base: Path, path: Path | None
) -> LoadedRecipe:
    """Merge the layers of the search path, the recipe's own, and the command line's; check what comes of them."""
    from preroot.recipe.check import check

    layers = [_read_layer(each) for each in stack(search, "preroot.toml", consulted)]
    common = tuple(directory / "preroot.toml.d" for directory in search.directories)
    layers += [_read_layer(each) for each in drop_ins(common, consulted)]
    layers += [*own, *_command_line(overrides)]
    layers = [_rebased(layer) for layer in layers]
    data: dict[str, Any] = {}
    for layer in layers:
        data = merge(data, layer.data)
    loaded_layers = tuple(layers)

    def where(key: Key) -> str:
        return str(_nearest_origin(_origins(loaded_layers), key))

    recipe = convert(data, Recipe, where)
    check(recipe, where)
    _check_local_files(recipe, base, where, consulted)
    return LoadedRecipe(recipe, loaded_layers, consulted.stamps, base, path, overrides.kernel)


def _locate(path: Path | None, search: SearchPath, consulted: Consulted) -> tuple[Path, tuple[Path, ...]]:
    """Return the recipe's file and its drop-in directories, the lowest first."""
    if path is not None and (len(path.parts) != 1 or path.root or path.suffix == ".toml" or path.is_file()):
        return consulted.add(path), (Path(f"{path}.d"),)
    name = DEFAULT if path is None else path.name
    file = find(search, f"recipes/{name}.toml", consulted)
    if file is None:
        known = sorted({each[:-5] for one in search.directories for each in toml_names(one / "recipes", consulted)})
        hint = nearest(name, known) or "name a TOML file, or one of: " + ", ".join(known)
        raise RecipeError(f"there is no recipe {name!r}, neither as a file nor in the search path", hint)
    return file, tuple(directory / "recipes" / f"{name}.toml.d" for directory in search.directories)


def _read_layer(path: Path) -> Layer:
    text = read_text(path)
    layer = Layer(str(path), path.absolute().parent, parse(text, str(path)), text)
    convert(layer.data, Recipe, lambda key: str(layer.where(key)))
    return layer


def _command_line(overrides: Overrides) -> list[Layer]:
    """Return a layer for each option of the command line."""
    layers = [_set_layer(text) for text in overrides.set]
    options: list[tuple[str, dict[str, Any]]] = []
    if overrides.layout:
        options.append((f"--layout {overrides.layout}", {"layout": overrides.layout}))
    if overrides.kernel:
        options.append((f"--kernel {overrides.kernel}", {"kernel": {"version": overrides.kernel}}))
    for module in overrides.kernel_modules:
        options.append((f"--kernel-module {module}", {"kernel": {"add-modules": [MORE, module]}}))
    for feature in overrides.features:
        options.append((f"--feature {feature}", {"part": {"base": {"features": [MORE, feature]}}}))
    for text in overrides.formats:
        part, equals, name = text.partition("=")
        if not (part and equals and name):
            raise RecipeError(
                f"command line --format {_printable(text)}: not PART=FORMAT", "for example --format base=squashfs"
            )
        options.append((f"--format {text}", {"part": {part: {"format": name}}}))
    for option, data in options:
        layers.append(_command_layer(option, data))
    return layers


def _command_layer(option: str, data: dict[str, Any]) -> Layer:
    layer = Layer(f"command line {_printable(option)}", Path.cwd(), data)
    convert(layer.data, Recipe, lambda _: layer.name)
    return layer


def _set_layer(text: str) -> Layer:
    """Return the layer of `--set KEY=VALUE`: the value is TOML, or a bare string where that is not valid."""
    key_text, equals, value_text = text.partition("=")
    key_text, value_text = key_text.strip(), value_text.strip()
    if not equals or not key_text or "\n" in key_text or "#" in key_text:
        raise RecipeError(
            f"command line --set {_key_of(text)}: not KEY=VALUE", "for example --set kernel.version=6.12.1"
        )
    option = f"--set {_printable(key_text)}"
    try:
        chain = parse(f"{key_text} = 0", "")
    except RecipeError:
        raise RecipeError(f"command line {option}: not a dotted key", "for example kernel.version") from None
    readings: list[Any] = []
    try:
        document = parse(f"value = {value_text}", "")
        if set(document) == {"value"}:
            readings.append(document["value"])
    except RecipeError:
        pass
    readings.append(value_text)
    first: RecipeError | None = None
    for value in readings:  # 6.12 is a number to TOML, and a string where a version is asked for
        try:
            return _command_layer(option, _with_leaf(chain, value))
        except RecipeError as error:
            first = first or error
    raise first or RecipeError(f"command line {option}: not a value")


def _key_of(text: str) -> str:
    """Return what may be the key of something that is no KEY=VALUE: the rest may be a secret."""
    import re

    key = re.match(r"[\w.\"-]+", text)
    return key[0] + "…" if key and key[0] != text else _printable(text)


def _printable(text: str) -> str:
    return text if text.isprintable() else repr(text)


def _with_leaf(chain: dict[str, Any], value: Any) -> dict[str, Any]:
    return {name: _with_leaf(each, value) if isinstance(each, dict) else value for name, each in chain.items()}


def _rebased(layer: Layer) -> Layer:
    """Return `layer` with absolute paths: who reads the files does not know where they were named."""
    data = dict(layer.data)
    for table, name in _LOCAL_FILES:
        if data.get(table, {}).get(name):
            data[table] = {**data[table], name: str(layer.directory.absolute() / data[table][name])}
    for table, name in _LOCAL_LISTS:
        if data.get(table, {}).get(name):
            paths = [
                each if each in ("", MORE) else str(layer.directory.absolute() / each) for each in data[table][name]
            ]
            data[table] = {**data[table], name: paths}
    for table in _LOCAL_SOURCES:
        if data.get(table):
            data[table] = [
                {**each, "source": str(layer.directory.absolute() / each["source"])} if each.get("source") else each
                for each in data[table]
            ]
    return msgspec.structs.replace(layer, data=data)


def _check_local_files(recipe: Recipe, base: Path, where: Callable[[Key], str], consulted: Consulted) -> None:
    """Raise RecipeError for a file of this machine that the recipe names and that is not there."""
    distribution, kernel = recipe.distribution, recipe.kernel
    values = (distribution.keyring, distribution.ca, distribution.client_certificate, distribution.client_key,
              kernel.directory)  # fmt: skip
    named: list[tuple[Key, str]] = list(zip(_LOCAL_FILES, values, strict=True))
    named += [(("file", n, "source"), each.source or "") for n, each in enumerate(recipe.file)]
    named += [(("unit", n, "source"), each.source or "") for n, each in enumerate(recipe.unit)]
    named += [(("hook", n, "source"), each.source or "") for n, each in enumerate(recipe.hook)]
    named += [(("secret", n, "source"), each.source) for n, each in enumerate(recipe.secret)]
    named += [(("kernel", "extra-modules", n), each) for n, each in enumerate(kernel.extra_modules)]
    for key, value in named:
        if not value:
            continue
        path = consulted.add(base / value)
        kind = "directory" if key[-1] == "directory" else "file or directory" if key[1] == "extra-modules" else "file"
        if not ((path.is_dir() and "directory" in kind) or (path.is_file() and "file" in kind)):
            state = f"is not a {kind}" if path.exists() else "does not exist"
            raise RecipeError(f"{where(key)}: {dotted(key)}: {path} {state}", f"relative paths start from {base}")


def _origins(layers: tuple[Layer, ...]) -> dict[Key, Origin]:
    """Return the origin of each value, by merging the layers again with a watcher."""
    found: dict[Key, Origin] = {}
    data: dict[str, Any] = {}
    for layer in layers:
        lines = positions(layer.text) if layer.text else {}

        def note(key: Key, in_layer: Key, layer: Layer = layer, lines: dict[Key, int] = lines) -> None:
            found[key] = Origin(layer.name, lines.get(in_layer, 0))

        data = merge(data, layer.data, note)
    return found


def _nearest_origin(origins: dict[Key, Origin], key: Key) -> Origin:
    while key:
        if key in origins:
            return origins[key]
        inside = [origin for each, origin in origins.items() if each[: len(key)] == key]
        if inside:  # a table: where its first key was written
            return inside[0]
        key = key[:-1]
    return BUILT_IN_DEFAULT


def explain(loaded: LoadedRecipe) -> list[tuple[str, str, str]]:
    """Return (dotted key, value as TOML, origin) of every value of the recipe, defaults (`built-in`) included.

    Passwords, and credentials in addresses, are left out of the values.
    """
    origins = _origins(loaded.layers)
    rows: list[tuple[str, str, str]] = []

    def walk(value: Any, key: Key) -> None:
        if isinstance(value, Struct):
            for field in msgspec.structs.fields(value):
                walk(getattr(value, field.name), (*key, field.encode_name))
        elif isinstance(value, dict) and value:
            for name, each in value.items():
                walk(each, (*key, name))
        elif isinstance(value, tuple) and value and isinstance(value[0], Struct):
            for number, each in enumerate(value):
                walk(each, (*key, number))
        elif value is not None:
            rows.append((dotted(key), _shown(key, value), str(origins.get(key, BUILT_IN_DEFAULT))))

    walk(loaded.recipe, ())
    return rows


def _shown(key: Key, value: Any) -> str:
    import re

    if value and holds_secret(key, value):
        return quoted(HIDDEN)
    if isinstance(value, str):
        return quoted(re.sub(r"//[^/@\s]+@", "//…@", value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_shown(key, each) for each in value) + "]"
    return "{}" if value == {} else str(value)
