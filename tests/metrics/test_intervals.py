"""Intervals and paired comparison: draws against sets that really are drawn, coverage, p, words."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from posecli.metrics import evaluate
from posecli.metrics.comparison import difference_entry, few_units, p_values, short_names, verdict
from posecli.metrics.groups import Group
from posecli.metrics.resampling import Sampler
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Record, Skeleton, Video


def samplers(gt, *predictions, **options) -> list[Sampler]:
    """A sampler for each prediction, pictures being the units."""
    seen: list = []
    evaluate(gt, *predictions, bootstrap=0, on_sides=lambda labels, sides: seen.append((labels, sides)), **options)
    labels, sides = seen[0]
    count = len(labels.frames)
    group = Group("all", "all", np.ones(count, bool))
    return [Sampler(side, group, np.arange(count), count, columns=True) for side in sides]


def drawn(labels: dict, results: list[dict], times: np.ndarray) -> tuple[dict, list[dict]]:
    """The set in which picture i stands ``times[i]`` times."""
    images, people, found = [], [], []
    for image, number in zip(sorted(labels["images"], key=lambda i: i["id"]), times, strict=True):
        for copy in range(int(number)):
            new = {"image_id": image["id"] * 10 + copy}
            images.append(image | {"id": new["image_id"], "file_name": f"{new['image_id']}.jpg"})
            people += [a | new for a in labels["annotations"] if a["image_id"] == image["id"]]
            found += [r | new for r in results if r["image_id"] == image["id"]]
    people = [a | {"id": i + 1} for i, a in enumerate(people)]
    return labels | {"images": images, "annotations": people}, found


@pytest.mark.parametrize("seed, decimals", [(0, 2), (1, 1), (2, 6)])
def test_a_draw_by_weights_is_the_drawn_set(write_json, random_coco, seed, decimals) -> None:
    """AP and AR of all sizes, crowds and ties of score included, and every other metric."""
    labels, results = random_coco(seed, images=24, people=60, detections=200, decimals=decimals)
    (sampler,) = samplers(write_json("gt.json", labels), write_json("dt.json", results))
    random = np.random.default_rng(seed)
    weights = np.stack([np.bincount(random.integers(24, size=24), minlength=24) for _ in range(4)])
    values = sampler.draw(weights.astype(float))
    assert {("AP", ""), ("AP_medium", ""), ("AR_large", ""), ("mean_OKS", ""), ("PCK@0.2", "nose")} <= set(values)
    for number, times in enumerate(weights):
        gt, dt = drawn(labels, results, times)
        expected = evaluate(write_json("gt2.json", gt), write_json("dt2.json", dt), by=["joint"])
        for (key, column), numbers in values.items():
            row = expected["all"]
            if column:
                row = expected["groups"]["joint" if column in expected["groups"]["joint"] else "limb"][column]
            want = np.nan if row[key] in (None, -1) else row[key]
            assert numbers[number] == pytest.approx(want, abs=1e-9, nan_ok=True), (key, column)


def test_a_swap_is_the_mixed_set(write_json, random_coco) -> None:
    """Whole pictures change sides: the same differences as of result files that really are mixed."""
    labels, one = random_coco(3, images=24, people=60, detections=200, decimals=1)
    _, two = random_coco(4, images=24, people=60, detections=150, decimals=1)
    gt = write_json("gt.json", labels)
    first, second = samplers(gt, write_json("a.json", one), write_json("b.json", two))
    ids = sorted(i["id"] for i in labels["images"])
    swapped = np.random.default_rng(0).integers(2, size=(3, 24)).astype(float)
    values = first.draw_differences(second, swapped)
    for number, row in enumerate(swapped):
        change = {ids[i] for i in np.flatnonzero(row)}
        mixed = [
            [r for r in kept if r["image_id"] not in change] + [r for r in other if r["image_id"] in change]
            for kept, other in ((one, two), (two, one))
        ]
        before, after = (evaluate(gt, write_json("mixed.json", m))["all"] for m in mixed)
        for key in ("AP", "AP50", "AP_medium", "AR", "mean_OKS", "PCK@0.2", "PDJ_AUC", "PCP@0.5"):
            assert values[key, ""][number] == pytest.approx(after[key] - before[key], abs=1e-9), key


TOY = Skeleton(
    "toy", ("left_shoulder", "right_shoulder", "right_hip", "left_hip"), sigmas=(0.1,) * 4,
    torso=("left_shoulder", "right_hip"),
)  # fmt: skip
CORNERS = np.array([[0.0, 0], [40, 0], [40, 30], [0, 30]])


def pictures(right: np.ndarray, videos: int = 0):
    """Labels of one person a picture, and predictions of whom ``right[i]`` (4,) says which joints are right."""
    count = len(right)
    person = Instance(CORNERS, np.full(4, 2), np.ones(4), area=1200.0)
    films = tuple(Video(v + 1, f"v{v}", f"v{v}.mp4", 64, 48, 30.0, count // videos) for v in range(videos))
    records = []
    for i in range(count):
        more = {"video_id": i % videos + 1, "frame_id": i // videos} if videos else {}
        records.append(Record(i + 1, f"v{i % videos}.mp4" if videos else f"{i}.jpg", 64, 48, (person,), **more))
    header = StreamHeader(source="x", skeleton=TOY)
    stream = []
    for i, ok in enumerate(right):
        found = Instance(CORNERS + np.where(ok, 0.0, 100.0)[:, None], np.full(4, 2), np.ones(4))
        stream.append((header, FramePoses(i, (found,), image_id=i + 1)))
    return Dataset(TOY, tuple(records), films), stream


def test_p_by_hand() -> None:
    """Three pictures, all of them better: of 8 ways to swap, 2 give a difference as large, so p = 1/4."""
    bad, good = np.zeros((3, 4), bool), np.ones((3, 4), bool)
    gt, one = pictures(bad)
    _, two = pictures(good)
    first, second = samplers(gt, one, two, metrics=["pck"], match="top-score")
    assert p_values(first, second, 3, 1000, [0])["PCK@0.2", ""] == pytest.approx(2 / 8)
    # Two better by 4 joints, one worse by 2: d = 6. Sums of +-4 +-4 +-2 reach 6 in size for 4 of 8.
    mixed = np.array([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]], bool)
    gt, one = pictures(np.array([[0] * 4, [0] * 4, [1] * 4], bool))
    _, two = pictures(mixed)
    first, second = samplers(gt, one, two, metrics=["pck"], match="top-score")
    sizes = [abs(sum(s * d for s, d in zip(signs, (4, 4, -2), strict=True))) for signs in
             itertools.product((1, -1), repeat=3)]  # fmt: skip
    expected = sum(size >= 6 for size in sizes) / 8
    assert p_values(first, second, 3, 1000, [0])["PCK@0.2", ""] == pytest.approx(expected)
    # With fewer draws than ways the answer is an estimate, and never 0.
    assert 0 < p_values(first, second, 3, 7, [0])["PCK@0.2", ""] <= 1


def test_a_difference_that_holds_and_one_that_does_not() -> None:
    random = np.random.default_rng(0)
    gt, one = pictures(random.random((60, 4)) < 0.5)
    _, two = pictures(random.random((60, 4)) < 0.8)
    options = {"metrics": ["oks", "pck"], "match": "top-score", "by": ["joint"], "bootstrap": 300}
    result = evaluate(gt, one, two, **options)
    entry = result["difference"]["all"]["PCK@0.2"]
    assert entry["holds"]
    assert entry["p"] <= 0.01
    assert entry["interval"][0] > 0.1
    assert any(v.startswith("PCK@0.2: second is better than first by ") for v in result["verdicts"])
    joint = result["difference"]["groups"]["joint"]["left_hip"]["PCK@0.2"]
    assert joint["interval"][0] < joint["value"] < joint["interval"][1]
    assert set(result["groups"]["joint"]["left_hip"]["intervals"]) >= {"mean_OKS", "PCK@0.2"}
    # The other way round the sign turns and p stays.
    turned = evaluate(gt, two, one, **options)["difference"]["all"]["PCK@0.2"]
    assert turned["value"] == -entry["value"]
    assert turned["p"] == entry["p"]
    _, other = pictures(random.random((60, 4)) < 0.5)
    result = evaluate(gt, one, other, **options)
    assert not result["difference"]["all"]["PCK@0.2"]["holds"]
    assert any(v.startswith("PCK@0.2: no difference shown") for v in result["verdicts"])


def test_few_videos() -> None:
    right = np.random.default_rng(0).random((40, 4)) < 0.5
    gt, pred = pictures(right, videos=4)
    result = evaluate(gt, pred, metrics=["pck"], match="top-score", bootstrap=100)
    assert (result["settings"]["unit"], result["settings"]["units"]) == ("videos", 4)
    note = "the intervals of all (4) rest on fewer than 10 videos and are likely too narrow"
    assert note in result["notes"]
    gt, pred = pictures(right)
    result = evaluate(gt, pred, metrics=["pck"], match="top-score", bootstrap=100)
    assert not any("too narrow" in n for n in result["notes"])
    # Four videos can be swapped in 16 ways: no p below 2/16, whatever the difference.
    gt, bad = pictures(np.zeros((40, 4), bool), videos=4)
    _, good = pictures(np.ones((40, 4), bool), videos=4)
    result = evaluate(gt, bad, good, metrics=["pck"], match="top-score")
    entry = result["difference"]["all"]["PCK@0.2"]
    few = "only 4 videos: intervals are likely too narrow, and no p can be below 0.125, so no difference can hold"
    assert result["verdicts"][-1] == few
    assert entry["value"] == 1
    assert entry["p"] == pytest.approx(2 / 16)
    assert not entry["holds"]


def test_frames_of_a_video_are_not_independent() -> None:
    """Ten videos of 20 equal frames: the interval over videos is far wider than one over frames would be."""
    right = np.repeat((np.arange(10) % 2 == 0)[None, :], 20, axis=0).reshape(-1, 1) & np.ones(4, bool)
    widths = []
    for videos in (10, 0):
        gt, pred = pictures(right, videos=videos)
        low, high = evaluate(gt, pred, metrics=["pck"], match="top-score", bootstrap=500)["all"]["intervals"]["PCK@0.2"]
        widths.append(high - low)
    assert widths[0] > 3 * widths[1]


@pytest.mark.slow
def test_coverage() -> None:
    """Of many samples from a population with a known mean, about 95 % have it in their interval (joints of a picture
    being alike, which an interval over joints would not heed)."""
    random = np.random.default_rng(0)
    inside = 0
    for seed in range(300):
        share = random.beta(1, 1, 60)  # mean 0.5
        gt, pred = pictures(random.random((60, 4)) < share[:, None])
        result = evaluate(gt, pred, metrics=["pck"], match="top-score", bootstrap=400, seed=seed)
        low, high = result["all"]["intervals"]["PCK@0.2"]
        inside += low <= 0.5 <= high
    # 300 samples: standard error 0.0126; the percentile interval of 60 units covers a little less than 0.95.
    assert 0.91 <= inside / 300 <= 0.98


@pytest.mark.slow
def test_p_under_no_difference() -> None:
    """Of two predictions that are equally good, p is at most 0.05 about one time in twenty."""
    random = np.random.default_rng(1)
    low = 0
    for seed in range(120):
        share = random.beta(1, 1, 40)[:, None]
        gt, one = pictures(random.random((40, 4)) < share)
        _, two = pictures(random.random((40, 4)) < share)
        result = evaluate(gt, one, two, metrics=["oks"], match="top-score", bootstrap=199, seed=seed)
        low += result["difference"]["all"]["AP"]["p"] <= 0.05
    assert low / 120 <= 0.1


def test_words() -> None:
    entry = difference_entry(0.031, (0.012, 0.049), 0.002)
    assert entry["holds"]
    assert verdict("AP", entry, ("A", "B")) == "AP: B is better than A by 3.1 points [1.2, 4.9], p = 0.002"
    worse = difference_entry(-0.031, (-0.049, -0.012), 0.0002)
    assert verdict("AP", worse, ("A", "B")) == "AP: A is better than B by 3.1 points [1.2, 4.9], p < 0.001"
    pixels = verdict("EPE", difference_entry(-2.0, (-3.0, -1.0), 0.01), ("A", "B"), scale=1, unit="px",
                     higher_is_better=False)  # fmt: skip
    assert pixels == "EPE: B is better than A by 2.0 px [1.0, 3.0], p = 0.010"
    unsure = difference_entry(0.01, (-0.01, 0.03), 0.4)
    assert not unsure["holds"]
    assert verdict("AP", unsure, ("A", "B")).startswith("AP: no difference shown; B - A = +1.0 points [-1.0, +3.0]")
    # An interval that leaves out 0 is not enough.
    assert not difference_entry(0.01, (0.001, 0.03), 0.2)["holds"]
    assert "chance" in verdict("AP", difference_entry(0.01, None, None), ("A", "B"))


def test_few_units_in_words() -> None:
    settings = {"units": 8, "unit": "videos", "bootstrap": 100}
    assert few_units(settings) == "only 8 videos: intervals are likely too narrow"
    assert few_units(settings | {"units": 5}).endswith("no p can be below 0.0625, so no difference can hold")
    for enough in ({"units": 10}, {"units": 1}, {"bootstrap": 0}):
        assert few_units(settings | enough) == ""


def test_names() -> None:
    assert short_names("runs/a/val.jsonl", "runs/b/val.jsonl") == ("a/val.jsonl", "b/val.jsonl")
    assert short_names("x.json", "y.json") == ("x.json", "y.json")
    assert short_names("-", "-") == ("first", "second")
