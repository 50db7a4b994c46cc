//! Hooks of `stentor serve`, asked of a back end that answers well, badly, late or never.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use serde_json::{Value, json};

use crate::support::{Asked, BackEnd, Client, Process, Reply, Transport, eventually, stentor};

const OK: Reply = Reply::Json("{}");

const UNAVAILABLE: &str = r#"[{"error":{"code":"unavailable","message":"the back end gave no answer, retry later"}}]"#;

/// Starts a server that asks these hooks.
fn serve(back_end: &BackEnd, hooks: &str, flags: &[&str]) -> Process {
    let common = back_end.flags();
    let common = common.iter().map(String::as_str);
    let common: Vec<_> = common.chain(["--hooks", hooks]).chain(flags.iter().copied()).collect();
    Process::start(&common)
}

fn metric(hook: &str, result: &str) -> String {
    format!("stentor_hooks_total{{hook=\"{hook}\",result=\"{result}\"}}")
}

/// A client in the room `lobby`, of which the join hook is not asked.
fn member(server: &Process) -> Client {
    let mut client = server.join(Transport::Websocket);
    client.send(r#"420["join","lobby"]"#);
    assert!(client.recv_text().starts_with(r#"430[{"room":"lobby""#));
    client
}

#[test]
fn the_connect_hook_gets_the_client_and_its_refusal_reaches_it() {
    let back_end = BackEnd::start(|asked| match asked.body["auth"]["name"].as_str() {
        Some("Ada") => Reply::Json(r#"{"user":"42","info":{"name":"Ada"},"data":{"plan":"pro"}}"#),
        Some("Eve") => Reply::Json(r#"{"error":{"code":"banned","message":"you are banned","data":{"until":7}}}"#),
        Some("Bob") => Reply::Json(r#"{"disconnect":true}"#),
        _ => Reply::Json(r#"{"error":{"code":"login"}}"#),
    });
    let server = serve(&back_end, "connect,event", &["--hooks-headers", "host,Cookie"]);
    let mut client = server.open(Transport::Websocket);
    for (auth, refusal) in [
        (r#"{"name":"Eve"}"#, r#"{"message":"you are banned","data":{"code":"banned","data":{"until":7}}}"#),
        (r#"{"name":"Bob"}"#, r#"{"message":"disconnected by the back end","data":{"code":"forbidden"}}"#),
        ("", r#"{"message":"login","data":{"code":"login"}}"#),
    ] {
        client.send(&format!("40{auth}"));
        client.expect(&format!("44{refusal}"));
    }
    back_end.take();
    let sid = client.connect_with("", r#"{"name":"Ada"}"#)["sid"].clone();
    let asked = back_end.take().remove(0);
    assert_eq!((asked.path.as_str(), asked.header("content-type")), ("/hooks/connect", Some("application/json")));
    let signature = asked.header("stentor-signature").unwrap();
    assert!(signature.starts_with("t=") && signature.contains(",v1="), "{signature}");
    let Value::Object(mut body) = asked.body else { panic!() };
    assert!(body.remove("id").is_some_and(|id| id.is_string()));
    let headers = body.remove("headers").unwrap();
    assert!(headers["host"].is_string() && headers.as_object().unwrap().len() == 1, "{headers}");
    assert_eq!(
        Value::Object(body),
        json!({
            "hook": "connect", "namespace": "/", "socket": sid, "address": "127.0.0.1", "user": null, "info": null,
            "data": null, "auth": {"name": "Ada"}, "recovering": false,
        })
    );
    client.send(r#"421["other"]"#);
    client.recv_text();
    let asked = back_end.wait_for(1).remove(0).body;
    assert_eq!(
        (&asked["user"], &asked["info"], &asked["data"]),
        (&json!("42"), &json!({"name": "Ada"}), &json!({"plan": "pro"}))
    );
    server.expect_log("connect refused by the hook address=127.0.0.1 code=\"banned\"");
    assert_eq!(server.metric(&metric("connect", "refused")), 2);
    assert_eq!(server.metric(&metric("connect", "disconnect")), 1);
    assert_eq!(server.metric(&metric("connect", "accepted")), 1);
}

/// Answers that are none, and the reason in the log.
fn no_answers() -> Vec<(Reply, &'static str)> {
    let html = || b"<html>Welcome</html>".to_vec();
    vec![
        (Reply::Http(500, "application/json", b"{}".to_vec()), "status 500, expected 200"),
        (Reply::Http(302, "text/html", html()), "status 302, expected 200"),
        (Reply::Http(200, "text/html; charset=utf-8", html()), "content type \"text/html; charset=utf-8\""),
        (Reply::Http(200, "application/json", html()), "answer is wrong: expected value at line 1 column 1"),
        (Reply::Http(200, "application/json", vec![b' '; 10 << 20]), "answer exceeds limit of 1048576 bytes"),
        (Reply::Json(r#"{"rooms":[""]}"#), "answer is wrong: "),
        (Reply::Json(r#"{"user":""}"#), "answer is wrong: user id is empty"),
        (Reply::Json(r#"{"admin":true}"#), "answer is wrong: unknown field `admin`"),
        (Reply::Never, "no answer within hooks_timeout=300ms"),
        (Reply::Close, "request failed: "),
    ]
}

#[test]
fn without_an_answer_no_client_gets_in_and_its_connection_is_closed() {
    for transport in [Transport::Websocket, Transport::Polling] {
        for (reply, reason) in no_answers() {
            let back_end = BackEnd::start(move |_| reply.clone());
            let server = serve(&back_end, "connect", &["--hooks-timeout", "300ms"]);
            let mut client = server.open(transport);
            client.send("40");
            client.expect_end();
            server.expect_log(&format!("hook not answered hook=connect skipped=0 reason=\"{reason}"));
        }
    }
}

#[test]
fn without_an_answer_events_are_refused_as_unavailable() {
    for (reply, reason) in no_answers().into_iter().filter(|(_, reason)| !reason.contains("user id")) {
        let back_end = BackEnd::start(move |_| reply.clone());
        let server = serve(&back_end, "join,publish,event", &["--hooks-timeout", "300ms"]);
        let mut client = server.join(Transport::Websocket);
        client.send(r#"421["join","lobby"]"#);
        client.expect(&format!("431{UNAVAILABLE}"));
        server.expect_log(&format!("hook not answered hook=join skipped=0 reason=\"{reason}"));
        client.send(r#"42["other"]"#);
        assert!(client.recv_text().starts_with(r#"42["stentor:error",{"error":{"code":"unavailable""#));
    }
}

#[test]
fn a_back_end_that_does_not_run_lets_nobody_in() {
    let unused = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{unused}");
    let server = Process::start(&["--hooks-url", &url, "--hooks-key", "0123456789abcdef"]);
    let mut client = server.open(Transport::Upgraded);
    client.send("40");
    client.expect_end();
    server.expect_log("hook not answered hook=connect skipped=0 reason=\"request failed: Connection refused");
}

#[test]
fn the_join_hook_refuses_or_adds_data_to_the_ack() {
    let back_end = BackEnd::start(|asked| match asked.body["room"].as_str() {
        Some("open") => Reply::Json(r#"{"data":{"topic":1.50}}"#),
        Some("secret") => Reply::Json(r#"{"error":{"code":"forbidden","message":"members only"}}"#),
        _ => OK,
    });
    let server = serve(&back_end, "join", &[]);
    let mut client = server.join(Transport::Websocket);
    client.send(r#"421["join","open",{"durable":false}]"#);
    let answer = client.recv_text();
    assert!(answer.ends_with(r#""data":{"topic":1.50}}]"#), "{answer}");
    assert_eq!(back_end.take()[0].body["options"], json!({"durable": false}));
    client.send(r#"422["join","secret"]"#);
    client.expect(r#"432[{"error":{"code":"forbidden","message":"members only"}}]"#);
    client.send(r#"423["members","secret"]"#);
    client.expect(r#"433[{"members":[]}]"#);
    client.send(r#"424["join","other"]"#);
    assert!(!client.recv_text().contains("data"));
    // Wrong arguments are refused without the back end.
    back_end.take();
    client.send(r#"425["join"]"#);
    assert!(client.recv_text().contains("bad_request"));
    assert!(back_end.take().is_empty());
}

#[test]
fn the_publish_hook_replaces_arguments_skips_or_refuses() {
    let back_end = BackEnd::start(|asked| match asked.body["args"][0].as_str() {
        Some("bad word") => Reply::Json(r#"{"args":["***",1.50]}"#),
        Some("spam") => Reply::Json(r#"{"skip":true}"#),
        Some("insult") => Reply::Json(r#"{"error":{"code":"rude","message":"be nice"}}"#),
        _ => OK,
    });
    let server = serve(&back_end, "publish", &[]);
    let mut client = member(&server);
    for (word, expected) in [("hello", r#""hello",7"#), ("bad word", r#""***",1.50"#)] {
        client.send(&format!(r#"421["publish","lobby","m","{word}",7]"#));
        client.expect(&format!(r#"42["m",{expected}]"#));
        client.expect(r#"431[{"level":"accepted","offset":null,"duplicate":false}]"#);
    }
    client.send(r#"421["publish",{"rooms":["lobby","a"]},"m","spam"]"#);
    client.expect(r#"431[{"level":"skipped","offset":null,"duplicate":false}]"#);
    client.send(r#"421["publish","lobby","m","insult"]"#);
    client.expect(r#"431[{"error":{"code":"rude","message":"be nice"}}]"#);
    let asked = back_end.take();
    assert_eq!(asked[0].body["rooms"], json!(["lobby"]));
    assert_eq!(asked[2].body["rooms"], json!(["lobby", "a"]));
    assert_eq!((&asked[3].body["event"], &asked[3].body["durable"]), (&json!("m"), &json!(false)));
}

#[test]
fn attachments_reach_the_publish_hook_as_base64_and_the_room_as_sent() {
    let back_end = BackEnd::start(|_| OK);
    let server = serve(&back_end, "publish", &[]);
    let mut client = member(&server);
    client.send(r#"451-1["publish","lobby","m",{"_placeholder":true,"num":0}]"#);
    client.send_all(&[crate::support::Packet::Binary(vec![0, 255])]);
    client.expect(r#"451-["m",{"_placeholder":true,"num":0}]"#);
    client.expect_binary(&[0, 255]);
    let asked = back_end.take().remove(0).body;
    assert_eq!(asked["attachments"], json!(["AP8="]));
    assert_eq!(asked["args"], json!([{"_placeholder": true, "num": 0}]));
}

#[test]
fn the_event_hook_acks_emits_joins_leaves_and_disconnects() {
    let back_end = BackEnd::start(|asked| match asked.body["event"].as_str() {
        Some("order:create") => Reply::Json(
            r#"{"ack":[{"id":7},1.50],"emit":[{"room":"lobby","event":"order","args":[7]},{"room":"lobby","event":"quiet","except":["lobby"]}],"join":["orders"],"leave":["lobby"]}"#,
        ),
        Some("bye") => Reply::Json(r#"{"disconnect":true}"#),
        Some("reserved") => Reply::Json(r#"{"emit":[{"room":"lobby","event":"stentor:error"}]}"#),
        Some("no") => Reply::Json(r#"{"error":{"code":"no","message":"not now"}}"#),
        _ => OK,
    });
    let server = serve(&back_end, "event", &[]);
    let mut client = member(&server);
    client.send(r#"421["order:create",{"item":1}]"#);
    client.expect(r#"42["order",7]"#);
    client.expect(r#"431[{"id":7},1.50]"#);
    for (room, members) in [("orders", 1), ("lobby", 0)] {
        client.send(&format!(r#"422["members","{room}"]"#));
        let answer: Value = serde_json::from_str(client.recv_text().strip_prefix("432").unwrap()).unwrap();
        assert_eq!(answer[0]["members"].as_array().unwrap().len(), members, "{room}");
    }
    let asked = back_end.take().remove(0).body;
    assert_eq!((&asked["wants_ack"], &asked["args"]), (&json!(true), &json!([{"item": 1}])));
    client.send(r#"423["anything"]"#);
    client.expect("433[]");
    client.send(r#"424["no"]"#);
    client.expect(r#"434[{"error":{"code":"no","message":"not now"}}]"#);
    client.send(r#"425["reserved"]"#);
    assert!(client.recv_text().contains("bad_event"));
    client.send(r#"426["bye"]"#);
    client.expect("41");
}

#[test]
fn other_events_are_unknown_if_the_event_hook_is_off() {
    let back_end = BackEnd::start(|_| OK);
    let server = serve(&back_end, "join", &[]);
    let mut client = server.join(Transport::Websocket);
    client.send(r#"421["other"]"#);
    assert!(client.recv_text().contains("unknown_event"));
    assert!(back_end.take().is_empty());
}

#[test]
fn hooks_of_one_socket_are_asked_one_after_the_other_in_its_order() {
    // Each request is answered when the test says so.
    let gate = Arc::new(Barrier::new(2));
    let (of_back_end, under_way) = (gate.clone(), Arc::new(AtomicUsize::new(0)));
    let back_end = BackEnd::start(move |asked| {
        assert_eq!(under_way.fetch_add(1, Ordering::SeqCst), 0, "{asked:?} overtakes");
        of_back_end.wait();
        under_way.fetch_sub(1, Ordering::SeqCst);
        OK
    });
    let server = serve(&back_end, "join,publish,event", &["--hooks-timeout", "10s"]);
    let mut client = server.join(Transport::Websocket);
    for packet in [
        r#"421["join","lobby"]"#,
        r#"422["publish","lobby","m",1]"#,
        r#"423["other"]"#,
        r#"424["publish","lobby","m",2]"#,
        r#"425["leave","lobby"]"#,
        r#"426["members","lobby"]"#,
    ] {
        client.send(packet);
    }
    for path in ["/hooks/join", "/hooks/publish", "/hooks/event", "/hooks/publish"] {
        let asked = back_end.wait_for(1);
        assert_eq!(asked.iter().map(|asked| asked.path.as_str()).collect::<Vec<_>>(), [path]);
        gate.wait();
    }
    // Acks may come in another order: that of a publish waits for the hub.
    let received: Vec<_> = (0..8).map(|_| client.recv_text()).collect();
    let position = |start: &str| received.iter().position(|packet| packet.starts_with(start));
    assert!(position(r#"431[{"room":"lobby","members":1"#).is_some(), "{received:?}");
    assert!(position("433[]").is_some(), "{received:?}");
    let (first, second) = (position(r#"42["m",1"#), position(r#"42["m",2"#));
    assert!(first.is_some() && first < second, "{received:?}");
    // A later event without a hook does not overtake the join.
    assert!(position(r#"435[{"room":"lobby"}]"#) < position(r#"436[{"members":[]}]"#), "{received:?}");
    assert!(position(r#"436[{"members":[]}]"#).is_some(), "{received:?}");
}

#[test]
fn hooks_of_different_sockets_are_asked_in_parallel_up_to_the_bound() {
    let gate = Arc::new(Barrier::new(3));
    let of_back_end = gate.clone();
    let back_end = BackEnd::start(move |_| {
        of_back_end.wait();
        OK
    });
    let server = serve(&back_end, "event", &["--hooks-pending-max", "2", "--hooks-timeout", "10s"]);
    let mut clients: Vec<_> = (0..3).map(|_| server.join(Transport::Websocket)).collect();
    for client in &mut clients[..2] {
        client.send(r#"421["other"]"#);
    }
    back_end.wait_for(2);
    assert_eq!(server.metric("stentor_hooks_pending"), 2);
    clients[2].send(r#"421["other"]"#);
    clients[2].expect(&format!("431{UNAVAILABLE}"));
    server.expect_log("reason=\"more than hooks_pending_max=2 requests are under way\"");
    gate.wait();
    for client in &mut clients[..2] {
        client.expect("431[]");
    }
    eventually("no request is under way", || server.metric("stentor_hooks_pending") == 0);
    assert_eq!(server.metric(&metric("event", "overloaded")), 1);
}

#[test]
fn events_that_wait_behind_an_unanswered_hook_are_not_asked_about() {
    let back_end = BackEnd::start(|asked| if asked.body["event"] == "slow" { Reply::Never } else { OK });
    let server = serve(&back_end, "event", &["--hooks-timeout", "500ms"]);
    let mut client = server.join(Transport::Websocket);
    client.send(r#"421["slow"]"#);
    client.send(r#"422["quick"]"#);
    client.send(r#"423["echo",1]"#);
    client.expect(&format!("431{UNAVAILABLE}"));
    client.expect(&format!("432{UNAVAILABLE}"));
    client.expect("433[1]");
    assert_eq!(back_end.take().len(), 1);
    client.send(r#"424["quick"]"#);
    client.expect("434[]");
}

/// Clients of different users, named by the connect hook of `answer_of_users`.
fn users<const N: usize>(server: &Process, names: [&str; N]) -> [Client; N] {
    names.map(|name| {
        let mut client = server.open(Transport::Websocket);
        client.connect_with("", &format!(r#"{{"name":"{name}"}}"#));
        client
    })
}

/// The answer to connects: the user has the name that the client has sent.
fn answer_of_users(asked: &Asked) -> Reply {
    match asked.body["auth"]["name"].as_str() {
        Some("Ada") => Reply::Json(r#"{"user":"Ada"}"#),
        Some("Bob") => Reply::Json(r#"{"user":"Bob"}"#),
        Some("Eve") => Reply::Json(r#"{"user":"Eve"}"#),
        _ => OK,
    }
}

fn unavailable() -> Reply {
    Reply::Http(503, "text/plain", Vec::new())
}

#[test]
fn failures_of_several_users_open_the_circuit_of_their_hook_only() {
    let is_down = Arc::new(AtomicBool::new(true));
    let of_back_end = is_down.clone();
    let back_end = BackEnd::start(move |asked| match asked.path.as_str() {
        "/hooks/connect" => answer_of_users(asked),
        "/hooks/event" if of_back_end.load(Ordering::SeqCst) => unavailable(),
        _ => OK,
    });
    let server = serve(&back_end, "connect,join,event", &["--join-default", "any"]);
    let mut clients = users(&server, ["Ada", "Bob", "Eve"]);
    // The failures open the circuit only if they are within a second, which a busy machine may not
    // achieve with the first three.
    eventually("the circuit is open", || {
        for client in &mut clients {
            client.send(r#"421["other"]"#);
            client.expect(&format!("431{UNAVAILABLE}"));
        }
        server.metric(&metric("event", "circuit_open")) > 0
    });
    server.expect_log("hook paused after failures, one request a second tests the back end hook=event");
    let [mut client] = users(&server, ["Ada"]);
    client.send(r#"421["join","lobby"]"#);
    assert!(client.recv_text().starts_with(r#"431[{"room":"lobby""#));
    is_down.store(false, Ordering::SeqCst);
    eventually("an event is answered", || {
        client.send(r#"421["other"]"#);
        client.recv_text() == "431[]"
    });
    server.expect_log("hook is asked again, the back end has answered hook=event");
}

#[test]
fn one_user_does_not_stop_the_hooks_of_others() {
    let back_end = BackEnd::start(|asked| match asked.body["event"].as_str() {
        Some("slow") => unavailable(),
        _ => answer_of_users(asked),
    });
    let server = serve(&back_end, "connect,event", &[]);
    let [mut other] = users(&server, ["Bob"]);
    for _ in 0..2 {
        for client in &mut users(&server, ["Ada", "Ada", "Ada"]) {
            client.send(r#"421["slow"]"#);
            client.expect(&format!("431{UNAVAILABLE}"));
        }
    }
    other.send(r#"421["quick"]"#);
    other.expect("431[]");
    assert_eq!(server.metric(&metric("event", "circuit_open")), 0);
}

#[test]
fn a_connection_closed_by_the_back_end_does_not_open_the_circuit() {
    let back_end = BackEnd::start(|asked| match asked.body["event"].as_str() {
        Some("large") => Reply::Close,
        _ => answer_of_users(asked),
    });
    let server = serve(&back_end, "connect,event", &[]);
    let mut clients = users(&server, ["Ada", "Bob", "Eve"]);
    for client in &mut clients {
        client.send(r#"421["large"]"#);
        client.expect(&format!("431{UNAVAILABLE}"));
    }
    clients[0].send(r#"421["small"]"#);
    clients[0].expect("431[]");
}

#[test]
fn the_waiting_events_of_one_socket_have_a_bound_of_their_own() {
    let back_end = BackEnd::start(|asked| if asked.body["event"] == "slow" { Reply::Never } else { OK });
    let server = serve(&back_end, "event", &["--hooks-timeout", "10s"]);
    let mut client = server.join(Transport::Websocket);
    client.send(r#"421["slow"]"#);
    back_end.wait_for(1);
    let text = "a".repeat(900_000);
    for _ in 0..5 {
        client.send(&format!(r#"422["large","{text}"]"#));
    }
    client.expect(&format!("432{UNAVAILABLE}"));
    server.expect_log("reason=\"events of 4194304 bytes of the socket wait for hooks, which is the limit");
    let mut other = server.join(Transport::Websocket);
    other.send(&format!(r#"423["large","{text}"]"#));
    other.expect("433[]");
}

#[test]
fn errors_of_single_events_do_not_open_the_circuit() {
    let back_end = BackEnd::start(|asked| match asked.body["event"].as_str() {
        Some("poison") => Reply::Http(500, "text/plain", Vec::new()),
        _ => OK,
    });
    let server = serve(&back_end, "event", &[]);
    let mut client = server.join(Transport::Websocket);
    for _ in 0..10 {
        client.send(r#"421["poison"]"#);
        client.expect(&format!("431{UNAVAILABLE}"));
    }
    client.send(r#"422["other"]"#);
    client.expect("432[]");
}

#[test]
fn the_trace_context_of_a_client_is_passed_on() {
    let back_end = BackEnd::start(|_| OK);
    let server = serve(&back_end, "connect", &[]);
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut http = server.http();
    let target = "/socket.io/?EIO=4&transport=polling";
    let opened = http.request("GET", target, &[("Traceparent", traceparent)], b"").body;
    let sid = opened.split('"').nth(3).unwrap().to_owned();
    http.post(&format!("{target}&sid={sid}"), "40");
    assert_eq!(back_end.wait_for(1)[0].header("traceparent"), Some(traceparent));
}

#[test]
fn the_command_test_shows_an_answer_and_checks_it() {
    let back_end = BackEnd::start(|asked| match (asked.path.as_str(), asked.body["room"].as_str()) {
        ("/hooks/connect", _) => Reply::Json(r#"{"user":"42"}"#),
        ("/hooks/join", Some("secret")) => Reply::Json(r#"{"error":{"code":"forbidden"}}"#),
        ("/hooks/join", _) => Reply::Json(r#"{"yes":true}"#),
        ("/hooks/publish", _) => Reply::Http(404, "text/html", Vec::new()),
        _ => OK,
    });
    let run = |args: &[&str]| {
        let output = stentor(&[&["hooks", "test"], args].concat()).args(back_end.flags()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.success(), text(output.stdout), text(output.stderr))
    };
    let (is_success, out, error) = run(&["connect", "--auth", r#"{"a":1}"#]);
    assert!(
        is_success && out.contains(r#""auth":{"a":1}"#) && out.contains(r#"answer   {"user":"42"}"#),
        "{out}{error}"
    );
    assert!(out.ends_with("accepted\n"), "{out}");
    let (is_success, out, _) = run(&["join", "--user", "42", "--room", "secret"]);
    assert!(is_success && out.contains(r#""user":"42""#) && out.contains("refused  code=\"forbidden\""), "{out}");
    for (args, expected) in [
        (&["join"][..], "the answer is wrong: unknown field `yes`"),
        (&["publish"], "the hook was not answered: status 404, expected 200"),
        (&["event", "--args", "{}"], "--args: "),
        (&["event", "--hooks-timeout", "16s"], "hooks_timeout = \"16s\": expected a duration such as \"2s\""),
    ] {
        let (is_success, _, error) = run(args);
        assert!(!is_success && error.contains(expected), "{args:?}: {error}");
    }
    assert!(run(&["event"]).0);
}

#[test]
fn the_answer_to_connect_sets_rooms_and_permissions() {
    let back_end = BackEnd::start(|asked| match asked.path.as_str() {
        "/hooks/connect" => Reply::Json(r#"{"user":"42","rooms":["lobby"],"join":["chat:*"],"publish":["lobby"]}"#),
        _ => OK,
    });
    let server = serve(&back_end, "connect,join,publish", &["--join-default", "deny", "--publish-default", "deny"]);
    let mut client = server.join(Transport::Websocket);
    client.send(r#"421["publish","lobby","m",1]"#);
    client.expect(r#"42["m",1]"#);
    assert!(client.recv_text().starts_with(r#"431[{"level":"accepted""#));
    client.send(r#"422["join","chat:7"]"#);
    assert!(client.recv_text().starts_with(r#"432[{"room":"chat:7""#));
    assert_eq!(back_end.take().len(), 3);
    // Permissions are checked before the back end is asked.
    for (event, refused) in [(r#""join","staff""#, "join"), (r#""publish","chat:7","m""#, "publish")] {
        client.send(&format!("423[{event}]"));
        let answer = client.recv_text();
        assert!(
            answer.starts_with(&format!(r#"433[{{"error":{{"code":"forbidden","message":"{refused}: "#)),
            "{answer}"
        );
    }
    assert!(back_end.take().is_empty());
}

#[test]
fn clients_with_a_valid_token_are_asked_about_only_if_set() {
    let key = "0123456789abcdef0123456789abcdef";
    let mut generate = stentor(&["token", "gen", "--user", "42", "--ttl", "1h"]);
    let output = generate.env("STENTOR_TOKEN_HMAC_KEY", key).output().unwrap();
    let token = String::from_utf8(output.stdout).unwrap();
    let auth = format!(r#"{{"token":"{}"}}"#, token.trim());
    let back_end = BackEnd::start(|_| Reply::Json(r#"{"info":{"name":"Ada"}}"#));
    let server = serve(&back_end, "connect", &["--token-hmac-key", key]);
    let mut clients: Vec<_> = (0..100).map(|_| server.open(Transport::Websocket)).collect();
    for client in &mut clients {
        client.connect_with("", &auth);
    }
    assert!(back_end.take().is_empty());
    let mut refused = server.open(Transport::Websocket);
    refused.send(r#"40{"token":"a.b.c"}"#);
    assert!(refused.recv_text().contains("token_invalid"));
    assert!(back_end.take().is_empty());
    server.join(Transport::Websocket);
    assert_eq!(back_end.take()[0].body["user"], json!(null));

    let server = serve(&back_end, "connect", &["--token-hmac-key", key, "--hooks-connect-always", "true"]);
    server.open(Transport::Websocket).connect_with("", &auth);
    assert_eq!(back_end.take()[0].body["user"], json!("42"));
}

#[test]
fn the_connect_hook_restricts_a_renewed_token_as_well() {
    let key = "0123456789abcdef0123456789abcdef";
    let token = |room: &str| {
        let mut generate = stentor(&["token", "gen", "--user", "42", "--ttl", "1h", "--join", "*", "--join", room]);
        let output = generate.env("STENTOR_TOKEN_HMAC_KEY", key).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    };
    let banned = token("banned");
    let of_back_end = banned.clone();
    let back_end = BackEnd::start(move |asked| match (asked.path.as_str(), asked.body["auth"]["token"].as_str()) {
        ("/hooks/connect", Some(token)) if token == of_back_end => Reply::Json(r#"{"error":{"code":"banned"}}"#),
        // The time is far off, and yet the end of this identity is that of the token.
        ("/hooks/connect", _) => {
            Reply::Json(r#"{"user":"renamed","join":["public"],"data":{"n":1},"expires_at":99999999999}"#)
        }
        _ => OK,
    });
    let flags = ["--token-hmac-key", key, "--hooks-connect-always", "true", "--join-default", "deny"];
    let server = serve(&back_end, "connect,join", &flags);
    let mut client = server.open(Transport::Websocket);
    client.connect_with("", &format!(r#"{{"token":"{}","device":1.50}}"#, token("*")));
    back_end.take();
    let renewed = token("*,chat:7");
    client.send(&format!(r#"421["token","{renewed}"]"#));
    let answer = client.recv_text();
    assert!(answer.starts_with(r#"431[{"exp":"#), "{answer}");
    let asked = back_end.take().remove(0).body;
    assert_eq!((&asked["user"], &asked["auth"]), (&json!("42"), &json!({"device": 1.50, "token": renewed})));
    assert_eq!((&asked["data"], &asked["recovering"]), (&json!({"n": 1}), &json!(false)));
    client.send(r#"422["join","chat:7"]"#);
    assert!(client.recv_text().contains("forbidden"));
    client.send(r#"423["join","public"]"#);
    assert!(client.recv_text().starts_with(r#"433[{"room":"public""#));
    assert_eq!(back_end.take()[0].body["user"], json!("renamed"));
    // A refusal leaves the identity as it was.
    client.send(&format!(r#"424["token","{banned}"]"#));
    client.expect(r#"434[{"error":{"code":"banned","message":"banned"}}]"#);
    client.send(r#"425["join","public"]"#);
    assert!(client.recv_text().starts_with(r#"435[{"room":"public""#));
}
