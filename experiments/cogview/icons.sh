#!/bin/sh
# Starts or goes on with CogView on `icons`: the data set, then the transformer. Its image
# tokenizer is icons_tokenizer; its pieces and first weights are those of icons_start, so that
# no run starts at nothing; the commands that made them are the head of icons.py.
#
#     experiments/cogview/icons.sh RUNS [--config.FLAG=VALUE of the transformer ...]
set -eu
runs=$1
shift
here=$(dirname "$0")
start=$here/icons_start
[ -e "$runs/data/manifest.json" ] || cogjax data icons --out "$runs/data"
exec cogjax train --config "$here/icons.py:transformer" --workdir "$runs/lm" \
    --config.data.path="$runs/data" --config.data.weights="$start" \
    --config.data.tokenizer="$here/icons_tokenizer" --config.data.text="$start" "$@"
