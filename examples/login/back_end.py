"""The back end of a chat with login, with `stentor serve`: python3 back_end.py [port]. docs/security.md starts both."""
import base64, hashlib, hmac, http.server, json, os, pathlib, secrets, sys, time

TOKEN_KEY, HOOKS_KEY = (os.environ[name].encode() for name in ("STENTOR_TOKEN_HMAC_KEY", "STENTOR_HOOKS_KEY"))
PAGE, SALT = pathlib.Path(__file__).with_name("index.html").read_bytes(), secrets.token_bytes(16)

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
    signed = {"t": "", "v1": ""} | dict(part.partition("=")[::2] for part in header.split(","))
    expected = hmac.new(HOOKS_KEY, signed["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(expected.encode(), signed["v1"].encode()) and abs(time.time() - int(signed["t"])) < 300

def on_publish(ask):
    text = ask["args"][0] if ask["args"] else None
    if ask["event"] != "message" or not isinstance(text, str) or not 0 < len(text) <= 500:
        return {"error": {"code": "forbidden", "message": "a message has 1 to 500 characters"}}
    return {"args": [{"from": ask["user"], "text": text}]}  # The sender cannot name itself.

class BackEnd(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        cookies = dict(part.strip().partition("=")[::2] for part in self.headers.get("Cookie", "").split(";"))
        user = SESSIONS.get(cookies.get("session"))
        if self.path == "/token":
            return self.answer(200, token(user)) if user else self.answer(401, b"log in first")
        is_page = self.path.partition("?")[0] == "/"
        return self.answer(200, PAGE, "text/html; charset=utf-8") if is_page else self.answer(404, b"")

    def do_POST(self):
        body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), 1 << 20))
        if self.path == "/hooks/publish" and is_from_stentor(self.headers.get("Stentor-Signature", ""), body):
            return self.answer(200, json.dumps(on_publish(json.loads(body))).encode(), "application/json")
        if self.path != "/login":
            return self.answer(401, b"wrong path or signature")
        try:
            given = digest((form := json.loads(body))["password"])
        except (ValueError, TypeError, KeyError, RecursionError):
            return self.answer(400, b"expected JSON with name and password")
        if not hmac.compare_digest(given, USERS.get(name := str(form.get("name")), bytes(64))):
            return self.answer(401, b"name or password is wrong")
        SESSIONS[session := secrets.token_urlsafe()] = name
        return self.answer(200, b"", cookie={"Set-Cookie": f"session={session}; HttpOnly; SameSite=Strict; Path=/"})

    def answer(self, status, body, content_type="text/plain", cookie={}):
        self.send_response(status)
        for header in {"Content-Type": content_type, "Content-Length": str(len(body)), **cookie}.items():
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if sys.argv[1:] else 8000), BackEnd).serve_forever()
