"""Makes links of public names in code: `pax.purecall` and `MutationError` on all pages, `Linear` in the reference."""

import re
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

_DOTTED = re.compile(r"(?:pax|opax)(?:\.\w+)+(?=(?:\(\))?$)")
_CLASS = re.compile(r"[A-Z][A-Za-z0-9]*[a-z0-9][A-Za-z0-9]*(?=(?:\(\))?$)")
# Where names of layers are written without their package, and mean those of PAX.
_REFERENCE = "reference/"


def setup(app: Sphinx) -> dict[str, Any]:
    """Registers the change, which comes after all descriptions are known."""
    app.connect("doctree-resolved", _link)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _link(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    known = app.env.get_domain("py").objects  # type: ignore[attr-defined]
    for literal in list(doctree.findall(nodes.literal)):
        if isinstance(literal.parent, nodes.title | nodes.reference) or _inside_a_link(literal):
            continue
        target = _target_of(literal.astext(), known, docname)
        if target is None or (docname == known[target].docname and _describes(literal, known[target].node_id)):
            continue
        found = known[target]
        link = make_refnode(app.builder, docname, found.docname, found.node_id, literal.deepcopy(), target)
        literal.replace_self(link)


def _target_of(text: str, known: Any, docname: str) -> str | None:
    dotted, plain = _DOTTED.match(text), _CLASS.match(text)
    if dotted is not None:
        name = dotted[0]
        # Layers are described as names of `pax`.
        candidates = [name, name.replace("pax.nn.", "pax.", 1), name.replace("pax.utils.", "pax.", 1)]
    elif plain is not None:
        everywhere = ("pax.errors",)
        homes = ("pax", "opax", "pax.experimental", "pax.experimental.graph", "pax.extend", *everywhere)
        candidates = [f"{home}.{plain[0]}" for home in (homes if docname.startswith(_REFERENCE) else everywhere)]
    else:
        return None
    return next((name for name in candidates if name in known), None)


def _inside_a_link(node: nodes.Node) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, nodes.reference):
            return True
        parent = parent.parent
    return False


def _describes(node: nodes.Node, node_id: str) -> bool:
    """Whether a node is in the description of the name itself, where a link would lead nowhere."""
    parent = node.parent
    while parent is not None:
        if any(node_id in child.get("ids", ()) for child in parent.children if isinstance(child, nodes.Element)):
            return True
        parent = parent.parent
    return False
