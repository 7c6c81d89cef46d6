"""Optimizers: chains of gradient transformations."""

from opax._adam import adam as adam
from opax._adam import adamw as adamw
from opax._adam_variants import adabelief as adabelief
from opax._adam_variants import adamax as adamax
from opax._adam_variants import amsgrad as amsgrad
from opax._adam_variants import radam as radam
from opax._adaptive import adadelta as adadelta
from opax._adaptive import adafactor as adafactor
from opax._adaptive import adagrad as adagrad
from opax._large_batch import lamb as lamb
from opax._large_batch import lars as lars
from opax._lion import lion as lion
from opax._momentum import sgd as sgd
from opax._muon import muon as muon
from opax._nesterov_adam import nadam as nadam
from opax._nesterov_adam import nadamw as nadamw
from opax._rms import rmsprop as rmsprop
from opax._schedule_free import schedule_free as schedule_free

__all__ = [
    "adabelief",
    "adadelta",
    "adafactor",
    "adagrad",
    "adam",
    "adamax",
    "adamw",
    "amsgrad",
    "lamb",
    "lars",
    "lion",
    "muon",
    "nadam",
    "nadamw",
    "radam",
    "rmsprop",
    "schedule_free",
    "sgd",
]
