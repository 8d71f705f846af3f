"""From a config to a training run: builds task, data and hooks, then calls `fit`.

The one place that knows both the networks and the training loop. Its tasks:

    vq           images -> tokenizer folder (config.json, tokenizer.safetensors)
    vqgan        the same, with a discriminator
    decoder      images + tokenizer or model folder -> the same with another decoder
    lm           images + tokenizer folder + text.model -> model folder (`cogjax.load`)
    ernie_vilg   the same in both directions at once
    end_to_end   the same, and a reconstructor of the pictures

Either folder is written to WORKDIR/export when the run ends.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from cogjax import model_folder
from cogjax.config import load_json
from cogjax.errors import UserError
from cogjax.families.cogview.layout import Layout
from cogjax.families.ernie_vilg.layout import TwoWayLayout
from cogjax.parallel.mesh import make_mesh
from cogjax.stages import tokenizer, transformer
from cogjax.stages.sections import sections_of
from cogjax.stages.transformer import KINDS, Task, Transformer
from cogjax.train.checkpoint import restore_params
from cogjax.train.loop import fit


def train(config: Mapping[str, Any], workdir: str | os.PathLike) -> Path:
    """Runs or resumes the training that a resolved config describes.

    Returns the export folder. UserError for anything in the config or data that does
    not fit, before any compilation.
    """
    workdir = Path(workdir)
    model_folder.MODEL.check(workdir / "export", overwrite=True)
    sections = sections_of(config)
    mesh = make_mesh(sections["mesh"])
    if _task_name(config) in tokenizer.KINDS:
        run = tokenizer.make_run(tokenizer.make_trained_task(config), sections)
    else:
        run = transformer.make_run(Transformer.of(config, sections), sections, workdir)
    fit(
        run.task,
        run.batches,
        sections["train"],
        sections["optim"],
        mesh,
        workdir,
        hooks=((sections["train"].sample_every, run.sample),),
        eval_batches=run.eval_batches,
        fingerprint=run.fingerprint,
        run_config=dict(config),
        start_params=run.start_params,
        start_state=run.start_state,
    )
    return export(workdir, workdir / "export")


def export(workdir: str | os.PathLike, out: str | os.PathLike, dtype=None) -> Path:
    """Writes the latest checkpoint's EMA weights of a run as a tokenizer or model.

    An earlier one in `out` is replaced; UserError if `out` holds anything else.
    """
    workdir, out = Path(workdir), model_folder.MODEL.check(out, overwrite=True)
    config = load_json(workdir / "config.json")
    params, state, fingerprint = restore_params(workdir, "ema")
    if _task_name(config) in tokenizer.KINDS:
        task = tokenizer.make_task(config)
        _check_sources(workdir, tokenizer.sources_digest(task), fingerprint)
        return tokenizer.save(task, config, params, state, out, dtype)
    sections = sections_of(config)
    digest = transformer.sources_digest(sections["data"])
    _check_sources(workdir, digest, fingerprint)
    model = Transformer.of(config, sections).model(params, sections["sample"].sampler)
    return model_folder.save(model, out, dtype)


def _check_sources(workdir: Path, digest: str, fingerprint: str) -> None:
    """UserError if the digest of a run's tokenizers is no part of its fingerprint."""
    if digest and digest not in fingerprint.split("/"):
        raise UserError(
            f"the tokenizer of {workdir} is another one now than it was trained with: "
            "put that back where the config's section 'data' says, and export again"
        )


def lm_task(config: Mapping[str, Any]) -> tuple[Task, Layout | TwoWayLayout]:
    """Objective of a transformer run and the layout of its sequences, without data."""
    lm = Transformer.of(config, sections_of(config))
    return lm.task, lm.layout


def describe(config: Mapping[str, Any]) -> dict[str, Any]:
    """Parameter counts and sizes of a config, without data or compilation."""
    sections = sections_of(config)
    if _task_name(config) in tokenizer.KINDS:
        task = tokenizer.make_task(config)
    else:
        task = Transformer.of(config, sections).task
    params, _ = jax.eval_shape(task.init, jax.random.key(0))
    return {"parameters": sum(leaf.size for leaf in jax.tree.leaves(params))}


def _task_name(config: Mapping[str, Any]) -> str:
    name = config.get("task", {}).get("name")
    names = (*tokenizer.KINDS, *KINDS)
    if name not in names:
        raise UserError(
            f"config key 'task.name' expects {', '.join(names)}, got {name!r}"
        )
    return name
