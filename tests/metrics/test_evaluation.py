"""`evaluate` as a whole: who meets whom, what counts, groups, intervals, comparison."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from posecli.errors import PoseError, UsageError
from posecli.metrics import evaluate
from posecli.predictions import FramePoses, StreamHeader
from posecli.skeletons import COCO17, LSP14, SKELETONS
from posecli.types import Dataset, Instance, Record, Skeleton, Video

SQUARE = Skeleton(
    "square",
    ("left_shoulder", "right_shoulder", "right_hip", "left_hip"),
    edges=((0, 1), (1, 2), (2, 3)),
    sigmas=(0.1, 0.1, 0.1, 0.1),
    torso=("left_shoulder", "right_hip"),
    limbs=((0, 3), (1, 2)),
)
CORNERS = np.array([[0.0, 0], [40, 0], [40, 30], [0, 30]])  # torso: 0,0 to 40,30: 50 px; limbs 30 px


def person(at=(0.0, 0.0), visibility=(2, 2, 2, 2), off=(0.0, 0.0), **more) -> Instance:
    xy = CORNERS + np.array(at) + np.array(off)
    visibility = np.array(visibility)
    return Instance(xy=np.where(visibility[:, None] > 0, xy, np.nan), visibility=visibility, score=np.ones(4), **more)


def labels(*frames, videos=(), skeleton=SQUARE) -> Dataset:
    """One record per tuple of people; the i-th is picture ``i.jpg``, or frame i of the video given beside it."""
    records = []
    for i, people in enumerate(frames):
        video, frame = None, None
        if isinstance(people, tuple) and len(people) == 2 and isinstance(people[0], int):
            video, people = people
            frame = sum(r.video_id == video for r in records)
        records.append(Record(i + 1, f"{i}.jpg", 640, 480, tuple(people), video_id=video, frame_id=frame))
    return Dataset(skeleton, tuple(records), tuple(videos))


def stream(*frames, source="folder", threshold=None, skeleton=SQUARE, files=True):
    header = StreamHeader(source=source, skeleton=skeleton, threshold=threshold)
    return [
        (header, FramePoses(i, tuple(people), file=f"{i}.jpg" if files else None)) for i, people in enumerate(frames)
    ]


def test_perfect() -> None:
    result = evaluate(labels([person(area=1200.0)]), stream([person(person_score=0.5, heat=0.7)]))
    row = result["all"]
    assert row["AP"] == pytest.approx(1)
    for key in ("mean_OKS", "PCK@0.2", "PDJ@0.1", "PDJ_AUC", "PCP@0.5", "PCK@0.2_joint_mean"):
        assert row[key] == pytest.approx(1), key
    assert row["heat"] == pytest.approx(0.7)
    assert result["areas"] == {"given": 1}
    assert result["references"]["PCK"] == {"rule": "torso: left_shoulder to right_hip", "people": 1, "skipped": 0}
    assert any(n.startswith("no PCKh") for n in result["notes"])


def test_by_hand() -> None:
    # One person found 10 px to the right on all joints, one not found at all. Torso 50 px: PCK@0.2 allows 10 px (<=).
    gt = labels([person(area=1250.0), person(at=(300, 300), area=1250.0)])
    pred = stream([person(off=(10, 0))])
    row = evaluate(gt, pred)["all"]
    # OKS of the found one: exp(-100 / (2 * 1250 * 0.2^2)) = exp(-1); the other 0.
    assert row["mean_OKS"] == pytest.approx(np.exp(-1) / 2)
    assert row["PCK@0.2"] == pytest.approx(4 / 8)
    assert row["PDJ@0.1"] == 0
    assert row["PCP@0.5"] == pytest.approx(2 / 4)  # limbs of 30 px: 15 px allowed
    skipped = evaluate(gt, pred, misses="skip")["all"]
    assert skipped["mean_OKS"] == pytest.approx(np.exp(-1))
    assert skipped["PCK@0.2"] == skipped["PCP@0.5"] == 1
    counts = evaluate(gt, pred)["counts"]
    assert (counts["people_evaluated"], counts["people_paired"], counts["people_missed"]) == (2, 1, 1)


def test_joints_not_found_and_not_labelled() -> None:
    gt = labels([person(visibility=(2, 2, 2, 0))])
    row = evaluate(gt, stream([person(visibility=(2, 0, 2, 2))]))["all"]
    assert row["PCK@0.2"] == pytest.approx(2 / 3)  # three labelled, one of them not found
    assert row["PCK@0.2_joint_mean"] == pytest.approx(2 / 3)
    assert row["mean_OKS"] == pytest.approx(2 / 3)
    assert row["PCP@0.5"] == 0  # only the right side's limb is labelled, its shoulder was not found


def test_totals_weigh_joints_and_the_mean_does_not() -> None:
    gt = labels([person()], [person(visibility=(2, 0, 2, 0))])
    pred = stream([person()], [person(off=(49, 0))])
    row = evaluate(gt, pred, metrics=["pck"], match="top-score")["all"]
    assert row["PCK@0.2"] == pytest.approx(4 / 6)
    assert row["PCK@0.2_joint_mean"] == pytest.approx((1 / 2 + 1 + 1 / 2 + 1) / 4)


def test_one_to_one() -> None:
    """Two predictions on one person do not serve two labelled people."""
    gt = labels([person(), person(at=(5, 0))])
    both = evaluate(gt, stream([person(off=(1, 0)), person(off=(2, 0))]))
    assert both["counts"]["people_paired"] == 2
    one = evaluate(gt, stream([person(off=(1, 0))]))
    assert one["counts"]["people_missed"] == 1
    assert one["all"]["PCK@0.2"] == pytest.approx(0.5)


def test_matching_rules() -> None:
    gt = labels([person(box_xyxy=np.array([0.0, 0, 40, 30]))])
    near = person(person_score=0.1)
    far = person(off=(200, 0), person_score=0.9)
    pred = stream([far, near])
    assert evaluate(gt, pred)["all"]["PCK@0.2"] == 1
    assert evaluate(gt, pred, match="iou")["all"]["PCK@0.2"] == 1
    assert evaluate(gt, pred, match="top-score")["all"]["PCK@0.2"] == 0
    with pytest.raises(UsageError, match="oks, iou, top-score"):
        evaluate(gt, pred, match="best")


def test_references_that_are_missing_or_zero_are_counted() -> None:
    folded = Instance(xy=np.full((4, 2), 7.0), visibility=np.full(4, 2), score=np.ones(4), area=100.0)
    gt = labels([person()], [person(visibility=(0, 2, 2, 2))], [folded])
    result = evaluate(gt, stream([person()], [person()], [folded]))
    assert result["references"]["PCK"]["people"] == 1
    assert result["references"]["PCK"]["skipped"] == 2
    assert result["references"]["PCP"]["skipped"] == 2  # two limbs of no length
    boxes = evaluate(gt, stream([person()], [person()], [folded]), pck_reference="box")["references"]["PCK"]
    assert "box" in boxes["rule"]
    assert boxes["skipped"] == 1


def test_joints_meet_by_name() -> None:
    """COCO predictions on LSP labels: order and number of joints differ, neck and head top have no partner."""
    random = np.random.default_rng(0)
    place = {name: random.uniform(0, 100, 2) for name in {*COCO17.keypoints, *LSP14.keypoints}}

    def whole(skeleton: Skeleton) -> Instance:
        count = skeleton.num_keypoints
        xy = np.array([place[n] for n in skeleton.keypoints])
        return Instance(xy=xy, visibility=np.full(count, 2), score=np.ones(count), area=5000.0)

    result = evaluate(labels([whole(LSP14)], skeleton=LSP14), stream([whole(COCO17)], skeleton=COCO17), by=["joint"])
    assert result["all"]["mean_OKS"] == pytest.approx(1)
    assert result["joints"]["only_labels"] == ["neck", "head_top"]
    assert "nose" in result["joints"]["only_predictions"]
    assert len(result["joints"]["compared"]) == 12
    assert set(result["groups"]["joint"]) == set(result["joints"]["compared"])
    assert result["all"]["PCKh@0.5"] == 1  # the head segment is labelled, though nobody predicts it
    only = evaluate(
        labels([whole(LSP14)], skeleton=LSP14), stream([whole(COCO17)], skeleton=COCO17), joints=["left_knee"]
    )
    assert only["joints"]["compared"] == ["left_knee"]
    with pytest.raises(PoseError, match="no joint 'left_tentacle'"):
        evaluate(
            labels([whole(LSP14)], skeleton=LSP14), stream([whole(COCO17)], skeleton=COCO17), joints=["left_tentacle"]
        )
    other = Skeleton("other", ("a", "b", "c", "d"))
    with pytest.raises(PoseError, match="no joint in common"):
        evaluate(labels([whole(LSP14)], skeleton=LSP14), stream([person()], skeleton=other))


def test_one_name_for_two_points_does_not_meet() -> None:
    """`head` is the face in JHMDB and some other point in Penn Action; OpenPose's neck lies between the shoulders."""

    def whole(name: str) -> Instance:
        count = SKELETONS[name].num_keypoints
        xy = np.arange(2.0 * count).reshape(count, 2)
        return Instance(xy=xy, visibility=np.full(count, 2), score=np.ones(count), area=5000.0)

    def joints(label: str, prediction: str) -> tuple[dict, list[str]]:
        result = evaluate(
            labels([whole(label)], skeleton=SKELETONS[label]),
            stream([whole(prediction)], skeleton=SKELETONS[prediction]),
            match="top-score",
        )
        return result["joints"], result["notes"]

    met, notes = joints("pennaction13", "jhmdb15")
    assert "head" not in met["compared"] and len(met["compared"]) == 12
    assert met["only_labels"] == ["head"] and set(met["only_predictions"]) == {"head", "neck", "belly"}
    assert "head: another point in jhmdb15 than in pennaction13; not compared" in notes
    met, notes = joints("lsp14", "openpose_body25")
    assert met["only_labels"] == ["neck", "head_top"] and "neck" in met["only_predictions"]
    assert "neck: another point in openpose_body25 than in lsp14; not compared" in notes
    met, notes = joints("lsp14", "halpe26")  # the same point under two names
    assert met["only_labels"] == [] and not any("another point" in n for n in notes)
    met, _ = joints("pennaction13", "pennaction13")
    assert "head" in met["compared"]


def test_people_with_few_joints() -> None:
    gt = labels([person(), person(at=(100, 100), visibility=(2, 2, 0, 0)), person(at=(200, 0), ignore=True)])
    pred = stream([person(), person(at=(200, 0))])
    assert evaluate(gt, pred)["counts"]["people_evaluated"] == 2
    result = evaluate(gt, pred, min_joints=3)
    assert result["counts"]["people_evaluated"] == 1
    assert result["counts"]["people_ignored_regions"] == 1
    assert result["all"]["mean_OKS"] == 1


VIDEOS = (
    Video(1, "front/walk", "mars/front/walk.mp4", 640, 480, 30.0, 2, ("front",)),
    Video(2, "side/walk", "mars/side/walk.mp4", 640, 480, 30.0, 2, ("side",)),
)


def two_videos():
    good, bad = [person(area=1250.0, track_id=7)], [person(area=1250.0, track_id=8)]
    gt = labels((1, good), (1, good), (2, bad), (2, bad), videos=VIDEOS)
    pred = stream([person()], [person()], source="/data/mars/front/walk.mp4", files=False)
    pred += stream([person(off=(10, 0))], [person(off=(10, 0))], source="mars/side/walk.mp4", files=False)
    return gt, pred


def test_groups_by_tag_video_and_track() -> None:
    gt, pred = two_videos()
    result = evaluate(gt, pred, by=["tag", "video", "track"])
    assert result["frames"]["met_by"] == {"video name and frame": 4}
    groups = result["groups"]
    assert groups["tag"]["front"]["mean_OKS"] == 1
    assert groups["tag"]["side"]["mean_OKS"] == pytest.approx(np.exp(-1))
    assert groups["tag"]["front"]["frames"] == groups["tag"]["front"]["people"] == 2
    assert set(groups["video"]) == {"front/walk", "side/walk"}
    assert groups["video"]["front/walk"]["AP"] == pytest.approx(1)
    assert groups["track"]["side/walk track 8"]["PDJ@0.1"] == 0
    assert groups["track"]["side/walk track 8"]["AP"] is None
    assert result["all"]["mean_OKS"] == pytest.approx((1 + np.exp(-1)) / 2)


def test_video_names_that_fit_two() -> None:
    gt, _ = two_videos()
    with pytest.raises(PoseError, match="no predicted frame meets"):
        evaluate(gt, stream([person()], source="walk.mp4", files=False))


def test_another_size_and_another_rate_are_said() -> None:
    """A stream of the original of a video, labels of a smaller and slower copy."""
    video = Video(1, "walk", "walk.mp4", 640, 480, 20.0, 10)
    gt = labels((1, [person()]), (1, [person()]), videos=(video,))
    same = StreamHeader("walk.mp4", SQUARE, 640, 480, 20.02)
    other = StreamHeader("walk.mp4", SQUARE, 1280, 960, 60.0)

    def said(header: StreamHeader) -> list[str]:
        notes = evaluate(gt, [(header, FramePoses(i, (person(),))) for i in (0, 1)])["notes"]
        return [n for n in notes if "another size" in n or "frames/s" in n]

    assert said(same) == []
    assert said(other) == [
        "2 frames are of another size than in the labels (walk.mp4 frame 0: 1280 x 960, labels 640 x 480); "
        "places are not scaled",
        "walk: 60 frames/s in the predictions, 20 in the labels; frames meet by number, and the same numbers are other "
        "moments",
    ]
    both = evaluate(gt, *([(h, FramePoses(0, (person(),)))] for h in (same, other)), bootstrap=0)
    assert any(n.startswith("second predictions: walk: 60 frames/s") for n in both["notes"])


def test_frames_without_a_partner_are_counted() -> None:
    gt = labels([person()], [person()], [])
    pred = stream([person()], [person()], [], [person()], [])
    pred = [pred[0], *pred[2:]]
    result = evaluate(gt, pred)
    assert result["frames"]["labelled_without_prediction"] == 1
    assert result["frames"]["predicted_without_labels"] == 2
    assert result["frames"]["examples_without_labels"] == ["3.jpg", "4.jpg"]
    assert result["all"]["PCK@0.2"] == pytest.approx(0.5)
    assert evaluate(gt, pred, only_predicted=True)["all"]["PCK@0.2"] == 1
    with pytest.raises(PoseError, match="two predictions for the labelled frame"):
        evaluate(gt, pred + pred)


def test_pictures_of_one_name_in_several_sources() -> None:
    """Labels of one video kept as pictures, poses of two: those of the other have no labels."""
    records = tuple(Record(i, f"images/val/a/{i:06d}.jpg", 64, 48, (person(),), 1, i) for i in range(3))
    gt = Dataset(SQUARE, records, (Video(1, "a", "images/val/a", 64, 48, 0.0, 3),))

    def poses(source: str, shift: float) -> list[tuple[StreamHeader, FramePoses]]:
        header = StreamHeader(source=source, skeleton=SQUARE)
        return [(header, FramePoses(i, (person(shift),), file=f"{i:06d}.jpg")) for i in range(3)]

    for pred in (poses("a", 0.0) + poses("b", 9.0), poses("b", 9.0) + poses("a", 0.0)):
        result = evaluate(gt, pred)
        assert result["all"]["mean_OKS"] == 1
        assert result["frames"]["met_by"] == {"picture name": 3}
        assert result["frames"]["predicted_without_labels"] == 3
    with pytest.raises(PoseError, match=r"000000.jpg of b and 000000.jpg of c"):
        evaluate(gt, poses("b", 0.0) + poses("c", 9.0))


def test_pictures_in_other_folders_meet() -> None:
    records = tuple(Record(i, f"val2017/{i}.jpg", 64, 48, (person(),)) for i in range(3))
    gt = Dataset(SQUARE, records)
    header = StreamHeader(source="/elsewhere/val2017", skeleton=SQUARE)
    pred = [(header, FramePoses(i, (person(),), file=f"{i}.jpg")) for i in range(3)]
    assert evaluate(gt, pred)["frames"]["met_by"] == {"picture name": 3}
    moved = [(header, FramePoses(i, (person(),), file=f"crops/{i}.jpg")) for i in range(3)]
    assert evaluate(gt, moved)["frames"]["met_by"] == {"last part of the picture name": 3}
    by_id = [(StreamHeader(source="x", skeleton=SQUARE), FramePoses(i, (person(),), image_id=i)) for i in range(3)]
    assert evaluate(gt, by_id)["frames"]["met_by"] == {"image_id": 3}


def test_heat_counts_people_above_the_threshold() -> None:
    gt = labels([person()], [])
    pred = stream([person(person_score=0.9, heat=0.8), person(person_score=0.1, heat=0.2)], [], threshold=0.5)
    result = evaluate(gt, pred)
    assert result["all"]["heat"] == pytest.approx(0.8)
    assert [(r["frame"], r["people"], r["heat"]) for r in result["heat_curve"]] == [(0, 1, 0.8), (1, 0, None)]
    without = evaluate(gt, stream([person()], []))
    assert without["heat_curve"] == []
    assert "heat" not in without["all"]
    assert any("no local NMS score" in n for n in without["notes"])


def random_pair(seed: int, frames: int, noise: float):
    random = np.random.default_rng(seed)
    gt, pred = [], []
    for _ in range(frames):
        at = [tuple(random.uniform(0, 400, 2)) for _ in range(random.integers(0, 4))]
        gt.append([person(at=a, area=1250.0) for a in at])
        pred.append(
            [person(at=a, off=random.normal(size=2) * noise, person_score=random.random(), heat=0.5) for a in at]
        )
    return labels(*gt), stream(*pred), gt, pred


def test_bootstrap_draws_equal_repeated_frames() -> None:
    """A draw's value is that of a data set in which the frames stand as often as drawn."""
    from posecli.metrics import oks

    gt, pred, gt_frames, pred_frames = random_pair(3, 12, 12.0)
    times = np.random.default_rng(0).integers(0, 4, 12)
    repeated = [i for i in range(12) for _ in range(times[i])]
    expected = evaluate(labels(*[gt_frames[i] for i in repeated]), stream(*[pred_frames[i] for i in repeated]))["all"]
    from posecli.metrics import evaluation, groups, measures, options, pairing, reading, resampling

    settings = options.check_settings(options.DEFAULT_METRICS, "oks", "wrong", (), None, 0, 0, 1, "auto", False, None)
    known, found = reading.read_labels(gt), reading.read_predictions(pred)
    everything = np.ones(12, bool)
    side = measures.measure_side(
        known, found, evaluation._joints_of_all(known, [found], None)[0],
        pairing.pair_frames(known.frames, found.frames, False), settings, everything,
    )  # fmt: skip
    assert isinstance(side.matches, oks.Matches)
    group = groups.Group("all", "all", everything)
    draws = resampling.Sampler(side, group, np.arange(12), 12).draw(times[None].astype(float))
    for (key, _), values in draws.items():
        want = np.nan if expected[key] == -1 else expected[key]  # nobody of that size
        assert values[0] == pytest.approx(want, nan_ok=True), key


def test_intervals() -> None:
    gt, pred, *_ = random_pair(4, 60, 12.0)
    one = evaluate(gt, pred, bootstrap=200)
    assert one == evaluate(gt, pred, bootstrap=200)
    for key, (low, high) in one["all"]["intervals"].items():
        assert low <= one["all"][key] <= high or key == "heat", key
    assert one["settings"]["unit"] == "pictures"
    assert one["all"]["intervals"] != evaluate(gt, pred, bootstrap=200, seed=1)["all"]["intervals"]


def test_videos_are_drawn_whole() -> None:
    gt, pred = two_videos()
    result = evaluate(gt, pred, bootstrap=100, by=["tag"])
    assert result["settings"]["unit"] == "videos"
    assert result["all"]["intervals"]["mean_OKS"] == pytest.approx([np.exp(-1), 1])
    assert "intervals" not in result["groups"]["tag"]["front"]  # one video gives no interval
    assert "no intervals for front, side: only one of the videos to draw from" in result["notes"]


def test_comparison_of_two_predictions() -> None:
    gt, pred, *_ = random_pair(5, 60, 12.0)
    _, better, *_ = random_pair(5, 60, 4.0)
    same = evaluate(gt, pred, pred, bootstrap=100)
    for key, entry in same["difference"]["all"].items():
        assert entry["value"] == 0
        if key.endswith(("_medium", "_large")):
            continue  # no intervals by size
        assert entry["interval"] == [0, 0]
        assert not entry["holds"]
    result = evaluate(gt, pred, better)
    assert result["settings"]["bootstrap"] == 1000
    entry = result["difference"]["all"]["mean_OKS"]
    assert entry["value"] == pytest.approx(result["second"]["all"]["mean_OKS"] - result["all"]["mean_OKS"])
    assert entry["holds"]
    assert 0 < entry["interval"][0] < entry["value"] < entry["interval"][1]


def test_thresholds() -> None:
    gt, pred = labels([person()]), stream([person(off=(10, 0))])
    row = evaluate(gt, pred, thresholds={"pck": [0.1, 0.2]})["all"]
    assert (row["PCK@0.1"], row["PCK@0.2"]) == (0, 1)
    assert "PCK@0.2" not in evaluate(gt, pred, thresholds=[0.3])["all"]
    for bad in ({"oks": [0.5]}, {"pck": []}, {"pck": [-1]}):
        with pytest.raises(UsageError):
            evaluate(gt, pred, thresholds=bad)
    with pytest.raises(UsageError, match="oks, crowdpose"):
        evaluate(gt, pred, metrics=["moat"])


def test_mean_oks_agrees_with_the_shared_scorer(shared, write_json, tmp_path) -> None:
    """The rule in which figures are quoted: people with 5 or more joints, greedy by OKS, unpaired 0."""
    from posecli.formats import coco
    from posecli.predictions import StreamWriter

    path = shared / "data" / "coco_mini" / "annotations" / "person_keypoints_val2017.json"
    dataset = coco.read(path, warn=lambda _: None)
    random = np.random.default_rng(0)
    target = tmp_path / "poses.jsonl"
    with StreamWriter(target) as writer:
        writer.header(StreamHeader(source="val2017", skeleton=dataset.skeleton, threshold=0.3))
        for number, record in enumerate(dataset.records):
            people = []
            for instance in record.instances:
                if random.random() < 0.2 or not instance.visibility.any():
                    continue
                noise = random.normal(size=(17, 2)) * 0.1 * np.sqrt(instance.area)
                xy = np.nan_to_num(instance.xy) + noise
                seen = np.where(random.random(17) < 0.9, 2, 0)
                people.append(Instance(xy, seen, np.ones(17), person_score=random.random()))
            writer.frame(FramePoses(number, tuple(people), file=record.file_name))
    sys.path.insert(0, str(shared / "data"))
    try:
        import score
    finally:
        sys.path.pop(0)
    expected, count, *_ = score.coco(str(path), str(target))
    result = evaluate(path, target, min_joints=5, metrics=["oks"])
    assert result["all"]["people"] == count
    assert result["all"]["mean_OKS"] == pytest.approx(expected, abs=1e-6)


def test_bad_results_name_the_entry(write_json) -> None:
    gt = labels([person()])
    fine = {"image_id": 1, "category_id": 1, "keypoints": [0.0, 0, 1] * 4, "score": 0.5}
    for change, words in (
        ({"keypoints": [0.0] * 11}, "result 1: keypoints are not"),
        ({"keypoints": [0.0] * 9}, "result 1: 3 keypoints where others have 4"),
        ({"keypoints": [float("nan"), *[0.0] * 11]}, "result 1: nan is not a finite number"),
        ({"keypoints": ["a", *[0.0] * 11]}, "result 1: 'a' is not a finite number"),
        ({"score": None}, "result 1: None is not"),
        ({"bbox": [0, 0, 1, 1]}, "result 1: some results have a box"),
        ({"image_id": [1]}, "result 1: image_id"),
    ):
        bad = [fine, fine | change]
        if "bbox" in change:
            bad = [fine | {"bbox": [0, 0, 1, 1]}, fine]
        with pytest.raises(PoseError, match=words):
            evaluate(gt, write_json("dt.json", bad))
    with pytest.raises(PoseError, match="result 0: no 'keypoints'"):
        evaluate(gt, write_json("dt.json", [{"image_id": 1, "score": 1, "bbox": [0, 0, 1, 1]}]))
    with pytest.raises(PoseError, match="say which joints they are"):
        evaluate(gt, write_json("dt.json", [fine | {"keypoints": [0.0, 0, 1] * 17}]))
    path = write_json("dt.json", [])
    path.write_text("[1, 2")
    with pytest.raises(PoseError, match="not JSON"):
        evaluate(gt, path)
    with pytest.raises(PoseError, match="no such file"):
        evaluate(gt, path.with_name("absent.jsonl"))
    with pytest.raises(PoseError, match="are results, not labels"):
        evaluate(write_json("dt.json", [fine]), path)


def test_draws_do_not_depend_on_blocks(monkeypatch) -> None:
    from posecli.metrics import intervals

    gt, pred, *_ = random_pair(6, 20, 12.0)
    whole = evaluate(gt, pred, bootstrap=50)
    monkeypatch.setattr(intervals, "_WEIGHTS_AT_ONCE", 140)  # 7 draws of 20 pictures
    assert evaluate(gt, pred, bootstrap=50)["all"]["intervals"] == whole["all"]["intervals"]
