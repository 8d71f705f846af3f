"""The objective of T5 against its statement in float64 numpy, decoder and head."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from cogjax.models.t5 import T5Config
from cogjax.parallel.mesh import MeshConfig, make_mesh, place_batch
from cogjax.parallel.rules import tree_shardings
from cogjax.tasks.span_corruption import PretrainingConfig, SpanCorruptionTask
from tests.reference import t5 as reference
from tests.reference.numeric import double, log_softmax

CONFIG = T5Config(
    width=12, depth=1, heads=2, head_dim=5, mlp_dim=20, vocab_size=128, text_len=20
)
TASK = SpanCorruptionTask(CONFIG, PretrainingConfig(0.4, decoder_depth=2))
LENGTHS = np.array([[20, 10], [6, 3], [1, 1]])
BRANCHES = {
    "encoder": ("SelfAttention", "DenseReluDense"),
    "decoder": ("SelfAttention", "EncDecAttention", "DenseReluDense"),
}
OURS = {
    "SelfAttention": "attention",
    "EncDecAttention": "cross_attention",
    "DenseReluDense": "mlp",
}
PARTS = {"query": "q", "key": "k", "value": "v", "attn_out": "o"}
PARTS |= {"mlp_gate": "wi_0", "mlp_in": "wi_1", "mlp_out": "wo"}


@pytest.fixture(scope="module")
def params():
    """Far from the start values, so that every part matters."""
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        middle = 1.0 if path[-1].key == "scale" else 0.0
        return np.float32(rng.normal(middle, 0.3, shape.shape))

    shapes, _ = jax.eval_shape(TASK.init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(leaf, shapes)


@pytest.fixture(scope="module")
def batch():
    spec, rng = TASK.batch_spec(3), np.random.default_rng(1)
    found = {k: rng.integers(2, 128, v.shape).astype(v.dtype) for k, v in spec.items()}
    for name, lengths in zip(found, LENGTHS.T, strict=True):
        places = np.arange(found[name].shape[1])
        found[name][places >= lengths[:, None]] = 0
    return found


def tensors_of(params, stack):
    """The parameters of a stack under the names of the release."""
    first = f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    found = {first: params["relative_bias"]}
    found[f"{stack}.final_layer_norm.weight"] = params["final_norm"]["scale"]
    for place, branch in enumerate(BRANCHES[stack]):
        for part, leaves in params["layers"]["layers"][OURS[branch]].items():
            (stacked,) = leaves.values()
            for i, leaf in enumerate(stacked):
                name = f"{stack}.block.{i}.layer.{place}"
                if part == "norm":
                    found[f"{name}.layer_norm.weight"] = leaf
                else:
                    rows = len(leaf) * (leaf.shape[1] if part == "attn_out" else 1)
                    matrix = leaf.reshape(rows, -1).T
                    found[f"{name}.{branch}.{PARTS[part]}.weight"] = matrix
    return found


def reference_losses(params, ids, targets):
    """(-log p, whether it is the likeliest) of each id of one target."""
    tensors = {
        k: v for name in params for k, v in tensors_of(params[name], name).items()
    }
    table = params["encoder"]["token_embedding"]
    tensors = double(tensors | {"shared.weight": table})
    tokens = reference.encoder(tensors, ids, ids > 0, 1)
    before = tensors["shared.weight"][[0, *targets[:-1]]]
    states = reference.decoder(tensors, before, tokens, ids > 0, 2)
    logs = log_softmax(reference.head(states, tensors["shared.weight"]))
    return -logs[np.arange(len(targets)), targets], logs.argmax(-1) == targets


def test_loss_is_the_mean_over_all_targets(params, batch):
    found = [
        reference_losses(params, ids, targets[targets > 0])
        for ids, targets in zip(batch["ids"], batch["targets"], strict=True)
    ]
    losses, hits = (np.concatenate(part) for part in zip(*found, strict=True))
    assert len(losses) == 14
    loss, (state, metrics) = jax.jit(TASK.loss)(params, {}, batch, None)
    assert state == {}
    np.testing.assert_allclose(loss, losses.mean(), rtol=1e-5)
    np.testing.assert_allclose(metrics["accuracy"], hits.mean(), rtol=1e-5)
    assert int(TASK.weights(batch)["loss"]) == 14


def test_a_mesh_changes_no_loss(params, batch):
    mesh = make_mesh(MeshConfig(2, 2, 2), jax.devices())
    rows = jax.tree.map(lambda x: np.resize(x, (4, *x.shape[1:])), batch)
    loss = jax.jit(lambda params, batch: TASK.loss(params, {}, batch, None)[0])
    shardings = tree_shardings(params, mesh, TASK.param_axes)
    specs = {
        "/".join(part.key for part in path[-2:]): sharding.spec
        for path, sharding in jax.tree_util.tree_leaves_with_path(shardings)
    }
    assert specs["query/kernel"] == PartitionSpec(None, "fsdp", "tensor", None)
    assert specs["attn_out/kernel"] == PartitionSpec(None, "tensor", None, "fsdp")
    assert specs["mlp_gate/kernel"] == PartitionSpec(None, "fsdp", "tensor")
    assert specs["encoder/relative_bias"] == PartitionSpec(None, "tensor")
    with jax.set_mesh(mesh):
        split = jax.device_put(params, shardings), place_batch(rows, mesh)
        found = float(loss(*split))
    np.testing.assert_allclose(found, float(loss(params, rows)), rtol=1e-5)


def test_start_values_give_an_even_guess(batch):
    """The loss of a new run is near that of knowing nothing."""
    params, state = jax.jit(TASK.init)(jax.random.key(0))
    found = jax.jit(TASK.eval_metrics)(params, state, batch, None)
    assert abs(float(found["loss"]) - np.log(128)) < 1
    norms = jax.tree.leaves(params["encoder"]["layers"]["layers"]["mlp"]["norm"])
    assert all(np.all(np.asarray(leaf) == 1) for leaf in norms)
