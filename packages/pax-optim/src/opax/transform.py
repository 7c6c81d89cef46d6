"""Gradient transformations, the parts of optimizers."""

from opax._adam import scale_by_adam as scale_by_adam
from opax._chain import chain as chain
from opax._clipping import clip as clip
from opax._clipping import clip_by_global_norm as clip_by_global_norm
from opax._momentum import trace as trace
from opax._scale import identity as identity
from opax._scale import scale as scale
from opax._scale import scale_by_schedule as scale_by_schedule
from opax._transformation import GradientTransformation as GradientTransformation
from opax._weight_decay import add_decayed_weights as add_decayed_weights

__all__ = [
    "GradientTransformation",
    "add_decayed_weights",
    "chain",
    "clip",
    "clip_by_global_norm",
    "identity",
    "scale",
    "scale_by_adam",
    "scale_by_schedule",
    "trace",
]
