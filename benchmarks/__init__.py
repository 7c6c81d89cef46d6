"""How fast PAX is, measured against plain JAX and other module libraries: ``python -m benchmarks --help``.

One file a question: ``trees``, ``train_step``, ``eager``, ``operations``, ``traces``, ``import_time``. Every library
builds the same models (``peers``), and all libraries are measured in one process, in turns, so that whatever slows the
machine down meets them all. Ratios are medians of the ratios within one round.
"""
