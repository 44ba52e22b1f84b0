"""Files with URLs: in memory, and on a real server that speaks S3. What comes out is what files on disk give."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from posecli.errors import PoseError
from posecli.storage import Storage, is_stored, kept_copy, plain, stored_names, using
from posecli.video import list_inputs, open_source

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed: pip install 'posecli[remote]'")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def memory() -> Iterator[Any]:
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


def test_what_a_url_is() -> None:
    assert is_stored("s3://lab/a.mp4") and is_stored("memory://a")
    assert not any(map(is_stored, ("rtsp://cam/1", "http://x/a.mp4", "a.mp4", "s3:/lab/a", "s3://", "C:/a")))
    assert plain(str(Path("s3://lab/a"))) == "s3://lab/a" and plain(str(Path("memory://a/b"))) == "memory://a/b"
    assert plain("file:///a/b.mp4") == "/a/b.mp4" == plain(str(Path("file:///a/b.mp4")))
    assert [plain(t) for t in ("a:/b", "http://x/y", "-", "clip.mp4")] == ["a:/b", "http://x/y", "-", "clip.mp4"]


def test_names_below_a_url(memory: Any) -> None:
    for name in ("a/2.png", "a/10.png", "a/.hidden/3.png", "b.mp4"):
        memory.pipe_file(f"/lab/{name}", b"x")
    assert stored_names("memory://lab/b.mp4") == ["memory://lab/b.mp4"]
    assert sorted(stored_names("memory://lab/")) == [
        "memory://lab/a/10.png",
        "memory://lab/a/2.png",
        "memory://lab/b.mp4",
    ]
    assert stored_names("memory://lab/a/*0.png") == ["memory://lab/a/10.png"]
    pictures, video = list_inputs(["memory://lab"])
    assert pictures.files == ("a/2.png", "a/10.png") and (video.kind, video.name) == ("video", "b.mp4")
    for name in ("b.overlay.mp4", "poses/b.overlay.mp4", "lab.overlay/a/2.png"):
        memory.pipe_file(f"/lab/{name}", b"x")
    assert list_inputs(["memory://lab/"]) == [pictures, video]
    notes: list[str] = []
    for words in (["memory://lab/*.mp4"], ["memory://lab/b.mp4", "memory://lab/b.overlay.mp4"]):
        assert [i.name for i in list_inputs(words, notes.append)] == ["b.mp4"] and "b.overlay.mp4: left" in notes.pop()
    assert [i.name for i in list_inputs(["memory://lab/b.overlay.mp4"], notes.append)] == ["b.overlay.mp4"]
    assert not notes
    for word, what in (("memory://lab/c.mp4", "no such"), ("memory://lab/*.mov", "nothing matches")):
        with pytest.raises(PoseError, match=what):
            list_inputs([word])


def test_stand_ins_stay_in_their_folder(tmp_path: Path) -> None:
    storage = Storage(tmp_path)
    place = storage.stand_in("s3://lab/x/a.json")
    assert place == tmp_path / "s3/lab/x/a.json" and storage.url(place) == "s3://lab/x/a.json" and storage.owns(place)
    with pytest.raises(PoseError, match="leads out"):
        storage.stand_in("s3://lab/../../../etc/x")


def test_a_file_appears_when_it_is_complete(memory: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failing transfer leaves the old file, and nothing under a visible name."""
    memory.pipe_file("/lab/a.json", b"old")
    seen = []
    put = type(memory).put_file

    def failing(self: Any, source: str, target: str, **more: Any) -> None:
        put(self, source, target, **more)
        seen.append(memory.cat_file("/lab/a.json"))
        if len(seen) == 1:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(memory), "put_file", failing)
    with using() as storage:
        path = storage.stand_in("memory://lab/a.json")
        path.parent.mkdir(parents=True)
        path.write_bytes(b"new")
        with pytest.raises(PoseError, match=r"memory://lab/a\.json: .*No space left"):
            storage.send(path)
        assert stored_names("memory://lab") == ["memory://lab/a.json"] and memory.cat_file("/lab/a.json") == b"old"
        storage.send(path)
        assert not path.exists()
    assert memory.cat_file("/lab/a.json") == b"new" and seen == [b"old", b"old"]
    assert memory.find("/lab") == ["/lab/a.json"]


def test_copies_go(memory: Any, clip: Path) -> None:
    """One copy for the segments of a video; a changed file is copied again; other files push it out."""
    memory.put_file(str(clip), "/lab/clip.mp4")
    with open_source("memory://lab/clip.mp4") as source:
        path = Path(source.path)
        assert path.name == "clip.mp4" == source.name and sum(1 for _ in source.frames()) == 30
    with kept_copy("memory://lab/clip.mp4") as again:
        assert again == path
        memory.pipe_file("/lab/other.mp4", b"x")
        with kept_copy("memory://lab/other.mp4") as other:
            assert path.exists() and other.read_bytes() == b"x"
    memory.pipe_file("/lab/clip.mp4", b"changed")
    with kept_copy("memory://lab/clip.mp4") as changed:
        assert changed.read_bytes() == b"changed" and not path.parent.exists()


def infer(cli: Callable, model: Path, *arguments: object) -> Any:
    return cli("infer", *arguments, "-w", model, "--device", "cpu", "--find-every", "0")


def test_infer_to_storage_equals_infer_to_disk(
    here: Path, cli: Callable, memory: Any, clip: Path, tiny_model: Path
) -> None:
    for name in "ab":
        memory.put_file(str(clip), f"/lab/in/{name}.mp4")
        shutil.copy(clip, here / f"{name}.mp4")
    result = infer(cli, tiny_model, "a.mp4", "b.mp4", "--out", "disk", "--end", "6")
    assert result.code == 0, result.err
    memory.put_file(str(tiny_model), "/lab/tiny.safetensors")
    stored = ("memory://lab/in", "--out", "memory://lab/out", "--end", "6", "--render")
    result = infer(cli, "memory://lab/tiny.safetensors", *stored)  # type: ignore[arg-type]
    assert result.code == 0, result.err
    assert result.out.split() == [f"memory://lab/out/{n}.{e}" for n in "ab" for e in ("poses.jsonl", "overlay.mp4")]
    names = [n.removeprefix("/lab/out/") for n in memory.find("/lab/out")]
    assert names == ["a.overlay.mp4", "a.poses.jsonl", "b.overlay.mp4", "b.poses.jsonl"]
    for name in "ab":
        assert memory.cat_file(f"/lab/out/{name}.poses.jsonl") == (here / f"disk/{name}.poses.jsonl").read_bytes()
    again = infer(cli, tiny_model, *stored)
    assert again.code == 1 and "memory://lab/out/a." in again.err and "exists already" in again.err
    memory.rm_file("/lab/out/b.poses.jsonl")
    before = memory.modified("/lab/out/a.poses.jsonl")
    more = infer(cli, tiny_model, *stored, "--resume")
    assert more.code == 0 and more.out.split()[0] == "memory://lab/out/b.poses.jsonl", more.err
    assert memory.modified("/lab/out/a.poses.jsonl") == before and memory.exists("/lab/out/b.poses.jsonl")


@pytest.mark.slow
def test_segments_on_storage(here: Path, cli: Callable, memory: Any, clip: Path, tiny_model: Path) -> None:
    """Shards leave their parts there; who goes on takes them from there."""
    memory.put_file(str(clip), "/lab/clip.mp4")
    shutil.copy(clip, here / "clip.mp4")
    assert infer(cli, tiny_model, "clip.mp4", "--out", "a.jsonl", "--segments", "0.3").code == 0
    asked = ("memory://lab/clip.mp4", "--out", "memory://lab/a.jsonl", "--segments", "0.3")
    assert infer(cli, tiny_model, *asked, "--shard", "1/2").code == 0
    parts = memory.find("/lab/a.jsonl.parts")
    assert parts and not memory.exists("/lab/a.jsonl")
    refused = infer(cli, tiny_model, *asked)
    assert refused.code == 1 and "memory://lab/a.jsonl.parts" in refused.err
    rest = infer(cli, tiny_model, *asked, "--resume")
    assert rest.code == 0 and "segments are done already" in rest.err, rest.err
    assert memory.cat_file("/lab/a.jsonl") == (here / "a.jsonl").read_bytes()
    assert memory.find("/lab") == ["/lab/a.jsonl", "/lab/clip.mp4"]


@pytest.fixture
def labelled(clip: Path) -> dict[str, bytes]:
    """Files of a folder: two videos with their labels."""
    persons = [{"track_id": 1, "keypoints": [[1.5, 2, 2], [3, 4, 1]]}]
    value = {"frames": [{"frame": i, "persons": persons} for i in range(30)], "keypoints": ["nose", "neck"]}
    files = {f"{name}.json": json.dumps(value).encode() for name in "ab"}
    return files | {f"{name}.mp4": clip.read_bytes() for name in "ab"}


def test_convert_and_evaluate(here: Path, cli: Callable, memory: Any, labelled: dict[str, bytes]) -> None:
    (here / "set").mkdir()
    for name, data in labelled.items():
        (here / "set" / name).write_bytes(data)
        memory.pipe_file(f"/lab/set/{name}", data)
    assert cli("convert", "set", "--out", "coco.json", "--quiet").code == 0
    made = cli("convert", "memory://lab/set", "--out", "memory://lab/coco.json", "--json", "--quiet")
    assert made.code == 0 and list(json.loads(made.out)) == ["memory://lab/coco.json"], made.err
    assert memory.cat_file("/lab/coco.json") == (here / "coco.json").read_bytes()  # names relative to the JSON too
    made = cli("convert", "memory://lab/set", "--out", "memory://lab/f/coco.json", "--frames", "memory://lab/f/frames",
               "--every", "10")  # fmt: skip
    assert made.code == 0, made.err
    value = json.loads(memory.cat_file("/lab/f/coco.json"))
    assert all(memory.size(f"/lab/f/{i['file_name']}") > 100 for i in value["images"]) and len(value["images"]) == 6
    apart = cli("convert", "memory://lab/set", "--out", "c.json")
    assert apart.code == 2 and "--frames" in apart.err and not (here / "c.json").exists()
    twice = cli("convert", "memory://lab/set", "--out", "memory://lab/coco.json")
    assert twice.code == 1 and "memory://lab/coco.json: the output exists already" in twice.err
    assert cli("convert", "memory://lab/coco.json", "--out", "memory://lab/p.jsonl", "--quiet").code == 0
    report = cli("evaluate", "memory://lab/coco.json", "memory://lab/p.jsonl", "--metrics", "pck", "--pck-reference",
                 "box", "--match", "iou", "--json", "--examples", 0, "--bootstrap", 0,
                 "--report", "memory://lab/r.html")  # fmt: skip
    assert report.code == 0, report.err
    page = memory.cat_file("/lab/r.html").decode()
    assert json.loads(report.out)["all"]["PCK@0.2"] == 1.0 and "posecli-storage" not in report.out + page
    assert cli("merge", "memory://lab/p.jsonl", "--out", "memory://lab/m.jsonl").code == 0
    assert memory.exists("/lab/m.jsonl")


def test_nothing_is_handed_over_after_an_error(here: Path, cli: Callable, memory: Any, clip: Path) -> None:
    memory.put_file(str(clip), "/lab/clip.mp4")
    memory.pipe_file("/lab/bad.jsonl", b"{}\n")
    result = cli("render", "memory://lab/clip.mp4", "memory://lab/bad.jsonl", "--out", "memory://lab/o.mp4")
    assert result.code == 1 and "memory://lab/bad.jsonl, line 1" in result.err and "/tmp" not in result.err
    assert memory.find("/lab") == ["/lab/bad.jsonl", "/lab/clip.mp4"]
    gone = cli("evaluate", "memory://lab/none.json", "memory://lab/bad.jsonl")
    assert gone.code == 1 and gone.err.strip() == "posecli: memory://lab/none.json: no such file or folder"


def test_a_package_that_is_missing_is_named(cli: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    known = sys.modules["fsspec.registry"]._registry  # type: ignore[attr-defined]
    monkeypatch.setattr(sys.modules["fsspec.registry"], "_registry", {k: v for k, v in known.items() if k != "s3"})
    result = cli("infer", "s3://lab/a.mp4")
    assert result.code == 1 and "posecli[remote]" in result.err


def test_file_urls_are_paths(here: Path, cli: Callable, clip: Path, tiny_model: Path) -> None:
    out = here / "a.jsonl"
    result = infer(cli, tiny_model, f"file://{clip}", "--out", f"file://{out}", "--end", "3")
    assert result.code == 0 and len(out.read_text().splitlines()) == 4, result.err
    report = cli("convert", f"file://{out}", "--out", f"file://{here}/p.csv")
    assert report.code == 0 and (here / "p.csv").exists(), report.err


def test_s3(here: Path, s3: Any, clip: Path, tiny_model: Path, labelled: dict[str, bytes], cli: Callable) -> None:
    """The same on a server: infer, going on, convert and evaluate; a bucket that is not there."""
    s3.put_file(str(clip), "lab/in/a.mp4")
    result = infer(cli, tiny_model, "s3://lab/in/", "--out", "s3://lab/out", "--end", "6", "--segments", "0.1")
    assert result.code == 0 and result.out.split() == ["s3://lab/out/a.poses.jsonl"], result.err
    shutil.copy(clip, here / "a.mp4")
    assert infer(cli, tiny_model, "a.mp4", "--out", "disk/", "--end", "6", "--segments", "0.1").code == 0
    s3.invalidate_cache()
    assert s3.find("lab/out") == ["lab/out/a.poses.jsonl"]
    assert s3.cat_file("lab/out/a.poses.jsonl") == (here / "disk/a.poses.jsonl").read_bytes()
    again = infer(cli, tiny_model, "s3://lab/in/*.mp4", "--out", "s3://lab/out", "--end", "6", "--resume")
    assert again.code == 0 and not again.out, again.err
    for name, data in labelled.items():
        s3.pipe_file(f"lab/set/{name}", data)
    made = cli("convert", "s3://lab/set", "--out", "s3://lab/coco.json", "--quiet")
    assert made.code == 0 and made.out.split() == ["s3://lab/coco.json"], made.err
    assert len(json.loads(s3.cat_file("lab/coco.json"))["images"]) == 60
    refused = infer(cli, tiny_model, "a.mp4", "--out", "s3://nobody/out", "--end", "2")
    assert refused.code == 1 and "s3://nobody/out" in refused.err and len(refused.err.splitlines()) < 4, refused.err


@pytest.mark.slow
def test_killed_while_writing_to_s3(here: Path, s3: Any, clip: Path, tiny_model: Path) -> None:
    """SIGKILL after the first stream: what stands there is whole, and the rest is done by --resume."""
    for name in "abc":
        s3.put_file(str(clip), f"lab/kill/{name}.mp4")
    command = [sys.executable, "-m", "posecli", "infer", "s3://lab/kill", "-w", str(tiny_model), "--device", "cpu"]
    command += ["--out", "s3://lab/killed", "--quiet"]
    run = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while run.poll() is None and not s3.exists("lab/killed/a.poses.jsonl"):
        s3.invalidate_cache()
        time.sleep(0.05)
    run.kill()
    run.wait()
    s3.invalidate_cache()
    for name in s3.find("lab/killed"):
        assert len(s3.cat_file(name).splitlines()) == 31
    subprocess.run([*command, "--resume"], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    s3.invalidate_cache()
    assert [len(s3.cat_file(f"lab/killed/{n}.poses.jsonl").splitlines()) for n in "abc"] == [31, 31, 31]
