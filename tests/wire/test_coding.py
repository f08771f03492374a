"""Content codings."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anyio_client._wire import coding
from anyio_client._wire.coding import ContentDecoder, DecodingFailed, make_decoder


def raw_deflate(data: bytes) -> bytes:
    z = zlib.compressobj(wbits=-15)
    return z.compress(data) + z.flush()


ENCODERS = {"gzip": gzip.compress, "x-gzip": gzip.compress, "deflate": zlib.compress, "identity": lambda data: data}


def decoder_of(name: str, ratio: float | None = 200.0) -> ContentDecoder:
    decoder = make_decoder(name, ratio)
    assert decoder is not None
    return decoder


def decode(name: str, data: bytes, size: int = 10**9, ratio: float | None = 200.0) -> bytes:
    decoder = decoder_of(name, ratio)
    out = b"".join(decoder.feed(data[i : i + size]) for i in range(0, len(data), size))
    decoder.finish()
    return out


@given(
    st.binary(max_size=200),
    st.lists(st.sampled_from(["gzip", "x-gzip", "deflate"]), min_size=1, max_size=3),
    st.integers(1, 50),
)
def test_any_stack_in_any_split(data: bytes, codings: list[str], size: int) -> None:
    encoded = data
    for name in codings:
        encoded = ENCODERS[name](encoded)
    assert decode(", ".join(codings), encoded, size) == data


@given(st.binary(max_size=200), st.integers(1, 50))
def test_deflate_is_met_in_two_kinds(data: bytes, size: int) -> None:
    assert decode("deflate", raw_deflate(data), size) == data


@pytest.mark.parametrize("value", [None, "", "identity", " , identity"])
def test_nothing_to_undo(value: str | None) -> None:
    assert make_decoder(value, None) is None


def test_names_have_no_case() -> None:
    assert decode("GZip", gzip.compress(b"x")) == b"x"


def test_an_unknown_coding_is_refused() -> None:
    with pytest.raises(DecodingFailed, match="'rot13' was not asked for"):
        make_decoder("gzip, rot13", None)


def test_several_gzip_members_are_one_body() -> None:
    data = gzip.compress(b"a") + gzip.compress(b"b")
    for size in (1, 5, 1000):
        assert decode("gzip", data, size) == b"ab"
        assert decode("gzip", data + b"\0\0\0", size) == b"ab"


@pytest.mark.parametrize("rest", [b"XX", b"\0X", zlib.compress(b"b")])
def test_what_follows_a_gzip_member_is_another_one_or_padding(rest: bytes) -> None:
    with pytest.raises(DecodingFailed):
        decode("gzip", gzip.compress(b"a") + rest)


def test_garbage_after_deflate_is_left_out() -> None:
    assert decode("deflate", zlib.compress(b"a") + b"garbage") == b"a"


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_truncated_data_is_an_error(name: str) -> None:
    data = ENCODERS[name](b"hello" * 100)
    for cut in (1, 5, len(data) - 1):
        with pytest.raises(DecodingFailed, match="^the compressed body is truncated$"):
            decode(name, data[:cut])
    assert decode(name, b"") == b""


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_wrong_data_is_an_error(name: str) -> None:
    with pytest.raises(DecodingFailed, match="not what its Content-Encoding says"):
        decode(name, b"\x08 this is no compressed text at all")


@pytest.mark.parametrize("size", [1, 10**6])
def test_gzip_is_not_met_as_deflate(size: int) -> None:
    with pytest.raises(DecodingFailed):
        decode("gzip", zlib.compress(b"hello"), size)


def test_a_bomb_is_stopped_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "FREE_OUTPUT", 2**20)
    bomb = gzip.compress(b"\0" * (64 * 2**20))
    assert len(bomb) * 200 < 64 * 2**20
    tracemalloc.start()
    try:
        with pytest.raises(DecodingFailed, match="^the body decodes to more than 200 times its size$"):
            decode("gzip", bomb)
        assert tracemalloc.get_traced_memory()[1] < 32 * 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(DecodingFailed, match="more than 200 times"):
        decode("gzip", bomb, 1000)
    assert len(decode("gzip", bomb, ratio=None)) == 64 * 2**20


def test_the_limit_of_what_a_body_decodes_to_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\0" * 10_000
    encoded = gzip.compress(data)
    allowed = len(data) - 2 * len(encoded)
    monkeypatch.setattr(coding, "FREE_OUTPUT", allowed)
    assert decode("gzip", encoded, ratio=2.0) == data
    monkeypatch.setattr(coding, "FREE_OUTPUT", allowed - 1)
    with pytest.raises(DecodingFailed, match="^the body decodes to more than 2 times its size$"):
        decode("gzip", encoded, ratio=2.0)


def test_the_ratio_is_that_of_the_whole_body(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "FREE_OUTPUT", 0)
    data = random.Random(1).randbytes(10_000)  # gzip cannot make it smaller
    for size in (1, 100, 10**6):
        assert decode("gzip", gzip.compress(data), size, ratio=1.0) == data


def test_the_first_part_is_always_allowed() -> None:
    assert coding.FREE_OUTPUT == 16 * 2**20
    assert len(decode("gzip", gzip.compress(b"\0" * (16 * 2**20)), ratio=1.0)) == 16 * 2**20
    with pytest.raises(DecodingFailed):
        decode("gzip", gzip.compress(b"\0" * (17 * 2**20)), ratio=1.0)


def test_so_many_codings_and_no_more() -> None:
    body = b"x"
    for _ in range(10):
        body = gzip.compress(body)
    assert decode(", ".join(["gzip"] * 10), body) == b"x"
    with pytest.raises(DecodingFailed, match=r"^the body has more than 10 content codings$"):
        make_decoder(", ".join(["gzip"] * 11), None)
