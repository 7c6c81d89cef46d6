"""Networks that train: the same mathematics and the same weights, written with each library as its users write it."""

from benchmarks.models._available import models_available as models_available
from benchmarks.models._network import Models as Models
from benchmarks.models._network import Network as Network
from benchmarks.models._weights import mlp_weights as mlp_weights
from benchmarks.models._weights import resnet_weights as resnet_weights
from benchmarks.models._weights import transformer_weights as transformer_weights

__all__ = ["Models", "Network", "mlp_weights", "models_available", "resnet_weights", "transformer_weights"]
