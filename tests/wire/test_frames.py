"""Frames of HTTP/2 cut out of bytes: where each ends, what a header alone shows, any split."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anyio_client._wire.frames import MAX_FRAME_SIZE, ConnectionViolation, ErrorCode, Frame, FrameReader, error_name
from tests.kit import frames
from tests.kit.fuzz import examples

START = frames.settings()


def read(*pieces: bytes) -> list[Frame]:
    reader = FrameReader()
    return [frame for piece in pieces for frame in reader.feed(piece)]


def refused(data: bytes) -> tuple[ErrorCode, str]:
    """How *data* is refused after a good start; the frames before are given first."""
    reader = FrameReader()
    assert len(list(reader.feed(START))) == 1
    with pytest.raises(ConnectionViolation) as info:
        list(reader.feed(data))
    return info.value.code, info.value.reason


# --- cutting -----------------------------------------------------------------------------------------------------


def test_the_limit_is_the_least_that_everybody_takes() -> None:
    assert MAX_FRAME_SIZE == 16384


def test_a_frame_and_its_parts() -> None:
    raw = frames.data(5, b"abc", end=True)
    (_, frame) = read(START + raw)
    assert frame == Frame(frames.DATA, frames.END_STREAM, 5, b"abc")
    assert (frame.raw, frame.name, frame.data()) == (raw, "DATA", b"abc")


def test_frames_are_cut_apart() -> None:
    pieces = [START, frames.ping(), frames.data(1), frames.window(0, 7), frames.data(1, b"x" * 100)]
    assert [frame.raw for frame in read(b"".join(pieces))] == pieces


def test_a_frame_may_come_byte_by_byte() -> None:
    data = START + frames.data(1, b"abc") + frames.ping()
    assert read(*(data[i : i + 1] for i in range(len(data)))) == read(data)


def test_half_a_frame_waits_for_the_rest() -> None:
    raw = frames.data(1, b"abcdef")
    for cut in range(1, len(raw)):
        reader = FrameReader()
        assert len(list(reader.feed(START + raw[:cut]))) == 1
        assert [frame.raw for frame in reader.feed(raw[cut:])] == [raw]


def test_the_reserved_bit_of_a_stream_is_no_part_of_its_number() -> None:
    (_, frame) = read(START + frames.raw(frames.DATA, 0, 2**31 + 3))
    assert frame.stream == 3


def test_an_unknown_type_is_a_frame_too() -> None:
    (_, frame) = read(START + frames.raw(0xFA, 0xFF, 9, b"?"))
    assert (frame.type, frame.flags, frame.stream, frame.payload, frame.name) == (0xFA, 0xFF, 9, b"?", "0xfa")


def test_the_highest_bit_is_no_part_of_a_number() -> None:
    (_, frame) = read(START + frames.goaway(2**31 + 5, 0xFFFF_FFFF))
    assert (frame.number(), frame.number(4)) == (5, 2**31 - 1)


def test_whose_frame_has_begun_to_come() -> None:
    reader = FrameReader()
    assert reader.partial == 0
    for raw, stream in [
        (START, 0),
        (frames.data(5, b"abc"), 5),
        (frames.ping(), 0),
        (frames.headers(2**31 - 1, b"x", end_headers=False), 2**31 - 1),
    ]:
        list(reader.feed(raw[:8]))
        assert reader.partial == 0
        list(reader.feed(raw[8:-1]))
        assert reader.partial == stream
        assert len(list(reader.feed(raw[-1:]))) == 1
    assert reader.partial == 2**31 - 1  # the header block
    list(reader.feed(frames.continuation(2**31 - 1, b"")))
    assert reader.partial == 0


# --- padding -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("content", "pad"), [(b"", 0), (b"", 255), (b"abc", 0), (b"abc", 1), (b"a", 200)])
def test_padding_is_no_data(content: bytes, pad: int) -> None:
    (_, frame) = read(START + frames.data(1, content, pad=pad))
    assert frame.data() == content


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x04abc", b"\xff" + bytes(254)])
def test_padding_that_is_longer_than_the_frame_is_refused(payload: bytes) -> None:
    (_, frame) = read(START + frames.raw(frames.DATA, frames.PADDED, 1, payload))
    with pytest.raises(ConnectionViolation, match="^a frame's padding is longer than the frame$") as info:
        frame.data()
    assert info.value.code == ErrorCode.PROTOCOL_ERROR


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        frames.ping(),
        frames.settings(ack=True),
        frames.raw(0xFA, 0, 0),
        frames.goaway(0),
        frames.raw(frames.DATA, 0, 1, bytes(20_000)),
    ],
    ids=["HTTP/1.1", "PING", "ACK", "unknown", "GOAWAY", "too large"],
)
def test_a_connection_begins_with_settings(data: bytes) -> None:
    with pytest.raises(ConnectionViolation, match="SETTINGS; perhaps it speaks HTTP/1.1 only$") as info:
        read(data)
    assert info.value.code == ErrorCode.PROTOCOL_ERROR


def test_a_frame_may_be_so_large_and_no_larger() -> None:
    assert len(read(START + frames.data(1, bytes(MAX_FRAME_SIZE)))) == 2
    assert refused(frames.data(1, bytes(MAX_FRAME_SIZE + 1))) == (
        ErrorCode.FRAME_SIZE_ERROR,
        "a frame of 16385 bytes is too large",
    )


def test_a_frame_that_is_too_large_is_refused_before_it_has_come() -> None:
    assert refused(frames.raw(0xFA, 0, 0, bytes(MAX_FRAME_SIZE + 1))[:9])[0] == ErrorCode.FRAME_SIZE_ERROR


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (frames.PRIORITY, [0, 4, 6]),
        (frames.RST_STREAM, [0, 3, 5]),
        (frames.PING, [0, 7, 9]),
        (frames.WINDOW_UPDATE, [0, 3, 5]),
        (frames.SETTINGS, [1, 5, 7]),
        (frames.GOAWAY, [0, 7]),
    ],
)
def test_frames_of_a_wrong_size_are_refused(kind: int, sizes: list[int]) -> None:
    stream = 1 if kind in (frames.PRIORITY, frames.RST_STREAM) else 0
    for size in sizes:
        code, reason = refused(frames.raw(kind, 0, stream, bytes(size)))
        assert code == ErrorCode.FRAME_SIZE_ERROR
        assert reason.endswith(f" frame of {size} bytes")


def test_an_acknowledgement_of_settings_carries_none() -> None:
    assert refused(frames.raw(frames.SETTINGS, frames.ACK, 0, bytes(6))) == (
        ErrorCode.FRAME_SIZE_ERROR,
        "a SETTINGS frame of 6 bytes",
    )


@pytest.mark.parametrize(
    ("kind", "size"),
    [(frames.DATA, 0), (frames.HEADERS, 0), (frames.PRIORITY, 5), (frames.RST_STREAM, 4), (frames.PUSH_PROMISE, 4)],
)
def test_frames_of_a_stream_need_one(kind: int, size: int) -> None:
    code, reason = refused(frames.raw(kind, 0, 0, bytes(size)))
    assert code == ErrorCode.PROTOCOL_ERROR
    assert reason.endswith(" frame for stream 0")


@pytest.mark.parametrize(("kind", "size"), [(frames.SETTINGS, 0), (frames.PING, 8), (frames.GOAWAY, 8)])
def test_frames_of_the_connection_have_no_stream(kind: int, size: int) -> None:
    code, reason = refused(frames.raw(kind, 0, 3, bytes(size)))
    assert code == ErrorCode.PROTOCOL_ERROR
    assert reason.endswith(" frame for stream 3")


@pytest.mark.parametrize(
    "other",
    [
        frames.data(1),
        frames.headers(1, b""),
        frames.continuation(3, b""),
        frames.ping(),
        frames.priority(1),
        frames.window(1, 1),
        frames.raw(0xFA, 0, 1),
    ],
    ids=["DATA", "HEADERS", "another stream's", "PING", "PRIORITY", "WINDOW_UPDATE", "unknown"],
)
def test_nothing_interrupts_a_header_block(other: bytes) -> None:
    for begin in (b"", frames.continuation(1, b"", end_headers=False)):
        code, reason = refused(frames.headers(1, b"", end_headers=False) + begin + other)
        assert (code, reason) == (ErrorCode.PROTOCOL_ERROR, "a header block was interrupted by another frame")


def test_a_header_block_of_several_frames() -> None:
    block = [
        frames.headers(1, b"", end_headers=False),
        frames.continuation(1, b"", end_headers=False),
        frames.continuation(1, b""),
        frames.ping(),
    ]
    assert [frame.raw for frame in read(START, *block)][1:] == block


@pytest.mark.parametrize("before", [b"", frames.headers(1, b""), frames.continuation(1, b"")])
def test_a_continuation_continues_something(before: bytes) -> None:
    if before.startswith(frames.continuation(1, b"")):
        before = frames.headers(1, b"", end_headers=False) + before
    assert refused(before + frames.continuation(1, b"")) == (
        ErrorCode.PROTOCOL_ERROR,
        "a CONTINUATION frame continues nothing",
    )


def test_the_frames_before_a_violation_are_given() -> None:
    found, reason = outcome([START + frames.ping() + frames.data(0) + frames.ping()])
    assert [frame.type for frame in found] == [frames.SETTINGS, frames.PING]
    assert reason == "a DATA frame for stream 0"


def test_error_codes_have_names() -> None:
    assert error_name(0x7) == "REFUSED_STREAM"
    assert error_name(0xBAD) == "error code 0xbad"


# --- any bytes ---------------------------------------------------------------------------------------------------

SMALL = st.binary(max_size=9)
FRAMES = st.one_of(
    st.builds(
        frames.raw, st.integers(0, 11), st.sampled_from([0, 1, 4, 5, 8, 0xFF]), st.sampled_from([0, 1, 3, 2**31]), SMALL
    ),
    st.builds(frames.ping),
    st.builds(frames.headers, st.sampled_from([1, 3]), SMALL, end_headers=st.booleans()),
    st.builds(frames.continuation, st.sampled_from([1, 3]), SMALL, end_headers=st.booleans()),
    st.builds(frames.data, st.sampled_from([1, 3]), SMALL, pad=st.none() | st.integers(0, 9)),
    st.binary(max_size=12),
)


def outcome(pieces: list[bytes]) -> tuple[list[Frame], str | None]:
    """The frames of these pieces, and why no more came."""
    reader = FrameReader()
    found: list[Frame] = []
    try:
        for piece in pieces:
            for frame in reader.feed(piece):
                found.append(frame)  # noqa: PERF402
    except ConnectionViolation as exc:
        return found, exc.reason
    return found, None


@given(st.booleans(), st.lists(FRAMES, max_size=8).map(b"".join), st.data())
@settings(max_examples=examples(300))
def test_any_bytes_in_any_split_are_the_same_frames(start: bool, data: bytes, draw: st.DataObject) -> None:
    if start:
        data = START + data
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(data)), max_size=8)))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    whole, reason = outcome([data])
    assert outcome(pieces) == (whole, reason)
    rest = data
    for frame in whole:
        given_frame, rest = rest[: len(frame.raw)], rest[len(frame.raw) :]
        assert frame.raw == given_frame[:5] + bytes([given_frame[5] & 0x7F]) + given_frame[6:]  # but the reserved bit
    if reason is None:
        assert len(rest) < 9 or len(rest) < 9 + int.from_bytes(rest[:3], "big")


@given(st.lists(st.binary(max_size=40), max_size=6))
@settings(max_examples=examples(150))
def test_any_payloads_come_back_as_they_were_framed(payloads: list[bytes]) -> None:
    raws = [START, *(frames.data(1, payload) for payload in payloads)]
    assert [frame.payload for frame in read(b"".join(raws))] == [b"", *payloads]
