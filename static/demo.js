// The demo page: speaks Socket.IO v5 over one websocket, without a library, so that the wire can be read here.
// It handles text events and acks of the main namespace; binary events are left to real clients.

const LOG_LINES_MAX = 200;
const ACK_MS = 5_000;
const MEMBERS_MS = 3_000;
const RETRY_MS_MIN = 500;
const RETRY_MS_MAX = 10_000;

const $ = (id) => document.getElementById(id);

let socket; // the websocket in use
let connected = false; // whether the server has accepted our CONNECT
let session = {}; // {pid, offset}: how to come back to what was missed, when the server has recovery on
let retryMs = RETRY_MS_MIN;
let liveness; // runs out when the server's pings stop
let ackId = 0;
let room = null; // the room we are in
const waiting = new Map(); // ack id → {resolve, reject, timer}

function open() {
  show("connecting");
  const url = new URL("/socket.io/?EIO=4&transport=websocket", location.href);
  url.protocol = url.protocol.replace("http", "ws");
  socket = new WebSocket(url);
  socket.onmessage = ({ data }) => typeof data === "string" && receive(data);
  socket.onclose = closed;
}

function closed() {
  connected = false;
  clearTimeout(liveness);
  for (const { reject, timer } of waiting.values()) {
    clearTimeout(timer);
    reject(new Error("connection lost"));
  }
  waiting.clear();
  // Spread out, so that the clients of a server that restarts do not come back in one instant.
  const delay = retryMs * (0.5 + Math.random());
  retryMs = Math.min(retryMs * 2, RETRY_MS_MAX);
  show("waiting", `disconnected, next try in ${(delay / 1000).toFixed(1)} s`);
  setTimeout(open, delay);
}

// Engine.IO: 0 open, 1 close, 2 ping, 3 pong, 4 message.
function receive(packet) {
  const body = packet.slice(1);
  if (packet[0] === "0") {
    const { pingInterval, pingTimeout } = JSON.parse(body);
    socket.alive = () => {
      clearTimeout(liveness);
      liveness = setTimeout(() => socket.close(), pingInterval + pingTimeout);
    };
    socket.alive();
    socket.send(session.pid && session.offset ? `40${JSON.stringify(session)}` : "40");
  } else if (packet[0] === "1") {
    socket.close();
  } else if (packet[0] === "2") {
    socket.alive();
    socket.send("3");
  } else if (packet[0] === "4") {
    receiveMessage(body);
  }
}

// Socket.IO: 0 connect, 1 disconnect, 2 event, 3 ack, 4 connect error; an ack id may stand between the type and the JSON.
function receiveMessage(message) {
  const [, type, id, json] = /^(\d)(\d*)(.*)$/s.exec(message);
  const data = json ? JSON.parse(json) : undefined;
  if (type === "0") {
    welcome(data);
  } else if (type === "1") {
    socket.close();
  } else if (type === "2") {
    hear(data);
  } else if (type === "3") {
    const waiter = waiting.get(Number(id));
    waiting.delete(Number(id));
    clearTimeout(waiter?.timer);
    waiter?.resolve(data[0]);
  } else if (type === "4") {
    log("echoed", `connection refused: ${data.message}`, "error");
    socket.close();
  }
}

function welcome({ sid, pid }) {
  session = { pid, offset: pid === session.pid ? session.offset : undefined };
  connected = true;
  retryMs = RETRY_MS_MIN;
  show("connected", "connected", sid);
  if (room !== null) join(room);
}

function hear([event, ...args]) {
  if (session.pid && typeof args.at(-1) === "string") session.offset = args.pop();
  log("heard", `${event} ${args.map((arg) => (typeof arg === "string" ? arg : JSON.stringify(arg))).join(" ")}`);
}

// Emits an event and resolves with the first argument of its ack.
function ask(event, ...args) {
  return new Promise((resolve, reject) => {
    if (!connected) return reject(new Error("not connected"));
    const id = ackId++;
    const timer = setTimeout(() => {
      waiting.delete(id);
      reject(new Error(`no answer to ${event}`));
    }, ACK_MS);
    waiting.set(id, { resolve, reject, timer });
    socket.send(`42${id}${JSON.stringify([event, ...args])}`);
  }).then((answer) => {
    if (answer?.error) throw new Error(`${answer.error.code}: ${answer.error.message}`);
    return answer;
  });
}

function show(state, text = state, sid = "") {
  $("state").textContent = text;
  $("state").dataset.state = state;
  $("socket-id").textContent = sid;
}

function log(list, text, kind = "") {
  const line = document.createElement("li");
  const time = document.createElement("time");
  time.textContent = `${new Date().toLocaleTimeString()} `;
  line.className = kind;
  line.append(time, text);
  $(list).append(line);
  while ($(list).children.length > LOG_LINES_MAX) $(list).firstChild.remove();
  line.scrollIntoView({ block: "nearest" });
}

const report = (list) => (error) => log(list, error.message, "error");

function enter(name) {
  room = name;
  $("room").readOnly = room !== null;
  $("join").disabled = room !== null;
  $("leave").disabled = room === null;
  if (room === null) $("members").textContent = "not joined";
}

async function join(name) {
  await ask("join", name).then(() => enter(name), report("heard"));
  await listMembers();
}

async function listMembers() {
  if (room === null || !connected) return;
  const { members } = await ask("members", room).catch(() => ({ members: null }));
  if (room !== null && members) $("members").textContent = `${members.length}: ${members.join(", ")}`;
}

$("room-form").onsubmit = (event) => {
  event.preventDefault();
  join($("room").value);
};

$("leave").onclick = () => ask("leave", room).then(() => enter(null), report("heard"));

$("publish-form").onsubmit = (event) => {
  event.preventDefault();
  ask("publish", $("room").value, "message", $("publish").value).catch(report("heard"));
  $("publish").value = "";
};

$("echo-form").onsubmit = (event) => {
  event.preventDefault();
  ask("echo", $("echo").value).then((answer) => log("echoed", answer), report("echoed"));
  $("echo").value = "";
};

setInterval(listMembers, MEMBERS_MS);
open();
