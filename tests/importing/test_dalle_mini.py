"""DALL-E mini's files become a model that generates as the public code does."""

import json
import shutil

import numpy as np
import pytest
from flax.serialization import msgpack_restore, msgpack_serialize
from flax.traverse_util import flatten_dict, unflatten_dict

import cogjax
from cogjax import parity
from cogjax.errors import UserError
from cogjax.families.dalle_mini import names
from cogjax.importing import import_model
from cogjax.interop.importer import leaves_of
from cogjax.interop.rules import sources_of
from cogjax.models.encoder_decoder_config import EncoderDecoderConfig
from tests.importing import dalle_mini as public
from tests.importing import files

TEXT = "a red cat"
LIKELIEST = {"temperature": 0, "num_images": 1}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    return {
        name: write(tmp_path_factory.mktemp(name))
        for name, write in public.WRITE.items()
        if name.startswith("dalle")
    }


@pytest.fixture(scope="module")
def models(sources, tmp_path_factory):
    """{name: the loaded model}."""
    found = {}
    for name, source in sources.items():
        folder = tmp_path_factory.mktemp("model") / name
        import_model([source], folder)
        found[name] = cogjax.load(folder)
    return found


def test_guided_codes_and_images_are_min_dalles(models):
    """256 codes with super-conditioning, from its cache; the image within one step."""
    recorded = np.load(public.CASES / "dalle-mini-guided.npz")
    found = models["dalle-mini-torch"].generate(TEXT, **LIKELIEST)
    np.testing.assert_array_equal(found.codes.reshape(1, -1), recorded["codes"])
    gap = found.pixels[0].astype(int) - recorded["pixels"]
    assert np.abs(gap).max() <= 1 and recorded["pixels"].std() > 10


def test_the_models_sample_as_their_releases_do(models):
    settings = [model.model.sampler for model in models.values()]
    assert [(x.temperature, x.top_k, x.guidance) for x in settings] == [
        (1, 0, 10),
        (1, 256, 16),
    ]


def test_the_card_names_each_file_once(sources, models):
    for name, model in models.items():
        files = {path.name for path in sources[name].iterdir()}
        assert model.card["source"].keys() == files


def test_an_image_depends_on_its_seed_and_text_alone(models):
    model = models["dalle-mini"]
    several = model.generate([TEXT, "a cat 12"], num_images=2, seed=5)
    alone = model.generate("a cat 12", num_images=1, seed=5)
    np.testing.assert_array_equal(several.codes[1, 0], alone.codes[0, 0])
    first = several.codes[:, 0]
    assert np.any(first[0] != first[1]) and np.any(several.codes[:, 1] != first)


def test_previews_and_the_upper_part_of_an_image(models):
    model, seen = models["dalle-mini"], []
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    keep = np.zeros((16, 16), bool)
    keep[:8] = True
    found = model.generate(
        TEXT,
        num_images=1,
        image=image,
        keep=keep,
        preview=lambda which, codes: seen.append((which, codes)),
    )
    kept = model.encode(image)[0, :8]
    np.testing.assert_array_equal(found.codes[0, 0, :8], kept)
    assert len(seen) == 16 and seen[-1][0] == [(0, 0)]
    np.testing.assert_array_equal(seen[-1][1][0], found.codes[0, 0])
    assert np.all(seen[9][1][0, 10:] == -1)


def test_a_decoder_alone_reads_no_image(models):
    model = models["dalle-mini-torch"]
    assert model.decode(np.zeros((1, 16, 16), int)).shape == (1, 32, 32, 3)
    with pytest.raises(UserError, match="a decoder alone, so it reads no images"):
        model.encode(np.zeros((1, 32, 32, 3), np.uint8))


def test_layers_may_be_stacked_or_not(sources, tmp_path):
    for name, scanned in (("a", True), ("b", False)):
        (tmp_path / name).mkdir()
        public.write_flax(tmp_path / name, scanned=scanned)
        import_model([tmp_path / name], tmp_path / f"{name}-model")
    leaves = [tmp_path / f"{x}-model" / "transformer.safetensors" for x in "ab"]
    assert leaves[0].read_bytes() == leaves[1].read_bytes()


def test_files_may_be_in_shards(sources, tmp_path):
    """As Flax cuts them, with names of one root alone in the second file."""
    folder = shutil.copytree(sources["dalle-mini"], tmp_path / "source")
    import_model([folder], tmp_path / "whole")
    whole = folder / "flax_model.msgpack"
    flat = flatten_dict(msgpack_restore(whole.read_bytes()))
    whole.unlink()
    index = {}
    for i, some in enumerate((list(flat)[:20], list(flat)[20:])):
        shard = folder / f"flax_model-{i}.msgpack"
        tree = unflatten_dict({name: flat[name] for name in some})
        shard.write_bytes(msgpack_serialize(tree))
        index |= {"/".join(name): shard.name for name in some}
    (folder / f"{whole.name}.index.json").write_text(json.dumps({"weight_map": index}))
    import_model([folder], tmp_path / "parts")
    leaves = [tmp_path / x / "transformer.safetensors" for x in ("whole", "parts")]
    assert leaves[0].read_bytes() == leaves[1].read_bytes()
    shard.unlink()
    with pytest.raises(
        UserError, match="names .flax_model-1.msgpack., which is missing"
    ):
        import_model([folder], tmp_path / "out")


def test_norms_may_all_have_scales(tmp_path):
    """Those of 1 change nothing, and one of 2 what it should."""
    tree = public.flax_tree()
    for path, bias in list(tree.items()):
        if path[-1] == "bias":
            tree.setdefault((*path[:-1], "scale"), np.ones_like(bias))
    last = "model", "encoder", "final_ln"
    tree[*last, "scale"] *= 2
    (tmp_path / "source").mkdir()
    public.write_flax(tmp_path / "source", force_ln_scale=True)
    public.write_msgpack(tmp_path / "source" / "flax_model.msgpack", tree)
    import_model([tmp_path / "source"], tmp_path / "model")
    inputs, outputs = parity.read_case(public.CASES / "dalle-mini.npz")
    bias = np.where(inputs["mask"][..., None], tree[*last, "bias"], 0)
    expected = {"features": 2 * outputs["features"] - bias}
    del inputs["codes"]
    (tmp_path / "case.npz").write_bytes(parity.pack(inputs, expected))
    found = parity.compare(
        tmp_path / "model", tmp_path / "case.npz", component="transformer"
    )
    assert found["features"].first is None


def test_what_is_missing_is_named(sources, tmp_path):
    folder = shutil.copytree(sources["dalle-mini-torch"], tmp_path / "source")
    (folder / "merges.txt").unlink()
    (folder / "detoker.pt").unlink()
    found = import_model([folder], tmp_path / "model")
    [note] = found.notes
    assert list(found.components) == ["transformer"]
    assert "give the image tokenizer (detoker.pt" in note and "merges.txt" in note
    with pytest.raises(UserError, match="has transformer and generates no images"):
        cogjax.load(tmp_path / "model")
    folder = shutil.copytree(sources["dalle-mini"], tmp_path / "flax")
    (folder / "enwiki-words-frequency.txt").unlink()
    found = import_model([folder], tmp_path / "whole")
    assert any("give enwiki-words-frequency.txt" in note for note in found.notes)


def change_file(folder, kind):
    """One thing that is wrong with a folder."""
    if kind == "half":
        (folder / "decoder.pt").unlink()
    elif kind == "config":
        (folder / "config.json").unlink()
    elif kind == "cut":
        data = (folder / "flax_model.msgpack").read_bytes()
        (folder / "flax_model.msgpack").write_bytes(data[:-9])
    elif kind == "unknown":
        tree = public.flax_tree() | {("model", "encoder", "extra"): np.ones(3, "f4")}
        public.write_msgpack(folder / "flax_model.msgpack", tree)
    elif kind == "layer":
        tensors = public.half("decoder")
        del tensors["layers.1.glu.fc1.weight"]
        files.state_dict(folder / "decoder.pt", tensors)
    elif kind == "pieces":
        (folder / "vocab.json").write_text(json.dumps(public.VOCAB | {"zz": 999}))
    elif kind == "no end":
        table = {k: v for k, v in public.VOCAB.items() if k != "</s>"}
        ids = {k: i for i, k in enumerate(table)}
        (folder / "vocab.json").write_text(json.dumps(ids))
    elif kind == "wordpiece":
        table = {"model": {"type": "WordPiece"}, "pre_tokenizer": None}
        (folder / "tokenizer.json").write_text(json.dumps(table))
    else:
        settings = public.SETTINGS | json.loads(kind)
        (folder / "config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("dalle-mini-torch", "half", "the decoder is missing: give decoder.pt"),
        ("dalle-mini-torch", "layer", "decoder.layers.1.glu.fc1.weight is missing"),
        ("dalle-mini-torch", "pieces", "no good vocabulary: its ids are not 0, 1, 2"),
        ("dalle-mini-torch", "no end", "the text tokenizer has no </s>"),
        ("dalle-mini", "config", "config.json is missing, which says the heads"),
        ("dalle-mini", "cut", "flax_model.msgpack are no file of Flax.*cut off|within"),
        ("dalle-mini", "unknown", "encoder.extra is unknown"),
        ("dalle-mini", "wordpiece", "'WordPiece' behind None, expected BPE"),
        ("dalle-mini", '{"ln_positions": "swinv2"}', "says ln_positions 'swinv2'"),
        ("dalle-mini", '{"tie_word_embeddings": true}', "only False can be imported"),
        ("dalle-mini", '{"decoder_layers": 3}', "only equal ones can be imported"),
        ("dalle-mini", '{"encoder_attention_heads": "2"}', "equal|whole numbers"),
        ("dalle-mini", '{"decoder_start_token_id": 99}', "make no DALL-E mini"),
    ],
)
def test_what_does_not_fit_is_refused(sources, tmp_path, name, kind, words):
    folder = shutil.copytree(sources[name], tmp_path / "source")
    change_file(folder, kind)
    with pytest.raises(UserError, match=words) as caught:
        import_model([folder], tmp_path / "model")
    assert "\n" not in str(caught.value) and not (tmp_path / "model").exists()


MINI = EncoderDecoderConfig()
MEGA = EncoderDecoderConfig(
    width=2048,
    depth=24,
    heads=32,
    mlp_dim=4096,
    text_vocab_size=50272,
    vocab_size=16416,
)


@pytest.mark.parametrize(
    ("config", "total"), [(MINI, 437_833_712), (MEGA, 2_587_521_024)]
)
def test_released_sizes(config, total):
    """Names and shapes of the release, written here from its configs."""
    d, m = config.width, config.mlp_dim
    norm = {"weight": (d,), "bias": (d,)}
    attention = {f"{x}_proj.weight": (d, d) for x in "qkv"} | {
        "out_proj.weight": (d, d)
    }
    glu = {"ln0.bias": (d,), "ln1.bias": (m,), "fc0.weight": (m, d)}
    glu |= {"fc1.weight": (m, d), "fc2.weight": (d, m)}

    def named(prefix, shapes):
        return {f"{prefix}.{k}": shape for k, shape in shapes.items()}

    layer = {"pre_self_attn_layer_norm.bias": (d,)}
    layer |= named("self_attn_layer_norm", norm)
    layer |= named("self_attn", attention) | named("glu", glu)
    cross = {"pre_encoder_attn_layer_norm.bias": (d,)}
    cross |= named("encoder_attn_layer_norm", norm) | named("encoder_attn", attention)
    wanted = {"decoder.lm_head.weight": (config.vocab_size, d)}
    for half, size, length, more in (
        ("encoder", config.text_vocab_size, 64, {}),
        ("decoder", config.vocab_size, 256, cross),
    ):
        around = {"embed_tokens.weight": (size, d), "final_ln.bias": (d,)}
        around |= {"embed_positions.weight": (length, d)}
        around |= named("layernorm_embedding", norm)
        for i in range(config.depth):
            around |= named(f"layers.{i}", layer | more)
        wanted |= named(half, around)
    found = sources_of(list(names.rules_of(config)))
    assert {k: x.shape for k, x in found.items()} == wanted
    assert sum(np.prod(x.shape) for x in leaves_of(config).values()) == total
