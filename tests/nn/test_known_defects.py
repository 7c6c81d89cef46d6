"""What was wrong in the layers of the original and must not come back: each known defect is held by a test or more.

The tests stand beside those of the layer; the number of the defect is in the name of the test or in its docstring. Here
is checked that there is one for each, and here are the tests of what concerns many layers.
"""

import ast
import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parent.parent

_DEFECTS = {
    40: "Linear, and what is made of it, refused inputs without a batch axis",
    41: "no control of dtypes: states changed theirs in the first call",
    42: "BatchNorm: the variance of data with a large mean was negative",
    43: "BatchNorm checked neither rank nor channels",
    44: "GroupNorm, channels first: scale and offset acted on the last axis",
    45: "GroupNorm: negative axes were those of another array",
    46: "GroupNorm: divisibility found late, no `num_channels`, no information in the text",
    47: "LayerNorm and GroupNorm held their initializers: a trace for each module",
    48: "transposed convolutions without bias had one all the same",
    49: "convolutions checked little, and each something else",
    50: "transposed convolutions do not flip the kernel: kept, documented",
    51: "dropout: bare assertions, traced rates failed, the layer took no key",
    52: "Embed: indices out of range are clamped: kept, documented",
    53: "EMA: numbers refused, shapes and dtypes changed, averages were trained",
    54: "attention: rows masked everywhere gave NaN, or attended to the future",
    55: "Transformer: keys drawn in eval mode, a leak of causality, late checks",
    56: "bottleneck ResNets were three times too large",
    57: "a Lambda of a function without a name could not be printed",
    58: "Sequential: no length, `>>` lost the name",
    59: "pooling: foreign warnings, unchecked windows and axes",
    60: "recurrent cells: states of float32 only, annotations of attributes that do not exist",
    61: "RngSeq: texts of errors",
    62: "LayerNorm: variances of half-precision inputs were infinite",
    63: "typed keys could not be chosen for the global sequence",
}


def _numbers_in(file: Path) -> set[int]:
    """Returns the defects that the tests of a file name."""
    texts = [
        f"{node.name} {ast.get_docstring(node) or ''}"
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    ]
    return {int(number) for text in texts for number in re.findall(r"kd[_-](\d+)", text, re.IGNORECASE)}


@pytest.fixture(scope="module")
def named() -> set[int]:
    """The defects that any test names."""
    return set().union(*map(_numbers_in, _TESTS.rglob("test_*.py")))


@pytest.mark.parametrize("number", _DEFECTS, ids=lambda number: f"KD-{number}")
def test_a_defect_has_a_test(number: int, named: set[int]) -> None:
    assert number in named, f"no test names KD-{number}: {_DEFECTS[number]}"


def test_no_test_names_a_defect_that_does_not_exist(named: set[int]) -> None:
    assert max(named) < 100
