"""Pictures sent ahead are found by themselves, and go when nobody holds them any more."""

from __future__ import annotations

import gc

import numpy as np
import torch

from posecli.on_device.upload import Uploader, on_device, sent_ahead

CPU = torch.device("cpu")


def test_sent_pictures_are_found_and_forgotten() -> None:
    gc.collect()  # what other tests left
    before = sent_ahead()
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (h, w, 3), dtype=np.uint8) for h, w in ((4, 6), (5, 3), (4, 6))]
    uploader = Uploader(CPU)
    uploader.send(images)
    assert sent_ahead() == before + 3
    for image in images:
        assert np.array_equal(on_device(image, CPU).numpy(), image)
    # It is the copy that was sent: changed since, it shows.
    images[0][:] = 0
    assert on_device(images[0], CPU).any()
    del images, image
    gc.collect()
    assert sent_ahead() == before


def test_groups_do_not_overwrite_each_other() -> None:
    uploader = Uploader(CPU, buffers=2)
    groups = [[np.full((3, 4, 3), 10 * g + i, np.uint8) for i in range(2 + g % 2)] for g in range(5)]
    for group in groups:
        uploader.send(group)
    for g, group in enumerate(groups):
        for i, image in enumerate(group):
            assert (on_device(image, CPU) == 10 * g + i).all()
    uploader.send([])


def test_others_are_sent_when_asked_for() -> None:
    image = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)[:, 1:4]  # a part of a picture
    before = sent_ahead()
    assert np.array_equal(on_device(image, CPU).numpy(), image)
    assert sent_ahead() == before
