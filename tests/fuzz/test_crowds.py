"""A million people: every verb ends, in a time that grows with them and not with their square."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fuzz.by_hand import one
from fuzz.conftest import Fuzz
from fuzz.samples import CATEGORY


def _crowd(path: Path, people: int) -> None:
    """A COCO file with so many people of two joints, twenty in a picture."""
    pictures = people // 20
    joints = {"keypoints": ["nose", "neck"], "skeleton": [[1, 2]], "posecli": {"name": "two", "sigmas": [0.03, 0.08]}}
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(pictures)]
    head = {"images": images, "categories": [{**CATEGORY, **joints}]}
    with open(path, "w") as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        for n in range(people):
            person = (
                f'{{"id":{n},"image_id":{n % pictures},"category_id":1,"iscrowd":0,"num_keypoints":2,'
                f'"keypoints":[{n % 601},{n % 401},2,{n % 599},{n % 397},2],"bbox":[1,1,9,9],"area":81}}'
            )
            file.write(("," if n else "") + person)
        file.write("]}")


@pytest.mark.parametrize("verb", ["convert", "check", "evaluate", "stats"])
@pytest.mark.parametrize("people", [10_000, pytest.param(1_000_000, marks=pytest.mark.slow)])
def test_very_many_people(fuzz: Fuzz, tmp_path: Path, verb: str, people: int) -> None:
    """A right result or an error in one sentence, in minutes."""
    if verb not in fuzz.verbs:
        pytest.skip(f"no verb {verb}")
    if people == 10_000 and verb == "evaluate":
        pytest.skip("slow enough to be left to the slow ones")
    (tmp_path / "a/b/in").mkdir(parents=True)
    _crowd(tmp_path / "a/b/in/coco.json", people)
    more = {"convert": ["--out", "out/o.json"], "check": ["--json"], "stats": ["--json"]}.get(
        verb, ["in/p.jsonl", "--json"]
    )
    if verb == "evaluate":
        header = {
            "posecli": 1, "kind": "header", "source": "x",
            "skeleton": {"name": "two", "keypoints": ["nose", "neck"], "sigmas": [0.03, 0.08]},
        }  # fmt: skip
        person = {"score": 0.9, "keypoints": [[1, 1, 1], [2, 2, 1]]}
        rows = [{"frame": n, "file": f"{n}.jpg", "persons": [person] * 20} for n in range(people // 20)]
        (tmp_path / "a/b/in/p.jsonl").write_text("\n".join(map(json.dumps, [header, *rows])))
    seconds = 60 if people == 10_000 else 400
    out = "out/o.json" if verb == "convert" else None
    code = one(fuzz, tmp_path, f"{people} people", [verb, "in/coco.json", *more], out, seconds=seconds, people=people)
    assert code == 0 or people > 10_000
