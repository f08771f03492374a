"""OAuth 2.0 client credentials: the request for a token, and what each answer is worth."""

from __future__ import annotations

import base64
import math
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._core.oauth2 import MAX_LIFE, Token, TokenRefused, parse_token, token_error, token_request
from anyio_client._model.request import Request
from anyio_client._model.url import URL

NOW = 1000.0
SECRET = "s3cret"


def request_of(client_id: str = "id", client_secret: str = SECRET, **options: Any) -> Request:
    defaults: dict[str, Any] = {"scopes": (), "params": {}, "in_body": False}
    return token_request(URL("https://auth.example/token"), client_id, client_secret, **{**defaults, **options})


def test_the_request() -> None:
    """RFC 6749 section 4.4.2, with the example's credentials of section 2.3.1."""
    request = request_of("s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw")
    assert (request.method, str(request.url)) == ("POST", "https://auth.example/token")
    assert request.headers.multi_items() == [
        ("Accept", "application/json"),
        ("Content-Type", "application/x-www-form-urlencoded"),
        ("Authorization", "Basic czZCaGRSa3F0Mzo3RmpmcDBaQnIxS3REUmJuZlZkbUl3"),
    ]
    assert request.content == b"grant_type=client_credentials"
    assert request.credentials == {"authorization"}


def test_scopes_and_parameters() -> None:
    request = request_of(scopes=["a", "b:c/d"], params={"audience": "https://x/?y=ü&z", "resource": "+"})
    assert request.content.isascii()
    assert parse_qsl(request.content.decode(), strict_parsing=True) == [
        ("grant_type", "client_credentials"),
        ("scope", "a b:c/d"),
        ("audience", "https://x/?y=ü&z"),
        ("resource", "+"),
    ]
    assert b"scope=a+b%3Ac%2Fd&audience=https%3A%2F%2Fx%2F%3Fy%3D%C3%BC%26z&resource=%2B" in request.content


def test_the_credentials_in_the_body() -> None:
    request = request_of("a&b", "c=d%", in_body=True)
    assert "authorization" not in request.headers
    assert parse_qsl(request.content.decode()) == [
        ("grant_type", "client_credentials"),
        ("client_id", "a&b"),
        ("client_secret", "c=d%"),
    ]


@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(st.characters(exclude_categories=["Cs"])))
def test_any_id_and_secret_survive_basic(client_id: str, client_secret: str) -> None:
    """Section 2.3.1: each is form-urlencoded first, so that colons and umlauts are no matter."""
    value = request_of(client_id, client_secret).headers["authorization"]
    scheme, _, rest = value.partition(" ")
    user, _, password = base64.b64decode(rest).decode("ascii").partition(":")
    assert scheme == "Basic"
    assert (unquote_plus(user), unquote_plus(password)) == (client_id, client_secret)


@pytest.mark.parametrize("in_body", [False, True])
def test_no_secret_is_shown(in_body: bool) -> None:
    request = request_of(in_body=in_body)
    for secret in (SECRET, base64.b64encode(f"id:{SECRET}".encode()).decode()):
        assert secret not in f"{request!r} {request} {request.url!r} {request.headers!r}"
    token = Token(SECRET, 1.0, 2.0)
    assert SECRET not in repr(token)
    assert token.authorization == f"Bearer {SECRET}"


GOOD: dict[str, Any] = {"access_token": "t", "token_type": "Bearer"}


@pytest.mark.parametrize(
    ("changes", "renew", "end"),
    [
        ({}, math.inf, math.inf),
        ({"token_type": "bearer"}, math.inf, math.inf),
        ({"token_type": "BEARER"}, math.inf, math.inf),
        ({"expires_in": None}, math.inf, math.inf),
        ({"expires_in": 100}, 90.0, 100.0),
        ({"expires_in": 100.5}, 90.45, 100.5),
        ({"expires_in": "100"}, 90.0, 100.0),
        ({"expires_in": "0100"}, 90.0, 100.0),
        ({"expires_in": 600}, 540.0, 600.0),
        ({"expires_in": 601}, 541.0, 601.0),
        ({"expires_in": 86400}, 86340.0, 86400.0),
        ({"expires_in": MAX_LIFE}, MAX_LIFE - 60, MAX_LIFE),
        ({"expires_in": MAX_LIFE + 1}, math.inf, math.inf),
        ({"expires_in": 10**400}, math.inf, math.inf),
        ({"expires_in": math.inf}, math.inf, math.inf),
        ({"expires_in": "9" * 12}, math.inf, math.inf),
        ({"scope": 5, "refresh_token": [], "extra": {}, "error": "x"}, math.inf, math.inf),
    ],
)
def test_good_answers(changes: dict[str, Any], renew: float, end: float) -> None:
    token = parse_token(GOOD | changes, NOW)
    assert token.value == "t"
    assert token.renew_at == pytest.approx(NOW + renew)
    assert token.expires_at == pytest.approx(NOW + end)


def test_without_a_token_type_it_is_a_bearer_token() -> None:
    assert parse_token({"access_token": "t"}, NOW) == Token("t")


@pytest.mark.parametrize("value", ["a b", "~!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}", "t" * 100_000])
def test_every_character_that_a_token_may_have(value: str) -> None:
    assert parse_token(GOOD | {"access_token": value}, NOW).value == value


NO_TOKEN, NO_TYPE, NO_TIME = "it has no access_token", "its token_type is not Bearer", "its expires_in is no positive"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        *((answer, "it is no JSON object") for answer in (None, [], [GOOD], "t", b"t", 1, 1.5, True)),
        ({}, NO_TOKEN),
        *(
            (GOOD | {"access_token": value}, NO_TOKEN)
            for value in (None, "", 1, True, ["t"], {"t": 1}, b"t", "t\n", "t\r\nX: y", "\0", "t\x7f", "tö", "t\u2028", "\ud800")
        ),
        *(
            (GOOD | {"token_type": value}, NO_TYPE)
            for value in (None, "", "mac", "DPoP", "Bearer ", " Bearer", "Bearer,mac", 1, True, ["Bearer"], {})
        ),
        *(
            (GOOD | {"expires_in": value}, NO_TIME)
            for value in (0, -1, 0.0, -0.0, -1e300, -math.inf, math.nan, -(10**400), True, False, [], {}, [3600])
        ),
        *(
            (GOOD | {"expires_in": value}, NO_TIME)
            for value in ("", "0", "-1", "+1", "1.5", "1e3", " 1", "1\n", "١", "soon", "NaN", "inf", "0x10", "1_000", "9" * 5000)
        ),
    ],
)  # fmt: skip
def test_answers_that_are_refused(answer: object, why: str) -> None:
    with pytest.raises(TokenRefused) as caught:
        parse_token(answer, NOW)
    assert why in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("value", [" ", "   ", "t ", " t"])
def test_a_token_of_white_space_is_none(value: str) -> None:
    with pytest.raises(TokenRefused):
        parse_token(GOOD | {"access_token": value}, NOW)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["Bearer", "t", 3600]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
answers = json_values | st.fixed_dictionaries(
    {},
    optional={
        "access_token": st.just("t") | json_values,
        "token_type": st.just("Bearer") | json_values,
        "expires_in": st.integers() | st.floats() | json_values,
        "error": json_values,
        "error_description": json_values,
    },
)


@given(answers)
def test_any_answer_is_a_token_or_refused(answer: Any) -> None:
    try:
        token = parse_token(answer, NOW)
    except TokenRefused as exc:
        assert str(exc).isprintable()
        assert len(str(exc)) < 100
    else:
        assert token.value == answer["access_token"]
        assert NOW <= token.renew_at <= token.expires_at
        assert token.authorization.isprintable()
    said = token_error(answer)
    assert said is None or (len(said) <= 403 and said.isprintable() | (not said.isascii()))


@pytest.mark.parametrize("answer", [{**GOOD, "access_token": f"{SECRET}\n"}, {**GOOD, "access_token": SECRET, "token_type": SECRET},
                                    {**GOOD, "access_token": SECRET, "expires_in": SECRET}, [SECRET], SECRET])  # fmt: skip
def test_no_refusal_quotes_the_answer(answer: Any) -> None:
    with pytest.raises(TokenRefused) as caught:
        parse_token(answer, NOW)
    assert SECRET not in f"{caught.value} {caught.value!r}"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (None, None),
        ([], None),
        ({}, None),
        ({"error": ""}, None),
        ({"error": None, "error_description": 5}, None),
        ({"error": {"message": "x"}}, None),
        ({"error": "invalid_client"}, "invalid_client"),
        ({"error_description": "No such client."}, "No such client."),
        ({"error": "invalid_client", "error_description": "No\r\nsuch\x1b[31m client."}, "invalid_client - No such [31m client."),
        ({"error": "x" * 1000}, "x" * 200),
    ],
)  # fmt: skip
def test_what_an_error_answer_says(answer: object, said: str | None) -> None:
    assert token_error(answer) == said
