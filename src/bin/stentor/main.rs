//! The binary `stentor`: command line, configuration and server. It uses only the public API of the
//! library.

mod config;
mod data_dir;
mod demo;
mod durable;
mod error_code;
mod hooks;
mod hooks_tool;
mod http;
mod journal_tool;
mod live;
mod log_json;
mod logging;
mod ports;
mod process;
mod process_metrics;
mod queue_tool;
mod reload;
mod replies;
mod secret;
mod signature;
mod subscriber_bodies;
mod throttle;
mod token_tool;
mod vocabulary;

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;

use actix_web::web::ServiceConfig;
use clap::{Arg, ArgMatches, Command};
use stentor::{BuildError, Server, Tls};

use self::config::{Config, Effective, Named};
use self::data_dir::DataDir;
use self::live::Live;
use self::logging::LogFormat;
use self::reload::{LiveParts, Reloader};
use self::vocabulary::{Policy, SharedPolicy};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn std::error::Error>;

const ABOUT: &str = "\
A realtime hub: every member of a room receives what Socket.IO clients publish to it, in one order.

Start with `stentor serve` and open http://127.0.0.1:3000 in two browser tabs.";

const SERVE: &str = "\
Serve the hub.

Clients are unmodified `socket.io-client`s (JavaScript, Python, …). They emit `join` room, `publish` room event …args, `leave` room, \
`members` room, `echo` …args. The server also has a demo page at /, /healthz, /readyz, /metrics (Prometheus), and /api/v1/ \
to publish over HTTP.";

const SERVE_EXAMPLES: &str = "\
Each setting can be a flag, an environment variable (STENTOR_PORT=80) or a key of the file (port = 80). Flags override the \
environment, which overrides the file.

Examples:
  stentor serve                             then open http://127.0.0.1:3000 in two browser tabs
  stentor serve --host 0.0.0.0 --port 80    serve all networks, with a key of tokens in the environment
  stentor serve --config stentor.toml       `stentor config default` prints one
  stentor serve --log-level stentor=debug   log every connection";

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
        .about("Check a configuration and print each value with its source")
        .long_about("Check the configuration that `stentor serve` would use with the same flags and environment, and print \
                     each value with its source; secrets are masked. The exit status is 1 if the configuration is wrong.");
    let default = Command::new("default").about("Print a configuration file with all settings and their defaults");
    let key = Arg::new("key").value_name("KEY").help("Setting, such as ping_interval; all settings if omitted");
    let explain = Command::new("explain")
        .about("Explain a setting: description, form, default, section, flag, variable")
        .arg(key);
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
        .subcommands([serve, config, journal_tool::command(), queue_tool::command()])
        .subcommands([hooks_tool::command(), token_tool::command()])
}

fn main() -> ExitCode {
    let done = run(&command().get_matches());
    if let (Err(error), true) = (&done, logging::is_json()) {
        log::error!("stentor failed error={:?}", error.to_string());
    }
    log::logger().flush();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) if logging::is_json() => ExitCode::FAILURE,
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
            logging::start(&effective.config.log_level, effective.config.log_format)?;
            actix::System::new().block_on(serve(&effective, flags))
        }
        Some(("config", matches)) => configuration(matches),
        Some(("journal", matches)) => Ok(journal_tool::run(matches, &mut io::stdout().lock())?),
        Some(("hooks", matches)) => Ok(hooks_tool::run(matches, &mut io::stdout().lock())?),
        Some(("queue", matches)) => {
            // The command itself says what it changes.
            logging::start("stentor::queue::sqlite::folder=warn", LogFormat::Text)?;
            Ok(queue_tool::run(matches, &mut io::stdout().lock())?)
        }
        Some(("token", matches)) => {
            // A fetch of keys that fails says why.
            logging::start("stentor::access=warn", LogFormat::Text)?;
            Ok(actix::System::new().block_on(token_tool::run(matches, &mut io::stdout().lock()))?)
        }
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

/// Writes a line to stderr and ignores errors.
fn warn(line: &str) {
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Writes to stdout. A closed pipe (`| head`) is not an error.
fn show(text: &dyn Display) -> io::Result<()> {
    match write!(io::stdout().lock(), "{text}") {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Sends a state to the service manager, if a service manager started this process (systemd,
/// `Type=notify`).
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
        log::warn!("service manager not notified state={state} error={error}");
    }
}

#[cfg(not(target_os = "linux"))]
fn notify(_: &str) {}

/// Raises the limit on open files, and returns the configuration with limits on connections that
/// the raised limit allows, and the raised limit.
fn fit_descriptors(effective: &Effective) -> (Config, u64) {
    let mut config = effective.config.clone();
    let descriptors = match process::raise_descriptors() {
        Ok(descriptors) => descriptors,
        Err(error) => {
            log::warn!("limit on open files not raised error={error}");
            return (config, u64::MAX);
        }
    };
    let threads = config.threads();
    process::fit_connections(&mut config.limits, descriptors.now, threads);
    log::info!(
        "limits open_files={} open_files_before={} sessions_max={} http_connections_max={}",
        descriptors.now,
        descriptors.before,
        config.limits.sessions.max,
        config.limits.http.connections_max
    );
    let maxima = |config: &Config| [config.limits.sessions.max, config.limits.http.connections_max];
    let names = ["sessions_max", "http_connections_max"];
    for ((name, set), now) in names.into_iter().zip(maxima(&effective.config)).zip(maxima(&config)) {
        if now < set && effective.is_set(name) {
            log::warn!(
                "{name} lowered to fit the limit on open files set={set} now={now} open_files={}",
                descriptors.now
            );
        }
    }
    (config, descriptors.now)
}

async fn serve(effective: &Effective, flags: &ArgMatches) -> Result<(), Failure> {
    let hangups = process::hangups();
    log::info!("configuration {}", effective.line());
    for name in &effective.unknown_variables {
        log::warn!("unknown environment variable {name} (ignored)");
    }
    let (config, open_files) = &fit_descriptors(effective);
    let tls = ports::certificate(config)?;
    let (access, reason) = config.subscriber_access();
    log::info!("queue storage={} subscribers={} reason=\"{reason}\"", config.queue_storage().name(), access.name());
    let rules = config.access_rules();
    log::info!(
        "access anonymous={} join_default={} publish_default={} user_rooms={}",
        config.admits_anonymous(),
        rules.join_default.name(),
        rules.publish_default.name(),
        rules.user_rooms
    );
    let with_remedy = |error: &dyn Display, setting: &str| {
        Failure::from(format!("{error}\nset data_dir (--data-dir), or {setting} to \"memory\" or \"off\""))
    };
    // Locked until the process ends.
    let _data_dir = if config.uses_disk() {
        Some(DataDir::open(&config.data_dir).map_err(|error| with_remedy(&error, "recovery"))?)
    } else {
        None
    };
    let io = config.builder().build().map_err(|error| match error {
        BuildError::Journal(_) => with_remedy(&error, "recovery"),
        BuildError::Queue(_) => with_remedy(&error, "queue"),
        error => error.into(),
    })?;
    let api = Live::new(config.api());
    let policy = SharedPolicy::from(Policy { hooks: config.hooks.build()?, ..config.policy()? });
    let parts = LiveParts {
        io: io.clone(),
        api: api.clone(),
        policy: policy.clone(),
        tls: tls.clone(),
        open_files: *open_files,
    };
    let flags = flags.clone();
    let reloader = Arc::new(Reloader::new(move || config::load(&flags), parts, effective.config.clone()));
    let by_signal = reloader.clone();
    hangups.each(move || drop(by_signal.reload()));
    let routes = http::routes(io.clone(), api, Arc::new(move || reloader.reload()));
    let outcome = serve_with(&io, config, tls.as_ref(), policy, routes).await;
    if outcome.is_err() {
        // Close the journal cleanly, so that the next start can continue it, even after a reboot.
        io.close().await;
    }
    outcome
}

async fn serve_with(
    io: &Server,
    config: &Config,
    tls: Option<&Tls>,
    policy: SharedPolicy,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + Sync + 'static,
) -> Result<(), Failure> {
    if let Some(hooks) = &policy.get().hooks {
        hooks.show_metrics();
    }
    for namespace in ["/"].into_iter().chain(config.namespaces.iter().map(String::as_str)) {
        vocabulary::install(io.of(namespace), policy.clone());
    }
    let mut listener = ports::bind(io, config, tls)?.drain(config.drain);
    listener = if config.internal_listen.is_some() {
        listener.configure(http::health(io.clone())).configure_internal(routes)
    } else {
        listener.configure(routes)
    };
    listener = listener.configure(demo::page);
    if let Some(workers) = config.workers {
        listener = listener.workers(workers.into());
    }
    show(&format_args!("stentor listens on {}\n", ports::urls(&listener)))?;
    notify("READY=1");
    listener.run().await?;
    Ok(())
}
