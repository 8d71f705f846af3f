#!/bin/sh
# Starts or goes on with Imagen on shapes: the data set, the text encoder, the captions
# as vectors, the base and super-resolution. RUNS/super/export is the whole cascade.
#
#     experiments/imagen/shapes.sh RUNS
set -eu
runs=$1
here=$(dirname "$0")
[ -e "$runs/easy/manifest.json" ] || cogjax data shapes --easy --n 80000 --out "$runs/easy"
cogjax train --config "$here/shapes.py:text" --workdir "$runs/t5" \
    --config.data.path="$runs/easy"
cogjax encode-text --model "$runs/t5/export" --data "$runs/easy" --out "$runs/texts" \
    --splits train,val --budget 0
cogjax train --config "$here/shapes.py:base" --workdir "$runs/base" \
    --config.data.path="$runs/easy" --config.data.text="$runs/t5/export" \
    --config.data.vectors="$runs/texts"
exec cogjax train --config "$here/shapes.py:super" --workdir "$runs/super" \
    --config.data.path="$runs/easy" --config.data.text="$runs/t5/export" \
    --config.data.vectors="$runs/texts" --config.data.below="$runs/base/export"
