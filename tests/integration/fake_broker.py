"""A broker that lies: it speaks enough AMQP 0-9-1 to be published to, and confirms as it is told to, true or not.

It keeps nothing and delivers nothing. A real broker can't be made to lose or doubt a message just when a test wants it.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from amqp.basic_message import Message

_METHOD, _HEADER, _BODY = 1, 2, 3
_FRAME = struct.Struct(">BHI")
_FRAME_END = b"\xce"
# (class, method) of AMQP 0-9-1.
_START, _START_OK, _TUNE = (10, 10), (10, 11), (10, 30)
_OPEN, _OPEN_OK, _CLOSE, _CLOSE_OK, _BLOCKED, _UNBLOCKED = (10, 40), (10, 41), (10, 50), (10, 51), (10, 60), (10, 61)
_CHANNEL_OPEN, _CHANNEL_OPEN_OK, _CHANNEL_CLOSE, _CHANNEL_CLOSE_OK = (20, 10), (20, 11), (20, 40), (20, 41)
_QUEUE_DECLARE, _QUEUE_DECLARE_OK = (50, 10), (50, 11)
_PUBLISH, _RETURN, _ACK, _NACK = (60, 40), (60, 50), (60, 80), (60, 120)
_CONFIRM_SELECT, _CONFIRM_SELECT_OK = (85, 10), (85, 11)


@dataclass
class Published:
    """A message that has arrived, and the means to answer its publisher."""

    connection: int
    tag: int
    channel: int
    routing_key: str
    mandatory: bool
    send: Callable[[bytes], None]
    frames: list[bytes] = field(default_factory=list)

    def ack(self, *, tag: int | None = None, multiple: bool = False) -> None:
        """Confirm the message, or whatever ``tag`` says."""
        arguments = struct.pack(">QB", self.tag if tag is None else tag, multiple)
        self.send(_method(self.channel, _ACK, arguments))

    def nack(self) -> None:
        """Say that the message could not be taken care of."""
        self.send(_method(self.channel, _NACK, struct.pack(">QB", self.tag, 0)))

    def bounce(self) -> None:
        """Give the message back, since no queue takes it; the confirmation still has to follow."""
        arguments = struct.pack(">H", 312) + _short("NO_ROUTE") + _short("") + _short(self.routing_key)
        self.send(_method(self.channel, _RETURN, arguments) + b"".join(self.frames))

    def drop_connection(self) -> None:
        """End the connection without a word."""
        raise ConnectionAbortedError

    @property
    def message_id(self) -> str:
        """The id that its publisher gave it."""
        message: Any = Message()  # the type stubs know half of it
        message.inbound_header(self.frames[0][_FRAME.size : -1])
        return str(message.properties["message_id"])


Policy = Callable[[Published], None]


class FakeBroker:
    """Listens on a port of its own; ``policy`` is called with each message that arrives.

    All of its queues exist, whatever their names.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.published: list[Published] = []
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._sends: list[Callable[[bytes], None]] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"amqp://guest:guest@127.0.0.1:{self._listener.getsockname()[1]}//"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # What blocks in accept or recv is not woken by close alone.
        for opened in [self._listener, *self._open]:
            with contextlib.suppress(OSError):
                opened.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listener.close()

    def block(self) -> None:
        """Tell all publishers to hold back, as a broker short of memory does."""
        self._tell_all(_BLOCKED, _short("low on memory"))

    def unblock(self) -> None:
        """Tell all publishers to go on."""
        self._tell_all(_UNBLOCKED)

    def _tell_all(self, method: tuple[int, int], arguments: bytes = b"") -> None:
        for send in self._sends:
            with contextlib.suppress(OSError):
                send(_method(0, method, arguments))

    def _start(self, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=target, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                self._open.append(connection)
                self.connections += 1
                number = self.connections
                self._start(lambda connection=connection, number=number: self._serve(connection, number))  # type: ignore[misc]

    def _serve(self, connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError, EOFError), connection:
            _Session(self, connection, number).run()

    def register(self, send: Callable[[bytes], None]) -> None:
        """Note how to speak to a publisher."""
        self._sends.append(send)

    def take(self, message: Published) -> None:
        """A whole message has arrived."""
        self.published.append(message)
        self.policy(message)


class _Session:
    def __init__(self, broker: FakeBroker, connection: socket.socket, number: int) -> None:
        self._broker = broker
        self._number = number
        self._socket = connection
        self._stream = connection.makefile("rb")
        self._lock = threading.Lock()
        self._tag = 0
        self._arriving: Published | None = None
        self._missing = 0

    def run(self) -> None:
        with self._stream:
            self._read(8)  # the protocol's name and version
            self._send(_method(0, _START, b"\x00\x09" + struct.pack(">I", 0) + _long("PLAIN") + _long("en_US")))
            while True:
                kind, channel, size = _FRAME.unpack(self._read(_FRAME.size))
                payload = self._read(size)
                self._read(1)
                if kind == _METHOD:
                    self._on_method(channel, payload)
                elif kind in (_HEADER, _BODY):
                    self._on_content(kind, channel, payload)

    def _read(self, size: int) -> bytes:
        data = self._stream.read(size)
        if len(data) < size:
            raise EOFError
        return data

    def _send(self, data: bytes) -> None:
        with self._lock:
            self._socket.sendall(data)

    def _on_method(self, channel: int, payload: bytes) -> None:
        called: tuple[int, int] = struct.unpack(">HH", payload[:4])
        arguments = payload[4:]
        if called == _PUBLISH:
            self._on_publish(channel, arguments)
        elif called == _CLOSE:
            self._send(_method(0, _CLOSE_OK))
            raise EOFError
        elif called == _QUEUE_DECLARE:
            name = arguments[2 : 3 + arguments[2]]
            self._send(_method(channel, _QUEUE_DECLARE_OK, name + struct.pack(">II", 0, 0)))
        elif called in _ANSWERS:
            answer, with_arguments = _ANSWERS[called]
            self._send(_method(channel, answer, with_arguments))
            if called == _OPEN:
                self._broker.register(self._send)

    def _on_publish(self, channel: int, arguments: bytes) -> None:
        self._tag += 1
        exchange_size = arguments[2]
        rest = arguments[3 + exchange_size :]
        key, flags = rest[1 : 1 + rest[0]].decode(), rest[1 + rest[0]]
        self._arriving = Published(self._number, self._tag, channel, key, bool(flags & 1), self._send)

    def _on_content(self, kind: int, channel: int, payload: bytes) -> None:
        message = self._arriving
        assert message is not None
        message.frames.append(_frame(kind, channel, payload))
        if kind == _HEADER:
            (self._missing,) = struct.unpack(">Q", payload[4:12])
        else:
            self._missing -= len(payload)
        if self._missing == 0:
            self._arriving = None
            self._broker.take(message)


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel, len(payload)) + payload + _FRAME_END


def _method(channel: int, method: tuple[int, int], arguments: bytes = b"") -> bytes:
    return _frame(_METHOD, channel, struct.pack(">HH", *method) + arguments)


def _short(text: str) -> bytes:
    return bytes([len(text)]) + text.encode()


def _long(text: str) -> bytes:
    return struct.pack(">I", len(text)) + text.encode()


_ANSWERS: dict[tuple[int, int], tuple[tuple[int, int], bytes]] = {
    _START_OK: (_TUNE, struct.pack(">HIH", 2047, 131_072, 0)),
    _OPEN: (_OPEN_OK, b"\x00"),
    _CHANNEL_OPEN: (_CHANNEL_OPEN_OK, struct.pack(">I", 0)),
    _CHANNEL_CLOSE: (_CHANNEL_CLOSE_OK, b""),
    _CONFIRM_SELECT: (_CONFIRM_SELECT_OK, b""),
}
