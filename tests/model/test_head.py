"""The head of a response."""

from __future__ import annotations

import copy
import pickle

import attrs
import pytest

from anyio_client._model.head import ResponseHead
from anyio_client._model.headers import Headers


@pytest.mark.parametrize(
    ("status", "success", "error"),
    [
        (100, False, False),
        (199, False, False),
        (200, True, False),
        (204, True, False),
        (299, True, False),
        (300, False, False),
        (304, False, False),
        (399, False, False),
        (400, False, True),
        (499, False, True),
        (500, False, True),
        (999, False, True),
    ],
)
def test_a_status_is_a_success_an_error_or_neither(status: int, success: bool, error: bool) -> None:
    head = ResponseHead(status, Headers())
    assert head.is_success is success
    assert head.is_error is error


def test_a_head_is_a_value() -> None:
    head = ResponseHead(200, Headers({"A": "b"}))
    assert head.http_version == "HTTP/1.1"
    assert head == ResponseHead(200, Headers({"a": "b"}), "HTTP/1.1")
    assert head != ResponseHead(200, Headers({"a": "b"}), "HTTP/2")
    assert copy.deepcopy(head) == head
    assert pickle.loads(pickle.dumps(head)) == head
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        head.status_code = 500  # type: ignore[misc]


def test_the_repr_of_a_head_shows_no_secret_field() -> None:
    head = ResponseHead(200, Headers([("Set-Cookie", "s3cret"), ("Content-Type", "text/plain")]))
    assert "s3cret" not in repr(head)
    assert "text/plain" in repr(head)
