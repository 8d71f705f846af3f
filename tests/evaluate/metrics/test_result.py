import json

import numpy as np
import pytest

from cogjax.errors import UserError
from cogjax.evaluate.metrics.result import MetricValue, Source, check_features


def test_a_printed_figure_has_all_that_it_depends_on():
    source = Source("efflite0:1a2b", "clean_bicubic", "both, pil, radius 2")
    shown = str(
        MetricValue("FD-efflite0-2[both]", 13.9, source, 500, 400, 0.25, "biased")
    )
    assert shown == (
        "FD-efflite0-2[both] 13.9 +- 0.25 (efflite0:1a2b, n 500 against 400, "
        "resize clean_bicubic, blur both, pil, radius 2; biased)"
    )
    assert "against" not in str(MetricValue("IS", 3.0, source, 500))


def test_a_figure_goes_to_json_flat():
    figure = MetricValue("IS", 3.0, Source("net", "none"), 500)
    fields = json.loads(json.dumps(figure.as_dict()))
    assert fields["extractor"] == "net" and fields["resize"] == "none"
    assert fields["blur"] == "none" and fields["n"] == 500 and "source" not in fields


@pytest.mark.parametrize("fields", [("", "none"), ("net", ""), ("net", "none", "")])
def test_a_source_is_never_left_open(fields):
    with pytest.raises(UserError, match="needs extractor, resize and blur"):
        Source(*fields)


def test_published_names_are_for_published_extractors():
    official = Source("inception-2015-12-05:6726825d", "tf1_bilinear")
    assert official.label("FID", "inception-2015", "FD") == "FID"
    other = Source("efflite0:1a2b", "tf1_bilinear")
    assert other.label("FID", "inception-2015", "FD") == "FD-efflite0"
    assert other.label("KID", "inception-2015") == "KID-efflite0"


@pytest.mark.parametrize(
    ("matrices", "message"),
    [
        ([np.zeros(3)], "must be"),
        ([np.zeros((1, 3))], "2 images a side"),
        ([np.zeros((2, 3)), np.zeros((2, 4))], "two extractors"),
        ([np.full((2, 3), np.nan)], "NaN"),
    ],
)
def test_bad_features_are_refused(matrices, message):
    with pytest.raises(UserError, match=message):
        check_features(*matrices, least=2)
