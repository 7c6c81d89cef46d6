"""``build_update_fn``: a training step from a loss function."""

from collections.abc import Callable
from typing import Any

import jax.tree_util as jtu

from pax._classify import is_module
from pax._errors import ArgumentError, ArgumentTypeError, StructureError
from pax._gradients import value_and_grad
from pax._paths import describe, differences, list_differences, same_structure
from pax._siblings import import_opax

_LOSS = "loss_fn(model, *inputs) has to return (loss, (aux, model)), with the updated model"


def build_update_fn(loss_fn: Callable[..., Any], *, scan_mode: bool = False) -> Callable[..., Any]:
    """Makes a function that does one step of training.

    Args:
        loss_fn: ``loss_fn(model, *inputs, **kwargs)`` returns ``(loss, (aux, model))``: a scalar, anything to report,
            and the updated model, whose structure is unchanged. A model with states has to be called by
            :func:`pax.purecall` in it.
        scan_mode: the function takes and returns ``(model, optimizer)`` as one tuple, so that it can be scanned.

    Returns:
        ``update_fn(model, optimizer, *inputs, **kwargs)``, which returns ``(model, optimizer, aux)``; with
        ``scan_mode`` ``update_fn((model, optimizer), *inputs, **kwargs)``, which returns ``((model, optimizer), aux)``.
        The new parameters are those of the model that the loss function returned, minus the optimizer's updates. It
        raises ``ArgumentTypeError`` if model or optimizer is no module, ``ArgumentError`` if the loss function returns
        something else, and ``StructureError`` if the returned model has another structure.

    Raises:
        ArgumentTypeError: ``loss_fn`` is not callable.
    """
    if not callable(loss_fn):
        raise ArgumentTypeError("A loss function is needed.", got=describe(loss_fn), want=_LOSS)

    def checked_loss(model: Any, *inputs: Any, **kwargs: Any) -> Any:
        result = loss_fn(model, *inputs, **kwargs)
        if not _is_pair(result) or not _is_pair(result[1]) or not is_module(result[1][1]):
            raise ArgumentError(
                "The loss function returned something else than (loss, (aux, model)).",
                got=_shape_of(result),
                want="(loss, (aux, model))",
                fix="model, y = pax.purecall(model, x); loss = ...; return loss, (aux, model)",
            )
        if not same_structure(jtu.tree_structure(result[1][1]), jtu.tree_structure(model)):
            raise StructureError(
                "Expecting an updated model in the auxiliary output.",
                got=list_differences(differences(result[1][1], model)) or describe(result[1][1]),
                want="a model with the structure of the model that was passed in",
                fix="return the model that pax.purecall returned",
            )
        return result

    gradients_of = value_and_grad(checked_loss, has_aux=True)

    def update_fn(model: Any, optimizer: Any, *inputs: Any, **kwargs: Any) -> tuple[Any, Any, Any]:
        opax = import_opax(needed_by="pax.build_update_fn")
        for value, role in ((model, "model"), (optimizer, "optimizer")):
            if not is_module(value):
                raise ArgumentTypeError(
                    f"Expecting a PAX module as the {role}.",
                    got=describe(value),
                    want="update_fn((model, optimizer), ...)" if scan_mode else "update_fn(model, optimizer, ...)",
                    fix="optimizer = opax.adam(1e-3)(model.parameters())",
                )
        (_, (aux, model)), gradients = gradients_of(model, *inputs, **kwargs)
        parameters = model.parameters()
        updates, optimizer = opax.transform_gradients(gradients, optimizer, params=parameters)
        return model.update_parameters(opax.apply_updates(parameters, updates)), optimizer, aux

    if not scan_mode:
        return update_fn

    def scan_update_fn(model_and_optimizer: Any, *inputs: Any, **kwargs: Any) -> tuple[tuple[Any, Any], Any]:
        if not _is_pair(model_and_optimizer):
            raise ArgumentTypeError(
                "In scan mode the model and the optimizer are one argument.",
                got=describe(model_and_optimizer),
                want="a tuple (model, optimizer)",
                fix="update_fn((model, optimizer), x, y)",
            )
        model, optimizer, aux = update_fn(*model_and_optimizer, *inputs, **kwargs)
        return (model, optimizer), aux

    return scan_update_fn


def _is_pair(value: Any) -> bool:
    return isinstance(value, tuple | list) and len(value) == 2


def _shape_of(value: Any) -> str:
    if isinstance(value, tuple):
        return f"({', '.join(map(_shape_of, value))})"
    return describe(value)
