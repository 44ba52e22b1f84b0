"""Whatever happens to a run: nothing half-written under a final name; what goes on ends as if nothing had been.

Kills come at moments drawn at random over the time that an undisturbed run takes.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from forked import Ended, forked
from learning import make_people
from safetensors.torch import load_file

from posecli.predictions import FramePoses, StreamHeader, StreamWriter, read_stream
from posecli.render import Style, draw_line
from posecli.settings import resolve, to_toml
from posecli.skeletons import SKELETONS
from posecli.types import Instance
from posecli.video import open_source

KILLS = int(os.environ.get("POSECLI_KILLS", "5"))  # 20 by `make bench-faults`


def visible(folder: Path) -> list[str]:
    """Files that are not hidden, as paths relative to the folder."""
    found = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return sorted(p.as_posix() for p in found if not any(part.startswith(".") for part in p.parts))


def assert_one_line(ended: Ended, *words: str) -> None:
    assert ended.code == 1, ended
    text = ended.err.strip()
    assert len(text.splitlines()) == 1 and "Traceback" not in text and "internal error" not in text, text
    assert all(word in text for word in words), text


@pytest.fixture
def labels(tmp_path: Path) -> tuple[Path, Path]:
    """A folder with a COCO file of pictures, and poses for it."""
    folder = tmp_path / "data"
    folder.mkdir()
    skeleton = SKELETONS["coco17"]
    noise = np.random.default_rng(0)
    images, annotations = [], []
    with StreamWriter(folder / "poses.jsonl") as writer:
        writer.header(StreamHeader("data", skeleton, threshold=0.3))
        for i in range(12):
            name = f"{i:02d}.jpg"
            cv2.imwrite(str(folder / name), noise.integers(0, 255, (120, 160, 3), dtype=np.uint8))
            xy = noise.uniform(20, 100, (17, 2)).round(2)
            joints = np.hstack([xy, np.full((17, 1), 2)]).ravel().tolist()
            images.append({"id": i + 1, "file_name": name, "width": 160, "height": 120})
            annotations.append(
                {"id": i + 1, "image_id": i + 1, "category_id": 1, "keypoints": joints, "num_keypoints": 17}
                | {"bbox": [20.0, 20.0, 80.0, 80.0], "area": 3000.0, "iscrowd": 0}
            )
            person = Instance((xy + noise.normal(size=(17, 2))).astype(np.float32), np.full(17, 2), np.ones(17), 0.9)
            writer.frame(FramePoses(i, (person,), image_id=i + 1, file=name, width=160, height=120))
    category = {"id": 1, "name": "person", "keypoints": list(skeleton.keypoints), "skeleton": []}
    (folder / "gt.json").write_text(
        json.dumps({"images": images, "annotations": annotations, "categories": [category]})
    )
    return folder / "gt.json", folder / "poses.jsonl"


def moments(seed: int, seconds: float) -> list[float]:
    drawn = random.Random(seed)
    return [drawn.uniform(0.02, 1.0) * seconds for _ in range(KILLS)]


@pytest.mark.slow
def test_killed_infer_and_render(tmp_path: Path, clip: Path, tiny_model: Path) -> None:
    command = ["infer", clip, "-w", tiny_model, "--out", "a.jsonl", "--render", "--device", "cpu"]
    (tmp_path / "whole").mkdir()
    whole = forked(command, tmp_path / "whole")
    assert whole.code == 0, whole.err
    assert_each_in_its_place(tmp_path / "whole", clip)
    killed = 0
    for i, moment in enumerate(moments(1, whole.seconds)):
        folder = tmp_path / str(i)
        folder.mkdir()
        ended = forked(command, folder, kill_after=moment)
        killed += ended.code == -9
        assert "clip.overlay.mp4" not in visible(folder) or ended.code == 0
        again = forked([*command, "--resume"], folder)
        assert again.code == 0, again.err
        assert (folder / "a.jsonl").read_bytes() == (tmp_path / "whole/a.jsonl").read_bytes()
        assert visible(folder) == ["a.jsonl", "clip.overlay.mp4"]
        assert_each_in_its_place(folder, clip)
    assert killed


def assert_each_in_its_place(folder: Path, clip: Path) -> None:
    """Every frame of the overlay is that frame of the clip with that line's people, at its time.

    Two overlays are not compared with each other: of the same pictures x264's threads now and then make other bytes,
    on a busy machine, which on this clip lie as far from each other as from what was drawn (2 grey levels). The picture
    of a neighbour is farther away by 1.4 and more, its people mostly by 0.7.
    """
    lines = list(read_stream(folder / "a.jsonl"))
    with open_source(clip) as source, open_source(folder / "clip.overlay.mp4") as overlay:
        frames, shown = list(source.frames()), list(overlay.frames())
    assert [f.time for f in shown] == pytest.approx([f.time for f in frames], abs=1e-3)
    for i, frame in enumerate(shown):

        def apart(of: int, people: int, image: np.ndarray = frame.image) -> float:
            drawn, _ = draw_line(frames[of], *lines[people], Style())
            return float(np.abs(image.astype(int) - drawn).mean())

        own = apart(i, i)
        near = [j for j in (i - 1, i + 1) if 0 <= j < len(frames)]
        others = [apart(*pair) for j in near for pair in ((j, i), (i, j), (j, j))]
        assert own < 5 and own < min(others) + 0.1, (folder.name, i, own, others)


@pytest.mark.slow
def test_killed_segments(tmp_path: Path, clip: Path, tiny_model: Path) -> None:
    base = ["infer", clip, "-w", tiny_model, "--out", "a.jsonl", "--device", "cpu"]
    command = [*base, "--segments", "0.1", "--find-every", "0"]
    (tmp_path / "whole").mkdir()
    whole = forked(command, tmp_path / "whole")
    assert whole.code == 0, whole.err
    for i, moment in enumerate(moments(2, whole.seconds)):
        folder = tmp_path / str(i)
        folder.mkdir()
        forked(command, folder, kill_after=moment)
        assert forked([*command, "--resume"], folder).code == 0
        assert visible(folder) == ["a.jsonl"]
        assert (folder / "a.jsonl").read_bytes() == (tmp_path / "whole/a.jsonl").read_bytes()


@pytest.mark.slow
def test_killed_train(tmp_path: Path) -> None:
    """Weights and log end as if nothing had been; what stands under a final name at any moment can be read."""
    data = make_people(tmp_path / "data")
    settings = resolve(
        {
            "model": "pose-fpn", "data": [str(data)], "val": str(data), "input_size": [64, 64], "workers": 0,
            "threads": 1, "batch": 2, "epochs": 6, "val_every": 2.0, "save_every": 1e-6, "metric": "pck",
            "min_side": 1.0, "model_arguments": '{"widths": [16, 16, 16, 16], "blocks": [1, 1, 1, 1], '
            '"stem_channels": 8, "channels": 16}',
        }
    )  # fmt: skip
    (tmp_path / "run.toml").write_text(to_toml(settings))
    command = ["train", "--config", tmp_path / "run.toml", "--out", "run", "--device", "cpu", "--quiet"]
    (tmp_path / "whole").mkdir()
    whole = forked(command, tmp_path / "whole")
    assert whole.code == 0, whole.err
    weights = {name: load_file(tmp_path / f"whole/run/{name}.safetensors") for name in ("best", "last")}
    log = losses(tmp_path / "whole/run")
    resumed = 0
    for i, moment in enumerate(moments(4, whole.seconds)):
        folder = tmp_path / str(i)
        folder.mkdir()
        forked(command, folder, kill_after=moment)
        for name in weights:
            if (folder / f"run/{name}.safetensors").exists():
                assert load_file(folder / f"run/{name}.safetensors").keys() == weights[name].keys()
        begun = (folder / "run/state.pt").exists()
        resumed += begun
        again = forked(["train", "--resume", "--out", "run", "--device", "cpu"] if begun else command, folder)
        assert again.code == 0, again.err
        for name, tensors in weights.items():
            found = load_file(folder / f"run/{name}.safetensors")
            assert all(torch.equal(found[key], value) for key, value in tensors.items()), (i, name)
        assert losses(folder / "run") == log
    assert resumed


def losses(run: Path) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [(x["step"], x.get("loss", x.get("pck"))) for x in lines if x["event"] in ("train", "validation")]


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["convert", "evaluate"])
def test_killed_convert_and_evaluate(tmp_path: Path, clip: Path, labels: tuple[Path, Path], verb: str) -> None:
    """What stands under a final name is what an undisturbed run wrote, or nothing. Frames are gone on with."""
    if verb == "convert":
        folder = tmp_path / "clips"
        folder.mkdir()
        for name in "ab":
            shutil.copy(clip, folder / f"{name}.mp4")
            persons = [{"track_id": 1, "keypoints": [[1.5, 2, 2], [3, 4, 1]]}]
            value = {"frames": [{"frame": i, "persons": persons} for i in range(30)], "keypoints": ["nose", "neck"]}
            (folder / f"{name}.json").write_text(json.dumps(value))
        command = ["convert", folder, "--out", "o/coco.json", "--frames", "o/frames"]
    else:
        command = ["evaluate", *labels, "--report", "o/report.html", "--json"]
    (tmp_path / "whole").mkdir()
    whole = forked(command, tmp_path / "whole")
    assert whole.code == 0, whole.err
    names = visible(tmp_path / "whole")
    for i, moment in enumerate(moments(3, whole.seconds)):
        here = tmp_path / str(i)
        here.mkdir()
        forked(command, here, kill_after=moment)
        for name in visible(here):
            assert same(here / name, tmp_path / "whole" / name), f"{name} is half-written"
        again = forked([*command, "--resume" if verb == "convert" and i % 2 else "--overwrite"], here)
        assert again.code == 0, again.err
        assert visible(here) == names
        assert all(same(here / name, tmp_path / "whole" / name) for name in names)


def same(one: Path, other: Path) -> bool:
    """Whether two outputs say the same; pages and JSON may name when and where they were made."""
    a, b = one.read_bytes(), other.read_bytes()
    return a == b or (one.suffix in (".html", ".json") and abs(len(a) - len(b)) < 0.02 * len(b) + 64)


FULL = 6000  # bytes that files may grow to: more than a header, less than any output below


@pytest.mark.slow
@pytest.mark.parametrize(
    "case", ["stream", "overlay", "segments", "merge", "smooth", "render", "convert", "report", "coco"]
)
def test_full_disk(tmp_path: Path, clip: Path, tiny_model: Path, labels: tuple[Path, Path], case: str) -> None:
    """One clear error; no stream of `infer` but a resumable one, nothing else under a final name."""
    here = tmp_path / "here"
    here.mkdir()
    infer = ["infer", clip, "-w", tiny_model, "--device", "cpu"]
    if case in ("merge", "smooth", "render"):
        made = forked([*infer, "--out", tmp_path / "in.jsonl"], here)
        assert made.code == 0, made.err
    command = {
        "stream": [*infer, "--out", "a.jsonl"],
        "overlay": [*infer, "--out", "a.jsonl", "--render"],
        "segments": [*infer, "--out", "a.jsonl", "--segments", "0.1", "--find-every", "0"],
        "coco": [*infer, "--out", "a.csv"],
        "merge": ["merge", tmp_path / "in.jsonl", "--out", "m.jsonl"],
        "smooth": ["smooth", tmp_path / "in.jsonl", "--out", "m.jsonl"],
        "render": ["render", clip, tmp_path / "in.jsonl", "--out", "o.mp4"],
        "convert": ["convert", labels[1], "--out", "o.csv"],
        "report": ["evaluate", *labels, "--report", "o.html"],
    }[case]
    ended = forked(command, here, largest_file=FULL)
    assert_one_line(ended, "arge")  # "File too large", in the words of the system
    left = visible(here)
    assert left == (["a.jsonl"] if case in ("stream", "overlay") else []), left
    if case == "stream":
        again = forked([*command, "--resume"], here)
        assert again.code == 0, again.err
        assert len((here / "a.jsonl").read_text().splitlines()) == 31


@pytest.mark.parametrize("verb", ["merge", "smooth", "convert", "evaluate"])
def test_output_that_cannot_be_written(tmp_path: Path, cli, labels: tuple[Path, Path], verb: str) -> None:
    """Also root can't write below a file."""
    (tmp_path / "file").write_text("")
    place = tmp_path / "file/out.jsonl"
    command = {
        "merge": ["merge", labels[1], "--out", place],
        "smooth": ["smooth", labels[1], "--out", place],
        "convert": ["convert", labels[1], "--out", place.with_suffix(".csv")],
        "evaluate": ["evaluate", *labels, "--report", place.with_suffix(".html")],
    }[verb]
    result = cli(*command)
    assert result.code == 1 and "Traceback" not in result.err and "internal" not in result.err, result.err
    assert str(tmp_path / "file") in result.err


@pytest.mark.slow
def test_reader_of_the_pipe_goes_away(tmp_path: Path, clip: Path, tiny_model: Path) -> None:
    command = [sys.executable, "-m", "posecli", "infer", clip, "-w", tiny_model, "--out", "-", "--quiet"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    assert run.stdout is not None and run.stderr is not None
    assert "posecli" in run.stdout.readline()
    run.stdout.close()
    assert run.wait(120) == 1 and "Traceback" not in run.stderr.read()


@pytest.mark.slow
def test_an_input_that_vanishes(tmp_path: Path, clip: Path, tiny_model: Path) -> None:
    """A list of pictures made before they went: each has its line, marked broken. A video: an error that names it."""
    from posecli.infer_files import run_jobs
    from posecli.infer_jobs import plan_jobs
    from posecli.inference import load_model
    from posecli.pipeline import InferOptions
    from posecli.video import list_inputs

    for i in range(4):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((40, 60, 3), 50 * i, np.uint8))
    for name in "ab":
        shutil.copy(clip, tmp_path / f"{name}.mp4")
    inputs = list_inputs([tmp_path])
    model = load_model(tiny_model, device="cpu")
    (tmp_path / "2.png").unlink()
    (tmp_path / "b.mp4").unlink()
    jobs = plan_jobs(inputs, str(tmp_path / "out"), render=False, render_out=None)
    summaries = []
    with pytest.raises(Exception, match=r"b\.mp4"):
        summaries += run_jobs(jobs, model, InferOptions(end=3))
        pytest.fail("nobody noticed")
    streams = sorted(p.name for p in (tmp_path / "out").iterdir())
    pictures = f"{tmp_path.name}.poses.jsonl"
    assert streams == sorted(["a.poses.jsonl", pictures])
    broken = [json.loads(x).get("broken") for x in (tmp_path / "out" / pictures).read_text().splitlines()[1:]]
    assert broken == [None, None, True]
