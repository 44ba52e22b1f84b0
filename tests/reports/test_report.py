"""The report of an evaluation: figures, plots, examples, names, what is missing."""

from __future__ import annotations

import base64
import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from reports.conftest import ODD_SHOWN, Page, Sample

from posecli.errors import PoseError
from posecli.metrics import evaluate
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.reports import plots, write_report
from posecli.reports.examples import false_people, find_examples, stored_size
from posecli.reports.page import visible
from posecli.reports.pictures import Pictures
from posecli.reports.report import short_names
from posecli.reports.tables import metric_tables
from posecli.types import Skeleton

pytest.importorskip("matplotlib")


def evaluated(sample: Sample, *preds: Path, **options: object) -> tuple[dict, object, list]:
    seen: list = []
    result = evaluate(sample.gt, *preds, on_sides=lambda *parts: seen.append(parts), **options)  # type: ignore[arg-type]
    return result, *seen[0]


@pytest.fixture(scope="module")
def one(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Page, str]:
    """The result for one prediction, and its page."""
    path = tmp_path_factory.mktemp("one") / "report.html"
    result, labels, sides = evaluated(sample, sample.pred, by=["tag", "joint"], bootstrap=30, diagnose=True)
    write_report(result, path, labels=labels, sides=sides, image_root=sample.gt.parent)
    text = path.read_text(encoding="utf-8")
    return result, Page(text), text


@pytest.fixture(scope="module")
def two(sample: Sample, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict, Page, str]:
    """The same for two predictions."""
    path = tmp_path_factory.mktemp("two") / "report.html"
    preds = (sample.pred, sample.worse)
    result, labels, sides = evaluated(sample, *preds, by=["tag", "joint"], bootstrap=30, diagnose=True)
    write_report(result, path, labels=labels, sides=sides, image_root=sample.gt.parent, examples=3)
    text = path.read_text(encoding="utf-8")
    return result, Page(text), text


def rows(page: Page, heading: str) -> dict[str, list[str]]:
    """Cells of the table whose first heading is ``heading``, by the name of the row."""
    words = [w.strip() for w in page.words if w.strip()]
    start = words.index(heading)
    found: dict[str, list[str]] = {}
    name = ""
    for word in words[start + 1 :]:
        if re.match(r"[A-Za-z]", word):
            name = word
            found.setdefault(name, [])
        elif name:
            found[name].append(word)
    return found


def test_figures_are_those_of_the_result(one) -> None:
    result, page, _ = one
    people, joints = rows(page, "People"), rows(page, "Joints and limbs")
    for key, name in (("AP", "OKS-AP"), ("AR75", "OKS-AR75"), ("mean_OKS", "mean OKS"), ("heat", "local NMS score")):
        low, high = (100 * v for v in result["all"]["intervals"][key])
        assert people[name][:2] == [f"{100 * result['all'][key]:.1f}", f"{low:.1f} to {high:.1f}"]
    for key in ("PCK@0.2", "PDJ@0.1", "PCP@0.5"):
        total, mean = result["all"][key], result["all"][f"{key}_joint_mean"]
        assert [joints[key][0], joints[key][2]] == [f"{100 * total:.1f}", f"{100 * mean:.1f}"]
    nose = result["groups"]["joint"]["nose"]
    assert f"nose {nose['counted']} {100 * nose['mean_OKS']:.1f} {100 * nose['PCK@0.2']:.1f}" in page.text
    front = result["groups"]["tag"]["front"]
    assert f"front 6 6 {100 * front['AP']:.1f}" in page.text
    miss = result["diagnosis"]["OKS"]["joints"]["miss"]
    assert f"miss {miss} joints" in page.text
    for line in result["notes"]:
        assert " ".join(line.split()) in page.text


def test_it_is_one_page_that_loads_nothing(one, two) -> None:
    for _, page, text in (one, two):
        page.check_loads_nothing()
        assert page.named("script") == [] and "http://" not in text and "https://" not in text
        assert len(text) < 5_000_000
        ids = [a["id"] for _, a in page.elements if a.get("id")]
        assert len(ids) == len(set(ids))
        for target in re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text):
            assert (target[0] or target[1]) in ids


def test_plots(one, two) -> None:
    """Each curve of the result has its plot; colours are the page's."""
    for result, page, text in (one, two):
        names = {a["aria-label"] for a in page.named("svg")}
        assert {"PCK", "PDJ", "precision and recall", "local NMS score", "OKS by joint", "PCP@0.5 by limb"} <= names
        assert set(result["curves"]) <= names
        assert "var(--s1)" in text and "#0a0b" not in text
    assert "differences" in {a["aria-label"] for a in two[1].named("svg")}


def test_odd_names_are_shown_not_obeyed(one) -> None:
    _, page, text = one
    assert f"pictures/{ODD_SHOWN}" in page.text
    assert "<script" not in text and "\udcff" not in text
    assert visible("a\u202eb\x00\n") == "a\\u202eb\\x00\\n"  # a mark that turns the direction of writing
    assert visible("Größe 東京") == "Größe 東京"


def test_examples(one) -> None:
    """Worst: the picture 6 pixels off; best: the exact one; the missed and the false one."""
    _, page, _ = one
    text = page.text
    worst, best, missed, false = (text.index(f" {w} ", text.index("distance of a joint")) for w in (
        "Worst", "Best", "Missed", "False"))  # fmt: skip
    assert text.index("pictures/two.jpg") in range(worst, best)
    assert text.index(f"pictures/{ODD_SHOWN}", best) < missed and "OKS 1.00, score 0.90" in text[best:missed]
    assert "pictures/three.png" in text[missed:false] and "missed" in text[missed:false]
    assert "score 0.70 pictures/four.jpg" in text[false:]
    # Frames of the video look alike: one of them in each group.
    assert text[worst:best].count("walk.mp4, frame") == 1


def test_an_example_lies_where_the_person_is(sample: Sample) -> None:
    """Coordinates in the cut lead back to those in the picture; the cut holds the picture's own pixels there."""
    _, labels, sides = evaluated(sample, sample.pred)
    with Pictures([sample.gt.parent]) as pictures:
        groups = {g.title: g.examples for g in find_examples(labels, sides, ["x"], pictures, 3)}  # type: ignore[arg-type]
    example = next(e for e in groups["Worst"] if e.name == "pictures/two.jpg")
    panel = example.panels[0]
    assert panel.label is not None and panel.prediction is not None and example.picture is not None
    label, found = np.array(panel.label.joints), np.array(panel.prediction.joints)
    scale = np.ptp(label[:, 1]) / np.ptp(sample.xy[2][:, 1])
    np.testing.assert_allclose(found - label, [[6 * scale, 0]] * 17, atol=0.15)
    cut = cv2.imdecode(np.frombuffer(base64.b64decode(example.picture.split(",")[1]), np.uint8), cv2.IMREAD_COLOR)
    assert cut.shape[1] / cut.shape[0] == pytest.approx(example.width / example.height, rel=0.01)
    # The textured part of the picture begins at column 60: where the cut says it does.
    offset = sample.xy[2][0] - label[0] / scale + 0.5
    ratio = cut.shape[1] / example.width
    row = np.abs(cut[int((100 - offset[1]) * scale * ratio)].astype(int) - 80).max(axis=1)
    edge = int(np.flatnonzero(row > 25)[0]) / ratio / scale + offset[0]
    assert edge == pytest.approx(60, abs=2.5)


def test_missing_pictures_are_said_and_drawn_blank(sample: Sample, tmp_path: Path) -> None:
    result, labels, sides = evaluated(sample, sample.pred)
    write_report(result, tmp_path / "r.html", labels=labels, sides=sides, image_root=tmp_path)
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.named("image") == [] and "no picture" in page.text
    assert "pictures could not be read and are drawn blank" in page.text and "--image-root" in page.text
    assert len(page.named("circle")) > 17


def test_two_predictions_side_by_side(two) -> None:
    result, page, _ = two
    for sentence in result["verdicts"]:
        assert " ".join(sentence.split()) in page.text
    people = rows(page, "People")
    first, second = result["all"]["AP"], result["second"]["all"]["AP"]
    assert people["OKS-AP"][0] == f"{100 * first:.1f}" and people["OKS-AP"][2] == f"{100 * second:.1f}"
    assert people["OKS-AP"][4] == f"{100 * (second - first):+.1f}"
    # Picture 3 is found by the second only, the exact picture 1 falls.
    better = page.text.index("worse.jsonl better")
    assert "pictures/three.png" in page.text[better:][:600]
    worse = page.text.index("poses.jsonl better", better)
    assert f"pictures/{ODD_SHOWN}" in page.text[worse:][:400]
    assert len(page.named("use")) >= len(page.named("image")) > 2  # the second panel shows the first one's picture


def test_intervals_of_few_units_are_doubted_where_they_stand(one) -> None:
    result, page, _ = one
    assert result["settings"]["units"] == 5  # four pictures and one video
    assert page.text.index("likely too narrow") < page.text.index("All metrics", page.text.index("Shares are x 100"))


def test_a_difference_is_coloured_where_it_holds(two) -> None:
    """Of five units none can hold, however clear of 0 its interval."""
    row = ("PCK", 0.2, 0.1, 0.3)
    plain, coloured = (plots.forest_plot([(*row, holds)], title="x", xlabel="y") for holds in (False, True))
    assert "var(--s2)" not in plain and "var(--s2)" in coloured
    result, page, _ = two
    clear = [e for e in result["difference"]["all"].values() if e["interval"][0] > 0 or e["interval"][1] < 0]
    assert clear and not any(e["holds"] for e in clear)
    assert "coloured where the difference holds" in page.text
    assert page.text.count("only 5 videos and single pictures: intervals are likely too narrow, and no p can be") == 2


def test_without_the_people_there_are_no_examples(sample: Sample, tmp_path: Path) -> None:
    result = evaluate(sample.gt, sample.pred)
    write_report(result, tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert page.named("image") == [] and "No intervals were asked for" in page.text


def test_the_verb_writes_the_page(cli, sample: Sample, tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    done = cli("evaluate", sample.gt, sample.pred, "--report", path, "--bootstrap", 10, "--examples", 1, "--json")
    assert done.code == 0, done.err
    assert '"joint"' not in done.out.split('"settings"')[0]  # bars of joints are for the page only
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.named("image")) == 4 and "joints of skeleton coco17" in page.text
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]
    again = cli("evaluate", sample.gt, sample.pred, "--report", path)
    assert again.code == 1 and "--overwrite" in again.err


def test_matplotlib_is_asked_for_in_one_line(sample: Sample, tmp_path: Path, monkeypatch) -> None:
    result = evaluate(sample.gt, sample.pred)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(PoseError, match=r"pip install 'posecli\[plots\]'"):
        write_report(result, tmp_path / "r.html")
    assert list(tmp_path.iterdir()) == []


def test_missed_people_come_by_size_whatever_joints_they_lack(tmp_path: Path) -> None:
    """Without sigmas people are ranked by PCK; nobody is found, so that all are missed."""
    sizes = {"small": 20, "large": 90, "medium": 50}
    images, annotations = [], []
    for n, (name, size) in enumerate(sizes.items(), start=1):
        images.append({"id": n, "file_name": f"{name}.jpg", "width": 200, "height": 200})
        points = [5, 5, 2, 5 + size, 5 + size, 2, 0, 0, 0]  # the third joint is not labelled
        annotations.append(
            {"id": n, "image_id": n, "category_id": 1, "keypoints": points, "num_keypoints": 2, "iscrowd": 0}
            | {"bbox": [5, 5, size, size], "area": float(size * size)}
        )
    category = {"id": 1, "name": "x", "keypoints": ["tip", "middle", "end"], "skeleton": [[1, 2], [2, 3]]}
    gt, pred, page = (tmp_path / n for n in ("gt.json", "pred.jsonl", "report.html"))
    gt.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    with StreamWriter(pred) as writer:
        writer.header(StreamHeader("p", Skeleton("x", ("tip", "middle", "end"))))
        for n, name in enumerate(sizes):
            writer.frame(FramePoses(n, (), file=f"{name}.jpg"))
    seen: list = []
    options = {"metrics": ["pck"], "match": "iou", "on_sides": lambda *parts: seen.append(parts)}
    result = evaluate(gt, pred, by=["joint"], diagnose=True, **options)  # type: ignore[arg-type]
    write_report(result, page, labels=seen[0][0], sides=seen[0][1])
    text = Page(page.read_text(encoding="utf-8")).text
    order = [text.index(f"missed {name}.jpg") for name in ("large", "medium", "small")]
    assert order == sorted(order) and "Worst people" not in text


def test_nobody_is_false_where_nobody_labelled(sample: Sample, tmp_path: Path) -> None:
    value = json.loads(sample.gt.read_text())
    found = []
    for labelled in (True, False):
        next(i for i in value["images"] if i["id"] == 4)["is_labeled"] = labelled
        (tmp_path / "gt.json").write_text(json.dumps(value))
        seen: list = []
        evaluate(tmp_path / "gt.json", sample.pred, metrics=["oks"], on_sides=lambda *both: seen.extend(both))  # noqa: B023
        found.append(len(false_people(seen[1][0], seen[0].frames)))
    assert found == [1, 0]


@pytest.mark.parametrize("people", [True, False])
def test_where_there_is_little_to_say(cli, sample: Sample, tmp_path: Path, people: bool) -> None:
    """Labels without people, predictions without people: pages all the same."""
    value = json.loads(sample.gt.read_text())
    if not people:
        value["annotations"] = []
    (tmp_path / "gt.json").write_text(json.dumps(value))
    lines = [json.loads(line) for line in sample.pred.read_text(errors="surrogateescape").splitlines()]
    nobody = [line | {"persons": []} if "persons" in line else line for line in lines]
    (tmp_path / "pred.jsonl").write_text("".join(json.dumps(line) + "\n" for line in nobody))
    for n, preds in enumerate([["pred.jsonl"], ["pred.jsonl", "pred.jsonl"]]):
        words = [tmp_path / "gt.json", *(tmp_path / p for p in preds), "--report", tmp_path / f"{n}.html"]
        done = cli("evaluate", *words, "--bootstrap", 5, "--examples", 1)
        assert done.code == 0, done.err
        page = Page((tmp_path / f"{n}.html").read_text(encoding="utf-8"))
        assert ("Nobody to draw" in page.text) == (not people or n == 1)
        assert ("Missed" in page.text) == (people and n == 0)


def test_many_examples_are_stored_smaller() -> None:
    sizes = [stored_size(n) for n in (0, 1, 40, 160, 10_000)]
    assert sizes == [480, 480, 480, 240, 160]


def test_short_names() -> None:
    assert short_names(["a/x.jsonl", "b/y.jsonl"]) == ["x.jsonl", "y.jsonl"]
    assert short_names(["a/x.jsonl", "b/x.jsonl"]) == ["first", "second"]
    assert short_names(["a" * 60 + ".jsonl"]) == ["a" * 18 + "…" + "a" * 7 + ".jsonl"]


@pytest.mark.parametrize(
    ("key", "unit", "rise"),
    [("AP", "share", "up"), ("EPE", "px", "down"), ("MOT_switches", "count", "down"),
     ("MOT_mostly_tracked", "count", "up")],
)  # fmt: skip
def test_a_difference_points_up_where_it_is_better(key: str, unit: str, rise: str) -> None:
    """More people tracked through were marked as worse, as more switches are."""
    sides = {"second": {"all": {key: 2}}, "all": {key: 1}, "units": {} if unit == "share" else {key: unit}}
    for value in (1.0, -1.0):
        entry = {"value": value, "interval": [value, value], "holds": True}
        result = {**sides, "difference": {"all": {key: entry}}}
        (table,) = metric_tables(result)
        cell = table["rows"][0]["cells"][-1]
        assert cell.direction == (rise if value > 0 else {"up": "down", "down": "up"}[rise])
