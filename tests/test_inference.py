"""`PoseModel`: official files end to end, flip test, scales, rescoring, what is asked wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import posecli
from posecli import looks
from posecli.checkpoint import ModelMeta
from posecli.errors import PoseError, UsageError
from posecli.inference import PoseModel, PredictOptions
from posecli.models import MODELS
from posecli.models.compiled import find_compiler
from posecli.models.int8 import can_quantise
from posecli.models.rescore import RescoreNet
from posecli.running import out_of_memory
from posecli.skeletons import COCO17

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
MIRROR = np.ascontiguousarray(IMAGE[:, ::-1])


def model(name: str, codec: str, size: tuple[int, int], **options) -> PoseModel:
    torch.manual_seed(1)
    meta = ModelMeta(name, {"keypoints": 17}, COCO17, size, codec=codec)
    return PoseModel(MODELS[name](keypoints=17), meta, device="cpu", options=PredictOptions(**options))


@pytest.mark.parametrize("codec", ["gaussian", "dark", "softmax"])
def test_flip_test_of_a_mirrored_picture_gives_the_mirrored_pose(codec: str) -> None:
    """Averaging with the mirrored input makes the model blind to left and right: for each box the pose of the mirrored
    picture is the mirrored pose, within what the shift of map pixels against input pixels allows."""
    network = model("hrnet-tiny", codec, (64, 64), flip_test=True)
    box = np.array([[40.0, 10, 100, 80]])
    mirrored_box = np.array([[159 - 100.0, 10, 159 - 40, 80]])
    person = network.predict([IMAGE], [box])[0][0]
    other = network.predict([MIRROR], [mirrored_box])[0][0]
    back = other.xy[COCO17.flip_index] * [-1, 1] + [159, 0]
    stride_error = 0.0 if codec == "softmax" else 4 * 87.5 / 64
    close = np.abs(back - person.xy).max(1) <= stride_error + 0.05
    # maps of a random network have near ties; most joints must agree
    assert close.mean() > 0.7


def test_batch_of_one_equals_one_of_a_batch_and_nobody_is_valid() -> None:
    network = model("hrnet-tiny", "gaussian", (64, 64))
    boxes = [np.array([[10.0, 5, 60, 80], [50, 20, 120, 70]]), np.zeros((0, 4)), np.array([[0.0, 0, 159, 89]])]
    together = network.predict([IMAGE, MIRROR, MIRROR], boxes)
    assert [len(people) for people in together] == [2, 0, 1]
    alone = network.predict([IMAGE], boxes[:1])[0]
    for a, b in zip(alone, together[0], strict=True):
        assert np.allclose(a.xy, b.xy, atol=1e-3) and a.person_score == pytest.approx(b.person_score, abs=1e-5)


def test_scales_are_merged_and_must_contain_one() -> None:
    network = model("dekr-tiny", "dekr", (64, 64), scales=(0.5, 1.0), flip_test=True)
    people = network.predict([IMAGE])[0]
    assert 0 < len(people) <= 30 and all(0 <= p.heat <= 1 for p in people if p.heat is not None)
    with pytest.raises(UsageError, match="must contain 1"):
        model("dekr-tiny", "dekr", (64, 64), scales=(0.5, 2.0)).predict([IMAGE])


def test_people_are_sorted_and_limited() -> None:
    people = model("dekr-tiny", "dekr", (64, 64), max_persons=3).predict([IMAGE])[0]
    scores = [p.person_score for p in people]
    assert len(people) <= 3 and scores == sorted(scores, reverse=True)


def test_boxes_are_not_for_bottom_up_models() -> None:
    with pytest.raises(UsageError, match="top-down"):
        model("dekr-tiny", "dekr", (64, 64)).predict([IMAGE], [np.zeros((0, 4))])


def test_pictures_of_the_wrong_kind_are_refused() -> None:
    with pytest.raises(ValueError, match="uint8"):
        model("hrnet-tiny", "gaussian", (64, 64)).predict([IMAGE.astype(np.float32)], [np.zeros((0, 4))])


def test_rescoring_changes_scores_only(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = model("dekr-tiny", "dekr", (64, 64))
    before = network.predict([IMAGE])[0]
    torch.save(RescoreNet(74).state_dict(), tmp_path / "rescore.pth")
    network.use_rescoring(tmp_path / "rescore.pth")
    after = network.predict([IMAGE])[0]
    assert sorted(map(str, (p.xy.tolist() for p in before))) == sorted(map(str, (p.xy.tolist() for p in after)))
    assert [p.person_score for p in before] != [p.person_score for p in after]
    with pytest.raises(UsageError, match="bottom-up"):
        model("hrnet-tiny", "gaussian", (64, 64)).use_rescoring(tmp_path / "rescore.pth")


@pytest.mark.parametrize("case", ["dekr_w32_coco", "hrnet_w32_coco"])
def test_an_official_file_goes_all_the_way(shared: Path, tmp_path: Path, case: str) -> None:
    """Saved as the official code saves it, loaded by name, run on a picture: people in image pixels."""
    from reference import load_case

    loaded = load_case(shared, case)
    torch.save({n: torch.from_numpy(v) for n, v in loaded["params"].items()}, tmp_path / f"{case}.pth")
    ready = posecli.load_model(tmp_path / f"{case}.pth", device="cpu", input_size=(128, 128), warn=lambda text: None)
    with torch.inference_mode():
        output = ready.network.eval()(torch.from_numpy(loaded["input"]))
    for name, golden in loaded["golden"].items():
        assert np.abs(getattr(output, name).numpy() - golden).max() <= 1e-4 * np.abs(golden).max()
    if ready.top_down:
        people = ready.predict([IMAGE], [np.array([[20.0, 10, 90, 80]])])[0]
        assert len(people) == 1 and np.isfinite(people[0].xy).all()
    else:
        assert all(p.xy.shape == (17, 2) for p in ready.predict([IMAGE])[0])


def test_unknown_device_and_precision() -> None:
    with pytest.raises(PoseError):
        model("hrnet-tiny", "gaussian", (64, 64), precision="int4").predict([IMAGE], [np.array([[0.0, 0, 50, 50]])])


def test_second_look_moves_boxes_of_found_people_on_pictures_only(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("posecli.looks._SURE_JOINT", 0.0)  # random weights are sure of nothing
    ready = posecli.load_model(tiny_model, device="cpu", options=PredictOptions(second_look=True))
    plain = posecli.load_model(tiny_model, device="cpu", options=PredictOptions(second_look=False))

    def boxes(people: list) -> list[list[float]]:
        return sorted(np.round(p.box_xyxy, 3).tolist() for p in people)

    turns: list[float] = []
    straight = PoseModel._predict_top_down

    def noted(self: PoseModel, images: list, people: list, flip_test: bool, turn: float = 0.0, **more: bool) -> list:
        turns.append(turn)
        return straight(self, images, people, flip_test, turn, **more)

    monkeypatch.setattr(PoseModel, "_predict_top_down", noted)
    twice, straightly = ready.predict([IMAGE])[0], [t for t in turns if t == 0]
    assert [t for t in turns if t] == list(looks.TURNS) and len(straightly) == 5
    monkeypatch.setattr(looks, "TURNS", (0.0,))
    unturned = ready.predict([IMAGE])[0]
    assert any((a.xy != b.xy).any() for a, b in zip(twice, unturned, strict=True))
    turns.clear()
    once = plain.predict([IMAGE])[0]
    assert turns == [0.0]
    assert once and len(twice) == len(once) and boxes(twice) != boxes(once)
    # In a video, and where the caller knows the boxes, nothing is looked at twice.
    assert boxes(ready.predict([IMAGE], still=False)[0]) == boxes(plain.predict([IMAGE], still=False)[0])
    given = [np.array([[10.0, 5, 60, 80]])]
    assert boxes(ready.predict([IMAGE], given)[0]) == given[0].tolist()


@pytest.mark.parametrize("speed", ["fused", "compiled"])
@pytest.mark.parametrize(("name", "codec"), [("hrnet-tiny", "gaussian"), ("dekr-tiny", "dekr")])
def test_speed_changes_nothing_but_rounding(name: str, codec: str, speed: str) -> None:
    """A quicker copy runs: the network that is handed out keeps its norms, names and outputs."""
    if speed == "compiled" and find_compiler() is None:
        pytest.skip("no C++ compiler")
    crops = np.random.default_rng(3).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    plain = model(name, codec, (64, 64))
    for module in plain.network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # as after training
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    plain.speed = "plain"
    quick = PoseModel(plain.network, plain.meta, device="cpu", speed=speed)
    assert (quick.runs_as, plain.runs_as) == (speed, "plain")
    before = {key: value.clone() for key, value in quick.network.state_dict().items()}
    found, expected = quick.maps(crops), plain.maps(crops)
    assert not [m for m in quick._running().modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert plain._running() is plain.network is quick.network
    after = quick.network.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], value) for key, value in after.items())
    assert type(found) is type(expected)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4 * float(b.abs().max()))


def test_half_precision_of_the_fused_copy_is_near() -> None:
    plain = model("hrnet-tiny", "gaussian", (64, 64))
    quick = model("hrnet-tiny", "gaussian", (64, 64), precision="bfloat16")
    quick.network, quick.speed = plain.network, "fused"
    crops = np.random.default_rng(3).integers(0, 255, (2, 64, 64, 3), dtype=np.uint8)
    a, b = quick.maps(crops).heatmap, plain.maps(crops).heatmap
    assert a.dtype == torch.bfloat16 and quick.runs_as == "fused"
    assert (a.float() - b).abs().max() < 0.05 * (b.max() - b.min())
    # Float16 has no kernels on a CPU: autocast does it, with norms folded.
    half = model("hrnet-tiny", "gaussian", (64, 64), precision="float16")
    assert half.runs_as == "folded"


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POSECLI_COMPILE", "0")
    one = model("dekr-tiny", "dekr", (64, 64))
    assert one.runs_as == "fused"
    one.maps(np.zeros((1, 64, 64, 3), np.uint8))
    one.speed = "compiled"
    with pytest.raises(PoseError, match=r"no C\+\+ compiler"):
        one.maps(np.zeros((1, 64, 64, 3), np.uint8))
    with pytest.raises(UsageError, match="unknown speed"):
        PoseModel(one.network, one.meta, device="cpu", speed="fast")


def test_another_network_is_folded_anew() -> None:
    one = model("hrnet-tiny", "gaussian", (64, 64))
    crops = np.zeros((1, 64, 64, 3), np.uint8)
    before = one.maps(crops).heatmap
    one.network = MODELS["hrnet-tiny"](keypoints=17).eval()
    with torch.no_grad():
        torch.nn.init.constant_(next(one.network.parameters()), 0.5)
    assert not torch.allclose(before, one.maps(crops).heatmap)


class Hungry(torch.nn.Module):
    """Has memory for so many pictures and no more."""

    def __init__(self, room: int, error: type[Exception] = RuntimeError) -> None:
        super().__init__()
        self.room, self.error, self.seen = room, error, []
        self.network = MODELS["hrnet-tiny"](keypoints=17)

    def forward(self, image: torch.Tensor) -> object:
        self.seen.append(len(image))
        if len(image) > self.room:
            raise self.error("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")
        return self.network(image)


@pytest.mark.parametrize("error", [RuntimeError, torch.OutOfMemoryError, MemoryError])
def test_where_memory_is_short_fewer_go_together(error: type[Exception]) -> None:
    plain = model("hrnet-tiny", "gaussian", (64, 64))
    plain.speed = "plain"
    crops = np.random.default_rng(5).integers(0, 255, (7, 64, 64, 3), dtype=np.uint8)
    expected = plain.maps(crops).heatmap
    hungry = Hungry(2, error).eval()
    hungry.network.load_state_dict(plain.network.state_dict())
    plain.network = hungry
    with pytest.warns(UserWarning, match="out of memory: 3 pictures at a time instead of 7"):
        found = plain.maps(crops)
    torch.testing.assert_close(found.heatmap, expected, rtol=1e-4, atol=1e-5)
    assert hungry.seen == [7, 3, 1, 1, 1, 1, 1, 1, 1]
    hungry.seen.clear()
    plain.maps(crops[:3])  # remembered
    assert hungry.seen == [1, 1, 1]


def test_no_memory_at_all_is_an_error_and_other_errors_stay() -> None:
    one = model("hrnet-tiny", "gaussian", (64, 64))
    one.speed, one.network = "plain", Hungry(0).eval()
    with pytest.raises(PoseError, match="out of memory"):
        one.maps(np.zeros((1, 64, 64, 3), np.uint8))

    def broken(image: torch.Tensor) -> object:
        raise RuntimeError("another size was expected")

    one.network.forward = broken
    with pytest.raises(RuntimeError, match="another size"):
        one.maps(np.zeros((2, 64, 64, 3), np.uint8))


def test_pytorch_that_does_not_tell_of_products_of_8_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 2.6: whoever asks for nothing gets float32."""
    monkeypatch.delattr(torch.cpu, "_is_vnni_supported", raising=False)
    assert not can_quantise()


@pytest.mark.parametrize(
    ("said", "short"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`", True),
        ("cuDNN error: CUDNN_STATUS_ALLOC_FAILED", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED", True),
        ("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED", True),
        ("CUDA error: out of memory", True),
        ("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED", False),
        ("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`", False),
    ],
)
@pytest.mark.parametrize("torch_before_2_5", [False, True])
def test_what_says_that_memory_is_short(
    said: str, short: bool, torch_before_2_5: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if torch_before_2_5:  # it knows no `torch.OutOfMemoryError`
        monkeypatch.delattr(torch, "OutOfMemoryError")
    assert out_of_memory(RuntimeError(said)) == short


def test_a_trained_finder_gives_the_same_poses_whatever_its_speed() -> None:
    """Poses within half a pixel: the shipped DEKR on pictures of nothing in particular, down to the least score."""
    rng = np.random.default_rng(6)
    images = [np.kron(rng.integers(0, 255, (9, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8) for _ in range(2)]
    found = {}
    for speed in ("plain", "fused", "auto"):
        exact = PredictOptions(precision="float32")
        finder = posecli.load_model(device="cpu", speed=speed, options=exact).finder
        assert finder is not None and finder.speed == speed
        found[speed] = finder.predict(images)
    for speed in ("fused", "auto"):
        for people, expected in zip(found[speed], found["plain"], strict=True):
            assert len(people) == len(expected)
            for a, b in zip(people, expected, strict=True):
                assert np.abs(a.xy - b.xy).max() < 0.5 and abs(a.person_score - b.person_score) < 1e-3
    assert any(found["plain"])


def test_pictures_of_a_generator_and_boxes_that_fit_none() -> None:
    """The one gave an empty list, of the others the second picture nobody, or an error of their insides."""
    model = posecli.load_model("default", "cpu")
    image = np.zeros((64, 64, 3), np.uint8)
    box = np.array([[8.0, 8, 40, 60]])
    assert len(model.predict(image for _ in range(2))) == 2
    assert [len(p) for p in model.predict([image, image], [box, np.zeros((0, 4))])][1] == 0
    for boxes, words in (
        ([box], "boxes of 1 images for 2"),
        ([box, box[0]], r"must be \(N, 4\) or \(N, 5\), got \(4,\)"),
        ([box, box * np.nan], "must be finite"),
    ):
        with pytest.raises(ValueError, match=words):
            model.predict([image, image], boxes)
