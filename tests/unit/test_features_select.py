# SPDX-License-Identifier: LGPL-2.1-or-later
"""Features: their files, their conditions, and how they are selected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from preroot.errors import RecipeError
from preroot.recipe.conditions import Facts, compare, complete_options, evaluate, holds
from preroot.recipe.features import Content, Feature, Modules, Option, Take, Variant, When
from preroot.recipe.library import Features, load_features
from preroot.recipe.load import load_recipe
from preroot.recipe.schema import Distribution, Failure, Recipe
from preroot.recipe.search import BUILT_IN, SearchPath
from preroot.recipe.select import check_options, select
from preroot.recipe.template import render, template_values

TRIXIE = Facts("debian", "trixie", "amd64", "systemd", {"systemd": "257.9-1~deb13u1"}, "6.12.57+deb13-amd64")
BUSYBOX = Facts("debian", "trixie", "amd64", "busybox")
BOTH = ("systemd", "busybox")


def names(found: tuple[Any, ...]) -> list[str]:
    return [each.name for each in found]


def refusal(listed: list[str], features: dict[str, Feature], facts: Facts = TRIXIE, **options: Any) -> str:
    with pytest.raises(RecipeError) as caught:
        select(listed, features, options, facts, where="r.toml:3")
    return str(caught.value)


# --- versions


@pytest.mark.parametrize(
    ("version", "condition", "expected"),
    [
        ("257.9-1~deb13u1", ">=256", True),
        ("257.9-1~deb13u1", "=257", True),
        ("257.9-1~deb13u1", ">257", False),
        ("257.9-1~deb13u1", ">=257.10", False),
        ("257~rc1-1", "<257", False),
        ("252.39-1", "<256", True),
        ("2:2.7.5-2", ">=2.7", True),
        ("2:2.7.5-2", "<1", False),
        ("6.12.57+deb13-amd64", ">=6.1,<6.13", True),
        ("6.1.176", ">=6.2", False),
        ("262", "=262.0", True),
        ("257", "!=256", True),
        ("", ">=1", False),
        ("unknown", "!=1", False),
    ],
)
def test_compare(version: str, condition: str, expected: bool) -> None:
    assert compare(version, condition) is expected


@settings(deadline=None)
@given(st.lists(st.integers(0, 300), min_size=1, max_size=3), st.lists(st.integers(0, 300), min_size=1, max_size=3))
def test_compare_is_the_order_of_numbers(version: list[int], bound: list[int]) -> None:
    text, other = (".".join(map(str, each)) for each in (version, bound))
    have = [*version, 0, 0, 0][: len(bound)]
    assert compare(text + "-1~deb13u1", ">=" + other) == (have >= bound)
    assert compare("1:" + text, "<" + other) == (have < bound)
    assert [compare(text, sign + other) for sign in "<=>"].count(True) == 1
    assert compare(text, "!=" + other) != compare(text, other)
    assert compare(text, f">={other},<={other}") == (have == bound)


@pytest.mark.parametrize("condition", ["", "256 or so", ">=", "~256", ">=256,", ">= 256 <258"])
def test_malformed_comparisons(condition: str) -> None:
    with pytest.raises(ValueError, match="is not a comparison"):
        compare("257", condition)


@settings(deadline=None)
@given(st.text(max_size=12), st.text(">=<!~,. 0123456789", max_size=8))
def test_any_comparison_is_answered_or_refused(version: str, condition: str) -> None:
    try:
        assert compare(version, condition) in (True, False)
    except ValueError as error:
        assert "is not a comparison" in str(error)


# --- when and variants


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (When(), True),
        (When(distribution="debian", release="trixie", arch="amd64", flavour="systemd"), True),
        (When(release=("bookworm", "trixie")), True),
        (When(release=("bookworm", "sid")), False),
        (When(arch="arm64"), False),
        (When(flavour="busybox"), False),
        (When(systemd=">=256", kernel=">=6.12"), True),
        (When(systemd=">=256", kernel=">=6.13"), False),
        (When(option={"server": "dropbear"}), True),
        (When(option={"server": "openssh"}), False),
        (When(option={"server": ["openssh", "dropbear"]}), True),
        (When(option={"on": True}), True),
        (When(option={"on": 1}), False),
        (When(option={"list": ["a"]}), True),
        (When(option={"list": ["a", "b"]}), True),
        (When(option={"list": ["b", "c"]}), False),
        (When(option={"list": []}), False),
    ],
)
def test_when(when: When, expected: bool) -> None:
    assert holds(when, TRIXIE, {"server": "dropbear", "on": True, "list": ["a"]}) is expected


def test_a_version_that_is_not_known_fulfils_nothing() -> None:
    for comparison in (">=1", "<9999"):
        assert not holds(When(systemd=comparison), BUSYBOX, {})


def test_variants_add_and_replace_in_order() -> None:
    feature = Feature(
        needs=("bin:a",), take=Take(units=("x.service",), binaries=("a",)),
        modules=Modules(required=("m",), any_of=(("p", "q"),)),
        variant=(
            Variant(when=When(flavour="systemd"), needs=("bin:b", "bin:a"), take=Take(units=("y.service",))),
            Variant(when=When(systemd=">=256"), replaces=("take.units", "needs"), needs=("bin:c",),
                    take=Take(units=("z.service",))),
            Variant(when=When(flavour="busybox"), replaces=("take", "modules.any-of"),
                    modules=Modules(required=("n",))),
        ),
    )  # fmt: skip
    content = evaluate("f", feature, TRIXIE, {}).content
    assert content.needs == ("bin:c",)
    assert content.take == Take(units=("z.service",), binaries=("a",))
    old = Facts("debian", "bookworm", "amd64", "systemd", {"systemd": "252.39-1"})
    assert evaluate("f", feature, old, {}).content.needs == ("bin:a", "bin:b")
    assert evaluate("f", feature, old, {}).content.take.units == ("x.service", "y.service")
    content = evaluate("f", feature, BUSYBOX, {}).content
    assert content.take == Take()
    assert content.modules == Modules(required=("m", "n"))
    assert type(content) is Content


# --- selection


def test_requirements_come_first_then_the_listed_order() -> None:
    features = {
        "a": Feature(requires=("b", "cap")), "b": Feature(requires=("c",)), "c": Feature(),
        "d": Feature(provides=("cap",)), "e": Feature(recommends=("f",)), "f": Feature(requires=("g",)), "g": Feature(),
    }  # fmt: skip
    assert names(select(["e", "a", "d"], features, {}, TRIXIE)) == ["e", "c", "b", "d", "a", "g", "f"]
    assert names(select(["d", "a"], features, {}, TRIXIE)) == ["d", "c", "b", "a"]


def test_requirements_may_be_circular() -> None:
    features = {"a": Feature(requires=("b",)), "b": Feature(requires=("a",))}
    assert names(select(["a"], features, {}, TRIXIE)) == ["b", "a"]


def test_a_feature_is_taken_once() -> None:
    assert names(select(["a", "a"], {"a": Feature()}, {}, TRIXIE)) == ["a"]


def test_unknown_feature() -> None:
    features = {"luks": Feature(), "a": Feature(requires=("lukz",))}
    assert refusal(["luk"], features) == "r.toml:3: there is no feature 'luk' (did you mean 'luks'?)"
    assert refusal(["-lux"], features).startswith("r.toml:3: there is no feature 'lux'")
    assert refusal(["a"], features) == (
        "r.toml:3: feature 'a' requires 'lukz', which no feature is or provides (did you mean 'luks'?)"
    )


def test_capabilities() -> None:
    features = {
        "nfs": Feature(requires=("network",)), "networkd": Feature(provides=("network",)),
        "nm": Feature(variant=(Variant(when=When(arch="amd64"), provides=("network",)),)),
        "ip": Feature(flavours=("busybox",), provides=("network",)),
    }  # fmt: skip
    assert refusal(["nfs"], features) == (
        "r.toml:3: feature 'nfs' requires 'network', which no chosen feature provides (add one of: networkd, nm)"
    )
    assert names(select(["nfs", "nm"], features, {}, TRIXIE)) == ["nm", "nfs"]
    arm = Facts("debian", "trixie", "arm64", "systemd")
    with pytest.raises(RecipeError):
        select(["nfs", "nm"], features, {}, arm)


def test_a_recommended_feature_can_provide_what_another_requires() -> None:
    features = {"a": Feature(requires=("cap",), recommends=("b", "c")), "b": Feature(), "c": Feature(provides=("cap",))}
    assert names(select(["a"], features, {}, TRIXIE)) == ["c", "a", "b"]


def test_conflicts() -> None:
    features = {
        "a": Feature(conflicts=("b",)), "b": Feature(), "x": Feature(provides=("ssh",), conflicts=("ssh",)),
        "y": Feature(provides=("ssh",)),
    }  # fmt: skip
    assert refusal(["b", "a"], features).startswith("r.toml:3: features 'a' and 'b' conflict")
    assert refusal(["x", "y"], features).startswith("r.toml:3: features 'x' and 'y' conflict ('y' provides 'ssh')")
    assert names(select(["x"], features, {}, TRIXIE)) == ["x"]


def test_recommendations() -> None:
    features = {
        "a": Feature(flavours=BOTH, recommends=("b", "clash", "gone", "needy")), "b": Feature(),
        "clash": Feature(flavours=BOTH, conflicts=("a",)), "needy": Feature(flavours=BOTH, requires=("nothing",)),
    }  # fmt: skip
    assert names(select(["a"], features, {}, TRIXIE)) == ["a", "b"]
    assert names(select(["a"], features, {}, BUSYBOX)) == ["a"]
    assert names(select(["a", "-b"], features, {}, TRIXIE)) == ["a"]
    assert names(select(["-b", "a", "b"], features, {}, TRIXIE)) == ["a", "b"]


def test_refusing_what_is_required() -> None:
    features = {"a": Feature(requires=("b",)), "b": Feature()}
    assert refusal(["a", "-b"], features).startswith("r.toml:3: feature 'b' is refused, required by 'a'")
    assert names(select(["b", "-b"], features, {}, TRIXIE)) == []


def test_flavours() -> None:
    features = {
        "luks": Feature(), "ext4": Feature(variant=(Variant(when=When(flavour="busybox")),)),
        "a": Feature(flavours=BOTH),
        "b": Feature(flavours=BOTH, requires=("luks",)), "c": Feature(flavours=("busybox",)),
    }  # fmt: skip
    assert names(select(["ext4", "a"], features, {}, BUSYBOX)) == ["ext4", "a"]
    assert refusal(["luks"], features, BUSYBOX).startswith("r.toml:3: feature 'luks' has no busybox flavour (use it")
    assert refusal(["b"], features, BUSYBOX).startswith(
        "r.toml:3: feature 'luks' has no busybox flavour, required by 'b'"
    )
    assert refusal(["c"], features).startswith("r.toml:3: feature 'c' has no systemd flavour")


OPTIONS = {
    "server": Option(type="choice", default="dropbear", choices=("dropbear", "openssh"), help="which server"),
    "port": Option(type="int", default=22), "keys": Option(type="list"), "on": Option(type="bool"), "user": Option(),
}  # fmt: skip


def test_options() -> None:
    features = {"ssh": Feature(options=OPTIONS), "a": Feature()}
    chosen = select(["ssh"], features, {"ssh": {"port": 23}}, TRIXIE)[0]
    assert chosen.options == {"server": "dropbear", "port": 23, "keys": [], "on": False, "user": ""}
    assert refusal(["ssh"], features, ssh={"prt": 1}) == (
        "r.toml:3: feature 'ssh' has no option 'prt' (did you mean 'port'?)"
    )
    assert refusal(["a"], features, a={"x": 1}).startswith("r.toml:3: feature 'a' has no option 'x'")
    assert refusal(["a"], features, ssh={}) == (
        "r.toml:3: options for feature 'ssh', which is not chosen (add 'ssh' to the features of a part, or remove "
        "[features.ssh])"
    )
    assert names(select(["a"], features, {"ssh": {}}, TRIXIE, elsewhere=("ssh",))) == ["a"]
    check_options({"ssh": {}}, {"ssh"})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("server", "telnet", "features.ssh.server is 'telnet': it must be one of dropbear, openssh (which server)"),
        ("server", 1, "features.ssh.server is 1: it must be one of dropbear, openssh (which server)"),
        ("port", True, "features.ssh.port is True: it must be an integer"),
        ("port", "22", "features.ssh.port is '22': it must be an integer"),
        ("keys", "a", "features.ssh.keys is 'a': it must be an array of strings"),
        ("keys", [1], "features.ssh.keys is [1]: it must be an array of strings"),
        ("on", 1, "features.ssh.on is 1: it must be true or false"),
        ("user", [], "features.ssh.user is []: it must be a string"),
    ],
)
def test_wrong_options(key: str, value: Any, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        complete_options("ssh", Feature(options=OPTIONS), {key: value})
    assert str(caught.value) == message


def test_a_wrong_option_of_a_recommended_feature_is_told() -> None:
    features = {"a": Feature(recommends=("ssh",)), "ssh": Feature(options=OPTIONS)}
    assert "features.ssh.port is 'x'" in refusal(["a"], features, ssh={"port": "x"})


# --- templates


def test_templates() -> None:
    recipe = Recipe(distribution=Distribution(mirror="http://me:secret@mirror"), failure=Failure(timeout=5))
    values = template_values(recipe, {"on": True, "keys": ["a", "b"], "port": 22}, "6.12.1")
    text = "{{option.on}} {{option.keys}} {{option.port}} {{failure.timeout}} {{kernel.version}} ${x} {{ name }} { {"
    assert render(text, values) == "yes a b 22 5 6.12.1 ${x} preroot { {"
    assert "secret" not in "".join(values.values())
    with pytest.raises(RecipeError) as caught:
        render("{{option.prt}}", values, "feature ssh")
    assert str(caught.value) == (
        "feature ssh: unknown name {{option.prt}} in a template (did you mean 'option.port'?)"
    )  # fmt: skip


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["a.b", "c"]), st.text(max_size=6), min_size=2), st.text("{}a.bc ", max_size=20))
def test_templates_replace_once_and_nothing_else(values: dict[str, str], text: str) -> None:
    try:
        rendered = render(text, values)
    except RecipeError:
        assert "{{" in text
        return
    if "{{" not in text:
        assert rendered == text
    assert render("{{c}}", values) == values["c"]


# --- files


@pytest.fixture
def places(tmp_path: Path) -> SearchPath:
    for name in ("vendor", "admin"):
        (tmp_path / name / "features").mkdir(parents=True)
    return SearchPath((tmp_path / "vendor", tmp_path / "admin"))


def write(directory: Path, name: str, text: str) -> None:
    file = directory / "features" / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def test_feature_files(places: SearchPath) -> None:
    vendor, admin = places.directories
    write(vendor, "a.toml", 'summary = "vendor"\nneeds = ["bin:a"]')
    write(vendor, "b.toml", 'summary = "b"')
    write(vendor, "c.toml", 'summary = "c"')
    write(vendor, "a.toml.d/x.toml", 'needs = ["...", "bin:x"]')
    write(admin, "a.toml.d/y.toml", 'needs = ["...", "bin:y"]')
    write(admin, "b.toml", 'summary = "admin"')
    (admin / "features/c.toml").symlink_to("/dev/null")
    features = load_features(places)
    assert list(features) == ["a", "b"]
    assert features["a"].needs == ("bin:a", "bin:x", "bin:y")
    assert features["b"].summary == "admin"
    for name in ("c", "d", "../a", ""):
        assert name not in features
    assert vendor / "features/a.toml.d/x.toml" in features.files


def test_only_what_is_asked_for_is_read(places: SearchPath) -> None:
    vendor, _ = places.directories
    write(vendor, "a.toml", "requires = ['b']")
    write(vendor, "b.toml", "summary = 'b'")
    write(vendor, "broken.toml", "][")
    features = load_features(places)
    assert names(select(["a"], features, {}, TRIXIE)) == ["b", "a"]
    assert vendor / "features/broken.toml" not in features.files
    with pytest.raises(RecipeError, match=r"broken\.toml:1: "):
        features["broken"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("summry = 'x'", "a.toml:1: unknown key 'summry' (did you mean 'summary'?)"),
        ("\n[[variant]]\nneds = []", "a.toml:3: unknown key 'variant[0].neds' (did you mean 'needs'?)"),
        ("[[variant]]\nwhen = { relese = 'x' }", "a.toml:2: unknown key 'variant[0].when.relese'"),
        ("[[variant]]\nwhen = { systemd = '256ish' }", "a.toml:2: '256ish' is not a comparison such as '>=256'"),
        ("[[variant]]\nreplaces = ['take.unit']", "a.toml:2: replaces 'take.unit', which is no key of a feature (did "
         "you mean 'take.units'?)"),
        ("[[variant]]\nwhen = { option.x = 1 }", "a.toml:2: feature 'a' has no option 'x'"),
        ("[options.x]\ntype='bool'\n[[variant]]\nwhen = { option.x = 1 }", "a.toml:4: option x is never 1: it must be"),
        ("[options.x]\ntype = 'choice'", "a.toml:1: options.x is a choice without choices"),
        ("[options.x]\ntype = 'choice'\nchoices = ['a']", "a.toml:1: options.x is a choice without a default"),
        ("[options.x]\ntype = 'int'\ndefault = 'a'", "a.toml:1: the default of options.x is 'a': it must be an intege"),
        ("needs = ['bin:a', 'cryptsetup']", "a.toml:1: 'cryptsetup' is no need (write bin:NAME, file:PATH or cap:NAME"),
        ("[[variant]]\nneeds = ['pkg:x']", "a.toml:2: 'pkg:x' is no need"),
        ("[[generate]]\npath = 'a'", "a.toml:1: generate[0] must have either content or source"),
        ("[[generate]]\npath = 'a'\ncontent = '{{option.x}}'", "a.toml:3: unknown name {{option.x}} in a template"),
        ("[take]\nunits = 'a.service'", "a.toml:2: take.units is 'a.service': it must be an array of strings"),
        ("[[except]]\npath = 'a'\nasker = 'b'", "a.toml:1: except[0] has no 'reason'"),
    ],
)  # fmt: skip
def test_refused_feature_files(places: SearchPath, text: str, message: str) -> None:
    write(places.directories[0], "a.toml", text)
    with pytest.raises(RecipeError) as caught:
        load_features(places)["a"]
    assert str(caught.value).replace(f"{places.directories[0]}/features/", "").startswith(message)


def test_a_wrong_drop_in_is_named(places: SearchPath) -> None:
    vendor, admin = places.directories
    write(vendor, "a.toml", "summary = 'a'")
    write(admin, "a.toml.d/x.toml", "\nsummary = 1")
    with pytest.raises(RecipeError, match=r"admin/features/a\.toml\.d/x\.toml:2: summary is 1"):
        load_features(places)["a"]


# --- the features that come with preroot


def test_features_that_come_with_preroot_are_sound() -> None:
    features = Features(SearchPath((BUILT_IN,)))
    provided = {each for name in features for each in features[name].provides}
    provided |= {each for name in features for one in features[name].variant for each in one.provides}
    for name in features:
        feature = features[name]
        assert feature.summary, name
        for content in (feature, *feature.variant):
            assert set(content.requires) <= {*features, *provided}, name
            assert set(content.recommends) <= set(features), name
            assert set(content.conflicts) <= {*features, *provided}, name


@pytest.mark.parametrize("release", ["bookworm", "trixie", "sid"])
def test_the_built_in_recipe_selects(release: str) -> None:
    recipe = load_recipe(None, search=SearchPath((BUILT_IN,))).recipe
    versions = {"systemd": {"bookworm": "252.39-1", "trixie": "257.9-1", "sid": "262.1-1"}[release]}
    facts = Facts("debian", release, "amd64", "systemd", versions)
    chosen = select(recipe.part["base"].features, Features(SearchPath((BUILT_IN,))), recipe.features, facts)
    assert {"systemd", "udev", "ext4"} <= set(names(chosen))
