"""The words of a run's texts: of captions, questions and the model it starts from."""

import numpy as np

from cogjax.data.codes import CodedExample
from cogjax.data.records import CODES, DatasetBuilder, Example
from cogjax.stages.sections import DataConfig
from cogjax.stages.seen_words import seen_words


def write(out, kind, make):
    with DatasetBuilder(out, kind, 16, {"train": 1, "val": 1}) as builder:
        builder.write("train", make("one", (("en", "A red apple."), ("zh", "苹果"))))
        builder.write("val", make("two", (("en", "held out"),)))
        return builder.finish({}).fingerprint


def asked(name, captions):
    pairs = (("", "Is it red?", "yes"), ("", "多大？", "小"))
    return Example(name, b"", captions, questions=pairs)


def test_captions_of_the_training_split(tmp_path):
    """They are those of images, and of codes."""
    kinds = {
        "images": lambda name, captions: Example(name, b"", captions),
        CODES: lambda name, captions: CodedExample(name, np.arange(4), captions),
    }
    for kind, make in kinds.items():
        path = tmp_path / kind
        found = seen_words(DataConfig(str(path)), write(path, kind, make))
        assert found.words == {"a", "red", "apple", *"苹果"}


def test_questions_and_answers_where_they_are_learnt(tmp_path):
    pairs = {"is", "it", "red", "yes", *"多大小"}
    told, questions = tmp_path / "told", tmp_path / "asked"
    prints = [write(told, "images", asked)]
    unread = (("en", "a caption beside questions"),)
    prints.append(write(questions, "images", lambda name, _: asked(name, unread)))
    data = DataConfig(str(told), questions=str(questions))
    found = seen_words(data, "/".join(prints))
    assert found.words == pairs | {"a", "apple", *"苹果"}
    # The questions of `path` alone are not learnt, the captions of `questions` neither.
    assert seen_words(DataConfig(str(told)), prints[0]).words.isdisjoint(
        pairs - {"red"}
    )
