# SPDX-License-Identifier: LGPL-2.1-or-later
"""Loading recipes: layers, merging, origins, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from preroot.errors import RecipeError
from preroot.recipe.load import LoadedRecipe, Overrides, explain, load_recipe
from preroot.recipe.merge import merge, without_markers
from preroot.recipe.schema import Recipe
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.recipe.validate import convert


class World:
    """A search path of three directories (vendor, run, admin) and a place for recipes, all empty."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.search = SearchPath(tuple(root / name for name in ("vendor", "run", "admin")))
        self.write("vendor/recipes/default.toml", "# nothing, but not empty: that would mask it\n")

    def write(self, path: str, text: str) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def mask(self, path: str) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.symlink_to("/dev/null")

    def load(self, text: str | None = None, **overrides: Any) -> LoadedRecipe:
        path = None if text is None else self.write("here/r.toml", text)
        return load_recipe(path, Overrides(**overrides), self.search)

    def refusal(self, text: str | None = None, **overrides: Any) -> str:
        with pytest.raises(RecipeError) as caught:
            self.load(text, **overrides)
        assert "\n" not in str(caught.value)
        return str(caught.value).replace(f"{self.root}/", "")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


# --- the built-in recipe


def test_built_in_recipe() -> None:
    loaded = load_recipe(None, Overrides(), SearchPath((BUILT_IN,)))
    recipe = loaded.recipe
    assert (recipe.distribution.name, recipe.distribution.release, recipe.distribution.arch) == (
        "debian", "trixie", "amd64",
    )  # fmt: skip
    assert recipe.kernel.modules == "virtual"
    assert recipe.part["base"].features[:3] == ("systemd", "udev", "ext4")
    assert list(recipe.part) == ["base", "modules"]


# --- layers


def test_layers_in_increasing_priority(world: World) -> None:
    layers = ["vendor/preroot.toml", "run/preroot.toml", "admin/preroot.toml", "admin/preroot.toml.d/50.toml"]
    layers += ["here/r.toml", "here/r.toml.d/x.toml"]
    for number, path in enumerate(layers):
        world.write(path, f"failure.timeout = {number + 1}\n")
        loaded = load_recipe(world.root / "here/r.toml" if number >= 4 else None, Overrides(), world.search)
        assert loaded.recipe.failure.timeout == number + 1, path
        assert loaded.where(("failure", "timeout")) == f"{world.root / path}:1"
    loaded = load_recipe(world.root / "here/r.toml", Overrides(set=("failure.timeout=9",)), world.search)
    assert loaded.recipe.failure.timeout == 9
    assert loaded.where(("failure", "timeout")) == "command line --set failure.timeout"


def test_drop_ins_are_one_list_by_file_name(world: World) -> None:
    world.write("vendor/preroot.toml.d/10.toml", 'cmdline = ["...", "vendor10"]')
    world.write("vendor/preroot.toml.d/30.toml", 'cmdline = ["...", "vendor30"]')
    world.write("admin/preroot.toml.d/20.toml", 'cmdline = ["...", "admin20"]')
    assert world.load().recipe.cmdline == ("vendor10", "admin20", "vendor30")
    world.write("run/preroot.toml.d/10.toml", 'cmdline = ["...", "run10"]')
    assert world.load().recipe.cmdline == ("run10", "admin20", "vendor30")
    world.mask("admin/preroot.toml.d/10.toml")
    assert world.load().recipe.cmdline == ("admin20", "vendor30")
    world.write("admin/preroot.toml.d/30.toml", "")
    world.write("admin/preroot.toml.d/99.toml~", "not TOML")
    world.write("admin/preroot.toml.d/.99.toml", "not TOML")
    assert world.load().recipe.cmdline == ("admin20",)


def test_a_link_to_dev_null_masks_lower_configuration(world: World) -> None:
    world.write("vendor/preroot.toml", "failure.timeout = 1")
    world.write("admin/preroot.toml", "failure.delay = 1")
    world.mask("run/preroot.toml")
    recipe = world.load().recipe
    assert (recipe.failure.timeout, recipe.failure.delay) == (90, 1)


def test_an_empty_configuration_file_masks_nothing(world: World) -> None:
    world.write("vendor/preroot.toml", "failure.timeout = 1")
    world.write("admin/preroot.toml", "")
    assert world.load().recipe.failure.timeout == 1


def test_named_recipes(world: World) -> None:
    world.write("vendor/recipes/small.toml", 'name = "vendor"')
    world.write("vendor/recipes/small.toml.d/a.toml", 'layout = "split"')
    world.write("here/small.toml.d/a.toml", 'layout = "partition"')
    loaded = load_recipe(Path("small"), Overrides(), world.search)
    assert (loaded.recipe.name, loaded.recipe.layout) == ("vendor", "split")
    world.write("admin/recipes/small.toml", 'name = "admin"')
    assert load_recipe(Path("small"), Overrides(), world.search).recipe.name == "admin"
    (world.root / "admin/recipes/small.toml").unlink()
    world.mask("admin/recipes/small.toml")
    with pytest.raises(RecipeError, match="there is no recipe 'small'"):
        load_recipe(Path("small"), Overrides(), world.search)
    with pytest.raises(RecipeError, match="did you mean 'default'"):
        load_recipe(Path("defalt"), Overrides(), world.search)


def test_everything_consulted_is_listed(world: World) -> None:
    world.write("here/motd", "hello")
    world.write("here/r.toml.d/x.toml", "")
    loaded = world.load('[[file]]\npath = "etc/motd"\nsource = "motd"\n')
    names = {str(path.relative_to(world.root)) for path in loaded.files}
    assert names >= {"vendor/preroot.toml", "admin/preroot.toml", "admin/preroot.toml.d", "here/r.toml",
                     "here/r.toml.d", "here/motd"}  # fmt: skip


# --- merging

plain = st.none() | st.integers(0, 3).map(str)
strings = st.lists(st.sampled_from("abc"), max_size=3)
arrays = strings | strings.map(lambda each: ["...", *each])
tables = st.lists(st.fixed_dictionaries({"x": st.integers(0, 3)}), max_size=2)
#: each key has one kind in all layers, as validated layers have
layers = st.recursive(
    st.fixed_dictionaries({}, optional={"s": st.integers(0, 3), "a": arrays, "t": tables}),
    lambda inner: st.fixed_dictionaries({}, optional={"s": st.integers(0, 3), "a": arrays, "t": tables, "d": inner}),
    max_leaves=4,
)


@settings(deadline=None)
@given(layers, layers, layers)
def test_merging_is_associative(one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]) -> None:
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


@settings(deadline=None)
@given(layers)
def test_an_empty_layer_changes_nothing(layer: dict[str, Any]) -> None:
    assert merge(layer, {}) == layer
    assert merge({}, layer) == layer


@settings(deadline=None)
@given(layers, layers)
def test_merging_leaves_its_arguments_alone(one: dict[str, Any], two: dict[str, Any]) -> None:
    before = repr((one, two))
    merge(one, two)
    assert repr((one, two)) == before


def test_merging_rules() -> None:
    lower = {"s": 1, "a": ["x"], "t": [{"n": 1}], "d": {"k": 1, "l": 2}}
    assert merge(lower, {"s": 2})["s"] == 2
    assert merge(lower, {"a": ["y"]})["a"] == ["y"]
    assert merge(lower, {"a": []})["a"] == []
    assert merge(lower, {"a": ["...", "y"]})["a"] == ["x", "y"]
    assert merge({"a": []}, {"a": ["...", "y"]})["a"] == ["y"]
    assert merge(lower, {"a": ["y", "..."]})["a"] == ["y", "..."]
    assert merge(lower, {"t": [{"n": 2}]})["t"] == [{"n": 1}, {"n": 2}]
    assert merge(lower, {"d": {"k": 3}})["d"] == {"k": 3, "l": 2}
    assert without_markers(merge({}, {"a": ["...", "y"]})) == {"a": ["y"]}


# --- the command line


def test_command_line_options(world: World) -> None:
    recipe = world.load(
        '[part.base]\nfeatures = ["ext4"]\n[kernel]\nadd-modules = ["nbd"]',
        features=("luks", "-fsck"), kernel="6.12.1-amd64", kernel_modules=("dummy",), layout="split",
        formats=("base=squashfs",), set=("root.device=LABEL=my root",),
    ).recipe  # fmt: skip
    assert recipe.part["base"].features == ("ext4", "luks", "-fsck")
    assert recipe.kernel.version == "6.12.1-amd64"
    assert recipe.kernel.add_modules == ("nbd", "dummy")
    assert (recipe.layout, recipe.part["base"].format) == ("split", "squashfs")
    assert recipe.root.device == "LABEL=my root"


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("kernel.version=6.12", "kernel.version", '"6.12"'),
        ('kernel.version="6.12"', "kernel.version", '"6.12"'),
        ("distribution.release=13", "distribution.release", '"13"'),
        ("distribution.snapshot=20261101T000000Z", "distribution.snapshot", '"20261101T000000Z"'),
        ("failure.timeout=5", "failure.timeout", "5"),
        ("kernel.monolithic=true", "kernel.monolithic", "true"),
        ('cmdline=["quiet"]', "cmdline", '["quiet"]'),
        (" name = x", "name", '"x"'),
        ("root.device=a\nname = 'y'", "root.device", "\"a\\nname = 'y'\""),
        ('features.ssh."a.b"=x', 'features.ssh."a.b"', '"x"'),
        ("distribution.mirror=http://me:word@mirror/debian", "distribution.mirror", '"http://…@mirror/debian"'),
    ],
)
def test_set(world: World, text: str, key: str, value: str) -> None:
    rows = {row[0]: row[1:] for row in explain(world.load(set=(text,)))}
    assert rows[key] == (value, "command line --set " + text.partition("=")[0].strip())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"set": ("kernel.vernl=1",)}, "command line --set kernel.vernl: unknown key 'kernel.vernl'"),
        ({"set": ("kernel.modules=foo",)}, "command line --set kernel.modules: kernel.modules is 'foo': it must be on"),
        ({"set": ("kernel.modules",)}, "command line --set kernel.modules: not KEY=VALUE"),
        ({"set": ("=1",)}, "command line --set =1: not KEY=VALUE"),
        ({"set": ("a b=1",)}, "command line --set a b: not a dotted key"),
        ({"set": ("[a]\nb=1",)}, "command line --set"),
        ({"set": ("failure.timeout=x",)}, "command line --set failure.timeout: failure.timeout is 'x': it must be an "),
        ({"layout": "splt"}, "command line --layout splt: layout is 'splt'"),
        ({"formats": ("base",)}, "command line --format base: not PART=FORMAT"),
        ({"formats": ("base=zip",)}, "command line --format base=zip: part.base.format is 'zip'"),
        ({"formats": ("bse=cpio",)}, "command line --format bse=cpio: part.bse: no layout has such a part"),
    ],
)  # fmt: skip
def test_refused_command_lines(world: World, overrides: dict[str, Any], message: str) -> None:
    assert world.refusal(None, **overrides).startswith(message)


# --- refused recipes


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[kernel]\n\nvernl = 1", "here/r.toml:3: unknown key 'kernel.vernl' (did you mean 'version'?)"),
        ("[kernl]\nversion = 1", "here/r.toml:1: unknown key 'kernl' (did you mean 'kernel'?)"),
        ("[kernel]\nadd_modules = []", "here/r.toml:2: unknown key 'kernel.add_modules' (did you mean 'add-modules'?)"),
        ("\n[kernel]\nmodules = 'foo'", "here/r.toml:3: kernel.modules is 'foo': it must be one of generic, virtual, "),
        ("[kernel]\nmodules = 'virtul'", "here/r.toml:2: kernel.modules is 'virtul': it must be one of generic, virtual"
         ", list (did you mean 'virtual'?)"),
        ("[part.base]\nformt = 'cpio'", "here/r.toml:2: unknown key 'part.base.formt' (did you mean 'format'?)"),
        ("[part.base.budget]\ncompressed-mb = -1", "here/r.toml:2: part.base.budget.compressed-mb is -1: "),
        ("part = 1", "here/r.toml:1: part is 1: it must be a table"),
        ("cmdline = [\n 'a',\n 2]", "here/r.toml:3: cmdline[1] is 2: it must be a string"),
        ("cmdline = 'a'", "here/r.toml:1: cmdline is 'a': it must be an array of strings"),
        ("failure.timeout = 0", "here/r.toml:1: failure.timeout is 0: it must be an integer, at least 1"),
        ("failure.timeout = true", "here/r.toml:1: failure.timeout is true: it must be an integer"),
        ("name = '../x'", "here/r.toml:1: name is '../x': "),
        ("name = ", "here/r.toml:1: "),
        ("[[file]]\ncontent = ''", "here/r.toml:1: file[0] has no 'path'"),
        ("[[file]]\npath = '/a'\ncontent = ''\nmode = '9'", "here/r.toml:4: file[0].mode is '9': it must be a string "),
        ("[[file]]\npath = '/a'", "here/r.toml:1: file[0] has neither content nor source"),
        ("[[file]]\npath = '/a'\ncontent = ''\nsource = 'b'", "here/r.toml:1: file[0] has both content and source"),
        ("[[file]]\npath = '/a/../..'\ncontent = ''", "here/r.toml:2: file[0].path is '/a/../..', which has '..'"),
        ("[[file]]\npath = '//.'\ncontent = ''", "here/r.toml:2: file[0].path is '//.', which names the root director"),
        ("[[file]]\npath = '/a'\nsource = 'none'", "here/r.toml:3: file[0].source: {root}/here/none does not exist"),
        ("[[file]]\npath = '/a'\nsource = '.'", "here/r.toml:3: file[0].source: {root}/here is not a file"),
        ("[[secret]]\npath = '/a'\nsource = ''", "here/r.toml:3: secret[0].source is empty"),
        ("kernel.directory = 'k'", "here/r.toml:1: kernel.directory: {root}/here/k does not exist"),
        ("distribution.keyring = 'k.gpg'", "here/r.toml:1: distribution.keyring: {root}/here/k.gpg does not exist"),
        ("[[file]]\npath = '/a'\ncontent = ''\n[[link]]\npath = 'a/'\ntarget = 'b'",
         "here/r.toml:4: link[0]: a is given already as file[0] at "),
        ("[[user]]\nname = 'x'\n[[user]]\nname = 'x'", "here/r.toml:3: user[1]: x is given already as user[0] at "),
        ("[[user]]\nname = \"x\\n\"", "here/r.toml:2: user[0].name is 'x\\n': it must be a string"),
        ("[[user]]\nname = 'x'\nhome = '/:0'", "here/r.toml:3: user[0].home is '/:0': "),
        ("[[user]]\nname = 'x'\nuid = -1", "here/r.toml:3: user[0].uid is -1: it must be an integer from 0 to 4294967"),
        ("[[unit]]\nname = 'a/b.service'\ncontent = ''", "here/r.toml:2: unit[0].name is 'a/b.service', which is no u"),
        ("[[link]]\npath = 'a'\ntarget = 'b'\npart = 'bas'", "here/r.toml:4: link[0].part is 'bas', and no layout has"),
        ("[part.bas]", "here/r.toml:1: part.bas: no layout has such a part (did you mean 'base'?)"),
        ("[part.base]\nminus = ['base']", "here/r.toml:2: part.base.minus names 'base', which is not another part"),
        ("[compression]\ncodec = 'xz'\nlevel = 19", "here/r.toml:3: compression.level is 19: levels of xz are 0 to 9"),
        ("[part.base.compression]\ncodec = 'gzip'\nlevel = 0", "here/r.toml:3: part.base.compression.level is 0: leve"),
        ('cmdline = ["a\\nb"]', "here/r.toml:1: cmdline[0] has a line break"),
        ('modprobe.options.a = "b\\ninstall c /bin/sh"', "here/r.toml:1: modprobe.options.a has a line break"),
        ("access.password-hash = 'secret'", "here/r.toml:1: access.password-hash is not a crypt(5) hash"),
        ("access.password-hash = 12345", "here/r.toml:1: access.password-hash is not valid: it must be a string"),
        ("[kernel]\npackage = 'a'\ndirectory = '.'", "here/r.toml:3: kernel.directory and kernel.package exclude each"),
        ("[kernel]\nmonolithic = true\nadd-modules = ['a']", "here/r.toml:3: kernel.add-modules is not empty, but"),
        ("[kernel]\nmonolithic = true\nextra-modules = ['.']", "here/r.toml:3: kernel.extra-modules is not empty, but"),
        ("[kernel]\nextra-modules = ['.', '']", "here/r.toml:2: kernel.extra-modules[1] is empty"),
        ("[kernel]\nextra-modules = ['.', 'a.ko']", "here/r.toml:2: kernel.extra-modules[1]: {root}/here/a.ko does"),
        ("[microcode]\nvendors = ['amd']\ncpus = ['06-5e-03', 'fam19h']", "here/r.toml:3: microcode.cpus[1] has fam1"),
        ("microcode.cpus = ['06-5E-03']", "here/r.toml:1: microcode.cpus[0] is '06-5E-03': it must be "),
    ],
)  # fmt: skip
def test_refused_recipes(world: World, text: str, message: str) -> None:
    shown = world.refusal(text)
    expected = message.replace("{root}/", "")
    assert shown.startswith(expected)
    assert "12345" not in shown


def test_the_file_that_is_wrong_is_named(world: World) -> None:
    world.write("admin/preroot.toml", "# fine\n[kernel]\nmodules = 1\n")
    world.write("vendor/preroot.toml", "[kernel]\nmodules = 'list'\n")
    assert world.refusal("kernel.modules = 'generic'").startswith("admin/preroot.toml:3: kernel.modules is 1")


def test_duplicates_over_two_files_name_both(world: World) -> None:
    world.write("admin/preroot.toml", "\n[[file]]\npath = '/a'\ncontent = ''\n")
    shown = world.refusal("\n\n[[file]]\npath = '/a'\ncontent = ''\n")
    assert "here/r.toml:3: file[1]: a is given already as file[0] at admin/preroot.toml:2" in shown


def test_missing_recipe(world: World) -> None:
    with pytest.raises(RecipeError, match=r"none\.toml does not exist"):
        load_recipe(world.root / "none.toml", Overrides(), world.search)


def test_unreadable_recipe(world: World) -> None:
    file = world.write("here/r.toml", "")
    file.chmod(0)
    as_root = os.geteuid() == 0
    if as_root:  # who may read everything
        os.seteuid(65534)
    try:
        with pytest.raises(RecipeError, match="cannot be read: Permission denied"):
            load_recipe(file, Overrides(), SearchPath(()))
    finally:
        if as_root:
            os.seteuid(0)


# --- places


def test_relative_sources_start_from_the_file_that_names_them(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in ("here/own", "admin/preroot.toml.d/admins", "elsewhere/mine"):
        world.write(path, "")
    world.write("admin/preroot.toml.d/x.toml", "[[file]]\npath = 'a'\nsource = 'admins'\n")
    monkeypatch.chdir(world.root / "elsewhere")
    loaded = world.load("[[file]]\npath = 'b'\nsource = 'own'\n", set=("file=[{path='c', source='mine'}]",))
    assert loaded.base == world.root / "here"
    assert [each.source for each in loaded.recipe.file] == [
        str(world.root / each) for each in ("admin/preroot.toml.d/admins", "here/own", "elsewhere/mine")
    ]  # fmt: skip


def test_explain_names_the_origin_of_every_value(world: World) -> None:
    world.write("admin/preroot.toml", "[[file]]\npath = 'a'\ncontent = ''\n[part.base]\nfeatures = ['ext4']\n")
    text = "\n[access]\npassword-hash = '$6$salt$hash'\n[[file]]\npath = 'b'\ncontent = ''\n"
    loaded = world.load(text, features=("luks",))
    rows = {key: (value, origin.replace(f"{world.root}/", "")) for key, value, origin in explain(loaded)}
    assert rows["file[0].path"] == ('"a"', "admin/preroot.toml:2")
    assert rows["file[1].path"] == ('"b"', "here/r.toml:5")
    assert rows["file[1].mode"] == ('"0644"', "built-in")
    assert rows["part.base.features"] == ('["ext4", "luks"]', "command line --feature luks")
    assert rows["access.password-hash"] == ('"(secret)"', "here/r.toml:3")
    assert rows["failure.timeout"] == ("90", "built-in")
    assert str(loaded.origins["file[1].path"]).endswith("here/r.toml:5")


# --- anything at all

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.sampled_from(["...", ""])
keys = st.sampled_from(
    ["kernel", "part", "base", "features", "file", "path", "content", "mode", "cmdline", "compression", "level",
     "codec", "distribution", "modules", "budget", "compressed-mb", "user", "name", "uid",
     "microcode", "vendors", "except", "x"]
)  # fmt: skip
documents = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


@settings(deadline=None)
@given(st.dictionaries(keys, documents, max_size=5))
def test_any_values_are_a_recipe_or_refused(data: dict[str, Any]) -> None:
    try:
        assert isinstance(convert(data, Recipe, lambda _: "FILE:1"), Recipe)
    except RecipeError as error:
        assert str(error).startswith("FILE:1: ")
        assert "\n" not in str(error)
        # the walk along the schema finds what msgspec refuses, so that its own words never show
        assert "Expected" not in str(error)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=80) | st.text("[]=\"'.{}#\n ab1,kernelpart", max_size=60).map(str.encode))
def test_any_file_is_a_recipe_or_refused(tmp_path: Path, data: bytes) -> None:
    world = World(tmp_path)
    file = tmp_path / "r.toml"
    file.write_bytes(data)
    try:
        loaded = load_recipe(file, Overrides(), world.search)
    except RecipeError as error:
        assert str(error).startswith(str(file))
        return
    assert explain(loaded)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_command_line_is_taken_or_refused(tmp_path: Path, key: str, value: str) -> None:
    world = World(tmp_path)
    try:
        world.load(set=(f"{key}={value}", f"root.device={value}"))
    except RecipeError as error:
        assert error.message.startswith("command line ")
