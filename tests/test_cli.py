"""The command line: instant help, what generate writes, one line for a mistake."""

import errno
import json
import os
import resource
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

import cogjax
from cogjax import cli
from cogjax.commands import attention_map
from cogjax.commands.examples import EXAMPLES
from cogjax.data.word_list import WordList
from cogjax.errors import UserError
from cogjax.files import slug, write_numbered
from cogjax.pipelines.contracts import Generation


class FakeModel:
    """Draws one grey level an image and remembers what it was asked for."""

    card, knows = {"name": "fake", "version": "1"}, False  # No list of words.

    def __init__(self):
        self.calls = []

    def shape_for(self, aspect, size=None):
        return 2, 2

    def generate(self, request, progress):
        self.calls.append(request)
        progress(0, 1, "generating")
        progress(1, 1, "generating")
        lead = (len(request.prompts), request.num_images)
        pixels = np.arange(lead[0] * lead[1], dtype=np.uint8).reshape(*lead, 1, 1, 1)
        pixels = np.broadcast_to(pixels, (*lead, 8, 8, 3))
        codes = np.arange(4 * lead[0] * lead[1], dtype=np.int32).reshape(*lead, 2, 2)
        scores = np.full(lead, 0.5, np.float32) if request.rerank else None
        unseen = self.unseen(request.prompts)
        return Generation(request.prompts, pixels, codes, scores, unseen=unseen)

    def settings(self, request):
        return {"temperature": 0.5, "num_images": request.num_images}

    def encode(self, images):
        raise NotImplementedError

    check = decode = encode

    def caption(self, images, language, **search):
        self.calls.append(search)
        return [f"{language} {len(image)}" for image in images]

    def ask(self, images, question, **search):
        self.calls.append(search)
        return [f"{question} {len(images[0])}"]

    def score(self, images, texts):
        return np.array([len(text) for text in texts], np.float32)

    def unseen(self, texts):
        return WordList.of(["a", "red", "apple"]).unseen(texts) if self.knows else ()


@pytest.fixture
def model(monkeypatch):
    fake = FakeModel()
    monkeypatch.setitem(vars(cogjax), "load", lambda name, **settings: fake)
    return fake


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "in" / "picture.png"
    path.parent.mkdir()
    Image.new("RGB", (10, 12), "red").save(path)
    return str(path)


def children_seconds():
    """Processor time, which other work on the machine does not lengthen."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", EXAMPLES)
def test_help_is_instant(command):
    words = [sys.executable, "-m", "cogjax.cli", *command.split(), "--help"]
    for _ in range(3):
        start = children_seconds()
        run = subprocess.run(words, capture_output=True, text=True)
        assert run.returncode == 0 and run.stderr == ""
        assert f"usage: cogjax {command}".strip() in run.stdout
        seconds = children_seconds() - start
        if seconds < 0.3:
            return
    pytest.fail(f"{seconds:.2f} s, three times 0.3 or more")


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"cogjax {cogjax.__version__}\n"


def test_generate_writes_pictures_grid_and_record(model, tmp_path, capsys):
    out = tmp_path / "new" / "pictures"
    words = ["generate", "一只猫的线稿", "--out", str(out), "--num-images", "2"]
    assert cli.main([*words, "a red apple, 3D", "--seed", "7", "--top-k=9"]) == 0
    [request] = model.calls
    assert request.prompts == ("一只猫的线稿", "a red apple, 3D")
    assert (request.num_images, request.seed, request.top_k) == (2, 7, 9)
    names = ["一只猫的线稿-1.png", "一只猫的线稿-2.png"]
    names += ["a-red-apple-3d-1.png", "a-red-apple-3d-2.png"]
    assert {p.name for p in out.iterdir()} == {*names, "grid.png", "generation.json"}
    assert [Image.open(out / name).getpixel((0, 0))[0] for name in names] == [
        0,
        1,
        2,
        3,
    ]
    record = json.loads((out / "generation.json").read_text("utf-8"))
    expected = {"name": "emoji", "weights": "float32", "card": model.card}
    assert record["model"] == expected
    assert record["seed"] == 7
    own = {"temperature": 0.5, "num_images": 2}
    assert record["settings"] == own | {"image_prompt": None, "rows": None}
    assert record["prompts"] == ["一只猫的线稿", "a red apple, 3D"]
    assert [image["file"] for image in record["images"]] == names
    assert record["images"][3]["prompt"] == "a red apple, 3D"
    assert record["images"][3]["codes"] == [[12, 13], [14, 15]]
    assert record["images"][3]["score"] is None
    own = json.loads(Image.open(out / names[0]).text["cogjax"])
    assert own["model"] == expected and own["seed"] == 7
    assert {"file": names[0]} | own == record["images"][0] | own
    assert own["prompt"] == "一只猫的线稿" and own["codes"] == [[0, 1], [2, 3]]
    shown = capsys.readouterr()
    assert "4 images, grid.png and generation.json" in shown.out
    assert "generating: 1 of 1" in shown.err


def test_a_stage_of_a_cascade_may_have_its_own_values(model, tmp_path, capsys):
    words = ["generate", "cat", "--out", str(tmp_path), "--num-images", "1"]
    assert (
        cli.main([*words, "--guidance", "5,1.5", "--steps=8", "--percentile=0,99"]) == 0
    )
    [request] = model.calls
    assert request.guidance == (5, 1.5) and request.steps == 8
    assert request.percentile == (0, 99)
    assert cli.main([*words, "--guidance", "5,x"]) == 2
    assert "expects a number from 0 to 100, got 'x'" in capsys.readouterr().err
    assert cli.main([*words, "--percentile", "0.995"]) == 2
    assert "percentile is 0.995, of 100: the paper has" in capsys.readouterr().err


def test_an_image_to_start_from(model, picture, tmp_path, capsys):
    words = ["generate", "cat", "--out", str(tmp_path / "out"), "--num-images", "1"]
    assert cli.main([*words, "--strength", "0.6"]) == 2
    assert "or --strength T: give both" in capsys.readouterr().err
    words += ["--image-prompt", picture, "--strength", "0.6"]
    assert cli.main(words) == 0 and cli.main([*words, "--rows", "1"]) == 0
    plain, kept = model.calls
    assert plain.strength == kept.strength == 0.6 and plain.image.size == (10, 12)
    assert plain.keep is None and kept.keep.tolist() == [[True, True], [False, False]]
    record = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))
    assert record["settings"]["strength"] == 0.6


def test_a_second_run_overwrites_nothing(model, tmp_path):
    words = ["generate", "cat", "--out", str(tmp_path), "--num-images", "1"]
    assert cli.main(words) == 0
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert cli.main([*words, "--rerank", "3"]) == 0
    assert {name: (tmp_path / name).read_bytes() for name in before} == before
    new = {p.name for p in tmp_path.iterdir()} - set(before)
    assert new == {"cat-2.png", "grid-2.png", "generation-2.json"}
    record = json.loads((tmp_path / "generation-2.json").read_text())
    assert record["images"][0]["file"] == "cat-2.png"
    assert record["images"][0]["score"] == 0.5


def test_generate_reads_prompts_and_continues_a_picture(model, tmp_path, picture):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("\ufeffa cat\n\n 房子 \r\n", "utf-8")
    words = ["generate", "--prompts-file", str(prompts), "--out", str(tmp_path / "out")]
    words += ["--image-prompt", picture]
    assert cli.main([*words, "--rows", "1"]) == 0
    mask = tmp_path / "mask.png"
    Image.fromarray(np.uint8([[0, 255], [255, 0]])).resize((9, 9), 0).save(mask)
    assert cli.main([*words, "--keep", str(mask)]) == 0
    of_rows, masked = model.calls
    assert of_rows.prompts == ("a cat", "房子")
    assert of_rows.image.size == (10, 12)
    assert of_rows.keep.tolist() == [[True, True], [False, False]]
    assert masked.keep.tolist() == [[False, True], [True, False]]


def test_a_model_that_cannot_says_so(monkeypatch, tmp_path, picture, capsys):
    monkeypatch.setitem(vars(cogjax), "load", lambda name, **settings: object())
    for words, what in (
        (["caption", picture], "read"),
        (["score", picture, "a"], "score"),
        (["ask", picture, "?"], "read"),
    ):
        assert cli.main(words) == 2
        assert f"this model does not {what} images" in capsys.readouterr().err
    assert cli.main(["generate", "a", "--out", str(tmp_path / "out")]) == 2
    assert "this model does not generate images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("a red apple, 3D", "a-red-apple-3d"),
        ("一只猫的线稿", "一只猫的线稿"),
        ("../../etc/passwd", "etc-passwd"),
        ("C:\\con|?*\0\n", "c-con"),
        ("😀!?", "image"),
        ("Ａ１", "a1"),
        ("हिन्दी", "हिन्दी"),
        ("x" * 500, "x" * 120),
        ("猫" * 500, "猫" * 40),
    ],
)
def test_slug_is_a_safe_file_name(prompt, name):
    assert slug(prompt) == name


def test_numbers_count_on(tmp_path):
    names = [write_numbered(tmp_path, "grid", ".png", b"").name for _ in range(3)]
    assert names == ["grid.png", "grid-2.png", "grid-3.png"]
    (tmp_path / "cat-2.png").touch()
    names = [write_numbered(tmp_path, "cat", ".png", b"", 1).name for _ in range(2)]
    assert names == ["cat-1.png", "cat-3.png"]


def test_runs_into_one_folder_lose_nothing(tmp_path):
    """All look before any writes, as processes at once do."""
    gate = threading.Barrier(8)

    def write(i):
        found = []
        for j in range(20):
            gate.wait()
            data = f"{i} {j}"
            found.append((write_numbered(tmp_path, "cat", ".png", data, 1), data))
        return found

    with ThreadPoolExecutor(8) as pool:
        written = [pair for pairs in pool.map(write, range(8)) for pair in pairs]
    assert len({path for path, _ in written}) == 160
    assert all(path.read_text() == data for path, data in written)
    assert len(list(tmp_path.iterdir())) == 160


def test_caption_and_score(model, picture, tmp_path, capsys):
    assert cli.main(["caption", picture, "--language", "zh"]) == 0
    assert capsys.readouterr().out == "zh 12\n"
    out = tmp_path / "captions.json"
    assert cli.main(["caption", picture, picture, "--json", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[1] == f"{picture}: None 12"
    assert json.loads(out.read_text())[0] == {"file": picture, "caption": "None 12"}
    assert cli.main(["score", picture, "a cat"]) == 0
    assert capsys.readouterr().out == "5.0000 nats a text token\n"


def test_words_that_the_model_has_not_seen_are_said(model, picture, tmp_path, capsys):
    generate = ["generate", "a red Zyzzyva, 龘", "an apple", "--out", str(tmp_path)]
    commands = generate, ["score", picture, "zyzzyva"], ["ask", picture, "red? 龘"]
    for words in commands:
        assert cli.main(words) == 0
    assert "not seen" not in capsys.readouterr().err
    model.knows = True
    said = []
    for words in commands:
        assert cli.main(words) == 0
        said.append(capsys.readouterr().err.splitlines()[-1])
    start = "the model has not seen: "
    wanted = "zyzzyva, 龘, an", "zyzzyva", "龘"
    assert said == [f"{start}{words}" for words in wanted]
    letters = " ".join(f"w{i}" for i in range(23))
    assert cli.main(["score", picture, letters]) == 0
    assert capsys.readouterr().err.endswith("w18, w19 and 3 more\n")


def test_ask_and_how_a_text_is_chosen(model, picture, capsys):
    assert cli.main(["ask", picture, " what? ", "--beams", "3"]) == 0
    assert capsys.readouterr().out == "what? 12\n"
    words = ["--temperature", "0.5", "--seed", "4"]
    assert cli.main(["caption", picture, *words]) == 0
    chosen = {"beams": 3, "length_penalty": 1.0, "temperature": 0.0, "seed": 0}
    drawn = {"beams": 1, "length_penalty": 1.0, "temperature": 0.5, "seed": 4}
    assert model.calls == [chosen, drawn | {"rerank": False}]
    assert cli.main(["caption", picture, "--beams", "3", "--rerank"]) == 0
    assert model.calls[-1] == chosen | {"rerank": True}
    capsys.readouterr()
    assert cli.main(["caption", picture, "--rerank"]) == 2
    assert "give --beams 2 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "size"), [("TextTokenizer", 280), ("WordPieceTokenizer", 14)]
)
def test_tokenizer_train_from_text(kind, size, tmp_path, capsys):
    from cogjax.data.text_files import load_text

    text = tmp_path / "captions.txt"
    text.write_text("a cat\n一只猫\na red apple\n" * 9, "utf-8")
    out = tmp_path / "text.model"
    words = ["tokenizer", "train", "--text", str(text), "--out", str(out)]
    words += ["--kind", "wordpiece"] if size < 280 else []
    assert cli.main([*words, "--lower-case", "--vocab-size", str(size)]) == 0
    found = load_text(out)
    assert type(found).__name__ == kind and found.size == size
    assert found.encode("A CAT") == found.encode("a cat")
    assert f"{size} pieces from 27 captions" in capsys.readouterr().out


def test_train_reads_overrides_wherever_they_stand(tmp_path, monkeypatch, capsys):
    from cogjax.stages import run as launch

    config = tmp_path / "run.py"
    config.write_text("def get_config(arg=''): return {'optim': {'lr': 1.0}}")
    calls = []
    monkeypatch.setattr(launch, "train", lambda *args: calls.append(args) or "there")
    words = ["train", "--config.optim.lr", "-2", "--config", str(config)]
    words += ["--workdir", str(tmp_path / "run"), "--config.train.steps=5"]
    assert cli.main(words) == 0
    assert calls[0][0] == {"optim": {"lr": -2}, "train": {"steps": 5}}
    assert calls[0][1] == str(tmp_path / "run")
    assert "exported to there" in capsys.readouterr().out


def test_interrupt_has_its_own_status(monkeypatch, capsys, model, tmp_path):
    def interrupted(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(model, "generate", interrupted)
    assert cli.main(["generate", "cat", "--out", str(tmp_path / "out")]) == 130
    assert capsys.readouterr().err == "cogjax: interrupted\n"
    assert not (tmp_path / "out").exists()


def test_programming_errors_are_not_hidden(monkeypatch, model, tmp_path):
    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(model, "generate", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["generate", "cat", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "out of memory: lower the batch size"),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory\nin x"), "Out of memory)"),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left, free"),
        (RuntimeError("Riegeli: File too large [27]"), "cannot write: file too large"),
        (PermissionError(errno.EACCES, "Permission denied", "x.png"), "x.png: Permis"),
    ],
)
def test_limits_of_the_machine_are_one_line(monkeypatch, capsys, error, message):
    def fail(*_):
        raise error

    monkeypatch.setattr(attention_map, "_grid", fail)
    monkeypatch.setattr(cli, "_print_nothing_more", lambda: None)
    assert cli.main(["attention-map", "--out", "x.png"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("cogjax: error: ") and message in line


MACHINE = """
import os, sys
from cogjax import cli
from cogjax.commands import attention_map

def handler(args):
    print("一只猫", os.fsdecode(b"\\xff"))
    if sys.argv[1] == "backend":
        import jax
        jax.devices()

attention_map._attention_map = handler
sys.exit(cli.main(["attention-map"]))
"""


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("ascii", 0, ""),
        ("full", 2, "cogjax: error: cannot write: no space left"),
        ("pipe", 1, ""),
        ("backend", 2, "cogjax: error: JAX finds no 'cuda' here"),
    ],
)
def test_streams_and_devices_of_a_process(kind, status, message):
    """Nothing but the one line, also from Python as it ends."""
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "XLA_FLAGS": ""}
    environment |= {"JAX_PLATFORMS": "cuda"} if kind == "backend" else {}
    words = [sys.executable, "-c", MACHINE, kind]
    read, write = os.pipe()
    os.close(read)
    out = {"full": "/dev/full", "pipe": write}.get(kind, os.devnull)
    if kind == "full" and not os.path.exists(out):
        pytest.skip("no /dev/full here")
    with open(out, "w") as stdout:
        done = subprocess.run(
            words, stdout=stdout, stderr=subprocess.PIPE, env=environment, text=True
        )
    assert done.returncode == status, done.stderr
    lines = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert len(lines) == bool(message) and done.stderr.startswith(message)


def test_an_error_is_printed_as_one_line_of_letters(monkeypatch, capsys):
    def failing(name, **settings):
        raise UserError("first\n  sec\x1b[2Jond")

    monkeypatch.setitem(vars(cogjax), "load", failing)
    assert cli.main(["generate", "cat", "--out", "nowhere"]) == 2
    assert capsys.readouterr().err == "cogjax: error: first sec?[2Jond\n"


def test_a_file_that_appears_meanwhile_is_kept(tmp_path, monkeypatch, capsys):
    """It is not there at the start, and is when the work is done."""
    path = tmp_path / "a.png"
    draw = attention_map._panel

    def late(*args):
        path.write_text("mine")
        return draw(*args)

    words = ["attention-map", "--grid", "4x4", "--text", "2", "--out", str(path)]
    with monkeypatch.context() as patch:
        patch.setattr(attention_map, "_panel", late)
        assert cli.main(words) == 2
    assert path.read_text() == "mine"
    assert "is there already" in capsys.readouterr().err
    assert cli.main([*words, "--overwrite"]) == 0
    assert path.read_bytes().startswith(b"\x89PNG")
    assert [each.name for each in tmp_path.iterdir()] == ["a.png"]


def test_attention_map_shows_what_the_mask_says(tmp_path, capsys):
    out = tmp_path / "map.png"
    words = (
        f"attention-map --grid 4x8 --text 3 --query 9 --kinds row,column --out {out}"
    )
    assert cli.main(words.split()) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[:2] == [
        "row: 9 image + 3 text keys",
        "column: 2 image + 3 text keys",
    ]
    with Image.open(out) as picture:
        pixels = np.asarray(picture)
    # A cell is 32 pixels; the image begins under two rows for the text.
    cells = pixels[16 : 6 * 32 : 32, 16 : 8 * 32 : 32]
    red, blue = (214, 48, 49), (52, 101, 204)
    assert tuple(cells[3, 1]) == red
    seen = {divmod(int(i), 8) for i in np.flatnonzero((cells == blue).all(-1))}
    row = {(2, x) for x in range(1, 8)} | {(3, 0)}
    assert seen == {(0, 0), (0, 1), (0, 2)} | row
