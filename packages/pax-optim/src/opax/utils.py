"""Steps of optimizers, and the models they lead to."""

from opax._apply import apply_gradients as apply_gradients
from opax._apply import apply_updates as apply_updates
from opax._apply import transform_gradients as transform_gradients
from opax._evaluation import evaluation_model as evaluation_model

__all__ = [
    "apply_gradients",
    "apply_updates",
    "evaluation_model",
    "transform_gradients",
]
