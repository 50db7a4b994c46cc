/** deploy/nginx.conf, by reading it, and in a running nginx where there is one. */

import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import https from "node:https";
import os from "node:os";
import path from "node:path";
import { test } from "node:test";
import { freePort } from "../ports.mjs";
import { read } from "./markdown.mjs";
import { BINARY } from "./not-run.mjs";

const NGINX = process.env.NGINX ?? "nginx";
const HAS_NGINX = [NGINX, "openssl"].every((program) => spawnSync(program, ["-v"]).error === undefined);
const HOST = "stentor.example.org";
const API_KEY = "0123456789abcdef";
const HEADERS = ["Host $http_host", "X-Forwarded-For $proxy_add_x_forwarded_for", "X-Forwarded-Proto $scheme", 'Forwarded ""'];

/** The file with the location that stands in a comment. */
const CONFIGURATION = read("deploy/nginx.conf").replace(/^ *# +(location \/api\/ .*)$/m, "$1").replace("allow 10.0.0.0/8", "allow 127.0.0.1");

/** Headers and directives that locations which pass to Stentor lack. A header of its own takes all inherited ones from a location. */
function faults(text) {
  const code = text.replace(/#.*$/gm, "");
  const [server] = /server \{(?:(?!\nserver)[^])*proxy_pass[^]*$/.exec(code) ?? [""];
  const locations = [...server.matchAll(/location ([^{]*)\{([^}]*)\}/g)].filter(([, , body]) => body.includes("proxy_pass"));
  const inherited = server.replace(/location [^{]*\{[^}]*\}/g, "");
  const missing = locations.flatMap(([, name, body]) => {
    const headers = body.includes("proxy_set_header") ? body : inherited;
    const needed = [...HEADERS.map((header) => [headers, `proxy_set_header ${header};`]), [inherited + body, "proxy_http_version 1.1;"]];
    return needed.filter(([where, directive]) => !where.includes(directive)).map(([, directive]) => `${name.trim()}: ${directive}`);
  });
  return { locations: locations.length, missing };
}

test("every location of nginx.conf passes host and address of the client", () => {
  assert.deepEqual(faults(CONFIGURATION), { locations: 3, missing: [] });
  const without = faults(CONFIGURATION.replace("proxy_set_header Host $http_host;", ""));
  assert.deepEqual(without.missing, ["/", "~ ^/(metrics|healthz|readyz)$", "/api/"].map((name) => `${name}: proxy_set_header Host $http_host;`));
  const own = faults(CONFIGURATION.replace("location /api/ {", "location /api/ { proxy_set_header X-Other 1;"));
  assert.equal(own.missing.length, HEADERS.length);
});

function request(port, target, headers = {}) {
  const options = { host: "127.0.0.1", port, path: target, servername: HOST, rejectUnauthorized: false, headers: { Host: HOST, ...headers } };
  return new Promise((resolve, reject) => {
    const sent = https.get(options, async (response) => {
      let body = "";
      for await (const part of response) body += part;
      resolve({ status: response.statusCode, body });
    });
    sent.on("upgrade", (response, socket) => resolve({ status: response.statusCode, body: socket.destroy() && "" }));
    sent.on("error", reject);
  });
}

/** Replaces texts that the file must have. */
function replaced(text, pairs) {
  return pairs.reduce((before, [from, to]) => {
    assert.ok(before.includes(from), from);
    return before.replace(from, to);
  }, text);
}

test("nginx with nginx.conf serves every part of a server", { skip: HAS_NGINX ? false : "nginx or openssl is not installed" }, async () => {
  const folder = mkdtempSync(path.join(os.tmpdir(), "stentor-nginx-"));
  const started = [];
  const start = (program, args, options) => started[started.push(spawn(program, args, options)) - 1];
  try {
    const [hub, tls, plain] = [await freePort(), await freePort(), await freePort()];
    const flags = ["serve", "--port", hub, "--recovery", "off", "--trusted-proxies", "127.0.0.1", "--allowed-hosts", HOST, "--anonymous", "true", "--join-default", "any", "--publish-default", "any"];
    const server = start(BINARY, flags, { env: { STENTOR_API_KEY: API_KEY }, cwd: folder, stdio: ["ignore", "pipe", "ignore"] });
    await once(server.stdout, "data");

    const [certificate, key] = ["certificate.pem", "key.pem"].map((name) => path.join(folder, name));
    execFileSync("openssl", ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", `/CN=${HOST}`, "-keyout", key, "-out", certificate], { stdio: "ignore" });
    const stanza = replaced(CONFIGURATION, [
      ["127.0.0.1:3000", `127.0.0.1:${hub}`],
      ["listen 80;", `listen 127.0.0.1:${plain};`],
      ["listen 443 ssl;", `listen 127.0.0.1:${tls} ssl;`],
      [`/etc/letsencrypt/live/${HOST}/fullchain.pem`, certificate],
      [`/etc/letsencrypt/live/${HOST}/privkey.pem`, key],
    ]);
    const folders = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map((name) => `${name}_temp_path ${folder}/${name};`);
    const file = path.join(folder, "nginx.conf");
    const main = `daemon off; master_process off; pid ${folder}/pid; error_log stderr;`;
    writeFileSync(file, `${main} events {} http { access_log off; ${folders.join(" ")}\n${stanza}\n}`);
    const nginx = start(NGINX, ["-p", folder, "-c", file, "-e", "stderr"], { stdio: ["ignore", "ignore", "pipe"] });
    let log = "";
    nginx.stderr.on("data", (text) => (log += text));
    const answers = () => request(tls, "/healthz").catch(() => new Promise((resolve) => setTimeout(resolve, 20)));
    while (!(await answers())) assert.equal(nginx.exitCode, null, log);

    const upgrade = { Connection: "Upgrade", Upgrade: "websocket", "Sec-WebSocket-Version": 13, "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==" };
    const cases = [
      ["/healthz", {}, 200, /^ok$/],
      ["/readyz", {}, 200, /^ok/],
      ["/metrics", {}, 200, /^stentor_connections/m],
      ["/", {}, 200, /<html/],
      ["/socket.io/?EIO=4&transport=polling", {}, 200, /^0\{"sid":/],
      ["/socket.io/?EIO=4&transport=websocket", { ...upgrade, Origin: `https://${HOST}` }, 101, /^/],
      ["/api/v1/rooms", { Authorization: `Bearer ${API_KEY}` }, 200, /"rooms":/],
    ];
    for (const [target, headers, status, body] of cases) {
      const answer = await request(tls, target, headers);
      assert.equal(answer.status, status, `${target}: ${answer.body}`);
      assert.match(answer.body, body, target);
    }
    assert.equal((await request(tls, "/healthz", { Host: "other.example" })).status, 421);
  } finally {
    for (const child of started) {
      child.kill();
      if (child.exitCode === null && child.signalCode === null) await once(child, "exit");
    }
    rmSync(folder, { recursive: true });
  }
});
