//! The command line of wsson.

fn main() {}
