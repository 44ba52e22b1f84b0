"""Identities by pose similarity, motion, size and clothes: OKS as in `oks`, and colours where poses don't tell.

The cost of taking somebody for a track is -log(OKS), plus what it was long ago, plus how far size and colours are from
those of the track. Joints count by the squares of their scores in both poses: the joints of somebody half hidden are
guessed, and often lie on whoever stands in front. Size tells those near from those far away where places no longer do;
it costs little at most, since people sit down. A match of colours makes up for some distance, so that somebody who
turned round while hidden is known again, and a mismatch is dear, so that people who cross are not exchanged. Both never
cost so much that a person in plain sight loses the identity by them alone: light changes, and things pass in front.
Where one person is seen and two tracks want it, one that began a moment ago over somebody else must not have it: a
second skeleton of a few frames would take the identity along when the two become one again.
The sum of costs over all pairs is made least, beside the cost of a new identity for each person left over. Somebody who
was hidden and wears the same may be anywhere within a walk: whoever turns round behind a wall is not where he was
going.

A track's colours are the mean of its first fifty looks, thirty a second at most, then a slow one; nobody is learnt from
while he overlaps others, nor from a look that is far from what is known, unless several looks on end say so: then what
is known was wrong (somebody half behind something when first seen). All of it stands in the stream, so a run that is
resumed knows what it knew.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from posecli.tracking.colours import unlike
from posecli.tracking.oks import OksTracker
from posecli.tracking.tracks import DOUBT, Seen, Track
from posecli.types import Skeleton

_EVEN = 10.0  # `unlike` that speaks neither for nor against: four in five looks at one person are nearer
_SCALE = 9.0  # by which a cost of 1 is more or less
_FOR = 1.0  # most that colours may be worth, before their weight
_WEIGHT = 1.3
_GROWTH = 0.14  # difference of the spreads' logarithms that costs 0.5
_RESIZED = 1.0  # most that it may cost
_MOST = 2.6  # that colours and size together may cost: with an OKS of 0.3 somebody in plain sight stays who he is
_HIDDEN = 0.2  # seconds out of sight
_WALK, _SWAY = 1.0, 0.3  # of somebody's height: how far he may be a second later, and at once
_ELSEWHERE = 0.1  # what an OKS there counts as at least
_STRANGE = 18.0  # looks further than this from what is known are not learnt
_SURE = 3  # looks after which that is so
_WRONG = 8  # strange looks on end at somebody in plain sight: what is known is wrong, and learnt anew
_LONG = 50  # looks averaged
_PACE = 30.0  # looks a second: where there are more frames each counts less, since they show the same
_YOUNG, _GROWN = 1.0, 1.0  # what such a track costs at first where others want the person; seconds till nothing
_OVER = 0.3  # IoU with another's box at first sight that makes it one
_LEAST = 1e-3  # that taking somebody for a track is worth where it is worth anything
_MEETS = 0.25  # share of a box's width that lies in another's


class ColouredTracker(OksTracker):
    """Gives every person of every frame a ``track_id`` by poses and colours; see `Tracker`.

    Args:
        skeleton: with sigmas.
        min_oks: least similarity that carries an identity on where colours say nothing, in [0, 1].
    """

    needs_colours = True

    def __init__(
        self, skeleton: Skeleton, *, min_oks: float = 0.02, max_age: float = 2.0, min_score: float = 0.0
    ) -> None:
        super().__init__(skeleton, min_oks=min_oks, max_age=max_age, min_score=min_score, by_score=True)

    def worth(self, people: Sequence[Seen], tracks: Sequence[Track], time: float) -> np.ndarray:
        """(N, T), 0 or more: by how much taking somebody for a track is better than a new identity."""
        alike = self.similarity(people, tracks, time)
        gap = np.array([time - t.time for t in tracks])
        apart = unlike(np.stack([p.colours for p in people])[:, None], np.stack([t.colours for t in tracks]))
        boxes, before = np.stack([p.box for p in people]), np.stack([t.box for t in tracks])
        walked = np.linalg.norm((boxes[:, :2] + boxes[:, 2:])[:, None] - before[:, :2] - before[:, 2:], axis=-1) / 2
        near = walked < (_SWAY + _WALK * gap) * (boxes[:, 3] - boxes[:, 1])[:, None]
        alike = np.where((gap > _HIDDEN) & near & (apart < _EVEN), np.maximum(alike, _ELSEWHERE), alike)
        cost = gap / DOUBT - np.log(np.maximum(alike, 1e-9))
        looks = _WEIGHT * np.nan_to_num(np.maximum((apart - _EVEN) / _SCALE, -_FOR))
        size, usual = np.array([p.spread for p in people]), np.array([t.spread for t in tracks])
        grown = np.log(np.maximum(size, 1.0))[:, None] - np.log(np.maximum(usual, 1.0))
        looks += np.nan_to_num(np.minimum((grown / _GROWTH) ** 2 / 2, _RESIZED))
        cost += np.minimum(looks, _MOST)
        worth = -np.log(self.least) - cost
        young = np.array([
            _YOUNG * max(1 - (t.time - t.since) / _GROWN, 0.0) if t.over >= _OVER else 0.0 for t in tracks
        ])  # fmt: skip
        # It decides between tracks; nobody becomes somebody new by it.
        return np.where(worth > 0, np.maximum(worth - young, _LEAST), 0.0)

    def learn(self, pairs: Sequence[tuple[Track, Seen]]) -> None:
        """Takes the colours of the people of a frame."""
        if not pairs:
            return
        boxes = np.stack([p.box for _, p in pairs])
        common = np.minimum(boxes[:, None, 2:], boxes[None, :, 2:]) - np.maximum(boxes[:, None, :2], boxes[None, :, :2])
        meets = (common[..., 0] > _MEETS * (boxes[:, 2] - boxes[:, 0])[:, None]) & (common[..., 1] > 0)
        np.fill_diagonal(meets, False)
        now = np.stack([p.colours for _, p in pairs])
        known, looks = np.stack([t.colours for t, _ in pairs]), np.stack([t.looks for t, _ in pairs])
        strange = (looks.max(1) >= _SURE) & (unlike(now, known) > _STRANGE)
        busy = meets.any(1)
        counts = np.minimum([t.gap * _PACE for t, _ in pairs], 1.0)
        for i, (track, _) in enumerate(pairs):
            track.doubts = 0.0 if not strange[i] else track.doubts + (not busy[i]) * float(counts[i])
            if track.doubts >= _WRONG - 1e-6:
                looks[i], track.doubts, strange[i] = 0, 0.0, False
        there = ~np.isnan(now[..., 0])
        first = there & (looks == 0)
        more = there & ~first & ~(busy | strange)[:, None]
        looks = np.where(more, np.minimum(looks + counts[:, None], _LONG), looks)
        share = counts[:, None] / np.maximum(looks, 1)
        known = np.where(more[..., None], known + (now - known) * share[..., None], known)
        # Somebody who is never seen alone is better known by this than by nothing.
        known, looks = np.where(first[..., None], now, known), np.where(first, 1, looks)
        for (track, _), colours, count in zip(pairs, known, looks, strict=True):
            track.colours, track.looks = colours, count
