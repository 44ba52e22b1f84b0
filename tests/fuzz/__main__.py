"""Fresh cases for as long as one likes: ``PYTHONPATH=tests python -m fuzz --minutes 5`` (or ``--cases 300``).

Each run draws a seed of its own and prints it; ``--seed`` repeats one. Failing cases are kept as those of the tests.
"""

from __future__ import annotations

import argparse
import collections
import secrets
import shutil
import sys
import tempfile
import time
from pathlib import Path

from fuzz import cases, judge
from fuzz.conftest import FAILED, make_fuzz


def main() -> int:
    """Runs cases; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--cases", type=int, default=10**9)
    parser.add_argument("--seed", default=secrets.token_hex(3))
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", default="", help="part of the samples' names")
    asked = parser.parse_args()
    print(f"seed {asked.seed}")
    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        fuzz = make_fuzz(Path(folder))
        samples = fuzz.samples
        started, number, failed = time.monotonic(), asked.first, 0
        codes: collections.Counter[tuple[str, int | None]] = collections.Counter()
        worked = 0.0
        try:
            while time.monotonic() < started + 60 * asked.minutes and number < asked.first + asked.cases:
                name = f"{asked.seed} {number}" if asked.seed != "0" else number
                if asked.only not in samples[number % len(samples)].name:
                    number += 1
                    continue
                place = Path(folder, f"case{number}")
                case = cases.lay_out(name, samples, fuzz.verbs, place, fuzz.wholes)
                try:
                    ran = judge.run(case, fuzz.server)
                    codes[case.arguments[0], ran.code] += 1
                    worked += ran.processor
                except judge.Broken as broken:
                    failed += 1
                    shutil.rmtree(case.work / "out", ignore_errors=True)
                    (case.work / "out").mkdir()
                    again = fuzz.server.run(case.arguments, case.work, case.seconds)
                    print(cases.keep(case, again, str(broken), FAILED), flush=True)
                shutil.rmtree(place)
                number += 1
        finally:
            fuzz.server.close()
    for (verb, code), count in sorted(codes.items(), key=str):
        print(f"{verb:9} exit {code}: {count}")
    count, passed = sum(codes.values()) + failed, time.monotonic() - started
    print(f"{count} cases, {failed} failed; {worked:.0f} s of work, {passed:.0f} s; seed {asked.seed}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
