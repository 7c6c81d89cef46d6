"""Modules in notebooks: the tree, its HTML, and what treescope draws."""

import functools
import importlib.util
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.modules import Counter, Holder, Linear, ParameterHolder
from pax._module_tree import ModuleTree, Words, module_html, module_tree

_find_spec = importlib.util.find_spec


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treescope seems to be absent."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "treescope" else _find_spec(name))


def texts(tree: Any) -> dict[str, Any]:
    return {
        path: child.text if isinstance(child, Words) else texts(child)
        for path, child in {**tree.settings, **tree.children}.items()
    }


def test_the_tree_has_settings_shapes_and_kinds() -> None:
    net = pax.freeze_parameters(
        Holder(fc=Linear(2, 3), layers=[Counter()], own=np.ones(2), size=[(3, "a")], no=None), "fc/bias"
    )
    assert texts(module_tree(net)) == {
        "size": "[(3, 'a')]",
        "fc": {
            "in_features": "2",
            "out_features": "3",
            "weight": "float32[2,3] (trained)",
            "bias": "float32[3] (frozen)",
        },
        "layers[0]": {"count": "int32[] (state)"},
        "own": "numpy float64[2] (state)",
    }


def test_names_and_modes_are_in_the_heads() -> None:
    tree = module_tree(Holder(name="net", fc=Linear()).eval())
    inner = tree.children["fc"]
    assert tree.head == "(net) Holder, in evaluation mode"
    assert isinstance(inner, ModuleTree)
    assert inner.head == "Linear, in evaluation mode"
    assert module_tree(Linear()).head == "Linear"


def test_contents_of_arrays_are_never_shown(plain: None) -> None:
    @dataclass
    class Data(pax.Module):
        values: Any

    assert "31337" in repr(Data(np.array([31337])))  # a dataclass shows them
    assert "31337" not in module_html(Holder(data=Data(np.array([31337])), own=jnp.array([31337])))


def test_html_is_escaped(plain: None) -> None:
    text = Holder(name="<script>", note="<b>&", table={"<i>": Linear()})._repr_html_()
    assert "<script>" not in text
    assert "<i>" not in text
    assert "&lt;script&gt;" in text
    assert "&#x27;&lt;b&gt;&amp;&#x27;" in text


def test_html_is_a_tree_that_unfolds(plain: None) -> None:
    text = Holder(a=Holder(b=Holder(c=Linear())))._repr_html_()
    assert text.count("<details open>") == 2
    assert text.count("<details>") == 2
    assert text.count("</details>") == 4
    assert "weight: float32[2,2] (trained)" in text


@pytest.mark.parametrize("with_treescope", [True, False])
def test_every_kind_of_leaf_is_shown(with_treescope: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if with_treescope:
        pytest.importorskip("treescope")
    else:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    def make() -> Any:
        partial = functools.partial(jax.nn.gelu, approximate=True)
        return ParameterHolder(fc=Linear(), key=jax.random.key(0), hole=pax.EmptyNode(), n=np.ones(2), f=partial)

    net = make()
    axes = jax.tree.map(lambda _: 0, net)
    sizes = []
    jax.jit(lambda traced: sizes.append(len(traced._repr_html_())))(net)
    sizes += [len(tree._repr_html_()) for tree in (net, jax.eval_shape(make), axes, net.parameters())]
    assert min(sizes) > 0
    assert texts(module_tree(net))["hole"] == "empty"


def test_a_parameters_method_that_fails_leaves_the_marks_out() -> None:
    class Broken(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.x = jnp.ones(3)

        def parameters(self) -> Any:
            raise RuntimeError

    assert texts(module_tree(Holder(broken=Broken()))) == {"broken": {"x": "float32[3]"}}


def test_a_setting_that_cannot_be_shown_is_its_class() -> None:
    class Odd:
        def __pax_describe__(self) -> str:
            raise RuntimeError

    assert texts(module_tree(Holder(odd=Odd())))["odd"].endswith("Odd`")


def test_without_a_treescope_that_works_the_html_is_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pax._module_tree._drawn_by_treescope", lambda tree: None)
    assert Linear()._repr_html_().startswith('<div class="pax-module"')


# Treescope looks at all names of NumPy, the deprecated ones, too.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_treescope_draws_the_tree() -> None:
    treescope: Any = pytest.importorskip("treescope")
    shown = treescope.render_to_text(Holder(fc=Linear(2, 3), own=jnp.array([31337.0])))
    assert "Linear(" in shown
    assert "weight=float32[2,3] (trained)" in shown
    assert "31337" not in shown
    assert "Rich HTML" not in shown  # the tree is drawn once
    assert "treescope" in Linear()._repr_html_()


def test_repr_and_summary_stay_as_they_are() -> None:
    net = Holder(fc=Linear(2, 3))
    assert repr(net) == "Holder"
    assert net.summary() == "Holder\n└── Linear(in=2, out=3)"


def test_a_tree_of_a_thousand_modules(plain: None) -> None:
    net = Holder(groups=[Holder(layers=[Linear() for _ in range(32)]) for _ in range(32)])
    assert net._repr_html_().count("<details") == 1 + 32 + 32 * 32
