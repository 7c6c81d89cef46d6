"""The base class of modules, parameters, and the predicates that tell parameters apart."""

from pax.experimental.mlax._module import Module as Module
from pax.experimental.mlax._parameter import Parameter as Parameter
from pax.experimental.mlax._parameter import is_leaf_param as is_leaf_param
from pax.experimental.mlax._parameter import is_non_trainable_param as is_non_trainable_param
from pax.experimental.mlax._parameter import is_trainable_param as is_trainable_param

__all__ = ["Module", "Parameter", "is_leaf_param", "is_non_trainable_param", "is_trainable_param"]
