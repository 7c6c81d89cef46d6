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
from opax._apply import apply_gradients as apply_gradients
from opax._apply import apply_updates as apply_updates
from opax._apply import transform_gradients as transform_gradients
from opax._chain import chain as chain
from opax._clipping import clip as clip
from opax._clipping import clip_by_global_norm as clip_by_global_norm
from opax._momentum import sgd as sgd
from opax._momentum import trace as trace
from opax._scale import identity as identity
from opax._scale import scale as scale
from opax._scale import scale_by_schedule as scale_by_schedule
from opax._transformation import GradientTransformation as GradientTransformation
from opax._version import __version__ as __version__
from opax._weight_decay import add_decayed_weights as add_decayed_weights

__all__ = [
    "GradientTransformation",
    "adam",
    "adamw",
    "add_decayed_weights",
    "apply_gradients",
    "apply_updates",
    "chain",
    "clip",
    "clip_by_global_norm",
    "identity",
    "scale",
    "scale_by_adam",
    "scale_by_schedule",
    "schedule",
    "sgd",
    "trace",
    "transform_gradients",
]
