"""`posecli export`: weights as a file for other run-times."""

from __future__ import annotations

from typing import Annotated

import typer

from posecli.cli.common import DebugOption, JsonOption, OverwriteOption, QuietOption, console, fetched, print_json, warn


def export(
    out: Annotated[str, typer.Option("--out", "-o", help="The file to write, .onnx.", show_default=False)],
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
    format_: Annotated[str, typer.Option("--format", help="onnx.")] = "onnx",
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
    """Write a network as ONNX, checked against ours with ONNX Runtime.

    Example: posecli export --weights runs/first/best.safetensors --out pose.onnx

    The file holds the bare network: normalised picture in (any number of them), maps out. Joints, input size, mean,
    deviation and how to read the maps stand in its metadata.
    """
    from dataclasses import replace

    from posecli.errors import PoseError, UsageError
    from posecli.inference import load_model
    from posecli.onnx_export import export_onnx

    if format_ != "onnx":
        raise UsageError(f"unknown format {format_!r}", hint="onnx")
    model = load_model(fetched(weights, quiet), "cpu", release=release, warn=warn, speed="plain")
    if finder:
        if model.finder is None:
            raise PoseError("these weights bring no network that finds people", weights, "leave --finder out")
        model = model.finder
    meta = model.meta
    if input_size is not None:
        parts = input_size.lower().split("x")
        if len(parts) != 2 or not all(p.isdigit() and int(p) > 0 for p in parts):
            raise UsageError(f"--input-size {input_size}", hint="width x height, e.g. 192x256")
        meta = replace(meta, input_size=(int(parts[0]), int(parts[1])))
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


def _shape(shape: tuple[int | None, ...]) -> str:
    return "x".join("N" if n is None else str(n) for n in shape)
