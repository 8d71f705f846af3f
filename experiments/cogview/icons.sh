#!/bin/sh
# Starts whatever is unfinished of CogView on `icons`, in this order: data set, text
# tokenizer, image tokenizer, its decoder again, transformer. The same command goes on
# after a stop.
#
#     experiments/cogview/icons.sh RUNS [--config.FLAG=VALUE of the transformer ...]
set -eu
runs=$1
shift
config=$(dirname "$0")/icons.py
[ -e "$runs/data/manifest.json" ] || cogjax data icons --out "$runs/data"
[ -e "$runs/text.model" ] ||
    cogjax tokenizer train --data "$runs/data" --vocab-size 4000 --out "$runs/text.model"
[ -e "$runs/vq/export" ] ||
    cogjax train --config "$config:tokenizer" --workdir "$runs/vq" \
        --config.data.path="$runs/data"
[ -e "$runs/decoder/export" ] ||
    cogjax train --config "$config:decoder" --workdir "$runs/decoder" \
        --config.data.path="$runs/data" --config.data.tokenizer="$runs/vq/export"
exec cogjax train --config "$config:transformer" --workdir "$runs/lm" \
    --config.data.path="$runs/data" --config.data.tokenizer="$runs/decoder/export" \
    --config.data.text="$runs/text.model" "$@"
