"""What a frame costs outside the networks: the figures that docs/scale.md calculates with.

    python benchmarks/scale.py CLIP STREAM

CLIP is a video, STREAM its pose stream. Prints CPU time (on the clock others would be measured too) of decoding
a frame and of the scan for key frames, on one thread; bytes of a frame in the video and in the stream; CPU time of
`posecli merge` with identities a frame; CPU time until the shipped model is ready.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from posecli.merging import merge
from posecli.video.reader import VideoSource


def main() -> None:
    clip, stream = map(Path, sys.argv[1:])
    begin = time.process_time()
    with VideoSource(clip, threads=1) as source:
        source.key_frames()
        scanned = time.process_time()
        count = sum(1 for _ in source.frames())
        size = f"{source.width} x {source.height}"
    decoded = time.process_time()
    print(f"{clip.name}: {count} frames of {size}, {clip.stat().st_size / count:.0f} bytes a frame")
    print(f"open and scan: {(scanned - begin) * 1e6 / count:.1f} us a frame")
    print(f"decode to RGB: {(decoded - scanned) * 1e3 / count:.2f} ms a frame")
    with tempfile.TemporaryDirectory() as folder:
        begin = time.process_time()
        report = merge([stream], Path(folder) / "merged.jsonl", track="oks")
        took = time.process_time() - begin
    people = report.people / max(report.frames, 1)
    print(f"stream: {stream.stat().st_size / report.frames:.0f} bytes a frame, {people:.2f} people shown in each")
    print(f"merge with identities: {took * 1e3 / report.frames:.2f} ms a frame")
    code = "import time; from posecli import load_model; load_model(device='cpu'); print(time.process_time())"
    ready = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    print(f"model ready: {float(ready):.1f} s")


if __name__ == "__main__":
    main()
