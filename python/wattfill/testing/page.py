"""A report as one page: the table of laws, and a picture of each counterexample.

The page holds all that it needs, and no script. Whatever comes from outside is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from itertools import count
from typing import TYPE_CHECKING

from wattfill.testing.trial import READABLE, LawBrokenError, Outcome

if TYPE_CHECKING:
    from wattfill.testing.command import Run
    from wattfill.testing.conformance import Report, Verdict

# In which order, what they look like, and how the page counts them.
STATUSES = {
    "broken": ("✗", "broken"),
    "not judged": ("?", "not judged"),
    "unexpected": ("!", "held, though expected to be broken"),
    "expected": ("~", "broken, as expected"),
    "held": ("✓", "held"),
    "does not apply": ("·", "does not apply"),
}
# In a line that is longer, what a connector has stands above what it may take.
LONG_LINE = 46
ROW, BAR, LINE = 18, 12, 16
# The range of a connector that could take more than this times what is usable is left open.
OPEN_END = 1.25

STYLE = """
:root {
  --paper: #fff; --ink: #1c2126; --soft: #59636e; --rule: #d5dae0; --shade: #f3f5f7;
  --got: #0072b2; --wrong: #c2410c; --good: #00704f; --odd: #7a5b00;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --ink: #e4e8ec; --soft: #9aa5b1; --rule: #353d46; --shade: #1d2329;
    --got: #56b4e9; --wrong: #ff8a4c; --good: #4cc9a0; --odd: #e0b84c;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 68rem; overflow-wrap: break-word;
  font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  color-scheme: light dark;
}
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
h2 { font-size: 1.2rem; line-height: 1.3; margin: 0; }
h3 { font-size: 1rem; margin: 2rem 0 .5rem; }
p { margin: .35rem 0; max-width: 46rem; }
code, pre { font: .875em/1.5 ui-monospace, monospace; }
pre {
  margin: .5rem 0; padding: .6rem .8rem; border-radius: 6px; background: var(--shade);
  white-space: pre-wrap; overflow-wrap: anywhere;
}
table { border-collapse: collapse; width: 100%; font-size: .9375rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0;
  border-top: 1px solid var(--rule); font-weight: 400; }
td:last-child { padding-right: 0; }
td.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
a { color: inherit; }
.soft { color: var(--soft); }
.verdict { font-size: 1.1rem; }
.status { white-space: nowrap; }
.mark { width: 1.7em; padding-right: .4em; font-weight: 700; text-align: center; }
.broken .mark, .broken .status { color: var(--wrong); font-weight: 600; }
.held .mark { color: var(--good); }
.odd .mark, .odd .status { color: var(--odd); }
.away, .away .status { color: var(--soft); }
.tables { display: grid; align-items: start; gap: 1.5rem 3rem; margin-top: 1.25rem;
  grid-template-columns: minmax(0, 1fr); }
@media (min-width: 56rem) { .tables { grid-template-columns: minmax(0, 1fr) 19rem; } }
section { margin-top: 2.5rem; padding-top: 1.25rem; border-top: 2px solid var(--rule); }
.found { display: grid; grid-template-columns: max-content minmax(0, 44rem); gap: .25rem .9rem;
  margin: .75rem 0; }
.found dt { font-weight: 600; }
.found dt:first-child { color: var(--wrong); }
.found dd { margin: 0; }
.answers {
  display: grid; gap: 1rem 2.5rem; margin: 1rem 0 .5rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
}
.answer { min-width: 0; max-width: 42rem; }
.answer > h3 { margin: 0 0 .25rem; }
figure { margin: .5rem 0 0; }
figure figure { margin-left: .6rem; padding-left: .9rem; border-left: 3px solid var(--rule); }
figcaption { font-size: .875rem; color: var(--soft); margin-bottom: .25rem; }
figcaption b { color: var(--ink); }
svg { display: block; width: 100%; overflow: visible; }
svg text { font: 12.5px system-ui, sans-serif; fill: var(--soft);
  font-variant-numeric: tabular-nums; }
svg .name, svg .power { fill: var(--ink); }
svg .named { font-weight: 700; }
svg .over { fill: var(--wrong); font-weight: 700; }
.range { fill: var(--shade); }
.edge { stroke: var(--soft); fill: none; }
.got { fill: var(--got); }
.excess { fill: var(--wrong); }
.excess-lines { stroke: var(--paper); stroke-width: 2; }
.reference { stroke: var(--ink); stroke-width: 2.5; }
.halo { stroke: var(--paper); stroke-width: 5.5; }
.kinds .fill { display: block; height: 3px; border-radius: 2px; background: var(--got); }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .75rem 0 0; padding: 0;
  list-style: none; font-size: .875rem; color: var(--soft); }
.legend svg { display: inline-block; width: 34px; height: 14px; vertical-align: -2px;
  margin-right: .4rem; overflow: hidden; }
details { margin-top: .75rem; }
summary { cursor: pointer; font-size: .875rem; color: var(--soft); }
"""


def as_page(report: Report, run: Run) -> str:
    """Return a report as a page of HTML.

    Parameters
    ----------
    report : Report
        What became of each law.
    run : Run
        What was judged, and how to judge it again.

    """
    order = list(STATUSES)
    verdicts = sorted(report.verdicts, key=lambda v: order.index(v.status))
    shown = [v for v in verdicts if v.counterexample is not None]
    numbers = count()
    title = f"{run.allocator}: {_sentence(report)}"
    versions = ", ".join(f"{name} {version}" for name, version in run.versions.items())
    return "\n".join(
        [
            "<!DOCTYPE html>",
            '<html lang="en">',
            "<head>",
            '<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            # Nothing is loaded, whatever the page should hold.
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">",
            f"<title>{_text(title)}</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body>",
            "<header>",
            f"<h1>Laws of an allocation: <code>{_text(run.allocator)}</code></h1>",
            f'<p class="verdict">{_text(_sentence(report))}</p>',
            "</header>",
            '<div class="tables">',
            *_laws(verdicts),
            *_kinds(report),
            "</div>",
            "<h3>To repeat it</h3>",
            f"<pre>{_text(run.command)}</pre>",
            f'<p class="soft">With {_text(versions)}. Seed {_text(report.seed)}.</p>',
            *(_legend() if shown else []),
            *(line for v in shown for line in _section(v, numbers)),
            "</body>",
            "</html>",
            "",
        ]
    )


def _text(value: object) -> str:
    """Escape text; what cannot be printed, and what a page cannot hold, is spelt out."""
    text = str(value)
    return escape("".join(c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text))


def _anchor(verdict: Verdict) -> str:
    return verdict.law.name.replace(" ", "-")


def _sentence(report: Report) -> str:
    """Return what became of the laws, in one sentence."""
    n_broken, sites = len(report.broken), f"{report.examples} sites"
    judged = [v for v in report.verdicts if v.status not in ("does not apply", "not judged")]
    if n_broken:
        return f"{n_broken} of {len(judged)} laws broken, on {sites}"
    expected = sum(v.status == "expected" for v in judged)
    beside = f", but for {expected} that {'is' if expected == 1 else 'are'} expected to be broken"
    return f"{len(judged) - expected} laws held on {sites}{beside if expected else ''}"


def _laws(verdicts: list[Verdict]) -> Iterator[str]:
    looks = {"broken": "broken", "held": "held", "does not apply": "away"}
    yield "<table><caption>Laws</caption><tbody>"
    for v in verdicts:
        mark, words = STATUSES[v.status]
        name = _text(v.law.name)
        if v.counterexample is not None:
            name = f'<a href="#{_anchor(v)}">{name}</a>'
        yield (
            f'<tr class="{looks.get(v.status, "odd")}">'
            f'<td class="mark" aria-hidden="true">{mark}</td>'
            f'<td title="{_text(v.law.statement)}">{name}</td>'
            f'<td><span class="status">{words}</span>{_because(v.why)}</td>'
            f'<td class="number soft">{f"{v.judged} sites" if v.judged else ""}</td></tr>'
        )
    yield "</tbody></table>"


def _because(why: str) -> str:
    return f'<span class="soft">: {_text(why)}</span>' if why else ""


def _kinds(report: Report) -> Iterator[str]:
    yield '<table class="kinds"><caption>Sites</caption><tbody>'
    yield f'<tr><th scope="row">all</th><td class="number">{report.examples}</td></tr>'
    for kind, n in report.common_kinds():
        if not n:
            continue
        share = 100 * n / max(report.examples, 1)
        yield (
            f'<tr><th scope="row">{_text(kind)}'
            f'<span class="fill" style="width:{share:.1f}%"></span></th>'
            f'<td class="number">{n}</td></tr>'
        )
    if absent := [kind for kind, n in report.common_kinds() if not n]:
        yield f'<tr><td colspan="2" class="soft">none: {_text(", ".join(absent))}</td></tr>'
    yield "</tbody></table>"


def _legend() -> Iterator[str]:
    range_ = '<rect class="range edge" x="1" y="1" width="32" height="12"/>'
    samples = {
        "what a connector may take: its minimum to its maximum": range_,
        "what it gets": f'{range_}<rect class="got" x="1" y="3" width="20" height="8"/>',
        "what the reference gives it": f'{range_}<path class="reference" d="M20 0v14"/>',
        "more than a group may use, or a connector may take": (
            '<rect class="excess" x="1" y="3" width="32" height="8"/>'
            '<path class="excess-lines" d="M6 13l6-12M14 13l6-12M22 13l6-12"/>'
        ),
    }
    yield '<ul class="legend">'
    for words, sample in samples.items():
        yield f'<li><svg aria-hidden="true">{sample}</svg>{words}</li>'
    yield "</ul>"


def _section(verdict: Verdict, numbers: Iterator[int]) -> Iterator[str]:
    broken = verdict.counterexample
    assert broken is not None
    answers = broken.answers
    yield f'<section id="{_anchor(verdict)}">'
    yield f"<h2>{_text(verdict.law.name)}</h2>"
    yield f'<p class="soft">{_text(verdict.law.statement)}</p>'
    if verdict.why:
        yield f'<p class="soft">Expected to be broken: {_text(verdict.why)}</p>'
    yield f'<dl class="found"><dt>Found</dt><dd>{_text(broken.found)}</dd>'
    yield f"<dt>Expected</dt><dd>{_text(broken.expected)}</dd></dl>"
    yield '<div class="answers">'
    # One scale for all answers, so that they can be compared by eye.
    scale = _scale(outcome for _, outcome in answers)
    for k, (how, outcome) in enumerate(answers):
        yield '<div class="answer">'
        if len(answers) > 1:
            yield f"<h3>{_text(how or 'as it is')}</h3>"
        yield from _tree(outcome, scale, _named(broken) if k == 0 else set(), numbers)
        yield "</div>"
    yield "</div>"
    yield "<details><summary>as JSON</summary>"
    yield f"<pre>{_text(json.dumps(broken.to_dict()))}</pre></details>"
    yield "</section>"


def _named(broken: LawBrokenError) -> set[int]:
    """Return the connectors that are spoken of."""
    spoken = re.findall(r"connectors? (\d+)(?: and (\d+))?", broken.found)
    return {int(number) for pair in spoken for number in pair if number}


def _scale(outcomes: Iterable[Outcome]) -> float:
    """Return the power that a full bar stands for."""
    most = 0.0
    for o in outcomes:
        usable = max(o.problem.usable, default=0) / o.problem.per_unit
        open_end = OPEN_END * max([usable, *o.power, *(o.reference or [])], default=0.0)
        ranges = [min(high, open_end or 1.0) for high in o.batch["maximum"]]
        most = max([most, *o.power, *(o.reference or []), *ranges])
    return most or 1.0


def _tree(o: Outcome, scale: float, named: set[int], numbers: Iterator[int]) -> Iterator[str]:
    """Yield each group with those that it feeds inside."""
    chains = o.problem.chains

    def group(g: int) -> Iterator[str]:
        yield "<figure>"
        yield from _group(o, g, scale, named, next(numbers))
        for child in shown:
            if len(chains[child]) > 1 and chains[child][1] == g:
                yield from group(child)
        yield "</figure>"

    # Whose parent is too far down to be shown is not shown either.
    shown: list[int] = []
    for g in sorted(o.problem.groups, key=lambda g: len(chains[g])):
        if len(shown) < READABLE and (len(chains[g]) == 1 or chains[g][1] in shown):
            shown.append(g)
    shown.sort()
    for g in shown:
        if len(chains[g]) == 1:
            yield from group(g)
    if hidden := len(o.problem.groups) - len(shown):
        yield f'<p class="soft">... {hidden} more groups</p>'
    if not o.problem.groups:
        yield '<p class="soft">no groups</p>'
    if o.problem.has_steps:
        yield f'<p class="soft">step {_number(o.batch["step"])} kW</p>'


def _group(o: Outcome, g: int, scale: float, named: set[int], number: int) -> Iterator[str]:
    """Yield the picture of a group: what it draws of what it may use, and its connectors."""
    p, id = o.problem, f"picture-{number}"
    usable, used = p.usable[g] / p.per_unit, o.used[g] / p.per_unit if o.power else None
    facts = [f"capacity {_number(p.capacity[g])} kW"]
    facts += [f"buffer {_number(p.buffer[g])}"] if p.buffer[g] else []
    facts += [f"reserved {_number(p.reserved[g])} kW"] if p.reserved[g] else []
    yield f"<figcaption><b>group {g}</b>: {', '.join(facts)}</figcaption>"

    shapes: list[str] = []
    draws = "no answer" if used is None else f"draws {_number(used)} kW"
    most = max(usable, used or 0.0) or 1.0
    excess = (used or 0.0) - usable
    over = excess > o.slack / p.per_unit
    left = _line(f"{draws}{' of' if o.power else ','} {_number(usable)} kW usable", "name")
    right = _line(f"{_number(excess)} kW over", "over", end=True) if over else ""
    shapes.append(f'<g transform="translate(0 {LINE - 3})">{left}{right}</g>')
    y = LINE + 2
    shapes += _bar(y, 0.0, usable / most, (used or 0.0) / most, usable / most if over else None)
    y += BAR + 10
    words = [f"Group {g}, {_number(usable)} kW usable: {draws}."]

    start, stop = p.ends[g], p.ends[g + 1]
    for i in range(start, min(stop, start + READABLE)):
        y = _connector(o, i, y, scale, i in named, shapes, words)
    if stop > start + READABLE:
        more = f"... {stop - start - READABLE} more connectors"
        shapes.append(f'<g transform="translate(0 {y + LINE - 3})">{_line(more)}</g>')
        words.append(f"{more}.")
        y += ROW
    if start == stop:
        shapes.append(f'<g transform="translate(0 {y + LINE - 5})">{_line("no connectors")}</g>')
        y += ROW
    yield f'<svg role="img" aria-labelledby="{id}-title {id}-desc" height="{y + 2}">'
    yield f'<title id="{id}-title">{_text(words[0])}</title>'
    yield f'<desc id="{id}-desc">{_text(" ".join(words[1:]))}</desc>'
    yield from shapes
    yield "</svg>"


def _connector(
    o: Outcome, i: int, y: int, scale: float, named: bool, shapes: list[str], words: list[str]
) -> int:
    """Add a connector to a picture and to what is said of it; return where the next one goes."""
    low, high = o.batch["minimum"][i], o.batch["maximum"][i]
    got = o.power[i] if o.power else None
    right = o.reference[i] if o.reference else None
    traits = [f"{_number(low)} to {_number(high)} kW"]
    for name in ("weight", "priority", "rank"):
        if len({*o.batch.get(name, [])}) > 1:
            traits.append(f"{name} {_number(o.batch[name][i])}")
    if "active" in o.batch and not o.batch["active"][i]:
        traits.append("idle")
    power = "no answer" if got is None else f"{_number(got)} kW"
    if right is not None and (got is None or not o.same(got, right)):
        power += f", reference {_number(right)}"
    words.append(f"Connector {i}, {', '.join(traits)}: {power}.")

    name = f'<tspan class="name{" named" * named}">connector {i}</tspan> {", ".join(traits)}'
    look = "power named" if named else "power"
    if len(f"connector {i} {', '.join(traits)}{power}") <= LONG_LINE:
        lines = [_line(name, raw=True) + _line(power, look, end=True)]
    else:
        lines = [_line(name, raw=True), _line(power, look, end=True)]
    for line in lines:
        shapes.append(f'<g transform="translate(0 {y + LINE - 3})">{line}</g>')
        y += LINE
    y += 3
    wrong = None if got is None or got <= high + o.spec.tolerance else high / scale
    shapes += _bar(
        y,
        low / scale,
        high / scale,
        (got or 0.0) / scale,
        wrong,
        None if right is None else right / scale,
    )
    return y + BAR + 9


def _bar(
    y: int,
    low: float,
    high: float,
    got: float,
    over: float | None = None,
    reference: float | None = None,
) -> Iterator[str]:
    """Yield a bar, of parts of the width: a range, what is drawn, what of it is too much, a tick.

    A range beyond the width has no end.
    """
    low, got = min(max(low, 0.0), 1.0), min(max(got, 0.0), 1.0)
    left, width = f"{100 * low:.2f}%", f"{100 * (min(high, 1.0) - low):.2f}%"
    yield f'<rect class="range" x="{left}" y="{y}" width="{width}" height="{BAR}"/>'
    if got:
        fine = got if over is None else min(over, got)
        yield (
            f'<rect class="got" x="0" y="{y + 2}" width="{100 * fine:.2f}%" height="{BAR - 4}"/>'
        )
        if over is not None:
            at, wide = f"{100 * fine:.2f}%", f"{100 * (got - fine):.2f}%"
            yield (
                f'<svg x="{at}" y="{y + 2}" width="{wide}" height="{BAR - 4}" '
                f'style="overflow:hidden;width:{wide}">'
                f'<rect class="excess" width="100%" height="100%"/>'
                f'<path class="excess-lines" d="{"".join(_stripes())}"/></svg>'
            )
    if high <= 1.0:
        yield f'<rect class="edge" x="{left}" y="{y}" width="{width}" height="{BAR}"/>'
    else:
        for edge in (y, y + BAR):
            yield f'<line class="edge" x1="{left}" y1="{edge}" x2="100%" y2="{edge}"/>'
        yield f'<line class="edge" x1="{left}" y1="{y}" x2="{left}" y2="{y + BAR}"/>'
    if reference is not None:
        at = f"{100 * min(reference, 1.0):.2f}%"
        for look in ("halo", "reference"):
            yield f'<line class="{look}" x1="{at}" y1="{y - 3}" x2="{at}" y2="{y + BAR + 3}"/>'


def _stripes() -> Iterator[str]:
    for x in range(4, 1100, 9):
        yield f"M{x} 10l6 -12"


def _line(content: str, look: str = "", *, end: bool = False, raw: bool = False) -> str:
    """Return a line of text, at the left or at the right end of a picture."""
    place = 'x="100%" text-anchor="end"' if end else 'x="0"'
    kind = f' class="{look}"' if look else ""
    return f"<text {place}{kind}>{content if raw else _text(content)}</text>"


def _number(x: float) -> str:
    return f"{x:.10g}"
