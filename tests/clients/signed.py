"""Logins and tickets that sites sign with their usual libraries, and forgeries of them, against the server.

PHP signs with hash_hmac, Python with hmac and PyJWT, Node with crypto and jsonwebtoken. Each language gets a secret, a token
and a time, and says a ticket and a JWT; whether those are right is for the server to say.
"""
import base64
import hashlib
import hmac
import json
import os
import subprocess
import sys
import time
from urllib.parse import quote

from harness import CACHE, SECRET, Server, check, cookie_header, cookies, fresh_token, not_ok
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

ORIGIN = "https://example.com"
GROUPS = "article:17,shop/7"

PHP = r"""
[, $secret, $token, $time, $groups] = $argv;
function base64url($bytes) { return rtrim(strtr(base64_encode($bytes), '+/', '-_'), '='); }
$claims = ['sub' => '44', 'jti' => $token, 'iat' => (int)$time, 'exp' => (int)$time + 3600, 'groups' => explode(',', $groups)];
$signed = base64url(json_encode(['typ' => 'JWT', 'alg' => 'HS256'])) . '.' . base64url(json_encode($claims));
echo json_encode([
    'ticket' => hash_hmac('sha256', "groups\n$token\n$time\n$groups", $secret),
    'query' => http_build_query(['groups' => $groups, 'ticket' => hash_hmac('sha256', "groups\n$token\n$time\n$groups", $secret)]),
    'jwt' => $signed . '.' . base64url(hash_hmac('sha256', $signed, $secret, true)),
]);
"""

PYTHON = r"""
import hashlib, hmac, json, sys
from urllib.parse import urlencode
import jwt
_, secret, token, time, groups = sys.argv
ticket = hmac.new(secret.encode(), f"groups\n{token}\n{time}\n{groups}".encode(), hashlib.sha256).hexdigest()
claims = {"sub": "44", "jti": token, "iat": int(time), "exp": int(time) + 3600, "groups": groups.split(",")}
print(json.dumps({
    "ticket": ticket,
    "query": urlencode({"groups": groups, "ticket": ticket}),
    "jwt": jwt.encode(claims, secret, algorithm="HS256"),
}))
"""

NODE = r"""
const crypto = require('crypto'), jwt = require('jsonwebtoken');
const [secret, token, time, groups] = process.argv.slice(1);
const ticket = crypto.createHmac('sha256', secret).update(`groups\n${token}\n${time}\n${groups}`).digest('hex');
const claims = { sub: '44', jti: token, iat: Number(time), groups: groups.split(',') };
console.log(JSON.stringify({
    ticket,
    query: new URLSearchParams({ groups, ticket }).toString(),
    jwt: jwt.sign(claims, secret, { algorithm: 'HS256', expiresIn: 3600 }),
}));
"""

LANGUAGES = {
    "php": ["php", "-r", PHP.strip(), "--"],
    "python": [sys.executable, "-c", PYTHON],
    "node": ["node", "-e", NODE],
}


def sign(language, token, issued, groups=GROUPS, secret=SECRET):
    env = {**os.environ, "NODE_PATH": os.path.join(CACHE, "node", "node_modules")}
    command = [*LANGUAGES[language], secret, token, str(issued), groups]
    done = subprocess.run(command, capture_output=True, env=env, timeout=60)
    if done.returncode != 0:
        not_ok(f"{language} signs", done.stderr.decode(errors="replace"))
        return None
    return json.loads(done.stdout)


def opened(server, cookie="", query=""):
    headers = {"Cookie": cookie} if cookie else {}
    url = f"ws://127.0.0.1:{server.port}/{'?' if query else ''}{query}"
    return connect(url, additional_headers=headers, origin=ORIGIN, compression=None)


def refused(name, server, rule, **how):
    """It must be 403, and no client may be in a group after it."""
    before = server.log().count(f"refused rule={rule} ")
    try:
        opened(server, **how).close()
        return not_ok(name, "it was let in")
    except InvalidStatus as error:
        status = error.response.status_code
    deadline = time.monotonic() + 10
    while server.log().count(f"refused rule={rule} ") == before and time.monotonic() < deadline:
        time.sleep(0.01)
    named = server.log().count(f"refused rule={rule} ") > before
    check(f"{name}: {rule}", (status, named, online(server)), (403, True, [0, 0]))


def online(server):
    """Members of the two groups."""
    names = [f"g:{group}" for group in GROUPS.split(",")]
    with server.backend() as backend:
        backend.command("o", ",".join(names).encode())
        letter, answer = backend.reply()
    counts = json.loads(answer)
    return [counts.get(name) for name in names] if letter == "O" else answer


def tickets(server):
    for language in LANGUAGES:
        token, issued = fresh_token(), int(time.time())
        login = cookie_header(cookies(token, issued))
        signed = sign(language, token, issued)
        if signed is None:
            continue
        with opened(server, cookie=login, query=signed["query"]):
            check(f"{language} ticket: in both groups", online(server), [1, 1])
        other = cookie_header(cookies(fresh_token(), issued))
        refused(f"{language} ticket of another login", server, "wrong_ticket", cookie=other, query=signed["query"])
        later = cookie_header(cookies(token, issued - 1))
        refused(f"{language} ticket of another time", server, "wrong_ticket", cookie=later, query=signed["query"])
        listed = f"groups={quote('article:17')}&ticket={signed['ticket']}"
        refused(f"{language} ticket of another list", server, "wrong_ticket", cookie=login, query=listed)
        forged = sign(language, token, issued, secret="another secret")["query"]
        refused(f"{language} ticket of another secret", server, "wrong_ticket", cookie=login, query=forged)
        refused(f"{language} no ticket", server, "group_not_allowed", cookie=login, query=f"groups={quote(GROUPS)}")


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed_by_hand(header, claims, secret=SECRET):
    signed = f"{base64url(header.encode())}.{base64url(claims.encode())}"
    return f"{signed}.{base64url(hmac.new(secret.encode(), signed.encode(), hashlib.sha256).digest())}"


def forgeries(token, now):
    """The fault, the rule, and the JWT."""
    good = json.dumps({"sub": "44", "jti": token, "exp": now + 3600, "groups": GROUPS.split(",")})
    hs256 = '{"alg":"HS256"}'
    unsigned = signed_by_hand('{"alg":"none"}', good)
    return [
        ("alg none", "wrong_algorithm", unsigned[: unsigned.rindex(".") + 1]),
        ("alg none, signed", "wrong_algorithm", unsigned),
        ("alg RS256", "wrong_algorithm", signed_by_hand('{"alg":"RS256"}', good)),
        ("crit", "wrong_algorithm", signed_by_hand('{"alg":"HS256","crit":["b64"],"b64":false}', good)),
        ("two algs", "bad_jwt", signed_by_hand('{"alg":"none","alg":"HS256"}', good)),
        ("another secret", "wrong_signature", signed_by_hand(hs256, good, "another secret")),
        ("two subjects", "bad_jwt", signed_by_hand(hs256, good[:-1] + ',"sub":"45"}')),
        ("exp as text", "bad_claim", signed_by_hand(hs256, f'{{"exp":"{now + 3600}"}}')),
        ("exp as float", "bad_claim", signed_by_hand(hs256, f'{{"exp":{now + 3600}.5}}')),
        ("negative exp", "bad_claim", signed_by_hand(hs256, '{"exp":-1}')),
        ("no exp", "bad_claim", signed_by_hand(hs256, '{"sub":"44"}')),
        ("exp is over", "expired", signed_by_hand(hs256, f'{{"exp":{now - 1}}}')),
        ("issued in the future", "future", signed_by_hand(hs256, f'{{"exp":{now + 3600},"iat":{now + 600}}}')),
        ("nested 1,000 deep", "bad_jwt", signed_by_hand(hs256, f'{{"x":{"[" * 1000}{"]" * 1000},"exp":{now + 3600}}}')),
        ("trailing dot", "bad_jwt", signed_by_hand(hs256, good) + "."),
        ("padding", "bad_jwt", signed_by_hand(hs256, good) + "="),
        ("groups no list", "bad_groups", signed_by_hand(hs256, f'{{"exp":{now + 3600},"groups":"article:17"}}')),
    ]


def jwts(server):
    now = int(time.time())
    for language in LANGUAGES:
        token = fresh_token()
        signed = sign(language, token, now)
        if signed is None:
            continue
        for place, how in (("cookie", {"cookie": f"token={signed['jwt']}"}), ("URL", {"query": f"jwt={signed['jwt']}"})):
            with opened(server, **how), server.backend() as backend:
                check(f"{language} JWT in the {place}: in both groups", online(server), [1, 1])
                backend.command("o", f"u:44,t:{token}".encode())
                check(f"{language} JWT in the {place}: who it is", json.loads(backend.reply()[1]), {"u:44": 1, f"t:{token}": 1})
    for name, rule, jwt in forgeries(fresh_token(), now):
        refused(f"JWT, {name}", server, rule, cookie=f"token={jwt}")
        refused(f"JWT in the URL, {name}", server, rule, query=f"jwt={quote(jwt)}")
    # A JWT that was revoked does not come back.
    token = fresh_token()
    jwt = sign("python", token, now)["jwt"]
    with opened(server, cookie=f"token={jwt}"), server.backend() as backend:
        backend.command("r", f"t:{token}".encode())
        check("JWT, revoked: closed", json.loads(backend.reply()[1]), {"connections": 1})
    refused("JWT, revoked", server, "revoked", cookie=f"token={jwt}")
    if jwt in server.log() or jwt.rsplit(".", 1)[1] in server.log():
        not_ok("JWT", "the log shows it")


def test():
    with Server([ORIGIN]) as server:
        tickets(server)
    with Server([ORIGIN], auth=['scheme = "jwt"', "query = true"]) as server:
        jwts(server)
