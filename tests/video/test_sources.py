"""What words on the command line mean, and pictures in and out."""

from __future__ import annotations

import base64
import json
import sys
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
from made_clips import make_clip, number_of, numbered_image

from posecli.errors import MissingExtra, PoseError
from posecli.video import PictureSource, PictureWriter, list_inputs, natural_key, open_source, read_picture

#: 64 x 48 pixels by libheif: red on the left, on the right green above blue.
HEIC = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAA"
    "AERAAAEAAQAAAAABoQABAAAAAAAAAIEAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/WlwcnAAAADd"
    "aXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAA"
    "AwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5jbHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xh"
    "cAAAAEAAAAABAAAAMAAAAAEAAAAAAAAAAv////AAAAACAAAAEHBpeGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAIltZGF0AAAA"
    "fSgBrwngOSMkv//3pT//+G/eQ/dmw4W+nHuid/xFf/2v9+v7YCHYtH70//pxU+/oZrO9eb9ekUd89lart1p2C3nDuhCqTT8qAf+m/P3XpdZ9qE35"
    "TbGsBIoDcRZD+C3RLpK2c3SiiM/XNJ5oMeakUDc879fzVLwPrc7naXzA"
)


def picture(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), numbered_image(number)[..., ::-1])
    return path


def numbers(source) -> list[int]:
    return [number_of(f.image) for f in source.frames()]


def test_natural_order() -> None:
    names = ["f10.png", "f2.png", "a/3.png", "f1.png", "F1.png", "f01.png"]
    assert sorted(names, key=natural_key) == ["F1.png", "a/3.png", "f01.png", "f1.png", "f2.png", "f10.png"]
    assert sorted(["\u00b210.png", "\u00b29.png"], key=natural_key) == ["\u00b29.png", "\u00b210.png"]


def test_folder_of_pictures(tmp_path: Path) -> None:
    for name, number in (("p10.png", 10), ("p2.png", 2), ("sub/p1.jpg", 1), (".hidden/p3.png", 3), (".p4.png", 4)):
        picture(tmp_path / "walk" / name, number)
    (tmp_path / "walk/notes.txt").write_text("not looked at")
    [found] = list_inputs([tmp_path / "walk"])
    assert (found.kind, found.name, found.files) == ("pictures", "walk", ("p2.png", "p10.png", "sub/p1.jpg"))
    with found.open() as source:
        assert numbers(source) == [2, 10, 1]
        assert [(f.index, f.source, f.time) for f in source.frames()] == [
            (0, "p2.png", None),
            (1, "p10.png", None),
            (2, "sub/p1.jpg", None),
        ]
        assert [f.index for f in source.frames(1, 3, 1)] == [1, 2]
        assert number_of(source.read_at(1).image) == 10
        assert (source.fps, source.num_frames, source.index_of("sub/p1.jpg"), source.index_of("x")) == (
            None,
            3,
            2,
            None,
        )
        with pytest.raises(PoseError, match="no picture 3"):
            source.read_at(3)


def test_mixed_folder_names_globs_and_order(tmp_path: Path) -> None:
    make_clip(tmp_path / "mix/b.mp4", 3) if (tmp_path / "mix").mkdir() is None else None
    picture(tmp_path / "mix/a.png", 5)
    picture(tmp_path / "x1.png", 1)
    picture(tmp_path / "x2.png", 2)
    assert [(i.kind, i.name) for i in list_inputs([tmp_path / "mix"])] == [("pictures", "mix"), ("video", "b.mp4")]
    [globbed] = list_inputs([str(tmp_path / "x*.png")])
    assert globbed.files == ("x1.png", "x2.png")
    [two] = list_inputs([tmp_path / "x2.png", tmp_path / "mix/a.png"])
    assert two.files == ("x2.png", "mix/a.png")
    assert numbers(two.open()) == [2, 5]
    kinds = [i.kind for i in list_inputs([tmp_path / "mix/b.mp4", tmp_path / "x1.png", "rtsp://host/live", 0])]
    assert kinds == ["video", "pictures", "url", "camera"]
    with pytest.raises(PoseError, match="2 sources where one is wanted"):
        open_source(tmp_path / "mix")


def test_drawings_of_a_folders_own_files_are_none_of_its_sources(tmp_path: Path) -> None:
    """What `infer FOLDER --render` made there, or below it, is not looked at when the command is given again."""
    folder = tmp_path / "day"
    (folder / "poses/front").mkdir(parents=True)
    for name in ("a", "poses/a.overlay", "poses/front/a.overlay", "other.overlay"):
        make_clip(folder / f"{name}.mp4", 2)
    for name in ("1.png", "2.png", "day.overlay/1.png", "poses/day.overlay/2.png", "1.overlay.jpg", "7.overlay/1.png"):
        picture(folder / name, 1)
    pictures, *videos = list_inputs([folder])
    assert pictures.files == ("1.png", "2.png", "7.overlay/1.png")
    assert [v.name for v in videos] == ["a.mp4", "other.overlay.mp4"]
    # Named themselves they are sources like others.
    assert [i.name for i in list_inputs([folder / "poses", folder / "poses/a.overlay.mp4"])][-1] == "a.overlay.mp4"
    assert list_inputs([folder / "day.overlay"])[0].files == ("1.png",)


def test_drawings_named_beside_what_they_were_drawn_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shell's ``*.mp4`` has them once `infer --render` was run there."""
    monkeypatch.chdir(tmp_path)
    for folder in ("sub/x.overlay", "7", "poses", "7.overlay"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("a", "a.overlay", "poses/a.overlay", "b.overlay", "sub/c.overlay"):
        make_clip(tmp_path / f"{name}.mp4", 2)
    for name in ("p.png", "p.overlay.png", "a.overlay.png", "7/1.png", "7.overlay/1.png", "sub/x.overlay/1.png"):
        picture(tmp_path / name, 1)
    notes: list[str] = []

    def names(*words: str) -> list[str]:
        notes.clear()
        return [name for item in list_inputs(words, notes.append) for name in item.files or [item.name]]

    assert names("a.mp4", "a.overlay.mp4", "b.overlay.mp4") == ["a.mp4", "b.overlay.mp4"]
    assert notes == ["a.overlay.mp4: left out, drawn on another input by its name; given alone it is looked at"]
    assert names("*.mp4", "0") == ["a.mp4", "b.overlay.mp4", "camera:0"] and len(notes) == 1
    assert names("**/*.mp4") == ["a.mp4", "b.overlay.mp4", "c.overlay.mp4"]
    assert notes[0].startswith("a.overlay.mp4 and 1 more: left out")
    assert names("*.png") == ["a.overlay.png", "p.png"] and len(notes) == 1  # pictures are not drawn on videos
    assert names("7/1.png", "sub/x.overlay/1.png", "7.overlay/1.png") == ["7/1.png", "sub/x.overlay/1.png"]
    assert [i.path for i in list_inputs(["7", "7.overlay", "sub/x.overlay"])] == ["7", "sub/x.overlay"]
    for alone in ("a.overlay.mp4", "7.overlay/1.png"):
        assert names(alone) and not notes


def test_single_picture(tmp_path: Path) -> None:
    source = open_source(picture(tmp_path / "one.jpg", 9))
    assert isinstance(source, PictureSource)
    assert (source.name, source.path, source.width, source.height) == ("one.jpg", str(tmp_path / "one.jpg"), 80, 48)
    assert numbers(source) == [9]


def test_coco_json(tmp_path: Path) -> None:
    picture(tmp_path / "images/z.png", 26)
    picture(tmp_path / "images/a.png", 1)
    make_clip(tmp_path / "v.mp4", 20)
    images = [
        {"id": 7, "file_name": "images/z.png"},
        {"id": 3, "file_name": "images/a.png"},
        {"id": 11, "file_name": "v.mp4", "frame_id": 12},
        {"id": 12, "file_name": "v.mp4", "frame_id": 4},
    ]
    (tmp_path / "c.json").write_text(json.dumps({"images": images, "annotations": []}))
    pictures, video = list_inputs([tmp_path / "c.json"])
    assert (pictures.files, pictures.image_ids) == (("images/z.png", "images/a.png"), {0: 7, 1: 3})
    assert numbers(pictures.open()) == [26, 1]
    assert (video.only, video.image_ids) == ((4, 12), {12: 11, 4: 12})
    assert [(f.index, number_of(f.image)) for f in video.open().frames()] == [(4, 4), (12, 12)]
    images.append({"id": 13, "file_name": "gone.png"})
    (tmp_path / "c.json").write_text(json.dumps({"images": images}))
    with pytest.raises(PoseError, match=r"gone\.png, which is not there"):
        list_inputs([tmp_path / "c.json"])
    (tmp_path / "c.json").write_text('{"a": 1}')
    with pytest.raises(PoseError, match="not COCO"):
        list_inputs([tmp_path / "c.json"])


def exif(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with an EXIF segment that says so (TIFF header, one IFD entry 0x0112)."""
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01" + bytes([0, orientation]) + b"\x00" * 6
    body = b"Exif\x00\x00" + tiff
    return jpeg[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + jpeg[2:]


@pytest.mark.parametrize(("orientation", "turns"), [(1, 0), (3, 2), (6, -1), (8, 1)])
def test_exif_orientation_is_applied_once(tmp_path: Path, orientation: int, turns: int) -> None:
    jpeg = cv2.imencode(".jpg", numbered_image(7))[1].tobytes()
    (tmp_path / "p.jpg").write_bytes(jpeg)
    plain = read_picture(tmp_path / "p.jpg")
    (tmp_path / "p.jpg").write_bytes(exif(jpeg, orientation))
    assert np.array_equal(read_picture(tmp_path / "p.jpg"), np.rot90(plain, turns))


def test_grey_deep_and_transparent_pictures(tmp_path: Path) -> None:
    grey = np.full((10, 12), 77, np.uint8)
    cv2.imwrite(str(tmp_path / "g.png"), grey)
    cv2.imwrite(str(tmp_path / "d.png"), np.full((10, 12, 3), 77 * 257, np.uint16))
    cv2.imwrite(str(tmp_path / "t.png"), np.dstack([grey, grey, grey, grey]))
    for name in ("g.png", "d.png", "t.png"):
        assert (read_picture(tmp_path / name) == 77).all()
        assert read_picture(tmp_path / name).shape == (10, 12, 3)


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_cut_off_picture_is_an_error_not_half_grey(tmp_path: Path, suffix: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    data = cv2.imencode(suffix, noise)[1].tobytes()
    (tmp_path / f"p{suffix}").write_bytes(data[: len(data) // 2])
    with pytest.raises(PoseError, match="cut off"):
        read_picture(tmp_path / f"p{suffix}")
    (tmp_path / f"p{suffix}").write_bytes(data + b"trailing bytes of a camera")
    read_picture(tmp_path / f"p{suffix}")


def test_unreadable_pictures_of_a_folder_are_counted(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w/a.png").write_text("text")
    picture(tmp_path / "w/b.png", 2)
    source = open_source(tmp_path / "w")
    assert [f.index for f in source.frames()] == [1]
    assert source.broken == 1
    assert "a.png: not a picture" in source.problems[0]
    (tmp_path / "w/b.png").unlink()
    with pytest.raises(PoseError, match="not a picture"):
        open_source(tmp_path / "w")


def test_clear_errors(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "none").mkdir()
    for word, expected in (
        ("gone.mp4", "no such file or folder"),
        ("notes.txt", r"\.txt is no kind of video or picture"),
        ("empty.mp4", "the file is empty"),
        ("none", "no video or picture in the folder"),
        ("*.mkv", "nothing matches"),
        ("*.txt", "no video or picture among the matches"),
    ):
        with pytest.raises(PoseError, match=expected):
            list_inputs([tmp_path / word])
    with pytest.raises(PoseError, match="no input given"):
        list_inputs([])
    # Beside others it is told when its turn comes, as one that is damaged.
    picture(tmp_path / "a.png", 1)
    (tmp_path / "b.png").write_bytes(b"")
    video, pictures = list_inputs([tmp_path / "empty.mp4", tmp_path / "*.png"])
    with pytest.raises(PoseError, match="the file is empty"):
        video.open()
    with pictures.open() as source:
        assert numbers(source) == [1] and source.broken == 1 and "b.png: the file is empty" in source.problems[0]


def test_picture_writer(tmp_path: Path) -> None:
    image = numbered_image(33)
    with PictureWriter(tmp_path / "out") as writer:
        writer.write(image, "a/b.png")
        assert np.array_equal(read_picture(tmp_path / "out/a/b.png"), image)
        with pytest.raises(PoseError, match="cannot write a picture"):
            writer.write(image, "c.xyz")
        with pytest.raises(PoseError, match="leads out of the output folder"):
            writer.write(image, "../c.png")
    assert writer.count == 1
    with pytest.raises(PoseError, match="--overwrite"):
        PictureWriter(tmp_path / "out")
    (tmp_path / "out/mine.txt").write_text("stays")
    PictureWriter(tmp_path / "out", overwrite=True).write(image, "b.jpg")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a", "b.jpg", "mine.txt"]
    with PictureWriter(tmp_path / "one.png", single=True) as single:
        single.write(image, "whatever.jpg")
    assert np.array_equal(read_picture(tmp_path / "one.png"), image)


def test_grey_maps_are_written_in_colour(tmp_path: Path) -> None:
    """Overlays have the names of the pictures; what is drawn on a .pgm is not grey."""
    image = np.zeros((4, 6, 3), np.uint8)
    image[1] = (250, 20, 90)
    with PictureWriter(tmp_path / "out") as writer:
        writer.write(image, "scan.pgm")
    assert (read_picture(tmp_path / "out" / "scan.pgm") == image).all()


def test_a_camera_that_is_not_there_is_one_line(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(PoseError, match="no camera 99"):
        open_source(99)
    assert capfd.readouterr() == ("", "")


def test_heic(tmp_path: Path) -> None:
    """As telephones write them; one among others that is damaged is left out and counted."""
    pytest.importorskip("pi_heif")
    data = base64.b64decode(HEIC)
    (tmp_path / "a.HEIC").write_bytes(data)
    image = read_picture(tmp_path / "a.HEIC")
    assert image.shape == (48, 64, 3) and image.dtype == np.uint8 and image.flags["C_CONTIGUOUS"]
    for spot, colour in (((24, 10), (220, 40, 40)), ((10, 50), (40, 200, 60)), ((40, 50), (40, 60, 210))):
        assert np.abs(image[spot].astype(int) - colour).max() < 8
    (tmp_path / "b.heic").write_bytes(data[:-60])
    with list_inputs([tmp_path])[0].open() as source:
        assert [f.source for f in source.frames()] == ["a.HEIC"] and source.broken == 1
    with pytest.raises(PoseError, match=r"b\.heic"):
        read_picture(tmp_path / "b.heic")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_avif_is_turned_as_it_says(tmp_path: Path, orientation: int) -> None:
    """OpenCV shows them as they lie in the file."""
    Image = pytest.importorskip("PIL.Image", reason="Pillow writes turned AVIF")
    if not pytest.importorskip("PIL.features").check("avif"):
        pytest.skip("Pillow without AVIF")
    there = np.zeros((48, 96, 3), np.uint8)
    there[:16, :16], there[:16, 64:], there[32:, :32] = 255, (255, 0, 0), (0, 255, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(there).save(tmp_path / "a.avif", exif=exif.tobytes(), quality=100)
    Image.fromarray(there).save(tmp_path / "a.jpg", exif=exif, quality=100, subsampling=0)
    shown = read_picture(tmp_path / "a.jpg")  # by its EXIF orientation
    assert shown.shape == ((96, 48, 3) if orientation > 4 else (48, 96, 3))
    assert np.abs(read_picture(tmp_path / "a.avif").astype(int) - shown).mean() < 2


def test_heic_without_what_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.heic").write_bytes(base64.b64decode(HEIC))
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(MissingExtra, match=r"a\.heic: reading HEIC needs the package 'pi-heif'") as error:
        read_picture(tmp_path / "a.heic")
    assert error.value.hint == "pip install 'posecli[heic]'"


def test_overlays_of_heic_are_jpeg(tmp_path: Path) -> None:
    with PictureWriter(tmp_path / "out") as writer:
        writer.write(numbered_image(3), "a.heic")
        writer.write(numbered_image(4), "a.jpg")
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.heic.jpg", "a.jpg"]
    assert number_of(read_picture(tmp_path / "out/a.heic.jpg")) == 3


def test_a_tiff_of_floats_is_told_as_such(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "f.tif"), np.ones((8, 9, 3), np.float32))
    with pytest.raises(PoseError, match=r"f\.tif: TIFF of 32-bit samples is not read \(save as 8 or 16 bit\)"):
        read_picture(tmp_path / "f.tif")
    assert capfd.readouterr().err == ""
    (tmp_path / "d.tif").write_bytes(b"II*\0damaged")
    with pytest.raises(PoseError, match="not a picture that can be read"):
        read_picture(tmp_path / "d.tif")


def test_of_stacks_and_animations_it_is_said_that_one_picture_is_looked_at(tmp_path: Path) -> None:
    """A recording kept as a stack of pages gave one line, and nothing was said."""
    Image = pytest.importorskip("PIL.Image", reason="Pillow writes what moves")
    pages = [np.full((20, 24, 3), 40 * n, np.uint8) for n in range(3)]
    cv2.imwritemulti(str(tmp_path / "stack.tif"), pages)
    images = [Image.fromarray(page) for page in pages]
    images[0].save(tmp_path / "moves.png", save_all=True, append_images=images[1:], duration=50)
    images[0].save(tmp_path / "moves.webp", save_all=True, append_images=images[1:], duration=50, lossless=True)
    for name in ("stack.tif", "moves.png", "moves.webp"):
        with pytest.warns(UserWarning, match=f"{name}: only the first of the pictures in it"):
            assert read_picture(tmp_path / name).shape == (20, 24, 3)
    cv2.imwrite(str(tmp_path / "one.tif"), pages[1])
    images[1].save(tmp_path / "one.png")
    images[1].save(tmp_path / "one.webp", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0")
    # A smaller copy, which cameras put behind a picture, is no page.
    first, copy = Image.new("RGB", (24, 20), (9, 9, 9)), Image.new("RGB", (6, 5))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "thumbnail.tif", save_all=True, append_images=[copy])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("one.tif", "one.png", "one.webp", "thumbnail.tif"):
            assert read_picture(tmp_path / name).shape == (20, 24, 3)
