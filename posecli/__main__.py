"""`python -m posecli` and the `posecli` command: runs the app and turns errors into one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from posecli.cli.app import app
from posecli.cli.common import ExitCode, report_error
from posecli.cli.starting import alone, end_as_by_ctrl_c, every_character, three_streams
from posecli.errors import PoseError, UsageError


def main(argv: Sequence[str] | None = None) -> None:
    """Runs one command; always ends in SystemExit with a code of `ExitCode`."""
    # A thread of a network that waits for the others spins, by default for so long that beside another busy program it
    # takes the turns of the very thread it waits for: on two cores `infer` then took about three times as long. OpenMP
    # (the one in PyTorch's wheels for Linux) reads this when PyTorch is loaded, which is later.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    if argv is None:
        alone()
        three_streams()
        every_character()
        end_as_by_ctrl_c()
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    try:
        if "" in arguments:  # as a path it would be the current folder
            what = f"argument {arguments.index('') + 1} is empty"
            raise UsageError(what, hint="is it a shell variable that is not set?")
        app(args=arguments, prog_name="posecli")
    except PoseError as error:
        if debug:
            raise
        report_error(error)
        sys.exit(ExitCode.USAGE if isinstance(error, UsageError) else ExitCode.FAILED)
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        # The reader of our pipe has gone (e.g. `| head`): not an error of ours, but the work was not finished.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(ExitCode.FAILED)
    except MemoryError:
        if debug:
            raise
        report_error("not enough memory: the input, or what it unpacks to, is larger than there is room for")
        sys.exit(ExitCode.FAILED)
    except OSError as error:
        if debug:
            raise
        report_error(f"{error.filename or 'file'}: {error.strerror or error}")
        sys.exit(ExitCode.FAILED)
    except Exception as error:
        if debug:
            raise
        report_error(
            f"internal error: {type(error).__name__}: {error} (run again with --debug and report the traceback)"
        )
        sys.exit(ExitCode.FAILED)


if __name__ == "__main__":
    main()
