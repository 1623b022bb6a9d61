"""A tiny inference server for the sidecar's tests; standard library alone, so that any Python runs it.

fake_inference_server.py HOST PORT STATE.json: answers as STATE.json says (health, completion: a status, "hang" or
"spin"; busy: a number or null; log: a line to print; exit: a code to end with). It is read anew at each request.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socketserver import ThreadingMixIn

HOST, PORT, STATE = sys.argv[1], int(sys.argv[2]), sys.argv[3]
KEY = os.environ.get("TEST_KEY", "")


def state():
    return dict({"health": 200, "completion": 200, "busy": 0}, **json.loads(Path(STATE).read_text()))


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        now = state()
        if self.path == "/health":
            self.reply(now["health"], "{}")
        elif self.path == "/metrics":
            text = f'fake:running{{engine="0"}} {now["busy"]}\nfake:running{{engine="1"}} 0\nother 7\n'
            self.reply(404 if now["busy"] is None else 200, text)
        elif self.path == "/environment":
            self.reply(200, json.dumps({"env": dict(os.environ), "argv": sys.argv}))

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers["Authorization"] != "Bearer " + KEY:
            self.reply(401, "{}")
        else:
            self.reply(state()["completion"], '{"choices": [{"text": "a"}]}')

    def reply(self, status, text):
        if status == "hang":
            time.sleep(600)
        if status == "spin":
            while True:
                pass
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


class Server(ThreadingMixIn, HTTPServer):
    daemon_threads = True


def watch_for_the_end():
    while True:
        time.sleep(0.2)  # a server at rest must look like one
        if "exit" in state():
            os._exit(state()["exit"])


print("key is", KEY, flush=True)
if "log" in state():
    print(state()["log"], flush=True)
threading.Thread(target=watch_for_the_end, daemon=True).start()
Server((HOST, PORT), Handler).serve_forever()
