"""Colours for the code of other libraries, whose blocks are marked by the library's name.

PAX's tests run the blocks marked `python` wherever PAX is, and these only where the library is installed.
"""

from typing import Any

from pygments.lexers.python import PythonLexer
from sphinx.application import Sphinx


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the names."""
    for library in ("torch", "flax", "equinox", "haiku"):
        app.add_lexer(library, PythonLexer)
    return {"parallel_read_safe": True}
