"""The exception classes of PAX, for ``except`` clauses and for libraries built on PAX."""

from pax._errors import ArgumentError as ArgumentError
from pax._errors import ArgumentTypeError as ArgumentTypeError
from pax._errors import AttributeNameError as AttributeNameError
from pax._errors import MutationError as MutationError
from pax._errors import PaxError as PaxError
from pax._errors import SelectorError as SelectorError
from pax._errors import SharedNodeError as SharedNodeError
from pax._errors import StateDictError as StateDictError
from pax._errors import StructureError as StructureError
from pax._errors import UnregisteredFieldError as UnregisteredFieldError
from pax._errors import UnsupportedModuleError as UnsupportedModuleError

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "AttributeNameError",
    "MutationError",
    "PaxError",
    "SelectorError",
    "SharedNodeError",
    "StateDictError",
    "StructureError",
    "UnregisteredFieldError",
    "UnsupportedModuleError",
]
