//! One seed's world: limits, timeouts, and which faults there are. Every seed leaves some of them out, so
//! that the rest shows what it does alone.

use crate::net::Faults;
use crate::rng::Rng;
use wsson::Settings;
use wsson::testing::auth::Secret;

#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) faults: Faults,
    pub(crate) steps: usize,
    pub(crate) browsers: usize,
    pub(crate) backends: usize,
    pub(crate) tokens: usize,
    pub(crate) sockets_max: usize,
    /// How often, in percent, the server misses a step, so that more comes together.
    pub(crate) lazy: usize,
    /// Lengths of messages.
    pub(crate) sizes: &'static [usize],
    pub(crate) can: Can,
    /// Backends send by lists of addresses. By the seed alone, so that what the others draw stays as it was.
    pub(crate) addresses: bool,
    /// What browsers say is passed to workers too. By the seed alone, for the same reason.
    pub(crate) workers: bool,
    /// They use groups, exceptions, questions and kicks. By the seed alone.
    pub(crate) groups: bool,
    /// They revoke logins too. By the seed alone, for the same reason, and never where the clock jumps: a login that was
    /// over, and with it its revocation, would be good again.
    pub(crate) revoke: bool,
    /// Seconds a fresh login is still good for.
    pub(crate) login_s: i64,
}

/// The faults, each in about half of the worlds.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Can {
    pub(crate) reset: bool,
    pub(crate) half_close: bool,
    pub(crate) stop: bool,
    pub(crate) mute: bool,
    /// Long times pass.
    pub(crate) stall: bool,
    /// The wall clock jumps.
    pub(crate) jump: bool,
    pub(crate) drain: bool,
    pub(crate) expire: bool,
    pub(crate) flood: bool,
    pub(crate) malformed: bool,
    pub(crate) lock: bool,
    pub(crate) broadcast: bool,
    pub(crate) reload: bool,
    /// Only backends send, and broadcast a lot to browsers that take it.
    pub(crate) quiet: bool,
    /// The application broadcasts when a client has left.
    pub(crate) farewell: bool,
}

pub(crate) const TOKEN_BYTES: usize = 8;
pub(crate) const ORIGIN: &str = "https://example.com";

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let can = can(rng);
        if rng.chance(4) {
            return Self::quiet(rng);
        }
        Self {
            settings: settings(rng, can),
            faults: faults(rng),
            steps: rng.pick(&[20, 60, 120, 250]),
            browsers: rng.between(1, 6),
            backends: rng.between(0, 3),
            tokens: rng.between(1, 3),
            lazy: rng.pick(&[10, 10, 70]),
            sockets_max: rng.pick(&[2, 5, 1000, 1000]),
            sizes: rng.pick(&[&[10, 20], &[10, 100, 130, 400], &[10, 3000], &[10, 500, 70_000]]),
            can,
            addresses: false,
            workers: false,
            groups: false,
            revoke: false,
            login_s: if can.expire { rng.between(1, 20) as i64 } else { 80_000 },
        }
    }

    fn quiet(rng: &mut Rng) -> Self {
        let can = Can { quiet: true, broadcast: true, flood: true, ..Can::default() };
        let mut settings = settings(rng, can);
        let limits = &mut settings.limits;
        (limits.outbox_bytes, limits.queued_bytes) = (rng.pick(&[20_000, 100_000]), 1 << 28);
        limits.connections_per_token = 100;
        Self {
            settings,
            faults: Faults { cap: 1 << 30, ..Faults::none() },
            steps: 20,
            browsers: rng.between(1, 3),
            backends: rng.between(1, 2),
            tokens: 1,
            sockets_max: 1000,
            lazy: 10,
            sizes: &[10, 3000],
            can,
            addresses: false,
            workers: false,
            groups: false,
            revoke: false,
            login_s: 80_000,
        }
    }

    pub(crate) fn token(&self, token: usize) -> String {
        format!("token-{token:02}")
    }
}

fn can(rng: &mut Rng) -> Can {
    let stall = rng.chance(35);
    Can {
        reset: rng.chance(40),
        half_close: rng.chance(40),
        stop: rng.chance(40),
        mute: stall && rng.chance(50),
        stall,
        jump: rng.chance(25),
        drain: rng.chance(20),
        expire: stall && rng.chance(40),
        flood: rng.chance(12),
        malformed: rng.chance(40),
        lock: rng.chance(60),
        broadcast: rng.chance(60),
        reload: rng.chance(15),
        quiet: false,
        farewell: rng.chance(15),
    }
}

fn faults(rng: &mut Rng) -> Faults {
    let mut some = |percents: &[usize]| if rng.chance(50) { rng.pick(percents) } else { 0 };
    let (split, interrupt, storm) = (some(&[30, 95]), some(&[3, 20]), some(&[10, 50]));
    let (accept, spurious, race) = (some(&[10, 40]), some(&[2, 20]), some(&[20]));
    let records = some(&[30, 100]);
    Faults {
        split,
        interrupt,
        storm,
        accept,
        spurious,
        race,
        records,
        cap: rng.pick(&[7, 100, 2000, 70_000, 1 << 20, 1 << 20]),
        fds_max: rng.pick(&[3, 6, 1000, 1000]),
        batch: rng.pick(&[1, 3, 1024, 1024]),
    }
}

fn settings(rng: &mut Rng, can: Can) -> Settings {
    let mut settings = Settings { origins: vec![ORIGIN.into()], ..Settings::default() };
    settings.auth.token_length = TOKEN_BYTES;
    settings.auth.secrets = vec![Secret::new(*b"not published anywhere")];
    let limits = &mut settings.limits;
    limits.clients = Some(rng.pick(&[2, 4, 1000, 1000]));
    limits.unauthenticated = Some(rng.pick(&[1, 2, 100, 100]));
    limits.connections_per_token = rng.pick(&[1, 2, 100, 100]);
    limits.head_bytes = 2048;
    limits.message_bytes = rng.pick(&[200, 5000, 65_536]);
    limits.outbox_bytes = rng.pick(&[300, 2000, 20_000, 1 << 20, 1 << 20]);
    limits.queued_bytes = (limits.outbox_bytes as usize).max(rng.pick(&[500, 100_000, 1 << 28, 1 << 28]));
    limits.control_payload_bytes = 100_000;
    limits.control_outbox_bytes = rng.pick(&[1, 40, 1000, 1 << 20]);
    let timeouts = &mut settings.timeouts;
    // Where no long times pass, no peer is to be closed for silence.
    let mut pick = |short: &[u64]| if can.stall { rng.pick(short) } else { 20_000 };
    timeouts.handshake_ms = pick(&[500, 5000]);
    timeouts.idle_ms = pick(&[700, 3000, 15_000]);
    timeouts.pong_ms = pick(&[700, 3000, 15_000]);
    timeouts.stalled_ms = pick(&[700, 15_000]);
    timeouts.close_ms = pick(&[300, 5000]);
    timeouts.lock_ms = pick(&[600, 2000, 30_000]);
    timeouts.control_ms = pick(&[900, 3000, 15_000]);
    timeouts.drain_ms = pick(&[100, 5000]);
    settings
}
