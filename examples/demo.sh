#!/bin/sh
# The whole chain on files it makes itself: scenes -> COCO -> poses -> numbers -> overlay.
#   make demo                          generated scenes only
#   DEMO_CLIP=my.mp4 make demo         also finds the people of a real clip and draws them
set -eu
posecli() { "${BIN:+$BIN/}posecli" "$@"; }
OUT=${DEMO_OUT:-demo}
mkdir -p "$OUT"

echo "== scenes: two generated scenes, each seen by a front and a side camera"
posecli scenes "$OUT/mars" --seed 7 --count 2 --people 1-2 --frames 60 --cameras front,side --overwrite

echo "== convert: videos and labels to one COCO file"
posecli convert "$OUT/mars" --out "$OUT/coco.json" --overwrite

echo "== infer: people in the scene clips"
posecli infer "$OUT/mars" --out "$OUT/poses.jsonl" --render-out "$OUT/overlays" --overwrite

echo "== evaluate: front against side"
posecli evaluate "$OUT/coco.json" "$OUT/poses.jsonl" --by tag --heat-csv "$OUT/heat.csv" --overwrite

if [ -n "${DEMO_CLIP:-}" ]; then
  echo "== infer: $DEMO_CLIP"
  posecli infer "$DEMO_CLIP" --out "$OUT/clip.poses.jsonl" --overwrite
  echo "== render: skeletons on the clip"
  posecli render "$DEMO_CLIP" "$OUT/clip.poses.jsonl" --out "$OUT/clip.overlay.mp4" --ids --overwrite
fi

echo "== everything lies in $OUT/"
find "$OUT" -type f | sort
