"""`cogjax evaluate human` as a command: a page, its answers, and mistakes."""

import json

import pytest

from cogjax import cli
from cogjax.data.images import encode_png
from cogjax.evaluate.human.study import read_key
from tests.evaluate.human.simulated import Crowd, answer_files


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Three folders as `cogjax generate` leaves them, of the same two prompts."""
    import numpy as np

    top = tmp_path_factory.mktemp("folders")
    for grey, name in enumerate(("left", "right", "small")):
        folder = top / name
        folder.mkdir()
        images = []
        for i in range(2 if grey < 2 else 1):
            pixels = np.full((8, 8, 3), 80 * grey + i, np.uint8)
            (folder / f"{i}.png").write_bytes(encode_png(pixels))
            images.append({"file": f"{i}.png", "prompt": f"prompt {i}"})
        (folder / "generation.json").write_text(json.dumps({"images": images}))
    (top / "other").mkdir()
    (top / "other" / "a.png").write_bytes(encode_png(pixels))
    (top / "other" / "a.txt").write_text("something else")
    (top / "prompts.txt").write_text("counting\tprompt 0\nprompt 1\n")
    return top


def human(*words):
    return cli.main(["evaluate", "human", *map(str, words)])


def test_a_page_and_what_was_said(folders, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(folders)
    words = ["--form", "votes", "--models", "left", "right/", "--checks", 2]
    assert human(*words, "--out", tmp_path / "page") == 0
    said = capsys.readouterr().out
    assert "page.html: 4 screens of 2 prompts" in said and "must not get it" in said
    study = read_key(tmp_path / "page" / "key.json")
    assert study.models == ("left", "right")
    files = answer_files(study, Crowd((3.0, 0.0), careless=0), 3, 0)
    (tmp_path / "sent").mkdir()
    for name, data in files.items():
        (tmp_path / "sent" / name).write_bytes(data)
    (tmp_path / "sent" / "photo.json").write_bytes(b"\x89PNG")
    words = ["--analyse", tmp_path / "page", tmp_path / "sent"]
    out = tmp_path / "report"
    assert human(*words, "--out", out) == 0
    said = capsys.readouterr().out
    for part in ("left : right", "realism", "1 files left out:", "photo.json: no file"):
        assert part in said
    report = json.loads((out / "report.json").read_text())
    assert len(report["raters"]) == 3 and report["left_out"][0][0] == "photo.json"
    assert "left : right" in (out / "report.html").read_text()
    assert human(*words, "--out", out) == 2
    assert "report.json is there already" in capsys.readouterr().err
    assert human(*words, "--out", out, "--overwrite") == 0


def test_a_file_of_prompts_with_categories(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(folders)
    words = ["--form", "scores", "--models", "left", "right", "--out", tmp_path / "p"]
    assert human(*words, "--prompts-file", "prompts.txt", "--checks", 0) == 0
    study = read_key(tmp_path / "p" / "key.json")
    assert [p.category for p in study.prompts] == ["counting", ""]


@pytest.mark.slow
def test_models_draw_our_prompts(nano_folder, tmp_path, capsys):
    words = ["--form", "votes", "--models", nano_folder, "emoji", "--n", 2]
    assert human(*words, "--language", "zh", "--out", tmp_path / "p") == 0
    first = (tmp_path / "p" / "page.html").read_bytes()
    assert human(*words, "--language", "zh", "--out", tmp_path / "p") == 0
    assert (tmp_path / "p" / "page.html").read_bytes() == first
    capsys.readouterr()
    assert human(*words, "--out", tmp_path / "p") == 2
    assert "something else: language is " in capsys.readouterr().err


TWO = "--models left right"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give --form FORM --models A B ... --out PAGE for a page, or --analyse"),
        (f"{TWO} --analyse page", "give --form FORM --models A B ... --out PAGE for"),
        (TWO, "a page needs --form FORM, --models A B ... and --out PAGE"),
        (f"--form votes {TWO}", "a page needs --form FORM"),
        (f"--form vote {TWO} --out o", "unknown --form 'vote': did you mean 'votes'"),
        ("--form votes --models left --out o", "--models expects two or more"),
        ("--form votes --models left left --out o", "two models are called 'left'"),
        ("--form votes --models left gone --out o", "no model 'gone': give a model"),
        ("--form votes --models left clip-shapes --out o", "does not generate images"),
        ("--form votes --models left other --out o", "have no prompt in common"),
        (f"--form votes {TWO} --out o --n 3", "--n 3: there are 2 prompts"),
        (f"--form votes {TWO} --out o --num-images 2", "fewer than 2 images of 2 of 2"),
        (f"--form votes {TWO} --out o --keep 1", "--keep is for --analyse"),
        (f"--form votes {TWO} --out left", "left is not empty and holds no evaluation"),
        (
            f"--form votes {TWO} --out o --prompts-file no",
            "cannot read prompts file no",
        ),
        ("--analyse left", "--analyse PAGE needs the answers too"),
        ("--analyse left left", "cannot read the key left/key.json"),
        ("--analyse left a --seed 3", "--seed is for making a page: leave it out"),
        ("--analyse left a --form votes", "--form is for making a page"),
    ],
)
def test_mistakes(words, message, folders, monkeypatch, capsys):
    monkeypatch.chdir(folders)
    assert human(*words.split()) == 2
    *_, line = capsys.readouterr().err.splitlines()
    assert line.startswith("cogjax: error: ") and message in line
    assert not (folders / "o").exists()
