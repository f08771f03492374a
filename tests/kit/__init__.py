"""The test kit: scripted peers over real sockets, leak counters, and cancellation at every checkpoint.

It uses nothing private of the client, so that it can become public as ``anyio_client.testing``.
"""
