"""What h1_differential.py begins with, written to the folder that is named: plain answers, and hostile ones.

The codecs read by regular expressions, into which a fuzzer does not see: to it ``+5`` and ``5x`` are the same refusal. So
these are never thrown away; tests/fuzz/corpus/h1 has only what was found beside them and reaches something new.
"""

from __future__ import annotations

import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.kit.dialogues import BETWEEN, BODIES, LINES, STATUS

OK = STATUS[0]
LENGTH = OK + LINES[0] + b"\r\n"
CHUNKED = OK + LINES[13] + b"\r\n"
EMPTY = OK + LINES[1] + b"\r\n"


def seeds() -> list[bytes]:
    answers = [
        *(b"0000" + status + LINES[0] + b"\r\nhello" for status in STATUS),
        *(b"0000" + OK + line + b"\r\nhello" for line in LINES),
        *(b"0000" + OK + line + LINES[0] + b"\r\nhello" for line in LINES),
        *(b"0000" + CHUNKED + body for body in BODIES),
        *(b"0000" + CHUNKED + BODIES[4] + body for body in BODIES),
        b"0000" + CHUNKED + b" 5\r\nhello\r\n",
        *(b"000" + seed + CHUNKED + BODIES[3] for seed in (b"1", b"2", b"3", b"4", b"5", b"7", b"9")),
        *(b"00P" + seed + LENGTH + b"hell" for seed in (b"0", b"1", b"2", b"3")),  # the end comes too early
        *(b"20" + body + b"1" + LENGTH + b"hello" for body in (b"1", b"2", b"3", b"5", b"9", b"=", b"B", b"R")),
        *(early + LENGTH + b"hello" for early in (b"2015", b"201;", b"2029")),  # while the request is still being sent
        *(b"0" + fields + b"00" + LENGTH + b"hello" for fields in (b"1", b"2", b"4", b"8", b"@", b"P", b"p")),
        *(method + b"000" + LENGTH for method in (b"1", b"2", b"3", b"4")),
        BETWEEN.join([b"0000" + LENGTH + b"hello", b"0000" + CHUNKED + BODIES[3], b"2010" + EMPTY]),
        BETWEEN.join([b"2051" + LENGTH + b"hello", b"1001" + LENGTH, b"0000" + b"HTTP/1.1 204\r\n\r\n"]),
        BETWEEN.join([b"0000" + LENGTH + b"hello!", b"0000" + EMPTY]),  # a stray byte
        BETWEEN.join([b"0000" + CHUNKED + b"5;a\r\nhello\r\n0\r\nX: y\r\n\r\n", b"0000" + EMPTY]),
        b"0000" + (STATUS[4] + b"\r\n") + LENGTH + b"hello",
        b"0000" + b"HTTP/1.1 100\r\n\r\n" * 101,  # more than MAX_INTERIM_RESPONSES
    ]
    return list(dict.fromkeys(answers))


def main(folder: pathlib.Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        (folder / f"seed-{number:03}").write_bytes(data)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
