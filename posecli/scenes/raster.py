"""Pixels of swept ellipsoids: depth, identity, texture and shading for many body parts at once, in numpy.

A part sweeps an ellipsoid from one end to the other. Around the part the perspective is taken as affine (its first
order), in which the ellipsoid ``|M^-1 (p - c)| = r`` becomes a unit sphere under a 2D linear map of the pixels and a
shear of the depth; the visible surface of a swept sphere is then closed form. Everything is evaluated on one flat list
of candidate pixels of all parts, resolved by a depth buffer, and shaded only where it is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from posecli.scenes.camera import Camera
from posecli.scenes.textures import COLS, ROWS

FAR = np.float32(1e6)
NOBODY = -1
"""Identity of pixels that no part covers."""
PROP = -2
"""Identity of pixels covered by an object."""


@dataclass
class Canvas:
    """What is drawn on.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        depth: (H, W) float32 metres along the camera axis, `FAR` where there is only background.
        identity: (H, W) int32, index of the part seen, `NOBODY` or `PROP`.
    """

    image: np.ndarray
    depth: np.ndarray
    identity: np.ndarray

    @classmethod
    def on(cls, image: np.ndarray) -> Canvas:
        """A canvas over a background picture (drawn into, not copied)."""
        shape = image.shape[:2]
        return cls(image, np.full(shape, FAR, np.float32), np.full(shape, NOBODY, np.int32))


@dataclass(frozen=True)
class Light:
    """Where light comes from: ``direction`` (3,) towards it in the world, and strengths with colour (3,) each."""

    direction: np.ndarray
    sun: np.ndarray
    ambient: np.ndarray


@dataclass(frozen=True)
class Parts:
    """P parts in the world.

    Attributes:
        ends: (P, 2, 3) metres.
        axes: (P, 3, 3) columns across, along, deep: half widths of the unit ellipsoid.
        poly: (P, 3) its size along the way, ``p0 + p1 t + p2 t^2``.
        texture: (Q, ROWS, COLS, 3) uint8 and ``texture_index`` (P,) into it.
        shine: (P,) strength of highlights.
    """

    ends: np.ndarray
    axes: np.ndarray
    poly: np.ndarray
    texture: np.ndarray
    texture_index: np.ndarray
    shine: np.ndarray


def silhouette_box(camera: Camera, ends: np.ndarray, axes: np.ndarray, poly: np.ndarray) -> np.ndarray:
    """(P, 4) float x0, y0, x1, y1 around each part's outline in pixels (not clipped); NaN behind the camera."""
    setup = _project(camera, ends, axes, poly)
    return np.where(setup["ok"][:, None], setup["box"], np.nan)


def _project(camera: Camera, ends: np.ndarray, axes: np.ndarray, poly: np.ndarray) -> dict[str, np.ndarray]:
    """Per-part quantities of the affine picture; see the module's text."""
    local = camera.to_camera(ends)
    depth = local[..., 2]
    ok = np.asarray((depth > 0.1).all(1))
    local = np.where(ok[:, None, None], local, [0, 0, 1.0])
    depth = local[..., 2]
    middle = local.mean(1)
    zm = middle[:, 2]
    scale = camera.focal / zm
    points = camera.focal * local[..., :2] / depth[..., None] + np.array(camera.centre)
    # Pixels and (scaled) height towards the viewer as a linear map of camera coordinates.
    jacobian = np.zeros((len(ends), 3, 3))
    jacobian[:, 0, 0] = jacobian[:, 1, 1] = scale
    jacobian[:, 2, 2] = -scale
    jacobian[:, 0, 2] = -scale * middle[:, 0] / zm
    jacobian[:, 1, 2] = -scale * middle[:, 1] / zm
    shape = jacobian @ camera.rotation @ axes
    q = shape @ shape.transpose(0, 2, 1)
    q[:, [0, 1], [0, 1]] += 1e-6
    l00 = np.sqrt(q[:, 0, 0])
    l10 = q[:, 1, 0] / l00
    l11 = np.sqrt(np.maximum(q[:, 1, 1] - l10**2, 1e-9))
    a00, a10, a11 = 1 / l00, -l10 / (l00 * l11), 1 / l11
    det = (l00 * l11) ** 2
    shear = np.stack(
        [
            (q[:, 2, 0] * q[:, 1, 1] - q[:, 2, 1] * q[:, 1, 0]) / det,
            (q[:, 2, 1] * q[:, 0, 0] - q[:, 2, 0] * q[:, 1, 0]) / det,
        ],
        1,
    )
    thick = np.sqrt(np.maximum(q[:, 2, 2] - (shear * q[:, 2, :2]).sum(1), 1e-8))
    near = -(depth - zm[:, None]) * scale[:, None]
    step = points[:, 1] - points[:, 0]
    dx, dy = a00 * step[:, 0], a10 * step[:, 0] + a11 * step[:, 1]
    dz = (near[:, 1] - near[:, 0] - (shear * step).sum(1)) / thick
    flat = np.maximum(np.hypot(dx, dy), 1e-6)
    ux, uy = np.where(flat > 2e-6, dx / flat, 1.0), np.where(flat > 2e-6, dy / flat, 0.0)
    # Size along the way, with the perspective growth between the ends folded in (cubic).
    g0, g1 = zm / depth[:, 0], zm / depth[:, 1]
    grow = g1 - g0
    cubic = np.stack(
        [
            poly[:, 0] * g0,
            poly[:, 1] * g0 + poly[:, 0] * grow,
            poly[:, 2] * g0 + poly[:, 1] * grow,
            poly[:, 2] * grow,
        ],
        1,
    )
    t = np.linspace(0, 1, 6)
    largest = (cubic @ np.stack([t**0, t, t**2, t**3])).max(1)
    reach = largest[:, None] * np.stack([l00, np.sqrt(q[:, 1, 1])], 1)
    box = np.concatenate([points.min(1) - reach, points.max(1) + reach], 1)
    # T maps (x, y, near) to where the part is a unit sphere, turned so that the way runs along the first axis.
    turn = np.zeros((len(ends), 3, 3))
    turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1], turn[:, 2, 2] = ux, uy, -uy, ux, 1
    to_unit = np.zeros((len(ends), 3, 3))
    to_unit[:, 0, 0], to_unit[:, 1, 0], to_unit[:, 1, 1] = a00, a10, a11
    to_unit[:, 2, :2] = -shear / thick[:, None]
    to_unit[:, 2, 2] = 1 / thick
    to_unit = turn @ to_unit
    linear = to_unit[:, :2, :2]
    origin = (linear @ points[:, 0, :, None])[..., 0]
    blur = 0.55 * np.sqrt((linear**2).sum((1, 2)))  # half a pixel, in units of the part, at most
    return {
        "ok": ok, "box": box, "points": points, "near0": near[:, 0], "scale": scale, "zm": zm, "shear": shear,
        "thick": thick, "flat": flat, "dz": dz, "cubic": cubic, "to_unit": to_unit, "jacobian": jacobian,
        "shape": shape, "largest": largest, "linear": linear, "origin": origin, "blur": blur,
    }  # fmt: skip


def _rows(s: dict[str, np.ndarray], width: int, height: int) -> tuple[np.ndarray, ...]:
    """Spans of pixels that parts may cover: part, y, first x and number of pixels of each row of each part.

    A part lies within a rectangle that is turned with it: two linear bounds on x for a given y.
    """
    with np.errstate(invalid="ignore"):
        box = np.nan_to_num(s["box"])
        y0 = np.clip(np.floor(box[:, 1] - 0.5), 0, height).astype(np.int64)
        y1 = np.clip(np.ceil(box[:, 3] + 0.5) + 1, 0, height).astype(np.int64)
    count = np.where(s["ok"], np.maximum(y1 - y0, 0), 0)
    part = np.repeat(np.arange(len(box)), count)
    y = np.arange(len(part)) - (np.cumsum(count) - count)[part] + y0[part]
    low, high = np.floor(box[part, 0] - 0.5), np.ceil(box[part, 2] + 0.5)
    reach = s["largest"] + s["blur"]
    for row, least, most in ((0, -reach, s["flat"] + reach), (1, -reach, reach)):
        slope = s["linear"][:, row, 0]
        slope = np.where(np.abs(slope) < 1e-5, 1e-5, slope)[part]
        rest = s["linear"][part, row, 1] * y - s["origin"][part, row]
        a, b = (least[part] - rest) / slope, (most[part] - rest) / slope
        low, high = np.maximum(low, np.minimum(a, b)), np.minimum(high, np.maximum(a, b))
    x0 = np.clip(np.floor(low), 0, width).astype(np.int64)
    length = np.clip(np.floor(high) + 1, 0, width).astype(np.int64) - x0
    used = np.flatnonzero(length > 0)
    return part[used], y[used], x0[used], length[used]


def draw_parts(canvas: Canvas, camera: Camera, parts: Parts, light: Light, first_identity: int = 0) -> None:
    """Draws parts into the canvas, nearer ones in front, edges anti-aliased.

    Identities are ``first_identity`` + index of the part.
    """
    if not len(parts.ends):
        return
    height, width = canvas.depth.shape
    f32 = np.float32
    s = _project(camera, parts.ends, parts.axes, parts.poly)
    row_part, row_y, row_x, row_length = _rows(s, width, height)
    if not len(row_part):
        return
    part = np.repeat(row_part, row_length)
    ends = np.cumsum(row_length)
    x = np.arange(ends[-1]) - np.repeat(ends - row_length - row_x, row_length)
    fx = x.astype(f32)

    def by_row(values: np.ndarray) -> np.ndarray:
        return np.repeat(values.astype(f32), row_length)

    def by_part(values: np.ndarray) -> np.ndarray:
        return values.astype(f32).take(part)

    # First pass, every candidate: distance across and along the way, and whether it lies inside.
    linear, origin = s["linear"], s["origin"]
    rest = linear[row_part, :, 1] * row_y[:, None] - origin[row_part]
    along = by_row(linear[row_part, 0, 0]) * fx
    along += by_row(rest[:, 0])
    across = by_row(linear[row_part, 1, 0]) * fx
    across += by_row(rest[:, 1])
    t = along * by_row(1 / s["flat"][row_part])
    np.clip(t, 0, 1, out=t)
    radius = _size_at(s["cubic"], t, part)
    end = along - t * by_part(s["flat"])
    rho2 = across * across + end * end
    reach = radius + by_part(s["blur"])
    keep = np.flatnonzero(rho2 < reach * reach)
    if not len(keep):
        return
    pixel = (np.repeat(row_y * width, row_length) + x).take(keep)
    fy = np.repeat(row_y.astype(f32), row_length).take(keep)
    part, along, across, radius, end, rho2, fx = (
        v.take(keep) for v in (part, along, across, radius, end, rho2, fx)
    )  # fmt: skip

    # Coverage of the pixel: signed distance from the outline in pixels, where the outline is near.
    rho = np.sqrt(rho2)
    cover = np.ones_like(rho)
    rim = np.flatnonzero(rho > radius - by_part(s["blur"]))
    rim_part, rim_rho = part[rim], np.maximum(rho[rim], f32(1e-6))
    e0, e1 = end[rim] / rim_rho, across[rim] / rim_rho
    slopes = linear.astype(f32)
    gx = e0 * slopes[rim_part, 0, 0] + e1 * slopes[rim_part, 1, 0]
    gy = e0 * slopes[rim_part, 0, 1] + e1 * slopes[rim_part, 1, 1]
    cover[rim] = np.clip(f32(0.5) + (radius[rim] - rho[rim]) / np.sqrt(gx * gx + gy * gy + f32(1e-12)), 0, 1)

    # The sphere of the sweep that is seen at this pixel: the way's tilt moves it towards the nearer end.
    sine = s["dz"] / np.hypot(s["flat"], s["dz"])
    bulge = np.sqrt(np.maximum(radius * radius - across * across, 0))
    t = (along + bulge * by_part(sine)) * by_part(1 / s["flat"])
    np.clip(t, 0, 1, out=t)
    radius = _size_at(s["cubic"], t, part)
    end = along - t * by_part(s["flat"])
    up = np.sqrt(np.maximum(radius * radius - across * across - end * end, 0))
    # Depth = zm - (near0 + thick (t dz + up) + shear . (p - p0)) / scale.
    start, inverse = s["points"][:, 0], 1 / s["scale"]
    fixed = s["zm"] - (s["near0"] - (s["shear"] * start).sum(1)) * inverse
    depth = (
        by_part(fixed)
        - by_part(s["thick"] * s["dz"] * inverse) * t
        - by_part(s["thick"] * inverse) * up
        - by_part(s["shear"][:, 0] * inverse) * fx
        - by_part(s["shear"][:, 1] * inverse) * fy
    )

    # Depth test. Whole pixels first; then the nearest partly covered one in front of them is blended over.
    buffer = canvas.depth.ravel()
    whole = np.flatnonzero(cover >= 0.98)
    at, deep = pixel[whole], depth[whole]
    before = buffer.copy()
    np.minimum.at(buffer, at, deep)
    now = buffer[at]
    seen = whole[(deep == now) & (deep < before[at])]
    partly = np.flatnonzero((cover < 0.98) & (cover > 0.02) & (depth < buffer[pixel]))
    edge = np.full(buffer.shape, FAR, f32)
    np.minimum.at(edge, pixel[partly], depth[partly])
    edges = partly[depth[partly] == edge[pixel[partly]]]

    shown = np.concatenate([seen, edges])
    k, r = part[shown], np.maximum(radius[shown], f32(1e-6))
    colour = _shade(s, parts, light, camera, k, end[shown] / r, across[shown] / r, up[shown] / r, t[shown], r)
    flat_image, flat_identity = canvas.image.reshape(-1, 3), canvas.identity.ravel()
    flat_image[pixel[seen]] = colour[: len(seen)]
    flat_identity[pixel[seen]] = part[seen] + first_identity
    at, alpha = pixel[edges], cover[edges][:, None]
    flat_image[at] = colour[len(seen) :] * alpha + flat_image[at] * (1 - alpha) + f32(0.5)
    more = edges[cover[edges] >= 0.5]
    buffer[pixel[more]] = depth[more]
    flat_identity[pixel[more]] = part[more] + first_identity


def _size_at(cubic: np.ndarray, t: np.ndarray, part: np.ndarray) -> np.ndarray:
    c = np.ascontiguousarray(cubic.T.astype(np.float32))
    out = c[3].take(part)
    for k in (2, 1, 0):
        out *= t
        out += c[k].take(part)
    return out


def _shade(
    s: dict[str, np.ndarray],
    parts: Parts,
    light: Light,
    camera: Camera,
    k: np.ndarray,
    ne: np.ndarray,
    na: np.ndarray,
    nu: np.ndarray,
    t: np.ndarray,
    radius: np.ndarray,
) -> np.ndarray:
    """(N, 3) float32 colours of surface points: part ``k``, unit-sphere normal (ne, na, nu), way t and size there."""
    f32 = np.float32
    to_unit, jacobian = s["to_unit"], s["jacobian"]
    # Gradient of |T (p - c)| in camera coordinates is J^T T^T n; its norm needs G = T J J^T T^T.
    bridge = to_unit @ jacobian
    toward = camera.rotation @ light.direction
    sun = (bridge @ toward).astype(f32)
    gram = (bridge @ bridge.transpose(0, 2, 1)).astype(f32)
    view = (bridge @ np.array([0, 0, -1.0])).astype(f32)
    norm2 = (
        gram[:, 0, 0].take(k) * ne * ne + gram[:, 1, 1].take(k) * na * na + gram[:, 2, 2].take(k) * nu * nu
        + 2 * (gram[:, 0, 1].take(k) * ne * na + gram[:, 0, 2].take(k) * ne * nu + gram[:, 1, 2].take(k) * na * nu)
    )  # fmt: skip
    inverse = 1 / np.sqrt(np.maximum(norm2, f32(1e-12)))
    lit = (sun[:, 0].take(k) * ne + sun[:, 1].take(k) * na + sun[:, 2].take(k) * nu) * inverse
    facing = (view[:, 0].take(k) * ne + view[:, 1].take(k) * na + view[:, 2].take(k) * nu) * inverse

    # Where on the part: its own axes seen from the unit sphere.
    own = (to_unit @ s["shape"]).astype(f32)
    left = own[:, 0, 0].take(k) * ne + own[:, 1, 0].take(k) * na + own[:, 2, 0].take(k) * nu
    up = own[:, 0, 1].take(k) * ne + own[:, 1, 1].take(k) * na + own[:, 2, 1].take(k) * nu
    front = own[:, 0, 2].take(k) * ne + own[:, 1, 2].take(k) * na + own[:, 2, 2].take(k) * nu
    cap = np.linalg.norm(parts.axes[:, :, 1], axis=1)
    way = np.linalg.norm(parts.ends[:, 1] - parts.ends[:, 0], axis=1)
    first, last = cap * parts.poly[:, 0], cap * parts.poly.sum(1)
    total = np.maximum(way + first + last, 1e-6)
    v = t * (way / total).astype(f32)[k] + radius * up * (cap / total).astype(f32)[k] + (first / total).astype(f32)[k]
    half = COLS // 2
    column = ((left * f32(0.5) + f32(0.5)) * f32(half - 1) + f32(0.5)).astype(np.int32).clip(0, half - 1)
    column += np.where(front < 0, half, 0).astype(np.int32)
    row = (v * f32(ROWS)).astype(np.int32).clip(0, ROWS - 1)
    texel = (parts.texture_index.astype(np.int64)[k] * ROWS + row) * COLS + column
    base = parts.texture.reshape(-1, 3)[texel].astype(f32)

    wrapped = np.clip(lit * f32(0.85) + f32(0.15), 0, 1)
    rim = f32(0.8) + f32(0.2) * np.clip(facing * f32(2.0), 0, 1)  # grazing surfaces darken: folds, crevices
    gleam = parts.shine.astype(f32)[k] * np.clip(lit, 0, 1) ** 12 * f32(160)
    colour = base * (light.ambient.astype(f32) * rim[:, None] + wrapped[:, None] * light.sun.astype(f32))
    return np.clip(colour + gleam[:, None], 0, 255)
