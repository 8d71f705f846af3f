"""From a config to a training run: finds the stage, builds its job, then calls `fit`.

The task of the config names the stage (`cogjax/catalogue.py`). What a run has learnt is
written to WORKDIR/export when it ends.
"""

import dataclasses
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from cogjax import model_folder
from cogjax.catalogue import resolve, stages
from cogjax.config import did_you_mean, load_json, section
from cogjax.errors import UserError
from cogjax.parallel.mesh import make_mesh
from cogjax.parallel.powersgd import count_bytes
from cogjax.stages.sections import RunConfig
from cogjax.stages.seen_words import seen_words
from cogjax.stages.stage import Stage
from cogjax.train.checkpoint import restore_params
from cogjax.train.compression import compressed_matrices
from cogjax.train.loop import fit
from cogjax.train.session import Job


def train(config: Mapping[str, Any], workdir: str | os.PathLike) -> Path:
    """Runs or resumes the training that a resolved config describes.

    Returns the export folder. UserError for anything in the config or data that does
    not fit, before any compilation.
    """
    workdir = Path(workdir)
    model_folder.MODEL.check(workdir / "export", overwrite=True)
    stage, run = _found(config)
    mesh = make_mesh(run.mesh)

    def job() -> Job:
        return dataclasses.replace(stage.job(run, workdir), config=dict(config))

    # Without a name here: `fit` lets go of the weights that a run starts from.
    fit(job(), run.train, run.optim, mesh, workdir)
    return export(workdir, workdir / "export", overwrite=True)


def export(
    workdir: str | os.PathLike,
    out: str | os.PathLike,
    dtype: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Writes the latest checkpoint's EMA weights of a run as a tokenizer or model.

    With `overwrite` an earlier one in `out` is replaced; UserError if `out` holds
    anything else.
    """
    workdir, out = Path(workdir), model_folder.MODEL.check(out, overwrite)
    config = load_json(workdir / "config.json")
    params, state, fingerprint = restore_params(workdir, "ema")
    stage, run = _found(config)
    digest = stage.sources_digest(run)
    if digest and digest not in fingerprint.split("/"):
        raise UserError(
            f"a model that {workdir} reads is another one now than it was trained "
            "with: put that back where the config's section 'data' says, and export "
            "again"
        )
    model = stage.export(run, params, state)
    if model.text:
        model = dataclasses.replace(model, words=seen_words(run.data, fingerprint))
    return model_folder.save(model, out, dtype, overwrite)


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter counts and sizes of a config, without data or compilation."""
    stage, run = _found(config)
    task, powersgd = stage.task(run), run.optim.powersgd
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    sizes = {"parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}
    if powersgd.rank:
        sent = count_bytes(powersgd, compressed_matrices(powersgd, task), params)
        sizes["bytes of gradients that workers sum, exact"] = sent.exact
        sizes["bytes of gradients that workers sum, compressed"] = sent.compressed
        sizes["bytes of errors a worker"] = sent.error
    return sizes


def _found(config: Mapping[str, Any]) -> tuple[Stage, RunConfig]:
    """The stage and its typed config; UserError for a wrong key."""
    stage, run = find_stage(config), RunConfig.of(config)
    section(stage.sampler, run.sample.sampler, "sample.sampler")
    return stage, run


def find_stage(config: Mapping[str, Any]) -> Stage:
    """The stage of a config's task; UserError for a task that no family has."""
    name, known = config.get("task", {}).get("name"), stages()
    if name not in known:
        hint = did_you_mean(str(name), known)
        raise UserError(f"config key 'task.name': unknown task {name!r}{hint}")
    return resolve(known[name])
