"""The version of pax-optim."""

__version__ = "0.3.0"
