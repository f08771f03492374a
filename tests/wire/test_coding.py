"""Content codings."""

from __future__ import annotations

import gzip
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


def test_garbage_after_deflate_is_left_out() -> None:
    assert decode("deflate", zlib.compress(b"a") + b"garbage") == b"a"


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_truncated_data_is_an_error(name: str) -> None:
    data = ENCODERS[name](b"hello" * 100)
    for cut in (1, 5, len(data) - 1):
        with pytest.raises(DecodingFailed, match="truncated"):
            decode(name, data[:cut])
    assert decode(name, b"") == b""


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_wrong_data_is_an_error(name: str) -> None:
    with pytest.raises(DecodingFailed, match="not what its Content-Encoding says"):
        decode(name, b"\x08 this is no compressed text at all")


def test_a_bomb_is_stopped_before_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "FREE_OUTPUT", 2**20)
    bomb = gzip.compress(b"\0" * (64 * 2**20))
    assert len(bomb) * 200 < 64 * 2**20
    with pytest.raises(DecodingFailed, match="more than 200 times"):
        decode("gzip", bomb)
    with pytest.raises(DecodingFailed, match="more than 200 times"):
        decode("gzip", bomb, 1000)
    assert len(decode("gzip", bomb, ratio=None)) == 64 * 2**20


def test_the_first_part_is_always_allowed() -> None:
    assert coding.FREE_OUTPUT == 16 * 2**20
    assert len(decode("gzip", gzip.compress(b"\0" * (16 * 2**20)), ratio=1.0)) == 16 * 2**20
    with pytest.raises(DecodingFailed):
        decode("gzip", gzip.compress(b"\0" * (17 * 2**20)), ratio=1.0)
