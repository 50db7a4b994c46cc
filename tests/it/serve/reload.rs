//! Reload of the configuration, by SIGHUP and over HTTP.

use std::fs;
use std::path::PathBuf;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::{Process, Transport, Websocket, stentor};

const KEY: &str = "first-0123456789";
const NEXT_KEY: &str = "second-0123456789";
const WEBSOCKET: &str = "/socket.io/?EIO=4&transport=websocket";

/// A server with a configuration file, removed when dropped.
struct Configured {
    process: Process,
    file: PathBuf,
}

impl Configured {
    fn start(name: &str, text: &str) -> Self {
        let file = std::env::temp_dir().join(format!("stentor-reload-{}-{name}.toml", std::process::id()));
        fs::write(&file, text).unwrap();
        let mut command = stentor(&["serve", "--workers", "1", "--recovery", "off", "--config"]);
        Self { process: Process::run(command.arg(&file)), file }
    }

    fn write(&self, text: &str) {
        fs::write(&self.file, text).unwrap();
    }

    /// Reloads by SIGHUP, and waits until this is in the log.
    #[track_caller]
    fn hang_up(&self, logged: &str) {
        self.process.signal(Signal::HUP);
        self.process.expect_log(logged);
    }

    fn ask(&self, key: &str, method: &str, target: &str) -> (u16, Value) {
        let authorization = format!("Bearer {key}");
        let response = self.process.http().request(method, target, &[("Authorization", &authorization)], b"");
        (response.head.status, serde_json::from_str(&response.body).expect("JSON"))
    }

    fn admits_origin(&self, origin: &str) -> bool {
        Websocket::try_upgrade(self.process.http(), WEBSOCKET, &[("Origin", origin)]).is_ok()
    }
}

impl Drop for Configured {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.file);
    }
}

#[test]
fn sighup_changes_keys_origins_and_limits_and_names_the_rest() {
    let server = Configured::start("sighup", &format!("api_key = \"{KEY}\"\n"));
    let mut client = server.process.join(Transport::Websocket);
    assert!(!server.admits_origin("https://app.example.org"));
    server.write(&format!(
        "api_key = \"{NEXT_KEY}\"\ncors_origins = [\"https://app.example.org\"]\nsessions_max = 7\nping_interval = \"7s\"\n"
    ));
    server.hang_up(r#"reloaded changed=["api_key", "cors_origins", "sessions_max"] needs_restart=["ping_interval"]"#);
    server.process.expect_log(r#"settings changed that take effect at the next start settings=["ping_interval"]"#);
    assert!(server.admits_origin("https://app.example.org"));
    assert_eq!(server.ask(KEY, "GET", "/api/v1/rooms").0, 401);
    assert_eq!(server.ask(NEXT_KEY, "GET", "/api/v1/rooms").0, 200);
    assert_eq!(server.process.metric("stentor_sessions_max"), 7);
    client.expect_echo();
    server.write(&format!("api_key = \"{NEXT_KEY}\"\n"));
    server.hang_up(r#"reloaded changed=["cors_origins", "sessions_max"] needs_restart=[]"#);
    assert!(!server.admits_origin("https://app.example.org"));
}

#[test]
fn a_reload_with_an_error_changes_nothing_and_says_why() {
    let server = Configured::start("error", &format!("api_key = \"{KEY}\"\n"));
    let wrong =
        format!("api_key = \"{NEXT_KEY}\"\nsessions_max = 7\nping_interval = \"25\"\ncors_credentials = true\n");
    server.write(&wrong);
    let (status, body) = server.ask(KEY, "POST", "/api/v1/reload");
    let message = body["error"]["message"].as_str().unwrap();
    assert_eq!((status, &body["error"]["code"]), (422, &json!("bad_configuration")));
    assert!(message.contains(":3: ping_interval = \"25\": expected a duration"), "{message}");
    assert!(message.contains("cors_credentials = true: expected cors_origins as well"), "{message}");
    assert!(!message.contains(NEXT_KEY), "{message}");
    server.hang_up("configuration not reloaded, nothing has changed error=");
    assert_eq!(server.ask(NEXT_KEY, "GET", "/api/v1/rooms").0, 401);
    assert_ne!(server.process.metric("stentor_sessions_max"), 7);
    fs::remove_file(&server.file).unwrap();
    server.hang_up("cannot be read");
    assert_eq!(server.ask(KEY, "GET", "/api/v1/rooms").0, 200);
}

#[test]
fn a_reload_over_http_answers_with_the_changes() {
    let keys = format!("api_key = \"{KEY}\"\napi_keys = [\"read+publish+subscribe:{NEXT_KEY}\"]\n");
    let server = Configured::start("http", &keys);
    assert_eq!(server.ask(NEXT_KEY, "POST", "/api/v1/reload").0, 403);
    let done =
        |changed: Value, needs_restart: Value| (200, json!({"changed": changed, "needs_restart": needs_restart}));
    assert_eq!(server.ask(KEY, "POST", "/api/v1/reload"), done(json!([]), json!([])));
    server.write(&format!("api_key = \"{KEY}\"\nport = 1\n[tuning]\npage_entries_max = 2\n"));
    let expected = || done(json!(["api_keys", "page_entries_max"]), json!([]));
    assert_eq!(server.ask(KEY, "POST", "/api/v1/reload"), expected(), "the flag --port overrides the file");
    assert_eq!(server.ask(NEXT_KEY, "GET", "/api/v1/rooms").0, 401);
    assert_eq!(server.ask(KEY, "GET", "/api/v1/rooms?limit=3").0, 400);
}
