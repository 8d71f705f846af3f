"""Puts the configs of experiments/ into the package; the rest is in setup.cfg.

A folder without a config holds comparisons alone, and stays out.
"""

from pathlib import Path

from setuptools import find_packages, setup

configs = [
    path.parent
    for path in sorted(Path("experiments").glob("*/*.py"))
    if "\ndef get_config(" in path.read_text(encoding="utf-8")
]
folders = {f"cogjax.experiments.{path.name}": str(path) for path in configs}
setup(
    packages=[*find_packages(include=["cogjax", "cogjax.*"]), *folders],
    package_dir=folders,
)
