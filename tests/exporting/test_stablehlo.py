"""Programs of a model, run in a process without cogjax."""

import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

import cogjax
from cogjax import model_folder
from cogjax.cli import main
from cogjax.data.t5_text import T5Text, pad_right
from cogjax.exporting import stablehlo
from cogjax.exporting.programs import Program
from cogjax.families.imagen.layout import Cascade
from cogjax.families.imagen.presets import STAGES
from cogjax.importing import import_model
from cogjax.model import Model
from cogjax.pipelines.masked import MaskedPipeline
from cogjax.sampling.diffusion.settings import CascadeSampler
from tests.exporting import page
from tests.importing import public
from tests.pipelines import test_masked, test_pairs
from tests.test_distillation import TEXT, component

ALL = {"encode", "decode", "generate", "score"}


def run(folder, tmp_path):
    """What the page's script prints of a folder, where cogjax cannot be imported."""
    (tmp_path / "run.py").write_text(page.script())
    (tmp_path / "cogjax.py").write_text("raise ImportError('it is not needed')\n")
    words = [sys.executable, str(tmp_path / "run.py"), str(folder)]
    found = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, env=dict(os.environ)
    )
    assert not found.returncode, found.stderr
    return found.stdout.splitlines()


def check(lines):
    """All is equal bit by bit, but for losses of rows that are computed together."""
    odd = [line for line in lines if not line.endswith("equal")]
    assert all(line.startswith("score losses") for line in odd), lines
    assert all(float(line.split()[-1]) < 1e-5 for line in odd), lines


@pytest.mark.slow
@pytest.mark.parametrize("name", ["shapes", "shapes-ernie", "emoji"])
def test_a_shipped_model_runs_without_cogjax(tmp_path, name):
    """Its outputs are those of cogjax."""
    pytest.importorskip("flatbuffers")
    out = tmp_path / "out"
    assert main(["export", name, "--format", "stablehlo", "--out", str(out)]) == 0
    lines = run(out, tmp_path)
    assert {line.split()[0] for line in lines} == ALL and len(lines) == len(ALL)
    check(lines)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "programs"),
    [
        ("openai-dvae", {"encode", "decode"}),
        ("vqgan-gumbel", {"encode", "decode"}),
        ("clip", {"embed_images", "embed_texts"}),
        ("t5", {"encode_text"}),
        ("vqgan-detoker", {"decode"}),
        ("dalle-mini", ALL),
        ("llamagen-c2i", ALL),
        ("llamagen-t2i", ALL | {"encode_text"}),
        ("mindalle", ALL),
        ("rudalle-v2", ALL),
        ("rudalle-v3", ALL),
    ],
)
def test_an_imported_network_runs_without_cogjax(tmp_path, name, programs):
    pytest.importorskip("flatbuffers")
    (tmp_path / "source").mkdir()
    public.WRITE[name](tmp_path / "source")
    import_model([tmp_path / "source"], tmp_path / "model")
    stablehlo.export_programs(str(tmp_path / "model"), tmp_path / "out")
    lines = run(tmp_path / "out", tmp_path)
    assert {line.split()[0] for line in lines} == programs
    check(lines)


def cascade(nano_model, dtype="float32"):
    """Two stages that draw at random, with the text of another model.

    dtype: of the vectors.
    """
    base, larger = STAGES["nano"]
    text = dataclasses.replace(TEXT, dtype=dtype)
    sizes = {"text_encoder": text, "base": base, "super_1": larger}
    parts = {name: component(config) for name, config in sizes.items()}
    for part in parts.values():
        # Smaller ones hardly read their text.
        part.params.update(jax.tree.map(lambda x: 3 * x, part.params))
    layout = Cascade(("v", "eps"), ("cosine", "linear"), ("linear",))
    sampler = CascadeSampler(steps=(4, 3), percentile=(0.0, 99.5), method="ddpm")
    return Model("imagen", parts, layout, nano_model.model.text, sampler)


MAKE = {
    "masked": (test_masked.make, ALL - {"score"}),
    "pairs": (lambda nano: test_pairs.make(nano, 2), ALL - {"score"}),
    "cascade": (lambda nano: cascade(nano, "bfloat16"), {"encode_text", "generate"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MAKE)
def test_a_small_model_runs_without_cogjax(tmp_path, nano_model, name):
    pytest.importorskip("flatbuffers")
    make, programs = MAKE[name]
    model_folder.save(make(nano_model), tmp_path / "model")
    stablehlo.export_programs(str(tmp_path / "model"), tmp_path / "out")
    lines = run(tmp_path / "out", tmp_path)
    assert {line.split()[0] for line in lines} == programs
    check(lines)


def exported(model, out):
    """(example inputs of a program, its outputs for inputs), by functions of names."""
    pytest.importorskip("flatbuffers")
    from jax import export

    stablehlo.export_programs(str(model), out)
    programs = json.loads((out / "export.json").read_text())["programs"]
    example = np.load(out / "example.npz")

    def inputs(name, rows):
        """The first row of the example, so many times, and what is shared."""
        sides = programs[name]["inputs"].items()
        found = {key: example[f"{name}.input.{key}"] for key, _ in sides}
        return found | {
            key: np.repeat(found[key][:1], rows, axis=0)
            for key, each in sides
            if "b" in each["shape"]
        }

    def call(name, inputs):
        weights = dict(np.load(out / programs[name]["weights"]))
        data = bytearray((out / programs[name]["file"]).read_bytes())
        found = export.deserialize(data).call(weights, inputs)
        return {key: np.asarray(x) for key, x in found.items()}

    return inputs, call


@pytest.mark.slow
def test_any_number_of_rows_and_settings(tmp_path):
    """The batch is symbolic; seed, images, codes that stay and numbers are inputs."""
    inputs_of, call = exported("shapes", tmp_path / "out")
    inputs = inputs_of("generate", 3)
    inputs["image"] = np.array([4, 0, 1], np.int32)
    inputs["seed"], inputs["temperature"] = np.uint32(7), np.float32(0.3)
    model = cogjax.load("shapes")
    settings = {"num_images": 5, "seed": 7, "temperature": 0.3}
    wanted = model.generate("a red circle", **settings).codes[0][[4, 0, 1]]
    np.testing.assert_array_equal(call("generate", inputs)["codes"], wanted)
    inputs["forced"][:, :8] = 3
    codes = call("generate", inputs)["codes"]
    assert (codes[:, 0] == 3).all() and (codes[:, 1:] != wanted[:, 1:]).any()


@pytest.mark.slow
def test_codes_of_a_masked_model_stay(tmp_path, nano_model):
    """Fewer codes are left to each step then; the choice among them is an input."""
    model = MaskedPipeline(test_masked.make(nano_model))
    inputs_of, call = exported(model.save(tmp_path / "model"), tmp_path / "out")
    keep = np.zeros((4, 4), bool)
    keep[1, 2] = keep[3] = True
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    settings = {"seed": 7, "num_images": 3, "choice_temperature": 0.5}
    given = {"image": image, "keep": keep}
    wanted = model.generate("a red circle", **settings, **given).codes[0]
    inputs = inputs_of("generate", 3)
    forced = np.where(keep, model.encode(image), -1).reshape(1, -1)
    inputs["forced"] = np.repeat(forced, 3, axis=0).astype(np.int32)
    inputs["image"] = np.arange(3, dtype=np.int32)
    inputs |= {"seed": np.uint32(7), "choice_temperature": np.float32(0.5)}
    np.testing.assert_array_equal(call("generate", inputs)["codes"], wanted)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["llamagen-t2i", "cascade"])
def test_a_text_is_encoded_by_one_program_and_drawn_by_another(
    tmp_path, nano_model, request, name
):
    """What the first gives the second takes; guidance, of each stage, is an input."""
    if name == "cascade":
        guidance, key = (2.0, 5.0), "images"
        model = model_folder.save(cascade(nano_model), tmp_path / "model")
    else:
        guidance, key = 3.0, "codes"
        model = public.imported(request.getfixturevalue("tmp_path_factory"))(name)
    inputs_of, call = exported(model, tmp_path / "out")
    whole = cogjax.load(model)
    length = inputs_of("encode_text", 1)["ids"].shape[1]
    ids = T5Text(whole.model.text).encode("a cat", length)
    found = call("encode_text", {"ids": pad_right([ids] * 3, length)})
    inputs = inputs_of("generate", 3)
    inputs |= {key: found[key] for key in ("tokens", "mask")}
    inputs |= {"seed": np.uint32(7), "image": np.arange(3, dtype=np.int32)}
    inputs["guidance"] = np.array(guidance, np.float32)
    made = whole.generate("a cat", num_images=3, seed=7, guidance=guidance)
    wanted = made.pixels if name == "cascade" else made.codes
    gap = call("generate", inputs)[key].astype(int) - wanted[0]
    # Pixels may be rounded otherwise, as three texts are encoded and not one.
    assert np.abs(gap).max() <= (name == "cascade")


def test_what_cannot_be_exported(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    words = ["export", "shapes", "--format", "stablehlo", "--out", str(out)]
    assert main([*words, "--dtype", "float16"]) == 2
    assert "--dtype is of weights alone" in capsys.readouterr().err
    monkeypatch.setattr(stablehlo.importlib.util, "find_spec", lambda name: None)
    assert main(words) == 2
    assert "`pip install 'cogjax[export]'`" in capsys.readouterr().err
    monkeypatch.undo()
    if stablehlo.importlib.util.find_spec("flatbuffers"):
        monkeypatch.setattr(stablehlo, "programs", lambda model: {})
        assert main(words) == 2
        assert "no program of these is exported" in capsys.readouterr().err
    assert not out.exists()


def test_what_has_no_program_is_said(tmp_path, monkeypatch, capsys):
    pytest.importorskip("flatbuffers")
    codes = {"codes": np.zeros((2, 3), np.int32)}
    only = Program(lambda weights, inputs: inputs, "tokenizer", {}, codes, codes)
    monkeypatch.setattr(stablehlo, "programs", lambda model: {"decode": only})
    words = ["export", "shapes-ernie", "--format", "stablehlo"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    assert "enlarges images in windows" in capsys.readouterr().out
    monkeypatch.setattr(stablehlo, "programs", lambda model: {"generate": only})
    assert main([*words, "--out", str(tmp_path / "other")]) == 0
    assert "windows" not in capsys.readouterr().out
