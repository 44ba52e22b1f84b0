"""The gallery: what its page is given, one file and folder, names, limits, errors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from reports.conftest import ODD_SHOWN, SIZE, Page, Sample

from posecli.predictions import FramePoses, StreamHeader
from posecli.reports.gallery import spread
from posecli.reports.items import add_predictions, of_dataset
from posecli.skeletons import COCO17
from posecli.types import Dataset, Instance, Record, Video


def data_of(path: Path) -> dict:
    """The data that the page's script is given."""
    page = Page(path.read_text(encoding="utf-8"))
    return json.loads(page.scripts[0])


def browse(cli, *words: object) -> str:
    done = cli("browse", *words)
    assert done.code == 0, done.err
    return done.out


def test_labels_and_predictions(cli, sample: Sample, tmp_path: Path) -> None:
    out = tmp_path / "g.html"
    said = browse(cli, sample.gt, sample.pred, "--out", out)
    assert said.startswith(f"{out}: 10 frames,")
    data = data_of(out)
    assert (data["of"], data["measure"], data["tags"]) == (10, "OKS", ["front"])
    items = {i["n"]: i for i in data["items"]}
    exact, near = items[f"pictures/{ODD_SHOWN}"], items["pictures/two.jpg"]
    missed, false = items["pictures/three.png"], items["pictures/four.jpg"]
    assert exact["e"] == 1 and exact["s"] == 0.9 and not exact["m"] and not exact["f"]
    assert 0.5 < near["e"] < 0.99
    assert (missed["e"], missed["m"], missed["f"], missed["s"]) == (0, 1, 0, None)
    assert (false["e"], false["m"], false["f"], false["s"]) == (None, 0, 1, 0.7)
    # The person below the stream's threshold of 0.3 is not shown, and not counted as false.
    assert [len(near["p"]), near["f"]] == [1, 0]
    found = np.array(near["p"][0]["k"]).reshape(17, 3)
    np.testing.assert_allclose(found[:, :2], sample.xy[2] + (6, 0), atol=0.06)
    assert (found[:, 2] == 2).all() and near["p"][0]["note"] == "paired" and missed["g"][0]["note"] == "missed"
    frame = items["walk.mp4, frame 3"]
    assert frame["t"] == [0] and (frame["w"], frame["h"]) == SIZE and frame["i"].startswith("data:image/jpeg")
    assert data["labels"]["side"][5:7] == [1, 2] and data["labels"]["edges"]
    everyone = data_of_low(cli, sample, tmp_path)
    assert len(everyone["pictures/two.jpg"]["p"]) == 2 and everyone["pictures/two.jpg"]["f"] == 1


def test_nobody_is_false_where_nobody_labelled(cli, sample: Sample, tmp_path: Path) -> None:
    value = json.loads(sample.gt.read_text())
    next(i for i in value["images"] if i["id"] == 4)["is_labeled"] = False
    gt = sample.gt.with_name("unlabelled.json")
    gt.write_text(json.dumps(value))
    browse(cli, gt, sample.pred, "--out", tmp_path / "g.html")
    four = next(i for i in data_of(tmp_path / "g.html")["items"] if i["n"] == "pictures/four.jpg")
    assert (four["f"], four["s"]) == (0, 0.7) and "note" not in four["p"][0]


def test_a_video_of_id_0_has_its_tags() -> None:
    videos = (Video(0, "a", "a.mp4", 8, 8, 25.0, 1, ("front",)), Video(1, "b", "b.mp4", 8, 8, 25.0, 1, ("side",)))
    records = (Record(1, "a.mp4", 8, 8, (), 0, 0), Record(2, "b.mp4", 8, 8, (), 1, 0))
    items = of_dataset(Dataset(COCO17, records, videos)).items
    assert [item.tags for item in items] == [("front",), ("side",)]


def data_of_low(cli, sample: Sample, folder: Path) -> dict:
    browse(cli, sample.gt, sample.pred, "--out", folder / "low.html", "--min-score", 0)
    return {i["n"]: i for i in data_of(folder / "low.html")["items"]}


def test_one_page_that_loads_nothing(cli, sample: Sample, tmp_path: Path) -> None:
    out = tmp_path / "g.html"
    browse(cli, sample.gt, sample.pred, "--out", out)
    text = out.read_text(encoding="utf-8")
    page = Page(text)
    page.check_loads_nothing()
    assert "https://" not in text and "<script>alert" not in text
    assert [a.get("type") for a in page.named("script")] == ["application/json", None]
    assert [p.name for p in tmp_path.iterdir()] == ["g.html"]
    assert cli("browse", sample.gt, "--out", out).code == 1  # exists
    assert cli("browse", sample.gt, "--out", out, "--overwrite").code == 0


def test_folder(cli, sample: Sample, tmp_path: Path) -> None:
    browse(cli, sample.gt, "--out", tmp_path / "gallery", "--size", 100)
    pictures = sorted(p.name for p in (tmp_path / "gallery" / "pictures").iterdir())
    assert pictures == [f"{n:06d}.jpg" for n in range(10)]
    data = data_of(tmp_path / "gallery" / "index.html")
    assert [i["i"] for i in data["items"]] == [f"pictures/{n}" for n in pictures]
    import cv2

    assert cv2.imread(str(tmp_path / "gallery" / "pictures" / pictures[0])).shape == (75, 100, 3)
    assert data["found"] is None and data["items"][0]["p"] == []


def test_stream_alone(cli, sample: Sample, tmp_path: Path) -> None:
    """Pictures are found beside the stream; sources stand in for tags."""
    browse(cli, sample.pred, "--out", tmp_path / "g.html")
    data = data_of(tmp_path / "g.html")
    assert data["labels"] is None and data["measure"] == "" and data["tags"] == ["pictures", "walk.mp4"]
    assert all(i["i"] is not None for i in data["items"])
    assert [len(i["p"]) for i in data["items"]] == [1, 1, 0, 1, 1, 1, 1, 1, 1, 1]


def test_results_list(cli, sample: Sample, tmp_path: Path) -> None:
    """COCO results meet the labels by image id and are measured the same."""
    results = [
        {"image_id": i, "category_id": 1, "score": 0.5, "keypoints": np.hstack([xy, np.ones((17, 1))]).ravel().tolist()}
        for i, xy in sample.xy.items()
        if i != 3
    ]
    (tmp_path / "results.json").write_text(json.dumps(results))
    browse(cli, sample.gt, tmp_path / "results.json", "--out", tmp_path / "g.html")
    items = data_of(tmp_path / "g.html")["items"]
    assert [i["e"] for i in items] == [1, 1, 0, None, 1, 1, 1, 1, 1, 1]
    assert cli("browse", tmp_path / "results.json", "--out", tmp_path / "r.html").code == 1


def test_a_part_of_many_is_said(cli, sample: Sample, tmp_path: Path) -> None:
    said = browse(cli, sample.gt, "--out", tmp_path / "g.html", "--limit", 4, "--json")
    assert json.loads(said)["shown"] == 4 and json.loads(said)["of"] == 10
    page = Page((tmp_path / "g.html").read_text(encoding="utf-8"))
    assert "4 of 10 frames are in this gallery, spread evenly over all of them." in page.text
    assert data_of(tmp_path / "g.html")["of"] == 10
    assert [spread(list(range(10)), n) for n in (4, 10, None)] == [  # type: ignore[type-var]
        [0, 2, 5, 7], list(range(10)), list(range(10))]  # fmt: skip


def test_missing_pictures(cli, sample: Sample, tmp_path: Path) -> None:
    lonely = tmp_path / "labels.json"
    lonely.write_text(sample.gt.read_text())
    done = cli("browse", lonely, "--out", tmp_path / "g.html")
    assert done.code == 0 and "10 of 10 pictures could not be read" in done.err
    data = data_of(tmp_path / "g.html")
    assert all(i["i"] is None and (i["w"], i["h"]) == SIZE for i in data["items"])
    assert "drawn blank" in Page((tmp_path / "g.html").read_text(encoding="utf-8")).text


@pytest.mark.parametrize(
    ("words", "code", "what"),
    [
        (("{pred}", "{pred}"), 2, "labels come first"),
        (("{pred}", "--skeleton", "coco17"), 2, "brings its own skeleton"),
        (("{gt}", "--min-score", "0.5"), 2, "for predictions"),
        (("{gt}", "nothing.jsonl"), 1, "nothing.jsonl"),
        (("nothing.json",), 1, "nothing.json"),
    ],
)
def test_what_is_refused(cli, sample: Sample, tmp_path: Path, words: tuple[str, ...], code: int, what: str) -> None:
    asked = [w.format(pred=sample.pred, gt=sample.gt) for w in words]
    done = cli("browse", *asked, "--out", tmp_path / "g.html")
    assert (done.code, what in done.err, "Traceback" in done.err) == (code, True, False)
    assert not (tmp_path / "g.html").exists()


def test_people_who_are_not_measured_do_not_shift_the_others(tmp_path: Path) -> None:
    """Somebody without a joint was counted where people were marked, and whoever came later had another's mark."""

    def person(x: float, joints: bool = True) -> Instance:
        xy = np.stack([np.linspace(0, 50, 17), np.linspace(0, 150, 17)], 1) + x if joints else np.full((17, 2), np.nan)
        box = np.array([x, x, x + 50, x + 150.0])
        return Instance(xy.astype(np.float32), np.full(17, 2 if joints else 0), np.ones(17, np.float32), 0.9, box)

    records = tuple(Record(n, name, 640, 480, (person(100),)) for n, name in enumerate(("a.jpg", "b.jpg"), 1))
    dataset = Dataset(COCO17, records, root=str(tmp_path))
    header = StreamHeader("", COCO17)
    found = ((person(300, joints=False), person(100), person(400)), (person(100),))
    frames = [(header, FramePoses(n, p, file=r.file_name)) for n, (p, r) in enumerate(zip(found, records, strict=True))]
    collection = of_dataset(dataset, str(tmp_path))
    add_predictions(collection, dataset, frames)
    notes = [[p.note for p in item.predictions] for item in collection.items]
    assert notes == [["", "paired", "false"], ["paired"]]
    assert [(item.missed, item.false) for item in collection.items] == [(0, 1), (0, 0)]
