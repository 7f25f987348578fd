"""How Sphinx builds the pages in this folder; called by `make docs`.

Every Markdown file here becomes a page. The folder `extensions` has what is ours: pages of the examples, lines of
programs that a narrow page breaks, pictures that are drawn from the programs above them, and links to Python's pages.
The build must need no network, and a warning fails it: a dead link is found before a reader finds it.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "extensions"))

project = "taskflowx"
author = "The taskflowx authors"
copyright = author
version = release = installed_version("taskflowx")

extensions = [
    *("myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton"),
    *("examples", "lines", "links", "pictures"),
]
source_suffix = {".md": "markdown"}
exclude_patterns = ["conf.py", "extensions", "examples/demo_*.py"]
myst_heading_anchors = 3  # lets a page link to a heading of another: architecture.md#layers

suppress_warnings = ["ref.python"]  # each pattern has its `Flow`, and signatures do not say which is meant
default_role = "py:obj"  # `name` in a docstring is a link where there is such a name, and code elsewhere
autodoc_default_options = {"members": True, "show-inheritance": True, "member-order": "bysource"}
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88

copybutton_prompt_text = "$ "
copybutton_exclude = ".linenos, .gp, .go"

html_theme = "furo"
pygments_dark_style = "github-dark"  # that of the theme underlines names of classes and modules, as if they were links
html_title = f"taskflowx {release}"
html_static_path = ["static"]
html_css_files = ["pages.css"]
html_extra_path = ["llms.txt"]
html_copy_source = False
html_show_sphinx = False
