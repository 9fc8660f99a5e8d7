"""How the documentation is built: ``make docs``, or ``python -m sphinx -W docs docs/_build/html``."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

import reference

from skastw import __version__

os.environ.setdefault("MPLBACKEND", "Agg")
reference.write_pages(HERE / "api")

project = "skastw"
author = "The skastw developers"
project_copyright = "the skastw developers"
release = version = __version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "reference",
    "no_requests",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "gallery/*.ipynb", "gallery/*.zip"]
templates_path = ["_templates"]
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!skastw).*"),  # other packages
    ("py:.*", r"skastw\._.*"),  # private names
    ("py:mod", r".*"),  # modules inside a package have no pages
]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4

autosummary_generate = True
autosummary_context = {"own_methods": reference.methods()}
autodoc_typehints = "none"  # docstrings contain the types, with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # the pages of classes list their members themselves
python_maximum_signature_line_length = 80
add_module_names = False
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "backreferences_dir": "api/used_in",
    "doc_module": ("skastw",),
    "within_subsection_order": "FileNameSortKey",
    "capture_repr": ("_repr_html_", "__repr__"),
    "matplotlib_animations": False,
    "abort_on_example_error": True,
    "min_reported_time": 3600,  # the time of the build is of no use to readers
    "write_computation_times": False,
    "download_all_examples": False,
    "show_signature": False,
    "show_memory": False,
    "remove_config_comments": True,
}

html_theme = "furo"
html_title = f"skastw {__version__}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
