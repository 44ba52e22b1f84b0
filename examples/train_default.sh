#!/bin/sh
# The recipe of the shipped weights, from labelled pictures to one file; about seven hours on two CPU cores.
#   DATA=../shared/data sh examples/train_default.sh
# Nothing is learnt from the tenth of LSPET kept for validation, nor from the val part of coco_mini.
set -eu
posecli() { "${BIN:+$BIN/}posecli" "$@"; }
python() { "${BIN:+$BIN/}python" "$@"; }
HERE=$(dirname "$0")
DATA=${DATA:-../shared/data}
RUNS=${RUNS:-runs}
POSE_MINUTES=${POSE_MINUTES:-330}
FINDER_MINUTES=${FINDER_MINUTES:-50}
# Least score of the finder's centres, tuning pictures for the threshold (0: all), and people shown a picture without
# anybody. For a rehearsal of seconds: POSE_MINUTES=0.3 FINDER_MINUTES=0.3 FLOOR=1e-6 PICTURES=4 MOST_FALSE=100
FLOOR=${FLOOR:-0.05}
PICTURES=${PICTURES:-0}
MOST_FALSE=${MOST_FALSE:-0.03}
mkdir -p "$RUNS"

echo "== labels: LSPET split, face joints added"
python "$HERE/prepare_default_data.py" --data "$DATA" --out "$RUNS/data"

echo "== pose network: crops of single people"
posecli train --config "$HERE/default_pose.toml" --max-minutes "$POSE_MINUTES" --out "$RUNS/pose" --overwrite \
  --data "$RUNS/data/lspet_train.json" \
  --data "$DATA/coco_mini/annotations/person_keypoints_train2017.json" \
  --data "$DATA/people_keypoints_extra/coco_tiny/annotations.json" \
  --data "$DATA/people_boxes/coco_keypoints.json" \
  --data "$DATA/people_keypoints_extra/coco_more/annotations.json" \
  --data-weights 80,1.6,2,7.4,9 \
  --val "$RUNS/data/lspet_val.json"

echo "== finder: people in whole pictures, on the trunk of the pose network"
python "$HERE/train_finder.py" --data "$DATA" --init "$RUNS/pose/last.safetensors" --out "$RUNS/finder" \
  --minutes "$FINDER_MINUTES"

echo "== one file"
python "$HERE/assemble_default.py" --pose "$RUNS/pose/last.safetensors" --finder "$RUNS/finder/finder.safetensors" \
  --floor "$FLOOR" --pictures "$PICTURES" --most-false "$MOST_FALSE" --data "$DATA" --out "$RUNS/default.safetensors"
