"""The table of :func:`pax.tabulate`, as text, HTML, JSON, and for ``rich``.

The plain text is one small renderer without dependencies, and always the same; ``rich`` only adds colours on a console.
"""

import html
import importlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_Cells = tuple[str, ...]


@dataclass(frozen=True)
class Row:
    """One module of a table. All numbers are those of the module with everything below it.

    Args:
        path: the attribute path from the root, which itself is ``""``.
        kind: the name of the class.
        name: the name given to the module.
        depth: the number of modules above.
        calls: how often it was called; ``None`` if nothing was, or it cannot be.
        outputs: what it returned, without repetition.
        trainable: the number of trained numbers.
        frozen: of numbers that would be trained if they were not frozen.
        states: of numbers that are not trained.
        bytes: the size of all arrays by dtype.
        flops: floating-point operations of all calls.
    """

    path: str
    kind: str
    name: str | None
    depth: int
    calls: int | None
    outputs: tuple[str, ...]
    trainable: int
    frozen: int
    states: int
    bytes: Mapping[str, int]
    flops: int | None


class ModuleTable:
    """A table of modules, which :func:`pax.tabulate` makes. Its ``repr`` is the text; notebooks show the HTML."""

    def __init__(self, rows: list[Row], *, title: str, flops: int | None, notes: tuple[str, ...]) -> None:
        self._rows = tuple(rows)
        self._title = title
        self._flops = flops
        self._notes = notes

    @property
    def rows(self) -> list[dict[str, Any]]:
        """A dictionary for each module, of numbers, strings, lists and dictionaries.

        Its keys are ``path``, ``class``, ``name``, ``depth``, ``calls``, ``outputs``, ``trainable``, ``frozen``,
        ``states``, ``bytes`` (by dtype) and ``flops``. ``calls`` and ``flops`` are ``None`` where nothing was called.
        """
        return [
            {
                "path": row.path,
                "class": row.kind,
                "name": row.name,
                "depth": row.depth,
                "calls": row.calls,
                "outputs": list(row.outputs),
                **self._numbers(row),
                "flops": row.flops,
            }
            for row in self._rows
        ]

    @property
    def totals(self) -> dict[str, Any]:
        """The numbers of the whole: ``trainable``, ``frozen``, ``states``, ``bytes`` (by dtype) and ``flops``."""
        return {**self._numbers(self._rows[0]), "flops": self._flops}

    def _numbers(self, row: Row) -> dict[str, Any]:
        return {
            "trainable": row.trainable,
            "frozen": row.frozen,
            "states": row.states,
            "bytes": dict(row.bytes),
        }

    def to_json(self, indent: int | None = None) -> str:
        """Returns the JSON of ``{"rows": ..., "totals": ..., "notes": ...}``.

        Args:
            indent: the number of spaces a level; default: all on one line.
        """
        return json.dumps({"rows": self.rows, "totals": self.totals, "notes": list(self._notes)}, indent=indent)

    def to_text(self, width: int | None = None) -> str:
        """Returns the table as plain text.

        Args:
            width: shorten paths, classes and outputs, so that lines have at most this many characters, where that
                leaves at least 8 of each; default: as wide as it has to be.
        """
        header, rows, right = self._cells()
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        if width is not None:
            _narrow(widths, width, shrinkable=[i for i, name in enumerate(header) if name in _SHRINKABLE])
        rule = "  ".join("─" * size for size in widths)
        lines = [_line(header, widths, right), rule, *(_line(row, widths, right) for row in rows), rule]
        return "\n".join([self._title, *lines, *self._footer()])

    def to_html(self) -> str:
        """Returns the table as an HTML fragment, without scripts and colours of its own."""
        header, rows, right = self._cells()

        def line(cells: _Cells, tag: str) -> str:
            inner = "".join(
                f'<{tag} style="text-align:{"right" if is_number else "left"}">{html.escape(cell)}</{tag}>'
                for cell, is_number in zip(cells, right, strict=True)
            )
            return f"<tr>{inner}</tr>"

        body = "\n".join(line(row, "td") for row in rows)
        footer = "<br>".join(map(html.escape, self._footer()))
        return (
            f'<table class="pax-table"><caption style="text-align:left">{html.escape(self._title)}</caption>\n'
            f"<thead>{line(header, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n"
            f'<tfoot><tr><td colspan="{len(header)}" style="text-align:left">{footer}</td></tr></tfoot></table>'
        )

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return self.to_html()

    def __rich__(self) -> Any:
        """What ``rich.print`` shows: the same cells in colours. Only ``rich`` itself calls this."""
        box, table_module, text = (importlib.import_module(f"rich.{name}") for name in ("box", "table", "text"))
        header, rows, right = self._cells()
        table = table_module.Table(
            title=text.Text(self._title, style="bold"),
            caption=text.Text("\n".join(self._footer())),
            title_justify="left",
            caption_justify="left",
            box=box.SIMPLE_HEAD,
        )
        for name, is_number in zip(header, right, strict=True):
            table.add_column(name, style=_STYLES.get(name), justify="right" if is_number else "left", overflow="fold")
        for row in rows:
            table.add_row(*map(text.Text, row))
        return table

    def _cells(self) -> tuple[_Cells, list[_Cells], tuple[bool, ...]]:
        """Returns the header, the rows, and which columns are numbers. Columns that say nothing are left out."""
        rows = self._rows
        columns: list[tuple[str, bool, list[str]]] = [
            ("Path", False, [row.path or "(root)" for row in rows]),
            ("Class", False, [row.kind if row.name is None else f"({row.name}) {row.kind}" for row in rows]),
        ]
        if any(row.calls is not None for row in rows):
            columns.append(("Output", False, [_output(row) for row in rows]))
        columns.append(("Trainable", True, [f"{row.trainable:,}" for row in rows]))
        if rows[0].frozen:
            columns.append(("Frozen", True, [f"{row.frozen:,}" for row in rows]))
        if rows[0].states:
            columns.append(("States", True, [f"{row.states:,}" for row in rows]))
        columns.append(("Bytes", True, [_bytes_by_dtype(row.bytes) for row in rows]))
        if self._flops is not None:
            columns.append(("FLOPs", True, ["" if row.flops is None else _short(row.flops) for row in rows]))
        cells = zip(*(column for _, _, column in columns), strict=True)
        return tuple(name for name, _, _ in columns), list(cells), tuple(number for _, number, _ in columns)

    def _footer(self) -> list[str]:
        whole = self._rows[0]
        lines = [
            f"Total: {whole.trainable:,} trainable, {whole.frozen:,} frozen, {whole.states:,} states; "
            + _byte_text(sum(whole.bytes.values()))
            + ("" if self._flops is None else f"; {self._flops:,} FLOPs")
        ]
        return lines + [f"Note: {note}." for note in self._notes]


_SHRINKABLE = ("Path", "Class", "Output")
_STYLES = {"Path": "cyan", "Class": "bold", "Trainable": "green", "Frozen": "blue", "States": "yellow"}


def _output(row: Row) -> str:
    if row.calls is None:
        return ""
    if not row.calls:
        return "not called"
    shown = "; ".join(row.outputs[:2]) + ("; …" if len(row.outputs) > 2 else "")
    shown = _fit(shown, 80)
    return shown if row.calls == 1 else f"{shown} ×{row.calls}"


def _bytes_by_dtype(sizes: Mapping[str, int]) -> str:
    return ", ".join(f"{_byte_text(size)} {dtype}" for dtype, size in sizes.items()) or "0 B"


def _byte_text(size: int) -> str:
    return f"{size} B" if size < 1000 else f"{_short(size, ('k', 'M', 'G', 'T', 'P'))}B"


def _short(number: int, units: tuple[str, ...] = ("k", "M", "G", "T", "P")) -> str:
    """Returns a number with three digits and a unit: ``1.23 M``."""
    if number < 1000:
        return str(number)
    value = float(number)
    for unit in units:
        value /= 1000
        # What would be rounded to 1000 belongs to the next unit.
        if value < 999.5 or unit == units[-1]:
            break
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def _line(cells: _Cells, widths: list[int], right: tuple[bool, ...]) -> str:
    fitted = [
        _fit(cell, size).rjust(size) if number else _fit(cell, size).ljust(size)
        for cell, size, number in zip(cells, widths, right, strict=True)
    ]
    return "  ".join(fitted).rstrip()


def _fit(text: str, width: int) -> str:
    """Shortens a text in the middle: the end of a path says as much as its beginning."""
    if len(text) <= width:
        return text
    end = (width - 1) // 2
    return f"{text[: width - 1 - end]}…{text[len(text) - end :]}"


def _narrow(widths: list[int], width: int, shrinkable: list[int]) -> None:
    """Takes from the widest of the columns that can be shortened, until the table fits or none can be."""
    excess = sum(widths) + 2 * (len(widths) - 1) - width
    while excess > 0:
        widest = max(shrinkable, key=widths.__getitem__)
        if widths[widest] <= 8:
            return
        widths[widest] -= 1
        excess -= 1
