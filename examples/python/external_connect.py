#!/usr/bin/env python3
"""A proxy whose dests are looked up and connected in Python, in a pool of threads.

    external_connect.py LISTEN NAME PORT

The name is looked up anew for each connection; its addresses are tried in order. SIGTERM drains.
"""

import errno
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor

import seaprox

TIMEOUT_SECONDS = 5


def main():
    _, listen, name, port = sys.argv
    proxy = seaprox.Proxy(connections=1000, connect_timeout_millis=2000 * TIMEOUT_SECONDS)
    pool = ThreadPoolExecutor(max_workers=8)

    def connect(ticket):
        """On a thread of the pool: takes as long as it likes."""
        try:
            stream = socket.create_connection((name, int(port)), TIMEOUT_SECONDS)
        except socket.gaierror:
            give_up(ticket, seaprox.REASON_NAME_RESOLUTION)
        except ConnectionRefusedError:
            give_up(ticket, seaprox.REASON_CONNECTION_REFUSED)
        except TimeoutError:
            give_up(ticket, seaprox.REASON_TIMED_OUT)
        except OSError:
            give_up(ticket, seaprox.REASON_OTHER)
        else:
            hand_over(ticket, stream)

    def hand_over(ticket, stream):
        with stream:
            try:
                proxy.complete(ticket, fd=stream.fileno())
            except OSError as error:
                # Nobody waits for it any more, and it is still ours, to be closed.
                if error.errno != errno.ESTALE:
                    raise
            else:
                # The proxy's from now on.
                stream.detach()

    def give_up(ticket, reason):
        try:
            proxy.complete(ticket, reason=reason)
        except OSError as error:
            if error.errno != errno.ESTALE:
                raise

    # On the proxy's thread: never waits.
    proxy.connector(lambda ticket, target: pool.submit(connect, ticket))
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
