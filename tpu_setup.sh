#!/usr/bin/env bash
# One command on every host of a Cloud TPU; docs/running.md shows it in use.
#
#   tpu_setup.sh [--dry-run] create NAME TYPE    such as v5litepod-16, v6e-64, v5p-256
#   tpu_setup.sh [--dry-run] install NAME        this checkout's last commit, to all hosts
#   tpu_setup.sh [--dry-run] run NAME WORD...    `cogjax WORD...` on all hosts, detached
#   tpu_setup.sh [--dry-run] logs NAME           follow host 0
#   tpu_setup.sh [--dry-run] stop NAME           SIGTERM to all: training saves, status 17
#   tpu_setup.sh [--dry-run] delete NAME
#   tpu_setup.sh here [WORD...]                  on a host: venv once, then `cogjax WORD...`
#
# --dry-run prints the commands and runs none. Environment: ZONE; SLICES (1; more is a
# multi-slice, as a queued resource); SPOT=1; BUCKET, mounted on all hosts as `bucket` in
# the folder that commands run in; JAX_EXTRA (tpu; cuda12 for `here` on a GPU).
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
slices=${SLICES:-1}
dry_run=
# All hosts, and the one whose log is followed.
all=(--worker=all)
first=(--worker=0)
if [[ $slices != 1 ]]; then
    all+=(--node=all)
    first+=(--node=0)
fi
archive=${TMPDIR:-/tmp}/cogjax.tar.gz

die() {
    echo "tpu_setup.sh: $*" >&2
    exit 2
}

quote() {
    printf '%q ' "$@"
}

# Runs a command, or prints it so that it can be pasted.
do_() {
    if [[ $dry_run ]]; then
        quote "$@"
        echo
    else
        "$@"
    fi
}

# gcloud on the one slice, or on the queued resource that holds them all.
tpu() {
    local action=$1 kind=tpu-vm
    shift
    [[ $slices == 1 ]] || kind=queued-resources
    do_ gcloud compute tpus "$kind" "$action" "$@" ${ZONE:+"--zone=$ZONE"}
}

on_all() {
    tpu ssh "$1" "${all[@]}" --command="$2"
}

runtime_of() {
    case $1 in
        v6e-*) echo v2-alpha-tpuv6e ;;
        v5p-*) echo v2-alpha-tpuv5 ;;
        v5litepod-*) echo v2-alpha-tpuv5-lite ;;
        v[234]-*) echo tpu-ubuntu2204-base ;;
        *) die "unknown TYPE '$1': expected v5litepod-16, v5p-256, v6e-64 or alike" ;;
    esac
}

create() {
    local runtime
    runtime=$(runtime_of "$2")
    if [[ $slices == 1 ]]; then
        tpu create "$1" --accelerator-type="$2" --version="$runtime" ${SPOT:+--spot}
    else
        tpu create "$1" --accelerator-type="$2" --runtime-version="$runtime" \
            --node-count="$slices" --node-prefix="$1" ${SPOT:+--spot}
    fi
}

install() {
    do_ git -C "$here" archive --prefix=cogjax/ --output="$archive" HEAD
    tpu scp "$archive" "$1:" "${all[@]}"
    on_all "$1" "tar -xzf cogjax.tar.gz && rm -f cogjax/.venv/done && $(setting)cogjax/tpu_setup.sh here"
}

run() {
    local name=$1
    shift
    case $1 in
        train | encode) set -- "$@" --distributed ;;
    esac
    # The shell that starts it becomes cogjax, so its id is the one to stop.
    on_all "$name" "cd cogjax && { $(setting)nohup ./tpu_setup.sh here $(quote "$@")>run.log 2>&1 </dev/null & echo \$! >run.pid; }"
}

# The settings that a host needs too, as "NAME=value " before a command.
setting() {
    [[ -z ${BUCKET:-} ]] || quote "BUCKET=$BUCKET"
}

logs() {
    tpu ssh "$1" "${first[@]}" --command="tail -n 100 -F cogjax/run.log"
}

stop() {
    on_all "$1" "kill -TERM \$(cat cogjax/run.pid)"
}

delete() {
    if [[ $slices == 1 ]]; then
        tpu delete "$1" --quiet
    else
        tpu delete "$1" --quiet --force
    fi
}

# The images of older TPUs have Python 3.10; uv fetches a newer one.
make_venv() {
    local python
    for python in python3.13 python3.12 python3.11; do
        if command -v "$python" >/dev/null && "$python" -m venv --clear "$1" 2>/dev/null; then
            return
        fi
    done
    python3 -m pip install --quiet --user uv
    python3 -m uv venv --quiet --clear --seed --python 3.12 "$1"
}

mount_bucket() {
    if ! command -v gcsfuse >/dev/null; then
        curl -fsSL https://packages.cloud.google.com/apt/doc/apt-key.gpg |
            sudo tee /usr/share/keyrings/cloud.google.asc >/dev/null
        echo "deb [signed-by=/usr/share/keyrings/cloud.google.asc] https://packages.cloud.google.com/apt gcsfuse-$(lsb_release -cs) main" |
            sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
        sudo apt-get -qq update
        sudo apt-get -qq install -y gcsfuse
    fi
    mkdir -p "$here/bucket"
    # Without a cache of names: hosts must see at once what the others wrote.
    mountpoint -q "$here/bucket" ||
        gcsfuse --implicit-dirs --metadata-cache-ttl-secs=0 "$BUCKET" "$here/bucket"
}

# Everything on this host: an environment, once, then the command in its place.
on_this_host() {
    local venv=$here/.venv
    if [[ ! -e $venv/done ]]; then
        [[ -x $venv/bin/pip ]] || make_venv "$venv"
        "$venv/bin/pip" install --quiet --editable "$here" "jax[${JAX_EXTRA:-tpu}]"
        touch "$venv/done"
    fi
    [[ -z ${BUCKET:-} ]] || mount_bucket
    [[ $# == 0 ]] || exec "$venv/bin/cogjax" "$@"
}

main() {
    local usage="expects create NAME TYPE, run NAME WORD..., here [WORD...], or install, logs, stop or delete NAME"
    if [[ ${1:-} == --dry-run ]]; then
        dry_run=1
        shift
    fi
    local command=${1:-}
    [[ $# == 0 ]] || shift
    case $command/$# in
        here/*) on_this_host "$@" ;;
        run/0 | run/1) die "$usage" ;;
        create/2 | install/1 | logs/1 | stop/1 | delete/1 | run/*) "$command" "$@" ;;
        *) die "$usage" ;;
    esac
}

main "$@"
