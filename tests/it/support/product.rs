//! Modules of the binary `stentor`, compiled into the tests, so that they serve a hub whose handle
//! the test holds.

#[path = "../../../src/bin/stentor/demo.rs"]
pub(crate) mod demo;
#[path = "../../../src/bin/stentor/durable.rs"]
mod durable;
#[path = "../../../src/bin/stentor/error_code.rs"]
mod error_code;
#[path = "../../../src/bin/stentor/hooks/mod.rs"]
#[allow(dead_code, unused_imports, reason = "the command `stentor hooks` is not part of the tests")]
pub(crate) mod hooks;
#[path = "../../../src/bin/stentor/http/mod.rs"]
#[allow(unused_imports, reason = "the configuration is not compiled into the tests")]
pub(crate) mod http;
#[path = "../../../src/bin/stentor/live.rs"]
#[allow(dead_code, reason = "only the configuration replaces values")]
pub(crate) mod live;
#[path = "../../../src/bin/stentor/process_metrics.rs"]
mod process_metrics;
#[path = "../../../src/bin/stentor/replies.rs"]
mod replies;
#[path = "../../../src/bin/stentor/secret.rs"]
pub(crate) mod secret;
#[path = "../../../src/bin/stentor/signature.rs"]
pub(crate) mod signature;
#[path = "../../../src/bin/stentor/subscriber_bodies.rs"]
mod subscriber_bodies;
#[path = "../../../src/bin/stentor/throttle.rs"]
mod throttle;
#[path = "../../../src/bin/stentor/vocabulary/mod.rs"]
#[allow(dead_code, reason = "tests install some of its rules only")]
pub(crate) mod vocabulary;
