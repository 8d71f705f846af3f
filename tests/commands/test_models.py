"""Which models there are and what one can do; a training run stands for its export."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

import cogjax
from cogjax import cli, model_folder
from cogjax.commands import models
from cogjax.commands.table import print_facts, print_table, sized
from cogjax.errors import UserError
from cogjax.evaluate.report.columns import columns


@pytest.fixture
def run(nano_folder, tmp_path):
    """Folder of a training run that has ended, and has nothing else in it."""
    shutil.copytree(nano_folder, tmp_path / "runs" / "lm" / "export")
    (tmp_path / "runs" / "lm" / "checkpoints").mkdir()
    (tmp_path / "runs" / "lm" / "config.json").write_text('{"task": {"name": "lm"}}')
    return tmp_path / "runs" / "lm"


def test_shipped_models_are_listed(capsys):
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    columns = ["name", "family", "networks", "size", "measured", "what"]
    assert lines[0].split() == columns
    names = [line.split()[0] for line in lines[1 : lines.index("")]]
    assert names == list(model_folder.shipped())
    emoji = next(line for line in lines if line.startswith("emoji"))
    assert "12.1 MB" in emoji and "cogview" in emoji and emoji == emoji.rstrip()


def test_brackets_are_explained_where_there_are_some(run, capsys, monkeypatch):
    assert cli.main(["models"]) == 0
    assert "\nBrackets are 95 % intervals. `cogjax info" in capsys.readouterr().out
    monkeypatch.setattr(model_folder, "shipped", dict)
    assert cli.main(["models", str(run)]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "`cogjax info NAME` says more of one."


def test_runs_and_models_of_folders_are_listed(run, capsys):
    (run.parent / "notes").mkdir()
    (run.parent / "other").mkdir()
    (run.parent / "other" / "config.json").write_text("not JSON")
    assert cli.main(["models", str(run.parent), "--json"]) == 0
    *_, last = json.loads(capsys.readouterr().out)
    assert last["name"] == str(run) and last["networks"] == "vqvae, image_lm"
    size = sum(path.stat().st_size for path in (run / "export").iterdir())
    assert last["size"] == size
    assert cli.main(["models", str(run.parent / "notes")]) == 2
    assert "holds no model" in capsys.readouterr().err
    assert cli.main(["models", "nowhere"]) == 2
    assert "there is no folder nowhere" in capsys.readouterr().err


def test_a_damaged_model_hides_no_other(run, nano_folder, capsys):
    broken = run.parent / "broken"
    shutil.copytree(nano_folder, broken)
    stored = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(stored | {"family": "x"}))
    assert cli.main(["models", str(run.parent), "--json"]) == 0
    first, last = json.loads(capsys.readouterr().out)[-2:]
    assert first["name"] == str(broken) and last["family"] == "cogview"
    assert first["family"] == "(damaged)" and "of family 'x'" in first["what"]
    assert cli.main(["models", str(broken)]) == 2
    said = capsys.readouterr()
    assert "emoji" in said.out and "no model could be read: " in said.err


def test_a_run_is_a_model(run, nano_model):
    assert model_folder.find(run) == run / "export"
    assert cogjax.load(run).model.text == nano_model.model.text
    assert model_folder.find_text(run) == run / "export" / "text.model"
    shutil.rmtree(run / "export")
    with pytest.raises(UserError, match="run without an export: it has not ended"):
        cogjax.load(run)


def test_info_says_what_a_model_can(run, capsys):
    assert cli.main(["info", str(run)]) == 0
    said = capsys.readouterr().out
    lines = [line.partition("  ") for line in said.splitlines()]
    facts = {name: value.strip() for name, _, value in lines}
    assert facts["can"] == "generate, caption, score"
    assert facts["images"] == "16 x 16 pixels, 4 x 4 of 32 codes"
    assert facts["text"].startswith("285 pieces, the first ")
    assert facts["languages"] == "English, Chinese"
    assert "figures" not in facts and "temperature, top_k" in facts["settings"]


@pytest.mark.parametrize("name", model_folder.shipped())
def test_the_measured_figure_is_that_of_the_card(name, capsys):
    """The card has the line itself, and the figure in one of its tables too."""
    assert cli.main(["info", name]) == 0
    lines = capsys.readouterr().out.splitlines()
    line = next(x for x in lines if x.startswith("measured")).partition("  ")[2].strip()
    folder = model_folder.find(name)
    text = " ".join((folder / "card.md").read_text("utf-8").split())
    assert f"What `cogjax models` shows: {line}. " in text
    found = json.loads((folder / "config.json").read_text("utf-8"))["card"]["measured"]
    value = str(found["percent"])
    shown = f"{found['interval']}" if "interval" in found else ""
    assert f"{value} % {shown}".strip() in line
    rows = [
        x for x in (folder / "card.md").read_text("utf-8").splitlines() if x[:1] == "|"
    ]
    assert any(value in row and shown in row for row in rows)
    assert f"(n {found['n']:,} {found['of']}; judge: {found['judge']})" in line


def test_other_cards_are_shown_as_they_are(nano_model, tmp_path, capsys):
    model = dataclasses.replace(nano_model.model, card={"measured": ["FID", 9.5]})
    model_folder.save(model, tmp_path / "own")
    assert cli.main(["info", str(tmp_path / "own")]) == 0
    assert "measured   ['FID', 9.5]" in capsys.readouterr().out
    other = model.with_component("tokenizer", model["tokenizer"])
    assert "measured" in model.card and "measured" not in other.card


@pytest.mark.parametrize(
    ("name", "can"),
    [
        ("shapes-ernie", ["generate", "caption", "ask", "score"]),
        ("shapes-dalle", ["generate"]),
        ("clip-shapes", ["score", "judge"]),
    ],
)
def test_info_of_shipped_models(name, can, capsys):
    assert cli.main(["info", name, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["can"] == can and found["licences"] == ["Apache-2.0"]
    assert found["figures"].endswith("card.md")
    weights = sum(part["parameters"] for part in found["networks"])
    stored = sum(x for k, x in found["files"].items() if k.endswith("safetensors"))
    assert 2 * weights < stored < 2.1 * weights  # float16


def test_an_image_tokenizer_is_no_whole_model(nano_model, tmp_path, capsys):
    whole = nano_model.model
    parts = {"tokenizer": whole["tokenizer"]}
    model_folder.save(type(whole)("", parts), tmp_path / "vq")
    assert cli.main(["info", str(tmp_path / "vq")]) == 0
    said = capsys.readouterr().out
    assert "encode, decode" in said and "none: networks without a pipeline" in said


def test_info_reads_no_weights(run, capsys):
    """But for their shapes: a large model is described at once."""
    path = run / "export" / "transformer.safetensors"
    data = bytearray(path.read_bytes())
    data[-4:] = b"\xff\xff\xff\xff"  # NaN, and another sha256.
    path.write_bytes(data)
    assert cli.main(["info", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["can"][0] == "generate"
    path.write_bytes(data[:-4])
    assert cli.main(["info", str(run)]) == 2
    assert "are not a safetensors file" in capsys.readouterr().err
    path.unlink()
    assert cli.main(["info", str(run)]) == 2
    assert "cannot read weights" in capsys.readouterr().err


def test_a_pipeline_that_looks_at_weights_gets_them(run, capsys, monkeypatch):
    load = models._abilities

    def looking(model, family):
        np.asarray(model["tokenizer"].state["codebook"])
        return load(model, family)

    monkeypatch.setattr(models, "_abilities", looking)
    assert cli.main(["info", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["can"][0] == "generate"


def test_a_data_set_is_no_model(tmp_path, capsys):
    (tmp_path / "manifest.json").write_text("{}")
    assert cli.main(["info", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert f"is a data set and no model: `cogjax data show {tmp_path}`" in said


def test_tables_are_read_by_people(capsys):
    print_table(["name", "n"], [["[red]猫", 1234], ["b", 5]])
    assert capsys.readouterr().out == "name         n\n[red]猫  1,234\nb            5\n"
    print_table(["what"], [["a\x1b[31m\nb\u3000\x9bc"], ["d\u202e"]])
    assert capsys.readouterr().out == "what\na?[31m b ?c\nd?\n"
    print_facts({"a\x1b": "b\r\nc"})
    assert capsys.readouterr().out == "a?  b  c\n"
    assert columns([["a\x1b", "b\n"], ["c", "d"]]) == "a?  b\nc   d"
    assert [sized(n) for n in (7, 12_100, 12_100_000)] == [
        "7 bytes",
        "12.1 kB",
        "12.1 MB",
    ]
