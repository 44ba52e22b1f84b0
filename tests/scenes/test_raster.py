"""Pixels lie where the labels say, depth decides what is seen."""

from __future__ import annotations

import numpy as np
import pytest

from posecli.scenes.backdrop import draw_box, make_box
from posecli.scenes.camera import Camera, look_at
from posecli.scenes.raster import FAR, PROP, Canvas, Light, Parts, draw_parts, silhouette_box
from posecli.scenes.textures import COLS, ROWS

FLAT = Light(np.array([0.0, 0.0, 1.0]), np.zeros(3), np.full(3, 1.0))


def _camera(azimuth: float = 20.0, roll: float = 5.0) -> Camera:
    return look_at(np.array([0.1, 1.0, 0.0]), azimuth, 8.0, 4.0, roll, 260.0, (79.5, 59.5))


def _parts(ends: np.ndarray, radii: np.ndarray, colours: list[tuple[int, int, int]]) -> Parts:
    texture = np.empty((len(ends), ROWS, COLS, 3), np.uint8)
    texture[:] = np.array(colours, np.uint8)[:, None, None]
    axes = np.stack([np.diag(r) for r in radii])
    poly = np.tile([1.0, 0.0, 0.0], (len(ends), 1))
    return Parts(ends, axes, poly, texture, np.arange(len(ends)), np.zeros(len(ends), np.float32))


def _canvas() -> Canvas:
    return Canvas.on(np.zeros((120, 160, 3), np.uint8))


def _centroid(image: np.ndarray) -> np.ndarray:
    weight = image.sum(2).astype(float)
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("seed", range(8))
def test_a_marker_is_found_where_the_camera_projects_it(seed: int) -> None:
    rng = np.random.default_rng(seed)
    point = np.array([0.1, 1.0, 0.0]) + rng.uniform(-0.5, 0.5, 3)
    camera, canvas = _camera(rng.uniform(-90, 90)), _canvas()
    draw_parts(canvas, camera, _parts(np.array([[point, point]]), np.full((1, 3), 0.03), [(250, 250, 250)]), FLAT)
    xy, depth = camera.project(point)
    assert np.linalg.norm(_centroid(canvas.image) - xy) < 0.06
    assert canvas.depth.min() == pytest.approx(depth - 0.03, abs=2e-3)


def test_a_thin_limb_runs_between_its_ends() -> None:
    ends = np.array([[[-0.3, 0.8, 0.1], [0.4, 1.2, -0.2]]])
    camera, canvas = _camera(), _canvas()
    draw_parts(canvas, camera, _parts(ends, np.full((1, 3), 0.03), [(255, 255, 255)]), FLAT)
    xy, _ = camera.project(ends[0])
    ys, xs = np.nonzero(canvas.identity == 0)
    way = (xy[1] - xy[0]) / np.linalg.norm(xy[1] - xy[0])
    pixels = np.stack([xs, ys], 1) - xy[0]
    aside = pixels @ np.array([-way[1], way[0]])
    along = pixels @ way
    radius = 0.03 * 260 / 4
    assert np.abs(aside).max() < radius + 0.75 and abs(aside.mean()) < 0.1
    assert along.min() == pytest.approx(-radius, abs=1.0)
    assert along.max() == pytest.approx(np.linalg.norm(xy[1] - xy[0]) + radius, abs=1.0)


@pytest.mark.parametrize("seed", range(4))
def test_an_ellipsoid_covers_its_exact_outline(seed: int) -> None:
    rng = np.random.default_rng(seed)
    camera, canvas = _camera(), _canvas()
    centre, radii = np.array([0.1, 1.0, 0.0]), np.array([rng.uniform(0.05, 0.25, 3)])
    ends = np.array([[centre, centre]])
    parts = _parts(ends, radii, [(255, 255, 255)])
    draw_parts(canvas, camera, parts, FLAT)
    # A ray meets the ellipsoid when the discriminant of |M^-1 (o + s d)|^2 = 1 is not negative.
    y, x = np.mgrid[:120, :160]
    rays = np.stack([(x - camera.centre[0]) / camera.focal, (y - camera.centre[1]) / camera.focal, np.ones_like(x)], -1)
    d = rays @ camera.rotation / radii[0]
    o = (camera.position - centre) / radii[0]
    truth = (d @ o) ** 2 - (d**2).sum(-1) * (o @ o - 1) >= 0
    assert (truth ^ (canvas.identity == 0)).sum() <= 0.02 * truth.sum() + 6
    box = silhouette_box(camera, ends, parts.axes, parts.poly)[0]
    ys, xs = np.nonzero(truth)
    assert np.allclose(box, [xs.min(), ys.min(), xs.max(), ys.max()], atol=1.5)


def test_nearer_parts_and_boxes_win() -> None:
    camera = look_at(np.zeros(3), 0, 0, 4, 0, 200, (79.5, 59.5))
    ends = np.array([[[0, 0, -0.5], [0, 0, -0.5]], [[0.2, 0, 0.5], [0.2, 0, 0.5]]], float)
    parts = _parts(ends, np.full((2, 3), 0.3), [(255, 0, 0), (0, 255, 0)])
    canvas = _canvas()
    draw_parts(canvas, camera, parts, FLAT)
    both, _ = camera.project(np.array([[0.05, 0, -0.2], [-0.2, 0, -0.5]]))
    (u, v), (s, t) = both.round().astype(int)
    assert canvas.identity[v, u] == 1 and canvas.identity[t, s] == 0
    swapped = _canvas()
    order = Parts(ends[::-1], parts.axes, parts.poly, parts.texture, np.array([1, 0]), parts.shine)
    draw_parts(swapped, camera, order, FLAT)
    assert np.array_equal(swapped.image, canvas.image), "the order of parts is irrelevant"
    box = make_box(np.random.default_rng(0), np.array([0.0, 1.5]), (0.5, 3.0, 0.5), None, bottom=-1.5)
    hidden = _canvas()
    draw_box(hidden, camera, box, FLAT)
    draw_parts(hidden, camera, parts, FLAT)
    assert hidden.identity[60, 80] == PROP and hidden.depth[60, 80] < 2.9


def test_parts_behind_the_camera_or_outside_draw_nothing() -> None:
    camera, canvas = _camera(), _canvas()
    behind = camera.position - camera.rotation[2]
    aside = camera.position + camera.rotation[2] * 3 + camera.rotation[0] * 9
    ends = np.array([[behind, behind], [aside, aside]])
    draw_parts(canvas, camera, _parts(ends, np.full((2, 3), 0.2), [(255, 0, 0)] * 2), FLAT)
    assert (canvas.identity == -1).all() and (canvas.depth == FAR).all() and not canvas.image.any()
