//! The simulation: the real driver, hub and codecs under a seeded fake network and virtual time, with
//! model browsers and backends that speak an encoding of their own (design: testing.md).
//!
//! Each seed is a small world. After every turn everything is recounted (`Driver::audit`), every byte that
//! a peer gets is judged when it reads it, and at the end the faults stop and every promised message must
//! have come. A failure prints its seed and the last lines of its trace; `SIM_FROM=seed SIM_SEEDS=1` runs
//! it alone, `SIM_SEEDS=1000000` runs longer.

mod backend;
mod browser;
mod common;
#[allow(dead_code)] // the fuzz body of the server uses more of it
mod net;
mod plan;
mod rng;
mod tabs;
mod worker;
mod world;
mod ws;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Seeds of an ordinary run.
const SEEDS: u64 = 2000;
/// Failures after which a run gives up.
const FAILURES_MAX: usize = 5;
/// Seeds that failed once, with what they found.
const FAILED: &str = include_str!("failed_seeds.txt");

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Runs one seed, panics of the server included.
fn attempt(seed: u64) -> Result<u64, String> {
    attempt_in(world::run, seed)
}

fn attempt_in(run: fn(u64) -> Result<u64, String>, seed: u64) -> Result<u64, String> {
    let result = catch_unwind(AssertUnwindSafe(|| run(seed)));
    let result = result.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Err(format!("panic: {}", text.unwrap_or_default()))
    });
    result.map_err(|what| format!("seed {seed}: {what}\n{}", rng::last_lines()))
}

/// Runs seeds on all processors until all are done or too many have failed.
fn run_all(next: impl Fn() -> Option<u64> + Sync) {
    run_all_in(world::run, next);
}

fn run_all_in(run: fn(u64) -> Result<u64, String>, next: impl Fn() -> Option<u64> + Sync) {
    let failures: Mutex<Vec<String>> = Mutex::default();
    let worker = || {
        while let Some(seed) = next() {
            if let Err(failure) = attempt_in(run, seed) {
                failures.lock().unwrap_or_else(PoisonError::into_inner).push(failure);
            }
            if failures.lock().unwrap_or_else(PoisonError::into_inner).len() >= FAILURES_MAX {
                return;
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(worker))));
    let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert!(failures.is_empty(), "{} seeds failed\n{}", failures.len(), failures.join("\n\n"));
}

#[test]
fn any_world_keeps_the_promises() {
    let from = setting("SIM_FROM", 0);
    let until = from + setting("SIM_SEEDS", SEEDS);
    let next = AtomicU64::new(from);
    run_all(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < until));
}

/// docs/resume.md, "Shown by".
#[test]
fn tabs_that_come_back_miss_nothing() {
    let from = setting("SIM_FROM", 0);
    let until = from + setting("SIM_SEEDS", SEEDS);
    let next = AtomicU64::new(from);
    run_all_in(tabs::run, || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|seed| *seed < until));
    for seed in (0..10).map(|n| n * 7919) {
        assert_eq!(attempt_in(tabs::run, seed), attempt_in(tabs::run, seed));
    }
    tabs::check_counts(until - from);
}

#[test]
fn seeds_that_failed_once_pass() {
    let seed = |line: &str| line.split_whitespace().next().and_then(|word| word.parse().ok());
    let seeds: Vec<u64> = FAILED.lines().filter(|line| !line.starts_with('#')).filter_map(seed).collect();
    assert!(!seeds.is_empty(), "the list is there");
    let next = AtomicU64::new(0);
    run_all(|| seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize).copied());
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in (0..40).map(|n| n * 7919) {
        assert_eq!(attempt(seed), attempt(seed));
    }
    assert_ne!(attempt(1), attempt(2));
}
