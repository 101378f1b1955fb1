import base64
import hashlib
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

count = 0
lock = threading.Lock()
refused = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        global count
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
            return
        with lock:
            count += 1
        try:
            if self.parse_request():
                getattr(self, "do_" + self.command)()
                self.wfile.flush()
        finally:
            with lock:
                count -= 1

    def answer(self, code, text):
        body = text.encode()
        self.send_response(code)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/socket":
            return self.socket()
        if path == "/pieces":
            return self.pieces()
        if path == "/slow":
            time.sleep(float(query))
        self.answer(200, os.environ["VERSION"] + " " + os.environ["HOSTNAME"] + "\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0)).decode()
        headers = {name.lower(): value for name, value in self.headers.items()}
        print(json.dumps({"path": self.path, "at": time.monotonic(), "headers": headers, "body": body}), flush=True)
        key = headers.get("idempotency-key")
        with lock:
            times = refused[key] = refused.get(key, 0) + 1
        if self.path == "/gone":
            self.answer(410, "gone\n")
        elif self.path == "/flaky" and times < 3:
            self.answer(503, "not yet\n")
        else:
            self.answer(200, "taken\n")

    def pieces(self):
        self.send_response(200)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"6\r\nfirst\n\r\n")
        self.wfile.flush()
        time.sleep(3)
        self.wfile.write(b"7\r\nsecond\n\r\n0\r\n\r\n")

    def socket(self):
        magic = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(magic.encode()).digest()).decode()
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", accept)
        self.end_headers()
        self.wfile.flush()
        # One masked frame of text, sent back as it is.
        first, length = self.rfile.read(2)
        mask = self.rfile.read(4)
        text = bytes(byte ^ mask[place % 4] for place, byte in enumerate(self.rfile.read(length & 127)))
        self.wfile.write(bytes([first, len(text)]) + text)
        self.wfile.flush()
        self.close_connection = True


class Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True


def end(*_):
    ending.set()


ending = threading.Event()
signal.signal(signal.SIGTERM, end)
server = Server(("0.0.0.0", int(os.environ["PORT"])), Handler)
threading.Thread(target=server.serve_forever, daemon=True).start()
ending.wait()
server.shutdown()
while count:
    time.sleep(0.01)
sys.exit(0)
