"""An SDK whose requests are signed by AWS Signature Version 4, and a server that checks the signatures. No network.

    python examples/signing.py

To be seen here: `_prepare_request` signs once per send, since a signature covers the URL: a redirect is signed anew. Nothing
is signed for another origin. What is signed is what stands on the wire, so that the server computes the same.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
from typing import Any
from urllib.parse import parse_qsl, quote

import anyio
import attrs

from anyio_client import ASGITransport, AsyncAPIClient, PermissionDeniedError, Request, path_template

SIGNED = re.compile(r"AWS4-HMAC-SHA256 Credential=([^,]+), SignedHeaders=([^,]+), Signature=([0-9a-f]{64})")


@attrs.frozen
class Signer:
    key_id: str
    secret: str = attrs.field(repr=False)
    region: str = "us-east-1"
    service: str = "pets"

    def canonical(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> str:
        """Everything that the signature covers. ``path`` and ``query`` as on the wire, ``headers`` with lower-case names."""
        pairs = sorted((quote(k, safe="~"), quote(v, safe="~")) for k, v in parse_qsl(query, keep_blank_values=True))
        lines = [f"{name}:{' '.join(value.split())}" for name, value in sorted(headers.items())]
        parts = [
            method,
            path if self.service == "s3" else quote(path, safe="/~"),  # all but S3 encode it once more
            "&".join(f"{name}={value}" for name, value in pairs),
            *lines,
            "",
            ";".join(sorted(headers)),
            hashlib.sha256(body).hexdigest(),
        ]
        return "\n".join(parts)

    def authorization(self, method: str, path: str, query: str, headers: dict[str, str], body: bytes) -> str:
        date = headers["x-amz-date"]
        scope = f"{date[:8]}/{self.region}/{self.service}/aws4_request"
        request = hashlib.sha256(self.canonical(method, path, query, headers, body).encode()).hexdigest()
        key = f"AWS4{self.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.new(key, f"AWS4-HMAC-SHA256\n{date}\n{scope}\n{request}".encode(), "sha256").hexdigest()
        names = ";".join(sorted(headers))
        return f"AWS4-HMAC-SHA256 Credential={self.key_id}/{scope}, SignedHeaders={names}, Signature={signature}"


class Pets(AsyncAPIClient):
    def __init__(self, *, signer: Signer, **options: Any) -> None:
        super().__init__(**options)
        self._signer = signer

    async def _prepare_request(self, request: Request) -> None:
        url = request.url
        if url.origin != self.base_url.origin:
            return  # a redirect has led elsewhere
        body = await request.read()
        request.headers["Host"] = url.netloc
        request.headers["X-Amz-Date"] = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
        request.headers["X-Amz-Content-Sha256"] = hashlib.sha256(body).hexdigest()
        signed = {name: request.headers[name] for name in ("host", "x-amz-content-sha256", "x-amz-date")}
        request.headers["Authorization"] = self._signer.authorization(request.method, url.path, url.query, signed, body)

    async def rename(self, name: str, new_name: str) -> str:
        path = path_template("/pets/{name}", name=name)
        options = {"params": {"reason": "a whim", "at": ["b", "a"]}}
        return await self.put(path, cast_to=str, body={"name": new_name}, options=options)


def make_server(signer: Signer) -> Any:
    """An ASGI application. Takes only what *signer* has signed; ``/pets/...`` redirects to ``/v2/pets/...``."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        path, query = scope["raw_path"].decode(), scope["query_string"].decode()
        given = SIGNED.fullmatch(headers.get("authorization", ""))
        signed = {name: headers[name] for name in given[2].split(";")} if given else {}
        is_good = given is not None and hmac.compare_digest(
            signer.authorization(scope["method"], path, query, signed, body), headers["authorization"]
        )
        print(scope["method"], path, "is signed" if is_good else "is refused")
        fields = []
        if is_good and not path.startswith("/v2"):
            fields.append((b"location", f"/v2{path}?{query}".encode()))
        status = 403 if not is_good else 307 if fields else 200
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body if status == 200 else b"no"})

    return app


async def main(base_url: str = "https://pets.example") -> None:
    server = ASGITransport(make_server(Signer("key-7", "the secret")))
    async with Pets(base_url=base_url, http_client=server, signer=Signer("key-7", "the secret")) as pets:
        print(await pets.rename("Ada Ö.", "Ada"))
    server = ASGITransport(make_server(Signer("key-7", "the secret")))
    async with Pets(base_url=base_url, http_client=server, signer=Signer("key-7", "another")) as pets:
        try:
            await pets.rename("Ada Ö.", "Ada")
        except PermissionDeniedError as error:
            print(error)


if __name__ == "__main__":
    anyio.run(main)
