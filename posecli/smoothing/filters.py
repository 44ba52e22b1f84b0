"""Filters of one person's joints over time: One Euro, Savitzky-Golay, and a Kalman filter with its smoother.

A track is ``time`` (T,) in seconds, rising; ``xy`` (T, K, 2) pixels, NaN where a joint is missing; ``size`` (T,)
pixels, the longer side of the person's box. Everything that has a length is in sizes and everything that has a duration
in seconds, so that the distance of a person and the frame rate make no difference, and a rate that varies does no harm.
Missing joints stay missing; joints don't know of each other.

==========  =======================================  ============================================
filter      looks                                    lag
==========  =======================================  ============================================
oneeuro     back only: for cameras and live streams  1 / (2 pi (``cutoff`` + ``beta`` x speed)) s
savgol      back and ahead                           none: windows are symmetric
kalman      at the whole track                       none: it is run forwards and backwards
==========  =======================================  ============================================
"""

from __future__ import annotations

import itertools
from typing import TypeVar

import numpy as np

__all__ = ["OneEuro", "breaks", "kalman", "one_euro", "reachable", "savitzky_golay"]

_UNSURE = 0.05  # scores below count as this one
_ANY_SPEED = 100.0  # sizes a second: standard deviation of the velocity that nothing is known of
_LEAP, _FASTEST = 0.12, 5.0  # sizes, and sizes a second (`reachable`)
_SPIKE = 2  # frames after which it may be back

_Seconds = TypeVar("_Seconds", float, np.ndarray)


def breaks(
    time: np.ndarray, xy: np.ndarray, size: np.ndarray, pairs: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Where a track is not one movement: (T, K) bool, frames at which a joint begins anew; and (T, K) bool, outliers.

    A leap of a joint is no movement, nor are left and right that change places (each joint of most ``pairs`` lies where
    its partner was): filters that went on over it would draw a person who folds up in between. A joint that leaps and
    is back after at most two frames was an outlier, and goes on.

    Args:
        pairs: (P, 2) left and right joints.
    """
    anew, outlier = np.zeros(xy.shape[:2], bool), np.zeros(xy.shape[:2], bool)
    if len(xy) < 2:
        return anew, outlier
    scale = np.maximum(size[1:], size[:-1])[:, None]
    step = np.diff(time)[:, None]
    far = reachable(step)
    with np.errstate(invalid="ignore"):
        anew[1:] = np.linalg.norm(np.diff(xy, axis=0), axis=2) / scale > far
        for length in range(1, _SPIKE + 1):
            back = np.linalg.norm(xy[length + 1 :] - xy[: -length - 1], axis=2) / scale[length:] <= far[length:]
            spike = anew[1 : len(xy) - length] & anew[length + 1 :] & back
            for part in range(length):
                outlier[1 + part : len(xy) - length + part] |= spike
            anew[1 : len(xy) - length] &= ~spike
            anew[length + 1 :] &= ~spike
        if pairs is not None and len(pairs):
            left, right = xy[:, pairs[:, 0]], xy[:, pairs[:, 1]]
            kept = np.linalg.norm(np.diff(left, axis=0), axis=2) + np.linalg.norm(np.diff(right, axis=0), axis=2)
            crossed = np.linalg.norm(left[1:] - right[:-1], axis=2) + np.linalg.norm(right[1:] - left[:-1], axis=2)
            wide = np.fmin(np.linalg.norm(left - right, axis=2)[1:], np.linalg.norm(left - right, axis=2)[:-1])
            telling = wide > 0.04 * scale
            turned = telling & (crossed < 0.7 * kept)
        else:
            turned = telling = np.zeros((len(xy) - 1, 1), bool)
    anew[1:][turned.sum(1) > np.maximum(0.5 * telling.sum(1), 1)] = True
    return anew, outlier


def reachable(seconds: _Seconds) -> _Seconds:
    """Sizes by which a joint may move in so many seconds; one that is further is somewhere else, not under way."""
    return _LEAP + _FASTEST * seconds


class OneEuro:
    """Casiez, Roussel, Vogel, "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive
    Systems", CHI 2012: an exponential mean whose cut-off frequency rises with speed.

    The speed is that of the joint in the plane, not of each coordinate, so that turning the camera changes nothing.
    It goes on over leaps (`breaks`): their speed is great, so it follows at once, and can't know which were outliers.

    Args:
        cutoff: hertz at rest (f_cmin); lower is calmer.
        beta: hertz for each size a second; higher follows quick movements more closely.
        derivative_cutoff: hertz of the mean over speeds.
    """

    def __init__(self, cutoff: float = 1.0, beta: float = 6.0, derivative_cutoff: float = 3.0) -> None:
        self.cutoff = cutoff
        self.beta = beta
        self.derivative_cutoff = derivative_cutoff
        self._time: np.ndarray | None = None  # (K,) when each joint was seen last, NaN for never
        self._raw: np.ndarray
        self._xy: np.ndarray
        self._velocity: np.ndarray

    @classmethod
    def of_strength(cls, strength: float) -> OneEuro:
        """One that looks back so many times as long as usual, at any speed."""
        usual = cls()
        return cls(usual.cutoff / strength, usual.beta / strength, usual.derivative_cutoff / strength)

    def update(self, time: float, xy: np.ndarray, size: float) -> np.ndarray:
        """(K, 2) filtered joints of the next frame; NaN stays NaN and leaves the joint's state as it was."""
        if self._time is None:
            self._time = np.full(len(xy), np.nan)
            self._raw, self._xy, self._velocity = (np.full(xy.shape, np.nan) for _ in range(3))
        here = ~np.isnan(xy[:, 0])
        first = here & np.isnan(self._time)
        self._xy[first], self._raw[first], self._velocity[first], self._time[first] = xy[first], xy[first], 0.0, time
        on = here & (time > self._time)
        step = (time - self._time[on])[:, None]
        share = _share(self.derivative_cutoff, step)
        self._velocity[on] += share * ((xy[on] - self._raw[on]) / (step * size) - self._velocity[on])
        speed = np.linalg.norm(self._velocity[on], axis=1)[:, None]
        self._xy[on] += _share(self.cutoff + self.beta * speed, step) * (xy[on] - self._xy[on])
        self._raw[on], self._time[on] = xy[on], time
        return np.where(here[:, None], self._xy, np.nan)


def _share(cutoff: float | np.ndarray, step: np.ndarray) -> np.ndarray:
    """How much a new value counts (alpha in the paper's appendix)."""
    return 1 / (1 + 1 / (2 * np.pi * cutoff * step))


def one_euro(time: np.ndarray, xy: np.ndarray, size: np.ndarray, **settings: float) -> np.ndarray:
    """(T, K, 2) a whole track through `OneEuro`."""
    filter_ = OneEuro(**settings)
    return np.stack(
        [filter_.update(t, joints, s) for t, joints, s in zip(time.tolist(), xy, size.tolist(), strict=True)]
    )


def savitzky_golay(
    time: np.ndarray, xy: np.ndarray, window: float, order: int = 2, anew: np.ndarray | None = None
) -> np.ndarray:
    """(T, K, 2) the value at each frame of a polynomial fitted to the frames around it.

    Savitzky, Golay, "Smoothing and differentiation of data by simplified least squares procedures", Analytical
    Chemistry 36, 1964. At a constant rate it is `scipy.signal.savgol_filter` with mode "interp"; here the polynomial is
    fitted to the frames' own times, and to so many of them as the rate around each makes of the window, so that other
    rates are right too. Each unbroken run of a joint is filtered by itself, its first and last frames by the first and
    last whole window; runs shorter than a window take a smaller one.

    Args:
        window: seconds that the frames around each one span; at least two frames on each side, so that it does smooth.
        order: of the polynomial.
        anew: (T, K) bool: frames at which a joint begins anew (`breaks`).
    """
    result = xy.copy()
    there = ~np.isnan(xy[:, :, 0])
    part_of = np.cumsum(np.zeros(there.shape, bool) if anew is None else anew, axis=0) + 1
    # Joints that come and go together (mostly all of a person) are filtered together.
    patterns, which = np.unique(np.where(there, part_of, 0), axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        joints = np.flatnonzero(which.reshape(-1) == number)
        for start, stop in _runs(patterns[:, number]):
            part = xy[start:stop, joints].reshape(stop - start, -1)
            result[start:stop, joints] = _fitted(time[start:stop], part, window, order).reshape(-1, len(joints), 2)
    return result


def _runs(number: np.ndarray) -> list[tuple[int, int]]:
    """Starts and ends of the runs of equal numbers in (T,) int that are not 0."""
    edges = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(number)]
    return [(a, b) for a, b in itertools.pairwise(edges) if number[a]]


def _fitted(time: np.ndarray, values: np.ndarray, window: float, order: int) -> np.ndarray:
    """(T, C) polynomial fits of values (T, C) without gaps."""
    length = len(time)
    result = values.copy()
    half = _half(time, window)
    for frames in np.unique(half).tolist():
        rows = np.flatnonzero(half == frames)
        width = min(2 * frames + 1, length - (length + 1) % 2)
        if width <= order:
            continue
        first = np.clip(rows - width // 2, 0, length - width)
        around = first[:, None] + np.arange(width)
        offset = time[around] - time[rows, None]
        offset = offset / np.maximum(np.abs(offset).max(axis=1, keepdims=True), 1e-9)
        powers = offset[:, :, None] ** np.arange(order + 1)
        # The value at offset 0 is the polynomial's first coefficient: the first row of the pseudo-inverse.
        weights = np.linalg.pinv(powers)[:, 0]
        result[rows] = np.einsum("tw,twc->tc", weights, values[around])
    return result


def _half(time: np.ndarray, window: float) -> np.ndarray:
    """(T,) int: frames on each side of each that half a window of so many seconds holds, at the rate around it."""
    places = np.arange(len(time))
    # A window to either side: its mean rate is told by enough frames, and is the same at the ends of a run. (Time
    # stamps are rounded to a microsecond.)
    low = np.minimum(np.searchsorted(time, time - window - 1e-5), np.maximum(places - 1, 0))
    high = np.maximum(np.searchsorted(time, time + window + 1e-5, "right") - 1, np.minimum(places + 1, len(time) - 1))
    step = np.maximum(time[high] - time[low], 1e-6) / np.maximum(high - low, 1)
    return np.maximum(np.rint(window / 2 / step), 2).astype(int)


def kalman(
    time: np.ndarray,
    xy: np.ndarray,
    score: np.ndarray,
    size: np.ndarray,
    measured: np.ndarray,
    *,
    anew: np.ndarray | None = None,
    acceleration: float = 4.0,
    place: float = 0.03,
) -> np.ndarray:
    """(T, K, 2) the most likely track, given all of it, of joints that move at a nearly constant velocity.

    Kalman, "A new approach to linear filtering and prediction problems", 1960, run forwards; Rauch, Tung, Striebel,
    "Maximum likelihood estimates of linear dynamic systems", AIAA Journal 3, 1965, backwards. White acceleration; the
    noise of a measurement grows as its joint's score falls.

    Args:
        score: (T, K) of the joints.
        measured: (T, K) bool: False for joints that were filled in and for outliers: these are estimated, not believed.
            Where a joint was not measured yet it stays as it is.
        anew: (T, K) bool: frames at which a joint begins anew (`breaks`).
        acceleration: sizes a second^2 per root hertz: how suddenly joints speed up; lower is calmer.
        place: sizes by which joints of score 1 are misplaced; at score s it is ``place / s``.
    """
    frames, joints = xy.shape[:2]
    there = measured & ~np.isnan(xy[:, :, 0])
    variance = (place * size[:, None] / np.maximum(score, _UNSURE)) ** 2
    begins = np.zeros(there.shape, bool) if anew is None else anew & there
    seen = np.maximum.accumulate(there, axis=0)  # nothing is known of a joint before it was seen first
    mean = np.zeros((frames, joints, 2, 2))  # place and velocity, x and y
    spread = np.zeros((frames, joints, 3))  # their covariance: place, both, velocity
    ahead_mean, ahead_spread = mean.copy(), spread.copy()  # as predicted from the frame before
    for t in range(frames):
        if t:
            step = time[t] - time[t - 1]
            ahead_mean[t] = mean[t - 1]
            ahead_mean[t, :, 0] += step * mean[t - 1, :, 1]
            a, b, c = spread[t - 1].T
            push = (acceleration * size[t]) ** 2
            ahead_spread[t, :, 0] = a + step * (2 * b + step * c) + push * step**3 / 3
            ahead_spread[t, :, 1] = b + step * c + push * step**2 / 2
            ahead_spread[t, :, 2] = c + push * step
        mean[t], spread[t] = ahead_mean[t], ahead_spread[t]
        new = there[t] & ((~seen[t - 1] | begins[t]) if t else True)
        mean[t, new, 0], mean[t, new, 1] = xy[t, new], 0.0
        spread[t, new] = np.stack(
            [variance[t, new], np.zeros(new.sum()), np.full(new.sum(), (_ANY_SPEED * size[t]) ** 2)], axis=1
        )
        old = there[t] & ~new
        gain = spread[t, old, :2] / (spread[t, old, 0] + variance[t, old])[:, None]
        mean[t, old] += gain[:, :, None] * (xy[t, old] - mean[t, old, 0])[:, None]
        both = spread[t, old, 1]
        spread[t, old, 2] -= gain[:, 1] * both
        spread[t, old, 1] -= gain[:, 0] * both
        spread[t, old, 0] -= gain[:, 0] * spread[t, old, 0]
    for t in range(frames - 2, -1, -1):
        known = seen[t] & ~begins[t + 1]
        step = time[t + 1] - time[t]
        a, b, c = spread[t, known].T
        p, q, r = ahead_spread[t + 1, known].T
        # spread @ transition.T @ inverse(predicted spread); the smoothed spread itself is not needed.
        determinant = p * r - q * q
        u, v = a + step * b, b + step * c
        back = np.stack([u * r - b * q, b * p - u * q, v * r - c * q, c * p - v * q], axis=1) / determinant[:, None]
        change = mean[t + 1, known] - ahead_mean[t + 1, known]
        mean[t, known] += back.reshape(-1, 2, 2) @ change
    return np.where(np.isnan(xy), np.nan, np.where(seen[:, :, None], mean[:, :, 0], xy))
