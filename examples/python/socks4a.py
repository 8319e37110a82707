#!/usr/bin/env python3
"""A SOCKS 4a proxy in Python: the bytes are read here, the connecting is done in a pool of threads.

    socks4a.py LISTEN

(https://www.openssh.com/txt/socks4a.protocol.) SIGTERM drains.
"""

import errno
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import seaprox

VERSION, CONNECT, GRANTED, REJECTED = 4, 1, 90, 91


def reply(code):
    return bytes([0, code]) + bytes(6)


class Socks4a:
    """What a client says: version, command, port, address, user's name and a zero; if the address
    is 0.0.0.x, the host's name and a zero."""

    def hear(self, heard):
        if heard and heard[0] != VERSION:
            return seaprox.Reject(seaprox.REASON_PROTOCOL)
        if len(heard) < 9 or 0 not in heard[8:]:
            return seaprox.More()
        if heard[1] != CONNECT:
            return seaprox.Reject(seaprox.REASON_PROTOCOL, reply(REJECTED))
        port, address, end = int.from_bytes(heard[2:4], "big"), heard[4:8], heard.index(0, 8) + 1
        if address[:3] != bytes(3) or address[3] == 0:
            host = socket.inet_ntoa(address)
            return seaprox.Connect(seaprox.TARGET_ADDRESS, host.encode(), port, consumed=end)
        if 0 not in heard[end:]:
            return seaprox.More()
        host, end = heard[end : heard.index(0, end)], heard.index(0, end) + 1
        return seaprox.Connect(seaprox.TARGET_NAME, host, port, consumed=end)

    def answer(self, reason):
        return reply(GRANTED if reason == 0 else REJECTED)


def main():
    _, listen = sys.argv
    proxy = seaprox.Proxy(connections=1000, name=b"socks4a")
    pool = ThreadPoolExecutor(max_workers=8)

    def connect(ticket, host, port):
        try:
            # Looked up here, connected by the proxy.
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            host, port = found[0][4][:2]
            proxy.connect(ticket, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
        except (socket.gaierror, UnicodeError):
            give_up(ticket, seaprox.REASON_NAME_RESOLUTION)
        except OSError as error:
            if error.errno != errno.ESTALE:
                give_up(ticket, seaprox.REASON_OTHER)

    def give_up(ticket, reason):
        try:
            proxy.complete(ticket, reason=reason)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise

    def on_connect(ticket, target):
        pool.submit(connect, ticket, target.host.decode("ascii", "replace"), target.port)

    proxy.proxy_type(Socks4a())
    proxy.connector(on_connect)
    proxy.listen(listen)
    proxy.start()
    for name_of_signal in signal.SIGTERM, signal.SIGINT:
        signal.signal(name_of_signal, lambda *_: proxy.drain())
    print("listening", proxy.listening(), flush=True)
    # Python looks at signals between two turns.
    while proxy.turn(timeout_millis=1000):
        pass
    pool.shutdown()
    proxy.close()


if __name__ == "__main__":
    main()
