//! gocelery.

use std::path::Path;
use std::process::Command;

use it::{Engine, Server, Site, tools};
use serde_json::json;

use super::{Results, ends, host, run};

#[track_caller]
fn check(mut site: Site, results: Results) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/go");
    let Some(program) = tools::build_go(&folder, site.path("gocelery")) else { return };
    let _host = host(&mut site, results);
    let backend = match results {
        Results::Redis => &site.backend,
        Results::Replies | Results::Queues => &site.broker,
    };
    let outcomes = run(&site, "gocelery", &mut Command::new(program), backend);
    // All numbers of Go are read as floating-point ones here, so whole ones are no exception.
    let whole = |text: &str| text.replace(".0]", "]");
    let expected = ends(|kind, message| json!(["error", ["FAILURE", kind, [message]]]));
    assert_eq!(whole(&outcomes.to_string()), whole(&expected.to_string()));
}

#[test]
fn gocelery_uses_redis() {
    let Some(site) = Site::open(Engine::Redis) else { return };
    check(site, Results::Redis);
}

#[test]
fn gocelery_uses_rabbitmq() {
    // It knows one queue, which is everybody's: a server of its own.
    let Some(server) = Server::rabbitmq() else { return };
    let Some(mut site) = Site::on(&server.url, "rpc://") else { return };
    site.queue = "celery".to_owned();
    check(site, Results::Queues);
}
