# SPDX-License-Identifier: LGPL-2.1-or-later
"""`preroot size` on small images, ours and others': tables, JSON, the page, and what a user can get wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from image_samples import file, part, plan, tree

from preroot.cli import run_command_line
from preroot.image.content import ContentReader
from preroot.image.manifest import encode, make_manifest
from preroot.image.write import write_image
from preroot.tree.model import Reason

BASE = tree(
    file("usr/bin/a", b"\x7fELF" + b"a" * 299_996, 0o755, (Reason("feature", "one"),)),
    file("usr/lib/liba.so", b"\x7fELF" + b"l" * 99_996, reasons=(Reason("needed", "usr/bin/a", "liba.so"),)),
)
MODULES = tree(file("usr/lib/modules/1/kernel/fs/x.ko", b"m" * 50_000, reasons=(Reason("feature", "two"),)))


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """An image of preroot's with its manifest."""
    made = plan(part("base", BASE, "zstd"), part("modules", MODULES, "gzip", 6))
    path = tmp_path / "t.initrd"
    written = write_image(made, path, ContentReader(), threads=1)
    (tmp_path / "t.manifest.json").write_bytes(encode(make_manifest(made, written, {})))
    return path


def run(*arguments: object) -> int:
    return run_command_line(["size", *map(str, arguments)])


def test_tables(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(image, "--by", "feature", "--by", "kind") == 0
    found = [line.split() for line in capsys.readouterr().out.splitlines()]
    headers = found[3][5]
    assert found == [
        ["feature", "own", "share", "files", "with", "shared"],
        ["one", "0.4", "MB", "88.5", "%", "2", "0.4", "MB"],
        ["two", "50.0", "kB", "11.1", "%", "1", "50.0", "kB"],
        ["names,", "modes", "and", "padding", "1.8", headers, "0.4", "%"],
        ["all", "0.5", "MB", "100.0", "%", "3"],
        [],
        ["kind", "size", "share", "files"],
        ["programs", "0.3", "MB", "66.4", "%", "1"],
        ["libraries", "0.1", "MB", "22.1", "%", "1"],
        ["kernel", "modules", "50.0", "kB", "11.1", "%", "1"],
        ["names,", "modes", "and", "padding", "1.8", headers, "0.4", "%"],
        ["all", "0.5", "MB", "100.0", "%", "3"],
    ]


def test_json_adds_up(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(image, "--by", "package", "--by", "directory", "--depth", 2, "--compressed", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["packed"] == image.stat().st_size
    assert [(each["name"], each["codec"], each["level"]) for each in found["parts"]] == [
        ("base", "zstd", 3), ("modules", "gzip", 6),
    ]  # fmt: skip
    assert found["unpacked"] == sum(each["unpacked"] for each in found["parts"])
    for groups in found["by"].values():
        assert sum(group["size"] for group in groups) + found["headers"] == found["unpacked"]
        assert all(0 < group["compressed"] < 2000 for group in groups)
    assert [group["name"] for group in found["by"]["directory"]] == ["usr/bin", "usr/lib"]


def test_a_long_table_is_cut_and_still_adds_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many = tree(*(file(f"d{number}/f", b"x" * 1000) for number in range(30)))
    write_image(plan(part("base", many)), tmp_path / "x", ContentReader())
    assert run(tmp_path / "x", "--by", "directory") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + 25 + 3
    assert lines[26].split() == ["5", "more", "(--all)", "5.0", "kB", "13.5", "%", "5"]
    assert run(tmp_path / "x", "--by", "directory", "--all") == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 30 + 2


def test_the_page(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "size.html"
    assert run(image, "--html", page) == 0
    assert capsys.readouterr().out == f"{page}: where the 0.5 MB of {image} are\n"
    text = page.read_text()
    assert "usr/bin/a is linked to liba.so" in text
    assert text.count('type="radio"') == 5
    assert run(image, "--html", page, "--by", "kind") == 0
    assert capsys.readouterr().out.startswith("kind ")
    assert 'id="tab-kind" checked' in page.read_text()


def test_another_image_than_the_manifests(image: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(plan(part("base", BASE, "gzip")), image, ContentReader())
    assert run(image) == 0
    said = capsys.readouterr()
    assert "t.manifest.json is the manifest of another image" in said.err
    assert said.out.startswith("directory ") and "\nkind " in said.out
    assert run(image, "--by", "feature") == 1
    assert "packages, features and reasons are known only of an image of preroot's" in capsys.readouterr().err


def test_an_image_of_others(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.manifest.json").unlink()
    page = tmp_path / "size.html"
    assert run(image, "--compressed", "--html", page, "--by", "kind") == 0
    assert "compressed alone" in capsys.readouterr().out
    assert page.read_text().count('type="radio"') == 2


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["none"], 1, "cannot read none"),
        (["--by", "colour", "{image}"], 2, "'colour' is not one of"),
        (["--depth", "0", "{image}"], 2, "--depth"),
        (["--html", "{junk}/x.html", "{image}"], 1, "junk/x.html"),
        (["{junk}"], 1, "is no cpio archive"),
        ([], 2, "Missing argument 'IMAGE'"),
        (["{image}", "{image}"], 2, "unexpected extra argument"),
    ],
)
def test_what_a_user_can_get_wrong(
    arguments: list[str], status: int, message: str, image: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path = image.parent
    (tmp_path / "junk").write_bytes(b"junk")
    places = {"image": image, "junk": tmp_path / "junk"}
    assert run(*(each.format(**places) for each in arguments)) == status
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not list(tmp_path.glob("**/*.html*"))


def test_names_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_image(plan(part("base", tree(file("\x1b[31m\udcff/x", b"x")))), tmp_path / "x", ContentReader())
    assert run(tmp_path / "x", "--by", "directory", "--depth", 1) == 0
    assert "\\x1b[31m\\xff" in capsys.readouterr().out
    assert run(tmp_path / "x", "--by", "directory", "--depth", 1, "--json") == 0
    assert "\\\\xff" in capsys.readouterr().out
