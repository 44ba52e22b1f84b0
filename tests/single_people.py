"""Pictures of one labelled and one predicted person each, from arrays."""

from __future__ import annotations

import numpy as np

from posecli.predictions import FramePoses, StreamHeader
from posecli.types import Dataset, Instance, Record, Skeleton


def single_people(skeleton: Skeleton, gt, pred, labelled=None, **columns):
    """One labelled and one predicted person in each picture."""
    count = skeleton.num_keypoints
    labelled = np.ones(gt.shape[:2], bool) if labelled is None else labelled
    records, lines = [], []
    for i in range(len(gt)):
        own = {key: values[i] for key, values in columns.items()}
        person = Instance(gt[i], np.where(labelled[i], 2, 0), np.ones(count), area=5000.0, **own)
        records.append(Record(i, f"{i}.jpg", 1000, 1000, (person,)))
        found = Instance(pred[i], np.full(count, 2), np.ones(count))
        lines.append((StreamHeader(source="x", skeleton=skeleton), FramePoses(i, (found,), file=f"{i}.jpg")))
    return Dataset(skeleton, tuple(records)), lines
