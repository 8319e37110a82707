"""seaprox for Python, as far as the examples need it: the C library through ctypes.

Where the library is says SEAPROX_LIBRARY, else the loader finds libseaprox.so.0. seaprox.h says what each
function does; here each raises OSError where that gives an errno.
"""

import ctypes
import errno
import os
import traceback
from ctypes import CFUNCTYPE, POINTER, Structure, byref, c_char_p, c_int, c_size_t
from ctypes import c_uint8, c_uint16, c_uint32, c_uint64, c_void_p

ABI_VERSION = 1
ALIGN = 64
ADDRESS_SIZE = 128
REPLY_SIZE = 192
SEAT_BYTES = 832

TARGET_DEFAULT, TARGET_ADDRESS, TARGET_NAME, TARGET_SERVICE = range(4)

REASON_NAME_RESOLUTION = 1
REASON_CONNECTION_REFUSED = 2
REASON_OTHER = 3
REASON_TIMED_OUT = 5
REASON_PROTOCOL = 6


class Options(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("abi_version", c_uint32),
        ("connections", c_uint32),
        ("threads", c_uint32),
        ("when_full", c_uint32),
        ("connect_timeout_millis", c_uint32),
        ("idle_timeout_millis", c_uint32),
        ("half_close_timeout_millis", c_uint32),
        ("socket_buffer_bytes", c_uint32),
        ("pipe_bytes", c_uint64),
        ("name", c_char_p),
    ]


class Target(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("kind", c_uint32),
        ("port", c_uint16),
        ("connection", c_uint32),
        ("host", c_char_p),
        ("source", c_char_p),
    ]


# The user's pointer is not needed here: a callback knows its own.
ON_CONNECT = CFUNCTYPE(None, c_void_p, c_uint64, POINTER(Target))


class Connector(Structure):
    _fields_ = [("size", c_size_t), ("on_connect", ON_CONNECT), ("user", c_void_p)]


class Verdict(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("reply", POINTER(c_uint8)),
        ("reply_size", c_size_t),
        ("consumed", c_size_t),
        ("target_kind", c_uint32),
        ("reason", c_uint32),
        ("port", c_uint16),
        ("host_size", c_uint16),
        ("host", c_uint8 * 256),
    ]

    def say(self, words):
        if len(words) > REPLY_SIZE:
            raise ValueError("a reply is shorter")
        ctypes.memmove(self.reply, words, len(words))
        self.reply_size = len(words)


class More:
    """More must be heard first; the client may be told something meanwhile."""

    def __init__(self, reply=b"", consumed=0):
        self.reply, self.consumed = reply, consumed

    def give(self, verdict):
        verdict.say(self.reply)
        verdict.consumed = self.consumed
        return 0


class Connect:
    """The client wants to be connected to this."""

    def __init__(self, kind, host, port, consumed):
        self.kind, self.host, self.port, self.consumed = kind, host, port, consumed

    def give(self, verdict):
        if len(self.host) > 255:
            raise ValueError("a name is shorter")
        ctypes.memmove(verdict.host, self.host, len(self.host))
        verdict.host_size = len(self.host)
        verdict.target_kind, verdict.port = self.kind, self.port
        verdict.consumed = self.consumed
        return 1


class Reject:
    """The client has no connection."""

    def __init__(self, reason, reply=b""):
        self.reason, self.reply = reason, reply

    def give(self, verdict):
        verdict.say(self.reply)
        verdict.reason = self.reason
        return 2


ON_BYTES = CFUNCTYPE(c_int, c_void_p, c_void_p, POINTER(c_uint8), c_size_t, POINTER(Verdict))
ON_ANSWER = CFUNCTYPE(None, c_void_p, c_void_p, c_uint32, POINTER(Verdict))


class ProxyType(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("seats", c_void_p),
        ("seats_size", c_size_t),
        ("state_size", c_uint32),
        ("timeout_millis", c_uint32),
        ("on_bytes", ON_BYTES),
        ("on_answer", ON_ANSWER),
        ("user", c_void_p),
    ]


_library = ctypes.CDLL(os.environ.get("SEAPROX_LIBRARY", "libseaprox.so.0"))
_library.seaprox_sizeof.restype = c_size_t


def _call(name, *arguments):
    result = getattr(_library, name)(*arguments)
    if result != 0:
        raise OSError(-result, os.strerror(-result), name)


class Proxy:
    """One proxy, and the memory it lives in."""

    def __init__(self, **options):
        # The library has it, and what is added below, for as long as the proxy lives.
        self._kept = []
        self._connections = options["connections"]
        self._handle = c_void_p()
        size = _library.seaprox_sizeof()
        _call(
            "seaprox_init",
            self._lend(size),
            c_size_t(size),
            byref(Options(ctypes.sizeof(Options), ABI_VERSION, **options)),
            byref(self._handle),
        )

    def _lend(self, size):
        """Zeroes; what is not used of them takes no room."""
        memory = ctypes.create_string_buffer(size + ALIGN)
        self._kept.append(memory)
        start = ctypes.addressof(memory)
        return c_void_p(start + -start % ALIGN)

    def listen(self, address):
        _call("seaprox_listen", self._handle, address.encode())

    def listening(self, index=0):
        text = ctypes.create_string_buffer(ADDRESS_SIZE)
        _call("seaprox_listening", self._handle, c_uint32(index), text, c_size_t(ADDRESS_SIZE))
        return text.value.decode()

    def target(self, address):
        _call("seaprox_target", self._handle, address.encode())

    def connector(self, on_connect):
        """on_connect(ticket, target) must not block, and target is gone when it returns."""
        call = ON_CONNECT(lambda _, ticket, target: on_connect(ticket, target.contents))
        self._kept.append(call)
        _call("seaprox_connector", self._handle, byref(Connector(ctypes.sizeof(Connector), call)))

    def proxy_type(self, clients):
        """clients.hear(bytes) gives More, Connect or Reject; clients.answer(reason) gives bytes.

        hear is given all that a client has said and that was not consumed. One that raises loses its
        client.
        """

        def on_bytes(user, state, heard, size, verdict):
            try:
                return clients.hear(ctypes.string_at(heard, size)).give(verdict.contents)
            except Exception:
                traceback.print_exc()
                return Reject(REASON_OTHER).give(verdict.contents)

        def on_answer(user, state, reason, verdict):
            verdict.contents.say(clients.answer(reason))

        calls = ON_BYTES(on_bytes), ON_ANSWER(on_answer)
        self._kept.append(calls)
        size = self._connections * SEAT_BYTES
        proxy_type = ProxyType(ctypes.sizeof(ProxyType), self._lend(size), size, 0, 0, *calls)
        _call("seaprox_proxy_type", self._handle, byref(proxy_type))

    def start(self):
        _call("seaprox_start", self._handle)

    def turn(self, thread=0, timeout_millis=-1):
        """One turn; False when the proxy was told to end, and nothing is left."""
        try:
            _call("seaprox_turn", self._handle, c_uint32(thread), c_int(timeout_millis))
        except OSError as error:
            if error.errno == errno.ESHUTDOWN:
                return False
            raise
        return True

    def complete(self, ticket, fd=-1, reason=0):
        _call("seaprox_complete", self._handle, c_uint64(ticket), c_int(fd), c_uint32(reason))

    def connect(self, ticket, address):
        _call("seaprox_connect", self._handle, c_uint64(ticket), address.encode())

    def drain(self):
        _call("seaprox_drain", self._handle)

    def stop(self):
        _call("seaprox_stop", self._handle)

    def close(self):
        _call("seaprox_close", self._handle)
