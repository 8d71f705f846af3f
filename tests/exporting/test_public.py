"""`cogjax export` under public names: what was imported comes out, and in again."""

import json
import re
import shutil

import numpy as np
import pytest

from cogjax import model_folder
from cogjax.cli import main
from cogjax.errors import UserError
from cogjax.exporting.folder import verify
from cogjax.exporting.public import export_weights
from cogjax.importing import import_model
from cogjax.interop.safetensors import load_tree, open_safetensors
from cogjax.interop.source import open_source
from cogjax.interop.tree import flatten
from tests.importing import public


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """name -> (folder of the public files, model folder)."""
    done = {}

    def make(name):
        if name not in done:
            source = tmp_path_factory.mktemp("source")
            public.WRITE[name](source)
            model = tmp_path_factory.mktemp("model") / name
            import_model([source], model)
            done[name] = source, model
        return done[name]

    return make


def leaves_in(folder):
    return {
        f"{path.stem}/{leaf}": values
        for path in sorted(folder.glob("*.safetensors"))
        for leaf, values in flatten(load_tree(path)).items()
    }


def bytes_of(tensor):
    return tensor.read().tobytes()


def equal(found, wanted):
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].shape == values.shape, name
        assert found[name].tobytes() == values.tobytes(), name


@pytest.mark.parametrize("torch", [False, True])
@pytest.mark.parametrize("name", public.WRITE)
def test_a_round_trip_is_bitwise(imported, tmp_path, name, torch):
    source, model = imported(name)
    out, again = tmp_path / "out", tmp_path / "again"
    done = export_weights(str(model), out, torch, "float32")
    assert not any("no public code" in each for each in done.components.values())
    import_model([out], again)
    equal(leaves_in(again), leaves_in(model))
    ours, theirs = model_folder.load(again), model_folder.load(model)
    assert (ours.text is None) == (theirs.text is None)
    if ours.text:
        assert ours.text.serialized == theirs.text.serialized
    for part in theirs.components:
        assert ours[part].config == theirs[part].config


# Whose own names no file of ours has: Flax's, and both halves of a dVAE in one.
OTHERS = "openai-dvae", "dalle-mini", "vqgan-jax"
# Its length is 1 in ours, whatever it was.
UNIT = "quantize.embedding.weight"


@pytest.mark.parametrize("name", [x for x in public.WRITE if x not in OTHERS])
def test_the_tensors_of_the_release_come_out(imported, tmp_path, name):
    """Every one that was used, bit by bit, under its own name."""
    source, model = imported(name)
    out = tmp_path / "out"
    export_weights(str(model), out, name == "clip", "float32")
    released = [
        {re.sub(r"^(module|model)\.", "", key): x for key, x in tensors.items()}
        for tensors in open_source([source]).weights.values()
    ]
    whole = dict(item for tensors in released for item in tensors.items())
    names = set()
    for path in out.glob("*.safetensors"):
        found = open_safetensors(path)
        names |= found.keys()
        # Several files may have the same names; a T5 has two files.
        named = [x for x in [*released, whole] if found.keys() <= x.keys()]
        differing = [
            {key for key in found if bytes_of(found[key]) != bytes_of(x[key])}
            for x in named
        ]
        assert min(differing, key=len) <= ({UNIT} if "llamagen" in name else set())
    dropped = json.loads((model / "config.json").read_bytes())["card"]["dropped"]
    assert bool(dropped) == (whole.keys() > names)


def test_both_halves_of_a_dvae(imported, tmp_path):
    """Each is a file of its own, and both have the same names."""
    source, model = imported("openai-dvae")
    export_weights(str(model), tmp_path / "out", False, "float32")
    for half in ("encoder", "decoder"):
        found = open_safetensors(tmp_path / "out" / f"{half}.safetensors")
        wanted = public.part(public.dvae_tensors(), f"{half}.")
        assert found.keys() == wanted.keys()
        for key, x in wanted.items():
            assert found[key].read().tobytes() == x.tobytes(), key


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("vqgan", []),
        ("vqgan-jax", ["pixels in [0, 1] inside"]),
        (
            "dalle-mini",
            ["behind the id 24, min-dalle's behind 16383", "read as normalized"]
            + ["pixels in [0, 1] inside"],
        ),
    ],
)
def test_what_the_public_code_does_otherwise_is_said(imported, tmp_path, name, words):
    _, model = imported(name)
    done = export_weights(str(model), tmp_path / "out", False, "float32")
    assert len(done.notes) == len(words)
    assert all(any(part in note for note in done.notes) for part in words)
    stored = json.loads((tmp_path / "out/export.json").read_bytes())["notes"]
    assert stored == list(done.notes)


def test_settings_of_ours_in_an_export_are_checked(imported, tmp_path):
    """Those that taming's code and min-dalle's have no place for."""
    out = tmp_path / "out"
    export_weights(str(imported("dalle-mini")[1]), out, False, "float32")
    for name, old, new, message in (
        ("model.yaml", "black: 0", "black: 2", "cogjax_vqgan.black"),
        ("model.yaml", "epsilon: 1.0e-06", "epsilon: 0", "epsilon is 0"),
        ("config.json", "normalized", "loud", "cogjax_texts 'loud'"),
    ):
        text = (out / name).read_text()
        assert old in text
        (out / name).write_text(text.replace(old, new))
        with pytest.raises(UserError, match=message):
            import_model([out], tmp_path / "again")
        (out / name).write_text(text)
    assert not (tmp_path / "again").exists()


def test_a_network_of_ours_has_names_of_ours(tmp_path, capsys):
    out = tmp_path / "out"
    words = ["export", "shapes", "--format", "safetensors", "--out", str(out)]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "no public code holds the tokenizer" in printed
    assert "norm_scope 'token', the public code computes 'tensor'" in printed
    assert "codes have positions of their own, and the public code counts" in printed
    head = json.loads((out / "export.json").read_bytes())
    assert set(head["files"]) | {"export.json"} == {x.name for x in out.iterdir()}
    part = model_folder.load_component("shapes", "tokenizer")
    own = flatten({**part.params, **part.state})
    found = open_safetensors(out / "tokenizer.safetensors")
    assert found.keys() == {leaf.replace("/", ".") for leaf in own}
    for leaf, values in own.items():
        np.testing.assert_array_equal(found[leaf.replace("/", ".")].read(), values)
    assert main(words) == 2
    assert "holds a model export: choose" in capsys.readouterr().err
    assert main([*words, "--overwrite", "--dtype", "float16"]) == 0
    assert main(["verify", str(out)]) == 0
    assert capsys.readouterr().out.count(": good\n") == len(head["files"])


@pytest.fixture(scope="module")
def exported(imported, tmp_path_factory):
    out = tmp_path_factory.mktemp("exported") / "out"
    export_weights(str(imported("vqgan")[1]), out, False, "float32")
    return out


@pytest.mark.parametrize("kind", ["changed", "lost"])
def test_verify_names_a_damaged_file_of_an_export(exported, tmp_path, capsys, kind):
    out = shutil.copytree(exported, tmp_path / "out")
    path = next(out.glob("*.safetensors"))
    if kind == "lost":
        path.unlink()
    else:
        data = bytearray(path.read_bytes())
        data[-2] ^= 1
        path.write_bytes(data)
    assert main(["verify", str(out)]) == 2
    shown = capsys.readouterr()
    assert f"{path.name}: bad, {'is missing' if kind == 'lost' else 'has'}" in shown.out
    assert f"files are bad ({path.name})" in shown.err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cogjax": "another"}, "export.json is damaged"),
        ({"files": ["a"]}, "export.json is damaged"),
        ({"files": {"../a": "0"}}, "export.json is damaged"),
        ({"files": {"a": 0}}, "export.json is damaged"),
        ({"unfinished": ["a"]}, "is only half written"),
    ],
)
def test_a_damaged_head_is_refused(exported, tmp_path, fields, message):
    head = json.loads((exported / "export.json").read_bytes())
    (tmp_path / "export.json").write_text(json.dumps(head | fields))
    with pytest.raises(UserError, match=message):
        verify(tmp_path)


@pytest.mark.parametrize("form", ["torch", "stablehlo"])
def test_nothing_is_written_into_the_model(imported, capsys, form):
    model = imported("vqgan")[1]
    before = sorted(model.iterdir())
    words = ["export", str(model), "--format", form, "--out", str(model / "inner")]
    assert main(words) == 2
    assert "the source: choose another folder" in capsys.readouterr().err
    assert sorted(model.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "no model 'none'"),
        (["."], "is not a model folder"),
        (["shapes", "--format", "tf"], "unknown --format 'tf'"),
    ],
)
def test_exports_that_cannot_be(tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    words = ["export", "--format", "torch", *words, "--out", "out"]
    assert main(words) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "out").exists()
