"""An HTTP proxy that writes down what is asked of the services and what they answer: one JSON file an exchange.

    record.py PORT DIRECTORY

Tokens and passwords are left out. Of what is read again and again, the first answer is kept.
"""

import http.client
import json
import pathlib
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

port, directory = int(sys.argv[1]), pathlib.Path(sys.argv[2])
directory.mkdir(parents=True, exist_ok=True)
ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
count = 0
HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "date"}
seen, lock = set(), threading.Lock()


def parsed(body):
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace") or None


def without_secrets(value):
    if isinstance(value, dict):
        return {key: "<PASSWORD>" if key in ("password", "adminPass") and isinstance(item, str) else without_secrets(item)
                for key, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def write_down(request, url, body, status, headers, answer):
    global count
    kind = (url, status)
    with lock:
        if request.command == "GET" and kind in seen:
            return
        seen.add(kind)
        count += 1
        number = count
    kept = {name: value for name, value in request.headers.items() if name.lower() in ("openstack-api-version", "content-type")}
    if "X-Auth-Token" in request.headers:
        kept["X-Auth-Token"] = "<TOKEN>"
    shown = [[name, "<TOKEN>" if name == "X-Subject-Token" else value] for name, value in headers if name.lower() not in HOP]
    exchange = {
        "request": {"method": request.command, "url": url, "headers": kept, "body": without_secrets(parsed(body))},
        "response": {"status": status, "headers": shown, "body": without_secrets(parsed(answer))},
    }
    path = ID.sub("id", urlsplit(url).path)
    name = re.sub(r"[^a-z0-9]+", "-", f"{request.command} {path}".lower()).strip("-")
    (directory / f"{number:03}-{status}-{name}.json").write_text(json.dumps(exchange, separators=(",", ":")) + "\n", encoding="utf-8")


class Proxy(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def forward(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        target = urlsplit(self.path)
        service = http.client.HTTPConnection(target.hostname, target.port, timeout=120)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP}
        service.request(self.command, target.path + (f"?{target.query}" if target.query else ""), body or None, headers)
        answer = service.getresponse()
        content = answer.read()
        write_down(self, self.path, body, answer.status, answer.getheaders(), content)
        self.send_response_only(answer.status, answer.reason)
        for name, value in answer.getheaders():
            if name.lower() not in HOP | {"content-length"}:
                self.send_header(name, value)
        if answer.status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        service.close()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = forward

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", port), Proxy).serve_forever()
