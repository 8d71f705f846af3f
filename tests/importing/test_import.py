"""The frame of `cogjax import`: what is detected, refused, written and remembered."""

import dataclasses
import hashlib
import json
import tracemalloc

import numpy as np
import pytest

import cogjax
from cogjax import model_folder
from cogjax.cli import main
from cogjax.data.text import TextTokenizer
from cogjax.errors import UserError
from cogjax.importing import import_model
from cogjax.interop import safetensors
from cogjax.interop.importer import leaves_of
from cogjax.interop.tree import flatten
from cogjax.pipelines.contracts import Codec, Generator
from tests.importing import files, public
from tests.importing.texts import T5


@pytest.fixture(scope="module")
def dvae(tmp_path_factory):
    return public.write_dvae(tmp_path_factory.mktemp("dvae"))


def copied(folder, tmp_path):
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_the_command_and_the_card(dvae, tmp_path, capsys):
    out = tmp_path / "model"
    assert main(["import", str(dvae), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "openai-dvae, tokenizer (dvae)" in printed
    assert main(["verify", str(out)]) == 0
    card = json.loads((out / "config.json").read_bytes())["card"]
    assert card["imported_as"] == "openai-dvae" and "MIT" in card["licence"]
    digests = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in dvae.iterdir()
    }
    assert card["source"] == digests
    assert set(digests) == {"encoder.pkl", "decoder.pkl"}


def test_both_containers_and_files_give_the_same(dvae, tmp_path):
    (tmp_path / "zip").mkdir()
    public.write_dvae(tmp_path / "zip", legacy=False)
    import_model([dvae / "decoder.pkl", dvae / "encoder.pkl"], tmp_path / "a")
    import_model([tmp_path / "zip"], tmp_path / "b")
    leaves = [tmp_path / name / "tokenizer.safetensors" for name in "ab"]
    assert leaves[0].read_bytes() == leaves[1].read_bytes()


def test_bfloat16_is_half_as_large_and_rounded(dvae, tmp_path):
    import_model([dvae], tmp_path / "a")
    import_model([dvae], tmp_path / "b", dtype="bfloat16")
    paths = [tmp_path / name / "tokenizer.safetensors" for name in "ab"]
    whole, half = (flatten(safetensors.load_tree(path)) for path in paths)
    assert paths[1].stat().st_size < 0.6 * paths[0].stat().st_size
    for name, leaf in whole.items():
        np.testing.assert_allclose(half[name], leaf, rtol=2**-8)
    assert any(np.any(half[name] != leaf) for name, leaf in whole.items())


def test_a_model_is_replaced_only_if_asked(dvae, tmp_path):
    out = tmp_path / "model"
    import_model([dvae], out)
    with pytest.raises(UserError, match="holds a model folder.*--overwrite"):
        import_model([dvae], out)
    import_model([dvae], out, overwrite=True)
    assert model_folder.load(out)["tokenizer"].kind == "dvae"


def refused(sources, tmp_path, words, **settings):
    out = tmp_path / "out"
    with pytest.raises(UserError, match=words) as error:
        import_model(sources, out, **settings)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600
    assert not out.exists()


def test_half_of_a_model(dvae, tmp_path):
    refused([dvae / "encoder.pkl"], tmp_path, "give decoder.pkl too")
    refused([dvae / "decoder.pkl"], tmp_path, "give encoder.pkl too")
    (tmp_path / "x").write_bytes((dvae / "encoder.pkl").read_bytes())
    refused([dvae, tmp_path / "x"], tmp_path, "both encoders")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.pop("blocks.output.conv.b"), "blocks.output.conv.b is missing"),
        (lambda t: t.update(extra=np.zeros(2, "f4")), "extra is unknown"),
        # A thousand blocks would take minutes to be described.
        (
            lambda t: t.update(
                {"blocks.group_1.block_999.res_path.conv_1.w": np.ones(1, "f4")}
            ),
            "only 3 of 1000 layers or blocks are there",
        ),
        (
            lambda t: t.update({"blocks.output.conv.b": np.zeros(3, "f4")}),
            r"blocks.output.conv.b is \(3,\), expected \(24,\)",
        ),
        (
            lambda t: t["blocks.output.conv.b"].fill(np.nan),
            "encoder/out/bias has values that are no numbers",
        ),
        (
            lambda t: t.update({"blocks.output.conv.b": np.zeros(24, "i8")}),
            "blocks.output.conv.b is int64, expected floats",
        ),
    ],
)
def test_tensors_that_do_not_fit(dvae, tmp_path, change, words):
    folder = tmp_path / "source"
    folder.mkdir()
    copied(dvae, folder)
    tensors = public.part(public.dvae_tensors(), "encoder.")
    change(tensors)
    files.module(folder / "encoder.pkl", tensors)
    refused([folder], tmp_path, words)


def test_files_that_are_no_model_here(tmp_path):
    refused([tmp_path / "none.pt"], tmp_path, "there is no such file or folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    refused([empty], tmp_path, "no weights of PyTorch, Flax or safetensors here")
    page = tmp_path / "x.ckpt"
    page.write_bytes(b"<!doctype html>")
    refused([page], tmp_path, "HTML page: the download failed")
    odd = files.state_dict(tmp_path / "odd.pt", {"some.w": np.zeros((2, 3), "f4")})
    refused([odd], tmp_path, "no family here has tensors such as 'some.w'; known are")
    refused([odd], tmp_path, "did you mean 'openai-dvae'", name="openai-dvea")
    refused([odd], tmp_path, "blocks.input.w is missing", name="openai-dvae")


def test_files_that_nothing_reads(dvae, tmp_path):
    text = tmp_path / "words.model"
    text.write_bytes(b"x")
    refused([dvae, text], tmp_path, "words.model is nothing that openai-dvae reads")


def test_the_source_stays(dvae, tmp_path):
    import_model([dvae], tmp_path)
    with pytest.raises(UserError, match="is or holds"):
        import_model([tmp_path / "tokenizer.safetensors"], tmp_path, overwrite=True)


def test_a_cut_file(dvae, tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    copied(dvae, folder)
    data = (folder / "encoder.pkl").read_bytes()
    (folder / "encoder.pkl").write_bytes(data[: len(data) // 2])
    refused([folder], tmp_path, "encoder.pkl refused")


@pytest.mark.parametrize("root", [("state_dict",), ("module",), ("model", "module")])
def test_what_trainers_put_around_the_weights(tmp_path, root):
    from cogjax.interop.source import open_source

    tensors = {"a.w": np.ones((2, 3), "f4"), "b": np.zeros(2, "f4")}
    path = files.state_dict(tmp_path / "x.pt", tensors, root)
    source = open_source([path])
    assert source.names == {"a.w", "b"} and not source.beside


def test_an_index_names_a_file_that_is_missing(tmp_path):
    tensors = {"a.w": np.ones((2, 3), np.float32)}
    safetensors.save_tree(tmp_path / "model-1.safetensors", tensors, None)
    index = {"weight_map": {"a.w": "model-1.safetensors", "b": "model-2.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    refused([tmp_path], tmp_path, "names .model-2.safetensors., which is missing")
    index["weight_map"]["b"] = "x" * 5000
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    refused([tmp_path], tmp_path, "names 'x{59}[.]{3} .5002 characters., which")


def test_an_index_of_copies_is_left_alone(tmp_path):
    """Such as one for TensorFlow, without its files."""
    files.state_dict(tmp_path / "w.bin", {"a.w": np.ones((2, 3), "f4")})
    index = {"weight_map": {"a.w": "tf_model-1.h5", "b": "tf_model-2.h5"}}
    (tmp_path / "tf_model.h5.index.json").write_text(json.dumps(index))
    refused([tmp_path], tmp_path, "no family here has tensors such as 'a.w'")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_memory_is_that_of_a_tensor_not_of_the_file(tmp_path, dtype):
    """A tensor as it is read, and its converted copy."""
    config = dataclasses.replace(public.DVAE, width=64, codebook_size=64)
    folder = tmp_path / "source"
    folder.mkdir()
    tensors = public.dvae_tensors(config)
    total = sum(x.nbytes for x in tensors.values())
    largest = max(x.nbytes for x in tensors.values())
    public.write_dvae(folder, tensors=tensors)
    leaves_of(config)  # Tracing takes memory of its own, once.
    tracemalloc.start()
    try:
        import_model([folder], tmp_path / "out", dtype=dtype)
        used = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    print(f"{used / 1e6:.1f} MB of {total / 1e6:.1f}, largest {largest / 1e6:.1f}")
    assert used < 2.5 * largest + 2e6 < total / 2


@pytest.mark.parametrize("form", ["nearest", "gumbel"])
def test_a_vqgan_has_the_sizes_of_its_tensors(tmp_path, form):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_vqgan(folder, form)
    found = import_model([folder], tmp_path / "a")
    assert found.dropped == ("loss.discriminator.w",)
    assert (
        model_folder.load_component(tmp_path / "a", "tokenizer").config
        == (public.VQGANS[form])
    )
    card = json.loads((tmp_path / "a" / "config.json").read_bytes())["card"]
    assert card["dropped"] == ["loss.discriminator.w"]
    assert set(card["source"]) == {"last.ckpt", "model.yaml"}
    # Without the config file all but the size of images is known.
    found = import_model([folder / "last.ckpt"], tmp_path / "b")
    assert "256 px" in found.notes[0]
    config = model_folder.load_component(tmp_path / "b", "tokenizer").config
    assert config == dataclasses.replace(
        public.VQGANS[form], image_size=256, attention=(128,)
    )
    assert config.attention_levels == public.VQGANS[form].attention_levels


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        ({"quantize.used": np.ones(3, "i8")}, {}, "quantize.used is unknown"),
        (
            {},
            {"ch_mult": [1, 4]},
            r"says ch_mult \[1, 4\], the weights are",
        ),
        ({}, {"attn_resolutions": [16]}, r"says attn_resolutions \[16\]"),
        ({}, {"double_z": True}, "says double_z True"),
        ({}, {"resolution": "big"}, "resolution is 'big', expected a size"),
        (
            {"decoder.up.0.attn.0.q.weight": np.ones((32, 32, 1, 1), "f4")},
            {"attn_resolutions": [16, 8]},
            "decoder.up.0.attn.0.k.bias is missing.*26 more",
        ),
    ],
)
def test_vqgans_that_do_not_fit(tmp_path, change, settings, words):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_vqgan(folder, change=change, **settings)
    refused([folder], tmp_path, words)


@pytest.mark.parametrize("name", ["clip", "clip-hf"])
def test_a_clip_reads_texts_with_its_merges(tmp_path, name):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_clip(folder, name)
    found = import_model([folder], tmp_path / "clip")
    part = model_folder.load_component(tmp_path / "clip", "clip")
    assert part.config == dataclasses.replace(
        public.CLIP, pixel_mean=part.config.pixel_mean, pixel_std=part.config.pixel_std
    )
    assert part.config.pixel_mean[0] == 0.48145466 and not found.notes
    clip = cogjax.load(tmp_path / "clip")
    # "cat" is the second merge, "the" is "th" and "e" at the end of a word.
    assert clip.model.text.encode("the cat") == [514, 256 + ord("e") - 33, 513]
    images = np.zeros((1, 24, 24, 3), np.uint8)
    assert clip.score(images, "the cat").shape == (1,)


def test_a_clip_without_merges_says_so(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_clip(folder)
    (folder / "merges.txt.gz").unlink()
    found = import_model([folder], tmp_path / "clip")
    assert "bpe_simple_vocab_16e6.txt.gz" in found.notes[0]
    with pytest.raises(UserError, match="no text tokenizer: import it again"):
        cogjax.load(tmp_path / "clip")


def test_a_clip_with_a_resnet(tmp_path):
    names = (
        "visual.conv1.weight",
        "visual.attnpool.positional_embedding",
        "positional_embedding",
    )
    path = files.state_dict(tmp_path / "RN50.pt", {x: np.ones(2, "f4") for x in names})
    refused([path], tmp_path, "is a ResNet: take one with a vision transformer")


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("config.json", {"vision_config": {"hidden_act": "gelu"}}, "hidden_act 'gelu'"),
        ("config.json", {"text_config": {"num_attention_heads": 3}}, "heads 3, and"),
        (
            "open_clip_config.json",
            {"model_cfg": {"embed_dim": 3}},
            "says quick_gelu False and",
        ),
        (
            "preprocessor_config.json",
            {"image_mean": [0.5] * 2},
            "says image_mean .0.5, 0.5., expected three numbers",
        ),
        (
            "open_clip_config.json",
            {"model_cfg": {"quick_gelu": True, "vision_cfg": {"head_width": 80}}},
            "True and head_width 80",
        ),
        ("vocab.json", {"<|startoftext|>": 3}, "vocab.json has another id for '!'"),
        ("merges.txt", "#version: 0.2\nc a\n", "make 515 ids, the weights have 517"),
    ],
)
def test_clips_that_do_not_fit(tmp_path, name, content, words):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_clip(folder, "clip-hf")
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text)
    refused([folder], tmp_path, words)


def test_a_t5_encodes_texts(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_t5(folder)
    found = import_model([folder], tmp_path / "t5")
    assert set(found.dropped) == {
        "decoder.x.weight",
        "lm_head.weight",
        "encoder.embed_tokens.weight",
    }
    config = model_folder.load_component(tmp_path / "t5", "text_encoder").config
    assert config == T5
    (folder / "pytorch_model-1.bin").unlink()
    refused([folder], tmp_path, "names .pytorch_model-1.bin., which is missing")
    (folder / "pytorch_model.bin.index.json").unlink()
    refused([folder], tmp_path, "is missing")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"vocab_size": 300}, "pieces for 384 ids, the weights have 300"),
        ({"layer_norm_epsilon": 1e-5}, "has layer_norm_epsilon 1e-05: only 1e-06"),
    ],
)
def test_t5s_that_do_not_fit(tmp_path, change, words):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_t5(folder)
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | change))
    refused([folder], tmp_path, words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.json", "config.json of the T5 is missing"),
        ("spiece.model", "text tokenizer is missing: give spiece.model too"),
    ],
)
def test_what_a_t5_needs(tmp_path, name, words):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_t5(folder)
    (folder / name).unlink()
    refused([folder], tmp_path, words)


def test_a_cogview_generates(tmp_path):
    """Its three parts make one model; the transformer is where a file says."""
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_cogview(folder)
    found = import_model([folder], tmp_path / "model")
    assert found.components == {"tokenizer": "vqvae", "transformer": "image_lm"}
    assert "logits depend on the batch" in found.notes[0]
    model = cogjax.load(tmp_path / "model")
    assert isinstance(model, Generator) and isinstance(model, Codec)
    assert (model.grid, model.model.layout.text_len) == (32, 8)
    assert model.model.sampler.top_k == 200
    assert model.model["transformer"].config == public.COGVIEW
    assert model.model["tokenizer"].config == public.VQVAE


def test_parts_of_a_cogview(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_cogview(folder)
    transformer = folder / "1000" / "mp_rank_00_model_states.pt"
    found = import_model([transformer], tmp_path / "lm")
    assert found.components == {"transformer": "image_lm"}
    assert "give the VQ-VAE, the transformer and cog-pretrain.model" in found.notes[1]
    found = import_model([folder / "vqvae.pt"], tmp_path / "vq")
    assert found.components == {"tokenizer": "vqvae"}
    assert sorted(found.dropped) == ["quantize_t.cluster_size", "quantize_t.embed_avg"]
    other = folder / "1000" / "mp_rank_01_model_states.pt"
    other.write_bytes(transformer.read_bytes())
    refused([folder], tmp_path, "are 2 transformers, or parts of one: give one whole")
    other.unlink()
    (folder / "latest_checkpointed_iteration.txt").write_text("../x")
    refused([folder], tmp_path, "names '../x', which is no folder beside it")


def test_parts_of_two_cogviews(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_cogview(folder)
    words = TextTokenizer.train(["a red cat", "two blue dogs"] * 9, 281)
    words.save(folder / "cog-pretrain.model")
    tensors = public.cogview_tensors()
    tensors["word_embeddings.weight"] = np.ones((256, 128), "f4")
    path = folder / "1000" / "mp_rank_00_model_states.pt"
    files.state_dict(path, tensors, ("module",))
    refused([folder], tmp_path, "24 codes and 281 pieces of text make 384 ids")


@pytest.mark.parametrize("family", ["t5", "clip-hf"])
def test_copies_for_other_frameworks_are_left_alone(tmp_path, family):
    """Folders of Hugging Face have a flax_model.msgpack of any size."""
    folder = tmp_path / "source"
    folder.mkdir()
    public.WRITE[family](folder)
    with (folder / "flax_model.msgpack").open("wb") as file:
        file.write(b"\xde\x00")
        file.truncate(2**30)  # Without taking space.
    assert import_model([folder], tmp_path / "out").weights > 0


@pytest.mark.parametrize("kept", [0.001, 0.5, 0.999])
@pytest.mark.parametrize("family", ["openai-dvae", "cogview", "t5", "clip-hf", "vqgan"])
def test_downloads_that_broke_off(tmp_path, family, kept):
    """The largest file of each container, cut early, in the middle and at its end."""
    folder = tmp_path / "source"
    folder.mkdir()
    public.WRITE[family](folder)
    path = max(folder.rglob("*.*"), key=lambda x: x.stat().st_size)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    refused([folder], tmp_path, path.name)


def test_files_of_two_models(tmp_path):
    """Renamed they are what they were; of two models they are of none."""
    folder = tmp_path / "source"
    folder.mkdir()
    public.write_dvae(folder)
    (folder / "encoder.pkl").rename(folder / "decoder.bin")
    assert import_model([folder], tmp_path / "model").name == "openai-dvae"
    public.write_vqgan(folder)
    refused([folder], tmp_path, "may be of|is unknown|no family here has|and another")
