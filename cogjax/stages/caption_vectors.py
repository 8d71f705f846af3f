"""The captions of a run's data set as vectors of a text encoder, made once."""

from pathlib import Path
from typing import NamedTuple

import jax

from cogjax.data import records
from cogjax.errors import UserError
from cogjax.model import Model
from cogjax.pipelines.text_encoder import computing_in, digest_of
from cogjax.stages.encode_text import encode_texts
from cogjax.stages.sections import DataConfig
from cogjax.stages.sharded import EncodeSettings
from cogjax.train.lock import lock_workdir
from cogjax.train.processes import barrier, say


class TextSource(NamedTuple):
    """A text encoder that is read already. folder: where it is. model: with it, its
    text tokenizer and the layout that says how texts are cleaned.
    """

    folder: str
    model: Model


def caption_vectors(data: DataConfig, source: TextSource, workdir: Path) -> str | Path:
    """The folder of the vectors of both splits: data.vectors, or made in `workdir`.

    UserError for vectors of other captions, or of another encoder.
    """
    if data.vectors:
        return _check(data, source)
    return _encode(data, source, workdir)


def _encode(data: DataConfig, source: TextSource, workdir: Path) -> Path:
    """The folder of the captions' vectors, made by all processes together."""
    text, out, splits = source.folder, workdir / "texts", (data.split, data.eval_split)
    settings = EncodeSettings(splits=tuple(dict.fromkeys(splits)), budget=0.0)
    place = jax.process_index(), jax.process_count()
    workdir.mkdir(parents=True, exist_ok=True)
    with lock_workdir(workdir):
        report = encode_texts(data.path, source.model, out, settings, process=place)
        if report.cut:
            say(f"{report.cut} captions are longer than {text} reads, and were cut")
        if report.unknown:
            say(f"{report.unknown} captions are left out, which {text} cannot read")
        barrier("texts")
    return out


def _check(data: DataConfig, source: TextSource) -> str:
    """The folder data.vectors; UserError unless it is of this data and encoder."""
    folder, manifest = data.vectors, records.read_manifest(data.path)
    found = records.read_manifest(folder)
    if found.kind != records.EMBEDDINGS:
        raise UserError(
            f"data.vectors, {folder}, holds {found.kind}: give a folder of `cogjax "
            "encode-text`"
        )
    again = (
        f"encode again: cogjax encode-text --data {data.path} --model {source.folder}"
    )
    made_from = found.info.get("source")
    known = isinstance(made_from, dict) and made_from.get("fingerprint")
    if known != manifest.fingerprint:
        raise UserError(f"{folder} has the vectors of another data set: {again}")
    # Vectors are stored in bfloat16, whatever they were computed in.
    own = (computing_in(source.model, dtype) for dtype in ("float32", "bfloat16"))
    if not any(digest_of(each) == found.info.get("text_encoder") for each in own):
        raise UserError(f"{folder} was made by another text encoder: {again}")
    for split in (data.split, data.eval_split):
        counts = found.counts.get(split, 0), manifest.counts.get(split, 0)
        if counts[0] != counts[1]:
            raise UserError(
                f"{folder} has vectors of {counts[0]} of {counts[1]} examples of split "
                f"'{split}': {again} --budget 0"
            )
    return folder
