"""The version of pax-nn."""

__version__ = "0.6.0"
