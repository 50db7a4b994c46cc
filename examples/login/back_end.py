"""The back end of a chat with login, with `stentor serve`: python3 back_end.py [port]. docs/security.md starts both."""
import base64, hashlib, hmac, json, os, secrets, sys, time
from http.cookies import SimpleCookie
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

TOKEN_KEY, HOOKS_KEY = (os.environ[name].encode() for name in ("STENTOR_TOKEN_HMAC_KEY", "STENTOR_HOOKS_KEY"))
PAGE = Path(__file__).with_name("index.html").read_bytes()
SALT = secrets.token_bytes(16)

def digest(password):
    return hashlib.scrypt(str(password).encode(), salt=SALT, n=2**14, r=8, p=1)

USERS = {"ada": digest("analytical"), "bob": digest("builder")}
ROOMS = {"ada": ["chat:*"], "bob": ["chat:lobby"]}
SESSIONS = {}  # A cookie stands for a user. Restarting this program logs everyone out.

def token(user):
    claims = {"sub": user, "exp": int(time.time()) + 600, "info": {"name": user.title()},
              "stentor": {"rooms": ["chat:lobby"], "join": ROOMS[user], "publish": ROOMS[user] + ["user:*"]}}
    part = lambda value: base64.urlsafe_b64encode(value).rstrip(b"=")
    message = b".".join(part(json.dumps(each).encode()) for each in ({"alg": "HS256", "typ": "JWT"}, claims))
    return message + b"." + part(hmac.digest(TOKEN_KEY, message, "sha256"))

def is_from_stentor(header, body):
    signed = dict(part.partition("=")[::2] for part in header.split(","))
    expected = hmac.new(HOOKS_KEY, signed.get("t", "").encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected, signed.get("v1", "")) and abs(time.time() - int(signed["t"])) < 300

def on_publish(ask):
    text = ask["args"][0] if ask["args"] else None
    if ask["event"] != "message" or not isinstance(text, str) or not 0 < len(text) <= 500:
        return {"error": {"code": "forbidden", "message": "a message has 1 to 500 characters"}}
    return {"args": [{"from": ask["user"], "text": text}]}  # The sender cannot name itself.

class BackEnd(BaseHTTPRequestHandler):
    def do_GET(self):
        cookie = SimpleCookie(self.headers.get("Cookie", "")).get("session")
        user = SESSIONS.get(cookie.value) if cookie else None
        if self.path == "/token":
            return self.answer(200, token(user)) if user else self.answer(401, b"log in first")
        return self.answer(200, PAGE, "text/html; charset=utf-8") if self.path == "/" else self.answer(404, b"")

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 1 << 20))
        if self.path == "/hooks/publish" and is_from_stentor(self.headers.get("Stentor-Signature", ""), body):
            return self.answer(200, json.dumps(on_publish(json.loads(body))).encode(), "application/json")
        form = json.loads(body) if self.path == "/login" else {}
        if not hmac.compare_digest(digest(form.get("password")), USERS.get(form.get("name"), bytes(64))):
            return self.answer(401, b"name or password is wrong")
        SESSIONS[session := secrets.token_urlsafe()] = form["name"]
        return self.answer(200, b"", "text/plain", f"session={session}; HttpOnly; SameSite=Strict; Path=/")

    def answer(self, status, body, content_type="text/plain", cookie=None):
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), "Set-Cookie": cookie}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8000), BackEnd).serve_forever()
