"""Settings of the documentation site: `sphinx-build -W -c docs . SITE`."""

project = "cogjax"
author = "the authors of cogjax"
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "*.md",
    "experiments/README.md",
    "cogjax/assets/*/card.md",
]
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
html_title = "cogjax"
myst_heading_anchors = 4
