"""`apply_scaled_gradients`: the numbers of a step, steps that are left out, every kind of loss scale, and mistakes."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jmp
import numpy as np
import optax
import pytest

import opax
import pax
from pax.errors import ArgumentError, ArgumentTypeError, StructureError
from pax.experimental import apply_scaled_gradients

HALVES = (jnp.float16, jnp.bfloat16)


def linear(seed: int = 0) -> Any:
    return pax.Linear(3, 3, rng_key=jax.random.key(seed))


def dynamic(scale: Any = None, **options: Any) -> Any:
    return jmp.DynamicLossScale(jnp.float32(2**15) if scale is None else scale, **options)


def times(tree: Any, factor: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf * factor, tree)


def with_nan(grads: Any) -> Any:
    """Gradients of which one number is not finite."""
    return jax.tree.map(lambda leaf: leaf.at[-1].set(jnp.nan), grads)


def assert_same(got: Any, want: Any) -> None:
    """Equal to the last bit, in structure and dtype, too."""
    pax.assert_structure_equal(got, want)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert a.dtype == b.dtype
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        np.testing.assert_array_equal(a, b)


apply_any: Callable[..., Any] = apply_scaled_gradients
jitted: Callable[..., Any] = jax.jit(apply_scaled_gradients)


@pytest.fixture(params=["eager", "jit"])
def step(request: pytest.FixtureRequest) -> Callable[..., Any]:
    return jitted if request.param == "jit" else apply_scaled_gradients


def shown(number: Any) -> str:
    """A float16 number as NumPy before 2.3 prints it; later ones change to an exponent from 1000 on."""
    assert number.dtype == jnp.float16
    return np.format_float_positional(np.float16(number), trim="0")


# ---- the documented numbers ----------------------------------------------------------------------


def test_a_finite_step(step: Any) -> None:
    net = linear()
    optimizer = opax.adam(1e-4)(net.parameters())
    new, new_optimizer, loss_scale = step(net, optimizer, dynamic(), net.parameters())
    assert int(new_optimizer[0].count) == 1
    assert float(loss_scale.loss_scale) == 32768.0
    assert int(loss_scale.counter) == 1
    moved = new.weight - net.weight
    np.testing.assert_allclose(moved, -1e-4 * np.sign(net.weight), rtol=0.05)


def test_a_step_with_nan_is_left_out(step: Any) -> None:
    net = linear()
    optimizer = opax.adam(1e-4)(net.parameters())
    net, optimizer, loss_scale = step(net, optimizer, dynamic(), net.parameters())
    new, new_optimizer, loss_scale = step(net, optimizer, loss_scale, with_nan(net.parameters()))
    assert_same(new, net)
    assert_same(new_optimizer, optimizer)
    assert float(loss_scale.loss_scale) == 16384.0
    assert int(loss_scale.counter) == 0


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_one_number_that_is_not_finite_is_enough(value: float, name: str) -> None:
    net = linear()
    optimizer = opax.sgd(0.1)(net.parameters())
    grads = net.parameters()
    grads = grads.set_attribute(name, getattr(grads, name).at[0].set(value))
    new, _, loss_scale = apply_scaled_gradients(net, optimizer, dynamic(), grads)
    assert_same(new, net)
    assert float(loss_scale.loss_scale) == 16384.0


def test_the_documented_example_prints_32770(step: Any) -> None:
    """KD-80: a float16 loss scale stays float16, inside and outside of jit, step after step."""
    net = linear()
    optimizer = opax.adam(1e-4)(net.parameters())
    loss_scale = dynamic(jnp.float16(2**15))
    for count in (1, 2):
        net, optimizer, loss_scale = step(net, optimizer, loss_scale, net.parameters())
        assert shown(loss_scale.loss_scale) == "32770.0"
        assert int(loss_scale.counter) == count
    net, optimizer, loss_scale = step(net, optimizer, loss_scale, with_nan(net.parameters()))
    assert shown(loss_scale.loss_scale) == "16380.0"
    assert int(loss_scale.counter) == 0


def test_jmp_alone_fails_where_this_works() -> None:
    """KD-80: if this fails, a new jmp has mended it."""
    with pytest.raises(TypeError, match="same dtypes"):
        dynamic(jnp.float16(2**15)).adjust(jnp.array(True))


def test_the_gradients_are_divided_by_the_loss_scale(step: Any) -> None:
    net = linear()
    grads = linear(seed=1).parameters()
    want, _ = opax.apply_gradients(net, opax.sgd(0.1)(net.parameters()), grads)
    for loss_scale in (dynamic(jnp.float16(2**10)), jmp.StaticLossScale(2.0**10), jmp.NoOpLossScale()):
        scaled = loss_scale.scale(grads)
        new, _, _ = step(net, opax.sgd(0.1)(net.parameters()), loss_scale, scaled)
        # Inside of jit a multiplication and a subtraction may be rounded once.
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), new, want)


# ---- the dynamic loss scale ----------------------------------------------------------------------


def run(loss_scale: Any, finite: str, step: Any = apply_scaled_gradients, **options: Any) -> Any:
    """Makes a step for each letter: `+` a finite one, `-` another; returns the loss scales, the first one included."""
    net = linear()
    optimizer = opax.sgd(0.0)(net.parameters())
    found = [loss_scale]
    for sign in finite:
        grads = times(net.parameters(), 1.0 if sign == "+" else jnp.inf)
        net, optimizer, loss_scale = step(net, optimizer, loss_scale, grads, **options)
        found.append(loss_scale)
    return found


def numbers(found: Any) -> list[float]:
    return [float(each.loss_scale) for each in found]


def test_it_grows_after_a_period_of_finite_steps_in_a_row(step: Any) -> None:
    found = run(dynamic(jnp.float16(4), period=3), "++-+++++++", step)
    assert numbers(found) == [4, 4, 4, 2, 2, 2, 4, 4, 4, 8, 8]
    assert [int(each.counter) for each in found] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1]


def test_it_does_what_jmp_does_in_float32() -> None:
    ours = theirs = dynamic(jnp.float32(48), period=2, factor=3, min_loss_scale=np.float32(5))
    for sign, found in zip("++++-+--++-++", run(ours, "++++-+--++-++")[1:], strict=True):
        theirs = theirs.adjust(jnp.array(sign == "+"))
        assert (found.loss_scale, found.counter) == (theirs.loss_scale, theirs.counter)
        assert (found.loss_scale.dtype, found.counter.dtype) == (theirs.loss_scale.dtype, theirs.counter.dtype)
        assert (found.period, found.factor, found.min_loss_scale) == (2, 3, 5)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("factor", [2, 1.5])
def test_it_stays_finite_when_it_grows_past_the_largest_number(dtype: Any, factor: Any, step: Any) -> None:
    """KD-80."""
    largest = {"float16": 65504.0}.get(jnp.dtype(dtype).name, 2.0**126)
    start = dtype(2.0 ** np.floor(np.log2(largest)) / 4)
    found = run(dynamic(start, period=1, factor=factor), "++++++", step)
    assert all(np.isfinite(numbers(found)))
    assert max(numbers(found)) * factor > largest
    assert numbers(found)[-1] == max(numbers(found))
    assert {each.loss_scale.dtype for each in found} == {jnp.dtype(dtype)}


def test_a_factor_that_reaches_the_largest_number_by_rounding_only(step: Any) -> None:
    # 21840 is float16(65504 / 3), rounded up; 3 times that would be rounded to infinity.
    assert numbers(run(dynamic(jnp.float16(21840), period=1, factor=3), "+", step)) == [21840, 21840]


@pytest.mark.parametrize(
    ("dtype", "largest"), [(jnp.float16, 2.0**15), (jnp.bfloat16, 2.0**127), (jnp.float32, 2.0**127)]
)
def test_an_infinite_one_comes_down_in_compiled_programs(dtype: Any, largest: float) -> None:
    # Outside of them it is an error. Half of infinity is infinity: all steps would be left out.
    found = run(dynamic(jnp.asarray(jnp.inf, dtype)), "--", jitted)
    assert numbers(found) == [np.inf, largest / 2, largest / 4]


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_it_does_not_fall_below_one(dtype: Any, step: Any) -> None:
    assert numbers(run(dynamic(dtype(4)), "----", step)) == [4, 2, 1, 1, 1]


def test_the_minimum_of_the_loss_scale_is_kept_outside_of_jit() -> None:
    """KD-80: a minimum of any dtype."""
    for minimum in (np.ones([], np.float16) * 8, np.float32(8), jnp.bfloat16(8), 8.0):
        found = run(dynamic(jnp.float16(16), min_loss_scale=minimum), "--")
        assert numbers(found) == [16, 8, 8]
        assert found[-1].loss_scale.dtype == jnp.float16
        assert found[-1].min_loss_scale is minimum


def test_the_minimum_can_be_given_where_jit_makes_jmp_forget_it() -> None:
    """KD-80."""
    start = dynamic(jnp.float16(16), min_loss_scale=np.ones([], np.float16) * 8)
    assert numbers(run(start, "---", jitted)) == [16, 8, 4, 2]

    @jax.jit
    def step(model: Any, optimizer: Any, loss_scale: Any, grads: Any) -> Any:
        return apply_scaled_gradients(model, optimizer, loss_scale, grads, min_loss_scale=8)

    assert numbers(run(start, "---", step)) == [16, 8, 8, 8]
    # As an argument of the compiled program, too.
    assert numbers(run(start, "---", jitted, min_loss_scale=np.float32(8))) == [16, 8, 8, 8]


@pytest.mark.parametrize(
    ("scale", "counter"),
    [
        (2.0**15, 0),
        (np.float32(2**15), np.zeros([], np.int32)),
        (jnp.array(2.0**15), jnp.zeros([], jnp.int16)),
        (jnp.float16(2**15), jnp.array(0)),
        (np.float16(2**15), np.uint16(0)),
    ],
)
def test_dtypes_and_weak_types_stay(scale: Any, counter: Any) -> None:
    traces = []

    @jax.jit
    def step(*args: Any) -> Any:
        traces.append(args)
        return apply_any(*args)

    before = jmp.DynamicLossScale(scale, counter)
    found = run(before, "+-+", step)
    assert len(traces) == 1
    outside = run(before, "+")[1]
    for each in (*found[1:], outside):
        for name in ("loss_scale", "counter"):
            old, new = jnp.asarray(getattr(before, name)), getattr(each, name)
            assert (new.dtype, new.weak_type) == (old.dtype, old.weak_type)


def test_it_is_the_carry_of_a_scan() -> None:
    net = linear()
    signs = jnp.array([1.0, jnp.inf, 1.0])

    def body(carry: Any, sign: Any) -> Any:
        model, optimizer, loss_scale = apply_any(*carry, times(carry[0].parameters(), sign))
        return (model, optimizer, loss_scale), loss_scale.loss_scale

    start = (net, opax.adam(1e-3)(net.parameters()), dynamic(jnp.float16(8)))
    (_, optimizer, loss_scale), scales = jax.lax.scan(body, start, signs)
    assert scales.tolist() == [8, 4, 4]
    assert (int(optimizer[0].count), int(loss_scale.counter)) == (2, 1)


def test_it_is_mapped_over_an_ensemble() -> None:
    @jax.jit
    @jax.vmap
    def member(key: jax.Array, factor: jax.Array) -> Any:
        net = pax.Linear(2, 2, rng_key=key)
        optimizer = opax.adam(1e-3)(net.parameters())
        return net, apply_any(net, optimizer, dynamic(jnp.float16(8)), times(net.parameters(), factor))

    nets, results = member(jax.random.split(jax.random.key(0), 3), jnp.array([1.0, jnp.nan, 1.0]))
    new, optimizers, scales = results
    assert scales.loss_scale.tolist() == [8, 4, 8]
    assert optimizers[0].count.tolist() == [1, 0, 1]
    assert [bool((new.weight[i] == nets.weight[i]).all()) for i in range(3)] == [False, True, False]


@jax.tree_util.register_pytree_node_class
class Halving(jmp.DynamicLossScale):  # type: ignore[misc]
    """Adjusts itself in a way of its own."""

    def adjust(self, grads_finite: Any) -> "Halving":
        return dataclasses.replace(self, loss_scale=self.loss_scale / 2)


def test_a_subclass_may_adjust_itself(step: Any) -> None:
    found = run(Halving(jnp.float32(8)), "++", step)
    assert numbers(found) == [8, 4, 2]
    assert type(found[-1]) is Halving


def test_a_subclass_stays_one() -> None:
    class Named(jmp.DynamicLossScale):  # type: ignore[misc]
        pass

    assert type(run(Named(jnp.float16(8)), "+")[-1]) is Named


def test_strict_promotion_of_dtypes_is_respected(step: Any) -> None:
    net = linear()
    with jax.numpy_dtype_promotion("strict"):
        _, _, loss_scale = step(net, opax.sgd(0.1)(net.parameters()), dynamic(jnp.float16(8)), net.parameters())
    assert loss_scale.loss_scale == 8


# ---- the other loss scales -----------------------------------------------------------------------


@pytest.mark.parametrize("loss_scale", [jmp.NoOpLossScale(), jmp.StaticLossScale(4.0)])
def test_other_loss_scales_leave_out_no_step(loss_scale: Any, step: Any) -> None:
    net = linear()
    optimizer = opax.adam(1e-3)(net.parameters())
    new, optimizer, after = step(net, optimizer, loss_scale, times(net.parameters(), jnp.nan), previous_model=net)
    assert np.isnan(new.weight).all()
    assert int(optimizer[0].count) == 1
    assert after == loss_scale


@pytest.mark.parametrize(
    "make",
    [float, np.float16, jnp.float16, lambda x: jnp.array(float(x)), lambda x: np.array(x, np.float32), int],
    ids=["float", "np.float16", "jnp.float16", "weak", "array", "int"],
)
def test_a_static_loss_scale_of_any_kind_of_number_goes_through_jit(make: Any) -> None:
    net = linear()
    traces = []

    @jax.jit
    def step(*args: Any) -> Any:
        traces.append(args)
        return apply_any(*args)

    def moved(number: int) -> Any:
        loss_scale: Any = jmp.StaticLossScale(make(number))
        optimizer = opax.sgd(0.1)(net.parameters())
        for _ in range(2):
            new, _, loss_scale = step(net, optimizer, loss_scale, loss_scale.scale(net.parameters()))
        assert isinstance(loss_scale, jmp.StaticLossScale)
        return new.weight

    np.testing.assert_allclose(moved(8), 0.9 * net.weight, rtol=1e-6)
    assert len(traces) == 1
    np.testing.assert_allclose(moved(8), 0.9 * net.weight, rtol=1e-6)
    assert len(traces) == 1
    # Another number is another program, not a wrong result.
    np.testing.assert_allclose(moved(16), 0.9 * net.weight, rtol=1e-6)
    assert len(traces) == 2


# ---- models and gradients ------------------------------------------------------------------------


class Net(pax.Module):
    """Batch statistics, a random key and a counter: states of several kinds."""

    def __init__(self) -> None:
        super().__init__()
        keys = jax.random.split(jax.random.key(0), 2)
        self.first = pax.Linear(3, 3, rng_key=keys[0])
        self.norm = pax.BatchNorm1D(3)
        self.dropout = pax.Dropout(0.5)
        self.dropout = self.dropout.set_attribute("rng_key", jax.random.key(5))
        self.last = pax.Linear(3, 3, rng_key=keys[1])
        self.count = jnp.array(0)

    parameters = pax.parameters_method()

    def __call__(self, x: jax.Array) -> jax.Array:
        self.count = self.count + 1
        x = self.dropout(jax.nn.relu(self.norm(self.first(x)[None])[0]))
        result: jax.Array = self.last(x)
        return result


@jax.jit
def gradients(net: Any, x: jax.Array, loss_scale: Any) -> tuple[Any, Any]:
    def loss_fn(model: Any) -> tuple[jax.Array, Any]:
        model, y = pax.purecall(model, x)
        return loss_scale.scale(jnp.mean(y**2)), model

    found: tuple[Any, Any] = pax.grad(loss_fn, has_aux=True)(net)
    return found


def test_without_the_previous_model_a_bad_batch_stays_in_the_statistics(step: Any) -> None:
    """KD-81: what the original does, and what the model itself cannot undo."""
    net, loss_scale = Net(), dynamic()
    optimizer = opax.adam(1e-3)(net.parameters())
    grads, model = gradients(net, jnp.full((4, 3), jnp.inf), loss_scale)
    new, _, _ = step(model, optimizer, loss_scale, grads)
    assert_same(new.parameters(), net.parameters())
    assert int(new.count) == 1
    assert np.isnan(new.norm.ema_mean.averages).all()


def test_with_the_previous_model_a_bad_batch_leaves_no_trace(step: Any) -> None:
    """KD-81: statistics, random keys and counters are as before."""
    net, loss_scale = Net(), dynamic()
    optimizer = opax.adam(1e-3)(net.parameters())
    grads, model = gradients(net, jnp.full((4, 3), jnp.inf), loss_scale)
    new, new_optimizer, loss_scale = step(model, optimizer, loss_scale, grads, previous_model=net)
    assert_same(new, net)
    assert_same(new_optimizer, optimizer)
    assert float(loss_scale.loss_scale) == 16384


def test_with_the_previous_model_a_good_batch_does_what_it_does_without(step: Any) -> None:
    """KD-81."""
    net, loss_scale = Net(), dynamic()
    optimizer = opax.adam(1e-3)(net.parameters())
    grads, model = gradients(net, jax.random.normal(jax.random.key(1), (4, 3)), loss_scale)
    with_it = step(model, optimizer, loss_scale, grads, previous_model=net)
    without = step(model, optimizer, loss_scale, grads)
    for a, b in zip(with_it, without, strict=True):
        assert_same(a, b)
    assert int(with_it[0].count) == 1


def test_gradients_of_the_whole_model(step: Any) -> None:
    """KD-82: with batch statistics, in which they differ from parameters."""
    net, loss_scale = Net().eval(), dynamic()
    x = jax.random.normal(jax.random.key(1), (4, 3))
    grads, _ = gradients(net, x, loss_scale)
    whole = net | grads
    optimizer = opax.adam(1e-3)(net.parameters())
    got = step(net, optimizer, loss_scale, whole)
    want = step(net, optimizer, loss_scale, grads)
    for a, b in zip(got, want, strict=True):
        assert_same(a, b)
    assert len(jax.tree.leaves(whole)) > len(jax.tree.leaves(net.parameters()))


def test_states_in_gradients_of_the_whole_model_do_not_count(step: Any) -> None:
    """KD-82: NaN among the states leaves out no step."""
    net = pax.BatchNorm1D(3)
    grads = jax.tree.map(lambda leaf: jnp.full(leaf.shape, jnp.nan, leaf.dtype), net) | net.parameters()
    _, optimizer, loss_scale = step(net, opax.adam(1e-3)(net.parameters()), dynamic(), grads)
    assert int(optimizer[0].count) == 1
    assert float(loss_scale.loss_scale) == 32768


def test_frozen_parts_stay(step: Any) -> None:
    net = pax.Sequential(linear(0), linear(1))
    net = net.set(0, pax.freeze_parameters(net[0]))
    new, _, loss_scale = step(net, opax.adam(1e-3)(net.parameters()), dynamic(), net.parameters())
    assert_same(new[0], net[0])
    assert not (new[1].weight == net[1].weight).all()
    assert int(loss_scale.counter) == 1


def test_a_model_without_parameters_counts_as_finite(step: Any) -> None:
    net = pax.freeze_parameters(linear())
    new, _, loss_scale = step(net, opax.adam(1e-3)(net.parameters()), dynamic(), net.parameters())
    assert_same(new, net)
    assert int(loss_scale.counter) == 1


@pytest.mark.parametrize("dtype", HALVES)
def test_half_gradients_are_divided_in_float32(dtype: Any, step: Any) -> None:
    """A gradient of 2^-30 is zero in float16, and scaled by 2^15 it is not."""
    net = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, dtype), linear())
    grads = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0**-15, dtype), net.parameters())
    optimizer = opax.sgd(2.0**30, momentum=0.0)(net.parameters())
    new, _, _ = step(net, optimizer, dynamic(jnp.float16(2**15)), grads)
    assert new.weight.dtype == dtype
    np.testing.assert_array_equal(new.weight.astype(np.float32), -1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_largest_scale_does_not_lose_gradients(dtype: Any, step: Any) -> None:
    """The inverse of 2^127 is a subnormal number, which some processors take for zero."""
    net = jax.tree.map(jnp.zeros_like, linear())
    grads = jax.tree.map(lambda leaf: jnp.full(leaf.shape, 2.0**120), net.parameters())
    optimizer = opax.sgd(2.0**6, momentum=0.0)(net.parameters())
    loss_scale = numbers(run(dynamic(dtype(2.0**124), period=1), "++++", step))
    assert loss_scale == [2.0**124, 2.0**125, 2.0**126, 2.0**126, 2.0**126]
    new, _, _ = step(net, optimizer, dynamic(dtype(loss_scale[-1])), grads)
    np.testing.assert_array_equal(new.weight, -1)


def test_complex_and_wide_parameters_keep_their_dtypes(step: Any) -> None:
    class Wide(pax.ParameterModule):
        def __init__(self) -> None:
            super().__init__()
            self.wave = jnp.array([2.0 + 4.0j])
            self.length = jnp.array([2.0])

    net = Wide()
    optimizer = opax.sgd(1.0, momentum=0.0)(net.parameters())
    new, _, _ = step(net, optimizer, dynamic(jnp.float16(2)), net.parameters())
    np.testing.assert_array_equal(new.wave, np.array([1 + 2j], np.complex64))
    assert new.length == 1
    bad = net.parameters().set_attribute("wave", jnp.array([complex(0, np.inf)]))
    new, _, _ = step(net, optimizer, dynamic(jnp.float16(2)), bad)
    assert_same(new, net)


# ---- optimizers ----------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "sgd": opax.sgd(0.1),
    "chain": opax.chain(opax.clip_by_global_norm(1.0), opax.adamw(lambda step: 0.1 / (1 + step))),
    "from_optax": opax.from_optax(optax.adamw(1e-2)),
    "multi_steps": opax.multi_steps(opax.adam(1e-2), 2),
    "add_noise": opax.chain(opax.add_noise(0.1, 0.5, 0), opax.sgd(0.1)),
    "apply_if_finite": opax.apply_if_finite(opax.adam(1e-2), 3),
    "partition": opax.partition(("bias", opax.sgd(0.1)), rest=opax.adam(1e-2)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_makes_its_own_step_or_none(name: str) -> None:
    net = linear()
    optimizer = OPTIMIZERS[name](net.parameters())
    step = jitted
    loss_scale = dynamic(jnp.float16(4))
    grads = linear(1).parameters()
    for _ in range(2):
        want = jax.jit(opax.apply_gradients)(net, optimizer, grads)
        left_out = step(net, optimizer, loss_scale, with_nan(grads))
        assert_same(left_out[0], net)
        assert_same(left_out[1], optimizer)
        net, optimizer, loss_scale = step(net, optimizer, loss_scale, times(grads, 4.0))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), net, want[0])
        pax.assert_structure_equal(optimizer, want[1])
    assert float(loss_scale.loss_scale) == 4


# ---- mistakes ------------------------------------------------------------------------------------


def arguments(**changed: Any) -> dict[str, Any]:
    net = linear()
    good = {
        "model": net,
        "optimizer": opax.adam(1e-3)(net.parameters()),
        "loss_scale": dynamic(),
        "grads": net.parameters(),
    }
    return {**good, **changed}


def integer_scale() -> Any:
    with pytest.warns(UserWarning, match="Expected floating"):
        return dynamic(jnp.int32(8))


WRONG: dict[str, tuple[Callable[[], dict[str, Any]], type[Exception], str]] = {
    "a model that is none": (lambda: {"model": {"w": 1.0}}, ArgumentTypeError, "Expecting a PAX Module."),
    "an optimizer as the model": (
        lambda: {"model": opax.sgd(0.1)(jnp.ones(2))},
        ArgumentTypeError,
        "Expecting a PAX Module.",
    ),
    "a factory": (lambda: {"optimizer": opax.adam(1e-3)}, ArgumentTypeError, "Expecting an OPAX optimizer."),
    "an optax optimizer": (lambda: {"optimizer": optax.adam(1e-3)}, ArgumentTypeError, "Expecting an OPAX optimizer."),
    "a number as the scale": (lambda: {"loss_scale": 32768.0}, ArgumentTypeError, "Expecting a loss scale of jmp."),
    "the class of a scale": (
        lambda: {"loss_scale": jmp.DynamicLossScale},
        ArgumentTypeError,
        "Expecting a loss scale of jmp.",
    ),
    "a vector of scales": (
        lambda: {"loss_scale": dynamic(jnp.ones(2))},
        ArgumentError,
        "Expecting a scalar for `loss_scale`",
    ),
    "a static vector": (
        lambda: {"loss_scale": jmp.StaticLossScale(jnp.ones(2))},
        ArgumentError,
        "Expecting a scalar for `loss_scale`",
    ),
    "a text as the scale": (
        lambda: {"loss_scale": jmp.StaticLossScale("big")},
        ArgumentTypeError,
        "Expecting a number for `loss_scale`",
    ),
    "a counter of floats": (
        lambda: {"loss_scale": dynamic(counter=jnp.float32(0))},
        ArgumentTypeError,
        "Expecting an integer for `counter`",
    ),
    "a counter too small": (
        lambda: {"loss_scale": dynamic(counter=jnp.int8(0))},
        ArgumentError,
        "Expecting a number of steps for `period`",
    ),
    "no period": (lambda: {"loss_scale": dynamic(period=0)}, ArgumentError, "Expecting a number of steps for `period`"),
    "a factor below one": (lambda: {"loss_scale": dynamic(factor=0.5)}, ArgumentError, "Expecting a `factor`"),
    "a minimum of zero": (lambda: {"min_loss_scale": 0}, ArgumentError, "Expecting a smallest loss scale above zero"),
    "a minimum that is zero in float16": (
        lambda: {"loss_scale": dynamic(jnp.float16(8)), "min_loss_scale": 1e-10},
        ArgumentError,
        "Expecting a smallest loss scale above zero",
    ),
    "a minimum that is zero in compiled programs": (
        lambda: {"loss_scale": dynamic(jnp.float32(8)), "min_loss_scale": 1e-40},
        ArgumentError,
        "Expecting a smallest loss scale above zero",
    ),
    "a minimum too large": (
        lambda: {"loss_scale": dynamic(jnp.float16(8)), "min_loss_scale": 1e6},
        ArgumentError,
        "Expecting a smallest loss scale above zero",
    ),
    "a text as the minimum": (
        lambda: {"min_loss_scale": "one"},
        ArgumentTypeError,
        "Expecting a number for `min_loss_scale`",
    ),
    "a dictionary of gradients": (lambda: {"grads": {"w": 1.0}}, StructureError, "Expecting gradients of the class"),
    "gradients of another class": (
        lambda: {"grads": pax.BatchNorm1D(3).parameters()},
        StructureError,
        "Expecting gradients of the class",
    ),
    "gradients of other shapes": (
        lambda: {"grads": linear().parameters().set_attribute("weight", jnp.ones((2, 3)))},
        StructureError,
        "different shapes",
    ),
    "gradients of another layer": (
        lambda: {"grads": pax.Linear(2, 3, rng_key=jax.random.key(0)).parameters()},
        StructureError,
        "different structures",
    ),
    "gradients of frozen parts": (
        lambda: {"grads": pax.freeze_parameters(linear()).parameters()},
        StructureError,
        "different structures",
    ),
    "a previous model that is none": (lambda: {"previous_model": 3}, ArgumentTypeError, "Expecting a PAX Module."),
    "a previous model of another mode": (
        lambda: {"previous_model": linear().eval()},
        StructureError,
        "from before the forward pass have different structures",
    ),
    "a previous model of other dtypes": (
        lambda: {"previous_model": jax.tree.map(lambda leaf: leaf.astype(jnp.float16), linear())},
        StructureError,
        "from before the forward pass have different arrays",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_named(name: str) -> None:
    """KD-82, too: gradients in another form say so."""
    changed, kind, text = WRONG[name]
    with pytest.raises(kind, match=text) as caught:
        apply_scaled_gradients(**arguments(**changed()))
    assert type(caught.value) is kind
    assert "apply_" in str(caught.value)
    assert "\n  got:   " in str(caught.value)
    assert "\n  want:  " in str(caught.value)


def test_an_integer_scale_is_refused_with_advice() -> None:
    loss_scale = integer_scale()
    with pytest.raises(ArgumentTypeError, match="floating-point dtype") as caught:
        apply_scaled_gradients(**arguments(loss_scale=loss_scale))
    assert "jmp.DynamicLossScale(" in str(caught.value)


def test_errors_are_raised_inside_of_jit_too() -> None:
    with pytest.raises(StructureError, match="different structures"):
        jitted(**arguments(grads=pax.Linear(2, 3, rng_key=jax.random.key(0)).parameters()))


def test_nothing_of_the_users_changes(step: Any) -> None:
    given = arguments(previous_model=linear())
    before = jax.tree.leaves(given)
    step(**given)
    assert all(a is b for a, b in zip(jax.tree.leaves(given), before, strict=True))
    assert float(given["loss_scale"].loss_scale) == 32768


@pytest.mark.parametrize(
    ("loss_scale", "got", "fix"),
    [
        (jmp.DynamicLossScale(np.float16(np.inf)), "inf (float16)", "jmp.DynamicLossScale(jmp.half_dtype()(2**15))"),
        (jmp.DynamicLossScale(jnp.float16(0)), "0.0 (float16)", "jmp.DynamicLossScale("),
        (jmp.DynamicLossScale(jnp.float32(-1)), "-1.0 (float32)", "jmp.DynamicLossScale("),
        (jmp.DynamicLossScale(jnp.float32(np.nan)), "nan (float32)", "jmp.DynamicLossScale("),
        (jmp.StaticLossScale(0), "0.0 (int32)", "jmp.StaticLossScale(2**15)"),
        (jmp.StaticLossScale(float("inf")), "inf (float32)", "jmp.StaticLossScale(2**15)"),
    ],
)
def test_a_loss_scale_that_leaves_out_every_step_is_refused(loss_scale: Any, got: str, fix: str) -> None:
    net = pax.Linear(2, 2)
    optimizer = opax.sgd(0.1)(net.parameters())
    with pytest.raises(ArgumentError, match="a loss scale that is finite and above zero") as caught:
        apply_scaled_gradients(net, optimizer, loss_scale, net.parameters())
    assert f"got:   {got}" in str(caught.value)
    assert f"fix:   loss_scale = {fix}" in str(caught.value)


def test_a_traced_loss_scale_is_not_looked_at() -> None:
    net = pax.Linear(2, 2)
    step = jax.jit(apply_scaled_gradients)
    optimizer = opax.sgd(0.1)(net.parameters())
    new, _, _ = step(net, optimizer, jmp.DynamicLossScale(jnp.float32(np.inf)), net.parameters())
    assert new.weight.shape == (2, 2)


def test_gradients_without_the_policy_of_the_model_are_told_apart() -> None:
    plain = pax.Linear(3, 3)
    net = pax.apply_mp_policy(plain, "p=f32,c=f16,o=f32")
    scale = jmp.DynamicLossScale(jnp.float16(2**15))
    with pytest.raises(StructureError) as caught:
        apply_scaled_gradients(net, opax.sgd(0.1)(net.parameters()), scale, plain.parameters())
    assert "got:   Linear(in_dim=3, out_dim=3, with_bias=True)\n" in str(caught.value)
    assert "want:  Linear(in_dim=3, out_dim=3, with_bias=True, mp_policy=FHF)" in str(caught.value)
    outer, other = pax.Sequential(net), pax.Sequential(plain)
    with pytest.raises(StructureError) as caught:
        apply_scaled_gradients(outer, opax.sgd(0.1)(outer.parameters()), scale, other.parameters())
    assert "where: apply_scaled_gradients, `grads`" in str(caught.value)
    assert "mp_policy=FHF)`" in str(caught.value)
