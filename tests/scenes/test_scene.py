"""Labels tell the truth of the picture: visibility, boxes, cameras, seeds."""

from __future__ import annotations

import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from posecli.errors import PoseError
from posecli.scenes import Backgrounds, FrameStyle, SceneOptions, render_frame
from posecli.scenes.backdrop import make_box
from posecli.scenes.body import CHANNELS, Build, C, Pose, keypoints3d, pose_from_channels
from posecli.scenes.camera import Camera, look_at
from posecli.scenes.folder import film, stage
from posecli.scenes.raster import Canvas, Light, Parts, draw_parts
from posecli.scenes.scene import Person, Scene
from posecli.scenes.textures import COLS, ROWS
from posecli.scenes.wardrobe import sample_figure
from posecli.skeletons import BODY19
from posecli.types import Instance

KP = {name: i for i, name in enumerate(BODY19.keypoints)}
LIGHT = Light(np.array([0.3, 0.9, 0.3]), np.full(3, 0.5), np.full(3, 0.5))


def _person(shift: tuple[float, float] = (0, 0), track_id: int = 1, seed: int = 1, **angles: float) -> Person:
    build = Build()
    channels = np.zeros((1, len(CHANNELS)))
    channels[:, [C["l_sh_abd"], C["r_sh_abd"], C["l_hip_abd"], C["r_hip_abd"]]] = [25, 25, 8, 8]
    for name, value in angles.items():
        channels[:, C[name]] = value
    pose = pose_from_channels(build, channels)
    figure = sample_figure(np.random.default_rng(seed), build)
    return Person(figure, Pose(pose.joints + [shift[0], 0, shift[1]], pose.frames), track_id)


def _look(azimuth: float, height: int = 200, width: int = 200) -> Camera:
    return look_at(np.array([0, 0.9, 0]), azimuth, 0, 5, 0, 0.9 * height * 5 / 1.9, ((width - 1) / 2, (height - 1) / 2))


def _see(scene: Scene, camera: Camera, size_wh: tuple[int, int] = (200, 200)) -> tuple[Canvas, dict[int, Instance]]:
    canvas = Canvas.on(np.zeros((size_wh[1], size_wh[0], 3), np.uint8))
    placed, keypoints, joints = scene.moments(slice(0, 1))
    scene.draw(canvas, camera, placed[0], joints[0])
    return canvas, dict(scene.label(canvas, camera, placed[0], keypoints[0]))


def _flags(instance: Instance) -> dict[str, int]:
    return dict(zip(BODY19.keypoints, instance.visibility.tolist(), strict=True))


def test_front_back_and_side_hide_what_they_must() -> None:
    scene = Scene([_person()], LIGHT)
    front = _flags(_see(scene, _look(0))[1][0])
    assert all(v == 2 for v in front.values()), front
    back = _flags(_see(scene, _look(180))[1][0])
    assert [back[n] for n in ("nose", "left_eye", "right_eye")] == [1, 1, 1]
    assert [back[n] for n in ("left_shoulder", "right_hip", "left_knee", "right_ankle", "left_wrist")] == [2] * 5
    left = _flags(_see(Scene([_person(l_sh_flex=60)], LIGHT), _look(90))[1][0])
    assert [left[n] for n in ("right_shoulder", "right_hip", "right_eye", "right_ear", "right_elbow")] == [1] * 5
    assert [left[n] for n in ("left_hip", "left_knee", "left_elbow", "left_wrist", "nose")] == [2] * 5


def test_a_hand_before_the_body_hides_only_what_lies_behind_it() -> None:
    scene = Scene([_person(l_sh_flex=50, l_sh_abd=0, l_sh_twist=-45, l_el_flex=95)], LIGHT)
    flags = _flags(_see(scene, _look(0))[1][0])
    assert flags["left_wrist"] == 2 and flags["left_elbow"] == 2
    behind = _flags(_see(scene, _look(180))[1][0])
    assert behind["left_wrist"] == 1


def test_people_and_things_hide_joints_and_the_picture_ends_count() -> None:
    near, far = _person((0.0, 1.0), 7), _person((0.0, -0.5), 8)
    _, seen = _see(Scene([near, far], LIGHT), _look(0))
    assert (seen[0].visibility == 2).all()
    assert 1 not in seen or (seen[1].visibility <= 1).sum() >= 8
    box = make_box(np.random.default_rng(0), np.array([0.0, 1.0]), (0.9, 0.75, 0.1), None)
    _, boxed = _see(Scene([_person()], LIGHT, boxes=[box]), _look(0))
    flags = _flags(boxed[0])
    assert flags["left_ankle"] == flags["right_knee"] == 1 and flags["nose"] == flags["left_hip"] == 2
    _, cut = _see(Scene([_person()], LIGHT), replace(_look(0), centre=(99.5, 180.0)))
    flags = _flags(cut[0])
    assert flags["left_ankle"] == 0 and flags["nose"] == 2
    assert np.isnan(cut[0].xy[KP["left_ankle"]]).all()


def test_boxes_hold_the_outline_and_the_head() -> None:
    scene = Scene([_person()], LIGHT)
    canvas, seen = _see(scene, _look(0))
    ys, xs = np.nonzero(canvas.identity >= 0)
    person = seen[0]
    assert person.box_xyxy is not None and person.head_box_xyxy is not None
    left, top, right, bottom = person.box_xyxy
    inside = (xs >= left) & (xs < right) & (ys >= top) & (ys < bottom)
    assert inside.mean() > 0.97  # things carried stay outside
    assert 0.5 * len(xs) < person.area <= len(xs)
    x0, y0, x1, y1 = person.head_box_xyxy
    for name in ("nose", "left_eye", "right_eye", "head_top"):
        x, y = person.xy[KP[name]]
        assert x0 <= x <= x1 and y0 - 0.5 <= y <= y1
    assert 0.1 < (y1 - y0) / (person.box_xyxy[3] - person.box_xyxy[1]) < 0.2


def test_two_cameras_agree_on_one_point() -> None:
    options = SceneOptions(seed=4, people=(1, 1), frames=3, blur=0.0, occluders=0.0)
    staged = stage(options, 0, Backgrounds(), None)
    person = staged.scene.people[0]
    truth = keypoints3d(person.figure.build, person.pose)
    shots = {(s.frame, s.camera): s for s in film(staged, 0)}
    for frame in range(3):
        rows, labels = [], []
        for name in ("front", "side"):
            camera = staged.rigs[name].at(float(staged.times[frame]))
            matrix = np.diag([camera.focal, camera.focal, 1.0])
            matrix[:2, 2] = camera.centre
            rows.append(matrix @ np.hstack([camera.rotation, -(camera.rotation @ camera.position)[:, None]]))
            labels.append(shots[frame, name].labels[0][1])
        for joint in (KP["neck"], KP["left_hip"], KP["right_shoulder"]):
            # Triangulation: x P3 - P1 = 0, y P3 - P2 = 0 for both cameras.
            system = np.concatenate([
                np.stack([label.xy[joint, axis] * p[2] - p[axis] for axis in (0, 1)])
                for p, label in zip(rows, labels, strict=True)
            ])  # fmt: skip
            point = np.linalg.svd(system)[2][-1]
            assert np.allclose(point[:3] / point[3], truth[frame, joint], atol=1e-3)


def test_a_marker_at_a_joint_is_found_at_its_label() -> None:
    scene = Scene([_person()], LIGHT)
    camera = _look(25)
    _, seen = _see(scene, camera)
    point = keypoints3d(scene.people[0].figure.build, scene.people[0].pose)[0, KP["right_wrist"]]
    canvas = Canvas.on(np.zeros((200, 200, 3), np.uint8))
    texture, poly = np.full((1, ROWS, COLS, 3), 200, np.uint8), np.array([[1.0, 0, 0]])
    marker = Parts(np.array([[point, point]]), 0.02 * np.eye(3)[None], poly, texture, np.zeros(1, int), np.zeros(1))
    draw_parts(canvas, camera, marker, Light(LIGHT.direction, np.zeros(3), np.ones(3)))
    weight = canvas.image[..., 0].astype(float)
    y, x = np.mgrid[:200, :200]
    found = np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()
    assert np.linalg.norm(found - seen[0].xy[KP["right_wrist"]]) < 0.06


def test_frames_are_the_same_for_the_same_seed_only() -> None:
    def sample(seed: int) -> tuple[np.ndarray, list[Instance]]:
        return render_frame(np.random.default_rng(seed), (160, 120), (1, 3))

    for seed in range(3):
        (a, p), (b, q) = sample(seed), sample(seed)
        assert a.shape == (120, 160, 3) and a.dtype == np.uint8 and np.array_equal(a, b)
        assert len(p) == len(q)
        for one, two in zip(p, q, strict=True):
            assert np.array_equal(one.xy, two.xy, equal_nan=True) and one.xy.shape == (19, 2)
            assert np.array_equal(one.visibility, two.visibility)
    assert not np.array_equal(sample(0)[0], sample(1)[0])


def test_frames_obey_their_style() -> None:
    plain = FrameStyle(blur=0, defocus=0, occluders=0, close_up=0, noise=0, jpeg=0, grey=0, fill=(0.8, 0.8))
    picture = np.full((50, 90, 3), 77, np.uint8)
    for seed in range(3):
        _, people = render_frame(np.random.default_rng(seed), (200, 200), 1, picture, style=plain)
        assert len(people) == 1 and (people[0].visibility > 0).all()
    image, nobody = render_frame(np.random.default_rng(0), (64, 48), 0, picture)
    assert nobody == [] and image.shape == (48, 64, 3)
    busy = FrameStyle(occluders=3.0, blur=0, close_up=0)
    hidden = [sum(int((p.visibility == 1).sum()) for p in
                  render_frame(np.random.default_rng(s), (160, 160), 1, style=style)[1])
              for style in (replace(busy, occluders=0), busy) for s in range(6)]  # fmt: skip
    assert sum(hidden[6:]) > sum(hidden[:6])


def test_backgrounds_hold_some_pictures_back(tmp_path: Path) -> None:
    for i in range(30):
        cv2.imwrite(str(tmp_path / f"p{i}.png"), np.full((40, 60, 3), 8 * i, np.uint8))
    found = Backgrounds(tmp_path)
    kept_back = [f for f in tmp_path.iterdir() if zlib.crc32(f.name.encode()) % 10 == 0]
    assert kept_back and len(found.files) == 30 - len(kept_back) and not set(kept_back) & set(found.files)
    assert found.picture(np.random.default_rng(0), (32, 48)).shape == (48, 32, 3)
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "none", tmp_path / "empty"):
        with pytest.raises(PoseError, match=folder.name):
            Backgrounds(folder)
