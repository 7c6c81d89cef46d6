"""The forms of a table: text, HTML, JSON, and what `rich` draws."""

import io
import json
import subprocess
import sys
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import pax
from helpers.modules import Counter, Holder, Linear
from pax._tabulate_table import _byte_text, _fit, _short


class Net(pax.Module):
    def __init__(self) -> None:
        super().__init__(name="<net>")
        self.fc = Linear(2, 3)
        self.counter = Counter()

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc(x)


X = jax.ShapeDtypeStruct((5, 2), jnp.float32)


def test_the_text_is_the_repr_and_what_is_printed() -> None:
    table = pax.tabulate(Net(), X)
    assert repr(table) == str(table) == table.to_text()
    lines = str(table).splitlines()
    assert lines[0] == "Net, in training mode, with inputs (float32[5,2])"
    assert lines[1].split() == ["Path", "Class", "Output", "Trainable", "States", "Bytes", "FLOPs"]
    assert lines[3].split() == "(root) (<net>) Net float32[5,3] 9 1 36 B float32, 4 B int32 75".split()
    assert lines[4].split() == "fc Linear float32[5,3] 9 0 36 B float32 75".split()
    assert lines[5].split() == "counter Counter not called 0 1 4 B int32 0".split()
    assert lines[-1] == "Total: 9 trainable, 0 frozen, 1 states; 40 B; 75 FLOPs"


def test_columns_that_say_nothing_are_left_out() -> None:
    header = str(pax.tabulate(Linear())).splitlines()[1].split()
    assert header == ["Path", "Class", "Trainable", "Bytes"]
    frozen = str(pax.tabulate(pax.freeze_parameters(Linear()))).splitlines()[1].split()
    assert frozen == ["Path", "Class", "Trainable", "Frozen", "Bytes"]


@pytest.mark.parametrize("width", [60, 70, 80])
def test_a_table_can_be_made_narrow(width: int) -> None:
    net = Holder(a_rather_long_name_of_an_attribute=Holder(another_rather_long_name_of_an_attribute=Linear()))
    table = pax.tabulate(net)
    assert max(map(len, table.to_text().splitlines())) > 80
    lines = table.to_text(width).splitlines()
    assert max(map(len, lines[1:-1])) <= width
    assert "…" in lines[5]


def test_a_width_that_is_too_small_gives_the_narrowest_table() -> None:
    assert pax.tabulate(Linear()).to_text(1) == pax.tabulate(Linear()).to_text(8)


def test_html_is_escaped() -> None:
    text = pax.tabulate(Net(), X).to_html()
    assert "(&lt;net&gt;) Net" in text
    assert "<net>" not in text
    assert text.count("<tr>") == 5
    assert pax.tabulate(Net(), X)._repr_html_() == text


def test_json_is_the_rows_and_totals() -> None:
    table = pax.tabulate(Net(), X)
    read = json.loads(table.to_json())
    assert read == {"rows": table.rows, "totals": table.totals, "notes": []}
    assert read["rows"][1]["outputs"] == ["float32[5,3]"]
    assert json.loads(table.to_json(indent=2)) == read


def test_rows_are_copies() -> None:
    table = pax.tabulate(Net(), X)
    table.rows[0]["bytes"]["float32"] = 0
    table.totals["bytes"]["float32"] = 0
    assert table.totals["bytes"]["float32"] == 36


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (1234, "1.23 k"),
        (9_996, "10.0 k"),
        (12_345, "12.3 k"),
        (999_499, "999 k"),
        (999_500, "1.00 M"),
        (123_456_789, "123 M"),
        (10**18, "1000 P"),
    ],
)
def test_numbers_are_short(number: int, text: str) -> None:
    assert _short(number) == text


def test_bytes_have_units() -> None:
    assert [_byte_text(size) for size in (0, 999, 1500)] == ["0 B", "999 B", "1.50 kB"]


def test_texts_are_shortened_in_the_middle() -> None:
    assert _fit("abcdefghij", 7) == "abc…hij"
    assert _fit("abc", 3) == "abc"


def test_rich_draws_the_same_cells() -> None:
    rich_console = pytest.importorskip("rich.console")
    console = rich_console.Console(width=200, record=True, file=io.StringIO())
    console.print(pax.tabulate(Net(), X))
    shown = console.export_text()
    for cell in ("(<net>) Net", "float32[5,3]", "not called", "Total: 9 trainable"):
        assert cell in shown


def test_text_needs_neither_rich_nor_treescope() -> None:
    code = """
import sys
sys.modules["rich"] = sys.modules["treescope"] = None
import pax, jax.numpy as jnp
class Net(pax.ParameterModule):
    def __init__(self):
        self.w = jnp.ones(3)
    def __call__(self, x):
        return self.w * x
print(pax.tabulate(Net(), jnp.ones(3)).totals["flops"], len(Net()._repr_html_()) > 0)
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.split() == ["3", "True"]


def test_a_shape_that_differs_between_calls_is_listed() -> None:
    class Both(pax.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = Linear(2, 2)

        def __call__(self, x: jax.Array) -> Any:
            return [self.fc(x[:n]) for n in (1, 2, 3)]

    table = pax.tabulate(Both(), X)
    assert table.rows[1]["outputs"] == ["float32[1,2]", "float32[2,2]", "float32[3,2]"]
    assert "float32[1,2]; float32[2,2]; … ×3" in str(table)
