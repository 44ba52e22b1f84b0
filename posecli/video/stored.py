"""Videos and pictures on storage (`posecli.storage`): read through copies that go when they are no longer read."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import numpy as np

from posecli.storage import StorageFailure, kept_copy
from posecli.video.pictures import PictureSource, read_picture
from posecli.video.reader import VideoSource


class StoredVideo(VideoSource):
    """A video on storage. It is copied whole before its first frame; FFmpeg reads it from the end to the front too."""

    def __init__(self, url: str, *, decode: str = "cpu") -> None:
        self._copy = contextlib.ExitStack()
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(kept_copy(url))
            super().__init__(path, decode=decode)
            self._copy = stack.pop_all()

    def close(self) -> None:
        super().close()
        self._copy.close()


class StoredPictures(PictureSource):
    """Pictures below a URL of storage, copied one by one when they are looked at."""

    def __init__(self, root: str, files: Sequence[str], name: str) -> None:
        self._url = root
        super().__init__("", files, name)
        self.path = f"{root}/{self.files[0]}" if len(self.files) == 1 else root

    def _read(self, file: str) -> np.ndarray:
        try:
            with kept_copy(f"{self._url}/{file}") as path:
                return read_picture(path)
        except StorageFailure as error:
            # Not a bad picture, of which there would be one more in the count: nothing can be read.
            raise ConnectionError(str(error)) from None
