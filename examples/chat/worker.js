#!/usr/bin/env node
// The worker of the chat, in Node without a library. Start as many as you like: each line is handled by one of them, and
// what one had not confirmed when it died is told to another.
"use strict";
const fs = require("fs"), net = require("net");

const CONTROL = process.env.CHAT_CONTROL || "/run/wsson/control.sock";
const HISTORY = process.env.CHAT_HISTORY || "history.jsonl";
const MODERATORS = (process.env.CHAT_MODERATORS || "Mo").split(",");
const ROOMS = ["lobby", "kitchen", "garden"];

class Wsson {
  constructor(socket) {
    Object.assign(this, { socket, input: Buffer.alloc(0), asked: [] }); // the rooms that answers to `h` are about, in order
  }
  command(letter, payload = "") {
    this.socket.write(`${Buffer.byteLength(payload)}${letter}${payload}`);
  }

  // The frames that are whole, as letter and payload.
  *frames(bytes) {
    this.input = Buffer.concat([this.input, bytes]);
    for (;;) {
      const head = /^(\d+)([A-Za-z])/.exec(this.input.toString("latin1", 0, 9));
      const end = head && head[0].length + Number(head[1]);
      if (!head || this.input.length < end) return;
      const payload = this.input.toString("utf8", head[0].length, end);
      this.input = this.input.subarray(end);
      yield [head[2], payload];
    }
  }

  write(to, message) {
    this.command("w", `${to} ${JSON.stringify(message)}`);
  }
  askWhoIsHere() {
    this.asked.push(...ROOMS);
    ROOMS.forEach(room => this.command("h", `g:${room}`));
  }
}

// The end of the history, which all workers append to.
function recent() {
  if (!fs.existsSync(HISTORY)) return [];
  const lines = fs.readFileSync(HISTORY, "utf8").slice(-65536).split("\n");
  return lines.filter(line => line.startsWith("{") && line.endsWith("}")).map(line => JSON.parse(line));
}

function say(wsson, user, room, { id, text }) {
  const line = { type: "line", id: String(id).slice(0, 40), room, name: user, text: String(text).slice(0, 1000), time: Math.floor(Date.now() / 1000) };
  // A page that was cut off says a line again, and what another worker left may be done already.
  if (!recent().some(other => other.id === line.id)) {
    fs.appendFileSync(HISTORY, JSON.stringify(line) + "\n"); // one write, so that lines of workers do not mix
  }
  wsson.write(`g:${room}`, line);
}

function message(wsson, connection, user, said) {
  const { type, room, name } = said;
  if (type === "kick" && MODERATORS.includes(user) && /^[A-Za-z0-9]+$/.test(name)) {
    wsson.command("k", `u:${name} ${user} asked you to leave`);
  } else if (!ROOMS.includes(room)) { // not one of our page's
  } else if (type === "join") {
    wsson.command("J", `${ROOMS.join()} c:${connection}`);
    wsson.command("j", `${room} c:${connection}`);
    const lines = recent().filter(line => line.room === room).slice(-20);
    wsson.write(`c:${connection}`, { type: "history", room, lines, may_kick: MODERATORS.includes(user) });
    wsson.askWhoIsHere();
  } else if (type === "say") {
    say(wsson, user, room, said);
  } else if (type === "typing") {
    wsson.write(`g:${room},-c:${connection}`, { type: "typing", room, name: user });
  }
}

function hear(wsson, letter, payload) {
  if (letter === "g") {
    const [, number, connection, user, text] = /^(\d+)\+? (\S+) \S+ (\S*) ([^]*)$/.exec(payload);
    let said;
    try { said = JSON.parse(text); } catch { /* not one of our page's */ }
    if (said && typeof said === "object") message(wsson, connection, user, said);
    wsson.command("a", number);
  } else if (letter === "e" && JSON.parse(payload).n) {
    wsson.askWhoIsHere();
    wsson.command("a", String(JSON.parse(payload).n));
  } else if (letter === "H") {
    const room = wsson.asked.shift(), names = (JSON.parse(payload).users ?? []).map(who => who.name).sort();
    wsson.write(`g:${room}`, { type: "here", room, names });
  } else if (letter === "p") {
    wsson.command("P");
  }
}

(function serve() {
  const wsson = new Wsson(net.connect(CONTROL));
  wsson.command("e", "message,close as=chat ack");
  wsson.socket.on("data", bytes => { for (const [letter, payload] of wsson.frames(bytes)) hear(wsson, letter, payload); });
  wsson.socket.on("error", () => {}); // wsson restarts
  wsson.socket.on("close", () => setTimeout(serve, 300));
})();
