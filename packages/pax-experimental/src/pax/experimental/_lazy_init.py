"""``lazy_init``: everything that the first call of a lazy module creates, without its computations."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import jax.tree_util as jtu
import numpy as np

import pax
from pax.errors import ArgumentError, ArgumentTypeError
from pax.extend import describe, is_module, is_tracer, modules_in, mutation_session

M = TypeVar("M", bound=pax.Module)
T = TypeVar("T")
Values = dict[tuple[Any, ...], Any]

_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)
_RECORD = "_created_parts"
_NEEDS_VALUES = (  # Python code that asks for the value of a tracer
    jax.errors.ConcretizationTypeError,
    jax.errors.TracerArrayConversionError,
    jax.errors.TracerIntegerConversionError,
    jax.errors.NonConcreteBooleanIndexError,
)
_NO_ARRAYS = (
    "There was no array among the inputs. `init` and `lazy_init` take those of a call: arrays or, in their place, "
    "jax.ShapeDtypeStruct((2, 8, 8, 1), jnp.float32)."
)


def lazy_init(module: M, *args: Any, **kwargs: Any) -> M:
    """Returns a module with all parts created that ``module % inputs`` creates, in it and in the modules below it.

    The forward pass is only traced, as by ``jax.eval_shape``: nothing of it is computed. The parts are real, with the
    very values that ``module % inputs`` would give them, and in the states in which they were created.
    Inside of ``jax.eval_shape`` and ``jax.jit`` the parts are traced as well, so that
    ``jax.eval_shape(lambda: lazy_init(net, x))`` computes nothing at all.

    Args:
        module: a callable module that is, or holds, a :class:`LazyModule`.
        *args: inputs of the call: pytrees with arrays, or with ``jax.ShapeDtypeStruct`` in their place.
        **kwargs: likewise. Leaves that are no arrays, such as ``True``, are passed on as they are.

    Returns:
        The module, with the structure of the one that ``module % inputs`` returns.

    Raises:
        ArgumentError: what the call creates depends on the values of the inputs, or the call asks for them (``if``,
            ``int``, NumPy).
        ArgumentTypeError: ``module`` is no module, or is not callable.

    >>> import jax, jax.numpy as jnp, pax
    >>> from pax.experimental import LazyModule, lazy_init
    >>> class Head(LazyModule):
    ...     def __call__(self, x):
    ...         return self.get_or_create("fc", lambda: pax.Linear(x.shape[-1], 2))(x)
    >>> net = lazy_init(pax.Sequential(pax.Linear(4, 3), Head()), jax.ShapeDtypeStruct((8, 4), jnp.float32))
    >>> print(net.summary())
    Sequential
    ├── Linear(in_dim=4, out_dim=3, with_bias=True)
    └── Head
        └── Linear(in_dim=3, out_dim=2, with_bias=True)
    """
    _check_module(module)
    leaves, structure = jtu.tree_flatten((args, kwargs))
    places = [index for index, leaf in enumerate(leaves) if isinstance(leaf, _ARRAYS)]
    # Under an outer trace nothing is computed anyway, and what is created has to belong to that trace.
    traced = is_tracer(jnp.zeros(()))
    # Unless that trace is the one of another `lazy_init`, which wants real parts, and the records of them.
    nested = _recording_now.active
    eager = _recording_now.eager if nested else not traced
    found: list[M] = []

    def run(module_in: M, arrays: list[Any]) -> None:
        inputs = list(leaves)
        for place, array in zip(places, arrays, strict=True):
            inputs[place] = array
        new_args, new_kwargs = jtu.tree_unflatten(structure, inputs)
        try:
            with _recording(eager=eager):
                called, _ = pax.purecall(module_in, *new_args, **new_kwargs)
        except Exception as error:
            if not places and callable(module):
                error.add_note(_NO_ARRAYS)
            raise
        created = _as_created(called, module, (), root=called, allow_tracers=traced)
        found.append(created if nested else _without_records(created))

    arrays = [leaves[place] for place in places]
    if traced:
        run(module, [_zeros(array) if isinstance(array, jax.ShapeDtypeStruct) else array for array in arrays])
    else:
        try:
            jax.eval_shape(run, module, arrays)
        except _NEEDS_VALUES as error:
            raise ArgumentError(
                "The call needs the values of its inputs, which are not known here.",
                where="lazy_init",
                got=str(error).partition("\n")[0],
                want="a call that depends on the shapes and dtypes of the inputs alone",
                fix="net, y = net % x",
                module=module,
            ) from error
    return found[0]


def _check_module(module: Any) -> None:
    if not is_module(module):
        raise ArgumentTypeError(
            "Expecting a PAX module.",
            where="lazy_init, argument `module`",
            got=describe(module),
            want="a module that is, or holds, a LazyModule",
            fix="lazy_init(MyModule(), x)" if isinstance(module, type) else "lazy_init(net, x)",
        )


def _zeros(spec: jax.ShapeDtypeStruct) -> jax.Array:
    if jnp.issubdtype(spec.dtype, jax.dtypes.prng_key):
        key = jax.random.key(0)
        return jnp.broadcast_to(key, spec.shape)
    return jnp.zeros(spec.shape, spec.dtype)


# ---- what was created ------------------------------------------------------------------------------------------------


class _Recording(threading.local):
    """Whether ``lazy_init`` runs in this thread, and whether the parts are to be computed outside of its trace."""

    active = False
    eager = False


_recording_now = _Recording()


@contextmanager
def _recording(*, eager: bool) -> Iterator[None]:
    before = _recording_now.active, _recording_now.eager
    _recording_now.active, _recording_now.eager = True, eager
    try:
        yield
    finally:
        _recording_now.active, _recording_now.eager = before


class _Record:
    """The parts of one module as they were created. A static attribute, so it follows the module into its copies.

    Args:
        parts: by attribute name.
    """

    def __init__(self, parts: dict[str, Any]) -> None:
        self.parts = parts


def create(owner: Any, name: str, create_fn: Callable[[], T]) -> T:
    """Calls ``create_fn`` for an attribute of ``owner``, a module that may change; ``lazy_init`` sees the result."""
    if not _recording_now.active:
        return create_fn()
    if _recording_now.eager:
        with jax.ensure_compile_time_eval():
            value = create_fn()
    else:
        value = create_fn()
    record: _Record | None = vars(owner).get(_RECORD)
    setattr(owner, _RECORD, _Record({**(record.parts if record else {}), name: value}))
    return value


def _as_created(final: Any, start: Any, path: tuple[Any, ...], *, root: Any, allow_tracers: bool) -> Any:
    """Returns a tree with the values it had at the start, at the end of a call or when they were created.

    Args:
        final: a module or an array after the call.
        start: what stood at this place before; ``None`` if nothing did.
        path: the place.
        root: for messages.
        allow_tracers: the values may be those of an outer trace.
    """
    if not isinstance(final, pax.Module):
        value = final if start is None or isinstance(start, pax.Module) else start
        if is_tracer(value) and not allow_tracers:
            raise ArgumentError(
                "This array depends on the values of the inputs, which are not known here.",
                where=f"lazy_init, `{jtu.keystr(path).lstrip('.')}`",
                got=f"{describe(value)}, computed in the forward pass",
                want="parts that depend on the shapes and dtypes of the inputs alone",
                fix="net, y = net % x",
                module=root,
            )
        return value
    record: _Record | None = vars(final).get(_RECORD)
    values = _content(start) if isinstance(start, pax.Module) else {}
    for name, part in (record.parts if record else {}).items():
        whole = jtu.tree_leaves_with_path(part, is_leaf=is_module)
        values |= {(jtu.GetAttrKey(name), *inner): value for inner, value in whole}
    content, structure = jtu.tree_flatten_with_path(final, is_leaf=lambda node: node is not final and is_module(node))
    return jtu.tree_unflatten(
        structure,
        [
            _as_created(value, values.get(inner), path + inner, root=root, allow_tracers=allow_tracers)
            for inner, value in content
        ],
    )


def _content(module: pax.Module) -> Values:
    """Returns the own leaves of a module, and the nearest modules below it, by path."""
    return dict(jtu.tree_leaves_with_path(module, is_leaf=lambda node: node is not module and is_module(node)))


def _without_records(module: M) -> M:
    lazy = [below for below in modules_in(module) if _RECORD in vars(below)]
    with mutation_session(lazy):
        for below in lazy:
            delattr(below, _RECORD)
    return module
