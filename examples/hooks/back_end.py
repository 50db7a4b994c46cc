"""Answers the hooks of `stentor serve`: STENTOR_HOOKS_KEY=… python3 back_end.py [port]"""
import hashlib, hmac, http.server, json, os, sys, time

KEY = os.environ["STENTOR_HOOKS_KEY"].encode()

def answer(hook, ask):
    if hook == "connect":
        name = ask["auth"].get("name") if isinstance(ask["auth"], dict) else None
        if not isinstance(name, str) or not 0 < len(name) <= 60:
            return {"error": {"code": "login", "message": "expected auth: {name}"}}
        return {"user": name, "info": {"name": name}, "join": ["chat:*"], "publish": ["chat:*"]}
    if hook == "join":
        return {"data": {"welcome": ask["user"]}}
    if hook == "publish" and ask["args"]:
        return {"args": [{"from": ask["user"], "text": ask["args"][0]}]}
    if hook == "publish":
        return {"error": {"code": "bad_request", "message": "expected a text"}}
    return {"ack": [f"{ask['event']} by {ask['user']}"]}

class Hooks(http.server.BaseHTTPRequestHandler):
    protocol_version, wbufsize = "HTTP/1.1", -1
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"] or 0))
        signed = {"t": "", "v1": ""} | dict(part.partition("=")[::2] for part in self.headers.get("Stentor-Signature", "").split(","))
        expected = hmac.new(KEY, signed["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
        is_valid = hmac.compare_digest(expected.encode(), signed["v1"].encode()) and abs(time.time() - int(signed["t"])) < 300
        text = json.dumps(answer(self.path.split("/")[-1], json.loads(body)) if is_valid else {}).encode()
        self.send_response(200 if is_valid else 401)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8000), Hooks).serve_forever()
