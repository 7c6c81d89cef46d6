"""pax.nn.Stack."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import pax
from helpers.traces import TraceCounter
from helpers.treedefs import treedef
from pax.errors import ArgumentError, ArgumentTypeError, MutationError, StructureError

X = jax.random.normal(jax.random.key(0), (2, 3))
calls = 0


class Block(pax.Module):
    """A residual layer that counts its calls in Python."""

    def __init__(self, size: int = 3, *, rng_key: jax.Array | None = None, name: str | None = None) -> None:
        super().__init__(name=name)
        self.fc = pax.nn.Linear(size, size, rng_key=rng_key)

    def __call__(self, x: jax.Array, mask: jax.Array | None = None, *, rate: jax.Array | None = None) -> jax.Array:
        global calls
        calls += 1
        y = jnp.tanh(self.fc(x))
        y = y if mask is None else jnp.where(mask, y, 0.0)
        return x + (y if rate is None else y * rate)


class Stateful(pax.Module):
    """Batch normalisation, and dropout with a key."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = pax.nn.Linear(3, 3)
        self.norm = pax.nn.BatchNorm1D(3, data_format="NWC")
        self.drop = pax.nn.Dropout(0.5)

    def __call__(self, x: jax.Array) -> jax.Array:
        return x + self.drop(self.norm(self.fc(x)))


class Returns(pax.Module):
    """Returns what a function of its input returns; has an array, so that there is something to stack."""

    def __init__(self, func: Callable[[Any], Any]) -> None:
        super().__init__()
        self.scale = jnp.ones(())
        self.func = func

    def __call__(self, x: Any) -> Any:
        return self.func(x)


def seeded(make: Callable[[], Any], seed: int = 7) -> Any:
    pax.seed_rng_key(seed)
    return make()


def stack(number: int = 3, **options: Any) -> Any:
    return seeded(lambda: pax.nn.Stack(Block, number, **options))


def loop(blocks: Any, x: Any, *args: Any) -> Any:
    for block in blocks:
        x = block(x, *args)
    return x


def loss(module: Any, x: jax.Array) -> Any:
    return (module(x) ** 2).sum()


def assert_close(got: Any, want: Any) -> None:
    assert treedef(got) == treedef(want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(raw(a), raw(b), rtol=1e-5, atol=1e-6)


def raw(leaf: Any) -> Any:
    return jax.random.key_data(leaf) if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf


# ---- construction ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [Block, Stateful])
def test_seeded_values_are_those_of_blocks_built_one_after_the_other(make: Any) -> None:
    blocks = seeded(lambda: [make() for _ in range(3)])
    stacked = seeded(lambda: pax.nn.Stack(make, 3))
    for got, want in zip(stacked, blocks, strict=True):
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_array_equal(a, b)
        assert treedef(got) == treedef(want)


def test_the_global_sequence_goes_on_after_the_last_block() -> None:
    seeded(lambda: [Block() for _ in range(3)])
    want = pax.next_rng_key()
    stack()
    np.testing.assert_array_equal(pax.next_rng_key(), want)


@pytest.mark.parametrize("key", [jax.random.key(1), jax.random.PRNGKey(1)], ids=["typed", "legacy"])
def test_a_key_is_split_into_one_for_each_block(key: jax.Array) -> None:
    stacked = pax.nn.Stack(Block, 2, rng_key=key)
    for block, own in zip(stacked, jax.random.split(key, 2), strict=True):
        np.testing.assert_array_equal(block.fc.weight, Block(rng_key=own).fc.weight)


def test_typed_keys_are_stacked() -> None:
    drops = [pax.nn.Dropout(0.5).replace(rng_key=jax.random.key(seed)) for seed in range(2)]
    stacked = pax.nn.Stack.from_modules(drops)
    assert stacked.block.rng_key.shape == (2,)  # type: ignore[attr-defined]
    assert stacked[1].rng_key == drops[1].rng_key


def test_from_modules_takes_the_arrays_of_the_blocks() -> None:
    blocks = [Block() for _ in range(3)]
    stacked = pax.nn.Stack.from_modules(blocks, unroll=3, name="body")
    assert repr(stacked) == "(body) Stack(num_layers=3, unroll=3)"
    assert_close(stacked(X), loop(blocks, X))
    assert_close(list(stacked), blocks)


def test_summary_shows_the_block_once() -> None:
    assert stack(12).summary() == (
        "Stack(num_layers=12)\n└── Block\n    └── Linear(in_dim=3, out_dim=3, with_bias=True)"
    )


def test_repr_shows_what_is_set() -> None:
    assert repr(stack(2, has_aux=True, remat="dots_saveable")) == (
        "Stack(num_layers=2, has_aux=True, remat=dots_saveable)"
    )
    assert repr(stack(2, remat=jax.checkpoint_policies.dots_saveable)) == "Stack(num_layers=2, remat=dots_saveable)"


def test_abstract_construction_gives_the_same_structure() -> None:
    assert treedef(jax.eval_shape(stack)) == treedef(stack())


# ---- calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"remat": True}, {"unroll": 2, "remat": ("kept",)}, {"unroll": True}], ids=str)
def test_outputs_and_gradients_are_those_of_the_blocks_in_a_row(options: dict[str, Any]) -> None:
    stacked = stack(**options)
    row = pax.nn.Sequential(*stacked)
    value, gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(stacked, X)
    want, want_gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(row, X)
    np.testing.assert_allclose(value, want, rtol=1e-6)
    assert_close(gradients[1], want_gradients[1])
    assert_close(list(gradients[0]), list(want_gradients[0]))


def count_equations(jaxpr: Any) -> int:
    inner = [sub for eqn in jaxpr.eqns for value in eqn.params.values() for sub in _jaxprs(value)]
    return len(jaxpr.eqns) + sum(map(count_equations, inner))


def _jaxprs(value: Any) -> list[Any]:
    if isinstance(value, tuple | list):
        return [jaxpr for item in value for jaxpr in _jaxprs(item)]
    return [getattr(value, "jaxpr", value)] if hasattr(getattr(value, "jaxpr", value), "eqns") else []


def test_the_program_does_not_grow_with_the_depth() -> None:
    sizes = {count_equations(jax.make_jaxpr(jax.grad(loss))(stack(number), X).jaxpr) for number in (2, 9)}
    assert len(sizes) == 1
    deep, shallow = (pax.nn.Sequential(*stack(number)) for number in (9, 2))
    assert count_equations(jax.make_jaxpr(loss)(deep, X).jaxpr) > count_equations(
        jax.make_jaxpr(loss)(shallow, X).jaxpr
    )


@pytest.mark.parametrize("remat", [False, True])
def test_the_block_is_traced_once(remat: bool) -> None:
    global calls
    stacked, calls = stack(5, remat=remat), 0
    jax.jit(jax.grad(loss))(stacked, jnp.ones((4, 3)))
    assert calls == 1


def test_a_second_call_outside_of_jit_does_not_trace_again() -> None:
    global calls
    stacked, calls = stack(4), 0
    x = jnp.ones((5, 3))
    for _ in range(3):
        stacked(x)
    assert calls == 1


def test_states_are_those_of_the_blocks_called_in_a_row() -> None:
    stacked = seeded(lambda: pax.nn.Stack(Stateful, 3))
    x = jax.random.normal(jax.random.key(1), (4, 2, 3))
    updated, output = pax.purecall(stacked, x)
    row, want = pax.purecall(pax.nn.Sequential(*stacked), x)
    assert_close(output, want)
    assert_close(list(updated), list(row))
    assert updated.parameters() == stacked.parameters()
    masks = updated.block.drop.rng_key
    assert len({tuple(key) for key in np.asarray(masks)}) == 3


def test_two_calls_in_one_pure_function_go_on_from_one_to_the_other() -> None:
    stacked = seeded(lambda: pax.nn.Stack(Stateful, 2))
    x = jnp.ones((4, 2, 3))

    @pax.pure
    def twice(module: Any) -> Any:
        module(x)
        module(x)
        return module

    one, _ = pax.purecall(stacked, x)
    two, _ = pax.purecall(one, x)
    assert_close(twice(stacked), two)


def test_eval_mode_reaches_the_blocks_and_needs_no_purecall() -> None:
    stacked = seeded(lambda: pax.nn.Stack(Stateful, 2)).eval()
    x = jax.random.normal(jax.random.key(1), (4, 2, 3))
    assert_close(stacked(x), loop(stacked, x))


def test_states_need_purecall() -> None:
    with pytest.raises(MutationError, match="Cannot modify a module in immutable mode"):
        pax.nn.Stack(Stateful, 2)(jnp.ones((4, 2, 3)))


def test_further_arguments_are_the_same_for_all_blocks() -> None:
    stacked, mask = stack(), jnp.array([[True, False, True]])
    mask = jnp.broadcast_to(mask, X.shape)
    assert_close(stacked(X, mask), loop(stacked, X, mask))
    assert_close(stacked(X, mask=mask), stacked(X, mask))


def test_arguments_that_are_no_arrays_reach_the_blocks() -> None:
    class Applies(pax.nn.Linear):
        def __call__(self, x: Any, func: Any = None, *, twice: Any = False) -> Any:
            y = super().__call__(x)
            y = func(y) if callable(func) else y
            return y * 2.0 if twice is True else y

    stacked = pax.nn.Stack(lambda: Applies(3, 3), 2)
    assert_close(stacked(X, jnp.tanh), loop(stacked, X, jnp.tanh))
    results = [stacked(X, twice=twice) for twice in (1, True, 1.0, True)]
    assert_close(results[0], results[2])
    assert_close(results[1], results[3])
    assert not np.allclose(results[0], results[1])


def test_arguments_per_layer() -> None:
    stacked, rates = stack(), jnp.array([1.0, 0.5, 0.0])
    rates = rates[:, None, None] * jnp.ones((3, *X.shape))
    want = X
    for block, rate in zip(stacked, rates, strict=True):
        want = block(want, rate=rate)
    assert_close(stacked(X, per_layer={"rate": rates}), want)


def test_auxiliary_outputs_are_collected() -> None:
    def double(x: Any) -> Any:
        return x * 2, {"norm": (x**2).sum()}

    stacked = pax.nn.Stack(lambda: Returns(double), 3, has_aux=True)
    output, aux = stacked(jnp.ones(2))
    np.testing.assert_array_equal(output, [8, 8])
    np.testing.assert_array_equal(aux["norm"], [2, 8, 32])


def test_any_pytree_can_be_carried() -> None:
    def double(carry: Any) -> Any:
        return {"x": carry["x"] * 2, "count": carry["count"] + 1}

    stacked = pax.nn.Stack(lambda: Returns(double), 3)
    output = stacked({"x": jnp.ones(2), "count": 0})
    np.testing.assert_array_equal(output["x"], [8, 8])
    assert int(output["count"]) == 3


def test_weakly_typed_outputs_are_carried() -> None:
    global calls
    calls = 0

    def double(x: Any) -> Any:
        global calls
        calls += 1
        return jnp.where(x > 0, 2.0, 3.0)

    assert float(pax.nn.Stack(lambda: Returns(double), 3)(1.0)) == 2.0
    assert calls == 1


# ---- as a container --------------------------------------------------------------------------------------------------


def test_blocks_can_be_taken_out() -> None:
    blocks = seeded(lambda: [Block() for _ in range(3)])
    stacked = stack()
    assert len(stacked) == 3
    assert_close(stacked[-1], blocks[2])
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"Stack has 3 modules, there is no number {index}"):
            stacked[index]


def test_a_slice_is_a_tuple_of_blocks() -> None:
    stacked = stack()
    blocks = list(stacked)
    for part in (slice(1), slice(-2, None), slice(None, None, -1), slice(3, 9)):
        assert type(stacked[part]) is tuple
        assert_close(list(stacked[part]), blocks[part])


def test_a_block_can_be_exchanged() -> None:
    stacked, other = stack(), Block()
    changed = stacked.set(-2, other)
    assert_close(list(changed), [stacked[0], other, stacked[2]])
    with pytest.raises(StructureError, match="may differ in the values of their arrays only"):
        stacked.set(0, Block(4))


def test_frozen_blocks_get_no_gradients() -> None:
    frozen = pax.freeze_parameters(stack())
    assert jax.tree.leaves(pax.grad(loss)(frozen, X)) == []
    partly = pax.freeze_parameters(stack(), "block/fc/bias")
    assert [leaf.shape for leaf in jax.tree.leaves(pax.grad(loss)(partly, X))] == [(3, 3, 3)]


def test_a_stack_in_a_jitted_step_is_traced_once() -> None:
    step = TraceCounter(lambda module, x: pax.purecall(module, x)[0])
    module, x = seeded(lambda: pax.nn.Stack(Stateful, 2)), jnp.ones((4, 2, 3))
    for _ in range(3):
        module = step(module, x)
    assert step.traces == 1


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "number", "error", "message"),
    [
        (Block, 0, ArgumentError, "Expecting positive values for `num_layers`"),
        (Block, 1.5, ArgumentTypeError, "Expecting an integer for `num_layers`"),
        (Block(), 2, ArgumentTypeError, "Expecting a function that makes a module"),
        (3, 2, ArgumentTypeError, "Expecting a function that makes a module"),
        (lambda: 3, 2, ArgumentTypeError, "Expecting a PAX module"),
    ],
    ids=["none", "no integer", "a module", "a number", "makes a number"],
)
def test_what_is_no_stack_is_refused(make: Any, number: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message):
        pax.nn.Stack(make, number)


def test_no_blocks_are_refused() -> None:
    with pytest.raises(ArgumentError, match="num_layers"):
        pax.nn.Stack.from_modules([])


def test_the_same_block_twice_is_refused() -> None:
    block = Block()
    with pytest.raises(ArgumentError, match=r"given twice.\n  where: Stack, module 1\n(.|\n)*fix:   Stack\(lambda"):
        pax.nn.Stack(lambda: block, 2)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (lambda: Block(name="b"), "_name: got 'b', want None"),
        (lambda: Block().eval(), "_training: got False, want True"),
        (lambda: Block(4), "fc.in_dim: got 4, want 3"),
        (
            lambda: Block().replace_node(lambda m: m.fc.bias, jnp.ones(5)),
            r"fc.bias: got float32\[5\], want float32\[3\]",
        ),
        (lambda: Stateful(), "got a `Stateful`, want a `Block`"),
        (lambda: Returns(lambda x: x), "func: got "),
    ],
    ids=["name", "mode", "size", "shape", "class", "function"],
)
def test_blocks_that_differ_are_refused(other: Any, text: str) -> None:
    with pytest.raises(StructureError, match=f"where: Stack, module 1\n(.|\n)*{text}(.|\n)*fix: (.|\n)*a `lambda`"):
        pax.nn.Stack.from_modules([Returns(jnp.tanh) if "func" in text else Block(), other()])


@pytest.mark.parametrize(
    ("func", "text"),
    [
        (
            lambda x: x.astype(jnp.float16),
            r"got:   float16\[2,3\]\n  want:  float32\[2,3\], as its input\n  fix:   return y",
        ),
        (lambda x: x[:, :2], r"got:   float32\[2,2\]\n  want:  float32\[2,3\], as its input\n  fix:   project"),
        (
            lambda x: (x, x),
            r"got:   \('float32\[2,3\]', 'float32\[2,3\]'\)\n  want:  float32\[2,3\]\n  fix:   Stack\(.*has_aux",
        ),
    ],
    ids=["dtype", "shape", "structure"],
)
def test_a_block_has_to_return_what_it_takes(func: Any, text: str) -> None:
    with pytest.raises(StructureError, match=rf"return what it takes(.|\n)*where: block \(Returns\)\n  {text}"):
        pax.nn.Stack(lambda: Returns(func), 2)(X)


def test_auxiliary_outputs_come_in_pairs() -> None:
    with pytest.raises(StructureError, match="With `has_aux` a block has to return a pair"):
        pax.nn.Stack(Block, 2, has_aux=True)(X)


def test_arguments_per_layer_need_a_first_axis() -> None:
    with pytest.raises(
        StructureError, match=r"first axis of size 3.\n  where: Stack, per_layer, \['rate'\]\n  got:   float32\[2\]"
    ):
        stack()(X, per_layer={"rate": jnp.ones(2)})


def test_the_block_has_to_be_stacked() -> None:
    with pytest.raises(StructureError, match=r"first axis of size 3.\n  where: Stack, block, fc.weight"):
        stack().replace(block=Block(4))(X)


def test_errors_of_the_block_name_the_place_in_the_model() -> None:
    model = pax.nn.Sequential(jax.nn.relu, stack())
    with pytest.raises(ArgumentTypeError, match=r"where: modules\[1\].block.fc \(Linear\)"):
        pax.purecall(model, jnp.ones((2, 5)))
    with pytest.raises(ArgumentTypeError, match=r"where: block.fc \(Linear\)"):
        stack()(jnp.ones((2, 5)))


def test_a_call_must_not_change_the_structure() -> None:
    class Changes(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = jnp.ones(())
            self.note = "new"

        def __call__(self, x: Any) -> Any:
            self.note = "used"
            return x

    with pytest.raises(StructureError, match="must not change the structure(.|\n)*note: got 'used', want 'new'"):
        pax.purecall(pax.nn.Stack(Changes, 2), X)


@pytest.mark.parametrize(("unroll", "kind"), [(0, ArgumentError), ("2", ArgumentTypeError)])
def test_unroll_is_checked(unroll: Any, kind: Any) -> None:
    with pytest.raises(kind, match="`unroll`.\n  where: Stack"):
        pax.nn.Stack(lambda: pax.nn.Linear(2, 2), 2, unroll=unroll)


def test_a_stack_can_be_made_from_an_iterator() -> None:
    modules: Any = (pax.nn.Linear(2, 2) for _ in range(3))
    assert len(pax.nn.Stack.from_modules(modules)) == 3
