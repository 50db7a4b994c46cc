//! The binary `stentor`: its output, the resources it serves, and its exit codes.

use std::process::{Command, Output};

use crate::support::{Client, DEADLINE, Process, Transport, stentor};

fn output(command: &mut Command) -> (bool, String, String) {
    let Output { status, stdout, stderr } = command.output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

#[test]
fn help_describes_the_program_and_the_first_steps() {
    let (ok, help, _) = output(&mut stentor(&["--help"]));
    assert!(ok && help.contains("realtime hub") && help.contains("http://127.0.0.1:3000"), "{help}");
    let (_, help, _) = output(&mut stentor(&["serve", "--help"]));
    for part in ["Examples:", "--ping-interval", "STENTOR_PORT", "/metrics", "emit `join`"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    let (_, short, _) = output(&mut stentor(&["serve", "-h"]));
    assert!(short.contains("--port") && !short.contains("--credit-bytes"), "{short}");
    let (ok, _, help) = output(&mut stentor(&[]));
    assert!(!ok && help.contains("Usage:"), "{help}");
}

#[test]
fn a_folder_without_a_journal_is_an_error_that_names_it() {
    let (ok, out, error) = output(&mut stentor(&["journal", "stats", "/nowhere/journal"]));
    assert!(!ok && out.is_empty());
    assert_eq!(error, "stentor: journal folder /nowhere/journal: there is no journal in it\n");
    let (_, help, _) = output(&mut stentor(&["journal", "--help"]));
    assert!(help.contains("while a server uses the folder"), "{help}");
}

#[test]
fn the_default_configuration_is_valid_and_has_only_defaults() {
    let (_, file, _) = output(&mut stentor(&["config", "default"]));
    let path = std::env::temp_dir().join(format!("stentor-{}-default.toml", std::process::id()));
    std::fs::write(&path, file).unwrap();
    let path = path.to_str().unwrap();
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect()
    };
    let (ok, from_file, _) = output(stentor(&["config", "check"]).env("STENTOR_CONFIG", path));
    assert!(ok && from_file.contains(&format!("port = 3000  # {path}:")), "{from_file}");
    let (_, by_default, _) = output(&mut stentor(&["config", "check"]));
    assert!(by_default.contains("port = 3000  # default"), "{by_default}");
    assert_eq!(values(&from_file), values(&by_default));
}

#[test]
fn an_invalid_setting_is_refused_with_key_value_and_form() {
    let (ok, out, error) = output(&mut stentor(&["serve", "--ping-interval", "25", "--path", "x"]));
    assert!(!ok && out.is_empty());
    let expected = "stentor: path = \"x\": expected a path such as \"/socket.io\" (from --path)\n\
                    stentor: ping_interval = \"25\": expected a duration such as \"25s\", from \"100ms\" to \"12days\" (from --ping-interval)\n";
    assert_eq!(error, expected);
}

#[test]
fn an_unusable_folder_is_refused_with_the_remedy() {
    let (ok, out, error) = output(&mut stentor(&["serve", "--port", "0", "--data-dir", "/proc/stentor"]));
    assert!(!ok && out.is_empty());
    assert!(error.contains("/proc/stentor"), "{error}");
    assert!(error.ends_with("stentor: set data_dir (--data-dir), or recovery to \"memory\" or \"off\"\n"), "{error}");
}

#[test]
fn two_hubs_cannot_open_one_folder() {
    let first = Process::start(&["--recovery", "disk"]);
    let second = stentor(&["serve", "--port", "0"]).env("STENTOR_DATA_DIR", first.data()).output().unwrap();
    let error = String::from_utf8(second.stderr).unwrap();
    assert!(!second.status.success() && error.contains("in use by"), "{error}");
}

#[test]
fn a_port_in_use_leaves_the_journal_closed() {
    let (first, folder) =
        (Process::start(&[]), std::env::temp_dir().join(format!("stentor-port-{}", std::process::id())));
    let (port, data) = (first.address.port().to_string(), folder.to_str().unwrap());
    let (ok, _, error) = output(&mut stentor(&["serve", "--port", &port, "--data-dir", data, "--recovery", "disk"]));
    assert!(!ok && error.contains("cannot listen on"), "{error}");
    let (ok, stats, _) = output(&mut stentor(&["journal", "stats", data]));
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(ok && stats.contains("state       closed"), "{stats}");
}

#[test]
fn check_shows_sources_and_masks_secrets() {
    let mut command = stentor(&["config", "check", "--port", "7"]);
    let (ok, out, error) =
        output(command.env("STENTOR_API_KEY", "0123456789abcdef").env("STENTOR_PROT", "1").env("STENTOR_HOST", "::1"));
    assert!(ok);
    for line in ["port = 7  # flag", "host = \"::1\"  # environment", "api_key = \"********\"  # environment"] {
        assert!(out.lines().any(|reports| reports == line), "{line}: {out}");
    }
    assert!(!out.contains("0123456789abcdef"), "{out}");
    assert_eq!(error, "stentor: unknown environment variable STENTOR_PROT (ignored)\n");
}

#[test]
fn it_serves_page_vocabulary_and_namespaces_and_ends_in_order() {
    let mut command = stentor(&["serve", "--namespaces", "/chat,/news", "--path", "/hub/"]);
    let serving = Process::run(command.env("STENTOR_API_KEY", "0123456789abcdef").env("STENTOR_PATH", "/no"));
    assert_eq!(serving.http().get("/readyz").status_and_body(), (200, "ok"));
    assert!(serving.http().get("/").body.contains("<title>Stentor</title>"));
    assert_eq!(serving.http().get("/hub/?EIO=4&transport=polling").head.status, 200);
    let log = serving.stop();
    for part in ["configuration port=0 path=\"/hub/\"", "api_key=\"********\"", "namespaces=[\"/chat\", \"/news\"]"] {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains("0123456789abcdef"), "{log}");
}

#[cfg(target_os = "linux")]
#[test]
fn the_service_manager_is_notified_once_the_port_is_bound() {
    let path = std::env::temp_dir().join(format!("stentor-{}-notify", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let manager = std::os::unix::net::UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(DEADLINE)).unwrap();
    let serving = Process::run(stentor(&["serve"]).env("NOTIFY_SOCKET", &path));
    let mut reports = [0; 64];
    let length = manager.recv(&mut reports).expect("a readiness message");
    assert_eq!(&reports[..length], b"READY=1");
    assert_eq!(serving.http().get("/healthz").status_and_body(), (200, "ok"));
}

#[test]
fn flags_set_allowed_origins_and_sessions_per_address() {
    let flags =
        ["serve", "--cors-origins", "https://a.example", "--cors-credentials", "--cookie", "lb", "--cookie-secure"];
    let more = [
        "--trusted-proxies",
        "127.0.0.1",
        "--anonymous",
        "true",
        "--join-default",
        "any",
        "--sessions-per-address-max",
        "1",
    ];
    let serving = Process::run(&mut stentor(&[&flags[..], &more[..]].concat()));
    let shake = |address: &str| {
        let headers = [("Origin", "https://a.example"), ("X-Forwarded-For", address)];
        serving.http().request("GET", "/socket.io/?EIO=4&transport=polling", &headers, b"")
    };
    let response = shake("192.0.2.1");
    assert_eq!(response.head.header("access-control-allow-origin"), Some("https://a.example"), "{response:?}");
    assert_eq!(response.head.header("access-control-allow-credentials"), Some("true"), "{response:?}");
    let cookie = response.head.header("set-cookie").expect("a cookie");
    assert!(cookie.starts_with("lb=") && cookie.contains("Secure"), "{cookie}");
    assert_eq!(shake("192.0.2.1").head.status, 429);
    assert_eq!(shake("192.0.2.2").head.status, 200);
}

#[test]
fn only_configured_namespaces_serve_the_vocabulary() {
    let serving = Process::run(&mut stentor(&["serve", "--namespaces", "/chat"]));
    let mut client = Client::open(serving.address, Transport::Websocket);
    for namespace in ["", "/chat,"] {
        client.connect(namespace);
        client.send(&format!(r#"42{namespace}1["echo",true]"#));
        client.expect(&format!("43{namespace}1[true]"));
    }
    client.send("40/other,");
    client.expect(r#"44/other,{"message":"Invalid namespace"}"#);
}
