"""smoke.py NAME...: in an environment with just these packages, what is there works and what is absent says so.

The names are core, nn, optim, experimental.
"""

import importlib.metadata
import importlib.util
import pickle
import sys
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

import pax

_ABSENT_NAMES = {
    "nn": ["nn", "nets", "Linear", "Conv2D", "BatchNorm2D", "Sequential", "max_pool"],
    "experimental": ["experimental", "apply_mp_policy"],
}


class Line(pax.ParameterModule):
    """A straight line through data."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = jnp.array(1.0)
        self.offset = jnp.array(0.0)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.slope * x + self.offset


class Counter(pax.StateModule):
    """Counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.count = jnp.array(0)

    def __call__(self) -> jax.Array:
        self.count = self.count + 1
        return self.count


def loss_of(model: pax.Module, x: jax.Array, y: jax.Array) -> jax.Array:
    """Mean squared error."""
    return jnp.mean(jnp.square(model(x) - y))  # type: ignore[operator]


def check_installed(have: set[str]) -> None:
    """The distributions are those, in their own versions, and installed as copies."""
    installed = {(distribution.name or "").lower() for distribution in importlib.metadata.distributions()}
    assert {name for name in ("core", "nn", "optim", "experimental") if f"pax-{name}" in installed} == have, installed
    assert not installed & {"pax3", "opax", "pax"}, "a package of the same import name got in"
    assert "site-packages" in str(pax.__file__), pax.__file__
    assert importlib.metadata.version("pax-core") == pax.__version__


def check_core() -> None:
    """A module trains, counts, is immutable, and survives pickling."""
    x, y = jnp.arange(4.0), 3.0 * jnp.arange(4.0)
    line = Line()
    first, gradients = pax.value_and_grad(loss_of)(line, x, y)
    line = line.map(lambda p, g: p - 0.1 * g, gradients)
    assert loss_of(line, x, y) < first
    assert pickle.loads(pickle.dumps(line)).slope == line.slope
    counter, count = jax.jit(pax.purecall)(Counter())
    assert count == counter.count == 1
    expect(ValueError, "Cannot modify a module in immutable mode.", counter)


def check_nn() -> None:
    """Layers are names of `pax`, and work."""
    from pax import nn

    net = pax.Sequential(pax.Linear(3, 4), pax.BatchNorm2D(4), jax.nn.relu)
    assert pax.Linear is nn.Linear
    assert type(pickle.loads(pickle.dumps(pax.Linear(1, 1)))) is pax.Linear
    net, output = pax.purecall(net, jnp.ones((2, 5, 5, 3)))
    assert output.shape == (2, 5, 5, 4)
    assert importlib.metadata.version("pax-nn") == nn.__version__


def check_optim() -> None:
    """An optimizer brings a loss down, by itself and through `pax.build_update_fn`."""
    import opax

    def step_loss(model: Line, x: jax.Array, y: jax.Array) -> tuple[jax.Array, tuple[jax.Array, Line]]:
        loss = loss_of(model, x, y)
        return loss, (loss, model)

    x, y = jnp.arange(4.0), 3.0 * jnp.arange(4.0)
    model = Line()
    optimizer = opax.adam(0.1)(model.parameters())
    update = jax.jit(pax.build_update_fn(step_loss))
    first = loss_of(model, x, y)
    for _ in range(3):
        model, optimizer, _loss = update(model, optimizer, x, y)
    assert loss_of(model, x, y) < first
    assert importlib.metadata.version("pax-optim") == opax.__version__


def check_experimental() -> None:
    """A copy can be changed in a block."""
    from pax import experimental

    line = Line()
    with experimental.mutable(line) as copy:
        copy.slope = jnp.array(2.0)
    assert line.slope == 1.0
    assert copy.slope == 2.0
    assert importlib.metadata.version("pax-experimental") == experimental.__version__


def check_no_optim() -> None:
    """A training step, which needs an optimizer, gives the command that installs some."""
    assert importlib.util.find_spec("opax") is None
    update = pax.build_update_fn(loss_of)
    expect(ImportError, "which is not installed: pip install pax-optim", lambda: update(Line(), Line()))


def check_absent(names: list[str], distribution: str) -> None:
    """Every way to ask for a name of an absent package gives the command that installs it."""
    command = f"which is not installed: pip install {distribution}"
    for name in names:
        assert not hasattr(pax, name), name
        assert name not in dir(pax), name
        expect(AttributeError, command, partial(getattr, pax, name))
        expect(ImportError, command, partial(exec, f"from pax import {name}"))


def expect(kind: type[Exception], text: str, action: Callable[[], object]) -> None:
    """The action raises that error with that text."""
    try:
        action()
    except kind as error:
        assert text in str(error), error
    else:
        raise AssertionError(f"no {kind.__name__} with {text!r}")


def check_star_import(have: set[str]) -> None:
    """`from pax import *` gives what is there."""
    names: dict[str, object] = {}
    exec("from pax import *", names)
    assert "Module" in names
    assert ("Linear" in names) == ("nn" in have)
    assert ("experimental" in names) == ("experimental" in have)


def main(have: set[str]) -> None:
    """All checks that apply."""
    check_installed(have)
    check_core()
    for name, check in (("nn", check_nn), ("optim", check_optim), ("experimental", check_experimental)):
        if name in have:
            check()
        elif name == "optim":
            check_no_optim()
        else:
            check_absent(_ABSENT_NAMES[name], f"pax-{name}")
    check_star_import(have)
    print("smoke: ok with", *sorted(have))


if __name__ == "__main__":
    main(set(sys.argv[1:]))
