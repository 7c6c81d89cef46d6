"""How fast PAX is, measured against plain JAX and other module libraries: ``python -m benchmarks --help``.

One file a question. About modules as trees: ``trees``, ``train_step``, ``eager``, ``operations``, ``traces``,
``import_time``, with models made for that (``peers``). About real networks: ``training``, ``norms``, ``tracing``,
``construction`` (``models``). All libraries are measured in turns, in one process where that is possible, so that
whatever slows the machine down meets them all. Ratios are medians of the ratios within one round.
"""
