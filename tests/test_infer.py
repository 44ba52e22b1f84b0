"""The verb `infer` and its Python door: every frame a line, in order, resumable, interruptible, chainable."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_clips import make_clip

import posecli
from posecli.infer_files import run_jobs
from posecli.infer_jobs import plan_jobs
from posecli.inference import load_model
from posecli.pipeline import InferOptions
from posecli.predictions import read_stream

POSECLI = [sys.executable, "-m", "posecli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_clip_gives_stream_and_overlay_in_the_current_folder(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    result = cli("infer", clip, "--weights", tiny_model, "--render", "--device", "cpu")
    assert result.code == 0, result.err
    assert result.out.split() == ["clip.poses.jsonl", "clip.overlay.mp4"]
    header, *frames = lines(here / "clip.poses.jsonl")
    assert header["kind"] == "header" and header["source"] == "clip.mp4" and header["skeleton"]["name"] == "body19"
    assert (
        header["width"] == 96
        and header["fps"] == pytest.approx(29.97, abs=0.01)
        and len(header["weights_sha256"]) == 64
    )
    assert [f["frame"] for f in frames] == list(range(30))
    assert all(f["image_id"] == f["frame"] + 1 for f in frames)
    assert any(f["persons"] for f in frames)
    person = next(p for f in frames for p in f["persons"])
    assert (
        len(person["keypoints"]) == 19 and 0 <= person["score"] <= 1 and person["id"] >= 1 and 0 <= person["heat"] <= 1
    )
    overlay = posecli.video.open_source(here / "clip.overlay.mp4")
    assert overlay.num_frames == 30 and (overlay.width, overlay.height) == (96, 64)


@pytest.mark.parametrize("more", [(), ("--smooth", "kalman"), ("--resume",)])
def test_an_overlay_that_has_lost_the_sound_is_told_of(here: Path, cli: Callable, tiny_model, more: tuple) -> None:
    """Only `render` said so. With the last two the overlay is drawn after all frames were looked at."""
    make_clip(here / "s.avi", 10, sound="adpcm_ima_wav", codec="mpeg4")
    if "--resume" in more:
        assert cli("infer", "s.avi", "-w", tiny_model, "--device", "cpu").code == 0
    done = cli("infer", "s.avi", "-w", tiny_model, "--device", "cpu", "--render", *more)
    assert done.code == 0 and "s.overlay.mp4: sound left out: adpcm_ima_wav sound does not fit" in done.err, done.err


def test_the_sound_of_a_url_is_left_out_and_said(here: Path, cli: Callable, tiny_model) -> None:
    make_clip(here / "s.mp4", 5, sound="aac")
    make_clip(here / "mute.mp4", 5)
    with serving(here) as url:
        done = cli("infer", f"{url}/s.mp4", "-w", tiny_model, "--device", "cpu", "--render")
        assert done.code == 0 and "s_mp4.overlay.mp4: sound left out: it comes from a URL" in done.err, done.err
        done = cli("render", f"{url}/s.mp4", "s_mp4.poses.jsonl", "--out", "o.mp4")
        assert done.code == 0 and "o.mp4: sound left out: it comes from a URL" in done.err, done.err
        done = cli("infer", f"{url}/mute.mp4", "-w", tiny_model, "--device", "cpu", "--render", "-q")
        assert (done.code, done.err) == (0, "")


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The files of a folder under the URL given."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_second_run_refuses_to_overwrite(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    assert cli("infer", clip, "-w", tiny_model).code == 0
    again = cli("infer", clip, "-w", tiny_model)
    assert again.code == 1 and "clip.poses.jsonl" in again.err and "--overwrite" in again.err
    assert cli("infer", clip, "-w", tiny_model, "--overwrite").code == 0


@pytest.mark.parametrize("cut", [0, 40, 400, 5000])
def test_resumed_stream_equals_an_uninterrupted_one(
    here: Path, cli: Callable, clip: Path, tiny_model, cut: int
) -> None:
    """Killed anywhere, also inside a line: the same bytes, identities included."""
    assert cli("infer", clip, "-w", tiny_model, "--out", "whole.jsonl").code == 0
    whole = (here / "whole.jsonl").read_bytes()
    (here / "part.jsonl").write_bytes(whole[: len(whole) * 2 // 3 - cut])
    result = cli("infer", clip, "-w", tiny_model, "--out", "part.jsonl", "--resume", "--render")
    assert result.code == 0, result.err
    assert (here / "part.jsonl").read_bytes() == whole
    assert posecli.video.open_source(here / "clip.overlay.mp4").num_frames == 30


def test_resume_passes_over_sources_that_are_finished(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    (here / "b.mp4").write_bytes(clip.read_bytes())
    arguments = (clip, "b.mp4", "-w", tiny_model, "--end", "3", "--out", "a.jsonl")
    assert cli("infer", *arguments).code == 0
    again = cli("infer", *arguments, "--resume")
    assert again.code == 0 and "clip.mp4: was finished already" in again.err and "warning" not in again.err


def test_resume_of_a_finished_run_changes_nothing(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    cli("infer", clip, "-w", tiny_model, "--out", "a.jsonl")
    before = (here / "a.jsonl").read_bytes()
    assert cli("infer", clip, "-w", tiny_model, "--out", "a.jsonl", "--resume").code == 0
    assert (here / "a.jsonl").read_bytes() == before


def test_several_inputs_one_stream_resumed_in_the_second_source(
    here: Path, cli: Callable, clip: Path, tiny_model
) -> None:
    other = here / "other.mp4"
    other.write_bytes(clip.read_bytes())
    arguments = ["infer", clip, other, "-w", tiny_model, "--out", "all.jsonl"]
    assert cli(*arguments).code == 0
    whole = (here / "all.jsonl").read_bytes()
    headers = [h["source"] for h in lines(here / "all.jsonl") if "posecli" in h]
    assert headers == ["clip.mp4", "other.mp4"]
    (here / "all.jsonl").write_bytes(whole[: len(whole) * 3 // 4])
    assert cli(*arguments, "--resume").code == 0
    assert (here / "all.jsonl").read_bytes() == whole


def test_several_inputs_give_a_folder_of_streams(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    for side in ("front", "side"):
        (here / "mars" / side).mkdir(parents=True)
        (here / "mars" / side / "scene.mp4").write_bytes(clip.read_bytes())
    assert cli("infer", "mars", "-w", tiny_model, "--out", "poses").code == 0
    assert sorted(p.relative_to(here).as_posix() for p in here.glob("poses/**/*.jsonl")) == [
        "poses/front/scene.poses.jsonl",
        "poses/side/scene.poses.jsonl",
    ]
    assert lines(here / "poses/front/scene.poses.jsonl")[0]["source"] == "front/scene.mp4"


def test_range_and_step_keep_the_source_index(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    cli("infer", clip, "-w", tiny_model, "--out", "a.jsonl", "--start", "5", "--end", "0.5s", "--every", "4")
    assert [f["frame"] for f in lines(here / "a.jsonl")[1:]] == [5, 9, 13]


def test_pictures_keep_their_names_and_a_broken_one_its_line(here: Path, cli: Callable, tiny_model) -> None:
    folder = here / "pictures"
    (folder / "deep").mkdir(parents=True)
    noise = np.random.default_rng(0)
    for name, size in (("1.png", (40, 60)), ("2.png", (80, 50)), ("deep/10.jpg", (64, 64))):
        cv2.imwrite(str(folder / name), noise.integers(0, 255, (*size, 3), dtype=np.uint8))
    (folder / "3.jpg").write_bytes((folder / "deep/10.jpg").read_bytes()[:500])
    result = cli("infer", folder, "-w", tiny_model, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)[0]["broken"] == 1 and "could not be decoded" in result.err
    frames = lines(here / "pictures.poses.jsonl")[1:]
    assert [f["file"] for f in frames] == ["1.png", "2.png", "3.jpg", "deep/10.jpg"]
    assert frames[2]["broken"] and frames[2]["persons"] == []
    assert (frames[1]["width"], frames[1]["height"]) == (50, 80)
    assert all("id" not in p for f in frames for p in f["persons"])


def test_whole_picture_as_box_and_region_of_interest(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    """A crop in the middle of the picture gives the same people as that part of it given alone, moved."""
    assert cli("infer", clip, "-w", tiny_model, "--boxes", "full", "-o", "full.jsonl", "--end", "3").code == 0
    assert all(len(f["persons"]) == 1 for f in lines(here / "full.jsonl")[1:])
    image = posecli.video.open_source(clip).read_at(0).image
    cv2.imwrite("part.png", cv2.cvtColor(image[8:56, 16:80], cv2.COLOR_RGB2BGR))
    cv2.imwrite("whole.png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    cli("infer", "part.png", "-w", tiny_model, "-o", "part.jsonl")
    cli("infer", "whole.png", "-w", tiny_model, "-o", "roi.jsonl", "--roi", "16,8,64,48")
    part, roi = (lines(here / f"{n}.jsonl")[1]["persons"] for n in ("part", "roi"))
    assert part and len(part) == len(roi)
    for a, b in zip(part, roi, strict=True):
        moved = np.array(a["keypoints"])[:, :2] + [16, 8]
        assert np.allclose(moved, np.array(b["keypoints"])[:, :2], atol=0.011)
    (here / "kept.jsonl").write_text("kept")
    for source in ("whole.png", clip):  # nothing is written, and nothing that is there is touched
        for where in ("500,8,64,48", "-70,8,64,48"):
            outside = cli("infer", source, "-w", tiny_model, "-o", "x.jsonl", f"--roi={where}")
            assert outside.code == 2 and outside.err.count("outside") == 1 and not (here / "x.jsonl").exists()
        assert cli("infer", source, "-w", tiny_model, "-o", "kept.jsonl", "--overwrite", "--roi", "0,999,9,9").code == 2
    assert (here / "kept.jsonl").read_text() == "kept"


def test_pictures_that_a_region_lies_outside_of(here: Path, cli: Callable, tiny_model) -> None:
    """They have their line, are counted and told of, and the others are looked at; the first one may be among them."""
    noise = np.random.default_rng(0)
    (here / "p").mkdir()
    sizes = {"1.png": (20, 20), "2.png": (60, 80), "3.png": (60, 30), "4.png": (64, 64)}
    for name, size in sizes.items():
        cv2.imwrite(str(here / "p" / name), noise.integers(0, 255, (*size, 3), dtype=np.uint8))
    command = ["infer", "p", "-w", tiny_model, "-o", "a.jsonl", "--roi", "30,10,30,40", "--render", "--batch", "2"]
    result = cli(*command, "--json")
    assert result.code == 0, result.err
    assert "2 pictures were not looked at: --roi lies outside of them (1.png: 20 x 20, 3.png: 30 x 60)" in result.err
    assert "decoded" not in result.err
    summary = json.loads(result.out)[0]
    assert (summary["frames"], summary["broken"], summary["outside"]) == (4, 0, 2)
    _, *frames = whole = lines(here / "a.jsonl")
    assert [(f["file"], f["height"], f["width"]) for f in frames] == [(name, *size) for name, size in sizes.items()]
    assert [f.get("broken") for f in frames] == [True, None, True, None]
    assert [bool(f["persons"]) for f in frames] == [False, True, False, True]
    assert all(x >= 20 for p in frames[1]["persons"] for x, *_ in filter(None, p["keypoints"]))
    drawn = {p.name: cv2.imread(str(p)) for p in (here / "p.overlay").iterdir()}
    assert sorted(drawn) == sorted(sizes)
    assert np.array_equal(drawn["1.png"], cv2.imread("p/1.png"))
    for begun in (1, 2, 3, 4):
        (here / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in whole[:begun]))
        assert cli(*command, "--resume").code == 0
        assert lines(here / "a.jsonl") == whole
        assert {p.name: cv2.imread(str(p)).tolist() for p in (here / "p.overlay").iterdir()} == {
            name: image.tolist() for name, image in drawn.items()
        }
    outside = cli("infer", "p", "-w", tiny_model, "-o", "x.jsonl", "--roi", "100,0,9,9")
    assert outside.code == 2 and outside.err.count("outside") == 1 and not (here / "x.jsonl").exists()


def test_boxes_of_a_stream_are_where_people_are_looked_for(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    cli("infer", clip, "-w", tiny_model, "-o", "a.jsonl", "--end", "4")
    result = cli("infer", clip, "-w", tiny_model, "-o", "b.jsonl", "--end", "4", "--boxes", "a.jsonl")
    assert result.code == 0, result.err
    for a, b in zip(lines(here / "a.jsonl")[1:], lines(here / "b.jsonl")[1:], strict=True):
        assert sorted(map(str, (p["box"] for p in a["persons"]))) == sorted(map(str, (p["box"] for p in b["persons"])))


def test_batch_size_does_not_change_the_result(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    for batch in (1, 7):
        cli("infer", clip, "-w", tiny_model, "-o", f"{batch}.jsonl", "--batch", batch)
    for a, b in zip(lines(here / "1.jsonl")[1:], lines(here / "7.jsonl")[1:], strict=True):
        assert len(a["persons"]) == len(b["persons"])
        for p, q in zip(a["persons"], b["persons"], strict=True):
            assert np.allclose(np.array(p["keypoints"]), np.array(q["keypoints"]), atol=0.02)


def test_results_as_coco_and_csv(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    assert cli("infer", clip, "-w", tiny_model, "-o", "r.json", "--end", "3").code == 0
    results = json.loads((here / "r.json").read_text())
    assert results and {"image_id", "category_id", "keypoints", "score"} <= set(results[0])
    assert cli("infer", clip, "-w", tiny_model, "-o", "r.csv", "--end", "3", "--render").code == 0
    assert (here / "clip.overlay.mp4").exists()
    assert (here / "r.csv").read_text().startswith("source,frame,")
    (here / "other.mp4").write_bytes(clip.read_bytes())
    both = cli("infer", clip, "other.mp4", "-w", tiny_model, "-o", "both.json", "--end", "3")
    assert both.code == 0 and "stands for another frame too" in both.err and "has no place for boxes" in both.err
    assert not list(here.glob(".posecli-*"))


def test_stream_through_a_pipe_into_render(here: Path, clip: Path, tiny_model) -> None:
    infer = subprocess.Popen(
        [*POSECLI, "infer", clip, "-w", tiny_model, "--out", "-", "--quiet"], stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    render = subprocess.run(
        [*POSECLI, "render", clip, "-", "--out", "o.mp4"], stdin=infer.stdout, capture_output=True, text=True
    )
    assert infer.wait() == 0 and render.returncode == 0, render.stderr
    assert posecli.video.open_source(here / "o.mp4").num_frames == 30


def many_clips(here: Path, clip: Path) -> list[Path]:
    many = [here / f"{i}.mp4" for i in range(40)]
    for path in many:
        path.symlink_to(clip)
    return many


def under_way(run: subprocess.Popen, stream: Path, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Waits until a good part of a stream is there."""
    deadline = time.monotonic() + 60
    while not (stream.exists() and stream.stat().st_size > 20_000):
        assert run.poll() is None and time.monotonic() < deadline
        meanwhile()
        time.sleep(0.02)


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_interrupt_leaves_whole_lines_and_130(here: Path, clip: Path, tiny_model, sent: signal.Signals) -> None:
    """Ctrl-C, SIGTERM of a service manager, or SIGHUP of a shell that is closed, in the middle of a long run."""
    many = many_clips(here, clip)
    run = subprocess.Popen(
        [*POSECLI, "infer", *many, "-w", tiny_model, "-o", "a.jsonl", "--render-out", "o"],
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        # Where the tests run in the background of a shell, or under nohup, they ignore it, and children inherit that.
        preexec_fn=lambda: signal.signal(sent, signal.SIG_DFL),
    )
    under_way(run, here / "a.jsonl")
    run.send_signal(sent)
    if sent == signal.SIGTERM:  # GNU's timeout sends it to the process and to its group
        run.send_signal(sent)
    message = run.communicate(timeout=60)[1]
    assert run.returncode == 130, message
    assert "--resume" in message and "Traceback" not in message
    text = (here / "a.jsonl").read_text()
    assert text.endswith("\n") and len(list(read_stream(here / "a.jsonl"))) > 10
    assert not [p for p in (here / "o").iterdir() if ".part" in p.name]


@pytest.mark.skipif(sys.platform != "linux", reason="closes a terminal of Linux'")
def test_a_terminal_that_is_closed(here: Path, clip: Path, tiny_model) -> None:
    """Nobody can be told any more, and the display of progress has no place; the end is as orderly as by Ctrl-C."""
    import fcntl
    import termios

    master, slave = os.openpty()
    os.set_blocking(master, False)

    def at_the_terminal() -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    run = subprocess.Popen(
        [*POSECLI, "infer", *many_clips(here, clip), "-w", tiny_model, "-o", "a.jsonl", "--render-out", "o"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=ENVIRONMENT,
        start_new_session=True,
        preexec_fn=at_the_terminal,
    )
    os.close(slave)
    shown: list[bytes] = []

    def look() -> None:
        with contextlib.suppress(BlockingIOError):
            shown.append(os.read(master, 1 << 16))

    under_way(run, here / "a.jsonl", look)
    os.close(master)
    assert b".mp4" in b"".join(shown)
    assert run.wait(60) == 130
    assert (here / "a.jsonl").read_text().endswith("\n") and len(list(read_stream(here / "a.jsonl"))) > 10
    assert not [p for p in (here / "o").iterdir() if ".part" in p.name]


def test_a_video_is_closed_when_nobody_reads_it_any_more(
    tmp_path: Path, clip: Path, tiny_model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that still decodes from a closed file takes the whole process with it."""
    readers = []
    close = posecli.video.VideoSource.close

    def noted(source) -> None:
        readers.append([t.name for t in threading.enumerate() if t.name == "prefetch"])
        close(source)

    def stopped(job, source, line) -> None:
        raise KeyboardInterrupt

    model = load_model(tiny_model, device="cpu")
    jobs = plan_jobs(posecli.video.list_inputs([clip]), str(tmp_path / "a.jsonl"), render=False, render_out=None)
    monkeypatch.setattr(posecli.video.VideoSource, "close", noted)
    # The traceback holds on to what was under way, as at the end of an interrupted command.
    with pytest.raises(KeyboardInterrupt) as held:
        list(run_jobs(jobs, model, InferOptions(batch=2), on_frame=stopped))
    assert held.tb is not None and readers and not any(readers)


def test_ctrl_c_is_how_a_camera_ends(tmp_path: Path, clip: Path, tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A source without end: stream and overlay are whole up to there, and what comes after is still done."""
    frames = []

    def stopped(job, source, line) -> None:
        frames.append(line.frame)
        if len(frames) == 6:
            raise KeyboardInterrupt

    model = load_model(tiny_model, device="cpu")
    (item,) = posecli.video.list_inputs([clip])
    camera = replace(item, kind="url")
    monkeypatch.setattr(posecli.video.VideoSource, "num_frames", None)
    jobs = plan_jobs([camera], str(tmp_path / "out"), render=True, render_out=str(tmp_path / "drawn"))
    (summary,) = run_jobs(jobs, model, InferOptions(batch=2), on_frame=stopped)
    assert summary.frames == 6 and summary.stream and summary.overlay
    assert [line.frame for _, line in read_stream(summary.stream)] == list(range(6))
    monkeypatch.undo()
    assert posecli.video.open_source(summary.overlay).num_frames == 6


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.mp4", b""),
        ("text.mp4", b"this is no video\n" * 50),
        ("cut.mp4", None),
        ("text.jpg", b"this is no picture"),
        ("unknown.xyz", b"1234"),
    ],
)
def test_files_that_are_not_what_they_claim(here: Path, cli: Callable, clip: Path, tiny_model, name, content) -> None:
    (here / name).write_bytes(clip.read_bytes()[:700] if content is None else content)
    result = cli("infer", name, "-w", tiny_model)
    assert result.code == 1 and name in result.err
    assert len(result.err.strip().splitlines()) == 1 and "Traceback" not in result.err
    assert not list(here.glob("*.jsonl"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--weights", "nowhere.safetensors"], "no such weights file"),
        (["--model", "hrnet-w32"], "no weights for the model"),
        (["--model", "dekr-gru-small"], "no weights for the model 'dekr-gru-small' (a network that comes without"),
        (["--track", "magic"], "unknown tracker"),
        (["--roi", "1,2,3"], "--roi"),
        (["--resume", "--overwrite"], "--resume"),
        (["--precision", "int3"], "unknown precision"),
        (["--start", "-3"], "is not a position"),
        (["--start", "7", "--end", "7"], "no frame from 7 to below 7"),
        (["--start", "2s", "--end", "1.5s"], "no frame from 2s"),
        (["--scales", "1,0"], "a scale of 0"),
        (["--scales", "0.5,1"], "--scales is for bottom-up models"),
        (["--boxes", "full", "--box-weights", "default"], "--box-weights"),
        (["--ray-workers", "2"], "for --ray"),
        (["--render-out", "o.avi"], "cannot write video as .avi"),
        (["--out", "poses.txt"], "not written as .txt"),
        (["--out", "poses.JSONL"], "not written as .JSONL"),
    ],
)
def test_wrong_options_are_told_in_one_line(
    here: Path, cli: Callable, clip: Path, tiny_model, arguments, words
) -> None:
    if "--weights" not in arguments and "--model" not in arguments:
        arguments = [*arguments, "-w", tiny_model]
    before = set(here.rglob("*"))
    result = cli("infer", clip, *arguments)
    assert result.code in (1, 2) and words in result.err and len(result.err.strip().splitlines()) == 1
    assert result.code == 2 or words.startswith("no ")  # asked wrongly, or weights that are not there
    assert set(here.rglob("*")) == before


def test_a_finder_is_for_models_that_need_one(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    from posecli.checkpoint import load_finder, save_model

    found = load_finder(tiny_model)
    assert found is not None
    save_model("alone.safetensors", *found)
    result = cli("infer", clip, "-w", "alone.safetensors", "--box-weights", tiny_model)
    assert result.code == 2 and "--box-weights is for top-down models" in result.err


def test_the_input_is_never_the_output(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    """Also where --overwrite would let it be replaced."""
    (here / "pictures").mkdir()
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(here / "pictures" / name), np.zeros((40, 40, 3), np.uint8))
    (here / "own.mp4").write_bytes(clip.read_bytes())
    before = {p: p.read_bytes() for p in here.rglob("*") if p.is_file()}
    for source, options in (
        ("own.mp4", ["--render-out", "./own.mp4"]),
        ("own.mp4", ["--out", "pictures/../own.mp4"]),
        ("pictures", ["--render-out", "pictures"]),
        ("pictures/a.png", ["--render-out", "pictures/a.png"]),
    ):
        result = cli("infer", source, "-w", tiny_model, *options, "--overwrite")
        assert result.code == 2 and ("the output is an input" in result.err or "not written as" in result.err)
    (here / "labels.jsonl").write_text("")
    result = cli("render", "own.mp4", "labels.jsonl", "--out", "own.mp4", "--overwrite")
    assert result.code == 2 and "the output is the input" in result.err
    (here / "labels.jsonl").unlink()
    assert {p: p.read_bytes() for p in here.rglob("*") if p.is_file()} == before


def test_a_range_behind_the_end_is_said(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    result = cli("infer", clip, "-w", tiny_model, "--start", "1000", "--out", "a.jsonl")
    assert result.code == 0 and "clip.mp4: no frame was looked at: it ends before --start" in result.err
    assert len(lines(here / "a.jsonl")) == 1


@pytest.mark.parametrize("more", [(), ("--smooth", "kalman")])
def test_a_clip_that_ends_before_the_range_does_not_stop_the_others(
    here: Path, cli: Callable, clip: Path, tiny_model, more: tuple
) -> None:
    """Of its overlay nothing could be drawn, which ended the run."""
    make_clip(here / "a.mp4", 3)
    shutil.copy(clip, here / "b.mp4")
    words = (
        "infer",
        "a.mp4",
        "b.mp4",
        "-w",
        tiny_model,
        "--device",
        "cpu",
        "--start",
        25,
        "--render",
        "--out",
        "o",
        *more,
    )
    result = cli(*words)
    assert result.code == 0 and "a.mp4: no frame was looked at" in result.err, result.err
    assert result.out.split() == ["o/a.poses.jsonl", "o/b.poses.jsonl", "o/b.overlay.mp4"]
    assert sorted(p.name for p in (here / "o").iterdir()) == ["a.poses.jsonl", "b.overlay.mp4", "b.poses.jsonl"]
    again = cli(*words, "--resume")
    assert again.code == 0 and again.out.split() == result.out.split(), again.err


def test_seconds_of_pictures_are_refused_before_a_stream_is_begun(here: Path, cli: Callable, tiny_model) -> None:
    (here / "in").mkdir()
    cv2.imwrite(str(here / "in/0.png"), np.zeros((32, 32, 3), np.uint8))
    result = cli("infer", "in", "-w", tiny_model, "--start", "1s", "--out", "a.jsonl")
    assert result.code == 2 and "no frame rate" in result.err and not (here / "a.jsonl").exists()


def test_a_clip_without_anybody_does_not_stop_the_pages_of_the_others(
    here: Path, cli: Callable, clip: Path, tiny_model
) -> None:
    pytest.importorskip("matplotlib")
    (here / "in").mkdir()
    for name in "ab":
        (here / f"in/{name}.mp4").write_bytes(clip.read_bytes())
    arguments = ("infer", "in", "-w", tiny_model, "--end", "8", "--out", "o", "--quiet")
    assert cli(*arguments).code == 0
    header, *frames = lines(here / "o/a.poses.jsonl")
    nobody = [header, *({**frame, "persons": []} for frame in frames)]
    (here / "o/a.poses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in nobody))
    result = cli(*arguments, "--plots", "--resume")
    assert result.code == 0 and "a.poses.jsonl: nobody has an id" in result.err
    assert result.out.split() == ["o/a.poses.jsonl", "o/b.poses.jsonl", "o/b.plots.html"]
    assert cli(*arguments, "--plots", "--overwrite", "--track", "none").code == 2


def test_the_stream_on_standard_output_is_alone_there(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    """The overlay's name stood behind the last line, and whoever read the pipe to its end failed."""
    result = cli("infer", clip, "-w", tiny_model, "--end", "3", "--render", "--out", "-")
    assert result.code == 0 and "clip.overlay.mp4" in result.err and (here / "clip.overlay.mp4").exists()
    assert [value.get("frame") for value in map(json.loads, result.out.splitlines())] == [None, 0, 1, 2]


def test_python_door(clip: Path, tiny_model) -> None:
    model = posecli.load_model(tiny_model, device="cpu")
    assert model.skeleton.num_keypoints == 19 and model.network.training is False
    seen = list(posecli.infer(clip, model=model, end=5))
    assert [frame.index for frame, _ in seen] == [0, 1, 2, 3, 4]
    frame, people = seen[0]
    again = model.predict([frame.image])[0]
    assert np.allclose(people[0].xy, again[0].xy, atol=0.01)
    assert model.predict([]) == []


def test_top_down_model_without_a_finder_takes_box_weights(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    from posecli.checkpoint import load_checkpoint, load_finder, save_model

    save_model("pose.safetensors", *load_checkpoint(tiny_model))
    finder = load_finder(tiny_model)
    assert finder is not None
    save_model("finder.safetensors", *finder)
    cli("infer", clip, "-w", tiny_model, "-o", "both.jsonl", "--end", "3")
    result = cli(
        "infer", clip, "-w", "pose.safetensors", "--box-weights", "finder.safetensors", "-o", "two.jsonl", "--end", "3"
    )
    assert result.code == 0, result.err
    assert lines(here / "both.jsonl")[1:] == lines(here / "two.jsonl")[1:]


@pytest.mark.parametrize("there", ["c.overlay.mp4", "c.poses.jsonl", "c.plots.html"])
def test_outputs_of_later_inputs_are_refused_before_the_first(
    here: Path, cli: Callable, clip: Path, tiny_model, there: str
) -> None:
    """Hours of work on the first videos came before."""
    for name in "abc":
        (here / f"{name}.mp4").symlink_to(clip)
    (here / "out").mkdir()
    (here / "out" / there).touch()
    words = ["--plots"] if there.endswith("html") else ["--render"]
    result = cli("infer", "a.mp4", "b.mp4", "c.mp4", "-w", tiny_model, "--out", "out", *words)
    assert result.code == 1 and there in result.err and "exists already" in result.err
    assert [p.name for p in (here / "out").iterdir()] == [there]


def test_a_video_that_cannot_be_opened_does_not_stop_the_others(
    here: Path, cli: Callable, clip: Path, tiny_model
) -> None:
    """First, in the middle and last; streams apart, one stream made steady, and a table; then mended."""
    for name in ("a", "c", "e"):
        Path(f"{name}.mp4").write_bytes(b"" if name == "c" else b"no video")  # nothing in it ended the run
    for name in ("b", "d"):
        shutil.copy(clip, f"{name}.mp4")
    inputs = [f"{name}.mp4" for name in "abcde"]
    run = cli("infer", *inputs, "-w", tiny_model, "--end", "9")
    assert run.code == 1 and run.out.split() == ["poses/b.poses.jsonl", "poses/d.poses.jsonl"]
    errors = [line for line in run.err.splitlines() if line.startswith("posecli: ")]
    assert len(errors) == 4 and all(f"{name}.mp4" in line for name, line in zip("ace", errors, strict=False))
    assert "3 of 5" in errors[3] and "--resume" in errors[3]
    assert not Path("poses/a.poses.jsonl").exists()

    run = cli("infer", *inputs, "-w", tiny_model, "--end", "9", "--smooth", "oneeuro", "--out", "all.jsonl")
    assert run.code == 1 and "smoothing" in lines(here / "all.jsonl")[0]
    assert [v["source"] for v in lines(here / "all.jsonl") if "source" in v] == ["b.mp4", "d.mp4"]
    run = cli("infer", *inputs, "-w", tiny_model, "--end", "9", "--out", "all.csv")
    assert run.code == 1 and {line.split(",")[0] for line in Path("all.csv").read_text().splitlines()[1:]} == {
        "b.mp4", "d.mp4"
    }  # fmt: skip
    run = cli("infer", *inputs, "-w", tiny_model, "--end", "9", "--out", "auto", "--batch", "auto")
    assert run.code == 1 and run.out.split() == ["auto/b.poses.jsonl", "auto/d.poses.jsonl"], run.err
    for name in ("a", "c", "e"):
        shutil.copy(clip, f"{name}.mp4")
    run = cli("infer", *inputs, "-w", tiny_model, "--end", "9", "--resume")
    assert run.code == 0 and all(len(lines(here / f"poses/{name}.poses.jsonl")) == 10 for name in "abcde")

    Path("a.mp4").write_bytes(b"no video")
    alone = cli("infer", "a.mp4", "-w", tiny_model, "--out", "alone.jsonl")
    assert alone.code == 1 and len([x for x in alone.err.splitlines() if x.startswith("posecli: ")]) == 1


def test_an_overlay_without_a_place_leaves_nothing_in_the_way(
    here: Path, cli: Callable, clip: Path, tiny_model
) -> None:
    """The stream was begun, and the corrected command refused for it."""
    (here / "drawn.overlay.mp4").mkdir()
    shutil.copy(clip, "drawn.mp4")
    shutil.copy(clip, "other.mp4")
    command = ["infer", "drawn.mp4", "other.mp4", "-w", tiny_model, "--end", "3", "--out", ".", "--render"]
    run = cli(*command, "--overwrite")
    assert run.code == 1 and run.out.split() == ["other.poses.jsonl", "other.overlay.mp4"], run.err
    assert "1 of 2 inputs could not be drawn; the others are done" in run.err
    assert not Path("drawn.poses.jsonl").exists()
    (here / "drawn.overlay.mp4").rmdir()
    assert cli(*command, "--resume").code == 0 and len(lines(here / "drawn.poses.jsonl")) == 4


@pytest.mark.parametrize("smooth", [(), ("--smooth", "kalman")])
def test_an_overlay_that_fails_on_the_way_ends_neither_stream_nor_run(
    here: Path, cli: Callable, clip: Path, tiny_model, monkeypatch: pytest.MonkeyPatch, smooth: tuple
) -> None:
    def full(self, image, time=None) -> None:
        if self.path.name == "a.overlay.mp4" and self.count == 2:
            raise posecli.PoseError("cannot be written: No space left on device", str(self.path))
        write(self, image, time)

    write = posecli.video.VideoWriter.write
    monkeypatch.setattr(posecli.video.VideoWriter, "write", full)
    for name in "ab":
        shutil.copy(clip, f"{name}.mp4")
    run = cli("infer", "a.mp4", "b.mp4", "-w", tiny_model, "--render", "--out", "o", *smooth)
    assert run.code == 1 and "a.overlay.mp4: cannot be written" in run.err and "1 of 2 inputs" in run.err, run.err
    assert sorted(p.name for p in (here / "o").iterdir()) == ["a.poses.jsonl", "b.overlay.mp4", "b.poses.jsonl"]
    assert len(lines(here / "o/a.poses.jsonl")) == len(lines(here / "o/b.poses.jsonl")) == 31


def test_places_that_cannot_hold_a_stream(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    shutil.copy(clip, "c.mp4")
    for out in ("c.mp4/x.jsonl", "c.mp4/x.json", "c.mp4/folder", "/dev/full"):
        run = cli("infer", clip, "-w", tiny_model, "--end", "2", "--out", out)
        assert run.code == 1 and " is no folder" in run.err and len(run.err.strip().splitlines()) == 1, run.err
    os.mkfifo("ff.jsonl")
    refused = cli("infer", clip, "-w", tiny_model, "--out", "ff.jsonl", "--resume")
    assert refused.code == 1 and "can't be read again" in refused.err
    got: list[str] = []
    reader = threading.Thread(target=lambda: got.append(Path("ff.jsonl").read_text()))
    reader.start()
    run = cli("infer", clip, "-w", tiny_model, "--end", "2", "--out", "ff.jsonl")
    reader.join(30)
    assert run.code == 0 and len(got[0].splitlines()) == 3, run.err


def test_numbers_of_detections_that_do_not_say_which_picture(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    """They were taken for places in the list: boxes came on the wrong pictures."""
    row = {"image_id": 7, "category_id": 1, "bbox": [5, 5, 20, 20], "score": 0.9}
    (here / "d.json").write_text(json.dumps([row]))
    for folder, names in (("words", ("cat", "dog")), ("numbers", ("000007", "12"))):
        (here / folder).mkdir()
        for name in names:
            cv2.imwrite(f"{folder}/{name}.png", np.full((40, 40, 3), 90, np.uint8))
    command = ("-w", tiny_model, "--boxes", "d.json", "--no-second-look", "--out", "o.jsonl")
    for inputs in (["words"], ["numbers", clip], [clip, "words"]):
        run = cli("infer", *inputs, *command)
        assert run.code == 2 and "give the COCO JSON the ids belong to" in run.err, run.err
        assert not (here / "o.jsonl").exists()
    assert cli("infer", "numbers", *command).code == 0
    assert [(f["file"], len(f["persons"])) for f in lines(here / "o.jsonl")[1:]] == [("000007.png", 1), ("12.png", 0)]
    assert cli("infer", clip, *command, "--overwrite").code == 0
    assert [f["frame"] for f in lines(here / "o.jsonl")[1:] if f["persons"]] == [6]


def test_boxes_of_a_part_of_the_frames_are_told(here: Path, cli: Callable, clip: Path, tiny_model) -> None:
    assert cli("infer", clip, "-w", tiny_model, "-o", "a.jsonl", "--end", "3").code == 0
    run = cli("infer", clip, "-w", tiny_model, "-o", "b.jsonl", "--end", "12", "--boxes", "a.jsonl")
    assert run.code == 0 and "a.jsonl: it names 3 of 12 frames; nobody has a box in the others" in run.err
    run = cli("infer", clip, "-w", tiny_model, "-o", "c.jsonl", "--end", "3", "--boxes", "a.jsonl")
    assert run.code == 0 and "names" not in run.err
