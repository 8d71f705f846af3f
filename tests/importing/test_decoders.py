"""Imported decoders draw, score and refuse; their outputs are in `test_cases.py`."""

import functools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import yaml

import cogjax
from cogjax import parity
from cogjax.catalogue import importers, resolve
from cogjax.cli import main
from cogjax.data.class_names import ClassNames
from cogjax.data.text_files import load_text
from cogjax.errors import Notice, UserError
from cogjax.families.llamagen import imports as llamagen
from cogjax.families.llamagen import presets as llamagen_presets
from cogjax.families.mindalle import imports as mindalle
from cogjax.families.mindalle import presets as mindalle_presets
from cogjax.families.rudalle import imports as rudalle
from cogjax.families.rudalle import presets as rudalle_presets
from cogjax.importing import import_model
from cogjax.interop.importer import leaves_of
from cogjax.interop.rules import sources_of
from cogjax.interop.source import Source
from cogjax.interop.stored import StoredTensor
from cogjax.ops.sequence import Sequence
from cogjax.pipelines.contracts import Reader, Scorer
from tests.importing import decoders, public


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """name -> model folder."""
    return public.imported(tmp_path_factory)


@pytest.fixture(scope="module")
def drawn():
    """(inputs, outputs) of the release's loop, greedy and guided by 4."""
    return parity.read_case(public.CASES / "llamagen-drawn.npz")


@functools.partial(jax.jit, static_argnums=0)
def forward(network, params, *inputs):
    """Logits of whole sequences."""
    return network.apply({"params": params}, *inputs)[0]


GREEDY = {"num_images": 1, "temperature": 0, "guidance": 4.0}


def test_classes_are_drawn_as_by_the_release(models, drawn):
    model, (inputs, outputs) = cogjax.load(models("llamagen-c2i")), drawn
    names = "tench", "3"
    assert [model.pieces(name) for name in names] == [[0], [3]]
    prompts = [str(i) for i in inputs["classes"]]
    found = model.generate(prompts, **GREEDY)
    np.testing.assert_array_equal(found.codes.reshape(2, -1), outputs["c2i"])
    expected = np.clip(outputs["pixels"], 0, 1) * 255
    assert np.abs(found.pixels[:, 0] - expected).max() < 0.51


def test_captions_are_drawn_as_by_the_release(models, drawn):
    """One of them is too long; each has a prompt without caption of its length."""
    model, (_, outputs) = cogjax.load(models("llamagen-t2i")), drawn
    texts = decoders.TEXTS
    with pytest.warns(Notice, match="and the model reads 6; left off"):
        found = model.generate(texts, **GREEDY)
    np.testing.assert_array_equal(found.codes.reshape(2, -1), outputs["t2i"])
    assert found.unread[0] == "" and found.unread[1]


def test_images_of_captions_are_scored(models, monkeypatch):
    """Against the network's logits of the whole sequence, in float64.

    A caption that several images have is encoded once.
    """
    model = cogjax.load(models("llamagen-t2i"))
    texts = ["a red apple", "a cat", "a red apple"]
    codes = np.random.default_rng(0).integers(24, size=(3, 5, 5))
    encode, asked = model._encoder.encode_pieces, []
    monkeypatch.setattr(
        model._encoder, "encode_pieces", lambda x: asked.append(len(x)) or encode(x)
    )
    losses = model.image_losses(codes, texts)
    assert asked == [2]
    prompts, _ = model.prompts([model.pieces(text) for text in texts])
    part, flat = model.model["transformer"], codes.reshape(3, 25)
    length = prompts.ids.shape[1]
    visible = np.arange(length) >= np.asarray(prompts.num_padding)[:, None]
    inputs = np.asarray(prompts.ids), flat[:, :-1].astype(np.int32)
    places = np.broadcast_to(np.arange(length + 24), (3, length + 24))
    logits = forward(part.network, part.params, inputs, places, visible)
    logits = np.asarray(logits, np.float64)[:, length - 1 :]
    own = np.take_along_axis(logits, flat[..., None], -1)[..., 0]
    total = np.log(np.exp(logits).sum(-1))
    np.testing.assert_allclose(losses, (total - own).mean(-1), atol=1e-4)
    kept = model.generate("a cat", 1, seed=1, rerank=3)
    own = model.image_losses(kept.codes[0], "a cat")
    np.testing.assert_allclose(kept.scores, [own], atol=1e-5)


def test_a_model_of_classes_is_asked_for_classes(models, tmp_path, capsys):
    """By number or name; anything else is one line, and nothing is written."""
    model = str(models("llamagen-c2i"))
    for prompt, words in (
        ("10", "'10' is no number from 0 to 9 and no name of a class"),
        ("a red cat", "'a red cat' is no number from 0 to 9"),
        ("tenchh", "did you mean 'tench'?"),
    ):
        assert main(["generate", prompt, "--model", model, "--out", str(tmp_path)]) == 2
        assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("names", [["0", "a, b", "c"], [""] * 3])
def test_names_of_classes_come_back(names):
    """Also of a class that is called as its number, and where none has a name."""
    config = replace(decoders.C2I, vocab_size=24 + 3 + 1)
    model = SimpleNamespace(family="llamagen", text=ClassNames.of(names))
    export = llamagen._export(config, model, torch=False)
    written = json.loads(export.others["classes.json"])
    found = llamagen._class_names(Source({}, {Path("classes.json"): written}), 3)
    assert found == names


def test_a_score_is_the_loss_of_the_image(models):
    """And candidates are chosen by it; int8 is near."""
    path = models("llamagen-c2i")
    model = cogjax.load(path)
    assert isinstance(model, Scorer) and not isinstance(model, Reader)
    seen = []
    settings = {"num_images": 3, "seed": 5, "guidance": 1.0, "temperature": 0.5}
    found = model.generate("4", **settings, preview=lambda *each: seen.append(each))
    assert len(seen) == model.grid
    assert found.codes.shape == (1, 3, 5, 5)
    codes = found.codes[0].reshape(3, 25)
    losses = model.image_losses(found.codes[0], "4")
    part = model.model["transformer"]
    ids = np.concatenate([np.full((3, 1), 24 + 4), codes[:, :-1]], axis=1)
    logits = forward(part.network, part.params, ids, np.arange(25)[None])
    logits = np.asarray(logits, np.float64)
    total = np.log(np.exp(logits).sum(-1))
    own = np.take_along_axis(logits, codes[..., None], -1)[..., 0]
    np.testing.assert_allclose(losses, (total - own).mean(-1), atol=1e-4)
    kept = model.generate("4", **settings | {"num_images": 1}, rerank=3)
    np.testing.assert_allclose(kept.scores, [[losses.min()]], atol=1e-5)
    small = cogjax.load(path, weights="int8").image_losses(found.codes[0], "4")
    assert 0 < np.abs(small - losses).max() < 0.2
    np.testing.assert_array_equal(model.score(found.images[:1], ["4"]).shape, (1,))


def stored(shapes):
    """A file of tensors that nobody reads."""
    return {
        name: StoredTensor(shape, np.dtype(np.float32), lambda: None)
        for name, shape in shapes
    }


def plans(family, *names, configs=None):
    """The import of the released sizes, compared with the names and shapes."""
    released = json.loads((decoders.SHAPES / f"{family}.json").read_text())
    weights = {Path(x): stored(decoders.unfolded(released[x])) for x in names}
    source = Source(weights, {Path("x.json"): configs or {}})
    [importer] = [
        resolve(spec) for spec in importers().values() if resolve(spec).detect(source)
    ]
    plan = importer.plan(source)
    for part, conversion in plan.components.items():
        conversion.check(part)
    return plan


@pytest.mark.parametrize(
    ("size", "vq", "millions"),
    [("B", "16", 111), ("L", "16", 343), ("XL", "8", 775), ("XXL", "16", 1411)],
)
def test_released_sizes_of_classes(size, vq, millions):
    """Names and shapes of the public code, at 384 px; numbers of parameters of its
    README, which has 1.4B for the last."""
    plan = plans("llamagen", f"c2i-{size}", f"vq-{vq}", configs={"image_size": 384})
    config = plan.components["transformer"].config
    grid = 384 // int(vq)
    assert plan.layout.image_len == grid**2 and plan.components["tokenizer"].config
    assert config.head_dim == 64 and plan.layout.vocab.num_text == 1000
    if vq == "16":
        planned = llamagen_presets.CLASSES[size.lower()]
        assert planned[1:] == (plan.layout, config)
        assert planned[0] == plan.components["tokenizer"].config
    leaves = plan.components["transformer"].leaves.values()
    assert round(sum(np.prod(x.shape) for x in leaves) / 1e6) == millions


def test_released_sizes_of_captions():
    with pytest.raises(UserError, match="give the folder of its T5, flan-t5-xl"):
        plans("llamagen", "t2i-XL", "vq-16", configs={"image_size": 512})
    released = json.loads((decoders.SHAPES / "llamagen.json").read_text())
    config = llamagen._config(
        stored(decoders.unfolded(released["t2i-XL"])), 32, Source({}, {})
    )
    assert (config.caption_dim, config.table_positions) == (2048, 120)
    assert config == llamagen_presets.CAPTIONS["xl-512"][2]
    needs = sources_of(list(llamagen._rules(config)))
    shapes = dict(decoders.unfolded(released["t2i-XL"]))
    assert {name: each.shape for name, each in needs.items()} == shapes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "vq.pt").unlink(), "the VQ of images is missing"),
        (lambda f: (f / "spiece.model").unlink(), "give spiece.model too"),
        (
            lambda f: [x.unlink() for x in f.glob("pytorch_model*")],
            "give the folder of its T5",
        ),
        (
            lambda f: public.files.state_dict(f / "x.pt", {"a.b": np.ones(2, "f4")}),
            "x.pt has 'a.b', which is not of a GPT or a VQ",
        ),
        (
            lambda f: (f / "args.json").write_text('{"image_size": "20"}'),
            "the config file says image_size '20', expected a size",
        ),
        (
            lambda f: (f / "args.json").write_text('{"image_size": 20, "n_head": 3}'),
            "make no LlamaGen: width 128 is no multiple of heads 3",
        ),
        (
            lambda f: (f / "args.json").write_text('{"image_size": 21}'),
            "make no VQ: image_size 21 does not halve",
        ),
    ],
)
def test_llamagens_that_do_not_fit(tmp_path, change, words):
    folder = tmp_path / "source"
    folder.mkdir()
    decoders.write_t2i(folder)
    change(folder)
    with pytest.raises(UserError, match=words):
        import_model([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_vq_alone_and_what_nothing_tells(tmp_path):
    """The size of images is a note where nothing says it."""
    (tmp_path / "a").mkdir()
    decoders.write_vq(tmp_path / "a")
    assert import_model([tmp_path / "a"], tmp_path / "out").notes == ()
    (tmp_path / "a" / "args.json").unlink()
    found = import_model([tmp_path / "a"], tmp_path / "out", overwrite=True)
    assert "images are taken to be of 256 px" in found.notes[0]
    assert set(found.dropped) == {
        "quantize.codebook_used",
        "discriminator.main.0.weight",
    }


def test_a_mindalle_draws_as_the_release(models, tmp_path):
    """Words become its ids, those behind the sixth are left off, and then its codes."""
    model = cogjax.load(models("mindalle"))
    inputs, outputs = parity.read_case(public.CASES / "mindalle-drawn.npz")
    with pytest.warns(Notice, match="has 21 pieces and the model reads 6"):
        pieces = [model.pieces(text) for text in decoders.WORDS]
    ids = model.prompts(pieces)[0].ids
    np.testing.assert_array_equal(ids - model.num_codes, inputs["ids"])
    with pytest.warns(Notice):
        found = model.generate(decoders.WORDS, 1, temperature=0)
    np.testing.assert_array_equal(found.codes.reshape(3, -1), outputs["codes"])
    expected = np.clip(outputs["pixels"], 0, 1) * 255
    assert np.abs(found.pixels[:, 0] - expected).max() < 0.51
    assert model.model.text.decode(pieces[0]) == "a red cat"
    assert model.score(found.images[:1], ["a red cat"])[0] > 0
    text = load_text(models("mindalle") / "text.model")
    assert text == model.model.text and text.merges() is None


def test_the_released_mindalle():
    """1.3 billion parameters, and a VQGAN as taming's f16."""
    released = json.loads((decoders.SHAPES / "mindalle.json").read_text())["stage2"]
    shapes = dict(decoders.unfolded(released))
    config = mindalle._config(stored(shapes.items()), 16, Source({}, {}))
    assert (config.depth, config.heads, config.head_dim) == (42, 24, 64)
    assert config == mindalle_presets.RELEASED["1.3b"][2]
    needs = sources_of(list(mindalle._rules(config, 16384)))
    assert {name: each.shape for name, each in needs.items()} == shapes
    leaves = leaves_of(config).values()
    assert sum(np.prod(x.shape) for x in leaves) == 1_291_081_728


def _table(**change):
    def write(folder):
        table = {piece: i for i, piece in enumerate(decoders.PIECES)} | change
        (folder / "bpe-16k-vocab.json").write_text(json.dumps(table))

    return write


def _sizes(stage, **change):
    def write(folder):
        path = folder / "config.yaml"
        config = yaml.safe_load(path.read_text())
        config[stage]["hparams"] |= change
        path.write_text(yaml.safe_dump(config))

    return write


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda f: (f / "stage1_last.ckpt").unlink(),
            "is one stage1_last.ckpt and one",
        ),
        (
            lambda f: (f / "bpe-16k-vocab.json").unlink(),
            "the text tokenizer is missing",
        ),
        (
            lambda f: (f / "bpe-16k-merges.txt").unlink(),
            "the text tokenizer is missing",
        ),
        (
            lambda f: (f / "bpe-16k-merges.txt").write_text("#version: 0.2\na b c\n"),
            "has no merges: two pieces a line",
        ),
        (
            lambda f: (f / "bpe-16k-merges.txt").write_text("#version: 0.2\nx y\n"),
            "merges to 'xy', which is no piece",
        ),
        (_table(more=99), "has ids that are not 0 to"),
        (_table(**{f"{i}": i for i in range(34, 61)}), "the weights 60 rows"),
        (_sizes("stage2", gelu_use_approx=True), "says gelu_use_approx True"),
        (_sizes("stage2", n_heads=3), "width 128 is no multiple of heads 3"),
        (_sizes("stage1", ch_mult=[1, 2, 2]), "says ch_mult"),
        (
            _sizes("stage1", resolution=32, attn_resolutions=[8]),
            "16 positions of codes",
        ),
    ],
)
def test_mindalles_that_do_not_fit(tmp_path, change, words):
    folder = tmp_path / "source"
    folder.mkdir()
    decoders.write_mindalle(folder)
    change(folder)
    with pytest.raises(UserError, match=words):
        import_model([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("version", ["v2", pytest.param("v3", marks=pytest.mark.slow)])
def test_a_rudalle_draws_as_the_release(models, version):
    """Words become the ids of its wrapper, and these its codes."""
    model = cogjax.load(models(f"rudalle-{version}"))
    inputs, outputs = parity.read_case(public.CASES / "rudalle-drawn.npz")
    words = [model.model.text.encode(text) for text in decoders.RUSSIAN]
    ids = model.layout.prompts(words).ids[:, -6:] - model.num_codes
    own = np.where(inputs["ids"] == 0, 34 + np.arange(6), inputs["ids"])
    np.testing.assert_array_equal(ids, own)
    assert words[1] == [4, 9, 10, 16, 14, 6, 6, 7, 4, 1]
    assert model.model.text.decode(words[1]) == "рекот кооот"
    seen = []
    settings = {"temperature": 0, "preview": lambda *each: seen.append(each)}
    with pytest.warns(Notice, match="and the model reads 5; left off"):
        found = model.generate(decoders.RUSSIAN, 1, **settings)
    np.testing.assert_array_equal(found.codes.reshape(3, -1), outputs[version])
    assert len(seen) == 12 and np.all(seen[0][1][:, 1:] == -1)
    np.testing.assert_array_equal(seen[0][1][:, 0], found.codes[:, 0, 0])
    losses = model.image_losses(np.tile(found.codes[0], (2, 1, 1)), ["кот", "тет"])
    assert 0 < losses[0] < losses[1]
    if version == "v2":
        with pytest.raises(UserError, match="speculate is not for a model whose codes"):
            model.generate("кот", speculate=4)
        settings = {"guidance": 2.0, "preview": lambda *each: pytest.fail("late")}
        model.batch_size = 1
        with pytest.warns(Notice), pytest.raises(UserError, match="guidance needs"):
            model.generate(decoders.RUSSIAN, 1, **settings)
        model.batch_size = 16
    kept = model.generate("кот", 1, seed=3, rerank=2)
    assert kept.scores.shape == (1, 1)


def test_the_released_rudalle():
    """Malevich: names, shapes, and that nothing tells its version but its mask."""
    released = json.loads((decoders.SHAPES / "rudalle.json").read_text())["malevich"]
    shapes = dict(decoders.unfolded(released))
    shapes = {name: x for name, x in shapes.items() if not name.endswith("_mask")}
    with pytest.raises(UserError, match="nothing says whether these weights are v2"):
        rudalle._config(stored(shapes.items()), Source({}, {}))
    # Nor does a mask that is smaller than the grid: none is made to compare with.
    wide = {"image_row_embeddings.weight": (2**20, 2048), rudalle._CONV: (256, 256)}
    with pytest.raises(UserError, match="nothing says whether these weights are v2"):
        rudalle._config(stored((shapes | wide).items()), Source({}, {}))
    version = {Path("args.json"): {"hf_version": "v2"}}
    config = rudalle._config(stored(shapes.items()), Source({}, version))
    assert (config.depth, config.heads, config.grid) == (24, 16, 32)
    assert config == rudalle_presets.RELEASED["v2"][2]
    assert config.sequence == Sequence.text_to_image(128, (32, 32))
    needs = sources_of(list(rudalle._rules(config, 8192)))
    assert {name: each.shape for name, each in needs.items()} == shapes


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda f: (f / "vqgan.ckpt").unlink(), "is one transformer and one"),
        (lambda f: (f / "bpe.model").unlink(), "the text tokenizer is missing"),
        (
            lambda f: (f / "bpe.model").write_text("1 1\n9601 4\n5 6 7\n1 0 2 3\n"),
            "bpe.model is no model of YouTokenToMe: damaged",
        ),
        (
            lambda f: (f / "bpe.model").write_text("1 0\n9601 5\n1 0 2 3\n"),
            "has ids that are not 0 to 4",
        ),
        (
            lambda f: (f / "args.json").write_text(
                '{"resolution": 24, "hf_version": "v4"}'
            ),
            "says hf_version 'v4': v2 or v3",
        ),
        (
            lambda f: (f / "args.json").write_text(
                '{"resolution": 24, "hf_version": ["v3"]}'
            ),
            r"says hf_version \['v3'\]: v2 or v3",
        ),
        (
            lambda f: (f / "args.json").write_text('{"resolution": 32}'),
            "12 a side, the VQGAN 24 and 16",
        ),
        (
            lambda f: (f / "args.json").write_text(
                '{"resolution": 24, "num_attention_heads": 3}'
            ),
            "width 128 is no multiple of heads 3",
        ),
    ],
)
def test_rudalles_that_do_not_fit(tmp_path, change, words):
    folder = tmp_path / "source"
    folder.mkdir()
    decoders.write_rudalle(folder, "v3")
    change(folder)
    with pytest.raises(UserError, match=words):
        import_model([folder], tmp_path / "out")
    assert not (tmp_path / "out").exists()
