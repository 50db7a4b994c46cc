"""Answers the hooks of `stentor serve`: STENTOR_HOOKS_KEY=… python3 back_end.py [port]"""
import hashlib, hmac, json, os, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = os.environ["STENTOR_HOOKS_KEY"].encode()

def answer(hook, ask):
    if hook == "connect":
        name = (ask["auth"] or {}).get("name")
        if not name:
            return {"error": {"code": "login", "message": "expected auth: {name}"}}
        return {"user": name, "info": {"name": name}, "join": ["chat:*"], "publish": ["chat:*"]}
    if hook == "join":
        return {"data": {"welcome": ask["user"]}}
    if hook == "publish":
        return {"args": [{"from": ask["user"], "text": ask["args"][0]}]}
    return {"ack": [f"{ask['event']} by {ask['user']}"]}

class Hooks(BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        signed = dict(part.split("=", 1) for part in self.headers["Stentor-Signature"].split(","))
        expected = hmac.new(KEY, signed["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
        is_valid = hmac.compare_digest(expected, signed["v1"]) and abs(time.time() - int(signed["t"])) < 300
        text = json.dumps(answer(self.path.split("/")[-1], json.loads(body)) if is_valid else {}).encode()
        self.send_response(200 if is_valid else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8000), Hooks).serve_forever()
