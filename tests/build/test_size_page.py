# SPDX-License-Identifier: LGPL-2.1-or-later
"""The page of `preroot size --html` in a real browser: what it draws, where, and whether it can be read."""

from __future__ import annotations

import html
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from preroot.inspect.size import EXPLAINED, Grouping, PartSize, SizedFile, Sizes, groups
from preroot.inspect.sizepage import page
from preroot.inspect.why import WhyPath
from preroot.run import need_tool
from preroot.tree.model import Reason

BROWSER = "chromium-headless-shell"
NASTY = "usr/share/<script>document.title='run'</script>&\"'\udcff\x1b"
#: Chromium's numbers for prefers-color-scheme
SCHEMES = {"dark": 0, "light": 1}
VIEWS: tuple[Grouping, ...] = ("package", "feature", "directory", "reason", "kind")

#: Shows one view after the other (and a group's own map), and writes down what the browser has made of each.
MEASURE = """
const box = (element) => { const r = element.getBoundingClientRect(); return [r.x, r.y, r.width, r.height]; };
const colour = (element) => getComputedStyle(element).fill.match(/[\\d.]+/g).map(Number);
function measure(svg) {
  return {
    svg: box(svg),
    groups: [...svg.querySelectorAll("rect.group")].map(box),
    boxes: [...svg.querySelectorAll("g.box")].map((each) => ({
      path: each.dataset.path, size: Number(each.dataset.size), title: each.querySelector("title").textContent,
      box: box(each.querySelector("rect")),
    })),
    texts: [...svg.querySelectorAll("text")].map((each) => ({
      text: each.textContent, box: box(each), within: box(each.parentNode.querySelector("rect")),
      on: colour(each.parentNode.querySelector("rect")), colour: colour(each),
      size: parseFloat(getComputedStyle(each).fontSize) * svg.getBoundingClientRect().width / svg.viewBox.baseVal.width,
    })),
  };
}
const found = { title: document.title, script: typeof filter };
for (const tab of document.querySelectorAll(".tab")) {
  tab.checked = true;
  const by = tab.id.replace("tab-", "");
  const shown = [...document.querySelectorAll(".map svg")].filter((svg) => svg.getBoundingClientRect().width);
  found[by] = { shown: shown.length, ...measure(shown[0]),
    table: [...document.querySelectorAll(`.${by} tbody tr`)].map((row) => row.cells[0].textContent) };
  const link = document.querySelector(`.${by} svg a`);
  if (!link) continue;
  location.hash = link.getAttribute("href");
  const inner = [...document.querySelectorAll(".map svg")].filter((svg) => svg.getBoundingClientRect().width);
  found[by].detail = { shown: inner.length, ...measure(inner[0]) };
  location.hash = "";
}
if (typeof filter == "function") {
  input.value = "LIB0";
  input.dispatchEvent(new Event("input"));
  found.kept = [...document.querySelectorAll(".whole .box:not(.dim)")].map((each) => each.dataset.path);
  found.status = document.querySelector(".status").textContent;
}
const out = document.createElement("pre");
out.id = "measured";
out.textContent = JSON.stringify(found);
document.body.append(out);
"""


def some_sizes() -> Sizes:
    """Sizes as of a small image: three packages, many small files, and one with a nasty name."""
    files, index = [], {}
    for number in range(120):
        package = f"package{number % 3}=1.{number % 3}"
        path = f"usr/lib/lib{number:03}.so" if number % 2 else f"usr/bin/program-with-a-long-name-{number:03}"
        files.append(SizedFile(path, 2_000_000 // (number + 1), "base", "libraries", package))
        feature = Reason("feature", "luks" if number % 3 else "udev", "usr/bin/x")
        index[path] = WhyPath(package, (feature, Reason("feature", "ssh")) if number % 5 == 0 else (feature,))
    files.append(SizedFile(NASTY, 700_000, "base", "other", "package0=1.0"))
    index[NASTY] = WhyPath("package0=1.0", (Reason("recipe", "recipe", "<b>[[file]]</b>"),))
    total = sum(file.size for file in files)
    return Sizes("out/<i>.initrd", (PartSize("base", "zstd", 3, total + 9999, 3_000_000),), tuple(files), index)


SIZES = some_sizes()


def make_page(path: Path, sizes: Sizes = SIZES, views: tuple[Grouping, ...] = VIEWS, *, script: bool = True) -> Path:
    text = page(sizes, {by: groups(sizes, by) for by in views}, lambda path: f"because of {path[:9]}", 3_100_000)
    if not script:
        text, count = re.subn(r"<script>.*?</script>", "", text, flags=re.DOTALL)
        assert count == 1
    path.write_text(text.replace("</body>", f"<script>{MEASURE}</script></body>"))
    return path


def browse(file: Path, scheme: str = "light", *options: str) -> Any:
    """Return what the browser says of a page that MEASURE was added to."""
    argv = [
        need_tool(BROWSER, "to test pages (scripts/setup test)"), "--no-sandbox", "--disable-gpu",
        "--window-size=1400,1200",
        f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}", f"--user-data-dir={file.parent}/profile",
        *options, "--dump-dom", file.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=120)
    found = re.search(r'<pre id="measured">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    return json.loads(html.unescape(found[1]))


def luminance(colour: list[float]) -> float:
    """Return the relative luminance of a colour (WCAG 2.2)."""
    parts = [value / 255 for value in colour[:3]]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: list[float], other: list[float]) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def is_inside(inner: list[float], outer: list[float], slack: float = 1.0) -> bool:
    return (
        inner[0] >= outer[0] - slack and inner[1] >= outer[1] - slack
        and inner[0] + inner[2] <= outer[0] + outer[2] + slack and inner[1] + inner[3] <= outer[1] + outer[3] + slack
    )  # fmt: skip


def check_map(found: Any, total: int) -> None:
    """See that a map is drawn in proportion, and that each label lies in its box and can be read."""
    assert found["shown"] == 1
    x, y, width, height = found["svg"]
    assert width >= 960
    assert found["boxes"] and found["texts"]
    for each in found["boxes"]:
        assert is_inside(each["box"], [x, y, width, height])
    whole = found["groups"] or [each["box"] for each in found["boxes"]]
    assert sum(box[2] * box[3] for box in whole) == pytest.approx(width * height, rel=0.01)
    largest = max(found["boxes"], key=lambda each: each["size"])
    # labels of groups take a little of the area
    share = largest["box"][2] * largest["box"][3] / (width * height)
    assert share == pytest.approx(largest["size"] / total, rel=0.15)
    assert largest["path"].rpartition("/")[2][:8] in {text["text"][:8] for text in found["texts"]}
    for text in found["texts"]:
        assert is_inside(text["box"], text["within"]), text
        assert text["size"] >= 9, text
        assert contrast(text["colour"], text["on"]) >= 4.5, text


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_map_is_drawn_and_can_be_read(scheme: str, tmp_path: Path) -> None:
    found = browse(make_page(tmp_path / "size.html"), scheme)
    assert found["title"] == "Size of out/<i>.initrd"
    for by in VIEWS:
        check_map(found[by], SIZES.unpacked)
        assert len(found[by]["groups"]) == len([each for each in groups(SIZES, by) if each.size]) + 1
        assert found[by]["table"][:-1] == [group.name for group in groups(SIZES, by)]
        detail = groups(SIZES, by)[0]
        check_map(found[by]["detail"], detail.size)
        assert len(found[by]["detail"]["boxes"]) == len([each for each in detail.files if each.size])


def test_what_names_contain_is_shown_and_not_run(tmp_path: Path) -> None:
    found = browse(make_page(tmp_path / "size.html"))
    titles = {each["path"]: each["title"] for each in found["package"]["boxes"]}
    shown = NASTY.replace("\udcff", "\\xff").replace("\x1b", "\\x1b")
    assert titles[shown].splitlines() == [shown, f"0.7 MB, {700_000 / SIZES.unpacked:.1%}".replace("%", " %"),
                                          "package0=1.0", "because of usr/share"]  # fmt: skip


def test_without_javascript_there_is_all_but_the_filter(tmp_path: Path) -> None:
    """What the page says is in its markup: only the script of this test runs here."""
    found = browse(make_page(tmp_path / "size.html", script=False))
    assert found["script"] == "undefined"
    for by in VIEWS:
        check_map(found[by], SIZES.unpacked)
        check_map(found[by]["detail"], groups(SIZES, by)[0].size)


def test_the_filter(tmp_path: Path) -> None:
    found = browse(make_page(tmp_path / "size.html"))
    wanted = {file.path for file in SIZES.files if "lib0" in file.path}
    assert set(found["kept"]) == wanted
    size = sum(file.size for file in SIZES.files if file.path in wanted)
    assert found["status"] == f"{len(wanted)} boxes with “LIB0”: {size / 1e6:.1f} MB"


def test_an_image_of_others_and_an_empty_one(tmp_path: Path) -> None:
    views: tuple[Grouping, ...] = tuple(by for by in VIEWS if by not in EXPLAINED)
    foreign = Sizes("x", SIZES.parts, SIZES.files, {})
    found = browse(make_page(tmp_path / "foreign.html", foreign, views))
    assert [by for by in VIEWS if by in found] == list(views)
    nothing = Sizes("x", (PartSize("segment 0", "none", 0, 124),), (), {})
    found = browse(make_page(tmp_path / "empty.html", nothing, views))
    assert found["kind"]["boxes"] == [] and found["kind"]["table"] == ["names, modes and padding"]


def test_nothing_outside_the_file_is_asked_for() -> None:
    text = page(SIZES, {by: groups(SIZES, by) for by in VIEWS}, lambda path: "")
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href|url\()\s*=?\s*[\"'(]?\s*(https?:|//|file:|data:)", text)
