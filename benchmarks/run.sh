#!/bin/sh
# All benchmarks that the documentation quotes, in turn. SHARED is the folder of reference material and data.
#   SHARED=../shared make bench
set -eu
python() { "${BIN:+$BIN/}python" "$@"; }
SHARED=${SHARED:-../shared}
HERE=$(dirname "$0")

echo "== OKS against pycocotools"
python "$HERE/evaluate.py"
echo "== intervals and comparison"
python "$HERE/intervals.py"
if [ -d "$SHARED/data" ]; then
  echo "== the shipped model: accuracy"
  python "$HERE/default_model.py" --data "$SHARED/data" --out "${RUNS:-runs}/scores"
  echo "== the shipped model: speed, 720p"
  python "$HERE/speed.py" "$SHARED/data/clips/street_crowd.avi"
else
  echo "no data at $SHARED/data: accuracy and speed of the shipped model are left out"
fi
