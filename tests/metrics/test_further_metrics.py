"""`evaluate` with tracks, errors in pixels, several reference lengths, relaxed PCP, and reasons for what is missing."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.errors import PoseError, UsageError
from posecli.metrics import evaluate
from posecli.metrics.summary import main_table
from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Record, Skeleton, Video

BODY = Skeleton(
    "body",
    ("left_shoulder", "right_shoulder", "right_hip", "left_hip", "neck", "head_top"),
    sigmas=(0.1,) * 6,
    torso=("left_shoulder", "right_hip"),
    head=("neck", "head_top"),
    limbs=((0, 3), (1, 2)),
)
# Torso 50, head segment 20, limbs 30 long.
POINTS = np.array([[0.0, 0], [40, 0], [40, 30], [0, 30], [20, -5], [20, -25]])
TRACKING = ["mota", "idf1", "hota", "posetrack"]


def person(at=(0.0, 0.0), off=(0.0, 0.0), missing=(), **more) -> Instance:
    visibility = np.full(6, 2)
    visibility[list(missing)] = 0
    more.setdefault("area", 1250.0)
    return Instance(POINTS + np.array(at) + np.array(off), visibility, np.ones(6), **more)


def videos(*clips, extra=None) -> Dataset:
    """One video per clip, a clip being a list of frames, a frame a list of people."""
    made, records = [], []
    for v, clip in enumerate(clips, 1):
        made.append(Video(v, f"clip{v}", f"clip{v}.mp4", 640, 480, 25.0, len(clip), (f"tag{v}",)))
        for f, people in enumerate(clip):
            more = (extra or {}).get((v, f), {})
            records.append(
                Record(len(records) + 1, f"clip{v}.mp4", 640, 480, tuple(people), video_id=v, frame_id=f, extra=more)
            )
    return Dataset(BODY, tuple(records), tuple(made))


def streams(*clips, threshold=None):
    lines = []
    for v, clip in enumerate(clips, 1):
        header = StreamHeader(source=f"clip{v}.mp4", skeleton=BODY, threshold=threshold)
        lines += [(header, FramePoses(f, tuple(people))) for f, people in enumerate(clip)]
    return lines


def two(first, second, **more) -> list[Instance]:
    return [person(track_id=first, **more), person(at=(200, 0), track_id=second, **more)]


def test_tracks_of_two_videos() -> None:
    # In the first video nothing is wrong; in the second the ids trade places after two of four frames.
    gt = videos([two(1, 2)] * 4, [two(1, 2)] * 4)
    pred = streams([two(5, 6)] * 4, [two(5, 6)] * 2 + [two(6, 5)] * 2)
    result = evaluate(gt, pred, metrics=TRACKING, by=["video", "tag", "joint"])
    row = result["groups"]["video"]["clip2"]
    assert row["MOTA"] == pytest.approx(1 - 2 / 8)
    assert row["IDF1"] == pytest.approx(0.5)
    assert row["HOTA"] == pytest.approx((1 / 3) ** 0.5)
    assert row["PoseTrack_MOTA"] == pytest.approx(1 - 2 / 8)  # both switches, on every joint
    assert result["groups"]["video"]["clip1"]["MOTA"] == 1
    assert result["groups"]["tag"]["tag2"]["IDF1"] == pytest.approx(0.5)
    assert result["all"]["MOTA"] == pytest.approx(1 - 2 / 16)
    assert result["all"]["IDF1"] == pytest.approx(12 / 16)
    assert result["all"]["HOTA"] == pytest.approx(((8 + 8 / 3) / 16) ** 0.5)
    assert set(result["groups"]["joint"]) == set(BODY.keypoints)
    assert result["groups"]["joint"]["neck"]["PoseTrack_MOTA"] == pytest.approx(1 - 2 / 16)
    assert result["tracking"]["videos"] == 2
    curve = result["hota_curve"]
    assert curve["thresholds"][0] == 0.05 and curve["thresholds"][-1] == 0.95
    assert np.mean(curve["HOTA"]) == pytest.approx(result["all"]["HOTA"])
    assert np.mean(curve["AssA"]) == pytest.approx(result["all"]["AssA"])
    assert result["units"]["MOT_switches"] == "count"


def test_tracks_with_intervals_and_two_predictions() -> None:
    gt = videos(*[[two(1, 2)] * 3] * 4)
    good = streams(*[[two(5, 6)] * 3] * 4)
    bad = streams(*[[two(5, 6)] * 3] * 2, *[[two(5, 6), two(6, 5), two(5, 6)]] * 2)
    result = evaluate(gt, good, bad, metrics=["mota"], bootstrap=100)
    low, high = result["second"]["all"]["intervals"]["MOTA"]
    assert low == pytest.approx(1 - 4 / 6)
    assert high == 1
    assert result["difference"]["all"]["MOTA"]["value"] == pytest.approx(-8 / 24)


def test_threshold_of_tracking() -> None:
    # All 10 px to the right: OKS = mean of exp(-100 / (2 * 1250 * (2 sigma)^2)) over the joints, for everybody.
    gt, pred = videos([two(1, 2)] * 2), streams([two(5, 6, off=(10, 0))] * 2)
    oks = evaluate(gt, pred, metrics=["oks"])["all"]["mean_OKS"]
    assert 0.05 < oks < 0.95
    for threshold, found in ((oks - 0.02, 1), (oks + 0.02, 0)):
        row = evaluate(gt, pred, metrics=["mota", "idf1"], thresholds={"tracking": [threshold]})["all"]
        assert row["IDF1"] == found and row["MOTA"] == (1 if found else -1)
    with pytest.raises(UsageError, match="one OKS, up to 1"):
        evaluate(gt, pred, metrics=["mota"], thresholds={"tracking": [0.5, 0.7]})


def test_who_takes_part_in_tracking() -> None:
    gt = videos([[person(track_id=1), person(at=(200, 0), ignore=True, track_id=2)]] * 2)
    shown = [person(track_id=1, person_score=0.9)]
    faint = person(at=(0, 300), track_id=8, person_score=0.1)
    on_crowd = person(at=(200, 0), track_id=9, person_score=0.9)
    on_nobody = person(at=(0, 300), track_id=7, person_score=0.9)
    row = evaluate(gt, streams([[*shown, faint, on_crowd]] * 2, threshold=0.5), metrics=["mota"])
    assert row["all"]["MOTA"] == 1
    assert row["tracking"]["people_below_threshold"] == 2
    assert row["tracking"]["predicted_on_ignored"] == 2
    another = person(at=(300, 300), track_id=6, person_score=0.9)
    result = evaluate(gt, streams([[*shown, on_nobody, another]] * 2, threshold=0.5), metrics=["mota"])
    assert result["all"]["MOT_false_positives"] == 4
    assert result["all"]["MOTA"] == -1  # a figure here, where an AP of -1 would be none
    assert main_table(result)[1][0][0][-1] == "-100.0"


def test_regions_and_unlabelled_frames() -> None:
    square = {"ignore_regions_x": [[190, 300, 300, 190]], "ignore_regions_y": [[-50, -50, 80, 80]]}
    gt = videos([[person(track_id=1)], [person(track_id=1)], []], extra={(1, 0): square, (1, 2): {"is_labeled": False}})
    pred = streams([two(1, 2), [person(track_id=1)], two(1, 2)])
    result = evaluate(gt, pred, metrics=TRACKING)
    assert result["all"]["MOTA"] == result["all"]["PoseTrack_MOTA"] == 1
    assert result["frames"]["not_labelled"] == result["tracking"]["frames_not_labelled"] == 1
    assert result["frames"]["evaluated"] == 2
    bad = videos([[person(track_id=1)]], extra={(1, 0): {"ignore_regions_x": [[1, 2]], "ignore_regions_y": [[1]]}})
    with pytest.raises(PoseError, match="ignore_regions_x and ignore_regions_y"):
        evaluate(bad, pred[:1], metrics=TRACKING)


def test_people_without_ids_and_double_ids() -> None:
    gt = videos([[person(track_id=1)]] * 3)
    result = evaluate(gt, streams([[person(track_id=1)], [person()], [person(track_id=1)]]), metrics=["mota", "idf1"])
    assert result["tracking"]["predicted_without_id"] == 1
    assert result["all"]["MOT_switches"] == 2  # away and back
    assert result["all"]["IDF1"] == pytest.approx(2 / 3)
    for labels, pred, words in (
        (gt, streams([[person()]] * 3), "no tracking metrics: the predicted people carry no ids"),
        (videos([[person()]]), streams([[person(track_id=1)]]), "no tracking metrics: the labelled people carry no"),
        (Dataset(BODY, (Record(1, "0.jpg", 9, 9, (person(),)),)), [
            (StreamHeader(source="x", skeleton=BODY), FramePoses(0, (person(),), file="0.jpg"))
        ], "no tracking metrics: no labelled frame belongs to a video"),
    ):  # fmt: skip
        result = evaluate(labels, pred, metrics=["hota"])
        assert "HOTA" not in result["all"]
        assert any(words in note for note in result["notes"])
    with pytest.raises(PoseError, match="predictions of clip1, frame 0: identity 4 stands twice"):
        evaluate(gt, streams([[person(track_id=4), person(track_id=4)]]), metrics=["mota"])


def test_videos_in_which_nobody_is_labelled() -> None:
    """False people are counted all the same; of labels without people nobody can say that they lack identities."""
    pred = streams([[person(track_id=1)]] * 2)
    result = evaluate(videos([[]] * 2), pred, metrics=["mota", "idf1", "hota"], bootstrap=3)
    row = result["all"]
    assert row["MOTA"] is row["IDF1"] is row["HOTA"] is None and row["MOT_false_positives"] == 2
    assert not any("no tracking metrics" in n for n in result["notes"])
    assert any("MOTA" in n and "nobody is labelled there" in n for n in result["notes"])


def test_results_lists_carry_tracks(write_json) -> None:
    gt = videos([[person(track_id=1)]] * 2)
    entry = {"category_id": 1, "score": 1.0, "keypoints": np.hstack([POINTS, np.ones((6, 1))]).ravel().tolist()}
    dt = [entry | {"image_id": i, "track_id": 3} for i in (1, 2)]
    assert evaluate(gt, write_json("dt.json", dt), metrics=["hota"])["all"]["HOTA"] == pytest.approx(1)
    dt[1]["track_id"] = "three"
    with pytest.raises(PoseError, match="result 1: track_id 'three' is not a whole number"):
        evaluate(gt, write_json("dt.json", dt), metrics=["hota"])


def test_poseval() -> None:
    # Three frames of two people; nobody predicted in the second, everything wrong in the last, which poseval drops.
    gt = videos([two(1, 2)] * 3)
    pred = streams([two(1, 2), [], [person(at=(0, 300), track_id=1)]])
    result = evaluate(gt, pred, metrics=["posetrack"], compat="poseval")
    # Frame 1: 2 objects found; frame 2: a placeholder of 1 object, missed, and 1 false positive. 1 - 2 / 3.
    figures = result["compat"]["figures"]
    assert figures["MOTA"]["total"] == figures["MOTA"]["neck"] == pytest.approx(100 / 3)
    assert figures["Rec"]["total"] == pytest.approx(100 * 2 / 3)
    plain = evaluate(gt, pred, metrics=["posetrack"])["all"]
    assert plain["PoseTrack_MOTA"] == pytest.approx(1 - 5 / 6)  # 4 misses, 1 false positive


def test_reference_lengths_of_pck() -> None:
    # Everything 5 px off. Torso 50 (0.1), box 40 (0.125), head segment 20 (0.25), head box 0.6 * 50 = 30 (0.1667).
    head = np.array([0.0, 0, 30, 40])
    gt = videos([[person(box_xyxy=np.array([0.0, 0, 40, 30]), head_box_xyxy=head)]])
    pred = streams([[person(off=(5, 0))]])
    kinds = "torso,box,head-segment,head-box,pixels"
    grid = [0.09, 0.11, 0.12, 0.13, 0.16, 0.17, 0.24, 0.26]
    result = evaluate(
        gt, pred, metrics=["pck", "epe", "nme"], pck_reference=kinds, thresholds={"pck": grid, "pixels": [4.9, 5]}
    )
    row = result["all"]
    for kind, at in (("torso", 0.11), ("box", 0.13), ("head_segment", 0.26), ("head_box", 0.17)):
        assert [row[f"PCK_{kind}@{t:g}"] for t in grid] == [float(t >= at) for t in grid], kind
    assert (row["PCK@4.9px"], row["PCK@5px"]) == (0, 1)
    assert row["EPE"] == pytest.approx(5)
    assert row["NME"] == pytest.approx(0.1)
    assert result["units"] == {"EPE": "px", "EPE_joint_mean": "px", "NME": "ratio", "NME_joint_mean": "ratio"}
    assert result["references"]["PCK_head_box"]["rule"] == "0.6 of the head box' diagonal"
    assert result["references"]["PCK_pixels"]["rule"] == "pixels"
    # Trapezoids over 51 thresholds: 1 from 0.25 on, half a step before.
    assert row["PCK_head_segment_AUC"] == pytest.approx(0.51)
    by_segment = evaluate(gt, pred, metrics=["pckh"], thresholds={"pckh": [0.2, 0.25]}, pckh_reference="head-segment")
    assert (by_segment["all"]["PCKh@0.2"], by_segment["all"]["PCKh@0.25"]) == (0, 1)
    by_box = evaluate(gt, pred, metrics=["pckh"], thresholds={"pckh": [0.2]}, pckh_reference="head-box")
    assert by_box["all"]["PCKh@0.2"] == 1
    with pytest.raises(PoseError, match="no head boxes"):
        evaluate(videos([[person()]]), pred, metrics=["pck"], pck_reference="head-box")


def test_errors_count_what_was_not_found() -> None:
    gt = videos([[person(), person(at=(300, 300))]])
    result = evaluate(gt, streams([[person(off=(3, 4), missing=(5,))]]), metrics=["epe", "nme"])
    assert result["all"]["EPE"] == pytest.approx(5)
    reference = result["references"]["EPE"]
    assert (reference["people"], reference["skipped"]) == (1, 1)
    assert (reference["joints"], reference["joints_not_found"]) == (5, 7)


def test_relaxed_pcp_takes_the_mean_of_both_ends() -> None:
    # Limb 30 long, 15 allowed. One end 28 px off, the other 0: mean 14, so relaxed says right and strict wrong.
    found = person()
    xy = found.xy.copy()
    xy[0] += [28, 0]
    pred = streams([[Instance(xy, found.visibility, found.score)]])
    row = evaluate(videos([[person()]]), pred, metrics=["pcp", "pcp-relaxed"], by=["joint"])
    assert row["all"]["PCP@0.5"] == 0.5
    assert row["all"]["PCP_relaxed@0.5"] == 1
    assert row["groups"]["limb"]["left_shoulder-left_hip"] == {"counted": 1, "PCP@0.5": 0, "PCP_relaxed@0.5": 1}
    lost = streams([[person(missing=(0,))]])  # an end not found is infinitely far
    assert evaluate(videos([[person()]]), lost, metrics=["pcp-relaxed"])["all"]["PCP_relaxed@0.5"] == 0.5


def test_every_missing_figure_has_a_reason() -> None:
    folded = Instance(np.full((6, 2), 7.0), np.full(6, 2), np.ones(6), area=100.0)
    nobody = evaluate(videos([[]]), streams([[]]), metrics=["oks", "pck", "pcp", "epe"])
    for row in (
        evaluate(videos([[folded]]), streams([[folded]]), metrics=["oks", "pck", "pckh", "pdj", "pcp", "epe"]),
        evaluate(videos([[person(track_id=1)]]), streams([[]]), metrics=["epe", *TRACKING]),
        nobody,
    ):
        empty = [k for k, v in row["all"].items() if (v is None or v == -1) and not k.endswith("_joint_mean")]
        assert empty
        said = " ".join(row["notes"])
        assert all(key in said or (key.startswith("A") and "AP and AR are -1" in said) for key in empty), empty
        assert "nan" not in said.lower()
