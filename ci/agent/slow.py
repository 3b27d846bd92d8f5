"""A tab that hardly reads: a raw socket with a tiny receive buffer.

    slow.py PORT PATH < go

Closes stderr once the response has begun. Reads a little, then nothing until its input ends, and then prints all that
the server sent until it ended the stream.
"""
import os
import socket
import sys

port, path = int(sys.argv[1]), sys.argv[2]
tab = socket.socket()
tab.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
tab.settimeout(60)
tab.connect(("127.0.0.1", port))
# HTTP/1.0: the end of the connection is the end of the body.
tab.sendall(f"GET {path} HTTP/1.0\r\nHost: slow\r\n\r\n".encode())
seen = b""
while b"\r\n\r\n" not in seen:
    seen += tab.recv(64)
assert seen.startswith(b"HTTP/1.0 200") or seen.startswith(b"HTTP/1.1 200"), seen
os.close(2)
sys.stdin.read()
while got := tab.recv(65536):
    seen += got
sys.stdout.write(seen.split(b"\r\n\r\n", 1)[1].decode())
