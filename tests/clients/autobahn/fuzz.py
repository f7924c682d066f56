# Python 2.7: runs the cases of autobahntestsuite against one server.
#
# usage: fuzz.py SPEC SECRET ORIGIN OPENED
#
# Entries of `servers` take no headers, so the cookies are set where the opening handshake is written, fresh for each
# connection. A refused handshake can be scored OK and a refused connection silently drops the rest: so the id of each
# case whose connection really opened is written to OPENED, one a line, and the caller counts them.
import hashlib
import json
import os
import sys
import time

import autobahntestsuite.choosereactor  # must come before everything of Twisted
from autobahntestsuite import fuzzing
from twisted.internet import reactor

spec_path, secret, origin, opened_path = sys.argv[1:]
opened = open(opened_path, "w")
Protocol = fuzzing.FuzzingClientProtocol
start_handshake, on_open = Protocol.startHandshake, Protocol.onOpen


def start_with_cookies(self):
    token = os.urandom(16).encode("hex")
    issued = str(int(time.time()))
    digest = hashlib.md5(secret + token + issued).hexdigest()
    self.factory.headers = {"Cookie": "token=%s; time=%s; digest=%s" % (token, issued, digest)}
    self.factory.origin = origin
    start_handshake(self)


def note_and_open(self):
    opened.write(self.factory.CaseSet.caseClasstoId(self.Case) + "\n")
    opened.flush()
    on_open(self)


Protocol.startHandshake, Protocol.onOpen = start_with_cookies, note_and_open
with open(spec_path) as spec:
    fuzzing.startClient(json.load(spec))
reactor.run()
