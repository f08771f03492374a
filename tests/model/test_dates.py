"""HTTP-dates, in the three forms of RFC 9110 section 5.6.7."""

from __future__ import annotations

import datetime
import email.utils

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._model.dates import parse_http_date

NOW = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        # the three examples of the RFC
        ("Sun, 06 Nov 1994 08:49:37 GMT", NOW),
        ("Sunday, 06-Nov-94 08:49:37 GMT", NOW),
        ("Sun Nov  6 08:49:37 1994", NOW),
        # liberties that are met in practice
        ("sun, 06 nov 1994 08:49:37 gmt", NOW),
        ("Sun, 06 Nov 1994 08:49:37 UTC", NOW),
        ("  Sun, 06 Nov 1994 08:49:37 GMT ", NOW),
        ("Sun Nov 06 08:49:37 1994", NOW),
        ("Mon, 06 Nov 1994 08:49:37 GMT", NOW),
        # the edges of the calendar
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Wed, 31 Dec 1969 23:59:59 GMT", -1.0),
        ("Tue, 29 Feb 2000 00:00:00 GMT", 951782400.0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", 253402300799.0),
        # a leap second
        ("Sat, 31 Dec 2016 23:59:60 GMT", 1483228799.0),
    ],
)
def test_a_date_in_any_of_the_three_forms_is_read(text: str, seconds: float) -> None:
    assert parse_http_date(text, NOW) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "tomorrow",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 +0000",
        "Sun, 06 Nov 1994 08:49:37 CET",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-1994 08:49:37 GMT",
        "06 Nov 1994 08:49:37 GMT",
        "Sun, 06 Okt 1994 08:49:37 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Sun, 31 Nov 1994 08:49:37 GMT",
        "Sun, 29 Feb 1900 08:49:37 GMT",
        "Sun, 06 Nov 0000 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov 1994 08:49:99 GMT",
        "Sun, 06 Nov 1994 8:49:37 GMT",
        "Sun, ٠٦ Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
        "Sun Nov 6 08:49:37 1994",
    ],
)
def test_what_is_no_date_gives_none(text: str) -> None:
    assert parse_http_date(text, NOW) is None


@pytest.mark.parametrize(
    ("digits", "now", "year"),
    [
        ("94", 1994, 1994),
        ("94", 2026, 1994),
        ("76", 2026, 2076),
        ("77", 2026, 1977),
        ("00", 2026, 2000),
        ("26", 2026, 2026),
        ("49", 1999, 1949),
    ],
)
def test_a_year_of_two_digits_is_at_most_fifty_years_ahead(digits: str, now: int, year: int) -> None:
    now_seconds = datetime.datetime(now, 7, 1, tzinfo=datetime.UTC).timestamp()
    expected = datetime.datetime(year, 11, 6, 8, 49, 37, tzinfo=datetime.UTC).timestamp()
    assert parse_http_date(f"Sunday, 06-Nov-{digits} 08:49:37 GMT", now_seconds) == expected


@given(st.integers(min_value=0, max_value=4102444800))
def test_what_the_standard_library_writes_is_read_back(seconds: int) -> None:
    assert parse_http_date(email.utils.formatdate(seconds, usegmt=True), NOW) == seconds


@given(st.text(), st.floats())
def test_no_text_and_no_clock_raises(text: str, now: float) -> None:
    assert parse_http_date(text, now) is None


@given(st.floats())
def test_no_clock_breaks_a_year_of_two_digits(now: float) -> None:
    seconds = parse_http_date("Sunday, 06-Nov-94 08:49:37 GMT", now)
    assert seconds is None or isinstance(seconds, float)
