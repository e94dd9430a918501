"""How Sphinx builds the documentation; `make docs` runs it with warnings as errors."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

project = "pulse"
author = "the authors of pulse"
release = version = installed_version("pulse")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pulse_docs"]
exclude_patterns = ["_build"]
default_role = "code"  # docstrings put names between single backticks

myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

html_theme = "furo"
html_title = "pulse"
html_copy_source = False
html_show_copyright = False
