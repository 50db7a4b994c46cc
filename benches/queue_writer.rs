//! The writer of the power-cut rig: publishes to a queue in a folder and prints one line a verdict.
//!
//! `queue_writer FOLDER EVENTS FIRST[,FIRST…] [SYNCHRONOUS]`: the events after which it ends, the
//! number of the first event of each publisher, and a weaker setting of SQLite. It prints `open`
//! and waits for a line on its input.

use std::io::{Write, stdin, stdout};
use std::process::ExitCode;

use stentor::bench_support::queue_writer::{WriterOptions, run};

fn options() -> Option<WriterOptions> {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let (folder, events) = (arguments.next()?.into(), arguments.next()?.parse().ok()?);
    let first = arguments.next()?.split(',').map(|number| number.parse().ok()).collect::<Option<_>>()?;
    Some(WriterOptions { folder, first, events, synchronous: arguments.next() })
}

fn main() -> ExitCode {
    // `cargo bench` and `cargo test` run all targets.
    let Some(options) = options() else {
        eprintln!("queue_writer: run by `make powercut`");
        return ExitCode::SUCCESS;
    };
    let wait = || drop(stdin().read_line(&mut String::new()));
    // A line is one write, so that a killed process leaves whole lines.
    let print = |line: &str| stdout().write_all(format!("{line}\n").as_bytes()).unwrap_or(());
    env_logger::init();
    match run(&options, wait, print) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("queue_writer: {error}");
            ExitCode::FAILURE
        }
    }
}
