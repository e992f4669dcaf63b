"""Connections whose clients take their time, or do not stop talking, are given up."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD = 65536
"""Bytes of a request line and its headers, up to what arrives at once."""


class BoundedProtocol(HttpToolsProtocol):
    """HTTP whose heads have a size and a time.

    uvicorn bounds neither with httptools: a head that never ends would be kept for ever, and one
    that comes byte by byte would hold its connection, before anybody has looked for a key. Bodies
    are bounded where they are read.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes: int | None = 0
        """What has come of a head; None while a body does."""
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first head."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, unless its head is too large."""
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if not self._head_bytes:
            return
        if self._head_bytes > MOST_HEAD:
            self._stop_waiting()
            self.send_400_response(f"The head of a request must have at most {MOST_HEAD} bytes.")
        elif self._head_timer is None:
            self._wait_for_head()

    def on_headers_complete(self) -> None:
        """Wait no more: the head is there."""
        self._stop_waiting()
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Count the bytes of the next head."""
        self._head_bytes = 0
        super().on_message_complete()

    def _wait_for_head(self) -> None:
        self._head_timer = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None
