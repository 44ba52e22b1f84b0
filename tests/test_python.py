"""The package as a library: what `import posecli` gives, copies, processes and threads, wrong arguments."""

from __future__ import annotations

import copy
import multiprocessing
import pickle
import subprocess
import sys
import threading
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import cv2
import numpy as np
import pytest
import torch

import posecli
from posecli.checkpoint import ModelMeta
from posecli.infer_options import InferChoices, InferOptions
from posecli.inference import PoseModel
from posecli.models import MODELS
from posecli.predictions import FramePoses, StreamHeader, StreamWriter
from posecli.skeletons import COCO17
from posecli.types import Instance
from posecli.workers import several_threads

IMAGE = np.random.default_rng(0).integers(0, 255, (90, 160, 3), dtype=np.uint8)
BOXES = [np.array([[10.0, 5, 60, 80], [50, 20, 120, 70]])]


def small_model() -> PoseModel:
    torch.manual_seed(1)
    meta = ModelMeta("hrnet-tiny", {"keypoints": 17}, COCO17, (64, 64), codec="softmax")
    return PoseModel(MODELS["hrnet-tiny"](keypoints=17), meta, device="cpu")


def joints(model: PoseModel) -> np.ndarray:
    """(2, K, 2) of the two boxes."""
    return np.stack([person.xy for person in model.predict([IMAGE], BOXES)[0]])


def test_every_name_is_there_and_listed() -> None:
    for name in posecli.__all__:
        assert getattr(posecli, name) is not None and name in dir(posecli)
    for name, home in posecli._HOMES.items():
        assert getattr(sys.modules[home], name) is getattr(posecli, name)
    assert set(posecli.__all__) == {*posecli._HOMES, "__version__"}
    with pytest.raises(AttributeError, match="nothing"):
        posecli.nothing  # noqa: B018


def test_a_model_that_has_computed_can_be_copied_and_pickled() -> None:
    model = small_model()
    seen = joints(model)
    assert np.array_equal(joints(copy.deepcopy(model)), seen)
    assert np.array_equal(joints(pickle.loads(pickle.dumps(model))), seen)
    assert np.array_equal(joints(model), seen)


def test_a_model_says_what_it_is() -> None:
    assert repr(small_model()) == "<PoseModel hrnet-tiny: hrnet-tiny, softmax, 64 x 64, coco17, on cpu>"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_other_processes_see_the_same(method: str, tmp_path: Path) -> None:
    """Also forked ones, in which the threads of OpenMP and OpenCV are gone."""
    if method not in multiprocessing.get_all_start_methods():
        pytest.skip(f"no {method} on this system")
    code = f"""
import multiprocessing, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
import cv2, numpy as np, torch
from concurrent.futures import ProcessPoolExecutor
import test_python as t

def in_child(model):
    big = np.zeros((2000, 2000, 3), np.uint8)
    cv2.GaussianBlur(cv2.resize(big, (3000, 3000)), (9, 9), 3)  # what OpenCV does on several threads
    return t.joints(model)

if __name__ == "__main__":
    torch.set_num_threads(2)
    cv2.setNumThreads(2)
    model = t.small_model()
    cv2.GaussianBlur(np.zeros((3000, 3000, 3), np.uint8), (9, 9), 3)
    seen = t.joints(model)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context({method!r})) as pool:
        there = pool.submit(in_child, model).result(timeout=100)
    assert np.abs(there - seen).max() < 1e-2, np.abs(there - seen).max()
    assert cv2.getNumThreads() == 2 and torch.get_num_threads() == 2
    print("same")
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, timeout=150)
    assert done.returncode == 0 and b"same" in done.stdout, done.stderr.decode()


def test_opencv_has_its_threads_again_when_the_last_is_done() -> None:
    """Whoever begins while another is inside must not take the one thread found there for the number before."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(2)
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with several_threads():
            inside.set()
            leave.wait(30)

    try:
        with several_threads():
            assert cv2.getNumThreads() == 1
            thread = threading.Thread(target=other)
            thread.start()
            assert inside.wait(30)
        assert cv2.getNumThreads() == 1  # the other is still at it
        leave.set()
        thread.join(30)
        assert cv2.getNumThreads() == 2
    finally:
        leave.set()
        cv2.setNumThreads(before)


def test_arguments_of_infer_are_the_fields_of_its_options() -> None:
    hints = get_type_hints(InferOptions)
    assert get_type_hints(InferChoices) == {field.name: hints[field.name] for field in fields(InferOptions)}


def test_what_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    """Not when the first frame is asked for."""
    model = small_model()
    with pytest.raises(TypeError, match=r"no option 'flip_test'; load_model\(options=PredictOptions\(flip_test"):
        posecli.infer("clip.mp4", model=model, flip_test=True)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="no option 'trak'; its own are track, start"):
        posecli.infer("clip.mp4", model=model, trak="oks")  # type: ignore[call-arg]
    with pytest.raises(posecli.UsageError, match="unknown tracker"):
        posecli.infer("clip.mp4", model=model, track="trak")
    with pytest.raises(posecli.PoseError, match=r"missing\.mp4"):
        posecli.infer(tmp_path / "missing.mp4", model=model)
    with pytest.raises(TypeError, match=r"not ndarray; pictures in memory: model\.predict"):
        posecli.infer(IMAGE, model=model)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"boxes is called with \(frame, image_id\)"):
        posecli.infer("clip.mp4", model=model, boxes=BOXES)  # type: ignore[arg-type]


def test_boxes_come_from_any_function(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "photo.png"), IMAGE[..., ::-1])
    model = small_model()
    ((frame, people),) = posecli.infer(tmp_path / "photo.png", model=model, boxes=lambda frame, image_id: BOXES[0])
    assert np.array_equal(frame.image, IMAGE)
    assert np.abs(np.stack([person.xy for person in people]) - joints(model)).max() < 0.02


def test_predict_tells_what_it_wants() -> None:
    model = small_model()
    with pytest.raises(ValueError, match=r"predict\(\[image\]\)"):
        model.predict(IMAGE)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"posecli\.infer\('clip\.mp4'\) reads files"):
        model.predict("clip.mp4")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"got Tensor: numpy\.asarray makes one"):
        model.predict([torch.zeros(3, 3, 3, dtype=torch.uint8)])  # type: ignore[list-item]
    with pytest.raises(TypeError, match="not NoneType"):
        posecli.load_model(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"PredictOptions\(\.\.\.\), not dict"):
        posecli.load_model("default", options={"flip_test": True})  # type: ignore[arg-type]


def test_people_and_frames_are_equal_to_themselves() -> None:
    """Arrays have no one answer to whether they are equal: comparing must neither fail nor guess."""
    person = Instance(np.zeros((17, 2), np.float32), np.full(17, 2), np.ones(17, np.float32))
    other = person.changed(person_score=0.5)
    assert person == person and person != other and person in [other, person] and len({person, other}) == 2


def test_a_number_that_json_does_not_know_is_named(tmp_path: Path) -> None:
    person = Instance(np.zeros((17, 2), np.float32), np.full(17, 2), np.ones(17, np.float32), extra={"speed": np.inf})
    with StreamWriter(tmp_path / "mine.jsonl") as writer:
        writer.header(StreamHeader("mine", COCO17))
        with pytest.raises(posecli.PoseError, match=r"mine\.jsonl.*persons\[0\].*speed is inf"):
            writer.frame(FramePoses(0, (person,)))


def test_threads_may_share_a_model() -> None:
    """Also those that come first together, when what makes it quick is not made yet."""
    from concurrent.futures import ThreadPoolExecutor

    seen = joints(small_model())
    for _ in range(3):
        model = small_model()
        with ThreadPoolExecutor(6) as pool:
            for other in pool.map(lambda _: joints(model), range(24)):  # noqa: B023
                assert np.abs(other - seen).max() < 1e-3
