"""Cookies and queries as the frameworks of five languages write them, against the server.

Each language gets a secret, a token, a time, a user and groups, all of which hold characters that encoders change (`,` `@` `+` `:` `/`).
It signs the values as they are, hands them to its usual library, and says the lines of Set-Cookie and the query. As a browser does,
the values go back as they came; the server must find the same login behind all of them.
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from urllib.error import URLError
from urllib.parse import urlencode
from urllib.request import urlopen

from harness import CACHE, SECRET, Server, check, free_port, not_ok
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

ORIGIN = "https://example.com"
TOKEN = "0123456789abcdef,0123-456789abcd"
USER = "anna.b+c@example.com"
GROUPS = "shop/7,news:a+b@c"

PHP = r"""
[$secret, $token, $time, $user, $groups] = $_GET['a'];
$login = ['token' => $token, 'time' => $time, 'user' => $user,
    'digest' => hash_hmac('sha256', "$user\n$token\n$time", $secret)];
foreach ($login as $name => $value) {
    setcookie($name, $value, ['path' => '/', 'httponly' => true, 'samesite' => 'Lax']);
}
$ticket = hash_hmac('sha256', "groups\n$token\n$time\n$groups", $secret);
echo json_encode(['query' => http_build_query(['groups' => $groups, 'ticket' => $ticket])]);
"""

SIGN = r"""
import hashlib, hmac, json, sys
from urllib.parse import urlencode
_, secret, token, time, user, groups = sys.argv
sign = lambda text: hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()
login = {"token": token, "time": time, "user": user, "digest": sign(f"{user}\n{token}\n{time}")}
query = urlencode({"groups": groups, "ticket": sign(f"groups\n{token}\n{time}\n{groups}")})
def say(cookies):
    print(json.dumps({"cookies": cookies, "query": query}))
"""

PYTHON = SIGN + r"""
from http.cookies import SimpleCookie
say([morsel.OutputString() for morsel in SimpleCookie(login).values()])
"""

DJANGO = SIGN + r"""
from django.conf import settings
settings.configure()
from django.http import HttpResponse
response = HttpResponse()
for name, value in login.items():
    response.set_cookie(name, value, httponly=True, samesite="Lax")
say([morsel.OutputString() for morsel in response.cookies.values()])
"""

WERKZEUG = SIGN + r"""
from werkzeug.http import dump_cookie
say([dump_cookie(name, value, httponly=True, samesite="Lax") for name, value in login.items()])
"""

NODE = r"""
const crypto = require('crypto'), cookie = require('cookie');
const [secret, token, time, user, groups] = process.argv.slice(1);
const sign = text => crypto.createHmac('sha256', secret).update(text).digest('hex');
const login = { token, time, user, digest: sign(`${user}\n${token}\n${time}`) };
// Express, Koa and Next write their cookies by this package.
const serialize = cookie.serialize || ((name, value, rest) => cookie.stringifySetCookie({ name, value, ...rest }));
console.log(JSON.stringify({
    cookies: Object.entries(login).map(([name, value]) => serialize(name, value, { path: '/', httpOnly: true })),
    query: new URLSearchParams({ groups, ticket: sign(`groups\n${token}\n${time}\n${groups}`) }).toString(),
}));
"""

RUBY = r"""
require 'json'; require 'openssl'; require 'rack'; require 'uri'
secret, token, time, user, groups = ARGV
sign = ->(text) { OpenSSL::HMAC.hexdigest('SHA256', secret, text) }
login = { 'token' => token, 'time' => time, 'user' => user, 'digest' => sign.("#{user}\n#{token}\n#{time}") }
cookies = login.map { |name, value| # as ActionDispatch does for Rails
  options = { value: value, path: '/', httponly: true }
  next Rack::Utils.set_cookie_header(name, options) if Rack::Utils.respond_to?(:set_cookie_header)
  Rack::Utils.add_cookie_to_header(nil, name, options) } # Rack 2
puts JSON.generate({ cookies: cookies, query: URI.encode_www_form(groups: groups, ticket: sign.("groups\n#{token}\n#{time}\n#{groups}")) })
"""

GO = r"""
package main

import (
    "crypto/hmac"
    "crypto/sha256"
    "encoding/hex"
    "encoding/json"
    "net/http"
    "net/url"
    "os"
)

func main() {
    secret, token, time, user, groups := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
    sign := func(text string) string {
        mac := hmac.New(sha256.New, []byte(secret))
        mac.Write([]byte(text))
        return hex.EncodeToString(mac.Sum(nil))
    }
    login := [][2]string{{"token", token}, {"time", time}, {"user", user}, {"digest", sign(user + "\n" + token + "\n" + time)}}
    var cookies []string
    for _, pair := range login {
        cookie := http.Cookie{Name: pair[0], Value: pair[1], Path: "/", HttpOnly: true}
        cookies = append(cookies, cookie.String())
    }
    query := url.Values{"groups": {groups}, "ticket": {sign("groups\n" + token + "\n" + time + "\n" + groups)}}
    json.NewEncoder(os.Stdout).Encode(map[string]any{"cookies": cookies, "query": query.Encode()})
}
"""

LANGUAGES = {
    "PHP setcookie": ["php"],
    "Python http.cookies": [sys.executable, "-c", PYTHON],
    "Django": [sys.executable, "-c", DJANGO],
    "Werkzeug (Flask)": [sys.executable, "-c", WERKZEUG],
    "Node cookie": ["node", "-e", NODE],
    "Rack (Rails)": ["ruby", "-e", RUBY],
    "Go net/http": ["go", "run", "main.go"],
}


def written(name, folder, arguments):
    """The answer of a language; None when it has failed, which was said."""
    if name == "PHP setcookie":
        return served_by_php(folder, arguments)
    with open(os.path.join(folder, "main.go"), "w") as file:
        file.write(GO)
    env = {**os.environ, "NODE_PATH": os.path.join(CACHE, "node", "node_modules"), "GOCACHE": os.path.join(folder, "go"), "GO111MODULE": "off"}
    done = subprocess.run([*LANGUAGES[name], *arguments], capture_output=True, text=True, env=env, timeout=300, cwd=folder)
    try:
        return json.loads(done.stdout)
    except ValueError:
        return not_ok(f"encoders: {name}", f"ended with {done.returncode}: {done.stdout}{done.stderr}")


def served_by_php(folder, arguments):
    """PHP's own web server: its command line has no headers."""
    with open(os.path.join(folder, "index.php"), "w") as file:
        file.write("<?php" + PHP)
    port = free_port()
    with subprocess.Popen(["php", "-q", "-S", f"127.0.0.1:{port}", "-t", folder], stderr=subprocess.DEVNULL) as server:
        query = urlencode([("a[]", argument) for argument in arguments])
        try:
            for _ in range(500):
                try:
                    with urlopen(f"http://127.0.0.1:{port}/?{query}", timeout=10) as answer:
                        return {"cookies": answer.headers.get_all("Set-Cookie"), **json.load(answer)}
                except ConnectionRefusedError:
                    time.sleep(0.02)
                except URLError as error:
                    if not isinstance(error.reason, ConnectionRefusedError):
                        raise
                    time.sleep(0.02)
        finally:
            server.terminate()
    return not_ok("encoders: PHP setcookie", "its server does not answer")


def encoder(name, server, folder):
    issued = str(int(time.time()))
    answer = written(name, folder, [SECRET, TOKEN, issued, USER, GROUPS])
    if answer is None:
        return
    # What a browser keeps of such a line, and sends.
    pairs = [line.split(";")[0] for line in answer["cookies"]]
    check(f"encoders: {name} writes four cookies", sorted(pair.split("=")[0] for pair in pairs), ["digest", "time", "token", "user"])
    headers = {"Cookie": "; ".join(pairs)}
    try:
        with connect(f"ws://127.0.0.1:{server.port}/?{answer['query']}", additional_headers=headers, origin=ORIGIN, compression=None):
            who = [f"u:{USER}", f"t:{TOKEN}", *(f"g:{group}" for group in GROUPS.split(","))]
            with server.backend() as backend:
                backend.command("o", ",".join(who).encode())
                found = json.loads(backend.reply()[1])
            check(f"encoders: {name} is understood", found, {address: 1 for address in who})
    except InvalidStatus as error:
        log = server.log().splitlines()[-1]
        not_ok(f"encoders: {name}", f"{error.response.status_code} for {headers} {answer['query']}: {log}")


def test():
    folder = tempfile.mkdtemp(prefix="wsson-encoders-")
    try:
        with Server([ORIGIN], auth=['identity = "user"', 'digest = "hmac-sha256"']) as server:
            for name, command in LANGUAGES.items():
                if shutil.which(command[0]) is None:
                    if os.environ.get("CI") == "true":
                        not_ok(f"encoders: {name}", f"there is no {command[0]}")
                    else:
                        print(f"skipped step encoders: {name}: there is no {command[0]}")
                    continue
                encoder(name, server, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
