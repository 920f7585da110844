//! Guests that use the network against their host or their neighbours: nothing of them is left when they have ended, and nobody
//! waits for them.

use std::time::Duration;

use sandbox::Limits;
use taskhost_core::{Attempt, Limit, Outcome};
use tokio::time::timeout;

use crate::http::{done, served};
use crate::server::TOGETHER;
use crate::world::World;

/// How long fifty well-behaved tasks may take beside a hostile one, on a busy machine.
const LATE: Duration = Duration::from_secs(10);

/// Runs the hostile attempt, and well-behaved tasks meanwhile.
async fn beside(world: &World, hostile: Attempt) -> Outcome {
    let good = async {
        for _ in 0..50 {
            world.check_alive().await;
        }
    };
    let (finished, good) = tokio::join!(world.run(hostile), timeout(LATE, good));
    good.expect("the neighbours are not kept waiting");
    world.check_alive().await;
    finished.outcome
}

#[tokio::test]
async fn a_guest_that_hangs_on_many_connections_leaves_none_behind() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let limit = Duration::from_secs(3);
    let flood = format!(r#"[{{"authority": "{}", "path": "/silent"}}, 100]"#, server.address);
    let attempt = Attempt { time_limit: limit, ..world.call("net.flood", &flood) };
    let (outcome, ()) = tokio::join!(beside(&world, attempt), server.open(TOGETHER));
    // The host tells the guest that its time is over at the very moment at which it is.
    let told = matches!(&outcome, Outcome::Success(json) if json.as_str().contains("the time of the task was over"));
    assert!(told || outcome == Outcome::TimedOut(Limit::Hard(limit)), "{outcome:?}");
    server.open(0).await;
    assert_eq!(server.open_most(), TOGETHER);
}

#[tokio::test]
async fn a_guest_that_reads_without_end_is_stopped_by_the_limit_and_delays_nobody() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let order = format!(r#"[{{"authority": "{}", "path": "/endless"}}]"#, server.address);
    let outcome = beside(&world, world.call("net.fetch", &order)).await;
    let Outcome::Success(report) = outcome else { panic!("{outcome:?}") };
    assert!(report.as_str().contains("more than 16777216 bytes; raise limits.http_response_body"), "{report:?}");
    server.open(0).await;
    let usage = world.run(world.call("net.fetch", &order)).await.usage;
    // Sixteen megabytes came, a little more waits in buffers, and ten gigabytes did not.
    assert!((16 << 20..20 << 20).contains(&usage.bytes_in), "{usage:?}");
}

#[tokio::test]
async fn a_guest_that_sends_without_end_is_stopped_by_the_limit_and_delays_nobody() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    let order =
        format!(r#"[{{"authority": "{}", "path": "/upload", "method": "POST", "send": 10000000000}}]"#, server.address);
    let outcome = beside(&world, world.call("net.fetch", &order)).await;
    let Outcome::Success(report) = outcome else { panic!("{outcome:?}") };
    assert!(report.as_str().contains("more than 16777216 bytes; raise limits.http_request_body"), "{report:?}");
    server.open(0).await;
}

#[tokio::test]
async fn a_guest_that_listens_is_told_while_it_waits_for_the_network() {
    let Some((world, server)) = served(Limits::default()).await else { return };
    for (path, waits_for) in [("/silent", "the response"), ("/stalled", "the next bytes")] {
        let order = format!(r#"[{{"authority": "{}", "path": "{path}"}}]"#, server.address);
        let soft_time_limit = Some(Duration::from_secs(1));
        let attempt = Attempt { soft_time_limit, ..world.call("net.patient", &order) };
        let outcome = beside(&world, attempt).await;
        let Outcome::Success(report) = outcome else { panic!("{path}: {outcome:?}") };
        let text = format!("the time of the task was over while it waited for {waits_for}");
        assert!(report.as_str().contains(&text), "{report:?}");
    }
    server.open(0).await;
}

#[tokio::test]
async fn a_text_of_many_megabytes_is_not_repeated_to_anybody() {
    let Some((world, _server)) = served(Limits::default()).await else { return };
    let name = "a".repeat(1 << 20);
    let order = format!(r#"[{{"authority": "{}"}}]"#, "a.".repeat(20_000));
    let (answers, log) = crate::logs::capture(tracing::Level::WARN, async {
        let looked_up = world.run(world.call("net.lookup", &format!(r#"["{name}"]"#))).await.outcome;
        (format!("{looked_up:?}"), done(&world, "net.fetch", &order).await)
    })
    .await;
    assert!(log.iter().all(|line| line.len() < 2000), "{}", log.len());
    assert!(log.iter().any(|line| line.contains("a name of 1048576 bytes is too long")), "{log:?}");
    assert!(answers.1.len() < 3000, "{}", answers.1.len());
}
