#!/bin/sh
# From 48 labelled pictures to a pose network for one's own joints, and what it gained. docs/finetune.md walks through it.
#   DATA=../shared/data sh examples/finetune.sh        (FINETUNE_OUT, FINETUNE_MINUTES: where to, how long)
set -eu
posecli() { "${BIN:+$BIN/}posecli" "$@"; }
python() { "${BIN:+$BIN/}python" "$@"; }
HERE=$(cd "$(dirname "$0")" && pwd)
SET=$(cd "${DATA:-../shared/data}/people_keypoints_extra/basketball" && pwd)
OUT=${FINETUNE_OUT:-finetune}
mkdir -p "$OUT"
cd "$OUT"

echo "== 1. the labels, split by time: the first 16 of 24 moments to learn from, the last 8 to test on"
python - "$SET/annotations.json" <<'PYTHON'
import json, sys
labels = json.load(open(sys.argv[1]))
moments = sorted({image["video_frame"] for image in labels["images"]})
for name, wanted in (("early", moments[:16]), ("late", moments[16:])):
    images = [image for image in labels["images"] if image["video_frame"] in wanted]
    kept = {image["id"] for image in images}
    people = [person for person in labels["annotations"] if person["image_id"] in kept]
    json.dump({**labels, "images": images, "annotations": people}, open(f"{name}.json", "w"))
PYTHON

echo "== 2. as data sets of our joints"
for part in early late; do
  posecli convert $part.json --image-root "$SET" --to-skeleton "$HERE/finetune_joints.toml" --out $part.coco.json --overwrite --quiet
  posecli check $part.coco.json
done

echo "== 3. what the shipped model finds on the late pictures"
posecli infer late.coco.json --out before.jsonl --overwrite --quiet

echo "== 4. the pose network learns the early ones; joints that it knows are kept, the others start afresh"
posecli train --init default --config "$HERE/finetune.toml" --data early.coco.json --max-minutes "${FINETUNE_MINUTES:-4}" \
  --out run --overwrite

echo "== 5. what it finds now; the shipped model still says where people are"
posecli infer late.coco.json --weights run/last.safetensors --out after.jsonl --overwrite --quiet

echo "== 6. before and after on the joints that both have, then all joints"
posecli evaluate late.coco.json before.jsonl after.jsonl --metrics pck,pdj --match iou
posecli evaluate late.coco.json after.jsonl --metrics pck,pdj --match iou --by joint
