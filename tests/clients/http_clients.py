"""Programs that speak HTTP to the control socket: Python's requests, Node's fetch, PHP's curl and file_get_contents; and h11,
which reads every response that there is and judges it.

A client with a WebSocket gets what they send. The server listens on TCP and asks for a key.
"""
import json
import os
import socket
import subprocess
import tempfile
import threading

import h11
import requests
from harness import PATIENCE_S, Server, check, cookie_header, cookies, not_ok, ok
from websockets.sync.client import connect

ORIGIN = "https://example.com"
KEY = "http-clients-only-4711-0815"

NODE = """
const [base, key] = process.argv.slice(1)
const headers = { Authorization: `Bearer ${key}` }
const post = (path, body, type) => fetch(base + path, { method: 'POST', body, headers: { ...headers, ...(type && { 'Content-Type': type }) } })
const main = async () => {
  const show = async response => console.log(response.status, (await response.text()).trim())
  await show(await post('/send?to=*', 'node hällo'))
  await show(await post('/send?to=*', new Uint8Array([0, 255]), 'application/octet-stream'))
  await show(await post('/send', JSON.stringify([{ to: ['*'], text: 'node json' }]), 'application/json'))
  const body = new ReadableStream({ start (c) { c.enqueue(new TextEncoder().encode('node in ')); c.enqueue(new TextEncoder().encode('chunks')); c.close() } })
  await show(await fetch(base + '/send?to=*', { method: 'POST', body, duplex: 'half', headers }))
  await show(await fetch(base + '/online?who=*', { headers }))
  await show(await fetch(base + '/healthz'))
}
main()
"""
PHP = """<?php
[, $base, $key] = $argv;
function curl($url, $body, $type, $key) {
    $curl = curl_init($url);
    curl_setopt_array($curl, [CURLOPT_RETURNTRANSFER => true, CURLOPT_HTTPHEADER => ["Authorization: Bearer $key", ...$type]]);
    if ($body !== null) curl_setopt($curl, CURLOPT_POSTFIELDS, $body);
    $answer = curl_exec($curl);
    echo curl_getinfo($curl, CURLINFO_HTTP_CODE), ' ', trim($answer), "\\n";
}
curl("$base/send?to=*", 'curl hällo', [], $key);
curl("$base/send?to=*", "\\0\\xff", ['Content-Type: application/octet-stream'], $key);
curl("$base/send", json_encode(['to' => ['*'], 'text' => 'curl json']), ['Content-Type: application/json'], $key);
curl("$base/send?to=*", str_repeat('x', 2000), [], $key);   // with Expect: 100-continue in older versions
curl("$base/online?who=*", null, [], $key);
curl("$base/online?who=*", null, [], 'wrong-wrong-wrong-wrong');
function get($url, $body, $key) {
    $http = ['ignore_errors' => true, 'header' => "Authorization: Bearer $key\\r\\nContent-Type: text/plain\\r\\n"];
    if ($body !== null) $http += ['method' => 'POST', 'content' => $body];
    $answer = file_get_contents($url, false, stream_context_create(['http' => $http]));
    echo explode(' ', $http_response_header[0])[1], ' ', trim($answer), "\\n";
}
get("$base/send?to=*", 'file_get_contents', $key);
get("$base/online?who=*", null, $key);
"""
WRITTEN = '200 {"connections":1,"away":0,"absent":[],"refused":0}'


class Keyed(Server):
    """With a TCP control port that asks for a key."""

    def __init__(self, **more):
        super().__init__([ORIGIN], control="tcp", top=['control_key_file = "key"'], **more)

    def prepare(self):
        super().prepare()
        with open(os.open(self.at("key"), os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
            file.write(KEY + "\n")
        return self

    def backend(self):
        backend = super().backend()
        backend.ask("y", KEY.encode())
        return backend

    def base(self):
        return "http://" + self.control.removeprefix("tcp:")


def program(name, command, wanted):
    """Runs one and compares its lines."""
    done = subprocess.run(command, capture_output=True, timeout=PATIENCE_S, text=True)
    if done.returncode:
        return not_ok(f"{name} in HTTP", f"it ended with {done.returncode}: {done.stderr[-600:]}")
    lines = done.stdout.splitlines()
    same = len(lines) == len(wanted) and all(line.startswith(begin) for line, begin in zip(lines, wanted))
    return ok(f"{name} in HTTP") if same else not_ok(f"{name} in HTTP", f"{lines} instead of {wanted}")


def arrives(name, client, wanted):
    found = []
    try:
        while len(found) < len(wanted):
            found.append(client.recv(timeout=PATIENCE_S))
    except TimeoutError:
        pass
    check(f"{name}: its messages arrive", found, wanted)


def python(server, client):
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {KEY}"
    base = server.base()
    answers = [
        session.post(f"{base}/send", params={"to": "*"}, data="requests hällo".encode()),
        session.post(f"{base}/send?to=*", data=b"\x00\xff", headers={"Content-Type": "application/octet-stream"}),
        session.post(f"{base}/send", json={"to": ["*"], "text": "requests json"}),
        session.post(f"{base}/send?to=*", data=iter([b"requests ", b"in chunks"])),
        session.post(f"{base}/join", params={"groups": "a,b", "who": "*"}),
        session.get(f"{base}/online", params={"who": "g:a"}),
        session.get(f"{base}/status"),
        session.get(f"{base}/metrics"),
        session.head(f"{base}/healthz"),
        requests.get(f"{base}/status"),
        session.post(f"{base}/send", json={"to": ["x:1"], "text": "EVIL"}),
    ]
    check("requests: status", [answer.status_code for answer in answers], [200] * 9 + [401, 400])
    check("requests: JSON", [answers[0].json()["connections"], answers[5].json()], [1, {"g:a": 1}])
    check("requests: errors are JSON", sorted(answers[9].json()), ["error", "hint"])
    check("requests: metrics", "\nwsson_clients 1\n" in answers[7].text, True)
    arrives("requests", client, ["requests hällo", b"\x00\xff", "requests json", "requests in chunks"])


def clients():
    with Keyed() as server:
        login = {"Cookie": cookie_header(cookies())}
        with connect(f"ws://127.0.0.1:{server.port}/", additional_headers=login, origin=ORIGIN, compression=None) as client:
            python(server, client)
            base = server.base()
            program("node fetch", ["node", "-e", NODE, base, KEY], [WRITTEN, WRITTEN, f"200 [{WRITTEN[4:]}]", WRITTEN, '200 {"*":1}', "401 "])
            arrives("node fetch", client, ["node hällo", b"\x00\xff", "node json", "node in chunks"])
            with tempfile.NamedTemporaryFile("w", suffix=".php") as file:
                file.write(PHP)
                file.flush()
                wanted = [WRITTEN] * 4 + ['200 {"*":1}', "401 ", WRITTEN, '200 {"*":1}']
                program("php curl and file_get_contents", ["php", file.name, base, KEY], wanted)
            arrives("php", client, ["curl hällo", b"\x00\xff", "curl json", "x" * 2000, "file_get_contents"])
            with server.backend() as backend:
                backend.command("b", b"end")
            check("nothing else arrives", client.recv(timeout=PATIENCE_S), "end")


# Every status there is: method, target, more fields, body, the status.
REQUESTS = [
    (b"POST", b"/send?to=*", [], b"text", 200), (b"POST", b"/send", [(b"Content-Type", b"application/json")], b"[]", 200),
    (b"POST", b"/send", [(b"Content-Type", b"application/json")], b"{", 400), (b"GET", b"/status", [], b"", 200),
    (b"GET", b"/metrics", [], b"", 200), (b"HEAD", b"/metrics", [], b"", 200), (b"HEAD", b"/status", [], b"", 200),
    (b"GET", b"/healthz", [], b"", 200), (b"GET", b"/online?who=*,u:4", [], b"", 200), (b"GET", b"/here?at=*", [], b"", 200),
    (b"POST", b"/join?groups=a&who=*", [], b"", 200), (b"POST", b"/leave?groups=a&who=*", [], b"", 200),
    (b"POST", b"/kick?who=u:9", [], b"", 200), (b"POST", b"/revoke?who=u:9", [], b"", 200), (b"GET", b"/nowhere", [], b"", 404),
    (b"GET", b"/send?to=*", [], b"", 405), (b"DELETE", b"/status", [], b"", 405), (b"GET", b"/online", [], b"", 400),
    (b"POST", b"/send?to=*", [(b"Content-Type", b"image/png")], b"x", 415), (b"GET", b"/status", [(b"Origin", b"null")], b"", 403),
    (b"GET", b"/status", [(b"Expect", b"tea")], b"", 417), (b"POST", b"/send?to=*", [(b"Content-Length", b"99999999")], None, 413),
    (b"GET", b"/status", [(b"X", b"y")] * 70, b"", 431), (b"GET", b"/healthz", [(b"Connection", b"close")], b"", 200),
    (b"POST", b"/send?to=*", [(b"Transfer-Encoding", b"chunked")], b"in chunks", 200),
]


class Judge:
    """A connection whose responses h11 reads."""

    def __init__(self, address):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(PATIENCE_S)
        self.socket.connect(address)
        self.h11 = h11.Connection(h11.CLIENT)

    def send(self, method, target, fields, body):
        fields = [(b"Host", b"wsson"), *fields]
        if body is not None and not any(name in (b"Content-Length", b"Transfer-Encoding") for name, _ in fields):
            fields.append((b"Content-Length", b"%d" % len(body)))
        data = self.h11.send(h11.Request(method=method, target=target, headers=fields))
        if body is not None:
            data += self.h11.send(h11.Data(data=body)) + self.h11.send(h11.EndOfMessage())
        self.socket.sendall(data)

    def response(self):
        """Status and body; what is no response, or says another length than it has, raises."""
        status, body = None, b""
        while True:
            event = self.h11.next_event()
            if event is h11.NEED_DATA:
                try:
                    self.h11.receive_data(self.socket.recv(65536))
                except ConnectionResetError:
                    self.h11.receive_data(b"")
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, body
            elif isinstance(event, h11.ConnectionClosed):
                return None, body

    def ended(self):
        """Whether the server closes, as its response has said."""
        try:
            return self.socket.recv(1) == b""
        except ConnectionResetError:
            return True


def judged():
    with Server([ORIGIN]) as server:
        path = server.control.removeprefix("unix:")
        kept = Judge(path)
        faults = []
        for method, target, fields, body, wanted in REQUESTS:
            name = f"{method.decode()} {target.decode()} {wanted}"
            try:
                kept.send(method, target, fields, body)
                status, _ = kept.response()
                if status != wanted:
                    faults.append(f"{name}: {status}")
                if kept.h11.their_state is h11.MUST_CLOSE or kept.h11.our_state in (h11.MUST_CLOSE, h11.SEND_BODY):
                    if not kept.ended():
                        faults.append(f"{name}: it says that it closes, and does not")
                    kept = Judge(path)
                else:
                    kept.h11.start_next_cycle()
            except (h11.RemoteProtocolError, TimeoutError) as error:
                faults.append(f"{name}: {error}")
                kept = Judge(path)
        check("h11 reads every response", faults, [])
        # What has no end: events, a chunk at a time, until the client goes.
        judge = Judge(path)
        judge.send(b"GET", b"/events?kinds=open&watch=1", [], b"")
        login = {"Cookie": cookie_header(cookies())}
        opened = threading.Timer(0.3, lambda: connect(f"ws://127.0.0.1:{server.port}/", additional_headers=login, origin=ORIGIN).close())
        opened.start()
        event, lines = judge.h11.next_event(), b""
        while b'"event":"open"' not in lines:
            if event is h11.NEED_DATA:
                judge.h11.receive_data(judge.socket.recv(65536))
            elif isinstance(event, h11.Data):
                lines += event.data
            event = judge.h11.next_event()
        check("h11 reads events", [json.loads(line)["event"] for line in lines.splitlines()], ["subscribed", "open"])
        opened.join()


def test():
    judged()
    clients()
