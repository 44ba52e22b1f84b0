"""Image and keypoints moved together: the random changes a training sample goes through.

Everything is a pure function of its arguments and a `numpy.random.Generator`: the same state of the generator gives the
same sample, which is what makes a resumed run equal to one that was never stopped. Images are RGB uint8 (H, W, 3);
points are (x, y) in pixels. Where a picture is cut, turned or mirrored is a `Crop` (`posecli.geometry`).
"""

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Image = np.ndarray


def inside(xy: NDArray[np.floating], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Which of the points (..., 2) lie on the picture of (width, height) = `size`, edges of pixels included."""
    x, y = xy[..., 0], xy[..., 1]
    return (x >= -0.5) & (y >= -0.5) & (x <= size[0] - 0.5) & (y <= size[1] - 0.5)


def half_body(
    xy: NDArray[np.floating], visible: NDArray[np.bool_], upper: NDArray[np.bool_], rng: Generator
) -> tuple[NDArray[np.float64], float] | None:
    """Middle and longer side of the box of one half of a body, or None where neither half has three visible joints.

    `upper` (K,) tells the joints of the upper half. The half with three or more visible joints is taken, the upper one
    in 7 of 10 cases where both have (people are more often cut at the waist than above it).
    """
    halves = [visible & upper, visible & ~upper]
    usable = [half for half in halves if half.sum() >= 3]
    if not usable:
        return None
    chosen = usable[0] if len(usable) == 1 or rng.random() < 0.7 else usable[1]
    low, high = xy[chosen].min(axis=0), xy[chosen].max(axis=0)
    return (low + high) / 2, float((high - low).max())


def colour_jitter(image: Image, rng: Generator, strength: float = 0.4) -> Image:
    """Random gamma, contrast, brightness, colour cast and saturation; `strength` 0 changes nothing, 1 is harsh."""
    gamma = np.exp(rng.uniform(-0.5, 0.5) * strength)
    gain = np.exp(rng.uniform(-1, 1) * 0.5 * strength) * np.exp(rng.uniform(-0.3, 0.3, 3) * strength)
    lift = rng.uniform(-0.3, 0.3) * strength
    level = np.linspace(0, 1, 256)[:, None] ** gamma
    table = np.clip(((level - 0.5) * gain + 0.5 + lift) * 255 + 0.5, 0, 255).astype(np.uint8)
    image = cv2.LUT(image, table[None])
    saturation = 1 + rng.uniform(-1, 1) * strength
    return cv2.addWeighted(image, saturation, to_grey(image), 1 - saturation, 0)


def to_grey(image: Image) -> Image:
    """The picture without colour, still three channels."""
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def blur(image: Image, rng: Generator, largest: float = 1.5) -> Image:
    """Gaussian blur of a random width up to `largest` pixels (standard deviation), or a motion blur of that reach."""
    sigma = rng.uniform(0.3, largest)
    if rng.random() < 0.5:
        return cv2.GaussianBlur(image, (0, 0), sigma)
    length = 2 * int(np.ceil(2 * sigma)) + 1
    kernel = np.zeros((length, length), np.float32)
    reach, angle = length // 2, rng.uniform(0, np.pi)
    end = (round(reach * np.cos(angle)), round(reach * np.sin(angle)))
    cv2.line(kernel, (reach - end[0], reach - end[1]), (reach + end[0], reach + end[1]), 1.0)
    return cv2.filter2D(image, -1, kernel / kernel.sum())


def noise(image: Image, rng: Generator, largest: float = 12.0) -> Image:
    """Gaussian noise of a random deviation up to `largest` grey levels on every channel."""
    grain = rng.standard_normal(image.shape, dtype=np.float32) * rng.uniform(1, largest)
    return np.clip(image + grain, 0, 255).astype(np.uint8)


def darker(image: Image, level: float, rng: Generator) -> Image:
    """The picture exposed at a `level` below 1 of its light, with the grain of a dark sensor."""
    light = image.astype(np.float32) * level
    grain = rng.standard_normal(image.shape, dtype=np.float32) * np.sqrt(0.35 * light + 2.0)
    return np.clip(light + grain, 0, 255).astype(np.uint8)


def brighter(image: Image, level: float) -> Image:
    """The picture exposed at a `level` above 1 of its light: what was bright is white."""
    return cv2.LUT(image, np.clip(np.arange(256) * level, 0, 255).astype(np.uint8))


def compressed(image: Image, quality: int) -> Image:
    """The picture after JPEG compression at a quality from 1 to 100."""
    _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.ascontiguousarray(np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[:, :, ::-1])


def occlude(image: Image, rng: Generator, patch: Image | None = None, largest: float = 0.4) -> Image:
    """A random rectangle, 0.1 to `largest` of the picture's sides, covered by `patch` (cut to fit) or by one colour.

    Labels stay: a network has to guess the hidden joint as a person would.
    """
    height, width = image.shape[:2]
    box_w, box_h = (max(1, int(rng.uniform(0.1, largest) * length)) for length in (width, height))
    left, top = int(rng.integers(0, width - box_w + 1)), int(rng.integers(0, height - box_h + 1))
    image = image.copy()
    target = image[top : top + box_h, left : left + box_w]
    if patch is None or patch.shape[0] < box_h or patch.shape[1] < box_w:
        target[:] = rng.integers(0, 256, 3)
    else:
        y, x = int(rng.integers(0, patch.shape[0] - box_h + 1)), int(rng.integers(0, patch.shape[1] - box_w + 1))
        target[:] = patch[y : y + box_h, x : x + box_w]
    return image


def random_part(image: Image, width: int, height: int, rng: Generator, least: float = 0.5) -> Image:
    """A part of a picture (H, W, 3), (height, width, 3), mirrored or not: what lay in a window of that shape.

    The window is ``least`` to all of the largest that fits into the picture.
    """
    share = min(image.shape[1] / width, image.shape[0] / height) * rng.uniform(least, 1)
    w, h = max(1, round(width * share)), max(1, round(height * share))
    x, y = int(rng.integers(image.shape[1] - w + 1)), int(rng.integers(image.shape[0] - h + 1))
    part = image[y : y + h, x : x + w]
    if rng.random() < 0.5:
        part = part[:, ::-1]
    how = cv2.INTER_AREA if share > 1 else cv2.INTER_LINEAR
    return np.ascontiguousarray(cv2.resize(part, (width, height), interpolation=how))


def paste(image: Image, cutout: Image, alpha: np.ndarray, left: int, top: int) -> Image:
    """A copy with `cutout` (h, w, 3) blended in by `alpha` (h, w) in 0..1 at a corner that may lie outside."""
    height, width = image.shape[:2]
    h, w = alpha.shape
    x0, y0, x1, y1 = max(0, left), max(0, top), min(width, left + w), min(height, top + h)
    image = image.copy()
    if x0 < x1 and y0 < y1:
        part = image[y0:y1, x0:x1]
        share = alpha[y0 - top : y1 - top, x0 - left : x1 - left, None]
        mixed = part + share * (cutout[y0 - top : y1 - top, x0 - left : x1 - left].astype(np.float32) - part)
        image[y0:y1, x0:x1] = np.clip(mixed + 0.5, 0, 255).astype(np.uint8)
    return image


# How often a last pose is not there, is another's, is mistaken about its sides.
_NO_LAST, _ANOTHERS, _TURNED = 0.35, 0.12, 0.15
# By which shares of the person's size a last pose is off as a whole, and how often; how far each joint is besides.
_OFF, _OFTEN, _EACH = (0.025, 0.07, 0.14), (0.6, 0.3, 0.1), 0.02
_GROWN, _LEANT = 0.06, 6.0  # the logarithm of its size, degrees


def remembered(
    xy: NDArray[np.floating],
    there: NDArray[np.bool_],
    other: tuple[NDArray[np.floating], NDArray[np.bool_]],
    flip_index: NDArray[np.integer],
    rng: Generator,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """What may have been known of a pose a frame ago, as `posecli.codecs.last_pose` shows it to a network.

    Somebody's last pose is off as a whole by motion and by what the network then saw; it may have its sides exchanged,
    be known in parts, be nonsense, or there may be none. So a network learns to go by it for whom is meant, and by the
    picture for where the joints are.

    Args:
        xy: (K, 2) joints. there: (K,) which are known.
        other: the same of anybody else, whose pose is the nonsense.
        flip_index: (K,) of the skeleton.

    Returns:
        Joints (K, 2), and which of them are known, none of them where there is no last pose.
    """
    if rng.random() < _NO_LAST or there.sum() < 3:
        return xy.astype(np.float64), np.zeros(len(xy), bool)
    low, high = xy[there].min(0), xy[there].max(0)
    middle, side = (low + high) / 2, float(max(np.max(high - low), 1.0))
    last, known = xy.astype(np.float64), there.copy()
    if rng.random() < _ANOTHERS and other[1].sum() >= 3:
        last, known = other[0].astype(np.float64), other[1].copy()
        low, high = last[known].min(0), last[known].max(0)
        last = (last - (low + high) / 2) * side / max(float(np.max(high - low)), 1.0) + middle
    angle, size = np.deg2rad(rng.normal(0, _LEANT)), np.exp(rng.normal(0, _GROWN))
    cos, sin = np.cos(angle) * size, np.sin(angle) * size
    last = (last - middle) @ np.array([[cos, sin], [-sin, cos]]) + middle
    last = last + rng.normal(0, rng.choice(_OFF, p=_OFTEN), 2) * side + rng.normal(0, _EACH, xy.shape) * side
    if rng.random() < _TURNED:
        last, known = last[flip_index], known[flip_index]
    if rng.random() < 0.5:
        known = known & (rng.random(len(known)) > rng.choice([0.05, 0.15, 0.4]))
    return last, known
