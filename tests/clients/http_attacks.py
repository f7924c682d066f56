"""Threat row 24: a real Chromium whose page attacks the TCP control port, from another origin, and from one whose name leads
to the loopback, at the very port (DNS rebinding). Nothing may be executed.

The page of the second kind is loaded from the attacker's server, which then gives its port up to wsson: to the browser it
is the same origin as before. What the page has tried it reports to a third server. A client with a WebSocket would get
whatever is sent.
"""
import http.server
import json
import queue
import shutil
import tempfile
import threading

import requests
from chromium import browser, end
from harness import PATIENCE_S, Server, check, cookie_header, cookies, free_port, not_ok
from http_clients import KEY, Keyed
from websockets.sync.client import connect

ORIGIN = "https://example.com"
PAGE = """<!doctype html><meta charset="utf-8"><title>attack</title><body><script>
'use strict'
const reporter = 'http://127.0.0.1:REPORTER', base = 'BASE', tried = []
const report = (step, found) => fetch(reporter, { method: 'POST', body: JSON.stringify({ step, found }) }).then(answer => answer.text())
const send = base + '/send?to=*'
const wait = ms => new Promise(resolve => setTimeout(resolve, ms))
async function attempt (name, run) {
  let found
  try { found = await Promise.race([run(), wait(3000).then(() => 'nothing came')]) } catch (error) { found = String(error) }
  tried.push([name, String(found)])
}
const fetched = async (url, options) => { const answer = await fetch(url, options); return `${answer.type} ${answer.status}` }
const element = (name, attributes) => new Promise(resolve => {
  const made = Object.assign(document.createElement(name), attributes)
  made.onload = () => resolve('load'); made.onerror = () => resolve('error')
  document.body.append(made)
})
function form (enctype, method, fields) {
  const name = 'frame' + tried.length
  const frame = Object.assign(document.createElement('iframe'), { name })
  document.body.append(frame)
  const made = Object.assign(document.createElement('form'), { action: send, method, enctype, target: name })
  for (const [key, value] of Object.entries(fields)) made.append(Object.assign(document.createElement('input'), { name: key, value }))
  document.body.append(made)
  return new Promise(resolve => { frame.onload = () => resolve('load'); made.submit() })
}
async function attack () {
  for (const mode of ['no-cors', 'cors', 'same-origin']) {
    for (const method of ['POST', 'GET', 'HEAD', 'PUT', 'DELETE']) {
      const body = method === 'POST' || method === 'PUT' ? 'EVIL' : undefined
      await attempt(`fetch ${mode} ${method}`, () => fetched(send, { mode, method, body }))
    }
    const about = [['referrerPolicy', 'no-referrer'], ['credentials', 'include'], ['credentials', 'omit'], ['keepalive', true], ['redirect', 'manual'], ['cache', 'force-cache']]
    for (const [key, value] of about) await attempt(`fetch ${mode} ${key}`, () => fetched(send, { mode, method: 'POST', body: 'EVIL', [key]: value }))
    for (const type of ['text/plain', 'application/json', 'application/octet-stream', 'application/x-www-form-urlencoded']) {
      const body = type.endsWith('json') ? '[{"to":["*"],"text":"EVIL"}]' : 'EVIL'
      await attempt(`fetch ${mode} ${type}`, () => fetched(type.endsWith('json') ? base + '/send' : send, { mode, method: 'POST', body, headers: { 'Content-Type': type } }))
    }
    await attempt(`fetch ${mode} frames`, () => fetched(base + '/', { mode, method: 'POST', body: '4bEVIL\\r\\n4bEVIL' }))
    await attempt(`fetch ${mode} Authorization`, () => fetched(send, { mode, method: 'POST', body: 'EVIL', headers: { Authorization: 'Bearer guessed-guessed-guessed' } }))
    await attempt(`fetch ${mode} revoke`, () => fetched(base + '/kick?who=*', { mode, method: 'POST' }))
  }
  for (const path of ['/status', '/metrics', '/online?who=*', '/here?at=*', '/healthz']) await attempt(`read ${path}`, async () => { const answer = await fetch(base + path); return (await answer.text()).slice(0, 200) })
  await attempt('sendBeacon', async () => navigator.sendBeacon(send, 'EVIL'))
  await attempt('XMLHttpRequest', () => new Promise(resolve => { const request = new XMLHttpRequest(); request.open('POST', send); request.onloadend = () => resolve(request.status); request.send('EVIL') }))
  for (const enctype of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data']) {
    await attempt(`form ${enctype}`, () => form(enctype, 'post', { '4bEVIL\\r\\n4bEVIL': 'EVIL' }))
  }
  await attempt('form get', () => form('text/plain', 'get', { to: '*' }))
  await attempt('img', () => element('img', { src: send }))
  await attempt('script', () => element('script', { src: base + '/status' }))
  await attempt('link', () => element('link', { rel: 'stylesheet', href: base + '/status' }))
  await attempt('iframe', () => element('iframe', { src: base + '/kick?who=*' }))
  await attempt('EventSource', () => new Promise(resolve => { const source = new EventSource(base + '/events?kinds=message'); source.onopen = () => resolve('open'); source.onerror = () => { source.close(); resolve('error') } }))
  await attempt('WebSocket', () => new Promise(resolve => { const socket = new WebSocket(base.replace('http', 'ws') + '/send?to=*'); socket.onopen = () => { socket.send('4bEVIL'); resolve('open') }; socket.onerror = () => resolve('error') }))
  await wait(300)
}
report('loaded', []).then(attack).then(() => report('done', tried))
</script>"""


class Reporter(http.server.ThreadingHTTPServer):
    """Hears the page; its answer to `loaded` comes when the attack may begin."""
    daemon_threads = True

    def __init__(self):
        self.reports, self.go = queue.Queue(), threading.Event()
        super().__init__(("127.0.0.1", 0), Hears)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Hears(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.reports.put(report)
        if report["step"] == "loaded":
            self.server.go.wait(PATIENCE_S)
        self.send_response(200)
        self.send_header("Access-Control-Allow-Origin", "*")
        self.end_headers()

    def log_message(self, *_):
        pass


class Page(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, port, text):
        self.text = text.encode()
        super().__init__(("127.0.0.1", port), Shows)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


class Shows(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(self.server.text)

    def log_message(self, *_):
        pass


def at_port(kind, port):
    """A server whose control port is this one."""
    class Here(kind):
        def choose_ports(self):
            self.port = free_port()
            self.control = f"tcp:127.0.0.1:{port}"
            self.write_config()
    return Here([ORIGIN], control="tcp") if kind is Server else Here()


def assault(name, kind, host):
    """Lets the page attack from `host`; with None it comes from another port than that of the control socket."""
    port, folder, reporter = free_port(), tempfile.mkdtemp(prefix="wsson-attack-"), Reporter()
    base = f"http://{host or '127.0.0.1'}:{port}"
    text = PAGE.replace("REPORTER", str(reporter.server_address[1])).replace("BASE", base)
    page = Page(port if host else 0, text)
    url = f"http://{host or '127.0.0.1'}:{page.server_address[1]}/"
    rules = "--host-resolver-rules=MAP *.example 127.0.0.1"
    process = browser(url, folder, rules, "--disable-features=BlockInsecurePrivateNetworkRequests,PrivateNetworkAccessSendPreflights")
    if process is None:
        shutil.rmtree(folder)
        return not_ok(name, "chromium is not installed")
    try:
        if reporter.reports.get(timeout=PATIENCE_S)["step"] != "loaded":
            return not_ok(name, "the page did not load")
        page.stop()
        with at_port(kind, port) as server:
            login = {"Cookie": cookie_header(cookies())}
            with connect(f"ws://127.0.0.1:{server.port}/", additional_headers=login, origin=ORIGIN, compression=None) as client:
                reporter.go.set()
                tried = reporter.reports.get(timeout=180)["found"]
                judge(name, server, port, client, tried)
    except queue.Empty:
        not_ok(name, "the page reported nothing")
    finally:
        end(process)
        shutil.rmtree(folder, ignore_errors=True)
        reporter.shutdown()


def judge(name, server, port, client, tried):
    check(f"{name}: all was tried", len(tried) > 60, True)
    # A page can see nothing of an answer, or that it is refused.
    seen = [f"{what}: {found}" for what, found in tried if "200" in found or "wsson_" in found or '"version"' in found or found == "open"]
    check(f"{name}: nothing is seen", seen, [])
    # That the port does what it is for, so that the test would see it.
    fields = {"Authorization": f"Bearer {KEY}"}
    sent = requests.post(f"http://127.0.0.1:{port}/send?to=*", data="the site's own", headers=fields, timeout=PATIENCE_S)
    check(f"{name}: the site's own program sends", sent.status_code, 200)
    check(f"{name}: nothing else came", client.recv(timeout=PATIENCE_S), "the site's own")
    refused = server.log().count("control_refused") + server.log().count("control_key_refused") + server.log().count("control_error")
    check(f"{name}: the requests were refused", refused > 0 or "repeated" in server.log(), True)


def test():
    for kind, words in ((Server, "without a key"), (Keyed, "with a key")):
        assault(f"chromium from another origin, {words}", kind, None)
        assault(f"chromium from a rebound name, {words}", kind, "rebound.example")
