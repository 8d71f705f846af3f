"""Row A9, and A6 for commands: what writes files is killed, or has no space.

Whatever the moment, no half file stands under its final name, and the same command does
the rest.
"""

import hashlib
import json
import random
import signal
import subprocess
import time

import numpy as np
import pytest

from cogjax import cli, config
from cogjax.data.images import encode_png
from cogjax.data.records import open_split
from cogjax.stages import run as launch
from tests.faults.launcher import TABLE, Command
from tests.importing import public
from tests.t5_release import config_of, tensors_of, unigram, write_release
from tests.worlds.icons import archives

SIGNALS = (signal.SIGKILL, signal.SIGTERM)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Folder with a folder of images and their captions."""
    root = tmp_path_factory.mktemp("sources")
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    for i in range(120):
        pixels = rng.integers(0, 256, (48, 48, 3), np.uint8)
        (root / "images" / f"{i}.png").write_bytes(encode_png(pixels))
        (root / "images" / f"{i}.txt").write_text(f"a red apple {i}")
    return root


@pytest.fixture(scope="module")
def sources(images, nano_data, nano_folder):
    """The same with a data set of them, a nano model and a run of a tokenizer."""
    root = images
    words = ["data", "folder", root / "images", "--out", root / "set", "--size", "16"]
    assert cli.main([str(word) for word in words]) == 0
    values = {"data.path": nano_data, "train.steps": 2, "train.sample_every": 0}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    launch.train(
        config.load("experiments/cogview/emoji.py:tokenizer,nano", words), root / "run"
    )
    (root / "model").symlink_to(nano_folder)
    for name in ("public", "npm"):
        (root / name).mkdir()
    public.write_vqgan(root / "public")
    archives.make(root / "npm")
    text = unigram()
    config_of_t5 = config_of(text)
    write_release(root / "t5", config_of_t5, tensors_of(config_of_t5), text)
    return root


def prepare_tfds(folder):
    """120 images of tensorflow-datasets."""
    pytest.importorskip("tensorflow_datasets")
    from tests.data import test_tfds_import as made

    made.prepare(folder, "squares", made.FEATURES, {"train": map(made.row, range(120))})


def words_of(name, root, out):
    """The command line that fills the folder `out`."""
    return {
        "data folder": ["data", "folder", root / "images", "--out", out],
        "data shapes": ["data", "shapes", "--out", out, "--n", "200", "--size", "32"],
        "tokenizer train": [
            *("tokenizer", "train", "--data", root / "set"),
            *("--vocab-size", "280", "--out", out / "text.model"),
        ],
        "encode": [
            *("encode", "--data", root / "set", "--tokenizer", root / "model"),
            *("--out", out, "--shard-size", "16", "--batch-size", "8"),
        ],
        "encode-text": [
            *("encode-text", "--data", root / "set", "--model", root / "t5"),
            *("--out", out, "--shard-size", "16", "--batch-size", "8"),
        ],
        "data emoji": [
            *("data", "emoji", "--tier", "pip", "--styles", "twemoji"),
            *("--size", "16", "--out", out),
        ],
        "data icons": [
            *("data", "icons", "--npm-dir", root / "npm", "--size", "16"),
            *("--out", out),
        ],
        "data tfds": [
            *("data", "tfds", "squares", "--data-dir", root / "tfds"),
            *("--size", "8", "--out", out),
        ],
        "data filter": [
            *("data", "filter", root / "set", "--min-words", "1", "--out", out)
        ],
        "import": ["import", root / "public", "--out", out],
        "export": ["export", root / "run", "--out", out],
        "export for others": [
            *("export", root / "model", "--format", "torch", "--out", out)
        ],
        "generate": [
            *("generate", "a red apple", "猫", "--model", root / "model"),
            *("--num-images", "6", "--out", out),
        ],
    }[name]


NAMES = ("data folder", "data shapes", "data emoji", "data icons", "data tfds")
NAMES += ("data filter", "tokenizer train", "encode", "encode-text", "import")
NAMES += ("export", "export for others")
# The head of each kind of folder, which is written first as a mark, or as what is to be
# done, and only at the end as it is.
HEADS = ("manifest.json", "config.json", "encoding.json", "generation.json")
HEADS += ("export.json",)


def visible(out):
    """{name: SHA-256} of the files in a folder that are not hidden."""
    if not out.is_dir():
        return {}
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.iterdir())
        if not path.name.startswith(".")
    }


def run(words, log, number=0, after=240.0):
    with Command(words, log) as process:
        return process.end(number, after), process.said()


@pytest.fixture(scope="module", params=[*NAMES, "generate"])
def whole(request, sources, tmp_path_factory):
    """(name, sources, files of an undisturbed run, seconds that it takes)."""
    if request.param == "data tfds":
        prepare_tfds(sources / "tfds")
    folder = tmp_path_factory.mktemp("whole")
    words = words_of(request.param, sources, folder / "out")
    # Once to compile, once to look at the clock.
    assert (
        run(words_of(request.param, sources, folder / "first"), folder / "log")[0] == 0
    )
    start = time.monotonic()
    status, said = run(words, folder / "log")
    assert status == 0, said
    return request.param, sources, visible(folder / "out"), time.monotonic() - start


def check_no_half(out, files):
    """All that is visible is whole, or is a head that says what is missing."""
    found = visible(out)
    for name in found.keys() - set(HEADS):
        assert found[name] == files[name], name
    for name in found.keys() & set(HEADS):
        fields = json.loads((out / name).read_bytes())
        assert (
            found[name] == files[name]
            or name != "manifest.json"
            or fields["unfinished"]
        )


def finish(name, words, out, log, files):
    """The same command once more, over what a killed one had begun to move in.

    Nothing is left to do for one that was killed behind its last file.
    """
    if name != "generate" and visible(out) == files:
        return
    heads = [out / each for each in HEADS if (out / each).exists()]
    cut = any("unfinished" in json.loads(head.read_bytes()) for head in heads)
    status, said = run([*words, *(["--overwrite"] if cut else [])], log)
    assert status == 0, said
    assert not list(out.glob(".*.partial")), "what the killed one left is still there"
    if name != "generate":
        assert visible(out) == files
        return
    record = json.loads((out / "generation.json").read_bytes())
    made = [hashlib.sha256((out / i["file"]).read_bytes()) for i in record["images"]]
    images = {v for k, v in files.items() if k.endswith(".png") and "grid" not in k}
    assert {each.hexdigest() for each in made} == images


@pytest.mark.slow
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_command_that_is_killed_can_be_given_again(tmp_path, whole, number):
    name, sources, files, seconds = whole
    rng, killed = random.Random(name), 0
    for i in range(4):
        out, log = tmp_path / str(i), tmp_path / f"log{i}"
        words = words_of(name, sources, out)
        status, said = run(words, log, number, seconds * rng.uniform(0.2, 1))
        assert status in (0, -number), said
        check_no_half(out, files)
        killed += status != 0
        if status:
            finish(name, words, out, log, files)
    assert killed
    TABLE.add("A9", f"{number.name}: {name}", killed, killed)


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a file system of so many bytes, or makes it larger."""
    place = tmp_path / "disk"
    place.mkdir()

    def size(number, option=""):
        words = ["mount", "-t", "tmpfs", "-o", f"{option}size={number}", "none", place]
        return subprocess.run(words, capture_output=True).returncode

    if size(1 << 20):
        pytest.skip("no right to mount a file system")
    yield place, size
    subprocess.run(["umount", place], check=True)


@pytest.mark.slow
def test_a_command_without_space_says_so(tmp_path, whole, disk):
    """A full file system, not only a limit on one file; then it gets larger."""
    name, sources, files, _ = whole
    place, size = disk
    out, log = place / "out", tmp_path / "log"
    taken = sum(path.stat().st_size for path in _paths(sources, name, tmp_path))
    assert size(max(taken // 2, 8192), "remount,") == 0
    words = words_of(name, sources, out)
    status, said = run(words, log)
    assert status == 2 and "Traceback" not in said
    assert "No space left" in said or "no space left" in said
    check_no_half(out, files)
    assert size(1 << 28, "remount,") == 0
    finish(name, words, out, log, files)
    TABLE.add("A6", f"a full file system: {name}", 1, 1)


def _paths(sources, name, folder):
    """The files that the command writes where there is space."""
    out = folder / "space"
    assert run(words_of(name, sources, out), folder / "log")[0] == 0
    return [path for path in out.iterdir() if path.is_file()]


def test_outputs_and_sources_may_be_links(tmp_path, images):
    """To folders that are there; what is behind the link is filled and read."""
    for name in ("source", "real"):
        (tmp_path / name).mkdir()
    (tmp_path / "images").symlink_to(images / "images")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    words = words_of("data folder", tmp_path, tmp_path / "out")
    assert cli.main([str(word) for word in words]) == 0
    assert (tmp_path / "out").is_symlink()
    assert len(open_split(tmp_path / "real", "train")) > 100
    # The source behind another name is still the source.
    (tmp_path / "self").symlink_to(images / "images")
    words = words_of("data folder", images, tmp_path / "self")
    assert cli.main([str(word) for word in words]) == 2
