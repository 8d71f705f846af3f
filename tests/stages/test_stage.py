"""What every stage keeps of its contract."""

import jax
import numpy as np
import pytest

from cogjax import catalogue, config, model_folder
from cogjax.catalogue import Family, resolve, stages
from cogjax.errors import UserError
from cogjax.stages.run import find_stage
from cogjax.stages.sections import RunConfig
from cogjax.stages.stage import Stage

CONFIGS = {
    "vq": "experiments/cogview/emoji.py:tokenizer,nano",
    "masked": "experiments/cogview/masked.py:nano",
    "lm": "experiments/cogview/emoji.py:transformer,nano",
    "ernie_vilg": "experiments/ernie_vilg/shapes.py:transformer,nano",
    "end_to_end": "experiments/ernie_vilg/end_to_end.py:end_to_end,nano",
    "t5": "experiments/imagen/text.py:nano",
    "vqgan": "experiments/vqgan/shapes.py:shapes,nano",
    "dvae": "experiments/dalle/shapes.py:tokenizer,nano",
    "dalle": "experiments/dalle/shapes.py:transformer,nano",
    "decoder": "experiments/vqgan/decoder.py:shapes,nano",
    "clip": "experiments/clip/icons.py:nano",
}
# In tests of their own, which have what they start from.
ELSEWHERE = {"imagen", "imagen_super", "imagen_distill", "imagen_super_distill"}
ELSEWHERE |= {"dalle_mini", "llamagen", "llamagen_captions", "mindalle", "rudalle"}


def test_every_task_names_a_stage():
    assert stages().keys() == CONFIGS.keys() | ELSEWHERE
    assert all(isinstance(resolve(spec), Stage) for spec in stages().values())


@pytest.mark.parametrize("task", CONFIGS)
def test_batches_are_what_the_task_says(task, nano_data, nano_folder, tmp_path):
    values = {"data.path": nano_data, "train.batch_size": 4, "eval.batches": 1}
    if task not in ("t5", "vq", "vqgan", "clip", "dvae"):
        values["data.tokenizer"] = nano_folder
    if task in ("lm", "masked", "dalle", "ernie_vilg", "end_to_end", "clip", "t5"):
        values["data.text"] = nano_folder / "text.model"
    words = [f"--config.{key}={value}" for key, value in values.items()]
    found = config.load(CONFIGS[task], words)
    assert found["task"]["name"] == task
    job = find_stage(found).job(RunConfig.of(found), tmp_path)
    spec = job.task.batch_spec(4)
    for batch in (next(job.batches(0)), *job.eval_batches):
        got = jax.tree.map(lambda x: (x.shape, x.dtype), dict(batch))
        assert got == jax.tree.map(lambda x: (x.shape, x.dtype), spec)


def test_a_masked_model_starts_from_a_causal_one(nano_data, nano_folder, tmp_path):
    values = {"data.path": nano_data, "data.tokenizer": nano_folder}
    values |= {"data.text": nano_folder / "text.model", "data.weights": nano_folder}
    words = [f"--config.{key}={value}" for key, value in values.items()]
    found = config.load(CONFIGS["masked"], words)
    job = find_stage(found).job(RunConfig.of(found), tmp_path)
    trained = model_folder.load(nano_folder)["transformer"].params
    jax.tree.map(np.testing.assert_array_equal, job.start_params, trained)


def test_a_plan_is_of_the_tokenizers_of_the_weights(nano_folder):
    """As training is, where the config names no other."""
    values = {"weights": nano_folder, "path": "x", "tokenizer": "", "text": ""}
    words = [f"--config.data.{key}={value}" for key, value in values.items()]
    found = config.load(CONFIGS["masked"], words)
    planned = find_stage(found).plan(RunConfig.of(found))
    assert planned.num_codes == model_folder.load(nano_folder).layout.vocab.num_codes


def test_two_families_have_no_task_of_one_name(monkeypatch):
    both = {name: Family(name, "", stages={"same": "x:y"}) for name in ("one", "two")}
    monkeypatch.setattr(catalogue, "families", lambda: both)
    with pytest.raises(UserError, match="family 'two' has a task 'same', which"):
        stages()
