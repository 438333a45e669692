"""Sphinx: MyST pages, warnings are errors."""

project = "twinfra"
author = "The twinfra developers"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "twinfra"
myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3
