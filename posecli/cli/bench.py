"""`posecli bench`: how fast a model is on this machine."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from posecli.cli.common import DebugOption, DeviceOption, JsonOption, QuietOption, SpeedOption, fetched, print_json


def bench(
    model: Annotated[
        str, typer.Option("--model", "-m", help="A network (posecli models) or a model that comes with posecli.")
    ] = "default",
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", "-w", help="A .safetensors or official .pth file, or public weights by name (posecli models)."
        ),
    ] = None,
    against: Annotated[
        str | None,
        typer.Option(help="Also measure it run another way: plain (as loaded, one picture at a time), fused."),
    ] = None,
    clip: Annotated[
        str | None, typer.Option("--input", help="A video for the stages. (default: a made-up frame)")
    ] = None,
    size: Annotated[str | None, typer.Option(help="Width x height of the network's input, e.g. 960x512.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pictures or crops that go through the network together.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Rounds that count.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of the network. (default: all cores)")] = None,
    precision: Annotated[
        str, typer.Option(help="auto (int8 where processor and weights can), float32, int8, bfloat16 or float16.")
    ] = "auto",
    speed: SpeedOption = "auto",
    device: DeviceOption = "auto",
    json_: JsonOption = False,
    quiet: QuietOption = False,
    debug: DebugOption = False,
) -> None:
    """Measure how fast a model is here.

    Example: posecli bench --model hrnet-w32 --against plain

    Networks without weights are drawn at random: they are as fast as trained ones. One unit is a fixed piece of work
    that is measured beside (docs/speed.md).
    """
    from posecli.bench import BenchOptions
    from posecli.bench import bench as measure
    from posecli.errors import UsageError

    if weights is not None and model != "default":
        raise UsageError("--model and --weights name two models", hint="give one of them")
    wanted = None
    if size is not None:
        parts = size.lower().split("x")
        if len(parts) != 2 or not all(p.isdecimal() and int(p) > 0 for p in parts):
            raise UsageError(f"--size {size}", hint="width x height, e.g. 960x512")
        wanted = (int(parts[0]), int(parts[1]))
    from posecli.models import MODELS

    chosen = BenchOptions(speed, against, wanted, batch, runs, threads)
    name = weights or model
    found = measure(
        name if weights is None and name in MODELS else fetched(name, quiet),
        chosen, clip, device=device, precision=precision,
    )  # fmt: skip
    if json_:
        print_json(found)
    else:
        _show(found)


def _show(found: dict[str, Any]) -> None:
    """Tables for people, on stdout."""
    of, roof = found["machine"], found["roofline"]
    place = of["cuda"] or of["processor"]
    print(f"{found['model']} on {place}, {of['threads']} threads of {of['cores']} cores")
    print(f"torch {of['torch']}, {of['date']}, {found['precision']}")
    print(f"load before: {of['load_before']}; {', '.join(of['features'])}")
    print(
        f"the machine: {roof['gemm_gflops']:.0f} GFLOP/s matrices, {roof['conv_gflops']:.0f} GFLOP/s convolutions, "
        f"{roof['copy_gb_per_s']:.1f} GB/s copying; one unit {found['unit']['decisive_seconds']:.4f} s"
    )
    for part in found["networks"]:
        shape = " x ".join(map(str, part["input"]))
        print(f"\n{part['role']} network {part['architecture']}, {shape}, {part['macs'] / 1e9:.2f} GMACs a picture")
        for name, row in part["runs"].items():
            low, high = row["quartiles"]
            energy = "" if row["joules"] is None else f", {row['joules']:.1f} J"
            print(
                f"  {name:9} {row['units']:7.2f} units  {row['pictures_per_second']:8.2f} a second  "
                f"{row['seconds'] * 1000:8.1f} ms on the clock ({low * 1000:.1f} to {high * 1000:.1f})  "
                f"{row['gflops']:6.0f} GFLOP/s, {row['share_of_conv']:.0%} of the convolution's{energy}"
            )
        if "times_faster" in part:
            print(f"  {part['times_faster']:.2f} times faster")
    stages = found["stages"]
    rate = stages["frames_per_second"]
    print(f"\nstages, {stages['source']}, {rate:.1f} frames a second; the limit: {stages['limit']}")
    for row in stages["stages"]:
        rate = 1000 / row["ms_per_frame"] if row["ms_per_frame"] else float("inf")
        print(f"  {row['stage']:22} {row['ms_per_frame']:9.2f} core-ms a frame  {rate:9.1f} frames a core-second")
