"""--adapter, `cogjax export` of adapters, and `cogjax finetune`."""

import types

import pytest

import cogjax
from cogjax import cli
from cogjax.commands.arguments import _adapter
from cogjax.data.images import encode_png
from cogjax.stages import finetune
from cogjax.stages import run as launch
from tests.test_cli import FakeModel


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("runs/a", ("runs/a", 1.0)),
        ("runs/a:0.5", ("runs/a", 0.5)),
        ("a:b:-2", ("a:b", -2.0)),
        ("a:b", ("a:b", 1.0)),
    ],
)
def test_a_weight_is_behind_the_last_colon(text, found):
    assert _adapter(text) == found


@pytest.mark.parametrize("again", ["one", "./one:2"])
def test_a_folder_is_given_once(again, capsys):
    words = ["evaluate", "emoji", "--adapter", "one:0.5", "--adapter", again]
    assert cli.main(words) == 2
    folder = again.split(":")[0]
    assert f"--adapter: {folder} is given twice" in capsys.readouterr().err


@pytest.fixture
def loaded(monkeypatch):
    """What models were loaded with; a model that draws grey images."""
    calls, model = [], FakeModel()
    model.save = lambda *args: calls.append(args) or args[0]
    model.score = lambda images, texts: [0.5]
    model.unseen = lambda texts: ()
    model.caption = model.ask = lambda images, *texts, **search: ["a cat"]

    def load(source, **settings):
        calls.append((source, settings.get("adapters")))
        return model

    monkeypatch.setattr(cogjax, "load", load)
    return calls


BOTH = ["--adapter", "one:0.5", "--adapter", "two"]
PAIRS = {"one": 0.5, "two": 1.0}


def test_adapters_are_loaded_and_recorded(loaded, tmp_path):
    words = ["generate", "a cat", "--out", str(tmp_path), "--num-images", "1"]
    assert cli.main([*words, *BOTH]) == 0
    assert loaded == [("emoji", PAIRS)]
    assert '"adapters": {"one": 0.5, "two": 1.0}' in (
        tmp_path / "generation.json"
    ).read_text("utf-8")


def test_scores_are_of_the_adapted_model(loaded, tmp_path, capsys):
    image = tmp_path / "a.png"
    image.write_bytes(encode_png(FakeModel().generate(REQUEST, print).pixels[0, 0]))
    assert cli.main(["score", str(image), "a cat", *BOTH]) == 0
    assert loaded == [("emoji", PAIRS)]
    words = ["score", str(image), "a", "--by", "clip", "--clip", "clip-shapes", *BOTH]
    assert cli.main(words) == 2
    assert "--adapter changes --model, which --by clip" in capsys.readouterr().err


def test_what_enlarges_has_the_format_of_weights_and_no_adapter(
    loaded, tmp_path, monkeypatch, capsys
):
    """The adapter is of the other model; that is said."""

    class Larger(FakeModel):
        check_size = enlarge = lambda self, *args: None

        def enlarge_generated(self, result, model, **settings):
            return result

    calls, load = [], cogjax.load
    monkeypatch.setattr(FakeModel, "shape_for", lambda *args: (1, 1), raising=False)

    def both(source, **settings):
        calls.append((source, settings["weights"], settings.get("adapters")))
        return Larger() if source == "shapes" else load(source, **settings)

    monkeypatch.setattr(cogjax, "load", both)
    words = ["generate", "a cat", "--out", str(tmp_path), "--num-images", "1"]
    words += ["--enlarge", "shapes", "--weights", "int8"]
    assert cli.main(words) == 0
    assert calls == [("emoji", "int8", {}), ("shapes", "int8", None)]
    assert "--adapter" not in capsys.readouterr().err
    assert cli.main([*words, *BOTH]) == 0
    assert calls[2:] == [("emoji", "int8", PAIRS), ("shapes", "int8", None)]
    lines = capsys.readouterr().err.splitlines()
    [line] = [line for line in lines if "--adapter" in line]
    assert line.startswith("--adapter changes emoji alone; to enlarge with one too")


@pytest.mark.parametrize("words", [("caption",), ("ask", "how many?")])
def test_texts_are_of_the_adapted_model(words, loaded, tmp_path):
    image = tmp_path / "a.png"
    image.write_bytes(encode_png(FakeModel().generate(REQUEST, print).pixels[0, 0]))
    command, *rest = words
    assert cli.main([command, str(image), *rest, *BOTH]) == 0
    assert loaded == [("emoji", PAIRS)]


REQUEST = types.SimpleNamespace(prompts=("a",), num_images=1, rerank=0)


def test_a_merged_model_and_an_adapter_are_exported(loaded, monkeypatch, capsys):
    assert cli.main(["export", "emoji", "--out", "merged", *BOTH]) == 0
    assert loaded == [("emoji", PAIRS), ("merged", None, False)]
    calls = []
    monkeypatch.setattr(launch, "export_adapter", lambda *x: calls.append(x) or x[1])
    words = ["export", "run", "--out", "there", "--format", "adapter"]
    assert cli.main(words) == 0 and calls == [("run", "there", False)]
    assert "exported to there" in capsys.readouterr().out
    assert cli.main([*words, "--dtype", "float16"]) == 2
    assert "--dtype is of models" in capsys.readouterr().err
    assert cli.main([*words, *BOTH]) == 2
    assert "leave --format out" in capsys.readouterr().err


def test_finetune_hands_its_flags_on(monkeypatch, capsys):
    asked = []
    made = finetune.Tuned("model", (finetune.Path("model-run"),))
    monkeypatch.setattr(finetune, "finetune", lambda x: asked.append(x) or made)
    monkeypatch.setattr(finetune, "check", lambda x: asked.append(x) or {"steps": 4000})
    words = ["finetune", "mine", "--out", "model", "--lora", "8", "--prompt", "a cat"]
    assert (
        cli.main([*words, "--base", "shapes", "--steps", "9", "--stage", "base"]) == 0
    )
    out = capsys.readouterr().out
    assert "model: the tuned model" in out and "model-run/adapter: the adapter" in out
    assert cli.main([*words, "--dry-run", "--workdir", "there"]) == 0
    assert "steps: 4,000" in capsys.readouterr().out
    first, second = asked
    assert (first.source, first.base, first.rank, first.steps) == (
        "mine",
        "shapes",
        8,
        9,
    )
    assert (first.stage, second.stage) == ("base", "")
    assert first.prompts == ("a cat",) and str(first.folder) == "model-run"
    assert str(second.folder) == "there" and second.base == "emoji"
