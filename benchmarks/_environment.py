"""On what, and with which versions, was it measured?"""

import importlib.metadata
import os
import platform
from pathlib import Path

import jax

from benchmarks.peers import available


def describe_environment() -> dict[str, str]:
    """Returns machine, backend and versions."""
    libraries, _ = available()
    distributions = {library.distribution for library in libraries} | {"jaxlib", "numpy", "pax-nn", "pax-optim"}
    versions = {name: _version(name) for name in sorted(distributions)}
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "system": f"{platform.system()} {platform.release()}",
        "device": f"{jax.default_backend()}, {jax.devices()[0].device_kind}",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        **versions,
    }


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
