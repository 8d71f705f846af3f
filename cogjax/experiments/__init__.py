"""The configs of experiments/, by name: `from cogjax.experiments.cogview import icons`.

A wheel has them in this folder (setup.py); in a checkout they are beside the package.
"""

from pathlib import Path

_CHECKOUT = Path(__file__).parents[2] / "experiments"
if (_CHECKOUT / "README.md").is_file():
    __path__ = [*__path__, str(_CHECKOUT)]
