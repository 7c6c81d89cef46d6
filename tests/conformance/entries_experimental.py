"""The modules of pax-experimental: none so far."""

from conformance.catalogue import Entry

ENTRIES: list[Entry] = []

EXCUSED: dict[str, str] = {}
