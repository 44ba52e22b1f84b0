#!/bin/sh
# All benchmarks that the documentation quotes, in turn. SHARED is the folder of reference material and data.
#   SHARED=../shared make bench
# LONG=1 adds those that train networks: about four hours of one core. What is in RUNS is not run again.
set -eu
python() { "${BIN:+$BIN/}python" "$@"; }
SHARED=${SHARED:-../shared}
HERE=$(dirname "$0")

echo "== OKS against pycocotools"
python "$HERE/evaluate.py"
echo "== intervals and comparison"
python "$HERE/intervals.py"
if python -c "import sys, torch; sys.exit(not torch.cuda.is_available())"; then
  echo "== a CUDA device"
  python "$HERE/gpu.py"
fi
if [ -d "$SHARED/data" ]; then
  echo "== the shipped model: accuracy"
  python "$HERE/default_model.py" --data "$SHARED/data" --out "${RUNS:-runs}/scores"
  echo "== the shipped model: speed, 720p"
  python "$HERE/speed.py" "$SHARED/data/clips/street_crowd.avi"
else
  echo "no data at $SHARED/data: accuracy and speed of the shipped model are left out"
fi
if [ -d "$SHARED/data" ] && [ -n "${LONG:-}" ]; then
  echo "== every single-person system side by side"
  python "$HERE/compare_models.py" --data "$SHARED/data" --out "${RUNS:-runs}/compare"
  echo "== UniPose with and without DARK"
  python "$HERE/unipose_dark.py" --data "$SHARED/data" --out "${RUNS:-runs}/unipose_dark"
  echo "== the quarter shift against DARK"
  python "$HERE/quarter_dark.py" --data "$SHARED/data" --out "${RUNS:-runs}/quarter_dark"
  echo "== Tompson et al. by pooling"
  python "$HERE/tompson_pooling.py" --data "$SHARED/data" --out "${RUNS:-runs}/tompson"
  echo "== fine-tuning on 48 pictures"
  python "$HERE/finetune.py" --data "$SHARED/data" --out "${RUNS:-runs}/finetune"
fi
