//! The `stentor` binary: command line → configuration → server. It uses the library as any other program does.

mod config;
mod demo;
mod error_code;
mod http;
mod journal_tool;
mod logging;
mod process;
mod replies;
mod secret;
mod vocabulary;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use stentor::{BuildError, Server};

use self::config::{Config, Effective};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

const ABOUT: &str = "\
A realtime hub: what one Socket.IO client publishes to a room, every member of the room hears, in one order.

Start with `stentor serve` and open http://127.0.0.1:3000 in two browser tabs.";

const SERVE: &str = "\
Serve the hub.

Clients are unmodified `socket.io-client`s (JavaScript, Python, …). They emit `join` room, `publish` room event …args, `leave` room, \
`members` room, `echo` …args. Also served: a demo page at /, /healthz, /readyz, /metrics (Prometheus), and /api/v1/ for \
publishing over HTTP.";

const SERVE_EXAMPLES: &str = "\
Each flag may stand in the environment (STENTOR_PORT=80) or in the file (port = 80) instead; flags win over the environment, \
that over the file.

Examples:
  stentor serve                             then open http://127.0.0.1:3000 in two browser tabs
  stentor serve --host 0.0.0.0 --port 80    for everybody who can reach this machine
  stentor serve --config stentor.toml       `stentor config default` prints one to begin with
  stentor serve --log-level stentor=debug   says what happens to each connection";

const CONFIG_EXAMPLES: &str = "\
Examples:
  stentor config default > stentor.toml
  stentor config check --config stentor.toml
  stentor config explain ping_interval";

fn command() -> Command {
    let serve = config::flags(Command::new("serve"))
        .about("Serve the hub, with a demo page at /")
        .long_about(SERVE)
        .after_help("`stentor serve --help` lists all settings, with examples.")
        .after_long_help(SERVE_EXAMPLES);
    let check = config::flags(Command::new("check"))
        .about("Check a configuration, and print what would be in force and where each value comes from")
        .long_about("Check the configuration that `stentor serve` would start with, given the same flags and environment, and \
                     print it with where each value comes from; secrets are masked. Ends with status 1 if something is wrong.");
    let default = Command::new("default").about("Print a configuration file of all settings with their defaults");
    let key = Arg::new("key").value_name("KEY").help("A setting, such as ping_interval; all of them if left out");
    let explain = Command::new("explain").about("Explain a setting: meaning, form, default, flag, variable").arg(key);
    let config = Command::new("config")
        .about("Check, print and explain configurations")
        .after_help(CONFIG_EXAMPLES)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([check, default, explain]);
    Command::new("stentor")
        .version(env!("CARGO_PKG_VERSION"))
        .about(ABOUT)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommands([serve, config, journal_tool::command()])
}

fn main() -> ExitCode {
    let done = run(&command().get_matches());
    log::logger().flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                warn(&format!("stentor: {line}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn run(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("serve", flags)) => {
            let effective = config::load(flags)?;
            begin_log(&effective.config.log_level)?;
            actix::System::new().block_on(serve(&effective))
        }
        Some(("config", matches)) => configuration(matches),
        Some(("journal", matches)) => Ok(journal_tool::run(matches, &mut io::stdout().lock())?),
        _ => Ok(()),
    }
}

fn configuration(matches: &ArgMatches) -> Result<(), Failure> {
    match matches.subcommand() {
        Some(("check", flags)) => {
            let effective = config::load(flags)?;
            show(&effective)?;
            for name in &effective.unknown_variables {
                warn(&format!("stentor: unknown environment variable {name} (ignored)"));
            }
        }
        Some(("default", _)) => show(&config::default_file())?,
        Some(("explain", matches)) => {
            show(&config::explain(matches.get_one::<String>("key").map(String::as_str))?)?;
        }
        _ => {}
    }
    Ok(())
}

/// The log goes to stderr through a thread of its own. Lines of actix-http itself are one for each bad request, without a limit;
/// the server has its own, limited.
fn begin_log(filters: &str) -> Result<(), Failure> {
    let (pipe, flusher) = logging::to_stderr()?;
    let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let logger = env_logger::Builder::new()
        .filter_module("actix_http", log::LevelFilter::Off)
        .parse_filters(filters)
        .write_style(if is_coloured { env_logger::WriteStyle::Always } else { env_logger::WriteStyle::Never })
        .target(env_logger::Target::Pipe(Box::new(pipe)))
        .build();
    let level = logger.filter();
    Ok(logging::install(Box::new(logger), level, flusher)?)
}

/// Writes a line to stderr, if anybody has it open.
fn warn(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes to stdout. A reader that has seen enough (`| head`) is no failure.
fn show(text: &dyn Display) -> io::Result<()> {
    match write!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Tells the service manager that started this process (systemd, `Type=notify`) how it stands; without one, nobody.
#[cfg(target_os = "linux")]
fn notify(state: &str) {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => SocketAddr::from_pathname(&path),
    };
    let sent = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        log::warn!("service manager not told state={state} error={error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn notify(_: &str) {}

/// Raises the limit on open files, and lowers the bounds on connections to what it allows.
fn fit_descriptors(config: &mut config::Config) {
    let descriptors = match process::raise_descriptors() {
        Ok(descriptors) => descriptors,
        Err(error) => return log::warn!("limit on open files not raised error={error}"),
    };
    let workers =
        config.workers.map_or_else(|| std::thread::available_parallelism().map_or(1, usize::from), usize::from);
    process::fit(&mut config.limits, descriptors.now, workers);
    log::info!(
        "limits open_files={} open_files_before={} sessions_max={} http_connections_max={}",
        descriptors.now,
        descriptors.before,
        config.limits.sessions.max,
        config.limits.http.connections_max
    );
}

async fn serve(effective: &Effective) -> Result<(), Failure> {
    process::outlive_terminal();
    log::info!("configuration {}", effective.line());
    for name in &effective.unknown_variables {
        log::warn!("unknown environment variable {name} (ignored)");
    }
    let mut config = effective.config.clone();
    fit_descriptors(&mut config);
    let config = &config;
    let io = config.builder().build().map_err(|error| match error {
        BuildError::Journal(_) => {
            Failure::from(format!("{error}\nset data_dir (--data-dir), or recovery to \"memory\" or \"off\""))
        }
        error => error.into(),
    })?;
    let outcome = serve_with(&io, config).await;
    if outcome.is_err() {
        // So that the next start continues with the journal, also after another boot.
        io.close().await;
    }
    outcome
}

async fn serve_with(io: &Server, config: &Config) -> Result<(), Failure> {
    for namespace in ["/"].into_iter().chain(config.namespaces.iter().map(String::as_str)) {
        vocabulary::install(io.of(namespace));
    }
    let mut listener = io.bind((config.host, config.port))?.drain(config.drain);
    listener =
        listener.configure(http::routes(io.clone(), config.api_key.clone(), config.api.clone())).configure(demo::page);
    if let Some(workers) = config.workers {
        listener = listener.workers(workers.into());
    }
    show(&format_args!("stentor listens on http://{}\n", listener.local_addr()?))?;
    notify("READY=1");
    listener.run().await?;
    Ok(())
}
