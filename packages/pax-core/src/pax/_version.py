"""The version of pax-core."""

__version__ = "0.6.0"
