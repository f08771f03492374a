"""Content codings."""

from __future__ import annotations

import gzip
import random
import sys
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._wire import coding
from anyio_client._wire.coding import ContentDecoder, DecodingFailed, accept_encoding, make_compressor, make_decoder
from tests.kit.fuzz import examples

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    z = zlib.compressobj(wbits=-15)
    return z.compress(data) + z.flush()


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
    "identity": lambda data: data,
}


def decoder_of(name: str, ratio: float | None = 200.0) -> ContentDecoder:
    decoder = make_decoder(name, ratio)
    assert decoder is not None
    return decoder


def decode(name: str, data: bytes, size: int = 10**9, ratio: float | None = 200.0) -> bytes:
    decoder = decoder_of(name, ratio)
    out = b"".join(b"".join(decoder.feed(data[i : i + size])) for i in range(0, len(data), size))
    decoder.finish()
    return out


@given(
    st.binary(max_size=200),
    st.lists(st.sampled_from(["gzip", "x-gzip", "deflate", "br", "zstd"]), min_size=1, max_size=4),
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


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_truncated_data_is_an_error(name: str) -> None:
    data = ENCODERS[name](random.Random(1).randbytes(100))
    for cut in range(1, len(data)):
        with pytest.raises(DecodingFailed, match="^the compressed body is truncated$"):
            decode(name, data[:cut])
    assert decode(name, b"") == b""


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_wrong_data_is_an_error(name: str) -> None:
    with pytest.raises(DecodingFailed, match="not what its Content-Encoding says"):
        decode(name, b"\x08 this is no compressed text at all")


@pytest.mark.parametrize("size", [1, 10**6])
def test_gzip_is_not_met_as_deflate(size: int) -> None:
    with pytest.raises(DecodingFailed):
        decode("gzip", zlib.compress(b"hello"), size)


BOMB_SIZE = 64 * 2**20
BOMBS = {
    "gzip": gzip.compress(b"\0" * BOMB_SIZE),
    "br": brotli.compress(b"\0" * BOMB_SIZE),
    "zstd": zstd.compress(b"\0" * BOMB_SIZE),
    "br, gzip": gzip.compress(brotli.compress(b"\0" * BOMB_SIZE)),
    "zstd, br": brotli.compress(zstd.compress(b"\0" * BOMB_SIZE)),
    "gzip, zstd": zstd.compress(gzip.compress(b"\0" * BOMB_SIZE)),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_stopped_before_it_is_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coding, "FREE_OUTPUT", 2**20)
    bomb = BOMBS[name]
    assert len(bomb) * 200 < BOMB_SIZE
    tracemalloc.start()
    try:
        with pytest.raises(DecodingFailed, match="^the body decodes to more than 200 times its size$"):
            decode(name, bomb)
        # What one feed holds: the first part, 200 times its slice of the input, and one piece of output.
        assert tracemalloc.get_traced_memory()[1] < 24 * 2**20
    finally:
        tracemalloc.stop()
    for size in (1, 7, 1000):
        with pytest.raises(DecodingFailed, match="more than 200 times"):
            decode(name, bomb, size)
    assert len(decode(name, bomb, ratio=None)) == BOMB_SIZE


@pytest.mark.parametrize("name", ["br", "zstd"])
def test_a_small_bomb_makes_little_before_it_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """106 bytes of br are 64 MiB: one feed of all of them must not hold them."""
    monkeypatch.setattr(coding, "FREE_OUTPUT", 0)
    decoder = decoder_of(name)
    tracemalloc.start()
    try:
        with pytest.raises(DecodingFailed):
            for _ in decoder.feed(BOMBS[name]):
                pass
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd"])
def test_the_limit_of_what_a_body_decodes_to_is_exact(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = b"\0" * 10_000
    encoded = ENCODERS[name](data)
    allowed = len(data) - 2 * len(encoded)
    monkeypatch.setattr(coding, "FREE_OUTPUT", allowed)
    assert decode(name, encoded, ratio=2.0) == data
    monkeypatch.setattr(coding, "FREE_OUTPUT", allowed - 1)
    with pytest.raises(DecodingFailed, match="^the body decodes to more than 2 times its size$"):
        decode(name, encoded, ratio=2.0)


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


# --- br ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rest", [b"g", b"garbage", brotli.compress(b"b"), b"\0" * 9])
def test_what_follows_a_stream_of_brotli_is_judged_alike_however_it_comes(rest: bytes) -> None:
    data = brotli.compress(b"hello" * 10)
    outcomes: set[object] = set()
    for size in (1, 3, len(data) - 1, len(data), len(data) + 1, 10**6):
        try:
            outcomes.add(decode("br", data + rest, size))
        except DecodingFailed:
            outcomes.add(None)
    assert len(outcomes) == 1
    assert outcomes <= {None, b"hello" * 10}


@pytest.mark.parametrize("size", [1, 10, 10**6])
@pytest.mark.parametrize("length", [2**18 - 1, 2**18, 2**18 + 1, 500_000, 1_000_000, 5_000_000])
def test_a_stream_of_brotli_whose_input_ends_long_before_its_output_comes_out_whole(length: int, size: int) -> None:
    """The decoder may have taken all of its input, and still have output to give."""
    assert decode("br", brotli.compress(b"a" * length), size) == b"a" * length


def test_a_large_stream_of_brotli_comes_out_whole() -> None:
    data = random.Random(2).randbytes(300_000) + b"\0" * 3_000_000
    encoded = brotli.compress(data, quality=3)
    for size in (1000, 2**14, 10**9):
        assert decode("br", encoded, size) == data


# --- zstd ----------------------------------------------------------------------------------------------------------

SKIPPABLE = b"\x50\x2a\x4d\x18\x03\0\0\0abc"  # RFC 8878 section 3.1.2
SIZES = [1, 3, 10**6]


def frame(data: bytes, **parameters: int) -> bytes:
    options = {getattr(zstd.CompressionParameter, name): value for name, value in parameters.items()}
    compressor = zstd.ZstdCompressor(options=options)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("encoded", "data"),
    [
        (zstd.compress(b""), b""),
        (zstd.compress(b"a") + zstd.compress(b"b"), b"ab"),
        (zstd.compress(b"") + zstd.compress(b"") + zstd.compress(b"a"), b"a"),
        (SKIPPABLE, b""),
        (SKIPPABLE + zstd.compress(b"a"), b"a"),
        (zstd.compress(b"a") + SKIPPABLE, b"a"),
        (zstd.compress(b"a") + SKIPPABLE + SKIPPABLE + zstd.compress(b"b"), b"ab"),
        (b"\x5f\x2a\x4d\x18\0\0\0\0" + zstd.compress(b"a"), b"a"),  # the last of the 16 magic numbers, empty
        (frame(b"abc" * 99, checksum_flag=1), b"abc" * 99),
        (frame(b"abc" * 99, content_size_flag=0), b"abc" * 99),
        (zstd.compress(b"a") * 50, b"a" * 50),
    ],
    ids=str,
)
def test_frames_of_zstd_follow_one_another(encoded: bytes, data: bytes, size: int) -> None:
    assert decode("zstd", encoded, size) == data


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("rest", [b"garbage", b"\0\0\0\0\0\0\0\0", gzip.compress(b"b")])
def test_what_follows_a_frame_of_zstd_is_another_one_or_an_error(rest: bytes, size: int) -> None:
    with pytest.raises(DecodingFailed, match="not what its Content-Encoding says"):
        decode("zstd", zstd.compress(b"a") + rest, size)


@pytest.mark.parametrize("size", SIZES)
def test_a_second_frame_or_a_skippable_one_that_is_cut_is_truncated(size: int) -> None:
    for second in (zstd.compress(b"b" * 100), SKIPPABLE):
        for cut in range(1, len(second)):
            with pytest.raises(DecodingFailed, match="^the compressed body is truncated$"):
                decode("zstd", zstd.compress(b"a") + second[:cut], size)


def test_a_checksum_of_zstd_is_checked() -> None:
    good = frame(b"hello" * 9, checksum_flag=1)
    with pytest.raises(DecodingFailed):
        decode("zstd", good[:-1] + bytes([good[-1] ^ 1]))


def test_a_window_of_zstd_is_at_most_8_mib() -> None:
    data = b"x" * (17 * 2**20)  # larger than either window, so that the frame names the window
    encoded = frame(data, window_log=23, content_size_flag=0)
    assert decode("zstd", encoded, ratio=None) == data
    with pytest.raises(DecodingFailed, match="too much memory"):
        decode("zstd", frame(data, window_log=24, content_size_flag=0), ratio=None)  # RFC 9659


# --- any bytes -----------------------------------------------------------------------------------------------------


@settings(max_examples=examples(150))
@given(
    st.sampled_from(["gzip", "deflate", "br", "zstd", "br, zstd", "zstd, gzip"]),
    st.binary(max_size=300),
    st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), max_size=3),
    st.integers(0, 400),
    st.binary(max_size=20),
)
def test_damaged_data_gives_its_bytes_or_our_error(
    name: str, data: bytes, damage: list[tuple[int, int]], kept: int, rest: bytes
) -> None:
    encoded = data
    for each in name.split(", "):
        encoded = ENCODERS[each](encoded)
    changed = bytearray(encoded[:kept] + rest)
    for place, byte in damage:
        if changed:
            changed[place % len(changed)] = byte

    def outcome(size: int) -> object:
        try:
            return decode(name, bytes(changed), size)
        except DecodingFailed:
            return None

    assert outcome(1) == outcome(10**9) == outcome(7)


# --- what is not installed -----------------------------------------------------------------------------------------


@pytest.fixture
def loaders(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes modules appear as given, or as not installed (None), and forgets what was found before."""
    cached = (coding._brotli, coding._zstd, coding.accept_encoding)

    def install(**modules: Any) -> None:
        found = {name.replace("__", "."): module for name, module in modules.items()}

        def load(name: str) -> Any:
            if found.get(name) is None:
                raise ModuleNotFoundError(name)
            return found[name]

        monkeypatch.setattr(coding, "import_module", load)
        for function in cached:
            function.cache_clear()

    yield install
    monkeypatch.undo()
    for function in cached:
        function.cache_clear()


def test_what_is_installed_is_asked_for() -> None:
    assert accept_encoding() == "gzip, deflate, br, zstd"


@pytest.mark.parametrize(
    ("modules", "asked"),
    [
        ({}, "gzip, deflate"),
        ({"brotli": brotli}, "gzip, deflate, br"),
        ({"backports__zstd": zstd}, "gzip, deflate, zstd"),
        ({"compression__zstd": zstd}, "gzip, deflate, zstd"),
        ({"brotli": brotli, "backports__zstd": zstd}, "gzip, deflate, br, zstd"),
    ],
    ids=str,
)
def test_what_is_not_installed_is_not_asked_for(
    modules: dict[str, Any], asked: str, loaders: Callable[..., None]
) -> None:
    loaders(**modules)
    assert accept_encoding() == asked
    for name in ("br", "zstd"):
        if name in asked:
            assert decode(name, ENCODERS[name](b"x")) == b"x"
        else:
            with pytest.raises(DecodingFailed, match=f"'{name}' was not asked for and cannot be undone"):
                make_decoder(name, None)


def test_a_brotli_that_cannot_bound_its_output_is_as_good_as_none(loaders: Callable[..., None]) -> None:
    class Old:
        class Decompressor:
            pass

    loaders(brotli=Old)
    assert accept_encoding() == "gzip, deflate"


def test_a_module_is_looked_for_once(loaders: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    loaders()
    assert accept_encoding() == "gzip, deflate"
    monkeypatch.setattr(coding, "import_module", pytest.fail)
    assert accept_encoding() == "gzip, deflate"
    with pytest.raises(DecodingFailed):
        make_decoder("br", None)


# --- compressing ---------------------------------------------------------------------------------------------------


@given(st.sampled_from(["gzip", "zstd"]), st.lists(st.binary(max_size=100), max_size=6))
def test_a_compressor_makes_the_same_bytes_each_time_and_they_decode(name: str, pieces: list[bytes]) -> None:
    made = []
    for _ in range(2):
        compressor = make_compressor(name)
        made.append(b"".join([compressor.compress(piece) for piece in pieces]) + compressor.flush())
    assert made[0] == made[1]
    assert decode(name, made[0]) == b"".join(pieces)


@pytest.mark.parametrize("name", ["gzip", "zstd"])
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_compressor_takes_every_kind_of_piece(name: str, kind: Callable[[bytes], Any]) -> None:
    compressor = make_compressor(name)
    assert decode(name, compressor.compress(kind(b"abc" * 9)) + compressor.flush()) == b"abc" * 9


def test_gzip_has_no_time_in_it() -> None:
    compressor = make_compressor("gzip")
    made = compressor.compress(b"x") + compressor.flush()
    assert made[4:8] == bytes(4)  # RFC 1952 section 2.3.1, MTIME
    assert gzip.decompress(made) == b"x"


@pytest.mark.parametrize("name", ["br", "deflate", "identity", "", "GZIP", "lzma"])
def test_only_two_codings_are_made(name: str) -> None:
    with pytest.raises(ValueError, match="^compress= takes 'gzip' or 'zstd', not "):
        make_compressor(name)


def test_compressing_to_what_is_not_installed_says_what_to_install(loaders: Callable[..., None]) -> None:
    loaders()
    with pytest.raises(ValueError, match=r"needs Python 3\.14, or the package backports\.zstd"):
        make_compressor("zstd")
    assert make_compressor("gzip").flush()
