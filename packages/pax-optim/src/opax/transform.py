"""Gradient transformations, the parts of optimizers, and those around other transformations."""

from opax._adam import scale_by_adam as scale_by_adam
from opax._adaptive_clip import adaptive_clip as adaptive_clip
from opax._average import params_ema as params_ema
from opax._centralize import centralize as centralize
from opax._chain import chain as chain
from opax._clipping import clip as clip
from opax._clipping import clip_by_block_rms as clip_by_block_rms
from opax._clipping import clip_by_global_norm as clip_by_global_norm
from opax._ema import ema as ema
from opax._finite import apply_if_finite as apply_if_finite
from opax._from_optax import from_optax as from_optax
from opax._lookahead import lookahead as lookahead
from opax._masked import masked as masked
from opax._momentum import trace as trace
from opax._multi_steps import multi_steps as multi_steps
from opax._noise import add_noise as add_noise
from opax._partition import partition as partition
from opax._privacy import differentially_private_aggregate as differentially_private_aggregate
from opax._rms import scale_by_rms as scale_by_rms
from opax._rms import scale_by_stddev as scale_by_stddev
from opax._scale import identity as identity
from opax._scale import scale as scale
from opax._scale import scale_by_schedule as scale_by_schedule
from opax._transformation import GradientTransformation as GradientTransformation
from opax._weight_decay import add_decayed_weights as add_decayed_weights

__all__ = [
    "GradientTransformation",
    "adaptive_clip",
    "add_decayed_weights",
    "add_noise",
    "apply_if_finite",
    "centralize",
    "chain",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "differentially_private_aggregate",
    "ema",
    "from_optax",
    "identity",
    "lookahead",
    "masked",
    "multi_steps",
    "params_ema",
    "partition",
    "scale",
    "scale_by_adam",
    "scale_by_rms",
    "scale_by_schedule",
    "scale_by_stddev",
    "trace",
]
