"""An HTTP proxy that writes down what is asked of the services and what they answer: one line of JSON an exchange.

    record.py PORT FILE

Tokens, passwords and what tells of the machine are left out. Of what is read again and again, the first answer of each state is kept.
"""

import http.client
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

port, file = int(sys.argv[1]), sys.argv[2]
SECRET = {"password": "<PASSWORD>", "adminPass": "<PASSWORD>", "cpu_info": "{}"}
# How an answer travels, which says nothing of what it says.
HOP = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "date"}
seen, lock = set(), threading.Lock()


def parsed(body):
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "replace") or None


def without_secrets(value):
    if isinstance(value, dict):
        return {key: SECRET[key] if key in SECRET and isinstance(item, str) else without_secrets(item) for key, item in value.items()}
    return [without_secrets(item) for item in value] if isinstance(value, list) else value


def states(body):
    """What a client waits for, of the resource or of each in the list: the contract test has the same."""
    if not isinstance(body, dict):
        return frozenset()
    inner = [item for value in body.values() for item in (value if isinstance(value, list) else [value]) if isinstance(item, dict)]
    return frozenset((one.get("status"), one.get("OS-EXT-STS:task_state"), bool(one.get("port_id")))
                     for one in [body, *inner] if isinstance(one.get("status"), str))


def write_down(request, url, body, status, headers, answer):
    answer = without_secrets(parsed(answer))
    kind = (url, status, states(answer))
    kept = {name: value for name, value in request.headers.items() if name.lower() in ("openstack-api-version", "content-type")}
    if "X-Auth-Token" in request.headers:
        kept["X-Auth-Token"] = "<TOKEN>"
    shown = [[name, "<TOKEN>" if name == "X-Subject-Token" else value] for name, value in headers if name.lower() not in HOP]
    exchange = {
        "request": {"method": request.command, "url": url, "headers": kept, "body": without_secrets(parsed(body))},
        "response": {"status": status, "headers": shown, "body": answer},
    }
    with lock:
        if request.command == "GET" and kind in seen:
            return
        seen.add(kind)
        with open(file, "a", encoding="utf-8") as lines:
            lines.write(json.dumps(exchange, separators=(",", ":")) + "\n")


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
            if name.lower() not in HOP:
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
