"""HTTP-dates (RFC 9110 section 5.6.7). The standard library's parser imports sockets, and follows the locale."""

from __future__ import annotations

import re

__all__ = ["parse_http_date"]

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_FORMS = (
    # IMF-fixdate: Sun, 06 Nov 1994 08:49:37 GMT
    r"[a-z]{3}, (?P<day>\d\d) (?P<month>[a-z]{3}) (?P<year>\d{4}) (?P<time>\d\d:\d\d:\d\d) (?:gmt|utc)",
    # RFC 850: Sunday, 06-Nov-94 08:49:37 GMT
    r"[a-z]{6,9}, (?P<day>\d\d)-(?P<month>[a-z]{3})-(?P<year>\d\d) (?P<time>\d\d:\d\d:\d\d) gmt",
    # asctime: Sun Nov  6 08:49:37 1994
    r"[a-z]{3} (?P<month>[a-z]{3}) (?P<day>[ \d]\d) (?P<time>\d\d:\d\d:\d\d) (?P<year>\d{4})",
)
_PATTERNS = tuple(re.compile(form, re.ASCII) for form in _FORMS)


def parse_http_date(text: str, now: float) -> float | None:
    """POSIX seconds of an HTTP-date in any of its three forms, None for anything else.

    *now* (POSIX seconds) settles the century of a two-digit year: one that would lie more than 50 years ahead is the
    past one.
    """
    match = next((m for m in (pattern.fullmatch(text.strip().lower()) for pattern in _PATTERNS) if m), None)
    if match is None or match["month"] not in _MONTHS:
        return None
    import datetime  # late: few servers say when

    year = int(match["year"])
    hour, minute, second = map(int, match["time"].split(":"))
    try:
        if len(match["year"]) == 2:
            this_year = datetime.datetime.fromtimestamp(now, datetime.UTC).year
            year += this_year // 100 * 100
            if year > this_year + 50:
                year -= 100
        month, day = _MONTHS.index(match["month"]) + 1, int(match["day"])
        if second == 60:  # a leap second is the last second of its minute, as far as a wait is concerned
            second = 59
        moment = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
        return moment.timestamp()
    except (ValueError, OverflowError, OSError):
        return None
