"""People of pictures, seen with care: in which order a top-down model takes its looks at them.

A picture has time that a frame of a video has not. What the looks are and how they agree is in `looks`; here is who
gets which, of the people that a finder found:

1. everybody once;
2. boxes beside those who are likely, for people whom the finder missed;
3. the likely again in boxes moved towards their poses, and the best of them in the whole picture;
4. the likely from nearer by, and in turned crops.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from posecli import looks
from posecli.types import Instance, Skeleton

__all__ = ["Stills"]

_People = Sequence[Sequence[Instance]]
_UNLIKELY = 1 / 2  # of the threshold, of the finder's certainty: below it one look must do
_NONSENSE = 1 / 16  # and of the score that a first look leaves, by a network that judges its own poses


@dataclass(frozen=True)
class Stills:
    """What the looks need of the model that takes them.

    Attributes:
        look: pictures, the people with boxes in each of them, whether with flip test, degrees by which crops are
            turned; gives each person with the joints seen there.
        judged: people as found and the same with poses; gives the latter with the scores that both make.
        judges: whether the network says of each pose how likely it is right.
        threshold: person score from which on people are shown.
        skeleton: of the poses.
        box_scale: of crops over boxes.
        flip_test: whether all but the first look are taken in the mirror, too.
        limbs: whose joints the looks agree on together (`looks.agreed`); None: on each by itself.
    """

    look: Callable[[Sequence[np.ndarray], _People, bool, float], list[list[Instance]]]
    judged: Callable[[_People, _People], list[list[Instance]]]
    judges: bool
    threshold: float
    skeleton: Skeleton
    box_scale: float
    flip_test: bool
    limbs: Sequence[looks.Limb] | None = None

    def people(self, images: Sequence[np.ndarray], found: _People) -> list[list[Instance]]:
        """The people of pictures (H, W, 3) uint8 with their joints, judged, in boxes around these.

        Args:
            images: the pictures.
            found: a finder's people in each.
        """
        first = self.look(images, found, False, 0.0)
        people = [list(persons) for persons in found]
        if self.judges:
            for there, poses, new in zip(people, first, self._beside(images, people, first), strict=True):
                there += new
                poses += new
        seen = self.judged(people, self._again(images, people, first))
        return [
            [looks.boxed(person, image.shape[1], image.shape[0]) for person in persons]
            for image, persons in zip(images, seen, strict=True)
        ]

    def _likely(self, people: _People, first: _People) -> list[list[bool]]:
        """Who is worth further looks, by what the finder and, judged, the first look say. No look lifts a person above
        the finder's own certainty: those who stay far below the threshold get one, and so do those of whom the network
        says that its pose is none."""
        return [
            [
                one.person_score >= _UNLIKELY * self.threshold
                and (seen.quality is None or seen.person_score >= _NONSENSE * self.threshold)
                for one, seen in zip(a, b, strict=True)
            ]
            for a, b in zip(people, self.judged(people, first), strict=True)
        ]

    def _beside(self, images: Sequence[np.ndarray], people: _People, first: _People) -> list[list[Instance]]:
        """Those whom the finder missed beside its likely people (`looks.beside`), with their poses."""
        places = [
            [
                place
                for person, sure in zip(persons, chosen, strict=True)
                if sure
                for place in looks.beside(person, image.shape[1], image.shape[0])
            ]
            for image, persons, chosen in zip(images, people, self._likely(people, first), strict=True)
        ]
        seen = self.look(images, places, False, 0.0)
        return [looks.newcomers(there, poses, self.skeleton.sigmas) for there, poses in zip(seen, first, strict=True)]

    def _again(self, images: Sequence[np.ndarray], people: _People, first: _People) -> list[list[Instance]]:
        """The poses after the further looks."""
        likely = self._likely(people, first)
        moved = [
            [looks.moved_box(person, pose) for person, pose, sure in zip(a, b, chosen, strict=True) if sure]
            for a, b, chosen in zip(people, first, likely, strict=True)
        ]
        once_more = [iter(persons) for persons in self.look(images, moved, self.flip_test, 0.0)]
        second = [
            [next(better) if sure else pose for pose, sure in zip(persons, chosen, strict=True)]
            for persons, chosen, better in zip(first, likely, once_more, strict=True)
        ]
        # Where the finder sees nobody at all there is nothing to refine.
        boxes = [
            looks.whole_picture_box(image.shape[1], image.shape[0], self.box_scale)[None]
            if persons
            else np.zeros((0, 4))
            for image, persons in zip(images, people, strict=True)
        ]
        whole = self.look(images, [looks.of_boxes(b, self.skeleton.num_keypoints) for b in boxes], self.flip_test, 0.0)
        again = [[p for p in persons if looks.box_around(p) is not None] for persons in whole]
        around = [[better for p in persons if (better := looks.around(p)) is not None] for persons in again]
        closer = self.look(images, around, self.flip_test, 0.0)
        poses = [
            looks.merged(found, one, two, [*near, *wide], self.limbs)
            for found, one, two, near, wide in zip(people, first, second, closer, again, strict=True)
        ]
        # Last looks, now that the outline is known: from nearer by, and with the head held askew.
        for boxed, turns in ((looks.nearer, (0.0,)), (looks.around, looks.TURNS)):
            wanted = [
                [boxed(pose) if sure else None for pose, sure in zip(persons, chosen, strict=True)]
                for persons, chosen in zip(poses, likely, strict=True)
            ]
            poses = self._agreed(images, poses, wanted, turns)
        return poses

    def _agreed(
        self,
        images: Sequence[np.ndarray],
        poses: _People,
        wanted: Sequence[Sequence[Instance | None]],
        turns: Sequence[float],
    ) -> list[list[Instance]]:
        """What poses and looks into other boxes agree on, one look for each angle; a pose without a box stays."""
        there = [[p for p in persons if p is not None] for persons in wanted]
        seen = [self.look(images, there, self.flip_test, turn) for turn in turns]
        others = [zip(*of_picture, strict=True) for of_picture in zip(*seen, strict=True)]
        return [
            [
                pose if box is None else looks.agreed([pose, *next(more)], self.limbs)
                for pose, box in zip(a, b, strict=True)
            ]
            for a, b, more in zip(poses, wanted, others, strict=True)
        ]
