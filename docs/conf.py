"""How Sphinx builds the documentation: ``make docs``.

Pages below ``generated/`` are written at every build from the code: see ``_ext/``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

from pytest_cuda2hal import __version__

project = "pytest-cuda2hal"
author = "the pytest-cuda2hal authors"
copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "generate", "reexports"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "_ext", "_static", "**/.*"]
nitpicky = True
# The standard library's documentation is on the net, and a build needs no net.
nitpick_ignore_regex = [(r"py:.*", r"(abc|collections|enum|inspect|pytest|types|typing)\..*")]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
smartquotes = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
add_module_names = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"pytest-cuda2hal {version}"
html_static_path = ["_static"]
html_css_files = ["drawings.css"]
html_copy_source = False
html_show_sphinx = False
