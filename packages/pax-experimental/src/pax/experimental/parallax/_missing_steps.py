"""What to say where JAX fails because a step of a model's life was left out, or a parameter cannot be trained."""

from typing import Any

import jax.numpy as jnp
import jax.tree_util as jtu

from pax.errors import ArgumentTypeError, AttributeNameError, MutationError, PaxError
from pax.experimental.parallax._declared import lacks_parameters, undeclared_placeholders
from pax.experimental.parallax._param_init import NO_ARRAY
from pax.extend import describe

NOT_INITIALIZED: dict[str, str] = {
    "headline": "This module is not initialized: call initialized(rng) first.",
    "fix": "layer = layer.initialized(jax.random.key(0))",
}
NO_KEY: dict[str, str] = {
    "headline": "This module has no random key: call new_state(rng) first.",
    "fix": 'layer = layer.new_state(jax.random.key(0), mode="train")  # or mode="eval"',
}
_NEITHER: dict[str, str] = {
    "headline": "This module is not initialized, and has no random key: call initialized(rng), "
    "and after it call new_state(rng) first.",
    "fix": 'layer = layer.initialized(jax.random.key(0)).new_state(jax.random.key(1), mode="train")',
}


def explain(module: Any, error: TypeError | AttributeError) -> PaxError | None:
    """Returns what to raise for an error that is raised because a step of the model's life was left out."""
    text = str(error)
    if isinstance(error, PaxError):
        of_this_module = error.module is None and error.headline == NO_ARRAY
        return _explain_undeclared(module) if of_this_module else None
    if not isinstance(error, TypeError):
        return None
    if module.rng is None and "PRNG key" in text and "NoneType" in text:
        if not module._initialized:
            return ArgumentTypeError(**_NEITHER, got="a use of `rng`, which is None", module=module)
        return ArgumentTypeError(**NO_KEY, got="a use of `rng`, which is None", module=module)
    if "ParamInit" in text and lacks_parameters(module):
        return ArgumentTypeError(**NOT_INITIALIZED, got="a calculation with a ParamInit", module=module)
    return _explain_undeclared(module) if "ParamInit" in text else None


def _explain_undeclared(module: Any) -> PaxError | None:
    """Placeholders in a class body that are not declared stay there, whatever is called."""
    names = undeclared_placeholders(module)
    if not names or lacks_parameters(module):
        return None
    declarations = "; ".join(f"{name}: Parameter" for name in names)
    return AttributeNameError(
        f"`{type(module).__qualname__}` has {_listed(names)} in its class body, but declares no such field.",
        got="a calculation with a ParamInit, in a module that is initialized",
        want=declarations,
        fix=f"{names[0]}: Parameter = ParamInit(...)  # the annotation makes it a field",
        module=module,
    )


def _listed(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def explain_mutation(module: Any, error: MutationError) -> MutationError:
    """Returns what to raise where a module changes itself while the gradient of ``module`` is taken."""
    path = error.path
    for keys, node in jtu.tree_leaves_with_path(module, is_leaf=lambda node: node is error.module):
        if node is error.module:
            path = jtu.keystr(keys).removeprefix(".")
    return MutationError(
        "A module changes itself while `grad` differentiates, and its new state would be lost.",
        where=error.where,
        got=error.got,
        want="modules that stay as they are; in evaluation mode most do",
        fix="gradient = pax.grad(lambda net: pax.purecall(net, x)[1])(net)\n"
        "gradient, net = pax.grad(lambda net: pax.purecall(net, x)[::-1], has_aux=True)(net)  # keeps the new state",
        why=error.why,
        module=error.module,
        path=path,
    )


def explain_gradient(module: Any, error: TypeError) -> PaxError | None:
    """Returns what to raise, in the words of Parallax, where a parameter is no floating-point array."""
    if isinstance(error, PaxError) and error.module is not module:
        return None
    wrong = [
        f"{jtu.keystr(path)[1:]}: {describe(leaf)}"
        for path, leaf in jtu.tree_leaves_with_path(module.parameters())
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    ]
    if not wrong:
        return None
    return ArgumentTypeError(
        "Only floating-point and complex parameters have gradients.",
        got=", ".join(wrong),
        want="a floating or complex dtype",
        fix="annotate the field as a constant, such as `table: jax.Array`, or give it another dtype",
        module=module,
    )
