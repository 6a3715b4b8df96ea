"""How the site is built: ``make docs``.

The source is the whole repository, so that the links between pages, notebooks and the documents
beside the code are the same in a clone and on the site.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import skgliclass  # noqa: E402
from skgliclass import inspection  # noqa: E402

project = "skgliclass"
copyright = "the authors of skgliclass, Apache-2.0"
version = release = skgliclass.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
]
root_doc = "docs/index"
include_patterns = [
    "docs/**",
    "notebooks/*.ipynb",
    "benchmarks/README.md",
    "examples/README.md",
    "pretraining/*.md",
    "skgliclass/weights/mini/README.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
]
exclude_patterns = ["docs/_*", ".venv*", "build", "**/.ipynb_checkpoints"]
# Absolute: autosummary would look in the source folder.
templates_path = [str(ROOT / "docs" / "_templates")]

# Every name and link of our own has to lead somewhere; those of other projects would take a list of
# their names from the network.
nitpicky = True
nitpick_ignore_regex = [(r"py:.*", r"(?!skgliclass\b).*")]

# Notebooks show the outputs that are committed with them; a test holds that they are right.
nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, dict[str, str]] = {}
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 4

autosummary_generate = True
autodoc_typehints = "none"
autodoc_member_order = "groupwise"
# The template of a class lists its own methods. Those that scikit-learn brings are explained there.
numpydoc_show_class_members = False


PUBLIC = [
    "GLiClassClassifier",
    "GLiClassMultiLabelClassifier",
    "GLiClassTransformer",
    "GLiClassModel",
    "GLiClassConfig",
]


def own_methods(cls: type) -> list[str]:
    """Give the public methods of a class that the package defines, in the order of its source."""
    own = {
        name: None
        for base in reversed(inspect.getmro(cls))
        if base.__module__.partition(".")[0] == "skgliclass"
        for name in vars(base)
        if not name.startswith("_")
    }
    methods = {name: getattr(cls, name) for name in own if inspect.isroutine(getattr(cls, name))}
    # scikit-learn writes the methods that route metadata.
    return [name for name, method in methods.items() if not is_of_scikit_learn(method)]


def inherited_methods(cls: type) -> list[str]:
    """Give the public methods of an estimator that scikit-learn defines."""
    methods = inspect.getmembers(cls, is_of_scikit_learn)
    return [name for name, _ in methods if not name.startswith("_")]


def is_of_scikit_learn(method: object) -> bool:
    """Tell whether a member of a class is a method that scikit-learn defines."""
    module = getattr(method, "__module__", None) or ""
    return inspect.isroutine(method) and module.partition(".")[0] == "sklearn"


DISPLAYS = [name for name in inspection.__all__ if isinstance(getattr(inspection, name), type)]

# Values alone, not the functions: Sphinx reads everything anew where it cannot compare them.
autosummary_context = {
    "own_methods": {
        **{name: own_methods(getattr(skgliclass, name)) for name in PUBLIC},
        **{name: own_methods(getattr(inspection, name)) for name in DISPLAYS},
    },
    "inherited_methods": {name: inherited_methods(getattr(skgliclass, name)) for name in PUBLIC},
}

html_theme = "pydata_sphinx_theme"
html_title = "skgliclass"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_theme_options: dict[str, Any] = {
    "header_links_before_dropdown": 7,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "show_toc_level": 2,
    "footer_start": ["copyright"],
    "footer_end": [],
}
# Pages without pages below them have nothing to show there.
html_sidebars: dict[str, list[str]] = {
    f"docs/{name}": [] for name in ("index", "getting_started", "choosing", "migrating")
}
# Methods go by their own name there: the class would push it out of sight.
toc_object_entries_show_parents = "hide"
html_show_sourcelink = False
html_copy_source = False
# The folder itself opens the first page.
html_additional_pages = {"index": "first_page.html"}

linkcheck_anchors = False
linkcheck_timeout = 20
