"""Helpers for training loops; the same objects as in `pax`."""

from pax._gradients import grad as grad
from pax._scan import scan as scan
from pax._update_fn import build_update_fn as build_update_fn

__all__ = ["build_update_fn", "grad", "scan"]
