"""Digest (RFC 7616): the examples of the RFCs, a verifier that is not ours, and every text that a server may send."""

from __future__ import annotations

import hashlib
import re
import urllib.request

import httpx2
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anyio_client._core.digest import MAX_CHALLENGES, Challenge, DigestChallenge, find_digest, parse_challenges

# RFC 7616 section 3.9.1
NONCE = "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v"
CNONCE = "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ"
OPAQUE = "FQhe/qaU925kfnzjCev0ciny7QMkPqMAFRtzCUYo5tdS"
MUFASA = (
    'Digest realm="http-auth@example.org", qop="auth, auth-int", algorithm={}, '
    f'nonce="{NONCE}", opaque="{OPAQUE}"'
)  # fmt: skip


def challenge_of(*fields: str, has_content: bool = True) -> DigestChallenge:
    found = find_digest(fields, has_content=has_content)
    assert found is not None
    return found


def pairs_of(value: str) -> dict[str, str]:
    """The parameters of an Authorization field, by a parser of our tests; each name once."""
    scheme, _, rest = value.partition(" ")
    assert scheme == "Digest"
    found = re.findall(r'([a-z*]+)=("(?:[^"\\]|\\.)*"|[^",\s]+)(?:, ?|$)', rest)
    assert len({name for name, _ in found}) == len(found)
    assert ", ".join(f"{name}={shown}" for name, shown in found) == rest.replace(",qop", ", qop")
    return dict(found)


def unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1]) if text.startswith('"') else text


# --- the examples of the RFCs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "response"),
    [
        ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
        ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
    ],
)
def test_the_example_of_rfc_7616_section_3_9_1(algorithm: str, response: str) -> None:
    challenge = challenge_of(MUFASA.format(algorithm))
    value = challenge.answer(
        "Mufasa", "Circle of Life", method="GET", target="/dir/index.html", body=b"", cnonce=CNONCE, count=1
    )
    assert pairs_of(value) == {
        "username": '"Mufasa"',
        "realm": '"http-auth@example.org"',
        "uri": '"/dir/index.html"',
        "algorithm": algorithm,
        "nonce": f'"{NONCE}"',
        "nc": "00000001",
        "cnonce": f'"{CNONCE}"',
        "qop": "auth",
        "response": f'"{response}"',
        "opaque": f'"{OPAQUE}"',
    }


def test_the_first_challenge_that_we_know_is_answered() -> None:
    both = (MUFASA.format("SHA-256"), MUFASA.format("MD5"))
    assert challenge_of(*both).algorithm == "SHA-256"
    assert challenge_of(*reversed(both)).algorithm == "MD5"
    assert challenge_of(", ".join(both)).algorithm == "SHA-256"
    assert challenge_of('Basic realm="x"', MUFASA.format("SHA-1"), both[1]).algorithm == "MD5"


def test_the_example_of_rfc_7616_section_3_9_2() -> None:
    """As erratum 4897 corrects it: the RFC's numbers were made with SHA-512 cut short, which is another function."""
    challenge = challenge_of(
        'Digest realm="api@example.org", qop="auth", algorithm=SHA-512-256, '
        'nonce="5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK", '
        'opaque="HRPCssKJSGjCrkzDg8OhwpzCiGPChXYjwrI2QmXDnsOS", charset=UTF-8, userhash=true'
    )
    value = challenge.answer(
        "Jäsøn Doe",
        "Secret, or not?",
        method="GET",
        target="/doe.json",
        body=b"",
        cnonce="NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
        count=1,
    )
    pairs = pairs_of(value)
    assert pairs["userhash"] == "true"
    assert pairs["algorithm"] == "SHA-512-256"
    assert pairs["username"] == '"793263caabb707a56211940d90411ea4a575adeccb7e360aeb624ed06ece9b0b"'
    assert pairs["response"] == '"3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5"'
    assert "username*" not in pairs
    assert value.isascii()


def test_the_example_of_rfc_2617() -> None:
    challenge = challenge_of(
        'Digest realm="testrealm@host.com", qop="auth,auth-int", nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093", '
        'opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    )
    value = challenge.answer(
        "Mufasa", "Circle Of Life", method="GET", target="/dir/index.html", body=b"", cnonce="0a4f113b", count=1
    )
    assert pairs_of(value)["response"] == '"6629fae49393a05397450978507c4ef1"'


def test_without_qop_the_answer_is_that_of_rfc_2069() -> None:
    challenge = challenge_of('Digest realm="r", nonce="n"')
    pairs = pairs_of(challenge.answer("u", "p", method="GET", target="/", body=b"", cnonce="c", count=1))
    a1, a2 = hashlib.md5(b"u:r:p").hexdigest(), hashlib.md5(b"GET:/").hexdigest()
    assert pairs["response"] == '"' + hashlib.md5(f"{a1}:n:{a2}".encode()).hexdigest() + '"'
    assert pairs.keys().isdisjoint({"qop", "nc", "cnonce", "opaque", "userhash"})
    session = challenge_of('Digest realm="r", nonce="n", algorithm=MD5-sess')
    assert (
        pairs_of(session.answer("u", "p", method="GET", target="/", body=b"", cnonce="c", count=1))["cnonce"] == '"c"'
    )


# --- a verifier that is not ours --------------------------------------------------------------------------------------

HASHES = {"MD5": "md5", "SHA-256": "sha256", "SHA-512-256": "sha512_256"}


def is_right(value: str, user: str, password: str, method: str, target: str, body: bytes = b"") -> bool:
    """What a server does with the field (RFC 7616 section 3.4), written down without a look at our code."""
    given = {name: unquoted(shown) for name, shown in pairs_of(value).items()}
    algorithm = given.get("algorithm", "MD5")
    name = HASHES[algorithm.removesuffix("-sess")]

    def h(text: bytes) -> bytes:
        return hashlib.new(name, text).hexdigest().encode()

    realm, nonce, cnonce = (given.get(one, "").encode() for one in ("realm", "nonce", "cnonce"))
    a1 = user.encode() + b":" + realm + b":" + password.encode()
    if algorithm.endswith("-sess"):
        a1 = h(a1) + b":" + nonce + b":" + cnonce
    a2 = method.encode() + b":" + target.encode()
    if given.get("qop") == "auth-int":
        a2 += b":" + h(body)
    middle = b""
    if "qop" in given:
        middle = given["nc"].encode() + b":" + cnonce + b":" + given["qop"].encode() + b":"
    expected = h(h(a1) + b":" + nonce + b":" + middle + h(a2)).decode()
    if given.get("userhash") == "true":
        known = given["username"] == h(user.encode() + b":" + realm).decode()
    elif "username*" in given:
        known = urllib.request.unquote(given["username*"].removeprefix("UTF-8''")) == user
    else:
        known = given["username"] == user
    return known and given["uri"] == target and given["response"] == expected


@pytest.mark.parametrize("algorithm", ["MD5", "SHA-256", "MD5-SESS", "SHA-256-SESS"])
def test_the_verifier_believes_another_client(algorithm: str) -> None:
    """So that it and our code are not wrong together."""
    auth = httpx2.DigestAuth("Mufasa", "Circle of Life")
    flow = auth.auth_flow(httpx2.Request("GET", "http://h/dir/index.html?a=b"))
    request = next(flow)
    header = f'Digest realm="r", nonce="n", qop="auth", opaque="o", algorithm={algorithm}'
    sent = flow.send(httpx2.Response(401, headers={"www-authenticate": header}, request=request))
    value = sent.headers["authorization"].replace("-SESS", "-sess")
    assert is_right(value, "Mufasa", "Circle of Life", "GET", "/dir/index.html?a=b")
    assert not is_right(value, "Mufasa", "Circle Of Life", "GET", "/dir/index.html?a=b")


names = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1)


@given(
    user=names,
    password=st.text(st.characters(exclude_categories=["Cs"])),
    realm=names,
    nonce=names,
    algorithm=st.sampled_from([f"{name}{kind}" for name in HASHES for kind in ("", "-sess")]),
    qop=st.sampled_from([None, "auth", "auth-int", "auth,auth-int", "auth-int , x"]),
    body=st.binary(),
    hashes_user=st.booleans(),
    opaque=st.none() | names,
    count=st.integers(1, 2**32 - 1),
)
@example("Jäsøn Doe", "p", 'a"b\\', "n", "MD5", "auth", b"", False, "", 255)
def test_any_answer_is_believed_and_no_other(
    user: str,
    password: str,
    realm: str,
    nonce: str,
    algorithm: str,
    qop: str | None,
    body: bytes,
    hashes_user: bool,
    opaque: str | None,
    count: int,
) -> None:
    shown = {"realm": realm, "nonce": nonce, "qop": qop, "opaque": opaque}
    text = ", ".join(f"{name}={quoted(value)}" for name, value in shown.items() if value is not None)
    challenge = challenge_of(f"Digest {text}, algorithm={algorithm}, userhash={str(hashes_user).lower()}")
    value = challenge.answer(user, password, method="PUT", target="/a?b", body=body, cnonce="c", count=count)
    assert is_right(value, user, password, "PUT", "/a?b", body)
    assert not is_right(value, user, password + "x", "PUT", "/a?b", body)
    assert not is_right(value, user, password, "POST", "/a?b", body)
    pairs = pairs_of(value)
    assert pairs.get("nc") == (None if qop is None else f"{count:08x}")
    assert pairs.get("qop") == (None if qop is None else "auth-int" if qop.startswith("auth-int") else "auth")
    if pairs.get("qop") == "auth-int":
        assert not is_right(value, user, password, "PUT", "/a?b", body + b"x")
    assert pairs.get("opaque") == (None if opaque is None else quoted(opaque))


# --- challenges -------------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    return '"' + re.sub(r'(["\\])', r"\\\1", text) + '"'


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([], []),
        ([""], []),
        ([" , ,"], []),
        (["Basic"], [("basic", {})]),
        (["BASIC realm=x"], [("basic", {"realm": "x"})]),
        (['Basic realm="x", charset="UTF-8"'], [("basic", {"realm": "x", "charset": "UTF-8"})]),
        # RFC 9110 section 11.6.1
        (
            ['Basic realm="simple", Newauth realm="apps", type=1, title="Login to \\"apps\\""'],
            [("basic", {"realm": "simple"}), ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'})],
        ),
        (["Negotiate, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate oYG2MIGz==, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["NTLM abc/+=, , Digest nonce=n"], [("ntlm", {}), ("digest", {"nonce": "n"})]),
        (["Basic realm=a", "Digest realm=b"], [("basic", {"realm": "a"}), ("digest", {"realm": "b"})]),
        (['Digest  realm = "a" ,\tnonce\t=\tn'], [("digest", {"realm": "a", "nonce": "n"})]),
        (['Digest realm="a,b=c, Basic x", nonce=n'], [("digest", {"realm": "a,b=c, Basic x", "nonce": "n"})]),
        (['Digest realm="a\\\nb"'], [("digest", {"realm": "a\nb"})]),
        (["Digest realm=a, REALM=b"], [("digest", {"realm": "a"})]),
        (['Digest realm=""'], [("digest", {"realm": ""})]),
        (["realm=a, nonce=n"], []),
        (['Digest realm="a'], [("digest", {})]),
        (['Digest nonce=n, realm="a\\"'], [("digest", {"nonce": "n"})]),
        (['Digest nonce=n, realm="a"b, opaque=o'], [("digest", {"nonce": "n"})]),
        (["Digest nonce=n; realm=a"], [("digest", {})]),
        (['"Digest" realm=a'], []),
        (["Digest realm=é"], [("digest", {})]),
        (["A," * 500], [("a", {})] * MAX_CHALLENGES),
    ],
)
def test_challenges_are_read(fields: list[str], found: list[tuple[str, dict[str, str]]]) -> None:
    assert parse_challenges(fields) == [Challenge(*one) for one in found]


GOOD = 'Digest realm="r", nonce="n", qop="auth"'


@pytest.mark.parametrize(
    ("field", "found"),
    [
        (GOOD, DigestChallenge("r", "n", "MD5", "auth")),
        (GOOD.upper(), None),  # "AUTH" is known, but the case of the realm is the server's
        (GOOD.replace("Digest", "dIGEST"), DigestChallenge("r", "n", "MD5", "auth")),
        (f"{GOOD}, algorithm=sha-256-SESS", DigestChallenge("r", "n", "sha-256-SESS", "auth")),
        (f'{GOOD}, algorithm="MD5"', DigestChallenge("r", "n", "MD5", "auth")),
        (f"{GOOD}, opaque=o, userhash=TRUE", DigestChallenge("r", "n", "MD5", "auth", "o", True)),
        (f'{GOOD}, userhash="1", stale=true, domain="/a /b"', DigestChallenge("r", "n", "MD5", "auth")),
        (f"{GOOD}, algorithm=SHA-1", None),
        (f"{GOOD}, algorithm=-sess", None),
        (f"{GOOD}, algorithm=MD5-sess-sess", None),
        (f'{GOOD}, algorithm=""', None),
        ('Digest realm="r", nonce="n"', DigestChallenge("r", "n", "MD5", None)),
        ('Digest realm="r", nonce="n", qop="x, AUTH"', DigestChallenge("r", "n", "MD5", "auth")),
        ('Digest realm="r", nonce="n", qop="x"', None),
        ('Digest realm="r", nonce="n", qop=authentic', None),
        ('Digest realm="r", qop=auth', None),
        ('Digest nonce="n", qop=auth', None),
        (f'{GOOD}, opaque="a\tb"', None),
        (f'{GOOD}, opaque="a\\\rb"', None),
        (f'{GOOD}, opaque="\x7f"', None),
        ('Basic realm="r", nonce="n"', None),
        ("Digest", None),
    ],
)
def test_which_challenge_is_answered(field: str, found: DigestChallenge | None) -> None:
    if field == GOOD.upper():
        found = DigestChallenge("R", "N", "MD5", "auth")
    assert find_digest([field], has_content=True) == found


def test_auth_int_needs_the_body() -> None:
    field = 'Digest realm="r", nonce="n", qop="auth-int"'
    assert challenge_of(field, has_content=True).qop == "auth-int"
    assert find_digest([field], has_content=False) is None
    assert challenge_of(field, GOOD, has_content=False).qop == "auth"
    assert challenge_of(field.replace("auth-int", "auth-int,auth")).qop == "auth"


def test_a_hash_that_this_openssl_lacks_is_not_claimed() -> None:
    known = "sha512_256" in hashlib.algorithms_available
    assert (find_digest([f"{GOOD}, algorithm=SHA-512-256"], has_content=True) is not None) is known


PIECES = st.sampled_from(["Digest", "Basic", " ", ",", "=", '"', "\\", "realm", "nonce", "qop", "auth", "n", "é", "\t"])
texts = st.text() | st.lists(PIECES, max_size=40).map("".join)


@given(st.lists(texts, max_size=4), st.booleans())
def test_any_text_is_read_without_an_error(fields: list[str], has_content: bool) -> None:
    for challenge in parse_challenges(fields):
        assert re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9a-z]+", challenge.scheme)
    found = find_digest(fields, has_content=has_content)
    if found is not None and "".join(fields).isprintable():
        value = found.answer("u", "p", method="GET", target="/", body=b"", cnonce="c", count=1)
        assert re.fullmatch(r"[^\r\n\0]+", value)


tokens = st.from_regex(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", fullmatch=True)
values = st.text(st.characters(exclude_characters="\r\n\0", exclude_categories=["Cs"]))
challenges = st.tuples(tokens, st.dictionaries(tokens.map(str.lower), values, min_size=1, max_size=5))


@given(st.lists(challenges, min_size=1, max_size=4), st.booleans())
def test_every_challenge_that_is_built_is_read_back(given: list[tuple[str, dict[str, str]]], joined: bool) -> None:
    fields = [f"{scheme} " + ",".join(f"{name}={quoted(value)}" for name, value in parameters.items())
              for scheme, parameters in given]  # fmt: skip
    read = parse_challenges([", ".join(fields)] if joined else fields)
    assert read == [Challenge(scheme.lower(), parameters) for scheme, parameters in given]


@pytest.mark.parametrize("text", ['a="' + "\\" * 99999, "a" * 100_000, "a " * 50_000, "a=" * 50_000, '"' * 100_000,
                                  "a" + " " * 99_999 + "x", "Digest a" + "=" * 99_999 + "x"])  # fmt: skip
def test_long_texts_take_linear_time(text: str) -> None:
    """What is quadratic takes minutes here: the suite's own limit ends it."""
    assert len(parse_challenges([text])) <= MAX_CHALLENGES
    assert len(parse_challenges([f"Digest {text}"])) <= MAX_CHALLENGES
