"""Settings of Sphinx. `hatch run docs:build` executes the notebooks and makes the site; every warning is an error."""

import os
import sys
from pathlib import Path

_HERE = Path(__file__).parent
sys.path += [str(_HERE / "_ext"), str(_HERE.parent)]  # our extensions; `benchmarks`

# For the kernels that run the notebooks: what is printed is the same everywhere, and errors are shown in short form.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["JUPYTER_PATH"] = str(_HERE / "_jupyter")

project = "PAX"
author = "The PAX authors"
project_copyright = "The PAX authors"
html_title = "PAX"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
    "benchmark_tables",
    "docstrings",
    "linked_code",
    "other_libraries",
]
source_suffix = {".md": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["_benchmarks", "_build", "_jupyter", "**/.ipynb_checkpoints"]
highlight_language = "text"  # of blocks without a language: what is printed
default_role = "code"  # single backticks in docstrings: code, and a link if it is a public name (see `linked_code`)

# ---- notebooks ---------------------------------------------------------------------------------------------------

nb_execution_mode = "force"  # what is printed depends on PAX, not on the notebook alone
nb_execution_timeout = 600  # of a cell, on a machine that has much else to do
nb_execution_in_temp = True  # files that pages write
nb_execution_show_tb = True
nb_output_stderr = "remove-warn"  # a warning of Python on a page is a mistake in the page
nb_merge_streams = True
nb_render_error_lexer = "text"  # in short form they are no tracebacks
nb_number_source_lines = False
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

# ---- reference ---------------------------------------------------------------------------------------------------

autosummary_generate = False  # tables only: every name is described on the page that lists it
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_default_options = {
    "members": True,
    "special-members": "__call__",
    # Those of base classes without a page of their own.
    "inherited-members": "Module, ParameterModule, StateModule, GradientTransformation, PaxError, "
    "BaseException, AttributeError, tuple",
}
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 80
add_module_names = False
toc_object_entries_show_parents = "hide"
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# ---- looks -------------------------------------------------------------------------------------------------------

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["pax.css"]
html_favicon = "_static/logo.svg"
html_show_sphinx = False
html_copy_source = False
html_theme_options = {
    "light_logo": "logo.svg",
    "dark_logo": "logo-dark.svg",
    "light_css_variables": {"color-brand-primary": "#0b5cad", "color-brand-content": "#0b5cad"},
    "dark_css_variables": {"color-brand-primary": "#7cb8ff", "color-brand-content": "#7cb8ff"},
}
pygments_style = "friendly"
pygments_dark_style = "github-dark"
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
copybutton_exclude = ".linenos, .gp, .go"
