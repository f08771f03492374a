"""Two pictures as SVG, by hand: ratios as dots on a logarithmic line, and growth as curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

from workloads import BASELINE, GROWTH, LOOPS, TARGETS, TIMED, Key, at

# The palette of Okabe and Ito, which colour-blind readers tell apart; ours is the black one.
COLOURS = {
    "ours": "#000000",
    "httpx2": "#999999",
    "aiohttp": "#0072b2",
    "aiohttp+cattrs": "#0072b2",
    "pyqwest": "#d55e00",
    "pyreqwest": "#e69f00",
    "anthropic": "#cc79a7",
    "openai": "#009e73",
    "h11": "#56b4e9",
    "raw": "#b8a800",
}
SHOWN = [name for name in COLOURS if "+" not in name]
TITLES = {"h11": "h11 over anyio (floor)", "raw": "bytes over anyio (floor)", "ours": "anyio_client"}
LOW, HIGH = 0.03, 10.0  # of the ratios
TICKS = (0.05, 0.1, 0.2, 0.5, 1, 2, 5)
LABELS = {
    "get": "GET",
    "get100": "GET, 100 at once",
    "typed": "typed POST",
    "typed100": "typed POST, 100 at once",
    "h2": "HTTP/2, 100 streams",
    "sse": "server-sent event",
    "download": "download, 100 MiB",
    "upload": "upload, 100 MiB",
    "connect": "TLS connect",
}


def words(x: float, y: float, text: str, anchor: str = "start", size: int = 12, weight: str = "normal") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}">{escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, colour: str = "#dddddd", width: float = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def dot(x: float, y: float, colour: str, radius: float, title: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" fill="{colour}"><title>{escape(title)}</title></circle>'


def page(width: float, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" font-family="sans-serif">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>", ""])


def place(value: float, low: float, high: float) -> float:
    """Where a value is between two others, 0 to 1, on a logarithmic line."""
    return (math.log(min(max(value, low), high)) - math.log(low)) / (math.log(high) - math.log(low))


def ratios(found: Mapping[Key, float]) -> str:
    """A column for each event loop, a row for each workload, a dot for each client; a red stroke is the target."""
    left, top, wide, high, gap = 165, 70, 270, 30, 22
    loops = [loop for loop in LOOPS if any(key.loop == loop for key in found)]
    workloads = [name for name in TIMED if any(key.workload == name for key in found)]
    bottom = top + high * len(workloads)
    parts = [
        words(
            left, 22, "CPU of one operation, as a ratio to httpx2 (logarithmic; left is less)", size=14, weight="bold"
        )
    ]
    wanted = {target.workload: target for target in TARGETS if target.of == BASELINE}
    for column, loop in enumerate(loops):
        begin = left + column * (wide + gap)

        def x(value: float, begin: float = begin) -> float:
            return begin + wide * place(value, LOW, HIGH)

        parts.append(words(begin + wide / 2, 50, loop, "middle", 13, "bold"))
        for tick in TICKS:
            parts.append(line(x(tick), top - 8, x(tick), bottom, "#888888" if tick == 1 else "#dddddd"))
            parts.append(words(x(tick), bottom + 14, f"{tick:g}", "middle", 10))
        for row, workload in enumerate(workloads):
            y = top + high * (row + 0.5)
            parts.append(line(begin, y, begin + wide, y))
            if column == 0:
                parts.append(words(left - 10, y + 4, LABELS[workload], "end"))
            if workload in wanted:
                limit = x(wanted[workload].limit_on(loop))
                parts.append(line(limit, y - 11, limit, y + 11, "#cc0000", 2))
            for client in reversed(SHOWN):  # ours is drawn last, over the others
                value = found.get(Key(workload, loop, client))
                if value is not None:
                    radius = 6 if client == "ours" else 4.5
                    parts.append(dot(x(value), y, COLOURS[client], radius, f"{client}: {value:.2f}"))
    across, y = float(left), bottom + 40
    for client in SHOWN:
        if any(key.client == client for key in found):
            title = TITLES.get(client, client)
            if across + 20 + 7 * len(title) > left + len(loops) * (wide + gap):
                across, y = float(left), y + 20
            parts += [dot(across + 5, y - 4, COLOURS[client], 5, title), words(across + 15, y, title)]
            across += 30 + 6.8 * len(title)
    parts += [line(across + 5, y - 12, across + 5, y + 3, "#cc0000", 2), words(across + 13, y, "target")]
    return page(left + len(loops) * (wide + gap) + 70, y + 20, parts)


def growth(found: Mapping[Key, float]) -> str:
    """A plot for each curve: the number of others across, microseconds of a call upwards, from 0; a line for each loop."""
    left, top, wide, high, gap = 55, 60, 220, 170, 45
    colours = dict(zip(LOOPS, ("#000000", "#0072b2", "#d55e00"), strict=True))
    most = max(found.values()) * 1.1
    step = 10 ** math.floor(math.log10(most / 2))
    step *= next(times for times in (1, 2, 5, 10) if most / (step * times) <= 6)
    parts = [words(left, 22, "CPU of one call of ours, µs, beside so many others", size=14, weight="bold")]
    for column, (curve, counts) in enumerate(GROWTH.items()):
        begin = left + column * (wide + gap)
        bottom = top + high
        parts.append(words(begin + wide / 2, 48, curve, "middle", 13, "bold"))
        for number in range(int(most / step) + 1):
            y = bottom - high * number * step / most
            parts += [line(begin, y, begin + wide, y), words(begin - 6, y + 4, f"{number * step:g}", "end", 10)]
        for count in counts:
            x = begin + wide * place(count, counts[0], counts[-1])
            parts += [line(x, bottom, x, bottom + 4, "#888888"), words(x, bottom + 16, f"{count:,}", "middle", 10)]
        for loop, colour in colours.items():
            points = [
                (
                    begin + wide * place(count, counts[0], counts[-1]),
                    bottom - high * value / most,
                    f"{count}: {value:.0f} µs",
                )
                for count in counts
                if (value := found.get(Key(at(curve, count), loop, "ours"))) is not None
            ]
            joined = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in points)
            parts.append(f'<polyline points="{joined}" fill="none" stroke="{colour}" stroke-width="2"/>')
            parts += [dot(x, y, colour, 3.5, f"{loop}, {title}") for x, y, title in points]
    y = top + high + 42
    for number, (loop, colour) in enumerate(colours.items()):
        parts += [line(left + 90 * number, y - 4, left + 90 * number + 20, y - 4, colour, 2)]
        parts.append(words(left + 90 * number + 26, y, loop))
    return page(left + len(GROWTH) * (wide + gap), y + 18, parts)
