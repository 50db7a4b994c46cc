/** Requests of foreign origins and hosts. */

import { Client, request } from "../wire.mjs";

const websocket = async (port, headers) => {
  try {
    (await Client.open(port, { headers })).end();
    return 101;
  } catch (error) {
    return error.status ?? 0;
  }
};

export default [
  {
    name: "foreign-pages",
    line: 7,
    about: "a foreign Host (DNS rebinding) and a foreign Origin, on 127.0.0.1",
    full: {},
    ci: {},
    async verify({ server, findings }) {
      await server.start();
      const host = { Host: "evil.example" };
      const origin = { Origin: "http://evil.example" };
      const polling = "/socket.io/?EIO=4&transport=polling";
      const refused = {
        "host, /metrics": (await request(server.port, "/metrics", { headers: host })).status,
        "host, page": (await request(server.port, "/", { headers: host })).status,
        "host, polling": (await request(server.port, polling, { headers: host })).status,
        "host, websocket": await websocket(server.port, host),
        "origin, websocket": await websocket(server.port, origin),
      };
      for (const [what, status] of Object.entries(refused)) findings.check("refused", status >= 400 && status < 500, `${what}: ${status}`);
      const own = { Origin: `http://127.0.0.1:${server.port}` };
      const admitted = {
        "loopback name": (await request(server.port, polling, { headers: { Host: `localhost:${server.port}` } })).status === 200,
        "own origin": (await websocket(server.port, own)) === 101,
      };
      for (const [what, isAdmitted] of Object.entries(admitted)) findings.check("admitted", isAdmitted, what);
    },
  },
];
