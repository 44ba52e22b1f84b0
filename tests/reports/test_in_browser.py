"""The pages in a headless Chromium: no error, nothing loaded, readable on any screen, light and dark; filters work."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from reports.browser import Browser
from reports.conftest import ODD_SHOWN, Sample

pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def report(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from posecli.metrics import evaluate
    from posecli.reports import write_report

    seen: list = []
    result = evaluate(
        sample.gt, sample.pred, sample.worse, by=["tag", "joint"], bootstrap=20, diagnose=True,
        on_sides=lambda *parts: seen.append(parts),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_report(result, path, labels=seen[0][0], sides=seen[0][1], image_root=sample.gt.parent, examples=2)
    return path


@pytest.fixture(scope="module")
def gallery(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from posecli.__main__ import main

    path = tmp_path_factory.mktemp("page") / "gallery.html"
    with pytest.raises(SystemExit) as stop:
        main(["browse", str(sample.gt), str(sample.pred), "--out", str(path)])
    assert not stop.value.code
    return path


@pytest.fixture
def page(browser: Browser) -> Browser:
    browser.errors.clear()
    browser.requests.clear()
    browser.window(1200)
    return browser


def check_quiet(browser: Browser) -> None:
    """No error on the console, and nothing asked of the network."""
    assert browser.errors == []
    assert browser.requests and all(r.startswith(("file:", "data:")) for r in browser.requests)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_report(page: Browser, report: Path, tmp_path: Path, width: int, dark: bool) -> None:
    page.window(width, dark=dark, phone=width < 500)
    page.open(report)
    check_quiet(page)
    assert page.run("document.documentElement.scrollWidth") <= width  # the body does not scroll sideways
    assert page.run("[...document.querySelectorAll('svg')].every((s) => s.getBoundingClientRect().width > 100)")
    paper = page.run("getComputedStyle(document.body).backgroundColor")
    ink = page.run("getComputedStyle(document.querySelector('.plot svg text')).fill")
    bright = [sum(int(v) for v in c[4:-1].split(",")) for c in (paper, ink)]
    assert (bright[0] < 150 and bright[1] > 500) if dark else (bright[0] > 600 and bright[1] < 200)
    page.picture(tmp_path / "report.png")
    picture = cv2.imread(str(tmp_path / "report.png"))
    assert picture.shape[1] == width * (2 if width < 500 else 1)
    assert (picture.mean() < 100) == dark and picture.std() > 5


def test_report_prints(page: Browser, report: Path, tmp_path: Path) -> None:
    page.window(1280, dark=True)
    page.open(report)
    page.pdf(tmp_path / "report.pdf")
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.call("Emulation.setEmulatedMedia", media="print", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    # On a sheet's width nothing is cut off, and plots stand two in a row.
    page.window(700)
    page.call("Emulation.setEmulatedMedia", media="print")
    cut = page.run(
        "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
        ".map((e) => `${e.tagName} ${e.className} ${e.textContent.trim().slice(0, 40)}`)"
    )
    assert cut == []
    tops = page.run("[...document.querySelectorAll('.plots > figure')].map((f) => f.getBoundingClientRect().top)")
    assert len(tops) > 3 and tops[0] == tops[1] < tops[2]
    page.call("Emulation.setEmulatedMedia", media="")


def shown(page: Browser) -> list[str]:
    """Names of the cards, in order."""
    return page.run("[...document.querySelectorAll('.card .name')].map((n) => n.textContent)")


def choose(page: Browser, field: str, value: str) -> None:
    page.run(
        f"{{const f = document.getElementById({field!r}); f.value = {json.dumps(value)};"
        "f.dispatchEvent(new Event('input', {bubbles: true}))}"
    )


def test_gallery_filters(page: Browser, gallery: Path) -> None:
    page.open(gallery)
    check_quiet(page)
    names = shown(page)
    assert len(names) == 10 and names[0] == f"pictures/{ODD_SHOWN}"
    assert page.run("document.getElementById('status').textContent") == "10 of 10 frames"
    # Every picture is decoded, and has a drawing.
    page.wait("[...document.querySelectorAll('.card img')].slice(0, 4).every((i) => i.complete && i.naturalWidth > 50)")
    assert page.run("document.querySelectorAll('.card svg .label .bone').length") > 20
    cases = [
        ("text", "two", ["pictures/two.jpg"]),
        ("text", "FRONT frame 3", ["walk.mp4, frame 3"]),
        ("text", "<script>", [f"pictures/{ODD_SHOWN}"]),
        ("error", "missed", ["pictures/three.png"]),
        ("error", "false", ["pictures/four.jpg"]),
        ("people", "0", []),
        ("score-from", "0.65", [f"pictures/{ODD_SHOWN}", "pictures/two.jpg", "pictures/four.jpg"]),
        ("value-to", "0.3", ["pictures/three.png"]),
    ]
    for field, value, expected in cases:
        choose(page, field, value)
        assert shown(page) == expected, (field, value)
        assert page.run("document.getElementById('status').textContent") == f"{len(expected)} of 10 frames"
        assert page.run("document.getElementById('none').hidden") == bool(expected)
        choose(page, field, "")
    choose(page, "joint", "left_wrist")
    assert len(shown(page)) == 10
    choose(page, "order", "worst")
    assert shown(page)[0] == "pictures/three.png" and shown(page)[-1] == "pictures/four.jpg"  # no value: last
    choose(page, "order", "score")
    assert shown(page)[0] == f"pictures/{ODD_SHOWN}" and shown(page)[-1] == "pictures/three.png"
    page.run("document.querySelector('button[type=reset]').click()")
    page.wait("document.querySelector('.card .name').title === document.querySelectorAll('.name')[0].textContent")
    page.wait(f"document.querySelectorAll('.card .name')[0].textContent === {json.dumps(names[0])}")
    check_quiet(page)


def test_gallery_hides_and_shows(page: Browser, gallery: Path) -> None:
    page.open(gallery)
    drawn = "getComputedStyle(document.querySelector('.card .{} .bone').parentNode).display"
    assert page.run(drawn.format("label")) == page.run(drawn.format("found")) == "inline"
    page.run("document.getElementById('show-label').click()")
    assert [page.run(drawn.format(kind)) for kind in ("label", "found")] == ["none", "inline"]
    page.press("l")
    page.press("p")
    assert [page.run(drawn.format(kind)) for kind in ("label", "found")] == ["inline", "none"]


def test_gallery_by_keyboard(page: Browser, gallery: Path) -> None:
    page.open(gallery)
    place = "document.activeElement.dataset.place"
    page.run("document.querySelector('.card').focus()")
    page.press("ArrowRight")
    assert page.run(place) == "1"
    page.press("ArrowDown")
    below = int(page.run(place))
    assert below > 2
    page.press("ArrowUp")
    page.press("End")
    assert page.run(place) == "9"
    page.press("Home")
    page.press("Enter")
    assert page.run("document.getElementById('large').open")
    assert page.run("document.getElementById('large-name').textContent") == f"pictures/{ODD_SHOWN}"
    page.press("ArrowRight")
    page.press("n")
    assert page.run("document.getElementById('large-place').textContent") == "2 of 10"
    assert page.run("document.querySelectorAll('#large-view text').length") == 17
    page.press("s")
    left = "getComputedStyle(document.querySelector('#large-view .found .bone.left')).stroke"
    assert page.run(left) != page.run(left.replace("left'", "right'"))
    page.press("s")
    assert page.run(left) == page.run(left.replace("left'", "right'"))
    assert "missed" not in page.run("document.getElementById('large-people').textContent")
    page.press("Escape")
    assert not page.run("document.getElementById('large').open")
    page.wait(f"{place} === '1'")  # where the reader was
    page.press("/")
    assert page.run("document.activeElement.id") == "text"
    page.press("l")  # now a letter, not a command
    assert page.run("document.getElementById('text').value") == "l"
    check_quiet(page)


def test_gallery_of_many_frames_is_made_as_it_is_read(page: Browser, cli, tmp_path: Path) -> None:
    """A folder of 130 frames: cards come in parts, each with its picture from the folder; no scrolling aside."""
    (tmp_path / "p").mkdir()
    for n in range(130):
        cv2.imwrite(str(tmp_path / "p" / f"{n}.jpg"), np.full((48, 64, 3), n, np.uint8))
    images = [{"id": n + 1, "file_name": f"p/{n}.jpg", "width": 64, "height": 48} for n in range(130)]
    category = {"id": 1, "name": "person", "keypoints": ["nose", "neck"], "skeleton": [[1, 2]]}
    points = [10, 10, 2, 20, 30, 1]
    annotations = [
        {"id": 1, "image_id": 5, "category_id": 1, "keypoints": points, "num_keypoints": 2, "iscrowd": 0}
        | {"bbox": [5, 5, 30, 30], "area": 400.0}
    ]
    (tmp_path / "l.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    done = cli("browse", tmp_path / "l.json", "--out", tmp_path / "g")
    assert done.code == 0, done.err
    page.window(390, 800, phone=True)
    page.open(tmp_path / "g" / "index.html")
    page.wait("document.querySelector('.card img').naturalWidth === 64")
    first = len(shown(page))
    assert first == 60 and page.run("document.getElementById('status').textContent") == "130 of 130 frames"
    assert page.run("document.documentElement.scrollWidth") == 390
    # Again and again, as somebody who reads on does: the page may still grow below the place first scrolled to.
    to_the_end = "scrollTo(0, document.body.scrollHeight), document.querySelectorAll('.card').length"
    page.wait(f"({to_the_end}) >= 120")
    page.wait(f"({to_the_end}) === 130")
    # A window that is larger than the first cards shows all, and does so again after a filter.
    page.window(5000, 4000)
    page.open(tmp_path / "g" / "index.html")
    page.wait("document.querySelectorAll('.card').length === 130")
    choose(page, "people", "1")
    page.wait("document.querySelectorAll('.card').length === 1")
    page.run("document.getElementById('filters').reset()")
    page.wait("document.querySelectorAll('.card').length === 130")
    page.window(390, 800, phone=True)
    choose(page, "people", "1")
    assert shown(page) == ["p/4.jpg"]
    # A joint that is labelled but hidden has a dark centre.
    assert page.run("document.querySelectorAll('.card .inner').length") == 1
    check_quiet(page)
