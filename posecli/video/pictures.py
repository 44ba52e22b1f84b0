"""Pictures as sources of frames, and as what rendered frames are written to.

Pictures are decoded by OpenCV from their bytes, with the EXIF orientation applied once; deeper, grey or transparent
pictures become 8-bit RGB. HEIC, which telephones write, is decoded by libheif (extra ``heic``), turned as the file
says. A file cut off in the middle counts as unreadable, although decoders would fill the rest with
grey.
"""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

import cv2
import numpy as np

from posecli.errors import MissingExtra, PoseError
from posecli.files import inside, replace_when_done
from posecli.types import Frame
from posecli.video.frame_source import FrameSource, check_file, check_range

#: Pictures under these names are read, never written: OpenCV has no encoder of HEVC.
HEIC_SUFFIXES = frozenset((".heic", ".heif"))
_TIFF = (b"II*\0", b"MM\0*")
#: Of a HEIF file (ISO/IEC 23008-12) in HEVC: one of these is among the brands in its first box.
_HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx"}
#: And in AV1.
_AVIF = {b"avif", b"avis"}


def read_picture(path: str | Path) -> np.ndarray:
    """(H, W, 3) uint8 RGB as displayed.

    Raises:
        PoseError: missing, empty, cut off, or no picture that OpenCV can read.
        MissingExtra: a HEIC picture, without the package that reads these.
    """
    path = Path(path)
    check_file(path)
    data = path.read_bytes()
    if _is_cut_off(data):
        raise PoseError("the picture is cut off", str(path), "copy it again")
    if _is_bomb(data):
        raise PoseError("the picture unpacks to gigabytes of nothing", str(path))
    if _is_heic(data):
        return _read_heic(data, path)
    # IMREAD_COLOR applies the EXIF orientation itself (only IMREAD_UNCHANGED and IGNORE_ORIENTATION do not).
    image = _decoded(data, cv2.IMREAD_COLOR)
    if image is None and data[:4] in _TIFF:
        deep = _decoded(data, cv2.IMREAD_UNCHANGED)
        if deep is not None and deep.itemsize > 2:
            what = f"TIFF of {8 * deep.itemsize}-bit samples is not read"
            raise PoseError(what, str(path), "save as 8 or 16 bit")
    if image is None:
        raise PoseError("not a picture that can be read", str(path), "damaged, or another kind of file under this name")
    if _holds_more(data):
        warnings.warn(
            f"{path}: only the first of the pictures in it is looked at; a video shows them all", stacklevel=2
        )
    if _brands(data) & _AVIF:
        image = _as_avif_says(image, data)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _holds_more(data: bytes) -> bool:
    """Whether a file that can be decoded is a stack of pages (TIFF; thumbnails are none) or moves (PNG, WebP)."""
    if data[:4] in _TIFF:
        order = "<" if data[:2] == b"II" else ">"

        def directory(at: int) -> tuple[int, bool]:  # where the next one is, and whether it is a smaller copy
            (count,) = struct.unpack_from(f"{order}H", data, at)
            entries = (struct.unpack_from(f"{order}HHII", data, at + 2 + 12 * n) for n in range(count))
            # (In big-endian files a short stands in the first half of its four bytes.)
            small = any(
                tag == 254 and (value if order == "<" else value | value >> 16) & 1 for tag, _, _, value in entries
            )
            return struct.unpack_from(f"{order}I", data, at + 2 + 12 * count)[0], small

        try:
            at, _ = directory(struct.unpack_from(f"{order}I", data, 4)[0])
            return at != 0 and not directory(at)[1]
        except struct.error:
            return False
    if data[:4] == b"RIFF" and data[12:16] == b"VP8X":
        return bool(data[20] & 2) and data.count(b"ANMF") > 1
    at = data.find(b"acTL", 8, max(data.find(b"IDAT"), 8)) if data[:4] == b"\x89PNG" else -1
    return at > 0 and int.from_bytes(data[at + 4 : at + 8]) > 1


def _decoded(data: bytes, how: int) -> np.ndarray | None:
    """What OpenCV makes of a picture's bytes, None for nothing."""
    # Of TIFFs that it can't read it tells on stderr, beside our own error.
    before = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT) if data[:4] in _TIFF else None
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), how)
    except cv2.error:
        return None
    finally:
        if before is not None:
            cv2.utils.logging.setLogLevel(before)


def _is_heic(data: bytes) -> bool:
    return bool(_brands(data) & _HEIC)


def _brands(data: bytes) -> set[bytes]:
    """What a HEIF file's first box says that it is; nothing of any other file."""
    if data[4:8] != b"ftyp":
        return set()
    length = int.from_bytes(data[:4], "big")
    return {data[at : at + 4] for at in range(8, min(length, len(data), 256), 4)}


def _as_avif_says(image: np.ndarray, data: bytes) -> np.ndarray:
    """A decoded AVIF picture turned (``irot``) and mirrored (``imir``) as it is shown, which OpenCV leaves undone."""
    meta = _box(data, b"meta")
    properties = _box(_box(meta[4:], b"iprp"), b"ipco")  # meta begins with its version and flags
    turn, mirror = _box(properties, b"irot"), _box(properties, b"imir")
    if turn:
        image = np.rot90(image, turn[0] & 3)
    if mirror:
        image = image[:, ::-1] if mirror[0] & 1 else image[::-1]
    return np.ascontiguousarray(image)


def _box(data: bytes, kind: bytes) -> bytes:
    """What the first box of a kind holds among boxes one after the other (ISO/IEC 14496-12); nothing without one."""
    at = 0
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big") or len(data) - at
        if length < 8:  # 1: a length of 64 bits, which no such box has
            break
        if data[at + 4 : at + 8] == kind:
            return data[at + 8 : at + length]
        at += length
    return b""


def _read_heic(data: bytes, path: Path) -> np.ndarray:
    try:
        import pi_heif
    except ImportError:
        raise MissingExtra("pi-heif", "heic", f"{path}: reading HEIC") from None
    try:
        image = np.asarray(pi_heif.read_heif(io.BytesIO(data)))
    except (ValueError, EOFError, OSError, RuntimeError, SyntaxError) as error:
        raise PoseError(f"not a picture that can be read: {error}", str(path), "damaged, or cut off") from None
    return np.ascontiguousarray(image[:, :, :3] if image.ndim == 3 else np.stack([image] * 3, 2))


def _is_bomb(data: bytes) -> bool:
    """A PNG of more than 2^27 pixels, two hundred and more for each of its bytes."""
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or len(data) < 24:
        return False
    pixels = int.from_bytes(data[16:20], "big") * int.from_bytes(data[20:24], "big")
    return pixels > max(1 << 27, 200 * len(data))


def _is_cut_off(data: bytes) -> bool:
    """A JPEG without end marker after its first scan, or a PNG without end chunk."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return b"IEND" not in data[-64:] and b"IEND\xaeB`\x82" not in data
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker == 0xDA:  # start of scan: in what follows, FF D9 is the end marker and nothing else
            return data.find(b"\xff\xd9", at) < 0
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return at + 4 > len(data)


class PictureSource(FrameSource):
    """Pictures in a given order; frame i is the i-th of ``files``, its `Frame.source` the file's name, its time None.

    Args:
        root: folder that ``files`` are relative to.
        files: names relative to ``root``, with forward slashes.
        name: name of the whole.
        image_ids: index to the picture's id in a COCO file, where there is one.

    Raises:
        PoseError: the first picture cannot be read and is the only one, or none can.
    """

    kind = "pictures"

    def __init__(
        self, root: str | Path, files: Sequence[str], name: str = "", image_ids: Mapping[int, int | str] | None = None
    ) -> None:
        self.root = Path(root)
        self.files = tuple(files)
        self.image_ids = dict(image_ids or {})
        self._index = {file: i for i, file in enumerate(self.files)}
        if not self.files:
            raise PoseError("no pictures", str(root))
        failure = None
        for file in self.files:
            try:
                height, width = self._read(file).shape[:2]
                break
            except PoseError as error:
                failure = failure or error
        else:
            assert failure is not None
            raise failure
        path = self.root / self.files[0] if len(self.files) == 1 else self.root
        super().__init__(name or path.name, str(path), width, height, None)

    @property
    def num_frames(self) -> int:
        return len(self.files)

    def _read(self, file: str) -> np.ndarray:
        return read_picture(self.root / file)

    def frames(self, start: int = 0, stop: int | None = None, every: int = 1) -> Iterator[Frame]:
        """As `FrameSource.frames`; a picture that can't be read is left out and counted in `broken`."""
        check_range(start, stop, every)
        return self._frames(start, stop, every)

    def _frames(self, start: int, stop: int | None, every: int) -> Iterator[Frame]:
        self.broken = 0
        self.problems.clear()
        for index in range(start, min(stop if stop is not None else len(self.files), len(self.files)), every):
            try:
                image = self._read(self.files[index])
            except PoseError as error:
                self.broken += 1
                self._note(str(error))
                continue
            yield Frame(image, self.files[index], index)

    def read_at(self, index: int) -> Frame:
        if not 0 <= index < len(self.files):
            raise PoseError(f"no picture {index}", self.path, f"there are {len(self.files)}")
        return Frame(self._read(self.files[index]), self.files[index], index)

    def index_of(self, file: str) -> int | None:
        """Index of a picture by its name relative to the folder; None when it is not among them."""
        return self._index.get(str(PurePosixPath(file)))


class PictureWriter:
    """Writes pictures into a folder, or one picture to a file; each beside its place and then renamed.

    The single picture is written at the end: not at all where the block ends with an error.

    JPEG (quality 95), PNG, WebP, BMP or TIFF by the name's suffix; in a folder what has the name of a HEIC, as a JPEG
    with ``.jpg`` behind that.

    Args:
        target: a folder (made when missing), or the file for a single picture.
        single: ``target`` is that file.
        overwrite: pictures of the same name may be replaced; other files of the folder are never touched.

    Raises:
        PoseError: ``target`` exists (a folder: holds anything) and ``overwrite`` is false.
    """

    def __init__(self, target: str | Path, *, single: bool = False, overwrite: bool = False) -> None:
        self.target, self.single, self.overwrite = Path(target), single, overwrite
        self.count = 0
        self._last: tuple[Path, bytes] | None = None
        if self.target.is_dir() == single and self.target.exists():
            kind = "folder" if single else "file"
            raise PoseError(f"the output is a {kind} that exists", str(target), "choose another name")
        taken = self.target.exists() if single else self.target.is_dir() and any(self.target.iterdir())
        if taken and not overwrite:
            raise PoseError("the output exists already", str(target), "choose another name or give --overwrite")
        (self.target.parent if single else self.target).mkdir(parents=True, exist_ok=True)

    def write(self, image: np.ndarray, name: str) -> Path:
        """Writes (H, W, 3) uint8 RGB under ``name`` (forward slashes make folders); returns the file's path."""
        path = self.target if self.single else inside(self.target, name)
        if not self.single and path.suffix.lower() in HEIC_SUFFIXES:
            path = path.with_name(f"{path.name}.jpg")
        suffix = path.suffix.lower()
        options = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix in (".jpg", ".jpeg") else []
        try:
            # Netpbm's readers go by the first bytes: under the name of a grey map colours are kept, too.
            form = ".ppm" if suffix == ".pgm" else suffix
            done, data = cv2.imencode(form, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), options)
        except cv2.error:
            done = False
        if not done:
            raise PoseError(f"cannot write a picture as {suffix or 'a file without suffix'}", str(path), "try .png")
        self._last = (path, data.tobytes())
        if not self.single:
            self.close()
        self.count += 1
        return path

    def close(self) -> None:
        """Writes what is held back."""
        if self._last is not None:
            path, data = self._last
            with replace_when_done(path) as part:
                part.write_bytes(data)
            self._last = None

    def __enter__(self) -> PictureWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is not None:
            self._last = None
        self.close()
