//! Files of the demo page.

use std::time::Duration;

use serde_json::{Value, json};
use stentor::{Args, Event, HandlerError, Namespace, Recovery, Server, Socket};

use crate::support::Hub;
use crate::support::product::demo;

fn hub() -> Hub {
    Hub::with_http(|_| demo::page)
}

#[test]
fn files_have_their_type_and_are_revalidated_by_a_strong_etag() {
    let hub = hub();
    let mut http = hub.http();
    for (target, kind) in [
        ("/", "text/html; charset=utf-8"),
        ("/index.html", "text/html; charset=utf-8"),
        ("/style.css", "text/css; charset=utf-8"),
        ("/demo/main.js", "text/javascript; charset=utf-8"),
        ("/client/index.js", "text/javascript; charset=utf-8"),
    ] {
        let first = http.get(target);
        assert_eq!(first.head.status, 200, "{target}");
        assert_eq!(first.head.header("content-type"), Some(kind), "{target}");
        assert_eq!(first.head.header("x-content-type-options"), Some("nosniff"), "{target}");
        let tag = first.head.header("etag").expect("a tag").to_owned();
        assert_eq!((tag.len(), tag.starts_with('"')), (66, true), "{target}: {tag}");

        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".into()] {
            let again = http.request("GET", target, &[("If-None-Match", &known)], b"");
            assert_eq!(again.status_and_body(), (304, ""), "{target} {known}");
            assert_eq!(again.head.header("etag"), Some(tag.as_str()), "{target}");
        }
        let changed = http.request("GET", target, &[("If-None-Match", "\"other\"")], b"");
        assert_eq!(changed.status_and_body(), (200, first.body.as_str()), "{target}");
    }
}

#[test]
fn head_has_the_headers_of_get_and_no_body() {
    let hub = hub();
    let mut http = hub.http();
    let get = http.get("/style.css");
    http.write_head("HEAD", "/style.css", &[], None);
    let head = http.head();
    assert_eq!(head.status, 200);
    for name in ["content-type", "etag", "content-length", "x-content-type-options"] {
        assert_eq!(head.header(name), get.head.header(name), "{name}");
    }
    assert_eq!(http.get("/healthz").status_and_body(), (200, "ok"), "no byte of a body came before");
}

#[test]
fn an_unknown_path_is_404_and_an_unsupported_method_405() {
    let hub = hub();
    let mut http = hub.http();
    assert_eq!(http.get("/nothing.js").status_and_body(), (404, "nothing at /nothing.js\n"));
    assert_eq!(http.get("/../Cargo.toml").head.status, 404);
    assert_eq!(http.get("/%2e%2e/Cargo.toml").head.status, 404);
    let post = hub.http().post("/style.css", "x");
    assert_eq!((post.head.status, post.head.header("allow")), (405, Some("GET, HEAD")));
    assert_eq!(hub.http().post("/nothing.js", "x").head.status, 404);
}

#[test]
fn clients_that_accept_gzip_get_it_under_its_own_etag() {
    let hub = hub();
    let mut http = hub.http();
    let plain = http.get("/client/socket.js");
    assert_eq!(plain.head.header("vary"), Some("Accept-Encoding"));
    let tag = plain.head.header("etag").expect("a tag").to_owned();
    let mut head = |headers: &[(&str, &str)]| {
        http.write_head("HEAD", "/client/socket.js", headers, None);
        http.head()
    };

    let zipped = head(&[("Accept-Encoding", "gzip, deflate, br")]);
    assert_eq!(zipped.header("content-encoding"), Some("gzip"));
    assert_eq!(zipped.header("vary"), Some("Accept-Encoding"));
    assert_eq!(zipped.header("content-type"), plain.head.header("content-type"));
    let length: usize = zipped.header("content-length").unwrap().parse().unwrap();
    assert!(0 < length && length < plain.body.len() / 2, "{length} of {}", plain.body.len());
    let zipped_tag = zipped.header("etag").expect("a tag").to_owned();
    assert_eq!(zipped_tag, format!("{}-gzip\"", tag.trim_end_matches('"')));

    // An etag of one encoding does not match the other encoding.
    for (accepted, known, status) in
        [("gzip", &zipped_tag, 304), ("gzip", &tag, 200), ("identity", &tag, 304), ("identity", &zipped_tag, 200)]
    {
        let again = head(&[("Accept-Encoding", accepted), ("If-None-Match", known)]);
        assert_eq!(again.status, status, "{accepted} {known}");
        assert_eq!(again.header("vary"), Some("Accept-Encoding"));
    }

    for refused in ["identity", "gzip;q=0", "br", "*;q=0", "gzip;q=0.1, identity", "nonsense;;"] {
        assert_eq!(head(&[("Accept-Encoding", refused)]).header("content-encoding"), None, "{refused}");
    }
}

#[test]
fn the_server_code_on_the_page_compiles() {
    let page = hub().http().get("/").body;
    let compiled = include_str!("page.rs");
    let mut lines = 0;
    for shown in page.split("data-language=\"server\"").skip(1) {
        let shown = shown.split_once("<code>").unwrap().1.split_once("</code>").unwrap().0;
        let shown = shown.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
        for line in shown.lines() {
            let code = line.split("//").next().unwrap().trim();
            if code.is_empty() {
                continue;
            }
            assert!(compiled.lines().any(|compiled| compiled.trim() == code), "{code}");
            lines += 1;
        }
    }
    assert_eq!(lines, 26);
}

/// The server code that the page shows for each action, so that the compiler checks it.
#[expect(dead_code, reason = "only compiled, never run")]
#[rustfmt::skip]
async fn shown(main: Namespace, io: Server, socket: Socket, room: String, message: String) -> Result<(), HandlerError> {
    main.on("echo", |_, event: Event<Args>|
        async move {
            Ok(event.ack.send(event.data)?)
        });
    let published = |io: Server, event: Event<(String, String, Value)>| async move {
        let (room, name, message) = event.data;
        let receipt = io.to(room)
            .emit_confirmed(&name, message).await?;
        let offset = receipt.offset.map(|at| at.to_string());
        event.ack.send(json!({
            "level": "accepted",
            "offset": offset, "duplicate": false
        }))?;
        Ok::<_, HandlerError>(())
    };
    let _ = published;
    let stored = |io: Server, room: String, id: String, order: String| async move {
        let stored = io.to(room).durable()
            .dedup_id(id)
            .emit_confirmed("order", order).await?;
        Ok::<_, HandlerError>(stored)
    };
    let _ = stored;
    socket.join(&room).await?;
    socket.leave(&room).await?;
    let members =
        io.to(&room).socket_ids().await?;
    drop(members);

    let io = Server::builder().recovery(Recovery::disk("data")).build()?;
    io.to("lobby").emit("message", &message).await?;
    io.to("lobby").volatile().emit("message", &message).await?;

    let listener =
        io.bind(("127.0.0.1", 3000))?;
    listener.run().await?;
    io.drain(Duration::from_secs(5)).await;
    Ok(())
}
