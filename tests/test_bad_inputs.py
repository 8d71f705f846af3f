"""Bad files, captions, flags, configs and prompts: one clear line, status 2, no debris.

Every case runs `cogjax.cli.main` in a folder of its own and compares the folder before
and after (specs/reliability.md, sections D and I).
"""

import io
import os
import shutil
import struct
import tarfile
import zlib

import pytest
from PIL import Image

from cogjax import cli

GENERATE = ["generate", "a cat", "--out", "out"]
ENCODE = ["encode", "--data", "missing", "--tokenizer", "emoji", "--out", "out"]


def run(capsys, words):
    """Runs a command line that may say where it writes, and then its error."""
    status = cli.main(words)
    shown = capsys.readouterr()
    assert status == 2, shown
    assert shown.out == ""
    lines = [line for line in shown.err.splitlines() if ", into " not in line]
    assert len(lines) == 1, shown.err
    assert lines[0].startswith("cogjax: error: ")
    return lines[0].removeprefix("cogjax: error: ")


def tree(folder):
    return {p.relative_to(folder): p.lstat().st_size for p in folder.rglob("*")}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(capsys, here, words, message):
    before = tree(here)
    assert message in run(capsys, words)
    assert tree(here) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "required: COMMAND"),
        (["genrate", "a cat"], "unknown command 'genrate': did you mean 'generate'?"),
        (["data", "emojis"], "unknown action 'emojis': did you mean 'emoji'?"),
        (
            [*GENERATE, "--sede", "3"],
            "unexpected argument '--sede': did you mean '--se",
        ),
        (["generate", "a cat"], "required: --out"),
        ([*GENERATE, "--num-images", "0"], "a whole number from 1 to 1000, got '0'"),
        ([*GENERATE, "--num-images", "1000000"], "from 1 to 1000, got '1000000'"),
        ([*GENERATE, "--num-images", "two"], "whole number from 1 to 1000, got 'two'"),
        ([*GENERATE, "--temperature", "nan"], "a number from 0 to 100, got 'nan'"),
        ([*GENERATE, "--temperature=-1"], "a number from 0 to 100, got '-1'"),
        ([*GENERATE, "--top-p", "1.5"], "a number above 0, up to 1, got '1.5'"),
        ([*GENERATE, "--top-p", "0"], "argument --top-p: expects a number above 0"),
        ([*GENERATE, "--top-k=-5"], "a whole number of 0 or more, got '-5'"),
        ([*GENERATE, "--guidance", "inf"], "a number from 0 to 100, got 'inf'"),
        ([*GENERATE, "--seed=-1"], "argument --seed: expects a whole number from 0"),
        (
            [*GENERATE, "--rerank", "2"],
            "rerank is 2: it must be at least num_images, 4",
        ),
        (
            [*GENERATE, "--rerank", "8", "--rerank-by", "clip"],
            "--rerank-by clip needs --clip MODEL",
        ),
        (
            [*GENERATE, "--rerank", "8", "--clip", "emoji"],
            "--clip MODEL is for --rerank-by clip",
        ),
        ([*GENERATE, "--rerank-by", "captions"], "candidates: add --rerank N, say 8"),
        (
            [*GENERATE, "--rerank-by", "cilp"],
            "unknown --rerank-by 'cilp': did you mean",
        ),
        (["score", "x.png", "a", "--by", "clip"], "--by clip needs --clip MODEL"),
        (["score", "x.png", "a", "--clip", "emoji"], "is for --by clip: give both"),
        ([*GENERATE, "--rows", "2"], "--image-prompt IMAGE and --rows N go together"),
        ([*GENERATE, "--image-prompt", "x.png"], "--rows N go together"),
        ([*GENERATE, "--config.optim.lr=1"], "unexpected argument '--config.optim.lr"),
        (["caption", "x.png", "--language", "fr"], "unknown --language 'fr'"),
        (["train", "--config", "x.py"], "--workdir DIR is required"),
        ([*ENCODE, "--process", "2/2"], "expects I/N with I below N, got '2/2'"),
        ([*ENCODE, "--out", "gs://bucket/set"], "buckets are reached through a mount"),
        (
            [
                "tokenizer",
                "train",
                *"--text t --vocab-size 300 --out gs://b/t.model".split(),
            ],
            "buckets are r",
        ),
        (["data", "filter", "x", "--out", "out", "--ban-source", ","], "names nothing"),
        (ENCODE, "missing is not a data set (no manifest.json)"),
        (
            ["train", "--config", "x.py", "--workdir", "out", "--distributed"],
            "cannot read config x.py",
        ),
        (["attention-map", "--grid", "32"], "rows x columns up to 64x64, got '32'"),
        (["attention-map", "--kinds", "rows"], "unknown kind 'rows', expected full"),
        (["attention-map", "--query", "1024"], "the image has 1024 positions"),
        (["attention-map", "--kernel", "4"], "kernel is 4, expected an odd number"),
        (
            ["attention-map", "--kinds", "three-region", "--window", "63"],
            "length 1088 is no multiple of window 63",
        ),
        (
            ["tokenizer", "train", "--vocab-size", "300", "--out", "t.model"],
            "nothing to",
        ),
    ],
)
def test_flags(capsys, here, words, message):
    check(capsys, here, words, message)


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ("", "prompt 1 is empty"),
        (" \n\t", "prompt 1 is empty"),
        ("\x02\x01\u200b", "prompt 1 is empty"),
        ("a\0cat", "prompt 1 is not UTF-8 text: it has NUL characters"),
        ("x" * 5000, "prompt 1 has 5000 characters, at most 4096"),
        (os.fsdecode(b"caf\xe9"), "prompt 1 is not valid UTF-8"),
    ],
)
def test_prompts(capsys, here, prompt, message):
    check(capsys, here, ["generate", prompt, "--out", "out"], message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read prompts file p.txt: No such file"),
        (b"", "prompts file p.txt holds no text"),
        (b"\n \n", "prompts file p.txt holds no text"),
        (b"\xff\xfe\x00\x80", "prompts file p.txt is not UTF-8 text"),
        (b"a cat\n\x07\n", "prompt 2 is empty"),
        (
            "a cat".encode("utf-16-le"),
            "prompts file p.txt is not UTF-8 text: it has NUL characters",
        ),
    ],
)
def test_prompts_files(capsys, here, content, message):
    if content is not None:
        (here / "p.txt").write_bytes(content)
    words = ["generate", "--prompts-file", "p.txt", "--out", "out"]
    check(capsys, here, words, message)


def test_output_places(capsys, here):
    (here / "out").write_text("a file")
    check(capsys, here, GENERATE, "cannot write to out:")
    check(capsys, here, ["generate", "x", "--out", "out/deep"], "out is not a folder")
    (here / "folder").mkdir()
    words = ["caption", "x.png", "--json", "folder"]
    check(capsys, here, words, "cannot write folder: it is a folder")


@pytest.mark.parametrize(
    "words",
    [
        ["caption", "x.png", "--json", "FILE"],
        ["ask", "x.png", "what?", "--json", "FILE"],
        ["attention-map", "--out", "FILE.png"],
        ["bench", "train", "--json", "FILE"],
        ["data", "show", "set", "--out", "FILE.png"],
        ["evaluate", "oracle", "--json", "FILE"],
        ["evaluate", "m", "--data", "d", "--sheet", "FILE"],
        ["plan", "--config", "c", "--topology", "v5e:2x2", "--json", "FILE"],
        ["tokenizer", "train", *"--text t --vocab-size 300 --out FILE.model".split()],
        ["tokenizer", "compare", "emoji", "--data", "d", "--out", "."],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_files_that_are_there_are_kept(capsys, here, words):
    """Said before any other mistake, and only --overwrite goes on to that."""
    for name in ("FILE", "FILE.png", "FILE.model", "images.png"):
        (here / name).write_text("mine")
    check(capsys, here, words, "is there already: choose another name, or give --over")
    if words[0] not in ("bench", "attention-map") and words[1] != "oracle":
        assert "already" not in run(capsys, [*words, "--overwrite"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_without_permission(capsys, here):
    (here / "locked").mkdir(mode=0o500)
    check(capsys, here, ["generate", "x", "--out", "locked/out"], "no permission")


def png(width=4, height=4):
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "red").save(buffer, "PNG")
    return buffer.getvalue()


def bomb(side):
    """A PNG whose header claims side x side pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + chunk + png()[33:]


IMAGES = {
    "empty": b"",
    "html": b"<html><body>404</body></html>",
    "random": bytes(range(256)) * 4,
    "truncated": png(64, 64)[:60],
    "bomb": bomb(60_000),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>',
}


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize("words", [["caption"], ["score"], ["generate"]])
def test_images(capsys, here, name, words):
    (here / "bad.png").write_bytes(IMAGES[name])
    words = {
        "caption": ["caption", "bad.png", "--json", "out.json"],
        "score": ["score", "bad.png", "a cat"],
        "generate": [*GENERATE, "--image-prompt", "bad.png", "--rows", "1"],
    }[words[0]]
    check(capsys, here, words, "image bad.png")


def test_missing_images_and_texts(capsys, here):
    (here / "ok.png").write_bytes(png())
    check(capsys, here, ["caption", "no.png"], "cannot read image no.png: No such")
    check(capsys, here, ["score", ".", "a cat"], "cannot read image .: Is a directory")
    check(capsys, here, ["score", "ok.png", " "], "the text is empty")


CONFIG = """
def get_config(arg=""):
    return {
        "task": {"name": "vq"},
        "model": {"image_size": 16, "widths": (8, 16), "strides": (2, 2)},
        "data": {"path": "missing"},
        "optim": {"lr": 1e-3},
    }
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--config.optim.lrr=1"],
            "unknown config key 'optim.lrr': did you mean 'opti",
        ),
        (["--config.optim.lr=fast"], "'optim.lr' expects a number, got 'fast'"),
        (["--config.optm.lr=1"], "unknown config key 'optm': did you mean 'optim'?"),
        (["--config.optim.lr"], "'--config.optim.lr' has no value"),
        (["--config.train.steps=1.5"], "'train.steps' expects a whole number, got 1.5"),
        (
            ["--config.task.name=gan"],
            "'task.name': unknown task 'gan': did you mean 'vqgan'?",
        ),
        (["--config.model.width=3"], "unknown config key 'model.width': did you mean"),
        (["--config.task.method=em"], "section 'task': method is 'em', expected one"),
        (
            ["--config.mesh.data=7"],
            "mesh 7 x 1 x 1 (data, fsdp, tensor) does not cover",
        ),
        (
            ["--config.train.batch_size=12", "--config.train.accumulate=5"],
            "into 5 parts",
        ),
        (["--config.optim.lr=-1"], "config section 'optim': "),
        (["--config.model.image_size=18"], "section 'model': image_size 18 is no mult"),
        (
            ["--config.model.strides=(2,)"],
            "section 'model': widths (8, 16) and strides",
        ),
        ([], "missing is not a data set (no manifest.json)"),
        (["--stesp", "3"], "unexpected argument '--stesp'"),
    ],
)
def test_configs(capsys, here, words, message):
    (here / "run.py").write_text(CONFIG)
    words = ["train", "--config", "run.py", "--workdir", "run", *words]
    check(capsys, here, words, message)


LM_CONFIG = """
def get_config(arg=""):
    return {
        "task": {"name": "lm"},
        "model": {"width": 32, "depth": 1, "heads": 2},
        "data": {"path": "missing", "tokenizer": "tok", "text": "text.model"},
    }
"""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--config.model.heads=5"], "width 32 is no multiple of heads 5"),
        (["--config.model.dtype=float8"], "expects one of 'float32', 'bfloat16', 'flo"),
        (["--config.sample.promts=('a',)"], "did you mean 'sample.prompts'?"),
        (["--config.sample.prompts=3"], "'sample.prompts' expects a list, got 3"),
        (["--config.data.text="], "config key 'data.text' is required for task lm"),
        ([], "no model 'tok': give a model folder or one of: clip-icons, clip-"),
    ],
)
def test_transformer_configs(capsys, here, words, message):
    (here / "run.py").write_text(LM_CONFIG)
    words = ["train", "--config", "run.py", "--workdir", "run", *words]
    check(capsys, here, words, message)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("no.py", None, "cannot read config no.py: No such file"),
        ("bad.py", "def get_config(:", "config bad.py is not valid Python"),
        ("empty.py", "", "config empty.py has no function get_config"),
        ("fails.py", "def get_config(): return {}['x']", "fails.py failed: KeyError"),
        ("flat.py", "def get_config(): return {'lr': 1}", "unknown config key 'lr'"),
        ("bad.json", '{"optim": {"lr":', "config bad.json is not JSON"),
        ("list.json", "[1, 2]", "config list.json holds no sections"),
    ],
)
def test_config_files(capsys, here, name, content, message):
    if content is not None:
        (here / name).write_text(content)
    words = ["train", "--config", name, "--workdir", "run", "--config.optim.lr=1"]
    check(capsys, here, words, message)


def test_workdirs(capsys, here):
    (here / "run.py").write_text(CONFIG)
    (here / "file").write_text("")
    words = ["train", "--config", "run.py", "--workdir", "file"]
    check(capsys, here, words, "cannot write to file")
    check(
        capsys, here, ["export", "nowhere", "--out", "m"], "cannot read config nowhere"
    )
    (here / "run").mkdir()
    (here / "run" / "config.json").write_text('{"task": {"name": "vq"}}')
    check(capsys, here, ["export", "run", "--out", "model"], "run")


def damage(folder, name, content):
    path = folder / name
    if content is None:
        path.unlink()
    elif isinstance(content, int):
        path.write_bytes(path.read_bytes()[:content])
    else:
        path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", None, "model is not a model folder: it has no config.json"),
        ("config.json", b"<html>", "config model/config.json is not JSON"),
        ("config.json", b"[]", "config model/config.json holds no sections"),
        ("config.json", b'{"format": 99}', "is format 99 of family None"),
        (
            "config.json",
            b'{"format": 1, "family": "cogview"}',
            "does not fit its config",
        ),
        (
            "transformer.safetensors",
            None,
            "cannot read weights model/transformer.safet",
        ),
        (
            "transformer.safetensors",
            200,
            "not a safetensors file (it is damaged or cut",
        ),
        ("transformer.safetensors", b"", "not a safetensors file (it is empty)"),
        ("tokenizer.safetensors", b"<html>", "it looks like an HTML page"),
        (
            "tokenizer.safetensors",
            b"version https://git-lfs",
            "it is a git-lfs pointer",
        ),
        ("text.model", None, "cannot read tokenizer model/text.model: No such file"),
        ("text.model", b"<html>", "model/text.model is not a SentencePiece model"),
    ],
)
def test_model_folders(capsys, here, nano_folder, name, content, message):
    shutil.copytree(nano_folder, here / "model")
    damage(here / "model", name, content)
    check(capsys, here, [*GENERATE, "--model", "model"], message)


def test_models_that_are_not_there_or_too_small(capsys, here, nano_folder):
    check(capsys, here, [*GENERATE, "--model", "emojy"], "no model 'emojy'")
    (here / "ok.png").write_bytes(png())
    words = [*GENERATE, "--model", str(nano_folder), "--image-prompt", "ok.png"]
    check(capsys, here, [*words, "--rows", "9"], "rows is 9, expected 1 to 4")
    words = ["evaluate", str(nano_folder), "--data", "nowhere", "--json", "f.json"]
    check(capsys, here, words, "nowhere")


def test_text_for_a_tokenizer(capsys, here):
    words = ["tokenizer", "train", "--out", "t.model", "--vocab-size"]
    check(
        capsys, here, [*words, "300", "--text", "no.txt"], "text file no.txt: No such"
    )
    (here / "few.txt").write_text("a cat\n")
    check(capsys, here, [*words, "9000", "--text", "few.txt"], "9000 is too large")
    check(capsys, here, [*words, "257", "--text", "few.txt"], "257 is too small")
    check(capsys, here, [*words, "12", "--text", "few.txt"], "12 is too small")
    check(capsys, here, [*words, "1", "--text", "few.txt"], "from 2 to")
    check(capsys, here, [*words, "300", "--data", "nowhere"], "nowhere")
    (here / "latin.txt").write_bytes(b"caf\xe9")
    check(capsys, here, [*words, "300", "--text", "latin.txt"], "is not UTF-8 text")
    words = ["tokenizer", "train", "--vocab-size", "300", "--text", "few.txt", "--out"]
    check(capsys, here, [*words, "t.txt"], "a name that ends in .model, got t.txt")


def test_folders_that_are_no_data_set(capsys, here):
    (here / "src").mkdir()
    words = ["data", "folder", "src", "--out", "out"]
    check(capsys, here, words, "src")
    check(capsys, here, ["data", "folder", "nowhere", "--out", "out"], "nowhere")
    check(capsys, here, ["data", "show", "nowhere"], "nowhere")
    check(capsys, here, ["data", "show", "src"], "src")
    check(capsys, here, ["data", "show", "src", "--out", "x.txt"], "got x.txt")
    (here / "src" / "manifest.json").write_text("{}")
    check(capsys, here, ["data", "show", "src"], "manifest.json")


@pytest.mark.parametrize("name", IMAGES)
def test_folders_with_too_many_broken_pictures(capsys, here, name):
    (here / "src").mkdir()
    for i in range(4):
        (here / "src" / f"{i}.png").write_bytes(png() if i else IMAGES[name])
        (here / "src" / f"{i}.txt").write_text("a cat\n")
    check(capsys, here, ["data", "folder", "src", "--out", "out"], "0.png")


def test_archives_that_climb_out(capsys, here):
    with tarfile.open(here / "evil.tar", "w") as tar:
        for name, data in (("../../evil.png", png()), ("../../evil.txt", b"a cat")):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        tar.addfile(tarfile.TarInfo("alone.txt"))
    check(capsys, here, ["data", "folder", "evil.tar", "--out", "out"], "alone: no ima")
    words = ["data", "folder", "evil.tar", "--out", "out", "--budget", "0.5"]
    assert cli.main(words) == 0
    assert {p.name for p in here.iterdir()} == {"evil.tar", "out"}
    assert not list(here.parents[1].glob("evil*"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--styles", "nostyle"], "nostyle"),
        (["--tier", "npm", "--npm-dir", "nowhere"], "nowhere"),
        (["--size", "3"], "from 8 to 1024, got '3'"),
        (["--tier", "gold"], "unknown --tier 'gold'"),
    ],
)
def test_emoji_sets(capsys, here, words, message):
    check(capsys, here, ["data", "emoji", "--out", "out", *words], message)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--n", "19"], "a whole number from 20 to 10000000, got '19'"),
        (["--size", "16"], "a whole number from 32 to 256, got '16'"),
        (["--size", "512"], "a whole number from 32 to 256, got '512'"),
        (["--seed=-1"], "argument --seed: expects a whole number from 0"),
        (["--styles", "noto"], "unexpected argument '--styles'"),
    ],
)
def test_shapes_sets(capsys, here, words, message):
    check(capsys, here, ["data", "shapes", "--out", "out", *words], message)


def test_shapes_in_the_way(capsys, here):
    (here / "out").mkdir()
    (here / "out" / "mine.txt").write_text("x")
    message = "out is not empty and not a data set"
    check(capsys, here, ["data", "shapes", "--out", "out"], message)
