"""What is kept of header compression never changes what is meant: both directions beside hpack's own."""

from __future__ import annotations

import pytest
from hpack import Decoder, Encoder, HeaderTuple, HPACKError, NeverIndexedHeaderTuple
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._wire.compression import (
    MAX_KEPT_BLOCKS,
    MAX_KEPT_FIELDS,
    MAX_TABLE_SIZE,
    BlockDecoder,
    RepeatingEncoder,
)
from anyio_client._wire.frames import ConnectionViolation, ErrorCode
from tests.kit.fuzz import examples

NAMES = st.sampled_from([b":status", b"a", b"b", b"content-type", b"set-cookie"])
VALUES = st.sampled_from([b"", b"200", b"1", b"2", b"x" * 60, b"y" * 200])
FIELDS = st.lists(st.tuples(NAMES, VALUES, st.booleans()), max_size=5)


def tuples(fields: list[tuple[bytes, bytes, bool]]) -> list[HeaderTuple]:
    """Fields, whose names decide as in requests whether they are put into the table."""
    secret = (b"b", b"set-cookie")
    return [(NeverIndexedHeaderTuple if name in secret else HeaderTuple)(name, value) for name, value, _ in fields]


@given(st.lists(st.tuples(st.none() | st.sampled_from([0, 100, 300, 4096]), FIELDS), max_size=12))
@settings(max_examples=examples(200))
def test_any_fields_are_read_as_they_were_given(
    blocks: list[tuple[int | None, list[tuple[bytes, bytes, bool]]]],
) -> None:
    encoder, decoder = RepeatingEncoder(), Decoder()
    for size, fields in blocks:
        given_fields = tuples(fields)
        if size is not None and given_fields and size != encoder.header_table_size:
            encoder.header_table_size = decoder.max_allowed_table_size = size
        decoded = list(decoder.decode(encoder.encode(given_fields), raw=True))
        assert decoded == given_fields
        for field, meant in zip(decoded, given_fields, strict=True):
            assert field.indexable == meant.indexable or not field[1]  # (set-cookie, "") stands in the static table
        assert len(encoder._kept) <= MAX_KEPT_FIELDS


@given(st.lists(st.tuples(st.none() | st.sampled_from([0, 100, 300, 4096]), st.integers(0, 3)), max_size=25), st.data())
@settings(max_examples=examples(200))
def test_any_blocks_mean_what_they_mean_to_hpack(blocks: list[tuple[int | None, int]], draw: st.DataObject) -> None:
    """Few different lists of fields, so that blocks repeat, with entries of the table and without."""
    encoder, plain, repeating = Encoder(), Decoder(), BlockDecoder(65536)
    lists = [draw.draw(FIELDS) for _ in range(4)]
    for size, which in blocks:
        if size is not None:
            encoder.header_table_size = size
        fields = [
            (HeaderTuple if indexed else NeverIndexedHeaderTuple)(name, value) for name, value, indexed in lists[which]
        ]
        data = encoder.encode(fields)
        assert repeating.decode(data) == list(plain.decode(data, raw=True)) == fields
        assert repeating._decoder.header_table.dynamic_entries == plain.header_table.dynamic_entries
        assert len(repeating._kept) <= MAX_KEPT_BLOCKS


@given(st.lists(st.binary(max_size=8) | st.sampled_from([b"\x82", b"\xbe", b"\x40\x01a\x01b", b"\x20"]), max_size=12))
@settings(max_examples=examples(200))
def test_any_bytes_mean_what_they_mean_to_hpack(blocks: list[bytes]) -> None:
    plain, repeating = Decoder(), BlockDecoder(65536)
    for data in blocks:
        try:
            expected = list(plain.decode(data, raw=True))
        except (HPACKError, IndexError):
            with pytest.raises(ConnectionViolation) as caught:
                repeating.decode(data)
            assert caught.value.code is ErrorCode.COMPRESSION_ERROR
            return  # the connection ends
        assert repeating.decode(data) == expected
        assert repeating._decoder.header_table.dynamic_entries == plain.header_table.dynamic_entries
        assert repeating._decoder.header_table_size == plain.header_table_size


def test_a_field_that_is_kept_is_encoded_once() -> None:
    encoder = RepeatingEncoder()
    fields = [HeaderTuple(b"a", b"1"), NeverIndexedHeaderTuple(b"cookie", b"s")]
    encoder.encode(fields)
    second = encoder.encode(fields)
    assert encoder.encode(fields) == second
    assert (b"cookie", b"s") in encoder._kept
    encoder.encode([HeaderTuple(b"b", b"2")])  # the table changes, and with it the places of what stands in it
    decoded = Decoder()
    decoded.decode(Encoder().encode(fields), raw=True)
    decoded.decode(second, raw=True)
    assert encoder.encode(fields) != second


def test_a_list_that_is_too_large_is_refused() -> None:
    block = Encoder().encode([(b"a", b"x" * 1000)])
    assert BlockDecoder(1033).decode(block) == [(b"a", b"x" * 1000)]  # 32 bytes are counted for each field
    with pytest.raises(ConnectionViolation, match="^a header list is larger than 1032 bytes$") as caught:
        BlockDecoder(1032).decode(block)
    assert caught.value.code is ErrorCode.ENHANCE_YOUR_CALM


@pytest.mark.parametrize(
    ("sizes", "updates"),
    [
        ([4096], b""),
        ([MAX_TABLE_SIZE * 16], b""),
        ([2**32 - 1] * 1000, b""),
        ([100], b"\x3f\x45"),
        ([100, 100], b"\x3f\x45"),
        ([0, 4096], b"\x20\x3f\xe1\x1f"),
        ([65536, 100], b"\x3f\x45"),
        ([300, 0, 200, 100], b"\x20\x3f\x45"),
    ],
)
def test_the_least_size_and_the_last_are_announced_once(sizes: list[int], updates: bytes) -> None:
    encoder = RepeatingEncoder()
    for size in sizes:
        encoder.header_table_size = size
    assert encoder.encode([(b":method", b"GET")]) == updates + b"\x82"
    assert encoder.encode([(b":method", b"GET")]) == b"\x82"
    assert encoder.header_table.maxsize == encoder.header_table_size == min(sizes[-1], MAX_TABLE_SIZE)
