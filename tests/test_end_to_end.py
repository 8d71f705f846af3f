"""From pictures in a folder to pictures from a prompt, by commands alone."""

import json

import pytest
from PIL import Image

from cogjax import cli

TOKENIZER = """
def get_config(arg=""):
    model = {"image_size": 16, "widths": (8, 16), "code_dim": 8, "codebook_size": 32}
    model |= {"strides": (2, 2), "res_blocks": 1, "res_width": 8}
    train = {"steps": 4, "batch_size": 8, "save_every": 2, "sample_every": 4}
    return {
        "task": {"name": "vq"},
        "model": model,
        "data": {"path": "set"},
        "train": train,
    }
"""
TRANSFORMER = """
def get_config(arg=""):
    return {
        "task": {"name": "lm"},
        "model": {"width": 32, "depth": 2, "heads": 2, "text_len": 8},
        "data": {"path": "set", "tokenizer": "vq/export", "text": "text.model"},
        "train": {"steps": 2, "batch_size": 8, "sample_every": 4},
        "sample": {"prompts": ("a red square",), "num_images": 2},
    }
"""
COLOURS = {"red": "红色", "green": "绿色", "blue": "蓝色", "yellow": "黄色"}


def run(*words):
    assert cli.main(list(words)) == 0


@pytest.mark.slow
def test_folder_to_pictures(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "src").mkdir()
    for colour, chinese in COLOURS.items():
        for i in range(20):
            Image.new("RGB", (20, 20 + i), colour).save(f"src/{colour}{i}.png")
            captions = f"a {colour} square {i % 3}\n{chinese}的方块\n"
            (tmp_path / "src" / f"{colour}{i}.txt").write_text(captions, "utf-8")
    (tmp_path / "vq.py").write_text(TOKENIZER)
    (tmp_path / "lm.py").write_text(TRANSFORMER)
    run("data", "folder", "src", "--out", "set", "--size", "16", "--val", "0.2")
    run("data", "show", "set")
    run(*"tokenizer train --data set --vocab-size 285 --out text.model".split())
    run("train", "--config", "vq.py", "--workdir", "vq")
    run("train", "--config", "lm.py", "--dry-run")
    assert "parameters: " in capsys.readouterr().out
    run("train", "--config", "lm.py", "--workdir", "lm")
    run("train", "--config", "lm.py", "--workdir", "lm", "--config.train.steps=4")
    assert "resuming at step 2" in capsys.readouterr().out
    run("export", "lm", "--out", "model", "--dtype", "float16")
    run("generate", "a red square", "--model", "model", "--out", "out")
    record = json.loads((tmp_path / "out" / "generation.json").read_text("utf-8"))
    for image in record["images"]:
        with Image.open(tmp_path / "out" / image["file"]) as picture:
            assert picture.size == (16, 16)
    picture = str(tmp_path / "out" / record["images"][0]["file"])
    run("caption", picture, "--model", "model")
    run("score", picture, "红色的方块", "--model", "model")
    assert float(capsys.readouterr().out.splitlines()[-1]) > 0
