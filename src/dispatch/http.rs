//! HTTP requests of backends: routes to the commands that frames carry, and their replies to responses.
//!
//! It never does what a command does (its parent does), and never reads a body whose request is refused. Invariant: behind
//! whatever could be read in two ways nothing is executed: it is answered, and the connection ends.
//! design: docs/http.md.

use super::bus::{self, Spread};
use super::{COMMAND_COST, Progress, SHARE, ask, cost, is_burst, prove};
use crate::config::{ARRIVAL_MS_MAX, HEAD_BYTES_MAX};
use crate::hub::{Back, Form, Hub, Judged, Wait};
use crate::key::BackendKey;
use crate::peer::backend::Origin;
use crate::peer::exchange::{Batch, Exchange, Manner};
use crate::peer::worker::Format;
use crate::wire::command::{
    self, Addresses, Answer, Command, ListRules, Planned, Rules, Sends, Subscription, Verb,
};
use crate::wire::frame::Kind;
use crate::wire::http::{self, BodyError, CONTINUE, Framing, HeadError, Request, Response};
use log::info;
use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr};

/// Methods have fewer letters. What has more, or other letters, is another protocol.
const METHOD_BYTES_MAX: usize = 16;

/// What a path is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Send,
    /// A command whose payload is its parameters.
    Command(Verb),
    Status,
    Metrics,
    Health,
    /// Events, as long as it is wanted.
    Events,
}

struct Route {
    method: &'static str,
    path: &'static str,
    deed: Deed,
    /// The parameters in the order of the command's payload: the first so many must be there.
    parameters: &'static [&'static str],
    required: usize,
}

const fn route(
    method: &'static str,
    path: &'static str,
    deed: Deed,
    required: usize,
    parameters: &'static [&'static str],
) -> Route {
    Route { method, path, deed, parameters, required }
}

const ROUTES: &[Route] = &[
    route("POST", "/send", Deed::Send, 0, &["to", "kind", "arrived"]),
    route("POST", "/kick", Deed::Command(Verb::Kick), 1, &["who", "reason"]),
    route("POST", "/revoke", Deed::Command(Verb::Revoke), 1, &["who", "reason"]),
    route("POST", "/join", Deed::Command(Verb::Join), 2, &["groups", "who"]),
    route("POST", "/leave", Deed::Command(Verb::Leave), 2, &["groups", "who"]),
    route("GET", "/online", Deed::Command(Verb::Count), 1, &["who"]),
    route("GET", "/here", Deed::Command(Verb::Here), 1, &["at", "cursor"]),
    route("GET", "/events", Deed::Events, 1, &["kinds", "as", "watch"]),
    route("GET", "/status", Deed::Status, 0, &[]),
    route("GET", "/metrics", Deed::Metrics, 0, &[]),
    route("GET", "/healthz", Deed::Health, 0, &[]),
];

/// A request that is not done.
#[derive(Debug)]
struct Refusal {
    status: u16,
    error: Cow<'static, str>,
    hint: Cow<'static, str>,
    /// A field that the response has besides: the method that the path has, the way to prove who one is.
    field: Option<(&'static str, &'static str)>,
    /// Where the next request begins is not known, or its sender is none of ours.
    ends: bool,
}

impl Refusal {
    fn new(status: u16, error: impl Into<Cow<'static, str>>, hint: impl Into<Cow<'static, str>>) -> Self {
        Self { status, error: error.into(), hint: hint.into(), field: None, ends: false }
    }

    fn ends(mut self) -> Self {
        self.ends = true;
        self
    }

    fn json(&self) -> String {
        serde_json::json!({ "error": self.error, "hint": self.hint }).to_string()
    }
}

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        let (status, hint) = match error {
            HeadError::TooManyHeaders => (431, "send fewer fields"),
            HeadError::ContentLength => (400, "one Content-Length, a plain decimal number"),
            HeadError::TransferEncoding => {
                (400, "a body has a Content-Length, or is chunked and nothing else")
            }
            _ => (400, "a request of HTTP/1.1 begins with METHOD /path HTTP/1.1, its lines end in CR LF"),
        };
        Self::new(status, format!("the request cannot be read: {error:?}"), hint).ends()
    }
}

impl From<BodyError> for Refusal {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::TooLarge => Self::new(413, "the body is too long", "limits.control_payload bounds it"),
            BodyError::BadChunk => Self::new(400, "the body cannot be read: BadChunk", CHUNKED),
            BodyError::Trailer => Self::new(400, "the body cannot be read: Trailer", CHUNKED),
        }
        .ends()
    }
}

const CHUNKED: &str = "each chunk is its length in hexadecimal, CR LF, the bytes, CR LF; no trailers";

/// What became of what is there.
enum Step {
    /// The request is not whole.
    More,
    /// It is, and has to wait.
    Wait(Progress),
    /// It is done, and answered later.
    Later,
    /// It is done: status, kind of content, body.
    Done(u16, &'static str, Vec<u8>),
    /// The response has begun and goes on with events.
    Stream,
}

/// Executes a share of the requests in `input`; returns how many bytes of it were taken.
pub(super) fn run(hub: &mut Hub, key: BackendKey, input: &[u8]) -> (usize, Progress) {
    let mut exchange = hub.backends.take_exchange(key);
    let mut rest = input;
    let progress = serve(hub, key, &mut exchange, &mut rest);
    hub.backends.return_exchange(key, exchange);
    (input.len() - rest.len(), progress)
}

fn serve(hub: &mut Hub, key: BackendKey, exchange: &mut Exchange, rest: &mut &[u8]) -> Progress {
    let mut share = SHARE;
    let progress = loop {
        if hub.owes_replies(key) {
            break Progress::Waiting; // the flush of the replies brings it back
        }
        if hub.backends[key].is_stream() {
            *rest = &[]; // its response never ends: nothing behind it is ever answered
            hub.all_executed(key);
            return Progress::Waiting;
        }
        match step(hub, key, exchange, rest, &mut share) {
            Ok(Step::More) => {
                hub.all_executed(key);
                return Progress::Waiting;
            }
            Ok(Step::Wait(progress)) => break progress,
            Ok(Step::Stream) => {}
            Ok(Step::Done(status, content_type, body)) => {
                respond(hub, key, exchange, Response::new(status), content_type, &body, false);
            }
            Ok(Step::Later) => {}
            Err(refusal) => refuse(hub, key, exchange, &refusal),
        }
        exchange.clear();
        if hub.backends[key].state != super::State::Open {
            break Progress::Waiting;
        }
        if share == 0 {
            break Progress::More;
        }
    };
    hub.backends.set_unfinished(key, true);
    progress
}

fn step(
    hub: &mut Hub,
    key: BackendKey,
    exchange: &mut Exchange,
    rest: &mut &[u8],
    share: &mut usize,
) -> Result<Step, Refusal> {
    *share = share.saturating_sub(COMMAND_COST);
    if !exchange.has_head() && !exchange.read_head(rest, HEAD_BYTES_MAX)? {
        check_beginning(exchange.head())?;
        return Ok(Step::More);
    }
    if exchange.batch().is_some() {
        return perform_batch(hub, key, exchange, share);
    }
    let is_new = !exchange.has_head();
    let (head, incoming, manner) = exchange.parts();
    // However small the pieces of a body are, its head is not read again for each.
    if !is_new && !incoming.read(rest)? {
        return Ok(Step::More);
    }
    let request = http::parse(head)?;
    let fields = Fields::of(&request);
    let how = Manner { is_head: request.method() == "HEAD", ends: !request.keeps_alive() };
    *manner = Some(how);
    if is_new {
        let framing = request.framing();
        let has_body = !matches!(framing, Framing::None | Framing::Length(0));
        let refused = |refusal: Refusal| if has_body { refusal.ends() } else { refusal };
        let waits = admit(hub, key, &request, &fields).map_err(refused)?;
        incoming.begin(framing, hub.control_rules().payload_bytes_max)?;
        if waits && rest.is_empty() {
            hub.backends.respond(key, CONTINUE.to_vec());
        }
        if !incoming.read(rest)? {
            return Ok(Step::More);
        }
    }
    let route = find(&request)?;
    if !matches!(route.deed, Deed::Health | Deed::Status | Deed::Metrics) && hub.is_draining() {
        return Err(Refusal::new(503, "draining", "the server is about to end").ends());
    }
    if route.deed == Deed::Send && is_batch(&request, &fields)? {
        let sends = Sends::parse(incoming.message(), list_rules(hub.control_rules()));
        let sends =
            sends.map_err(|error| Refusal::new(400, format!("the JSON is not right: {error}"), BATCH))?;
        if sends.as_list && hub.has_bus() {
            return Err(Refusal::new(
                501,
                "a list of sends does not go to other nodes",
                "a request for each",
            ));
        }
        exchange.plan(Batch::new(sends));
        return perform_batch(hub, key, exchange, share);
    }
    perform(hub, key, (&request, &fields, route, how), incoming.message(), share)
}

const BATCH: &str =
    r#"{"to":["u:44"],"text":"Hello"}, or "base64", or a list of such objects; nothing was sent"#;

/// Whether the receivers are in the body, as JSON.
fn is_batch(request: &Request<'_>, fields: &Fields<'_>) -> Result<bool, Refusal> {
    Ok(!request.target().contains('?') && content(fields)? == Content::Json)
}

/// The fields that count, from one pass over all.
#[derive(Debug, Default)]
struct Fields<'h> {
    /// One that only browsers send.
    of_browsers: Option<&'h str>,
    content_type: Option<&'h [u8]>,
    authorization: Option<&'h [u8]>,
    authorizations: usize,
    expects: bool,
}

impl<'h> Fields<'h> {
    fn of(request: &Request<'h>) -> Self {
        let mut found = Self::default();
        for (name, value) in request.headers() {
            let is = |known: &str| name.eq_ignore_ascii_case(known);
            match name.len() {
                6 if is("origin") || is("cookie") => found.of_browsers = Some(name),
                6 if is("expect") => found.expects = true,
                7 if is("referer") => found.of_browsers = Some(name),
                // A browser never sends `Sec-Fetch-Mode` without the others. The `fetch` of Node does, and is none.
                10.. if name[..10].eq_ignore_ascii_case("sec-fetch-") && !is("sec-fetch-mode") => {
                    found.of_browsers = Some(name);
                }
                12 if found.content_type.is_none() && is("content-type") => found.content_type = Some(value),
                13 if is("authorization") => {
                    found.authorization = Some(value);
                    found.authorizations += 1;
                }
                _ => {}
            }
        }
        found
    }
}

/// Does a share of the sends of a body, each in its turn.
fn perform_batch(
    hub: &mut Hub,
    key: BackendKey,
    exchange: &mut Exchange,
    share: &mut usize,
) -> Result<Step, Refusal> {
    let rules = list_rules(hub.control_rules());
    let how = exchange.manner().expect("the head was read");
    let Some(batch) = exchange.batch() else { return Ok(Step::More) };
    while let Some(Planned { to, kind, message }) = batch.next() {
        let to = Addresses::parse(to.as_bytes(), rules);
        // A reload may have changed the length of tokens since.
        let to = to.map_err(|error| Refusal::new(400, error.to_string(), ADDRESSES))?;
        let command = Command::WriteAnswered(*kind, to, message);
        if !batch.is_list() {
            return carry_out(hub, key, (command, message.len()), how, None, share);
        }
        if *share == 0 || is_burst(&command) && hub.is_throttled(message.len()) {
            return Ok(Step::Wait(Progress::More));
        }
        match hub.wait_for(key, &command, message.len()) {
            Wait::No => {}
            Wait::Flush => return Ok(Step::Wait(Progress::More)),
            Wait::Reader => return Ok(Step::Wait(Progress::Held)),
        }
        *share = share.saturating_sub(cost(hub, &command));
        let answer = ask(hub, command, share).json();
        batch.answered(&answer);
    }
    Ok(Step::Done(200, JSON, batch.body()))
}

fn list_rules(rules: Rules) -> ListRules {
    ListRules { token_length: rules.token_length, items_max: rules.addresses_max }
}

/// What is there of a head that is not whole: refused as soon as it shows that it is none.
fn check_beginning(head: &[u8]) -> Result<(), Refusal> {
    if head.len() > HEAD_BYTES_MAX {
        return Err(Refusal::new(431, "the head is too long", "its bound is 64 KiB").ends());
    }
    let letters = head.iter().take_while(|byte| byte.is_ascii_uppercase()).count();
    match head.get(letters) {
        None | Some(b' ') if letters <= METHOD_BYTES_MAX => Ok(()),
        _ => Err(HeadError::BadRequestLine.into()),
    }
}

/// Judges a head, before its body is read. Whether the client waits for leave to send the body.
fn admit(
    hub: &mut Hub,
    key: BackendKey,
    request: &Request<'_>,
    fields: &Fields<'_>,
) -> Result<bool, Refusal> {
    if request.version().0 != 1 {
        return Err(Refusal::new(505, "this is HTTP/1.1", "send HTTP/1.1").ends());
    }
    check_sender(hub, key, request, fields)?;
    let waits = if fields.expects { request.awaits_continue() } else { Some(false) };
    let waits =
        waits.ok_or_else(|| Refusal::new(417, "this is not expected", "Expect: 100-continue").ends())?;
    let route = find(request)?;
    if route.deed == Deed::Send && request.framing() == Framing::None {
        let hint = "it is the body: Content-Length, or chunked";
        return Err(Refusal::new(411, "the message is missing", hint));
    }
    let values = parameters(request, route)?;
    if route.deed == Deed::Send && (values[0].is_some() || !is_batch(request, fields)?) {
        if values[0].as_deref().is_none_or(str::is_empty) {
            let hint = "to= in the URL, or \"to\" in a body of application/json";
            return Err(Refusal::new(400, "to is missing", hint));
        }
        if values[1].is_none() {
            content(fields)?;
        }
    }
    Ok(waits)
}

/// Which programs may (docs/http.md, "Who may"): no browser, and over a network none that was led here by a name that is
/// not ours.
fn check_sender(
    hub: &mut Hub,
    key: BackendKey,
    request: &Request<'_>,
    fields: &Fields<'_>,
) -> Result<(), Refusal> {
    if let Some(name) = fields.of_browsers {
        let error = format!("a request with {name} comes from a browser");
        return Err(Refusal::new(403, error, "the control socket is for your own programs").ends());
    }
    if hub.asks_for_key(key) {
        return check_key(hub, key, fields); // a page that leads its own name here has none
    }
    let is_own = |host: &str| hub.rules.control_hosts.iter().any(|own| own.eq_ignore_ascii_case(host));
    let host = without_port(request.host());
    let may = hub.backends[key].origin != Origin::Network;
    if may || is_address(host) || host.eq_ignore_ascii_case("localhost") || is_own(host) {
        return Ok(());
    }
    let hint = "over TCP it must be an IP address, localhost, or one of control_hosts";
    Err(Refusal::new(403, "this is not the name of this host", hint).ends())
}

/// RFC 6750 section 2.1.
fn check_key(hub: &mut Hub, key: BackendKey, fields: &Fields<'_>) -> Result<(), Refusal> {
    let given = fields.authorization.filter(|_| fields.authorizations == 1).and_then(|field| {
        let (scheme, given) = field.split_at_checked(BEARER.len())?;
        scheme.eq_ignore_ascii_case(BEARER).then(|| given.trim_ascii_start())
    });
    let Some(given) = given else {
        hub.note_keyless(key, "none");
        return Err(unauthorized(
            "this needs the control key",
            "Authorization: Bearer KEY, the key of control_key_file",
        ));
    };
    match hub.judge_key(key, given) {
        Judged::Right => Ok(()),
        Judged::Wrong => {
            Err(unauthorized("the control key is wrong", "it is in the file of control_key_file"))
        }
        Judged::TooMany => {
            let hint = "three a second are looked at; then no other of this address is";
            let mut refusal = Refusal::new(429, "too many wrong control keys", hint).ends();
            refusal.field = Some(("Retry-After", "1"));
            Err(refusal)
        }
    }
}

const BEARER: &[u8] = b"Bearer ";

fn unauthorized(error: &'static str, hint: &'static str) -> Refusal {
    let mut refusal = Refusal::new(401, error, hint).ends();
    refusal.field = Some(("WWW-Authenticate", "Bearer"));
    refusal
}

fn without_port(host: &str) -> &str {
    let is_port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) && (!name.contains(':') || name.ends_with(']')) => name,
        _ => host,
    }
}

fn is_address(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host.parse::<IpAddr>().is_ok_and(|address| address.is_ipv4()),
    }
}

fn find(request: &Request<'_>) -> Result<&'static Route, Refusal> {
    if !request.target().starts_with('/') {
        return Err(Refusal::new(400, "the target is not a path", "METHOD /path HTTP/1.1").ends());
    }
    let path = request.path();
    let Some(route) = ROUTES.iter().find(|route| route.path == path) else {
        let paths: Vec<String> =
            ROUTES.iter().map(|route| format!("{} {}", route.method, route.path)).collect();
        return Err(Refusal::new(404, "there is no such path", format!("there are {}", paths.join(", "))));
    };
    let method = if request.method() == "HEAD" { "GET" } else { request.method() };
    if method != route.method {
        let mut refusal = Refusal::new(405, "this path has another method", route.method);
        refusal.field = Some(("Allow", if route.method == "GET" { "GET, HEAD" } else { route.method }));
        return Err(refusal);
    }
    Ok(route)
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    Message(Kind),
    /// A message as well, where the URL says to whom; else sends.
    Json,
}

/// What the body is, as its Content-Type says. Command-line tools and libraries call a body that they are
/// given a form, so that is text here.
fn content(fields: &Fields<'_>) -> Result<Content, Refusal> {
    let value = fields.content_type.unwrap_or(b"text/plain");
    let end = value.iter().position(|&byte| byte == b';').unwrap_or(value.len());
    let (name, parameters) = (value[..end].trim_ascii(), &value[end..]);
    let is = |known: &[u8]| name.eq_ignore_ascii_case(known);
    let is_text = name.get(..5).is_some_and(|begin| begin.eq_ignore_ascii_case(b"text/"));
    match () {
        () if is(b"application/octet-stream") => Ok(Content::Message(Kind::Binary)),
        () if is(b"application/json") && is_utf8(parameters) => Ok(Content::Json),
        () if (is_text || is(b"application/x-www-form-urlencoded")) && is_utf8(parameters) => {
            Ok(Content::Message(Kind::Text))
        }
        () => {
            let hint =
                "text/plain or application/json in UTF-8, or application/octet-stream for a binary message";
            Err(Refusal::new(415, "a body of this type is not sent", hint))
        }
    }
}

/// Whether the parameters of a Content-Type name no other character set.
fn is_utf8(parameters: &[u8]) -> bool {
    if parameters.is_empty() {
        return true;
    }
    let parameters = String::from_utf8_lossy(parameters).to_ascii_lowercase();
    let charset = parameters.split_once("charset=").map(|(_, set)| set.trim_matches(|c| "\"' ".contains(c)));
    charset.is_none_or(|set| set.starts_with("utf-8") || set.starts_with("us-ascii"))
}

/// The parameters of the URL, each there once at most and known.
fn parameters<'h>(request: &Request<'h>, route: &Route) -> Result<Vec<Option<Cow<'h, str>>>, Refusal> {
    let mut values = vec![None; route.parameters.len()];
    let hint = || match route.parameters.join(", ") {
        names if names.is_empty() => Cow::Borrowed("this path has no parameters"),
        names => Cow::Owned(format!("the parameters are {names}, percent-encoded UTF-8")),
    };
    let query = request.target().split_once('?').map_or("", |(_, query)| query);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place =
            http::decode(name).and_then(|name| route.parameters.iter().position(|known| *known == name));
        let Some(place) = place else {
            return Err(Refusal::new(400, format!("there is no parameter {name}"), hint()));
        };
        let known = route.parameters[place];
        let value = http::decode(value)
            .ok_or_else(|| Refusal::new(400, format!("{known} is not percent-encoded UTF-8"), hint()))?;
        if values[place].replace(value).is_some() {
            return Err(Refusal::new(400, format!("{known} is there twice"), hint()));
        }
    }
    let missing =
        values[..route.required].iter().position(|value| value.as_deref().is_none_or(str::is_empty));
    match missing {
        Some(place) => Err(Refusal::new(400, format!("{} is missing", route.parameters[place]), hint())),
        None => Ok(values),
    }
}

/// Does what a whole request asks for, unless it has to wait.
fn perform(
    hub: &mut Hub,
    key: BackendKey,
    (request, fields, route, how): (&Request<'_>, &Fields<'_>, &'static Route, Manner),
    message: &[u8],
    share: &mut usize,
) -> Result<Step, Refusal> {
    let values = parameters(request, route)?;
    let rules = hub.control_rules();
    if route.deed != Deed::Send && !message.is_empty() {
        return Err(Refusal::new(400, "this request has no body", "parameters belong into the URL"));
    }
    let payload;
    let command = match route.deed {
        Deed::Health => {
            let (status, word) = if hub.is_draining() { (503, "draining\n") } else { (200, "ok\n") };
            return Ok(Step::Done(status, "text/plain", word.into()));
        }
        Deed::Metrics => {
            *share = 0; // it asks the kernel about the process: one a turn
            return Ok(Step::Done(200, METRICS, hub.metrics().into_bytes()));
        }
        Deed::Status => Command::Status,
        Deed::Events => return stream(hub, key, request, &values),
        Deed::Send => send(fields, &values, message, rules)?,
        Deed::Command(verb) => {
            payload = join(route, &values)?;
            read(verb, payload.as_bytes(), rules)?
        }
    };
    let within_ms = if route.deed == Deed::Send { arrival_ms(&values)? } else { None };
    carry_out(hub, key, (command, message.len()), how, within_ms, share)
}

/// Executes a command whose answer is a response, unless it has to wait.
fn carry_out(
    hub: &mut Hub,
    key: BackendKey,
    (command, bytes): (Command<'_>, usize),
    Manner { is_head, ends }: Manner,
    within_ms: Option<u64>,
    share: &mut usize,
) -> Result<Step, Refusal> {
    if is_burst(&command) && hub.is_throttled(bytes) {
        return Ok(Step::Wait(Progress::More));
    }
    match hub.wait_for(key, &command, bytes) {
        Wait::No => {}
        Wait::Flush => return Ok(Step::Wait(Progress::More)),
        Wait::Reader => return Ok(Step::Wait(Progress::Held)),
    }
    *share = share.saturating_sub(cost(hub, &command));
    if let Command::Status = command {
        return Ok(Step::Done(200, JSON, hub.report_json().into_bytes()));
    }
    if hub.has_bus() {
        match bus::execute(hub, key, &command, Back::Http { ends, is_head }, share) {
            Spread::Here => {}
            Spread::Done => {
                if ends {
                    hub.finish_backend(key);
                }
                return Ok(Step::Later);
            }
            Spread::Answered(Answer::Refused(refused)) => {
                return Err(Refusal::new(503, refused.error, "the log has more"));
            }
            Spread::Answered(Answer::ProofRefused { error, .. }) => {
                return Err(Refusal::new(501, error, "without arrived= it is sent to all nodes"));
            }
            Spread::Answered(answer) => return Ok(Step::Done(200, JSON, answer.json())),
        }
    }
    if let Command::WriteProved(kind, id, to, message) = command {
        let within_ms = within_ms.unwrap_or(hub.rules.timeouts.arrival_ms);
        prove(hub, key, (kind, id, &to, message), Form::Response { ends }, within_ms, share);
        if ends {
            hub.finish_backend(key);
        }
        return Ok(Step::Later);
    }
    match ask(hub, command, share) {
        Answer::Refused(refused) => Err(Refusal::new(503, refused.error, "the log has more")),
        answer => Ok(Step::Done(200, JSON, answer.json())),
    }
}

const JSON: &str = "application/json";
/// A JSON object a line.
const LINES: &str = "application/x-ndjson";

/// Begins a response that goes on with events, until one side ends it.
fn stream(
    hub: &mut Hub,
    key: BackendKey,
    request: &Request<'_>,
    values: &[Option<Cow<'_, str>>],
) -> Result<Step, Refusal> {
    const HINT: &str = "kinds=message,open,close,online,offline, as=POOL, watch=1 to look on only";
    let refused = |why: command::Unreadable| Refusal::new(400, why.to_string(), HINT);
    let kinds = Subscription::kinds(values[0].as_deref().unwrap_or_default()).map_err(refused)?;
    let pool = values[1].as_deref().map_or(Ok(""), Subscription::pool).map_err(refused)?;
    let watch = match values[2].as_deref() {
        None | Some("0") => false,
        Some("1") => true,
        Some(_) => return Err(refused(command::Unreadable::Option)),
    };
    if request.version() == (1, 0) {
        return Err(Refusal::new(505, "a response of HTTP/1.0 is not chunked", "send HTTP/1.1").ends());
    }
    if request.method() == "HEAD" {
        return Ok(Step::Done(200, LINES, Vec::new()));
    }
    // Events pass answers that wait, and a response must not.
    if hub.backends[key].replies.waits() {
        return Ok(Step::Wait(Progress::Held));
    }
    let response =
        Response::new(200).field("Cache-Control", "no-store").field("X-Content-Type-Options", "nosniff");
    let response = response.field("X-Accel-Buffering", "no"); // so that nginx passes each line on
    if !hub.may_subscribe(pool) {
        return Err(Refusal::new(503, "there are as many pools as there may be", "as= a pool that is there"));
    }
    hub.backends.respond(key, response.close().chunked(LINES));
    let wish = Subscription { kinds, pool, ack: false, watch };
    match hub.subscribe(key, &wish, Format::Lines) {
        Ok(()) => Ok(Step::Stream),
        Err(_) => unreachable!("there was room for the pool"),
    }
}
const METRICS: &str = crate::stats::CONTENT_TYPE;

fn send<'m>(
    fields: &Fields<'_>,
    values: &'m [Option<Cow<'_, str>>],
    message: &'m [u8],
    rules: Rules,
) -> Result<Command<'m>, Refusal> {
    let kind = match values[1].as_deref() {
        None => match content(fields)? {
            Content::Message(kind) => kind,
            Content::Json => Kind::Text,
        },
        Some("text") => Kind::Text,
        Some("binary") => Kind::Binary,
        Some(_) => return Err(Refusal::new(400, "there is no such kind", "text or binary")),
    };
    let to = Addresses::parse(values[0].as_deref().unwrap_or_default().as_bytes(), list_rules(rules));
    let to = to.map_err(|error| Refusal::new(400, error.to_string(), ADDRESSES))?;
    if !command::is_sendable(kind, message) {
        let hint = "send it with kind=binary, or as application/octet-stream";
        return Err(Refusal::new(400, "the text is not UTF-8", hint));
    }
    Ok(match arrival_ms(values)? {
        Some(_) => Command::WriteProved(kind, "", to, message),
        None => Command::WriteAnswered(kind, to, message),
    })
}

/// How long the answer may wait for browsers, if it is to.
fn arrival_ms(values: &[Option<Cow<'_, str>>]) -> Result<Option<u64>, Refusal> {
    let Some(text) = values[2].as_deref() else { return Ok(None) };
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let ms = text.parse::<f64>().ok().filter(|_| is_number).map(|seconds| (seconds * 1000.0).round());
    match ms {
        Some(ms) if ms > 0.0 && ms <= ARRIVAL_MS_MAX as f64 => Ok(Some(ms as u64)),
        _ => Err(Refusal::new(400, "arrived is not a time", "seconds, more than 0 and at most 30")),
    }
}

const ADDRESSES: &str =
    "addresses are *, t:TOKEN, u:USER, g:GROUP and c:CONNECTION, with commas between them";

/// The payload of the command. A blank separates its parts, so only the last one may have blanks.
fn join(route: &Route, values: &[Option<Cow<'_, str>>]) -> Result<String, Refusal> {
    let given: Vec<&str> = values.iter().map_while(Option::as_deref).collect();
    match given[..given.len().min(route.required)].iter().position(|value| value.contains(' ')) {
        Some(place) => {
            let error = format!("{} has a blank in it", route.parameters[place]);
            Err(Refusal::new(400, error, "the items of a list have commas between them and no blanks"))
        }
        None => Ok(given.join(" ")),
    }
}

fn read(verb: Verb, payload: &[u8], rules: Rules) -> Result<Command<'_>, Refusal> {
    match command::from_parts(verb, payload, rules) {
        Ok(Command::Refused(_, why)) => Err(Refusal::new(400, why.to_string(), ADDRESSES)),
        Ok(command) => Ok(command),
        Err(error) => Err(Refusal::new(400, error.to_string(), ADDRESSES)),
    }
}

fn refuse(hub: &mut Hub, key: BackendKey, exchange: &Exchange, refusal: &Refusal) {
    if refusal.ends {
        info!("control_refused status={} reason=\"{}\"", refusal.status, refusal.error.escape_debug());
        hub.stats.errors += 1;
    }
    let mut response = Response::new(refusal.status);
    if let Some((name, value)) = refusal.field {
        response = response.field(name, value);
    }
    respond(hub, key, exchange, response, JSON, refusal.json().as_bytes(), refusal.ends);
}

fn respond(
    hub: &mut Hub,
    key: BackendKey,
    exchange: &Exchange,
    response: Response,
    content_type: &str,
    body: &[u8],
    ends: bool,
) {
    let manner = exchange.manner();
    let ends = ends || hub.is_draining() || manner.is_none_or(|manner| manner.ends);
    let response = response.field("Cache-Control", "no-store").field("X-Content-Type-Options", "nosniff");
    let response = if ends { response.close() } else { response };
    let bytes = match manner.is_some_and(|manner| manner.is_head) {
        true => response.head_for(content_type, body.len()),
        false => response.body(content_type, body),
    };
    hub.stats.http_requests += 1;
    hub.backends.respond(key, bytes);
    if ends {
        hub.finish_backend(key);
    }
}
