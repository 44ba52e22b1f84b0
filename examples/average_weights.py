"""The mean of several weights of one network: the ends of runs that went on from one another.

    python examples/average_weights.py a.safetensors b.safetensors --shares 1 2 --out mean.safetensors

Where a run goes on from another with the learning rate raised and let down again, the ends lie around a better place
than any of them (Izmailov et al., "Averaging Weights Leads to Wider Optima and Better Generalization", UAI 2018,
https://arxiv.org/abs/1803.05407). The shipped model's pose network is such a mean (docs/default-model.md, 23).
Networks that began at different random numbers have no useful mean.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from posecli.checkpoint import ModelMeta, read_parts, save_model
from posecli.errors import PoseError, UsageError


def mean(files: list[Path], shares: list[float]) -> tuple[dict[str, torch.Tensor], ModelMeta]:
    """State dict and description: numbers are averaged, counters are the last file's."""
    parts = [read_parts(file)["main"] for file in files]
    state, meta = parts[-1]
    for file, (other, told) in zip(files, parts, strict=True):
        if (told.architecture, told.arguments) != (meta.architecture, meta.arguments) or other.keys() != state.keys():
            raise PoseError("not the same network as the last one", str(file), "give runs of one model")
    averaged = {}
    for name, last in state.items():
        if last.is_floating_point():
            weighted = [share * part[name].double() for share, (part, _) in zip(shares, parts, strict=True)]
            last = (torch.stack(weighted).sum(0) / sum(shares)).to(last.dtype)
        averaged[name] = last
    return averaged, meta


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "weights", nargs="+", type=Path, help=".safetensors of one network; the description is the last's"
    )
    parser.add_argument("--shares", nargs="+", type=float, help="what each counts for (all the same)")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    shares = arguments.shares or [1.0] * len(arguments.weights)
    try:
        if len(shares) != len(arguments.weights) or any(not share > 0 for share in shares):
            raise UsageError("--shares wants a positive number for each file")
        state, meta = mean(arguments.weights, shares)
        save_model(arguments.out, state, meta)
    except PoseError as error:
        print(error, file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    print(arguments.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
