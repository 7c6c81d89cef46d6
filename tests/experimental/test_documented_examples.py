"""The examples of the customer's page "Experimental", as a user types them, with what they print to the letter.

The page was written when arrays were printed as `DeviceArray(...)`; today's JAX writes `Array(...)`. Where the page has
`...` for what is long or random, so have these examples.
"""

import doctest
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import jmp
import numpy as np
import pytest

import opax
import pax

_RESIDUAL = """
    >>> from pax.experimental.graph import build_graph_module
    >>> def residual_forward(x):
    ...     y = x
    ...     x >>= pax.Linear(x.shape[-1], x.shape[-1])
    ...     x >>= jax.nn.relu
    ...     x = (x | y) >> jax.lax.add
    ...     return x
    >>> net = build_graph_module(residual_forward)(jnp.empty((3, 8)))
"""

_SCALED = """
    >>> net = pax.Linear(2, 2)
    >>> opt = opax.adam(1e-4)(net.parameters())
    >>> loss_scale = jmp.DynamicLossScale(jmp.half_dtype()(2**15))
    >>> # the gradients of a loss that was scaled: loss_scale.scale(loss)
    >>> grads = net.parameters()
"""

EXAMPLES = {
    "A-1": """
    >>> net = pax.Linear(1, 2)
    >>> original = net
    >>> with pax.experimental.mutable(net) as net:
    ...     net.bias = jnp.array(0.)
    >>> assert net.bias.item() == 0.
    >>> net.bias.shape, original.bias.shape
    ((), (2,))
    """,
    "A-2": """
    >>> net = pax.Linear(3, 3)
    >>> opt = opax.adam(1e-3)(net.parameters())
    >>> flats = pax.experimental.Flattener(model=net, optimizer=opt)
    >>> flats.model == net, flats.optimizer == opt
    (True, True)
    >>> net, opt = flats.model, flats.optimizer
    >>> print(net.summary())
    Linear(in_dim=3, out_dim=3, with_bias=True)
    >>> print(opt.summary())
    chain.<locals>.Chain
    ├── scale_by_adam.<locals>.ScaleByAdam
    │   ├── Linear(in_dim=3, out_dim=3, with_bias=True)
    │   └── Linear(in_dim=3, out_dim=3, with_bias=True)
    └── scale.<locals>.Scale
    """,
    "A-3": """
    >>> net = pax.Linear(3, 3)
    >>> flats = pax.experimental.Flattener(net=net)
    >>> flats = flats.update(net=pax.Linear(4, 4))
    >>> print(flats.net.summary())
    Linear(in_dim=4, out_dim=4, with_bias=True)
    """,
    "A-3b": """
    >>> flattener = pax.experimental.Flattener(model=pax.Linear(3, 3))
    >>> try:
    ...     flattener.parameters()
    ... except ValueError as error:
    ...     for line in str(error).splitlines()[:2]:
    ...         print(line)
    A flattener only stores ndarray leaves as non-trainable states.
    Reconstruct the original module before getting parameters.
    """,
    "A-4": """
    >>> from pax.experimental.graph import Node
    >>> x = Node((), lambda x: x, jnp.array(0))
    >>> x.parents, x.fx, x.value
    ((), Lambda(<lambda>), Array(0, dtype=int32, weak_type=True))
    """,
    "A-5": """
    >>> from functools import partial
    >>> from pax.experimental.graph import Node
    >>> x = Node((), lambda x: x, jnp.array(1.))
    >>> y = x >> partial(jax.lax.add, 1.)
    >>> y.value
    Array(2., dtype=float32, weak_type=True)
    """,
    "A-6": """
    >>> from pax.experimental.graph import InputNode
    >>> x = InputNode(1)
    >>> y = InputNode(2)
    >>> z = x & y
    >>> z.value
    (1, 2)
    """,
    "A-7": """
    >>> from pax.experimental.graph import InputNode
    >>> x = InputNode(1)
    >>> y = InputNode(2)
    >>> z = (x | y) >> jax.lax.add
    >>> z.value
    Array(3, dtype=int32, weak_type=True)
    """,
    "A-8": """
    >>> from pax.experimental.graph import InputNode
    >>> x = InputNode(1)
    >>> y = InputNode(2)
    >>> z = x.binary_ops(jax.lax.sub, y)
    >>> z.value
    Array(-1, dtype=int32, weak_type=True)
    """,
    "A-9": """
    >>> from pax.experimental.graph import InputNode
    >>> x = InputNode(jnp.empty((3, 4)))
    >>> x.shape
    (3, 4)
    >>> x = InputNode(jnp.empty((1,), dtype=jnp.int32))
    >>> x.dtype
    dtype('int32')
    """,
    "A-9b": f"""{_RESIDUAL}
    >>> print(net.summary())
    GraphModule
    ├── Linear(in_dim=8, out_dim=8, with_bias=True)
    ├── x => relu(x)
    ├── x => identity(x)
    └── x => add(x)
    """,
    "A-9c": """
    >>> from dataclasses import dataclass
    >>> from typing import Sequence
    >>> @dataclass
    ... class MLP(pax.experimental.LazyModule):
    ...     features: Sequence[int]
    ...
    ...     def __call__(self, x):
    ...         sizes = zip(self.features[:-1], self.features[1:])
    ...         for i, (in_dim, out_dim) in enumerate(sizes):
    ...             fc = self.get_or_create(f"fc{i}", lambda: pax.Linear(in_dim, out_dim))
    ...             x = jax.nn.relu(fc(x))
    ...         return x
    >>> mlp, _ = MLP([1, 2, 3]) % jnp.ones((1, 1))
    >>> print(mlp.summary())
    MLP(features=[1, 2, 3])
    ├── Linear(in_dim=1, out_dim=2, with_bias=True)
    └── Linear(in_dim=2, out_dim=3, with_bias=True)
    """,
    "A-9d": """
    >>> net = pax.Sequential(pax.Linear(3, 3), pax.BatchNorm1D(3))
    >>> net = net.apply(pax.experimental.default_mp_policy)
    >>> print(net.summary())
    Sequential
    ├── Linear(in_dim=3, out_dim=3, with_bias=True, mp_policy=FHF)
    └── BatchNorm1D(num_channels=3, create_scale=True, create_offset=True, data_format=NWC, \
decay_rate=0.9, mp_policy=FFF)
    """,
    "A-10": f"""{_SCALED}
    >>> net, opt, loss_scale = pax.experimental.apply_scaled_gradients(net, opt, loss_scale, grads)
    >>> print(loss_scale.loss_scale)
    32770.0
    """,
    "A-10, in jit": f"""{_SCALED}
    >>> step = jax.jit(pax.experimental.apply_scaled_gradients)
    >>> for _ in range(2):
    ...     net, opt, loss_scale = step(net, opt, loss_scale, grads)
    >>> print(loss_scale.loss_scale)
    32770.0
    """,
    "A-11": """
    >>> net = pax.Sequential(pax.Linear(1, 2), jax.nn.relu, pax.Linear(2, 3))
    >>> pax.experimental.save_weights_to_dict(net)
    {'modules': ({'weight': Array(...), 'bias': Array(...)}, {}, {'weight': Array(...), 'bias': Array(...)})}
    """,
    "A-12": """
    >>> a = pax.Sequential(pax.Linear(1, 2), jax.nn.relu, pax.Linear(2, 3))
    >>> weights_of_a = pax.experimental.save_weights_to_dict(a)
    >>> b = pax.Sequential(pax.Linear(1, 2), jax.nn.relu, pax.Linear(2, 3))
    >>> a == b
    False
    >>> b = pax.experimental.load_weights_from_dict(b, weights_of_a)
    >>> assert a == b
    >>> a == b
    True
    """,
}

_WITH_DOTS = {"A-11": doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE}

# From NumPy 2.3 on, float16 numbers of 1000 and more are printed with an exponent, unless it is told otherwise.
_OLD_NUMBERS: Any = {"legacy": "2.2"} if np.lib.NumpyVersion(np.__version__) >= "2.3.0" else {}


def complaints(text: str, name: str, flags: int = 0) -> str:
    """Runs an example; returns what doctest says of it, nothing if all is as it is written."""
    names = {"jax": jax, "jnp": jnp, "jmp": jmp, "opax": opax, "pax": pax, "__name__": "__main__"}
    test = doctest.DocTestParser().get_doctest(textwrap.dedent(text), names, name, None, None)
    assert test.examples
    said: list[str] = []
    with np.printoptions(**_OLD_NUMBERS):
        doctest.DocTestRunner(optionflags=flags).run(test, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name: str) -> None:
    said = complaints(EXAMPLES[name], name, _WITH_DOTS.get(name, 0))
    assert not said, said


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_expects_an_output(name: str) -> None:
    examples = doctest.DocTestParser().get_examples(textwrap.dedent(EXAMPLES[name]))
    assert examples[-1].want.strip(" .\n")


def test_every_example_of_the_page_is_here() -> None:
    numbered = [f"A-{number}" for number in range(1, 13)]
    assert {*numbered, "A-3b", "A-9b", "A-9c", "A-9d"} <= set(EXAMPLES)


@pytest.mark.parametrize(
    "text",
    [
        EXAMPLES["A-1"].replace("== 0.", "== 1."),
        EXAMPLES["A-10"].replace("32770.0", "32768.0"),
        EXAMPLES["A-1"].replace("pax.Linear", "pax.Linea"),
    ],
    ids=["an assertion", "an output", "an exception"],
)
def test_an_example_that_is_wrong_is_found(text: str) -> None:
    assert complaints(text, "wrong")
