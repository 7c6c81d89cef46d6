"""Functions that apply optimizers."""

from opax._apply import apply_gradients as apply_gradients
from opax._apply import apply_updates as apply_updates
from opax._apply import transform_gradients as transform_gradients

__all__ = ["apply_gradients", "apply_updates", "transform_gradients"]
