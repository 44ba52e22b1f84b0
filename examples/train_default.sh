#!/bin/sh
# The recipe of the shipped weights, from labelled pictures to one file:
#   DATA=../shared/data sh examples/train_default.sh --budget short      (or full; --help says more)
# Stopped at any moment, it goes on with the same command; with --piece 10 it stops by itself after ten minutes.
set -eu
exec "${BIN:+$BIN/}python" "$(dirname "$0")/train_default.py" --data "${DATA:-../shared/data}" --runs "${RUNS:-runs}" "$@"
