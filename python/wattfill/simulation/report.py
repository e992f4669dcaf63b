"""A simulation as one page: tables and pictures, for light and dark, for desks and telephones.

The page holds all that it needs, and no script. Whatever comes from outside is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import NamedTuple

STYLE = """
:root {
  --paper: #fff; --ink: #1c2126; --soft: #59636e; --rule: #d5dae0; --shade: #f3f5f7;
  --blue: #0072b2; --sky: #56b4e9; --orange: #e69f00; --green: #009e73; --vermillion: #d55e00;
  --purple: #cc79a7;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --ink: #e4e8ec; --soft: #9aa5b1; --rule: #353d46; --shade: #1d2329;
    --blue: #6cc0f0; --sky: #2f6f99; --green: #2fbf95; --vermillion: #ff8a4c; --purple: #dd94bb;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 64rem; overflow-wrap: break-word;
  font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  color-scheme: light dark;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
p { margin: .35rem 0; max-width: 46rem; }
pre {
  margin: .5rem 0; padding: .6rem .8rem; border-radius: 6px; background: var(--shade);
  font: .875em/1.5 ui-monospace, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
}
.table { overflow-x: auto; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; font-size: .875rem; }
caption, figcaption, summary { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; }
td:first-child { min-width: 10rem; }
td { border-top: 1px solid var(--rule); }
th { font-weight: 400; color: var(--soft); vertical-align: bottom; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.soft { color: var(--soft); }
figure { margin: 2.25rem 0 0; overflow-x: auto; }
svg { display: block; width: 100%; min-width: 34rem; height: auto; }
svg text { font-family: system-ui, sans-serif; }
"""


class Table(NamedTuple):
    """A table of a page; its first column names what a row is of, the others have numbers."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


class Picture(NamedTuple):
    """A picture of a page."""

    caption: str
    svg: str


Part = Table | Picture


def as_page(
    title: str,
    lead: Sequence[str],
    parts: Iterable[Part],
    *,
    command: str,
    version: str,
) -> str:
    """Return a page of HTML.

    Parameters
    ----------
    title : str
        What was simulated.
    lead : sequence of str
        What came of it, a paragraph each.
    parts : iterable of Table or Picture
        In their order.
    command : str
        What makes the page again.
    version : str
        Of wattfill.

    """
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Nothing is loaded, whatever the page should hold.
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\">",
            f"<title>{_text(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>{_text(title)}</h1>",
            *(f"<p>{_text(paragraph)}</p>" for paragraph in lead),
            "</header>",
            *(line for part in parts for line in _part(part)),
            "<figure><figcaption>To repeat it</figcaption>",
            f"<pre>{_text(command)}</pre>",
            f'<p class="soft">With wattfill {_text(version)}.</p></figure>',
            "</body>",
            "</html>",
            "",
        ]
    )


def _part(part: Part) -> Iterator[str]:
    if isinstance(part, Picture):
        yield f"<figure><figcaption>{_text(part.caption)}</figcaption>"
        yield part.svg
        yield "</figure>"
        return
    yield '<div class="table">'
    yield f"<table><caption>{_text(part.caption)}</caption>"
    yield "<thead><tr>"
    yield from _cells("th", part.header)
    yield "</tr></thead><tbody>"
    for row in part.rows:
        yield "<tr>"
        yield from _cells("td", row)
        yield "</tr>"
    yield "</tbody></table>"
    if part.note:
        yield f'<p class="soft">{_text(part.note)}</p>'
    yield "</div>"


def _cells(tag: str, cells: Sequence[str]) -> Iterator[str]:
    for place, cell in enumerate(cells):
        kind = ' class="number"' if place else ""
        yield f"<{tag}{kind}>{_text(cell)}</{tag}>"


def _text(value: object) -> str:
    """Escape text; what cannot be printed, and what a page cannot hold, is spelt out."""
    text = str(value)
    return escape("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text))
