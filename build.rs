//! Leaves the unwind tables out of the release binary on glibc: 7 % of it, which nothing reads.
//!
//! A panic ends the process without unwinding (`panic = "abort"`), and in a stripped binary a backtrace has no names. The
//! profile has no setting for it that works on a stable compiler, so the linker is told to discard them. Builds with debug
//! information keep them, for debuggers and profilers.

use std::path::Path;
use std::{env, fs, io};

/// Understood by GNU ld and lld: an addition to their own script.
const DISCARD: &str = "SECTIONS { /DISCARD/ : { *(.eh_frame) *(.eh_frame_hdr) *(.gcc_except_table*) } } \
                       INSERT AFTER .text;\n";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    if is("PROFILE", "release") && is("DEBUG", "false") && is("CARGO_CFG_TARGET_ENV", "gnu") {
        let folder = env::var("OUT_DIR").map_err(io::Error::other)?;
        let script = Path::new(&folder).join("discard.ld");
        fs::write(&script, DISCARD)?;
        println!("cargo::rustc-link-arg-bins=-Wl,-T,{}", script.display());
    }
    Ok(())
}
