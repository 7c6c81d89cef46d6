"""Optimizers for PAX: modules that turn gradients into updates.

>>> import jax.numpy as jnp
>>> import opax
>>> import pax
>>> model = pax.nn.Linear(3, 3)
>>> optimizer = opax.adam(1e-3)(model.parameters())
>>> print(optimizer.summary())
chain.<locals>.Chain
├── scale_by_adam.<locals>.ScaleByAdam
│   ├── Linear(in_dim=3, out_dim=3, with_bias=True)
│   └── Linear(in_dim=3, out_dim=3, with_bias=True)
└── scale.<locals>.Scale
>>> grads = pax.grad(lambda model, x: jnp.mean(model(x) ** 2))(model, jnp.ones((4, 3)))
>>> model, optimizer = opax.apply_gradients(model, optimizer, grads)
"""

from opax import optimizer as optimizer
from opax import schedule as schedule
from opax import transform as transform
from opax import utils as utils
from opax._adam import adam as adam
from opax._adam import adamw as adamw
from opax._adam import scale_by_adam as scale_by_adam
from opax._adam_variants import adabelief as adabelief
from opax._adam_variants import adamax as adamax
from opax._adam_variants import amsgrad as amsgrad
from opax._adam_variants import radam as radam
from opax._adaptive import adadelta as adadelta
from opax._adaptive import adafactor as adafactor
from opax._adaptive import adagrad as adagrad
from opax._adaptive_clip import adaptive_clip as adaptive_clip
from opax._apply import apply_gradients as apply_gradients
from opax._apply import apply_updates as apply_updates
from opax._apply import transform_gradients as transform_gradients
from opax._average import params_ema as params_ema
from opax._centralize import centralize as centralize
from opax._chain import chain as chain
from opax._clipping import clip as clip
from opax._clipping import clip_by_block_rms as clip_by_block_rms
from opax._clipping import clip_by_global_norm as clip_by_global_norm
from opax._ema import ema as ema
from opax._evaluation import evaluation_model as evaluation_model
from opax._finite import apply_if_finite as apply_if_finite
from opax._from_optax import from_optax as from_optax
from opax._large_batch import lamb as lamb
from opax._large_batch import lars as lars
from opax._lion import lion as lion
from opax._lookahead import lookahead as lookahead
from opax._masked import masked as masked
from opax._momentum import sgd as sgd
from opax._momentum import trace as trace
from opax._multi_steps import multi_steps as multi_steps
from opax._muon import muon as muon
from opax._nesterov_adam import nadam as nadam
from opax._nesterov_adam import nadamw as nadamw
from opax._noise import add_noise as add_noise
from opax._partition import partition as partition
from opax._privacy import differentially_private_aggregate as differentially_private_aggregate
from opax._rms import rmsprop as rmsprop
from opax._rms import scale_by_rms as scale_by_rms
from opax._rms import scale_by_stddev as scale_by_stddev
from opax._scale import identity as identity
from opax._scale import scale as scale
from opax._scale import scale_by_schedule as scale_by_schedule
from opax._schedule_free import schedule_free as schedule_free
from opax._transformation import GradientTransformation as GradientTransformation
from opax._version import __version__ as __version__
from opax._weight_decay import add_decayed_weights as add_decayed_weights

__all__ = [
    "GradientTransformation",
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "adaptive_clip",
    "add_decayed_weights",
    "add_noise",
    "amsgrad",
    "apply_gradients",
    "apply_if_finite",
    "apply_updates",
    "centralize",
    "chain",
    "clip",
    "clip_by_block_rms",
    "clip_by_global_norm",
    "differentially_private_aggregate",
    "ema",
    "evaluation_model",
    "from_optax",
    "identity",
    "lamb",
    "lars",
    "lion",
    "lookahead",
    "masked",
    "multi_steps",
    "muon",
    "nadam",
    "nadamw",
    "params_ema",
    "partition",
    "radam",
    "rmsprop",
    "scale",
    "scale_by_adam",
    "scale_by_rms",
    "scale_by_schedule",
    "scale_by_stddev",
    "schedule",
    "schedule_free",
    "sgd",
    "trace",
    "transform_gradients",
]
