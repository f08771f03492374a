"""An SDK for nginx with nchan: publish messages on channels, and read them as events that survive a lost connection.

    apt install nginx-light libnginx-mod-nchan   # and two locations, see NGINX below
    python examples/nchan.py http://127.0.0.1:8080

To be seen here: a stream of events that goes on where it was cut, because each event has an id that the server knows.
"""

from __future__ import annotations

import sys

import anyio
import attrs

from anyio_client import (
    AsyncAPIClient,
    AsyncStream,
    ServerSentEvent,
    Timeout,
    make_request_options,
    omit,
    path_template,
)

NGINX = """
location ~ ^/publish/(.+)$ { nchan_publisher; nchan_channel_id $1; }
location ~ ^/events/(.+)$ {
    nchan_subscriber eventsource; nchan_channel_id $1;
    nchan_subscriber_first_message oldest; nchan_eventsource_ping_interval 5;
}
"""


@attrs.frozen
class Channel:
    messages: int
    subscribers: int
    last_message_id: str


class Events(AsyncStream[ServerSentEvent]):
    """Has no end. If the connection is lost, it is made anew, and the server goes on behind the last event."""

    max_resumes = 10


class Nchan(AsyncAPIClient):
    async def publish(self, channel: str, text: str, *, event: str | None = None) -> Channel:
        """Send *text* to everyone who reads the channel, now or later; *event* is its name."""
        headers = {"Content-Type": "text/plain", **({"X-EventSource-Event": event} if event else {})}
        path = path_template("/publish/{channel}", channel=channel)
        return await self.post(path, content=text, cast_to=Channel, options={"headers": headers})

    async def events(self, channel: str, *, after: str | None = None, ping: float = 5) -> Events:
        """The messages of a channel: all that the server has, or those behind the id *after*; then those to come."""
        headers = {"Last-Event-ID": after or omit}
        # The server pings: three pings that do not come are a lost connection.
        options = make_request_options(extra_headers=headers, timeout=Timeout(10, read=3 * ping))
        path = path_template("/events/{channel}", channel=channel)
        return await self.get(path, cast_to=ServerSentEvent, stream=True, stream_cls=Events, options=options)


async def main(base_url: str) -> None:
    async with Nchan(base_url=base_url) as nchan:
        await nchan.publish("pets", "Ada has come")
        await nchan.publish("pets", "Bo has come", event="arrival")
        async with await nchan.events("pets") as events:
            async for event in events:
                print(event.id, event.event, event.data)
                if event.event == "arrival":
                    break


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
