// Answers the hooks of `stentor serve`: STENTOR_HOOKS_KEY=… node back_end.mjs [port]
import { createHmac, timingSafeEqual } from "node:crypto";
import { createServer } from "node:http";

const refuse = (code, expected) => ({ error: { code, message: `expected ${expected}` } });
const answers = {
  connect({ auth }) {
    const name = auth?.name;
    if (typeof name !== "string" || !name || name.length > 60) return refuse("login", "auth: {name}");
    return { user: name, info: { name }, join: ["chat:*"], publish: ["chat:*"] };
  },
  join: ({ user }) => ({ data: { welcome: user } }),
  publish: ({ user, args }) => (args.length > 0 ? { args: [{ from: user, text: args[0] }] } : refuse("bad_request", "a text")),
  event: ({ event, user }) => ({ ack: [`${event} by ${user}`] }),
};

function isSigned(header = "", body = "") {
  const { t, v1 = "" } = Object.fromEntries(header.split(",").map((part) => part.split("=")));
  const expected = createHmac("sha256", process.env.STENTOR_HOOKS_KEY).update(`${t}.${body}`).digest();
  const given = Buffer.from(v1, "hex");
  return given.length === expected.length && timingSafeEqual(given, expected) && Math.abs(Date.now() / 1000 - t) < 300;
}

createServer(async (request, response) => {
  const chunks = await request.toArray().catch(() => []);
  const body = Buffer.concat(chunks).toString();
  const answer = isSigned(request.headers["stentor-signature"], body) && answers[request.url.split("/").at(-1)];
  response.writeHead(answer ? 200 : 401, { "Content-Type": "application/json" });
  response.end(JSON.stringify(answer ? answer(JSON.parse(body)) : {}));
}).listen(Number(process.argv[2] ?? 8000), "127.0.0.1");
