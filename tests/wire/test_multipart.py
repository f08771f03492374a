"""multipart/form-data: RFC 7578, the names as WHATWG HTML section 4.10.22.8 escapes them, boundaries of RFC 2046."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import MultipartParser, parse_options_header

from anyio_client._wire.multipart import boundary_of, check_boundary, closing, content_type_of, is_form_data, part_head

Part = tuple[list[tuple[str, str]], bytes]

BOUNDARY = "b0undary"


def parse(body: bytes, boundary: str, step: int | None = None) -> list[Part]:
    """What an independent parser makes of *body*, fed in pieces of *step* bytes. ValueError unless it is complete."""
    parts: list[tuple[list[tuple[bytearray, bytearray]], bytearray]] = []
    ended: list[bool] = []

    def begin() -> None:
        parts.append(([], bytearray()))

    def field(data: bytes, start: int, end: int) -> None:
        headers = parts[-1][0]
        if not headers or headers[-1][1]:
            headers.append((bytearray(), bytearray()))
        headers[-1][0].extend(data[start:end])

    def value(data: bytes, start: int, end: int) -> None:
        parts[-1][0][-1][1].extend(data[start:end])

    parser = MultipartParser(
        boundary.encode(),
        {
            "on_part_begin": begin,
            "on_header_field": field,
            "on_header_value": value,
            "on_part_data": lambda data, start, end: parts[-1][1].extend(data[start:end]),
            "on_end": lambda: ended.append(True),
        },
        max_header_size=10**6,
    )
    step = step or len(body)
    for place in range(0, len(body), step):
        piece = body[place : place + step]
        assert parser.write(piece) == len(piece)
    parser.finalize()
    if not ended:
        raise ValueError("the closing delimiter is missing")
    return [([(n.decode(), v.decode()) for n, v in headers], bytes(content)) for headers, content in parts]


def body_of(parts: list[tuple[bytes, bytes]], boundary: str) -> bytes:
    return b"".join(head + content + b"\r\n" for head, content in parts) + closing(boundary)


def disposition(*args: Any, **options: Any) -> str:
    head = part_head(BOUNDARY, *args, **options).decode()
    start, line, *_ = head.split("\r\n")
    assert start == f"--{BOUNDARY}"
    name, _, value = line.partition(": ")
    assert name == "Content-Disposition"
    return value


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", ""),
        ("file", "file"),
        ("a b;c=d", "a b;c=d"),
        ("a[]", "a[]"),
        ("ü€😀", "ü€😀"),
        ('say "hi"', "say %22hi%22"),
        ("a\r\nb", "a%0D%0Ab"),
        ("a\nb", "a%0D%0Ab"),  # WHATWG: every line end in a name becomes CR LF first
        ("a\rb", "a%0D%0Ab"),
        ("\r\r\n\n", "%0D%0A%0D%0A%0D%0A"),
        ("100%", "100%"),  # a percent sign is not escaped, so that %22 is not told from a quote: browsers do so too
        ("%22", "%22"),
        ("C:\\dir\\", "C:\\dir\\"),  # nor is a backslash
        ("'", "'"),
        ("\t\x01\x7f", "\t\x01\x7f"),
        ("\u2028\x85", "\u2028\x85"),
        ('"; filename="evil', "%22; filename=%22evil"),
        ("x\r\nX-Evil: 1\r\n\r\nbody", "x%0D%0AX-Evil: 1%0D%0A%0D%0Abody"),
    ],
)
def test_names_are_escaped_as_browsers_do(name: str, shown: str) -> None:
    assert disposition(name) == f'form-data; name="{shown}"'


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("a.txt", "a.txt"),
        ("", ""),
        ("Übung.pdf", "Übung.pdf"),
        ('a"b', "a%22b"),
        ("a\r\nb", "a%0D%0Ab"),
        ("a\nb", "a%0Ab"),  # those in a file name stay what they are
        ("a\rb", "a%0Db"),
        ("../../etc/passwd", "../../etc/passwd"),  # the server's affair
    ],
)
def test_file_names_keep_their_line_ends_apart(filename: str, shown: str) -> None:
    assert disposition("f", filename=filename) == f'form-data; name="f"; filename="{shown}"'


@pytest.mark.parametrize("lone", ["\ud800", "a\udfff"])
def test_a_lone_surrogate_has_no_utf8_form(lone: str) -> None:
    with pytest.raises(ValueError, match="^the name of a part has a lone surrogate in it"):
        part_head(BOUNDARY, lone)
    with pytest.raises(ValueError, match="^the file name of a part has a lone surrogate in it"):
        part_head(BOUNDARY, "f", filename=lone)


def test_rfc_5987_is_never_used() -> None:
    assert b"filename*" not in part_head(BOUNDARY, "f", filename="ü")  # RFC 7578 section 4.2


# --- heads -----------------------------------------------------------------------------------------------------------


def test_a_field_is_a_name_and_nothing_else() -> None:
    assert part_head("x", "a") == b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n'


def test_a_file_has_a_file_name_a_type_and_headers_of_its_own() -> None:
    head = part_head("x", "a", filename="b", content_type="text/csv", headers={"X-Part": "ü", "Content-Id": "<1>"})
    assert (
        head
        == (
            '--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n'
            "Content-Type: text/csv\r\nX-Part: ü\r\nContent-Id: <1>\r\n\r\n"
        ).encode()
    )


@pytest.mark.parametrize("name", ["Content-Type", "content-type"])
def test_a_type_among_the_headers_goes_first_and_is_the_only_one(name: str) -> None:
    head = part_head("x", "a", content_type="text/csv", headers={name: "text/plain"})
    assert head.lower().count(b"content-type") == 1
    assert f"\r\n{name}: text/plain\r\n".encode() in head


@pytest.mark.parametrize(
    "headers",
    [
        {"X-A": "1\r\nX-Evil: 1"},
        {"X-A": "1\n"},
        {"X-A": "a\rb"},
        {"X-A": "\0"},
        {"X-A\r\nX-Evil": "1"},
        {"X-A:": "1"},
        {"X A": "1"},
        {"": "1"},
        {"X-A": "\ud800"},
        {"Content-Type": "text/plain\r\n\r\ninjected"},
        {"Content-Disposition": "form-data"},
        {"CONTENT-DISPOSITION": "form-data"},
    ],
)
def test_headers_that_would_break_the_head_are_a_value_error(headers: dict[str, str]) -> None:
    with pytest.raises(ValueError):
        part_head(BOUNDARY, "a", headers=headers)


@pytest.mark.parametrize("content_type", ["text/plain\r\nX-Evil: 1", "text/plain\n", "\0", "\ud800"])
def test_a_type_that_would_break_the_head_is_a_value_error(content_type: str) -> None:
    with pytest.raises(ValueError):
        part_head(BOUNDARY, "a", content_type=content_type)


@pytest.mark.parametrize("headers", [{"X-A": 1}, {"X-A": b"1"}, {"X-A": None}, {1: "a"}])
def test_headers_that_are_no_text_are_a_type_error(headers: Any) -> None:
    with pytest.raises(TypeError):
        part_head(BOUNDARY, "a", headers=headers)


# --- boundaries ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "boundary",
    ["a", "0", "x" * 70, "----WebKitFormBoundary7MA4YWxk", "a b", "'()+_,-./:=?", "=_?:", "a" + " " * 68 + "b"],
)
def test_boundaries_that_rfc_2046_allows(boundary: str) -> None:
    assert check_boundary(boundary) == boundary
    assert boundary_of(content_type_of(boundary)) == boundary
    assert parse_options_header(content_type_of(boundary))[1][b"boundary"] == boundary.encode()
    body = body_of([(part_head(boundary, "a"), b"1")], boundary)
    assert parse(body, boundary) == [([("Content-Disposition", 'form-data; name="a"')], b"1")]


@pytest.mark.parametrize(
    "boundary",
    ["", " ", "a ", "x" * 71, "a\r\nb", "a\n", 'a"b', "a;b", "a\\b", "a@b", "a[b", "ü", "a\0", "a\tb", "*", "%"],
)
def test_boundaries_that_it_does_not_allow(boundary: str) -> None:
    with pytest.raises(ValueError, match="RFC 2046"):
        check_boundary(boundary)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", "abc"),
        ("multipart/form-data;boundary=abc", "abc"),
        ("multipart/form-data; BOUNDARY=aBc", "aBc"),
        ('multipart/form-data; boundary="a b"', "a b"),
        (r'multipart/form-data; boundary="a\b"', "ab"),  # a quoted pair
        ("multipart/form-data; charset=utf-8; boundary=abc", "abc"),
        ("multipart/form-data; boundary=abc; charset=utf-8", "abc"),
        ("multipart/form-data; boundary=abc;", "abc"),
        ("multipart/form-data ; boundary = abc", "abc"),
        ("multipart/form-data; boundary=a=b", "a=b"),
        ("multipart/form-data", None),
        ("multipart/form-data;", None),
        ("multipart/form-data; boundary=", None),
        ("multipart/form-data; xboundary=abc", None),
        ("multipart/form-data; charset=boundary", None),
    ],
)
def test_the_boundary_is_found_in_a_content_type(content_type: str, boundary: str | None) -> None:
    assert is_form_data(content_type)
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize("boundary", ['""', '"a "', '"a@b"', "x" * 71, "a@b", '"ü"'])
def test_a_callers_boundary_that_is_not_allowed_is_a_value_error(boundary: str) -> None:
    with pytest.raises(ValueError, match="RFC 2046"):
        boundary_of(f"multipart/form-data; boundary={boundary}")


@pytest.mark.parametrize(
    ("content_type", "is_form"),
    [
        ("multipart/form-data", True),
        ("Multipart/Form-Data; boundary=x", True),
        (" multipart/form-data ", True),
        ("multipart/mixed; boundary=x", False),
        ("multipart/form-data-x", False),
        ("application/json; x=multipart/form-data", False),
        ("", False),
    ],
)
def test_what_is_form_data(content_type: str, is_form: bool) -> None:
    assert is_form_data(content_type) is is_form


def test_a_boundary_is_quoted_only_where_it_must_be() -> None:
    assert content_type_of("abc-1") == "multipart/form-data; boundary=abc-1"
    assert content_type_of("a:b") == 'multipart/form-data; boundary="a:b"'


# --- whole bodies ----------------------------------------------------------------------------------------------------


def test_the_bytes_of_a_form() -> None:
    body = body_of([(part_head("x", "a"), b"1"), (part_head("x", "b", filename="c"), b"")], "x")
    assert body == (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n'
        b'--x\r\nContent-Disposition: form-data; name="b"; filename="c"\r\n\r\n\r\n'
        b"--x--\r\n"
    )


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_hostile = st.lists(
    st.sampled_from(
        ['"', "\r", "\n", "\r\n", "%22", "\\", ";", "=", "name=", "filename=", "--", BOUNDARY, "ü", ":", " "]
    ),
    max_size=6,
).map("".join)
_contents = st.lists(
    st.sampled_from(
        [b"\r\n", b"\r", b"\n", b"--", b"--b0undar", b"\r\n--b0undar", b"-", b"", b"y", b"\0\xff", b"text"]
    ),
    max_size=8,
).map(b"".join)
_boundaries = st.text(st.sampled_from("0123456789abcXYZ'()+_,-./:=? "), min_size=1, max_size=70).filter(
    lambda text: not text.endswith(" ")
)


def unescaped(text: str) -> str:
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


_names = (_text | _hostile).map(lambda name: name.replace("\0", ""))  # which is refused


@given(
    st.lists(st.tuples(_names, st.none() | _names, st.binary(max_size=60) | _contents), max_size=5),
    st.just(BOUNDARY) | _boundaries,
    st.integers(1, 40),
)
def test_any_form_is_read_as_the_same_parts_by_another_parser(
    given_parts: list[tuple[str, str | None, bytes]], boundary: str, step: int
) -> None:
    delimiter = b"--" + boundary.encode()
    parts = [part for part in given_parts if delimiter not in b"\r\n" + part[2]]  # RFC 2046: never in a content
    made = body_of([(part_head(boundary, name, filename=file), data) for name, file, data in parts], boundary)
    if not parts:
        assert made == delimiter + b"--\r\n"
        return
    read = parse(made, boundary, step)
    assert [content for _, content in read] == [data for _, _, data in parts]
    for (headers, _), (name, filename, _) in zip(read, parts, strict=True):
        [(field, value)] = headers
        assert field == "Content-Disposition"
        match = re.fullmatch(r'form-data; name="([^"\r\n]*)"(?:; filename="([^"\r\n]*)")?', value)
        assert match
        normal = re.sub(r"\r\n|\r|\n", "\r\n", name)
        assert unescaped(match[1]) == unescaped(normal)
        assert (match[2] is None) == (filename is None)
        if filename is not None:
            assert unescaped(match[2]) == unescaped(filename)


@given(_text, _text)
def test_a_server_reads_the_names_that_were_given(name: str, filename: str) -> None:
    """As python-multipart, which Starlette and FastAPI use, takes a disposition apart."""
    if any(char in name + filename for char in '"\r\n\\'):
        return  # tested above: servers disagree about the way back
    kind, options = parse_options_header(disposition(name, filename=filename).encode())
    assert kind == b"form-data"
    assert options[b"name"].decode() == name
    assert options[b"filename"].decode() == filename


@given(st.text(max_size=30) | _hostile, st.text(max_size=30) | _hostile, st.text(max_size=20), st.text(max_size=20))
def test_a_head_has_the_lines_it_was_made_of_or_is_refused(name: str, filename: str, header: str, value: str) -> None:
    try:
        head = part_head(BOUNDARY, name, filename=filename, content_type="text/plain", headers={header: value})
    except ValueError:
        return
    lines = head.decode().split("\r\n")
    typed = header.lower() == "content-type"
    assert len(lines) == (5 if typed else 6)
    assert lines[0] == f"--{BOUNDARY}"
    assert lines[-2:] == ["", ""]
    assert "\r" not in head.replace(b"\r\n", b"").decode()
    assert "\n" not in head.replace(b"\r\n", b"").decode()


def test_the_parser_of_these_tests_sees_what_is_wrong() -> None:
    good = body_of([(part_head(BOUNDARY, "a"), b"1")], BOUNDARY)
    for bad in (good[:-6], good.replace(b"\r\n\r\n", b"\r\n"), good[1:]):
        with pytest.raises(ValueError):
            parse(bad, BOUNDARY)
