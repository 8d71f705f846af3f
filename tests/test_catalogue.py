"""The two tables: every name in them is there, and families from outside join in."""

import dataclasses
import importlib.metadata
import inspect
import subprocess
import sys
from pathlib import Path

import flax.linen as nn
import pytest

from cogjax.catalogue import FAMILIES, Family, Network, families, resolve
from cogjax.errors import UserError
from cogjax.models import registry
from cogjax.models.registry import NETWORKS

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("kind", NETWORKS)
def test_what_a_network_names_is_there(kind):
    row = NETWORKS[kind]
    config, network = resolve(row.config), resolve(row.network)
    assert dataclasses.is_dataclass(config)
    assert config.__dataclass_params__.frozen
    assert issubclass(network, nn.Module)
    for name in filter(None, (row.params, row.state)):
        assert list(inspect.signature(resolve(name)).parameters) == ["config"]


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_names_is_there(name):
    row = FAMILIES[name]
    assert row.name == name
    for spec in filter(None, (row.layout, row.pipeline, row.format_1)):
        assert callable(resolve(spec))
    for spec in row.stages.values():
        assert resolve(spec)


def test_the_catalogue_imports_nothing():
    names = "[m for m in sys.modules if m.split('.')[0] in ('cogjax', 'jax', 'flax')]"
    code = f"import sys, cogjax.catalogue; print({names})"
    words = [sys.executable, "-c", code]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert run.stdout.strip() == "['cogjax', 'cogjax.errors', 'cogjax.catalogue']"


@dataclasses.dataclass(frozen=True)
class PlainConfig:
    size: int = 3


class Plain(nn.Module):
    config: PlainConfig


HERE = __name__
OUTSIDE = Family(
    "outside",
    "A paper of somebody else",
    networks={"plain": Network(f"{HERE}:PlainConfig", f"{HERE}:Plain", f"{HERE}:size")},
)


@pytest.fixture
def installed(monkeypatch):
    """Makes entry points as if packages had brought them."""
    sys.modules.setdefault(HERE, sys.modules[__name__])

    def install(*names):
        points = [
            importlib.metadata.EntryPoint("x", f"{HERE}:{name}", "cogjax.families")
            for name in names
        ]
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
        families.cache_clear()

    yield install
    families.cache_clear()


def test_a_family_from_outside_joins_in(installed):
    installed("OUTSIDE")
    assert families() == {**FAMILIES, "outside": OUTSIDE}
    assert registry.kind_of(PlainConfig()) == "plain"
    assert registry.config_class("plain") is PlainConfig
    assert registry.network_of(PlainConfig(4)) == Plain(PlainConfig(4))


@pytest.mark.parametrize("names", [("PlainConfig",), ("OUTSIDE", "OUTSIDE")])
def test_entry_points_that_are_no_family_of_their_own(installed, names):
    installed(*names)
    with pytest.raises(UserError, match="gives no Family with a name of its own"):
        families()


def test_names_that_are_not_there():
    for spec in ("cogjax.nothing:Model", "cogjax.model:Nothing", "cogjax.model"):
        with pytest.raises(UserError, match=f"cannot import '{spec}'"):
            resolve(spec)
    with pytest.raises(
        UserError, match="kind is 'wavenet', expected one of vqvae, vqgan"
    ):
        registry.config_class("wavenet")
    with pytest.raises(ValueError, match="PlainConfig is the config of no network"):
        registry.kind_of(PlainConfig())
