#!/usr/bin/env python3
"""A web server that can be replaced while it serves, standard library only.

It takes its listening sockets from the supervisor (LISTEN_FDS) and reports when it
is ready (NOTIFY_SOCKET). On SIGTERM it stops accepting, answers what it has
accepted, and exits. Started by hand, it binds 127.0.0.1:8080 itself.

The sockets are non-blocking. That is a property of the socket, not of a process, so
all processes that share it must agree. serve_forever works with such a socket,
because it waits for a connection before it accepts one. A server that calls accept()
and expects it to wait needs `non_blocking = false` in the [socket.*] section.
"""

import os
import signal
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

VERSION = "1"
FIRST = 3  # sd_listen_fds(3): inherited sockets begin here


def notify(state):
    """sd_notify(3): report to the supervisor, if there is one."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.sendto(state.encode(), "\0" + path[1:] if path[0] == "@" else path)


def listeners():
    """sd_listen_fds(3): the sockets we were passed, or one of our own."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return [socket.create_server(("127.0.0.1", 8080))]
    return [socket.socket(fileno=FIRST + i) for i in range(int(os.environ["LISTEN_FDS"]))]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        body = f"hello from python version {VERSION}, pid {os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # server_close waits until every request is answered

    def __init__(self, listener):
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()  # made by the base class
        self.socket = listener


def main():
    servers = [Server(s) for s in listeners()]
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.1,)).start()
    notify("READY=1")
    print(f"version {VERSION} is ready, pid {os.getpid()}", flush=True)

    stop.wait()
    notify("STOPPING=1")
    for server in servers:
        server.shutdown()
        server.server_close()
    print(f"version {VERSION} has stopped, pid {os.getpid()}", flush=True)


if __name__ == "__main__":
    main()
