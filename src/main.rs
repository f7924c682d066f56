//! The command line of wsson: everything is in [`wsson::cli`].

fn main() -> std::process::ExitCode {
    wsson::cli::main()
}
