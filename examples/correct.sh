#!/bin/sh
# The correction loop, from a clip to corrected labels to a fine-tuned model, in about two minutes on one core.
# docs/correction.md walks through it.
#
# Nobody sits in this script: the clip is a generated scene, whose true joints are known, and stand_in_corrector.py
# puts them into the labelme files in place of a human with a mouse. With a clip of your own, do step 4 by hand.
set -eu
posecli() { "${BIN:+$BIN/}posecli" "$@"; }
python() { "${BIN:+$BIN/}python" "$@"; }
HERE=$(cd "$(dirname "$0")" && pwd)
OUT=${CORRECT_OUT:-correct}
EPOCHS=${CORRECT_EPOCHS:-24}
mkdir -p "$OUT"
cd "$OUT"

echo "== 0. a clip (and a second one, to see what was learnt): noisy, dim, people half hidden"
posecli scenes scenes --seed 5 --count 2 --people 1 --frames 60 --cameras front --size 256x192 \
  --light dim --noise 12 --occluders 2 --overwrite --quiet
posecli convert scenes --out truth.json --overwrite --quiet

echo "== 1. what the model finds"
posecli infer scenes/front/scene_000.mp4 --out poses.jsonl --track oks --overwrite --quiet

echo "== 2. the frames most worth a human's time"
posecli stats poses.jsonl --image-root scenes/front --worth-labelling --count 16 --gap 0.3 --out todo.json --overwrite

echo "== 3. as pictures and labelme files, with the poses found already in them"
rm -rf frames labelme
posecli convert todo.json --frames frames --to labelme --out labelme --quiet

echo "== 4. a human corrects them: labelme labelme/ ... here, a stand-in"
python "$HERE/stand_in_corrector.py" labelme scenes/front/scene_000.json

echo "== 5. back as a data set, and looked over"
posecli convert labelme --format labelme --skeleton body19 --out corrected.json --overwrite --quiet
posecli check corrected.json --strict --skip joint-outside,box-outside

echo "== 6. the shipped model learns from them"
posecli train --data corrected.json --init default --config "$HERE/correct.toml" --epochs "$EPOCHS" --out run \
  --overwrite --quiet

echo "== 7. before and after, on both clips: scene_000 gave the corrected frames, scene_001 none"
posecli infer scenes --out before.jsonl --overwrite --quiet
posecli infer scenes --weights run/last.safetensors --out after.jsonl --overwrite --quiet
posecli evaluate truth.json before.jsonl after.jsonl --by video --metrics oks,pck --bootstrap 0
