"""Top-down in practice: whose boxes, their scores and overlaps, crops at once, nobody twice; what is told."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from posecli.checkpoint import ModelMeta
from posecli.errors import PoseError, UsageError
from posecli.inference import PoseModel, PredictOptions
from posecli.metrics.summary import whose_boxes
from posecli.models.layers import HeatmapOutput
from posecli.person_boxes import read_boxes
from posecli.pose_scores import crop_area, joints_score
from posecli.predictions import StreamHeader, header_to_json
from posecli.readout import TOP_DOWN, size_for, together
from posecli.types import Frame, Instance, Skeleton

SKELETON = Skeleton("three", ("head", "hand", "foot"), edges=((0, 1),), sigmas=(0.05, 0.05, 0.05))


class Bright(nn.Module):
    """Joint k is where channel k is brightest, its score that brightness: predictions that can be worked out."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []

    def forward(self, image: Tensor) -> HeatmapOutput:
        self.batches.append(len(image))
        return HeatmapOutput(nn.functional.max_pool2d(image, 4))


def model(codec: str = "gaussian", **options: object) -> PoseModel:
    meta = ModelMeta(
        "hrnet-tiny", {}, SKELETON, (64, 64), (0.0,) * 3, (1.0,) * 3, codec, {"convention": "hrnet", "threshold": 0.0}
    )
    return PoseModel(Bright(), meta, device="cpu", options=PredictOptions(**options), speed="plain")


def picture(*people: tuple[float, float, tuple[int, int, int]]) -> np.ndarray:
    """200 x 300; each person has a red, a green and a blue dot of the given brightness around (x, y)."""
    image = np.zeros((200, 300, 3), np.uint8)
    for x, y, brightness in people:
        for k, (dx, dy) in enumerate(((0, -15), (12, 0), (0, 15))):
            cv2.circle(image, (int(x + dx), int(y + dy)), 3, [int(v) for v in np.eye(3)[k] * brightness[k]], -1)
    return image


def box(x: float, y: float, score: float | None = None, half: float = 25.0) -> list[float]:
    return [x - half, y - half, x + half, y + half] + ([] if score is None else [score])


def test_a_persons_score_is_the_boxs_times_the_sure_joints() -> None:
    image = picture((60, 100, (255, 204, 26)))  # 1, 0.8 and 0.1: the last is not sure
    (person,) = model().predict([image], [np.array([box(60, 100, 0.7)])])[0]
    assert person.score == pytest.approx([1.0, 0.8, 26 / 255], abs=0.02)
    assert person.person_score == pytest.approx(0.7 * 0.9, abs=0.02)
    (plain,) = model(person_score="mean").predict([image], [np.array([box(60, 100, 0.7)])])[0]
    assert plain.person_score == pytest.approx(0.7 * (1 + 0.8 + 26 / 255) / 3, abs=0.02)
    (alone,) = model().predict([image], [np.array([box(60, 100)])])[0]
    assert alone.person_score == pytest.approx(0.9, abs=0.02)  # a box without a score counts as 1


def test_joints_score() -> None:
    assert joints_score(np.array([0.9, 0.2, 0.5]), "sure") == pytest.approx(0.7)  # 0.2 is not above 0.2
    assert joints_score(np.array([0.9, 0.2, 0.4]), "mean") == pytest.approx(0.5)
    assert joints_score(np.array([0.1, 0.2]), "sure") == pytest.approx(0.15)  # nobody sure: still in order
    # Distributions are thin where joints are hard to see: their models keep the mean.
    for codec, expected in (("gaussian", 0.6), ("dark", 0.6), ("softmax", 0.35), ("integral", 0.35)):
        assert model(codec).joints_score(np.array([0.6, 0.1])) == pytest.approx(expected)


def test_size_of_a_person_is_its_crop_as_in_the_official_code() -> None:
    """HRNet: np.prod(scale * 200), the box in the input's aspect, enlarged by 1.25."""
    meta = model().meta
    crop = TOP_DOWN["gaussian"].crop(np.array([10.0, 20, 50, 100]), meta)
    assert crop_area(crop) == pytest.approx((80 * 1.25) ** 2, rel=1e-3)


def test_one_pose_in_two_boxes_is_one_person() -> None:
    image = picture((60, 100, (255, 255, 255)), (200, 100, (230, 230, 230)))
    boxes = np.array([box(60, 100, 0.8), box(63, 101, 0.9), box(200, 100, 0.6)])
    people = model().predict([image], [boxes])[0]
    assert [p.person_score for p in people] == pytest.approx([0.9, 0.6 * 0.9], abs=0.02)
    assert len(model(pose_nms=1.0).predict([image], [boxes])[0]) == 3
    soft = model(pose_nms=0.9, soft_nms=True).predict([image], [boxes])[0]
    # exp(-OKS^2 / 0.9) with an OKS near 1: the copy goes from 0.8 to about 0.26 and behind the other person.
    assert [p.person_score for p in soft] == pytest.approx([0.9, 0.54, 0.8 * np.exp(-1 / 0.9)], abs=0.03)
    # Distributions are left alone unless asked.
    assert len(model("integral").predict([image], [boxes])[0]) == 3


def test_without_sigmas_nobody_is_left_out() -> None:
    plain = model()
    plain.meta = ModelMeta(
        "hrnet-tiny", {}, Skeleton("three", SKELETON.keypoints), (64, 64), (0.0,) * 3, (1.0,) * 3, "gaussian"
    )
    image = picture((60, 100, (255, 255, 255)))
    assert len(plain.predict([image], [np.array([box(60, 100), box(61, 100)])])[0]) == 2


def test_crops_of_several_frames_go_through_the_network_together() -> None:
    images = [picture((60, 100, (255, 255, 255)), (200, 100, (230, 230, 230)))] * 5
    boxes = [np.array([box(60, 100), box(200, 100)])] * 4 + [np.zeros((0, 4))]
    network = model(batch=6)
    found = network.predict(images, boxes)
    assert network.network.batches == [6, 2]
    assert [len(people) for people in found] == [2, 2, 2, 2, 0]
    for people in found[:4]:
        assert people[0].xy == pytest.approx(np.array([[60, 85], [72, 100], [60, 115]]), abs=4)  # flat dots


NARROW = {"size": [64, 96], "ratio": 0.6, "side": 40}


@pytest.mark.parametrize("flip_test", [False, True])
def test_long_boxes_are_looked_at_in_an_input_of_their_shape(flip_test: bool) -> None:
    image = picture((60, 100, (255, 255, 255)), (150, 100, (230, 230, 230)), (240, 100, (200, 200, 200)))
    upright, square = [45.0, 75, 75, 125], box(150, 100)
    lying, small = [215.0, 85, 265, 115], [240.0 - 9, 100 - 19, 240 + 9, 100 + 19]
    network = model(batch=8, flip_test=flip_test)
    network.meta = network.meta.with_extra(narrow=NARROW)
    inputs: list[tuple[int, ...]] = []
    network.network.register_forward_hook(lambda _, given, __: inputs.append(tuple(given[0].shape)))
    found = network._predict_top_down(
        [image, image], [_people(square, upright, lying), _people(small, upright)], flip_test
    )
    each = [(2, 3, 64, 64), (2, 3, 96, 64), (1, 3, 64, 96)]
    assert inputs == [size for size in each for _ in range(1 + flip_test)]
    # In the order of the boxes, and where the dots are, at whatever size they were seen.
    assert [len(people) for people in found] == [3, 2]
    for person, x in zip([*found[0], *found[1]], (150, 60, 240, 240, 60), strict=True):
        assert person.xy == pytest.approx(np.array([[x, 85], [x + 12, 100], [x, 115]]), abs=4)


def test_shapes_that_weights_ask_for() -> None:
    meta = model().meta
    assert size_for(np.array([0.0, 0, 10, 90]), meta) == (64, 64)
    meta = meta.with_extra(narrow=NARROW)
    assert size_for(np.array([0.0, 0, 24, 40]), meta) == (64, 96)
    assert size_for(np.array([5.0, 0, 45, 24]), meta) == (96, 64)
    assert size_for(np.array([0.0, 0, 24.1, 40]), meta) == (64, 64)
    assert size_for(np.array([0.0, 0, 23, 39]), meta) == (64, 64)
    both = meta.with_extra(narrow=[NARROW | {"side": 60}, {"size": [32, 64], "ratio": 0.5, "side": 20}])
    for (across, along), size in (
        ((30, 60), (64, 96)), ((60, 30), (96, 64)), ((29, 59), (32, 64)), ((59, 29), (64, 32)), ((31, 59), (64, 64)),
        ((36, 60), (64, 96)), ((9, 19), (64, 64)),
    ):  # fmt: skip
        assert size_for(np.array([3.0, 4, 3 + across, 4 + along]), both) == size
    for wrong in ([64, 96], {"size": [64], "ratio": 0.6, "side": 40}, {"size": [0, 64], "ratio": 1, "side": 1}, {}):
        with pytest.raises(PoseError, match="narrow"):
            size_for(np.zeros(4), meta.with_extra(narrow=wrong))


def test_people_of_a_video_share_an_input_where_little_is_lost() -> None:
    meta = model().meta.with_extra(narrow=NARROW | {"size": [48, 96]})
    upright, broad, square, lying = (
        np.array(b) for b in ([0.0, 0, 50, 100], [0, 0, 66, 100], [0, 0, 100, 100], [0, 0, 100, 50])
    )

    def shared(*boxes: np.ndarray) -> list[tuple[int, int]]:
        return together(boxes, [size_for(box, meta) for box in boxes], meta)

    assert shared(upright, broad) == [(48, 96), (48, 96)]  # as large as in the square
    assert shared(upright, square) == [(48, 96), (64, 64)]
    assert shared(square, upright, square) == [(64, 64)] * 3
    assert shared(upright, upright, lying) == [(48, 96), (48, 96), (96, 48)]
    assert shared(lying) == [(96, 48)] and shared() == []


def _people(*boxes: list[float]) -> list[Instance]:
    return [
        Instance(np.zeros((3, 2), np.float32), np.zeros(3, int), np.zeros(3, np.float32), 1.0, np.array(b))
        for b in boxes
    ]


@pytest.mark.parametrize("options", [{"person_score": "best"}, {"pose_nms": 0.0}, {"pose_nms": 1.5}])
def test_options_out_of_range(options: dict) -> None:
    with pytest.raises(UsageError):
        PredictOptions(**options)


# Boxes of a file


def frame(name: str, index: int = 0, time: float | None = None) -> Frame:
    return Frame(np.zeros((10, 10, 3), np.uint8), name, index, time)


def detection(image_id: int, xywh: list[float], score: float, **more: object) -> dict:
    return {"image_id": image_id, "bbox": xywh, "score": score, "category_id": 1, **more}


def test_detections(tmp_path: Path) -> None:
    path = tmp_path / "dets.json"
    rows = [
        detection(1, [0, 0, 10, 20], 0.9),
        detection(1, [1, 0, 10, 20], 0.8),  # IoU 9/11
        detection(1, [40, 0, 10, 20], 0.05),
        detection(2, [5, 5, 4, 4], 0.7, category_id=17),
    ]
    path.write_text(json.dumps(rows))
    told: list[str] = []
    every = read_boxes(path, warn=told.append)
    assert every(frame("a.jpg"), 1).tolist() == [[0, 0, 10, 20, 0.9], [1, 0, 11, 20, 0.8], [40, 0, 50, 20, 0.05]]
    assert every(frame("a.jpg"), 2).shape == (0, 5)
    assert "1 of 4 detections are not of category 1" in told[0]
    fewer = read_boxes(path, 0.1, 0.5)
    assert fewer(frame("a.jpg"), 1).tolist() == [[0, 0, 10, 20, 0.9]]
    assert fewer.about["from"] == "detections" and len(fewer.about["sha256"]) == 64
    assert whose_boxes(fewer.about) == "detections of dets.json, score at least 0.1, overlapping by at most 0.5"
    for bad in ({"image_id": 1}, detection(1, [0, 0, 0, 5], 1.0), detection(1, [0, 0, 5, 5], float("nan")), 7):
        path.write_text(json.dumps([bad]))
        with pytest.raises(PoseError, match=r"dets\.json, result 0"):
            read_boxes(path)


@pytest.mark.parametrize("odd", [[30, 30, 0, 0], [30, 30, 0.5, 0.5], [30, 30, -20, 40]])
def test_boxes_without_a_pixel_are_left_out_and_told(tmp_path: Path, odd: list[float]) -> None:
    """A crop of nothing has no inverse: HRNet's ended in an error of linear algebra, DARK's was mirrored."""
    people = [{"score": 0.9, "box": box, "keypoints": [None] * 3} for box in (odd, [10, 10, 20, 40])]
    with open(tmp_path / "p.jsonl", "w") as lines:
        print(json.dumps(header_to_json(StreamHeader("a.mp4", SKELETON))), file=lines)
        print(json.dumps({"frame": 0, "time": 0.0, "persons": people}), file=lines)
    told: list[str] = []
    found = read_boxes(tmp_path / "p.jsonl", warn=told.append)(frame("a.mp4", time=0.0), 1)
    assert found.tolist() == [[10, 10, 30, 50, 0.9]]
    assert len(told) == 1 and "1 of 2 boxes" in told[0]


def labels(path: Path) -> Path:
    people = [
        {"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [35, 75, 50, 50], "area": 2500},
        {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": [37, 76, 50, 50], "area": 2500},
        {"id": 3, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [0, 0, 300, 200], "area": 60000},
    ]
    joints = [60, 85, 2, 72, 100, 2, 60, 115, 2]
    for person in people:
        person |= {"keypoints": joints, "num_keypoints": 3}
    category = {"id": 1, "name": "person", "keypoints": list(SKELETON.keypoints), "skeleton": [[1, 2]]}
    category["posecli"] = {"name": "three", "sigmas": list(SKELETON.sigmas), "flip_pairs": []}
    image = {"id": 1, "file_name": "a.png", "width": 300, "height": 200}
    path.write_text(json.dumps({"images": [image], "annotations": people, "categories": [category]}))
    cv2.imwrite(str(path.parent / "a.png"), picture((60, 100, (255, 255, 255)))[..., ::-1])
    return path


def test_labelled_boxes_are_never_suppressed(tmp_path: Path) -> None:
    found = read_boxes(labels(tmp_path / "coco.json"), 0.5, 0.1)
    assert found(frame("a.png"), 9).tolist() == [[35, 75, 85, 125, 1], [37, 76, 87, 126, 1]]  # without the crowd
    assert whose_boxes(found.about) == "the labelled ones of coco.json"


def test_boxes_of_another_form_of_labels(tmp_path: Path) -> None:
    """Any data set that convert reads; people without a box get that of their joints."""
    image = np.zeros((60, 80, 3), np.uint8)
    (tmp_path / "scene").mkdir()
    for i in range(2):
        cv2.imwrite(str(tmp_path / f"scene/{i}.png"), image)
    (tmp_path / "scene.csv").write_text("frame,head_x,head_y,head_v,foot_x,foot_y,foot_v\n0,20,10,2,30,50,2\n")
    found = read_boxes(tmp_path)
    for name in ("scene/0.png", "0.png"):
        assert found(frame(name), 0)[0] == pytest.approx([16, 6, 34, 54, 1])  # grown by a tenth of 40
    assert len(found(frame("scene/1.png"), 1)) == 0


@pytest.mark.parametrize("source", ["labels", "detections", "poses", "full", "found"])
def test_stream_and_evaluation_tell_whose_boxes(cli, tmp_path: Path, tiny_model: Path, monkeypatch, source) -> None:
    monkeypatch.chdir(tmp_path)
    coco = labels(tmp_path / "coco.json")
    options: tuple[object, ...] = ()
    if source == "labels":
        options = ("--boxes", coco)
    elif source == "detections":
        (tmp_path / "dets.json").write_text(json.dumps([detection(1, [35, 75, 50, 50], 0.5)] * 2))
        options = ("--boxes", "dets.json", "--box-nms", "0.6", "--box-min-score", "0.2")
    elif source == "poses":
        assert cli("infer", "a.png", "-w", tiny_model, "-o", "first.jsonl", "--no-second-look").code == 0
        options = ("--boxes", "first.jsonl")
    elif source == "full":
        options = ("--boxes", "full")
    result = cli("infer", coco, "-w", tiny_model, "-o", "p.jsonl", "--min-score", "0", "--no-second-look", *options)
    assert result.code == 0, result.err
    header, line = map(json.loads, (tmp_path / "p.jsonl").read_text().splitlines())
    expected = {
        "labels": ("labels", "boxes: the labelled ones of coco.json"),
        "detections": ("detections", "boxes: detections of dets.json, score at least 0.2, overlapping by at most 0.6"),
        "poses": ("poses", "boxes: around the poses of first.jsonl"),
        "full": ("whole picture", "boxes: the whole picture"),
        "found": ("found", "boxes: found by tiny"),
    }[source]
    assert header["boxes"]["from"] == expected[0]
    assert source not in ("labels", "detections") or len(line["persons"]) == {"labels": 2, "detections": 1}[source]
    # The joints' names are others: said by hand, for the boxes are what matters here.
    text = (tmp_path / "p.jsonl").read_text().replace('"nose"', '"head"')
    (tmp_path / "p.jsonl").write_text(text)
    shown = cli("evaluate", coco, "p.jsonl", "--metrics", "oks")
    assert shown.code == 0, shown.err
    assert expected[1] in shown.out
    found = json.loads(cli("evaluate", coco, "p.jsonl", "--metrics", "oks", "--json").out)
    assert found["boxes"] == [header["boxes"]]


def test_what_is_asked_wrongly(cli, tmp_path: Path, tiny_model: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    labels(tmp_path / "coco.json")
    for options, message in (
        (("--box-nms", "0.5"), "are for the boxes of a file"),
        (("--boxes", "full", "--box-min-score", "0.5"), "are for the boxes of a file"),
        (("--pose-nms", "hard"), "an OKS such as 0.9"),
        (("--pose-nms", "soft:2"), "an OKS such as 0.9"),
        (("--person-score", "best"), "mean or sure"),
    ):
        outcome = cli("infer", "a.png", "-w", tiny_model, "-o", "p.jsonl", *options)
        assert outcome.code == 2 and message in outcome.err, outcome.err
    assert not (tmp_path / "p.jsonl").exists()


def test_bottom_up_streams_say_nothing_of_boxes(cli, tmp_path: Path) -> None:
    from posecli.checkpoint import save_model
    from posecli.models import MODELS

    torch.manual_seed(0)
    meta = ModelMeta("dekr-tiny", {"keypoints": 3}, SKELETON, (64, 64), codec="dekr")
    save_model(tmp_path / "d.safetensors", MODELS["dekr-tiny"](keypoints=3), meta)
    labels(tmp_path / "coco.json")
    assert cli("infer", tmp_path / "a.png", "-w", tmp_path / "d.safetensors", "-o", tmp_path / "p.jsonl").code == 0
    assert "boxes" not in json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0])
    refused = cli("infer", tmp_path / "a.png", "-w", tmp_path / "d.safetensors", "--pose-nms", "0.9", "-o", "x.jsonl")
    assert refused.code == 2 and "for top-down models" in refused.err
