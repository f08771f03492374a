"""The engine room: sockets, TLS, and the drivers of the pool and the wire. anyio lives here."""
