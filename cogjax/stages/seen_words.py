"""The list of the words that a run's texts hold, for the model that it exports."""

from collections.abc import Iterator

from cogjax import model_folder
from cogjax.data import records
from cogjax.data.codes import CodedExample
from cogjax.data.word_list import WordList
from cogjax.errors import UserError
from cogjax.stages.sections import DataConfig
from cogjax.train.processes import say


def seen_words(data: DataConfig, fingerprint: str) -> WordList | None:
    """Words of all captions of the training split, and of the questions if there are.

    Those of the model in data.weights belong to them. None, and the reason in one line,
    if they cannot be known: that model has no list, or a data set is there no more.

    fingerprint: of the run, which holds those of its data sets.
    """
    try:
        earlier = None
        if data.weights:
            earlier = model_folder.load_words(data.weights)
            if earlier is None:
                raise UserError(f"data.weights, {data.weights}, has none to add to")
        return WordList.of(_texts(data, fingerprint), earlier)
    except UserError as error:
        say(f"the model gets no list of the words that it has seen: {error}")
        return None


def _texts(data: DataConfig, fingerprint: str) -> Iterator[str]:
    for path in filter(None, (data.path, data.questions)):
        manifest = records.read_manifest(path)
        if manifest.fingerprint not in fingerprint.split("/"):
            raise UserError(f"{path} is not the data set that the run was trained on")
        coded = manifest.kind == records.CODES
        kind = CodedExample if coded else records.Example
        source = records.open_split(path, data.split, kind)
        for i in range(len(source)):
            item = source[i]
            if path == data.path:
                yield from (text for _, text in item.captions)
            if path == data.questions:
                yield from (text for pair in item.questions for text in pair[1:])
