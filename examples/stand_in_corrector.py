"""Stands in for the human of correct.sh: moves the points of labelme files to where a scene's true joints are.

    python stand_in_corrector.py LABELME_FOLDER SCENE.json

It does with the files what a person does in labelme: points that are off are dragged to their joint, points of joints
that are hidden get the flag "hidden", the box is drawn anew. It cannot judge pictures; it knows the truth because the
scene was generated.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def correct(file: Path, people: dict[str, list[float]]) -> tuple[int, float]:
    """Corrects one labelme file of one person; returns how many points were dragged, and their mean way in pixels."""
    value = json.loads(file.read_text(encoding="utf-8"))
    dragged = []
    for shape in value["shapes"]:
        if shape["shape_type"] == "point" and shape["label"] in people:
            x, y, v = people[shape["label"]]
            ((old_x, old_y),) = shape["points"]
            distance = ((x - old_x) ** 2 + (y - old_y) ** 2) ** 0.5
            if distance > 1:  # nobody drags a point by less than a pixel
                shape["points"] = [[x, y]]
                dragged.append(distance)
            shape["flags"] = {"hidden": v == 1}
        elif shape["shape_type"] == "rectangle":
            xs, ys = ([p[i] for p in people.values() if p[2] > 0] for i in (0, 1))
            shape["points"] = [[min(xs) - 3, min(ys) - 3], [max(xs) + 3, max(ys) + 3]]
    file.write_text(json.dumps(value, indent=1), encoding="utf-8")
    return len(dragged), sum(dragged) / len(dragged) if dragged else 0.0


def main() -> None:
    folder, scene = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text(encoding="utf-8"))
    truth = {
        frame["frame"]: dict(zip(scene["keypoints"], frame["persons"][0]["keypoints"], strict=True))
        for frame in scene["frames"]
    }
    count = points = 0
    total = 0.0
    for file in sorted(folder.rglob("*.json")):
        dragged, mean = correct(file, truth[int(file.stem)])
        count, points, total = count + 1, points + dragged, total + dragged * mean
    print(f"{count} files, {points} points dragged, by {total / max(points, 1):.1f} pixels on average")


if __name__ == "__main__":
    main()
