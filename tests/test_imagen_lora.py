"""LoRA of a U-Net: a stage of a cascade that is there."""

import jax
import numpy as np
import pytest

import cogjax
from cogjax import model_folder
from cogjax.adapter import save_adapter
from cogjax.errors import UserError
from cogjax.nn.lora import init_adapter
from cogjax.stages import run as launch
from cogjax.stages.sections import RunConfig
from tests.test_distillation import cascade  # noqa: F401
from tests.test_imagen import configured, train

LORA = {"lora.rank": 2, "lora.match": '("conv_in","query","out")'}


def values(cascade, nano_data, **more):  # noqa: F811
    given = {"data.path": nano_data, "data.text": cascade["text"], "data.vectors": ""}
    return given | {"data.weights": cascade["base"]} | LORA | more


def found(cascade, nano_data, **more):  # noqa: F811
    """(stage, run) of a config with LoRA."""
    config = configured("shapes.py:base,nano", **values(cascade, nano_data, **more))
    return launch.find_stage(config), RunConfig.of(config)


def test_an_exported_cascade_is_its_base_with_the_adapter(
    cascade,  # noqa: F811
    nano_data,
    tmp_path,
):
    stage, run = found(cascade, nano_data)
    name, base = stage.base(run)
    shapes = jax.eval_shape(
        lambda key: init_adapter(key, base.params, run.lora), jax.random.key(0)
    )
    rng = np.random.default_rng(0)
    changes = jax.tree.map(lambda x: np.float32(rng.normal(size=x.shape)), shapes)
    merged = stage.export(run, changes, {})
    adapter, _ = stage.adapter(run, changes)
    folder = save_adapter(adapter, base.params, tmp_path / "adapter")
    used = cogjax.load(cascade["base"], adapters={folder: 1.0}).model
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5),
        merged[name].params,
        used[name].params,
    )
    moved = merged[name].params["mid.attention"]["query"]["kernel"]
    assert np.abs(moved - base.params["mid.attention"]["query"]["kernel"]).max() > 0.1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"data.weights": ""}, "'data.weights' is required for task imagen here"),
        ({"model.width": 16}, "no stage of .* has the network of the section 'model'"),
        ({"task.prediction": "eps"}, "trained with v, cosine, and .* says eps, cosine"),
    ],
)
def test_another_network_or_objective_is_refused(
    cascade,  # noqa: F811
    nano_data,
    more,
    message,
):
    stage, run = found(cascade, nano_data, **more)
    with pytest.raises(UserError, match=message):
        stage.base(run)


@pytest.mark.slow
def test_a_u_net_is_adapted(cascade, nano_data, tmp_path):  # noqa: F811
    own = {"train.sample_every": 0, "optim.name": "adamw", "optim.lr": 1e-3}
    given = values(cascade, nano_data, **own)
    folder = train("shapes.py:base,nano", tmp_path / "run", **given)
    merged = model_folder.load(folder)
    adapters = {tmp_path / "run" / "adapter": 1.0}
    used = cogjax.load(cascade["base"], adapters=adapters).model
    for a, b in zip(
        jax.tree.leaves(merged["base"].params),
        jax.tree.leaves(used["base"].params),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, atol=1e-5)
