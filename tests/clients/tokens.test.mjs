/** Tokens of stock clients of `stentor serve`: renewal, expiry, another user, forbidden rooms. */

import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { after, afterEach, before, describe, test } from "node:test";
import { ask, CLIENTS, client, closeClients, connected, freshRoom, listen, next, startHub, TRANSPORTS } from "./harness.mjs";

const SECRET = "a-secret-of-at-least-32-bytes-for-tests";

/** Seconds until a token expires that the tests let expire: enough to connect and to join. */
const SHORT_S = 3;

/** A token of `user`, with the permissions of `stentor`. */
function token(user, stentor = {}, seconds = 3_600) {
  const part = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1_000) + seconds;
  const signed = `${part({ alg: "HS256", typ: "JWT" })}.${part({ sub: user, exp, stentor })}`;
  return `${signed}.${createHmac("sha256", SECRET).update(signed).digest("base64url")}`;
}

let hub;
before(async () => (hub = await startHub({ recovery: "disk", flags: ["--token-hmac-key", SECRET] })));
afterEach(() => {
  closeClients();
  hub.assertRunning();
});
after(() => hub.stop());

const rows = Object.entries(CLIENTS).flatMap(([library, io]) => TRANSPORTS.map((row) => ({ ...row, library, io })));

for (const { name, transports, library, io } of rows) {
  describe(`${library}, ${name}`, () => {
    const open = (auth) => client(hub, { io, transports, auth, reconnection: true, reconnectionDelay: 200 });

    /** A reader in `rooms` whose token, asked for by each CONNECT, is that of `user()`. */
    async function reader(rooms, claims) {
      const socket = open((send) => send({ token: token(...claims()) }));
      await connected(socket);
      for (const room of rooms) assert.equal((await ask(socket, "join", room))[0].room, room);
      return socket;
    }

    /** Ends the connection of a client, which comes back by itself. */
    async function cut(socket) {
      const ended = next(socket, "disconnect");
      socket.io.engine.close();
      await ended;
    }

    test("a client whose token expires asks its auth function again", async () => {
      const room = freshRoom();
      let asked = 0;
      const socket = open((send) => send({ token: token("42", { join: [room] }, asked++ === 0 ? SHORT_S : 3_600) }));
      const expiring = next(socket, "stentor:expiring");
      const ended = next(socket, "disconnect");
      await connected(socket);
      const { id } = socket;
      assert.equal((await ask(socket, "join", room))[0].room, room);
      const [{ in_ms: inMs }] = await expiring;
      assert.ok(inMs > 0 && inMs <= SHORT_S * 1_000, `${inMs} ms`);
      const [reason] = await ended;
      assert.ok(["transport close", "transport error"].includes(reason), reason);
      await connected(socket);
      assert.deepEqual([socket.id, socket.recovered, asked], [id, true, 2]);
    });

    test("a client that sends a new token stays connected", async () => {
      const socket = open({ token: token("42", {}, SHORT_S) });
      const expiring = next(socket, "stentor:expiring");
      await connected(socket);
      await expiring;
      const { received: ends } = listen(socket, "disconnect");
      const again = next(socket, "stentor:expiring");
      const [{ exp }] = await ask(socket, "token", token("42", {}, SHORT_S));
      assert.ok(exp > Date.now() / 1_000, String(exp));
      await again;
      const [{ exp: last }] = await ask(socket, "token", token("42"));
      assert.ok(last > exp, String(last));
      assert.deepEqual(ends, []);
    });

    test("a refused client gets the code of the refusal", async () => {
      const socket = open({ token: token("42", {}, -3_600) });
      const [error] = await next(socket, "connect_error");
      assert.equal(error.data.code, "token_expired", error.message);
    });

    test("another user gets another session, and no event of the first", async () => {
      const room = freshRoom();
      let user = "42";
      const socket = await reader([room], () => [user, { join: [room] }]);
      const writer = await reader([], () => ["1", { publish: [room] }]);
      const { id } = socket;
      const { received } = listen(socket, "news");
      user = "43";
      await cut(socket);
      await ask(writer, "publish", room, "news", "for 42");
      await connected(socket);
      assert.equal(socket.recovered, false);
      assert.notEqual(socket.id, id);
      await ask(socket, "echo");
      assert.deepEqual(received, []);
    });

    test("a room that a new token does not allow is left before the replay", async () => {
      const [kept, secret] = [freshRoom(), freshRoom()];
      let join = [kept, secret];
      const socket = await reader(join, () => ["42", { join }]);
      const writer = await reader([], () => ["1", { publish: ["*"] }]);
      const { id } = socket;
      const { received } = listen(socket, "news");
      join = [kept];
      await cut(socket);
      for (const room of [secret, kept]) await ask(writer, "publish", room, "news", room);
      await connected(socket);
      assert.deepEqual([socket.id, socket.recovered], [id, true]);
      await ask(writer, "publish", secret, "news", "live");
      await ask(socket, "echo");
      assert.deepEqual(received, [[kept]]);
    });
  });
}
