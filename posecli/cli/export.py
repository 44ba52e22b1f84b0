"""`posecli export`: weights as a file for other run-times, or for quicker ones here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from posecli.cli.common import DebugOption, JsonOption, OverwriteOption, QuietOption, console, fetched, print_json, warn

if TYPE_CHECKING:
    import numpy as np

# Of a video, as samples.
_FRAMES = 50
# Of the sides of a bottom-up network's input.
_BOTTOM_UP_STEP = 32


def export(
    out: Annotated[
        str, typer.Option("--out", "-o", help="The file to write: .onnx, or .safetensors (int8).", show_default=False)
    ],
    weights: Annotated[
        str,
        typer.Option(
            "--weights", "-w", help="A .safetensors or official .pth file, or public weights by name (posecli models)."
        ),
    ] = "default",
    release: Annotated[
        str | None,
        typer.Option(help="Official .pth files that fit several releases: which it is."),
    ] = None,
    format_: Annotated[
        str, typer.Option("--format", help="onnx, or int8: our own, ready to run in whole numbers on a CPU.")
    ] = "onnx",
    samples: Annotated[
        list[str] | None,
        typer.Option(help="int8: pictures, folders or videos of the kind it is for; some dozens of pictures do."),
    ] = None,
    finder: Annotated[
        bool, typer.Option("--finder", help="Weights of two networks: the one that finds the people.")
    ] = False,
    input_size: Annotated[
        str | None, typer.Option(help="Width x height of the input, e.g. 192x256. (default: the weights')")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Write a network as ONNX, checked against ours with ONNX Runtime, or make weights ready for int8.

    Example: posecli export --weights runs/first/best.safetensors --out pose.onnx

    The file holds the bare network: normalised picture in (any number of them), maps out. Joints, input size, mean,
    deviation and how to read the maps stand in its metadata.

    Example: posecli export --weights w32.pth --format int8 --samples photos/ --out quick.safetensors

    Weights with the ranges that the network's maps have on the samples: infer then computes in whole numbers of 8 bits
    on processors that are quicker with them (--precision auto).
    """
    from dataclasses import replace

    from posecli.checkpoint import check_input_size
    from posecli.errors import PoseError, UsageError
    from posecli.inference import load_model
    from posecli.onnx_export import export_onnx

    if format_ not in ("onnx", "int8"):
        raise UsageError(f"unknown format {format_!r}", hint="onnx or int8")
    if (format_ == "int8") != bool(samples):
        raise UsageError("--samples and --format int8 go together", hint="--format int8 --samples FOLDER")
    if format_ == "int8":
        if finder or input_size is not None:
            raise UsageError("--finder and --input-size are for ONNX files", hint="leave them out")
        _int8(fetched(weights, quiet), release, list(samples or ()), out, overwrite, as_json, quiet)
        return
    model = load_model(fetched(weights, quiet), "cpu", release=release, warn=warn, speed="plain")
    if finder:
        if model.finder is None:
            raise PoseError("these weights bring no network that finds people", weights, "leave --finder out")
        model = model.finder
    meta = model.meta
    if input_size is not None:
        parts = input_size.lower().split("x")
        if len(parts) != 2 or not all(p.isdecimal() and int(p) > 0 for p in parts):
            raise UsageError(f"--input-size {input_size}", hint="width x height, e.g. 192x256")
        meta = replace(meta, input_size=(int(parts[0]), int(parts[1])))
        try:
            # Bottom-up networks see pictures that were padded to a size they take; here the size itself is given.
            check_input_size(model.network, meta, "--input-size", None if model.top_down else _BOTTOM_UP_STEP)
        except PoseError as error:
            raise UsageError(error.what, error.where, error.hint) from None
    result = export_onnx(model.network, meta, out, overwrite=overwrite)
    maps = ", ".join(f"{name} {_shape(shape)}" for name, shape in result.outputs.items())
    talk = console(quiet)
    talk.print(f"{meta.architecture}: image {_shape(result.input_shape)} -> {maps}")
    talk.print(f"ONNX Runtime agrees within {result.difference:.1e} of the largest value")
    if as_json:
        print_json(
            {
                "out": str(result.path),
                "input": list(result.input_shape),
                "outputs": {name: list(shape) for name, shape in result.outputs.items()},
                "difference": result.difference,
            }
        )
    else:
        typer.echo(result.path)


def _int8(
    weights: str, release: str | None, samples: list[str], out: str, overwrite: bool, as_json: bool, quiet: bool
) -> None:
    from posecli.calibration import calibrate, write_calibrated
    from posecli.errors import UsageError
    from posecli.files import replace_when_done
    from posecli.inference import load_model
    from posecli.video import open_source

    if not out.endswith(".safetensors"):
        raise UsageError(f"--out {out}", hint="weights of ours end in .safetensors")

    def images() -> Iterator[np.ndarray]:
        for sample in samples:
            with open_source(sample) as source:
                # Of a video some frames, far from each other.
                every = max(1, (source.num_frames or 1) // _FRAMES) if source.kind == "video" else 1
                yield from (frame.image for frame in source.frames(every=every))

    with replace_when_done(out, overwrite=overwrite) as unfinished:
        model = load_model(weights, "cpu", release=release, warn=warn)
        count = calibrate(model, images())
        write_calibrated(model, unfinished)
    console(quiet).print(f"{model.meta.architecture}: ranges of maps from {count} pictures")
    if as_json:
        print_json({"out": out, "pictures": count})
    else:
        typer.echo(out)


def _shape(shape: tuple[int | None, ...]) -> str:
    return "x".join("N" if n is None else str(n) for n in shape)
