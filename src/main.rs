//! The `stentor` binary: command line → configuration → server. On the public API alone, so it is also an example.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use stentor::config::Config;
use stentor::{demo, http, vocabulary};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A realtime hub for Socket.IO clients.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the hub, with a demo page at /.
    Serve(Config),
}

fn main() -> ExitCode {
    let Command::Serve(config) = Cli::parse().command;
    env_logger::Builder::new().parse_filters(&config.log_level).init();
    match actix::System::new().block_on(serve(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("stentor: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn serve(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    let io = config.builder().build()?;
    let _ = vocabulary::install(io.of("/"));
    let mut listener = io.bind((config.host, config.port))?.configure(http::routes(io.clone())).configure(demo::page);
    if let Some(workers) = config.workers {
        listener = listener.workers(workers.into());
    }
    log::info!("configuration {config:?}");
    println!("stentor listens on http://{}", listener.local_addr()?);
    listener.run().await?;
    Ok(())
}
