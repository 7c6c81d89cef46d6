"""What may become part of PAX: usable, typed and tested, but it may change or go in any release.

- `mutable` (since 0.1.0): is a block that changes a copy of a module clearer than `pax.pure` for a few edits by hand?
  It moves to pax-core when it has kept its meaning for two minor releases.
"""

from pax.experimental._mutable import mutable as mutable
from pax.experimental._version import __version__ as __version__

__all__ = ["mutable"]
