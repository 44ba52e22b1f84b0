"""Whole pictures for training a person finder: scaled, turned, tiled into mosaics, and with people pasted in.

`posecli.augment` changes the crop of one person; here many labelled pictures (`pictures`) become one canvas (`canvas`)
with any number of people, drawn by a `mixer`:

- a picture at a random zoom, cut or with room around it;
- a mosaic: the canvas split into tiles, a picture in each (Bochkovskiy et al., "YOLOv4", 2020,
  https://arxiv.org/abs/2004.10934, Sec. 3.3): many people a canvas, also from pictures of a single person;
- people cut out (`cutouts`) and pasted at random scales.
"""

from posecli.augment_pictures.canvas import Canvas
from posecli.augment_pictures.cutouts import Cutout, cut_out, joint_box, limb_mask, moved_boxes
from posecli.augment_pictures.mixer import PictureMixer, Pool, random_view, split_tiles
from posecli.augment_pictures.pictures import Picture, pictures_of

__all__ = [
    "Canvas", "Cutout", "Picture", "PictureMixer", "Pool", "cut_out", "joint_box", "limb_mask",
    "moved_boxes", "pictures_of", "random_view", "split_tiles",
]  # fmt: skip
