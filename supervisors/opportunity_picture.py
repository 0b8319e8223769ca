"""Opportunities over time by cycle, as an SVG: stacked bars, the most frequent cycles in colours, all others in grey.

Pure: text out. One bar a span of time, chosen so that there are at most `BARS_MAX`; the size of the picture does not
depend on how many opportunities there are.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from xml.sax.saxutils import escape

from supervisors.opportunities import Opportunities, clock_text

WIDTH, HEIGHT = 960, 460
LEFT, RIGHT, TOP = 64, 24, 56
PLOT_HEIGHT = 250
BARS_MAX = 60
CYCLES_MAX = 8
LINE_HEIGHT = 18

# Okabe and Ito's palette: told apart also by those who see red and green alike. (jfly.uni-koeln.de/color, 2008)
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#332288")
OTHERS_COLOUR = "#9A9A9A"
_S_NS = 1_000_000_000
_SPANS_S = (
    1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800,
)  # fmt: skip


def opportunity_svg(found: Opportunities, top: int = CYCLES_MAX) -> str:
    """Draw them; `top` (1 to 8) cycles have a colour of their own."""
    top = max(1, min(top, CYCLES_MAX))
    table = found.table()
    names = [row.cycle for row in table.cycles[:top]]
    rest = table.opportunities - sum(row.count for row in table.cycles[:top])
    legend = [(COLOURS[at], name, table.cycles[at].count) for at, name in enumerate(names)]
    if rest:
        legend.append((OTHERS_COLOUR, f"{len(table.cycles) - top} other cycles", rest))
    height = max(HEIGHT, TOP + PLOT_HEIGHT + 64 + LINE_HEIGHT * ((len(legend) + 1) // 2))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="{LEFT}" y="26" font-size="16" font-weight="600">Opportunities over time, by cycle</text>',
    ]
    if not found.times_ns:
        middle = f'x="{WIDTH // 2}" y="{TOP + PLOT_HEIGHT // 2}" text-anchor="middle" fill="#666"'
        parts += [_axes(), f"<text {middle}>no opportunities</text>"]
    else:
        parts += _plot(found, names, table.opportunities)
    parts += _legend(legend)
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def choose_span_s(first_ns: int, last_ns: int) -> int:
    """Return the least round span, in seconds, of which at most `BARS_MAX` cover first to last."""
    for span_s in _SPANS_S:
        if last_ns // (span_s * _S_NS) - first_ns // (span_s * _S_NS) < BARS_MAX:
            return span_s
    weeks = (last_ns - first_ns) // (_SPANS_S[-1] * _S_NS * (BARS_MAX - 1)) + 1
    return _SPANS_S[-1] * weeks


def choose_tick(most: int) -> int:
    """Return the least of 1, 2, 5, 10, 20, … of which at most six come to `most`."""
    scale = 1
    while True:
        for step in (1, 2, 5):
            if step * scale * 6 >= most:
                return step * scale
        scale *= 10


def _plot(found: Opportunities, names: Sequence[str], total: int) -> list[str]:
    first_ns, last_ns = min(found.times_ns), max(found.times_ns)
    span_ns = choose_span_s(first_ns, last_ns) * _S_NS
    first_bar, bars = first_ns // span_ns, last_ns // span_ns - first_ns // span_ns + 1
    slots = {found.names.index(name): at for at, name in enumerate(names)}
    stacks: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for ns, number in zip(found.times_ns, found.numbers, strict=True):
        stacks[ns // span_ns - first_bar][slots.get(number, len(names))] += 1
    most = max(stack.total() for stack in stacks.values())
    tick = choose_tick(most)
    ceiling = -(-most // tick) * tick
    parts = [_subtitle(total, first_ns, last_ns, span_ns)]
    for value in range(0, ceiling + 1, tick):
        y = _y(value, ceiling)
        parts.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{value:,}</text>')
    slot_px = (WIDTH - LEFT - RIGHT) / max(bars, 8)
    for bar in sorted(stacks):
        parts += _bar(bar, stacks[bar], ceiling, slot_px, names, (first_bar + bar) * span_ns)
    parts += [_axes(), *_time_labels(first_bar, bars, span_ns, slot_px)]
    return parts


def _subtitle(total: int, first_ns: int, last_ns: int, span_ns: int) -> str:
    text = f"{total:,} from {clock_text(first_ns)} to {clock_text(last_ns)} UTC; "
    text += f"each bar is {_span_text(span_ns // _S_NS)}"
    return f'<text x="{LEFT}" y="44" fill="#555">{text}</text>'


def _bar(
    bar: int, stack: Counter[int], ceiling: int, slot_px: float, names: Sequence[str], begins_ns: int
) -> list[str]:
    parts, base = [], 0
    for slot in sorted(stack):
        name, colour = (names[slot], COLOURS[slot]) if slot < len(names) else ("other cycles", OTHERS_COLOUR)
        top_y, base_y = _y(base + stack[slot], ceiling), _y(base, ceiling)
        tip = escape(f"{clock_text(begins_ns)} UTC: {stack[slot]} on {name}")
        parts.append(
            f'<rect x="{LEFT + bar * slot_px + slot_px * 0.08:.1f}" y="{top_y:.1f}" width="{slot_px * 0.84:.1f}" '
            f'height="{base_y - top_y:.1f}" fill="{colour}"><title>{tip}</title></rect>'
        )
        base += stack[slot]
    return parts


def _time_labels(first_bar: int, bars: int, span_ns: int, slot_px: float) -> list[str]:
    """A label for every so many bars that none touches the next; dates only where the times leave one day."""
    begins_ns, ends_ns = first_bar * span_ns, (first_bar + bars) * span_ns
    one_day = clock_text(begins_ns)[:10] == clock_text(ends_ns)[:10]
    seconds = ":%S" if span_ns < 60 * _S_NS else ""
    form = f"%H:%M{seconds}" if one_day else f"%m-%d %H:%M{seconds}"
    label_px = 62 if one_day else 98
    every = max(1, -(-label_px // max(1, int(slot_px))))
    parts = []
    for bar in range(0, bars, every):
        x, y = LEFT + bar * slot_px, TOP + PLOT_HEIGHT
        text = clock_text((first_bar + bar) * span_ns, form)
        if x + label_px > WIDTH:
            break
        parts.append(f'<line x1="{x:.1f}" y1="{y}" x2="{x:.1f}" y2="{y + 5}" stroke="#444"/>')
        parts.append(f'<text x="{x:.1f}" y="{y + 19}" fill="#555">{text}</text>')
    return parts


def _axes() -> str:
    bottom = TOP + PLOT_HEIGHT
    return (
        f'<path d="M{LEFT} {TOP}V{bottom}H{WIDTH - RIGHT}" fill="none" stroke="#444"/>'
        f'<text transform="translate(16 {TOP + PLOT_HEIGHT // 2}) rotate(-90)" text-anchor="middle" fill="#555">'
        "opportunities</text>"
    )


def _legend(entries: Sequence[tuple[str, str, int]]) -> list[str]:
    parts, column_px = [], (WIDTH - LEFT - RIGHT) // 2
    for at, (colour, name, count) in enumerate(entries):
        x, y = LEFT + (at % 2) * column_px, TOP + PLOT_HEIGHT + 52 + (at // 2) * LINE_HEIGHT
        parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 18}" y="{y}">{escape(_clipped(name))} <tspan fill="#555">{count:,}</tspan></text>')
    return parts


def _clipped(name: str) -> str:
    return name if len(name) <= 52 else name[:51] + "…"


def _y(value: int, ceiling: int) -> float:
    return TOP + PLOT_HEIGHT * (1 - value / ceiling)


def _span_text(span_s: int) -> str:
    for unit, name in ((604_800, "week"), (86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second")):
        if span_s % unit == 0:
            return f"a {name}" if span_s == unit else f"{span_s // unit} {name}s"
    raise AssertionError("unreachable: every span is whole seconds")
