//! `stentor queue --url` and the example of a worker, beside a running server.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{done, publish, subscribe};
use crate::support::{API_KEY, Process, stentor};

fn serving() -> Process {
    let mut command = stentor(&["serve", "--workers", "1", "--queue", "memory", "--recovery", "off"]);
    Process::run(command.env("STENTOR_API_KEY", API_KEY))
}

/// Exit status, and standard output or standard error of `stentor queue` with the server's address.
fn queue(serving: &Process, arguments: &str) -> (bool, String) {
    let url = format!("http://{}", serving.address);
    tool(&[&arguments.split(' ').collect::<Vec<_>>()[..], &["--url", &url]].concat(), Some(API_KEY))
}

fn tool(arguments: &[&str], key: Option<&str>) -> (bool, String) {
    let mut tool = stentor(&["queue"]);
    let output = tool.args(arguments).envs(key.map(|key| ("STENTOR_API_KEY", key))).output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

#[test]
fn the_queue_of_a_running_server_is_changed_through_its_api() {
    let serving = serving();
    let mut http = serving.http();
    subscribe(&mut http, "kitchen%203%2F4");
    let offsets: Vec<String> = (1..=4).map(|number| publish(&mut http, number)).collect();
    done(&mut http, "POST", "subscribers/kitchen%203%2F4/term", json!({"offset": offsets[0], "reason": "poison"}));
    let name = ["kitchen 3/4"];
    let url = format!("http://{}/", serving.address);
    let run = |arguments: &[&str]| tool(&[arguments, &["--url", &url]].concat(), Some(API_KEY));
    let pending = |http: &mut crate::support::Http| {
        let shown = done(http, "GET", "subscribers/kitchen%203%2F4", Value::Null);
        (shown["events"].as_u64().unwrap(), shown["dead_letters"].as_u64().unwrap())
    };

    let hint = "nothing was changed; add --yes to do so\n";
    let of = "subscriber \"kitchen 3/4\" of namespace /";
    assert_eq!(
        run(&["replay", name[0], "--dead"]),
        (true, format!("would deliver 1 dead letter to {of} again\n{hint}"))
    );
    let purge = format!(
        "remove those of the 3 pending events of {of} that are not newer than offset {} (number 2); it receives a gap\n",
        offsets[1]
    );
    assert_eq!(run(&["purge", name[0], "--up-to", &offsets[1]]), (true, format!("would {purge}{hint}")));
    assert_eq!(pending(&mut http), (3, 1));
    assert_eq!(run(&["purge", name[0], "--up-to", "2", "--yes"]), (true, format!("done: {purge}")));
    assert_eq!(pending(&mut http), (2, 1));
    assert!(run(&["replay", name[0], "--dead", "--yes"]).1.starts_with("done: deliver 1 dead letter"));
    assert_eq!(pending(&mut http), (3, 0));

    let (_, list) = queue(&serving, "ls");
    let listed: Value = serde_json::from_str(&list).unwrap();
    assert_eq!((&listed["name"], &listed["rooms"]), (&json!("kitchen 3/4"), &json!(1)), "{list}");
    let (_, shown) = run(&["show", name[0]]);
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["rooms"], json!(["orders"]));
    done(&mut http, "POST", "subscribers/kitchen%203%2F4/term", json!({"offset": offsets[3], "reason": "again"}));
    let (_, dead) = run(&["dead", name[0], "--limit", "5"]);
    assert_eq!(serde_json::from_str::<Value>(&dead).unwrap()["reason"], "again", "{dead}");

    let (_, purged) = run(&["purge", name[0], "--yes"]);
    let all = format!("done: remove all 2 pending events of {of}, up to offset ");
    assert!(purged.starts_with(&all) && purged.ends_with(" (number 5); it receives a gap\n"), "{purged}");
    assert_eq!(pending(&mut http), (0, 1));
    let remove = format!("remove {of} with 0 pending events and 1 dead letter\n");
    assert_eq!(run(&["rm", name[0]]), (true, format!("would {remove}{hint}")));
    assert_eq!(run(&["rm", name[0], "--yes"]), (true, format!("done: {remove}")));
    let unknown = "stentor: server refused the request status=404: subscriber does not exist\n";
    assert_eq!(run(&["rm", name[0], "--yes"]), (false, unknown.into()));
    assert_eq!(queue(&serving, "ls"), (true, String::new()));
}

#[test]
fn what_a_server_does_not_do_is_refused_with_the_remedy() {
    let serving = serving();
    for (arguments, command) in [
        ("peek a", "peek"),
        ("stats", "stats"),
        ("check", "check"),
        ("sign a", "sign"),
        ("purge --room orders", "purge --room"),
    ] {
        let error =
            format!("stentor: {command} does not take --url; run it on the machine of the server, with --data-dir\n");
        assert_eq!(queue(&serving, arguments), (false, error));
    }
    subscribe(&mut serving.http(), "a");
    assert!(queue(&serving, "replay a --from 1").1.starts_with("stentor: replay --from does not take --url"));
    for (url, key, part) in [
        ("https://127.0.0.1:3000", Some(API_KEY), "https is not supported"),
        ("127.0.0.1:3000", Some(API_KEY), "begins with http://"),
        ("http://", Some(API_KEY), "expected a host"),
        ("http://user@127.0.0.1:3000", Some(API_KEY), "expected a host"),
        ("http://127.0.0.1:1", Some(API_KEY), "server 127.0.0.1:1: "),
        ("http://127.0.0.1:3000", None, "api_key of the server is not set"),
    ] {
        let (ok, error) = tool(&["ls", "--url", url], key);
        assert!(!ok && error.starts_with("stentor: ") && error.contains(part), "{url}: {error}");
    }
    let url = format!("http://{}", serving.address);
    let (ok, error) = tool(&["ls", "--url", &url], Some("another-key-0123"));
    assert!(!ok && error.contains("status=401: the API key is wrong"), "{error}");
    let (ok, error) = tool(&["ls", "--url", &format!("{url}/elsewhere")], Some(API_KEY));
    assert!(!ok && error.contains("unexpected response status=404"), "{error}");
}

#[test]
fn the_worker_in_plain_curl_handles_events_one_by_one() {
    if !Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_ok_and(|status| status.success()) {
        return eprintln!("skipped: curl is not installed");
    }
    let serving = serving();
    let mut http = serving.http();
    subscribe(&mut http, "billing");
    (1..=2).for_each(|number| _ = publish(&mut http, number));
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/queue/worker.sh");
    let mut worker = Command::new("sh");
    worker.args([script, &format!("http://{}", serving.address)]).env("STENTOR_API_KEY", API_KEY);
    let mut worker = worker.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(worker.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut expect = |args: &str| {
        let line = lines.next().unwrap();
        assert!(line.starts_with("billing: ") && line.contains(args), "{line}");
    };
    expect("\"args\":[1]");
    expect("\"args\":[2]");
    publish(&mut http, 3);
    expect("\"args\":[3]");
    crate::support::eventually("all are acknowledged", || {
        done(&mut http, "GET", "subscribers/billing", Value::Null)["events"] == 0
    });
    worker.kill().unwrap();
    worker.wait().unwrap();
}
