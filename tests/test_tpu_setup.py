"""tpu_setup.sh with --dry-run, and against a gcloud whose two hosts are folders."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "tpu_setup.sh"


def script(*words, where=SCRIPT, **variables):
    path = variables.pop("PATH", os.environ["PATH"])
    environment = {"PATH": path, "LC_ALL": "C.UTF-8", **variables}
    return subprocess.run(
        ["bash", where, *words],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def planned(*words, **variables):
    """The commands that it would run, each as a list of words."""
    done = script("--dry-run", *words, **variables)
    assert (done.returncode, done.stderr) == (0, "")
    return [shlex.split(line) for line in done.stdout.splitlines()]


def test_one_slice():
    assert planned("create", "pod", "v5litepod-16", ZONE="us-west4-a") == [
        [
            *"gcloud compute tpus tpu-vm create pod".split(),
            "--accelerator-type=v5litepod-16",
            "--version=v2-alpha-tpuv5-lite",
            "--zone=us-west4-a",
        ]
    ]
    git, scp, ssh = planned("install", "pod", TMPDIR="/t")
    assert git[3:] == "archive --prefix=cogjax/ --output=/t/cogjax.tar.gz HEAD".split()
    tpu = "gcloud compute tpus tpu-vm".split()
    assert scp == [*tpu, "scp", "/t/cogjax.tar.gz", "pod:", "--worker=all"]
    assert ssh[:6] == [*tpu, "ssh", "pod"]
    assert planned("logs", "pod")[0][6] == "--worker=0"
    assert planned("delete", "pod") == [[*tpu, "delete", "pod", "--quiet"]]


def test_more_slices_are_one_queued_resource():
    settings = {"SLICES": "4", "SPOT": "1"}
    resource = "gcloud compute tpus queued-resources".split()
    assert planned("create", "pod", "v6e-64", **settings) == [
        [
            *[*resource, "create", "pod", "--accelerator-type=v6e-64"],
            *["--runtime-version=v2-alpha-tpuv6e", "--node-count=4"],
            *["--node-prefix=pod", "--spot"],
        ]
    ]
    ssh = planned("run", "pod", "train", **settings)[0]
    assert ssh[:8] == [*resource, "ssh", "pod", "--worker=all", "--node=all"]
    delete = [*resource, "delete", "pod", "--quiet", "--force"]
    assert planned("delete", "pod", **settings) == [delete]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "expects create NAME TYPE"),
        (["create", "pod"], "expects create NAME TYPE"),
        (["run", "pod"], "expects create NAME TYPE"),
        (["die", "pod"], "expects create NAME TYPE"),
        (["create", "pod", "tpu9-8"], "unknown TYPE 'tpu9-8'"),
    ],
)
def test_mistakes(words, message):
    done = script("--dry-run", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"tpu_setup.sh: {message}")
    assert len(done.stderr.splitlines()) == 1


GCLOUD = """#!/usr/bin/env bash
# Two hosts: folders; --command=C runs in each, and scp copies to each.
for host in "$HOSTS"/*; do
    for word in "$@"; do
        case $word in --command=*) (cd "$host" && bash -c "${word#*=}") || exit ;; esac
    done
    if [[ $4 == scp ]]; then cp "$5" "$host/"; fi
done
"""
GIT = """#!/usr/bin/env bash
for word in "$@"; do case $word in --output=*) out=${word#*=} ;; esac; done
tar -czf "$out" -C "$SOURCE" cogjax
"""
PYTHON = """#!/usr/bin/env bash
# python3.13 -m venv --clear FOLDER; pip counts its calls, cogjax notes its words.
mkdir -p "$4/bin"
printf '%s\n' '#!/usr/bin/env bash' 'echo "$@" >>"${0%/*}/calls"' >"$4/bin/pip"
printf '%s\n' '#!/usr/bin/env bash' 'printf "%s\\n" "$@" >words.part' \
    'mv words.part words' 'trap "touch stopped; exit 17" TERM' \
    'while :; do sleep 0.05; done' >"$4/bin/cogjax"
chmod +x "$4/bin/pip" "$4/bin/cogjax"
"""


@pytest.fixture
def hosts(tmp_path):
    """Folders of two hosts, and the environment in which gcloud reaches them."""
    (tmp_path / "bin").mkdir()
    for name, text in (("gcloud", GCLOUD), ("git", GIT), ("python3.13", PYTHON)):
        (tmp_path / "bin" / name).write_text(text)
        (tmp_path / "bin" / name).chmod(0o755)
    (tmp_path / "source" / "cogjax").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / "source" / "cogjax")
    folders = [tmp_path / "hosts" / name for name in ("0", "1")]
    for folder in folders:
        folder.mkdir(parents=True)
    variables = {
        "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "HOSTS": str(tmp_path / "hosts"),
        "SOURCE": str(tmp_path / "source"),
        "TMPDIR": str(tmp_path),
    }
    yield [folder / "cogjax" for folder in folders], variables
    for folder in folders:
        pid = folder / "cogjax" / "run.pid"
        if pid.exists():
            try:
                os.kill(int(pid.read_text()), signal.SIGKILL)
            except ProcessLookupError:
                pass


def wait_for(path):
    end = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < end, f"{path} does not appear"
        time.sleep(0.02)
    return path.read_text()


def test_words_reach_every_host_and_stop_ends_them(hosts):
    folders, variables = hosts
    done = script("install", "pod", **variables)
    assert done.returncode == 0, done.stderr
    words = ["train", "--config.sample.prompts=('一只猫', \"it's $HOME *\")", "a b"]
    done = script("run", "pod", *words, **variables)
    assert done.returncode == 0, done.stderr
    for folder in folders:
        found = wait_for(folder / "words").splitlines()
        assert found == [*words, "--distributed"]
        # The environment was made by `install` and not again by `run`.
        calls = (folder / ".venv" / "bin" / "calls").read_text().splitlines()
        assert calls == [f"install --quiet --editable {folder} jax[tpu]"]
    assert script("stop", "pod", **variables).returncode == 0
    for folder in folders:
        wait_for(folder / "stopped")


def test_an_install_that_failed_is_done_again(hosts):
    folders, variables = hosts
    assert script("install", "pod", **variables).returncode == 0
    for folder in folders:
        (folder / ".venv" / "done").unlink()
    here = folders[0] / "tpu_setup.sh"
    assert script("here", where=here, JAX_EXTRA="cuda12", **variables).returncode == 0
    calls = (folders[0] / ".venv" / "bin" / "calls").read_text().splitlines()
    assert [line.split()[-1] for line in calls] == ["jax[tpu]", "jax[cuda12]"]
    assert (folders[0] / ".venv" / "done").exists()


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="shellcheck is not here")
def test_shellcheck():
    subprocess.run(["shellcheck", SCRIPT], check=True, timeout=60)
