"""What the page shows is what each kind of model can do."""

import pytest

from cogjax.pipelines.cascade import CascadePipeline
from cogjax.pipelines.masked import MaskedPipeline
from cogjax.pipelines.pairs import PairsPipeline
from cogjax.serve.abilities import Abilities
from tests.conftest import make_nano_model
from tests.exporting import test_stablehlo
from tests.pipelines import test_masked, test_pairs

CODES = {"temperature", "top_k", "top_p", "guidance", "negative"}
MAKERS = {
    "oblong": lambda nano: make_nano_model(shapes=((4, 4), (2, 6))),
    "code by code": lambda nano: nano,
    "masked": lambda nano: MaskedPipeline(test_masked.make(nano)),
    "pairs": lambda nano: PairsPipeline(test_pairs.make(nano, 2)),
    "cascade": lambda nano: CascadePipeline(test_stablehlo.cascade(nano)),
}
BOTH = CODES | {"rerank", "mask", "fillings", "extend", "vary"}
SETTINGS = {
    "oblong": BOTH,
    "code by code": BOTH,
    "masked": CODES | {"steps", "choice_temperature", "mask", "extend", "vary"},
    "pairs": CODES,
    "cascade": {"guidance", "negative", "steps", "method", "gamma", "percentile"}
    | {"augmentation", "mask", "extend", "strength"},
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_model_says_what_it_can_do(nano_model, kind):
    model = MAKERS[kind](nano_model)
    found = Abilities.of(model)
    assert set(found.settings) == SETTINGS[kind]
    reads = ("caption", "score") if SETTINGS[kind] is BOTH else ()
    assert found.tasks == ("generate", *reads)
    assert found.aspects == (("1:1", "3:1") if kind == "oblong" else ())
    styles = model.styles if kind == "pairs" else ()
    assert found.styles == styles and bool(found.example.style) == bool(styles)
    assert found.described(model)["defaults"]["guidance"] is not None
