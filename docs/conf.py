"""How Sphinx builds the pages in this folder; called by `make docs`.

Every Markdown file here becomes a page and is listed in the table of contents without being named anywhere.
The build must need no network, and a warning fails it: a dead link is found before a reader finds it.
"""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "taskflowx"
author = "The taskflowx authors"
copyright = author
version = release = installed_version("taskflowx")

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
myst_heading_anchors = 3  # lets a page link to a heading of another: architecture.md#layers

html_theme = "furo"
html_title = f"taskflowx {release}"
