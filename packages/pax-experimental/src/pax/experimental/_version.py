"""The version of pax-experimental."""

__version__ = "0.1.0"
