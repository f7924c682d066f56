//! The exact figures: system calls (strace) and user-space instructions (callgrind) per operation. They do not depend
//! on how busy the machine is.

pub mod instructions;
pub mod syscalls;

use crate::jobs::{Broadcast, Direct, Echo, Forward, Handshake, To, Write};
use crate::measure::Job;

/// One operation that is counted.
pub struct Probe {
    /// The name of `--jobs` that it belongs to.
    pub group: &'static str,
    pub name: &'static str,
    pub clients: usize,
    /// How often the job is run in the counted window.
    pub times: usize,
    make: fn() -> Box<dyn Job>,
    /// Operations, as the job counts them, in one of those the goals are about.
    pub each: f64,
    /// At most this many, in the order system calls, instructions.
    pub goals: [Option<f64>; 2],
    /// More instructions than this are a step back: what is reached and a few hundredths, as compilers differ.
    pub guard: f64,
    /// The goal for the instructions where it is a share of another probe's, which comes before: its name, and the share.
    pub against: Option<(&'static str, f64)>,
    /// The logins name users.
    pub has_users: bool,
    /// Workers are told what clients say.
    pub forwards: bool,
}

impl Probe {
    pub fn job(&self) -> Box<dyn Job> {
        (self.make)()
    }
}

const CLIENTS: usize = 500;

/// Clients of the probes that compare a write to a list with as many commands, which is what the design's goals are for.
const LISTED: usize = 1_000;

const PLAIN: Probe = Probe {
    group: "",
    name: "",
    clients: CLIENTS,
    times: 0,
    make: || Box::new(Broadcast::new(64, 1)),
    each: 1.0,
    goals: [None, None],
    guard: 0.0,
    against: None,
    has_users: false,
    forwards: false,
};

/// A call more than the goal's in a hundred operations is what a turn of the loop may add: the command of a broadcast
/// to 500 clients, the batch of a thousand echoes.
pub const PROBES: [Probe; 15] = [
    Probe {
        group: "broadcast",
        name: "delivery of a broadcast, alone",
        clients: CLIENTS,
        times: 40,
        make: || Box::new(Broadcast::new(64, 1)),
        each: 1.0,
        goals: [Some(1.01), Some(200.0)],
        guard: 183.0,
        ..PLAIN
    },
    Probe {
        group: "broadcast",
        name: "delivery of a broadcast, alone, few clients",
        clients: 50,
        times: 400,
        make: || Box::new(Broadcast::new(64, 1)),
        each: 1.0,
        goals: [None, Some(200.0)],
        guard: 203.0,
        ..PLAIN
    },
    Probe {
        group: "broadcast",
        name: "delivery of 16 broadcasts that wait",
        clients: CLIENTS,
        times: 40,
        make: || Box::new(Broadcast::new(64, 16)),
        each: 16.0,
        goals: [Some(1.01), None],
        guard: 13.0,
        ..PLAIN
    },
    Probe {
        group: "echo",
        name: "echo, 1 under way",
        clients: CLIENTS,
        times: 40,
        make: || Box::new(Echo::new(64, 1)),
        each: 1.0,
        goals: [Some(2.01), Some(600.0)],
        guard: 770.0,
        ..PLAIN
    },
    Probe {
        group: "echo",
        name: "16 echoes that came together",
        clients: CLIENTS,
        times: 20,
        make: || Box::new(Echo::new(64, 16)),
        each: 16.0,
        goals: [Some(2.01), None],
        guard: 420.0,
        ..PLAIN
    },
    Probe {
        group: "direct",
        name: "direct d, 1 under way",
        clients: CLIENTS,
        times: 1_000,
        make: || Box::new(Direct::new('d', 64, 1)),
        each: 1.0,
        goals: [Some(2.01), Some(1_000.0)],
        guard: 1_585.0,
        ..PLAIN
    },
    Probe {
        group: "direct",
        name: "64 direct d that came together",
        clients: CLIENTS,
        times: 400,
        make: || Box::new(Direct::new('d', 64, 64)),
        each: 64.0,
        goals: [Some(65.05), Some(650.0)],
        guard: 705.0,
        ..PLAIN
    },
    Probe {
        group: "direct",
        name: "direct c, 1 under way",
        clients: CLIENTS,
        times: 1_000,
        make: || Box::new(Direct::new('c', 64, 1)),
        each: 1.0,
        goals: [Some(3.01), Some(1_400.0)],
        // The message and the reply take one turn or two, as it comes: 1,770 to 2,150.
        guard: 2_250.0,
        ..PLAIN
    },
    Probe {
        group: "direct",
        name: "64 direct c that came together",
        clients: CLIENTS,
        times: 400,
        make: || Box::new(Direct::new('c', 64, 64)),
        each: 64.0,
        goals: [Some(66.05), Some(850.0)],
        guard: 890.0,
        ..PLAIN
    },
    Probe {
        group: "write",
        name: "delivery of a broadcast to 1000",
        clients: LISTED,
        times: 40,
        goals: [Some(1.01), None],
        guard: 182.0,
        ..PLAIN
    },
    Probe {
        group: "write",
        name: "delivery of a write to a group of 1000",
        clients: LISTED,
        times: 40,
        make: || Box::new(Write::new(To::Group, 64)),
        goals: [Some(1.01), None],
        against: Some(("delivery of a broadcast to 1000", 1.05)),
        guard: 184.0,
        ..PLAIN
    },
    Probe {
        group: "write",
        name: "direct d to a user, 250 that came together",
        clients: LISTED,
        times: 160,
        make: || Box::new(Direct::new('d', 64, 250)),
        has_users: true,
        guard: 695.0,
        ..PLAIN
    },
    Probe {
        group: "write",
        name: "delivery of a write to a list of 1000 users",
        clients: LISTED,
        times: 40,
        make: || Box::new(Write::new(To::Users, 64)),
        against: Some(("direct d to a user, 250 that came together", 0.8)),
        has_users: true,
        guard: 650.0,
        ..PLAIN
    },
    Probe {
        group: "worker",
        name: "message of a client to a worker",
        clients: CLIENTS,
        times: 40,
        make: || Box::new(Forward::new(64)),
        // A send for all that a turn has read, and the polls between.
        goals: [Some(1.2), Some(600.0)],
        guard: 1_050.0,
        forwards: true,
        ..PLAIN
    },
    Probe {
        group: "handshake",
        name: "authorised handshake",
        clients: CLIENTS,
        times: 8,
        make: || Box::new(Handshake { together: 128 }),
        each: 1.0,
        goals: [None, Some(12_000.0)],
        guard: 12_900.0,
        ..PLAIN
    },
];
