"""What one request may say about itself (DESIGN 4.1, "Requests and options")."""

from __future__ import annotations

import copy
import enum
import itertools
import math
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest

from anyio_client._model.given import NotGiven, not_given, omit
from anyio_client._model.options import RawMode, RequestOptions, check_retries
from anyio_client._model.timeouts import Timeout
from anyio_client._model.url import URL

# DESIGN 4.1; params and post_parser too
NAMES = [
    "method",
    "url",
    "headers",
    "params",
    "json_data",
    "content",
    "files",
    "form",
    "extra_json",
    "timeout",
    "deadline",
    "max_retries",
    "idempotency_key",
    "follow_redirects",
    "expect_continue",
    "compress",
    "progress",
    "on_informational",
    "trailers",
    "event_timeout",
    "strict",
    "post_parser",
]


def test_the_options_are_those_of_the_contract() -> None:
    assert {a.name for a in attrs.fields(RequestOptions)} - {"raw_mode", "carrier"} == set(NAMES)


def test_what_is_absent_inherits() -> None:
    options = RequestOptions()
    assert (options.method, options.url) == ("GET", "")
    for name in ("headers", "params", "json_data", "timeout", "deadline", "max_retries", "idempotency_key"):
        assert isinstance(getattr(options, name), NotGiven), name
    for name in ("follow_redirects", "strict", "post_parser"):
        assert isinstance(getattr(options, name), NotGiven), name
    for name in ("content", "files", "form", "extra_json", "compress", "progress", "on_informational", "trailers"):
        assert getattr(options, name) is None, name
    assert options.event_timeout is None
    assert options.expect_continue is False
    assert options.raw_mode is RawMode.PARSED


def test_none_switches_off() -> None:
    options = RequestOptions(timeout=None, deadline=None, idempotency_key=None, event_timeout=None)
    assert options.timeout == Timeout(None)
    assert options.deadline is None
    assert options.idempotency_key is None
    assert options.event_timeout is None


def test_falsy_is_a_value() -> None:
    options = RequestOptions(max_retries=0, json_data=None, headers={}, params={}, follow_redirects=False)
    assert options.max_retries == 0
    assert options.json_data is None
    assert options.headers == options.params == {}
    assert options.follow_redirects is False


@pytest.mark.parametrize(
    ("given", "expected"),
    [(30, Timeout(30)), (0.5, Timeout(0.5)), (Timeout(600, connect=5), Timeout(600, connect=5)), (None, Timeout(None))],
)
def test_a_timeout_is_seconds_a_timeout_or_none(given: Any, expected: Timeout) -> None:
    assert RequestOptions(timeout=given).timeout == expected


BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"timeout": 0}, ValueError, "Timeout connect must be more than 0 seconds, got 0"),
    ({"timeout": -1}, ValueError, "must be more than 0 seconds"),
    ({"timeout": math.nan}, ValueError, "must be more than 0 seconds"),
    ({"timeout": "1"}, TypeError, "must be a number of seconds, a Timeout or None, not str"),
    ({"deadline": 0}, ValueError, "deadline must be more than 0 seconds, got 0"),
    ({"deadline": math.nan}, ValueError, "deadline must be more than 0 seconds"),
    ({"deadline": "1"}, TypeError, "deadline must be a number of seconds or None, not str"),
    ({"event_timeout": 0}, ValueError, "event_timeout must be more than 0 seconds"),
    ({"event_timeout": True}, TypeError, "event_timeout must be a number of seconds or None, not bool"),
    ({"max_retries": None}, TypeError, "max_retries must be an int, not NoneType; 0 switches retries off"),
    ({"max_retries": True}, TypeError, "max_retries must be an int, not bool"),
    ({"max_retries": 1.0}, TypeError, "max_retries must be an int, not float"),
    ({"max_retries": "2"}, TypeError, "max_retries must be an int, not str"),
    ({"max_retries": -1}, ValueError, "max_retries must be at least 0, got -1"),
    ({"headers": None}, TypeError, "headers must be a mapping or not_given, not NoneType"),
    ({"headers": [("A", "1")]}, TypeError, "headers must be a mapping or not_given, not list"),
    ({"params": None}, TypeError, "params must be a mapping or not_given, not NoneType"),
    ({"params": "a=1"}, TypeError, "params must be a mapping or not_given, not str"),
    ({"method": "GE T"}, ValueError, "is no token"),
    ({"method": "GET\r\n"}, ValueError, "is no token"),
    ({"method": None}, TypeError, "the method must be a str such as 'GET'"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_a_bad_option_is_refused_at_once_and_when_it_is_set_later(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        RequestOptions(**arguments)
    with pytest.raises(error, match=message):
        RequestOptions.of(arguments)
    options = RequestOptions()
    for name, value in arguments.items():
        with pytest.raises(error, match=message):
            setattr(options, name, value)
    assert options == RequestOptions()


def test_what_a_hook_sets_is_converted() -> None:
    options = RequestOptions()
    options.method = "post"
    options.timeout = 3  # type: ignore[assignment]
    assert options.method == "POST"
    assert options.timeout == Timeout(3)


@pytest.mark.parametrize("retries", [0, 1, 10**6])
def test_a_number_of_retries_is_an_int_from_zero(retries: int) -> None:
    assert check_retries(retries) == retries


def test_options_may_be_a_mapping() -> None:
    options = RequestOptions(method="post", headers={"A": omit}, max_retries=3)
    assert RequestOptions.of(options) is options
    assert RequestOptions.of({"method": "POST", "headers": {"A": omit}, "max_retries": 3}) == options
    assert RequestOptions.of({}) == RequestOptions()
    mapping: Mapping[str, Any] = {"method": "put"}
    RequestOptions.of(mapping)
    assert mapping == {"method": "put"}


@pytest.mark.parametrize("name", ["nope", "raw_mode", "body", "extra_headers", ""])
def test_an_unknown_option_is_a_type_error_that_names_the_known_ones(name: str) -> None:
    with pytest.raises(
        TypeError,
        match=f"unknown option '{name}'( \\(did you mean .*\\))?; the options are: compress, content, deadline",
    ):
        RequestOptions.of({name: 1})


@pytest.mark.parametrize("options", [None, [], "x", 1])
def test_options_that_are_no_mapping_are_a_type_error(options: Any) -> None:
    with pytest.raises(TypeError, match=f"options must be RequestOptions or a mapping, not {type(options).__name__}"):
        RequestOptions.of(options)


def test_options_copy_and_pickle() -> None:
    options = RequestOptions(
        method="post",
        url=URL("https://u:p@h/x"),
        headers={"A": "1", "B": omit},
        params={"a": [1, not_given]},
        json_data={"x": [1]},
        timeout=3,
    )
    for twin in (
        copy.copy(options),
        copy.deepcopy(options),
        pickle.loads(pickle.dumps(options)),
        attrs.evolve(options),
    ):
        assert twin == options


# --- those of a plain call ------------------------------------------------------------------------------------------


class Text(str):
    """Whose type is not str."""


class Verb(enum.StrEnum):
    POST = "post"


METHODS: list[Any] = [
    *("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "get", "head", "post", "put", "patch", "delete"),
    *("Get", "OPTIONS", "options", "query", Text("get"), Text("Get"), Verb.POST),
    *("", "GE T", "GET\r\n", None, 5, b"GET", True),
]
URLS: list[Any] = ["", "/a?b#c", "https://u:p@h/x", URL("https://u:p@h/x"), Text("/a"), None, 5, b"/a", ["/a"]]
JSON: list[Any] = [None, {}, {"a": [1]}, [], 0, False, "", not_given]
FILES: list[Any] = [None, {}, (), {"f": b"x"}, [("f", b"x")], not_given]
FORMS: list[Any] = [None, {}, {"a": "b"}, not_given, "x"]


def made(function: Callable[[], RequestOptions]) -> Any:
    """Every option and its type; or the error."""
    try:
        options = function()
    except Exception as exc:
        return type(exc), str(exc)
    return type(options), {name: (type(value), value) for name, value in vars(options).items()}


@pytest.mark.parametrize("method", METHODS, ids=range(len(METHODS)))
def test_plain_options_are_those_of_the_constructor(method: Any) -> None:
    for url, json_data, files, form in itertools.product(URLS, JSON, FILES, FORMS):
        given_json = not_given if json_data is None else json_data
        expected = made(lambda: RequestOptions(method, url, json_data=given_json, files=files, form=form))
        assert made(lambda: RequestOptions.plain(method, url, json_data, files, form)) == expected


@pytest.mark.parametrize("method", [[], {}, bytearray(b"GET")])
def test_a_method_of_any_type_is_refused_in_the_same_words(method: Any) -> None:
    assert made(lambda: RequestOptions.plain(method, "", None, None, None)) == made(lambda: RequestOptions(method, ""))


def plain() -> RequestOptions:
    return RequestOptions.plain("post", "/a?key=s3cret", {"x": [1]}, None, None)


WAYS: list[Callable[[Any], Any]] = [
    copy.copy,
    copy.deepcopy,
    lambda options: pickle.loads(pickle.dumps(options)),
    attrs.evolve,
    lambda options: RequestOptions(**{name: getattr(options, name) for name in (*NAMES, "raw_mode", "carrier")}),
    lambda options: RequestOptions.of({name: getattr(options, name) for name in NAMES}),
]


@pytest.mark.parametrize("way", WAYS, ids=range(len(WAYS)))
def test_copies_of_plain_options_are_equal_and_apart(way: Callable[[Any], Any]) -> None:
    untouched, bare = repr(plain()), repr(RequestOptions())
    options = plain()
    twin = way(options)
    assert twin == options == plain()
    assert repr(twin) == repr(options)
    assert "s3cret" not in repr(twin)
    assert list(vars(twin)) == [a.name for a in attrs.fields(RequestOptions)]
    for one, other in ((twin, options), (options, way(options))):
        one.timeout, one.headers, one.raw_mode, one.max_retries = 3, {"A": "1"}, RawMode.RAW, 7
        assert one != other
        assert other.timeout is not_given or other.timeout == Timeout(3)
        other.timeout, other.headers, other.raw_mode, other.max_retries = one.timeout, one.headers, one.raw_mode, 7
        assert one == other
    assert repr(plain()) == untouched
    assert plain().timeout is not_given
    assert repr(RequestOptions()) == bare
    assert RequestOptions() != plain()


def test_options_that_are_equal_are_those_with_equal_options() -> None:
    assert RequestOptions.plain("get", "", None, None, None) == RequestOptions()
    assert RequestOptions.plain("get", "", {}, None, None) != RequestOptions()
    assert RequestOptions.plain("get", "/a", None, None, None) != RequestOptions()
    assert plain() != attrs.evolve(plain(), strict=True)
    assert plain() == attrs.evolve(plain(), carrier=print)  # it says nothing about the request
    assert plain() != {"method": "POST"}
    with pytest.raises(TypeError, match="unhashable"):
        hash(plain())
    kept = attrs.evolve(plain(), json_data=plain().json_data)
    kept.json_data["x"].append(2)  # type: ignore[index]
    assert plain().json_data == {"x": [1]}


@pytest.mark.parametrize(
    "make", [RequestOptions, plain, lambda: copy.copy(plain()), lambda: pickle.loads(pickle.dumps(plain()))]
)
def test_an_attribute_that_is_no_option_cannot_be_set(make: Callable[[], RequestOptions]) -> None:
    options = make()
    for name in ("timeuot", "extra_headers", "body", "", "__private", "Method"):
        with pytest.raises(
            AttributeError, match=f"unknown option '{name}'; the options are: compress, content, deadline"
        ):
            setattr(options, name, 1)
        assert name not in vars(options)
    for name in NAMES:
        with pytest.raises(AttributeError, match=rf"\b{name}\b"):
            options.nope = 1  # type: ignore[attr-defined]
    assert options == make()


@pytest.mark.parametrize(("arguments", "error", "message"), BAD)
def test_a_bad_option_is_refused_when_it_is_set_on_plain_options(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    for options in (plain(), copy.copy(plain()), attrs.evolve(plain()), pickle.loads(pickle.dumps(plain()))):
        for name, value in arguments.items():
            with pytest.raises(error, match=message):
                setattr(options, name, value)
        assert options == plain()


GOOD: list[tuple[str, Any]] = [
    *(("method", method) for method in ("get", "Get", "options", Text("put"), Verb.POST)),
    *(("url", url) for url in ("", "/x", URL("http://h"), Text("/a"))),
    *(("headers", headers) for headers in (not_given, {}, {"A": omit})),
    *(("params", params) for params in (not_given, {}, {"a": [1]})),
    *(("timeout", seconds) for seconds in (None, 3, 0.5, Timeout(1, connect=2), not_given)),
    *(("deadline", seconds) for seconds in (None, 3, 0.5, not_given)),
    *(("event_timeout", seconds) for seconds in (None, 3, 0.5)),
    *(("max_retries", number) for number in (0, 5, not_given)),
    *(("idempotency_key", key) for key in (None, "k", not_given)),
    *((name, value) for name in ("follow_redirects", "strict") for value in (True, False, not_given)),
    *(("compress", coding) for coding in (None, "gzip", "zstd")),
    *((name, value) for name in ("progress", "on_informational", "trailers") for value in (None, print)),
    ("post_parser", print), ("json_data", None), ("json_data", {"a": 1}), ("content", b"x"), ("files", {"f": b"x"}),
    ("form", {"a": "b"}), ("extra_json", {"a": 1}), ("expect_continue", True), ("raw_mode", RawMode.RAW), ("carrier", print),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), GOOD, ids=range(len(GOOD)))
def test_an_option_that_is_set_is_what_the_constructor_makes_of_it(name: str, value: Any) -> None:
    expected = getattr(RequestOptions(**{name: value}), name)
    for options in (RequestOptions(), plain(), copy.deepcopy(plain())):
        setattr(options, name, value)
        assert getattr(options, name) == expected
        assert type(getattr(options, name)) is type(expected)
    assert attrs.evolve(plain(), **{name: value}) == RequestOptions(**{**vars(plain()), name: value})


# --- secrets (BEHAVIOUR 13) -------------------------------------------------------------------------------------


def test_a_repr_has_no_headers_parameters_bodies_or_keys() -> None:
    options = RequestOptions(
        headers={"Authorization": "s3cret", "X-Api-Key": "s3cret", "Cookie": "s3cret"},
        params={"key": "s3cret"},
        json_data={"password": "s3cret"},
        content=b"s3cret",
        files={"f": b"s3cret"},
        form={"password": "s3cret"},
        extra_json={"password": "s3cret"},
        idempotency_key="s3cret",
    )
    assert "s3cret" not in repr(options)
    assert "s3cret" not in str(options)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("/a/b", "'/a/b'"),
        ("/a?key=s3cret", "'/a'"),
        ("/a#s3cret", "'/a'"),
        ("/a#x?key=s3cret", "'/a'"),
        ("https://h/a?key=s3cret", "'https://h/a'"),
        ("https://user:s3cret@h/a", "'https://***@h/a'"),
        ("https://s3cret@h", "'https://***@h'"),
        ("https://user:p@s3cret@h/a@b", "'https://***@h/a@b'"),
        ("https://h/a@b", "'https://h/a@b'"),
        (URL("https://user:s3cret@h/a?key=s3cret"), "URL('https://***@h/a?key=***')"),
    ],
)
def test_a_repr_shows_where_the_request_goes_and_no_secret_of_the_url(url: str | URL, shown: str) -> None:
    text = repr(RequestOptions(url=url))
    assert f"url={shown}, " in text
    assert "s3cret" not in text
