import socket
import sys

host, text = sys.argv[1], sys.argv[2].encode()
connection = socket.create_connection((host, 80), timeout=60)
connection.sendall(
    b"GET /socket HTTP/1.1\r\nhost: web\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
    b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
answer = connection.makefile("rb")
status = answer.readline().split()[1].decode()
headers = {}
while line := answer.readline().strip():
    name, _, value = line.decode().partition(": ")
    headers[name.lower()] = value
assert headers.get("sec-websocket-accept") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", headers
mask = b"\1\2\3\4"
masked = bytes(byte ^ mask[place % 4] for place, byte in enumerate(text))
connection.sendall(bytes([0x81, 0x80 | len(text)]) + mask + masked)
first, length = answer.read(2)
print(status, answer.read(length).decode())
