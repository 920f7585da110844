//! What is broadcast, as kombu sends and reads it.

use super::*;

fn letter(exchange: &str, routing_key: &str) -> Publication {
    let route = Route { exchange: exchange.to_owned(), routing_key: routing_key.to_owned() };
    Publication { message: Message { body: "{}".into(), ..Message::default() }, route }
}

async fn next(inbox: &dyn Inbox) -> Vec<Publication> {
    tokio::time::timeout(PATIENCE, inbox.next()).await.unwrap().unwrap().unwrap()
}

#[tokio::test]
async fn replies_lie_in_a_list_that_expires_and_are_bound_as_kombu_binds_them() {
    let Some(bench) = Bench::new().await else { return };
    let (client, worker) = (bench.broker().await, bench.broker().await);
    // Nobody has bound anything: the name is the one that kombu would have given.
    worker.broadcast(Topic::Replies, vec![letter("reply.celery.pidbox", "gone")]).await.unwrap();
    let expires: i64 = bench.ask("PTTL", "gone.reply.celery.pidbox", &[]).await;
    assert!(0 < expires && expires <= 60_000, "{expires}");

    let inbox = client.subscribe(&Subscription::replies("celery", "me")).await.unwrap();
    let members: Vec<String> = bench.ask("SMEMBERS", "_kombu.binding.reply.celery.pidbox", &[]).await;
    assert_eq!(members, ["me\u{6}\u{16}\u{6}\u{16}me.reply.celery.pidbox"]);
    let permanent: i64 = bench.ask("EXISTS", "_kombu.binding_permanent.reply.celery.pidbox", &[]).await;
    assert_eq!(permanent, 0, "kombu may delete the table of a queue that expires");
    let deadline: f64 = bench.ask("ZSCORE", "_kombu.binding_deadlines", &["reply.celery.pidbox"]).await;
    let in_s = deadline / 1e3 - now_s();
    assert!((3500.0..3700.0).contains(&in_s), "{in_s}");

    let replies = vec![letter("reply.celery.pidbox", "me"), letter("reply.celery.pidbox", "me")];
    worker.broadcast(Topic::Replies, replies).await.unwrap();
    assert_eq!(next(&*inbox).await[0].route.routing_key, "me");
    inbox.close().await;
    let members: Vec<String> = bench.ask("SMEMBERS", "_kombu.binding.reply.celery.pidbox", &[]).await;
    assert!(members.is_empty(), "{members:?}");
}

#[tokio::test]
async fn channels_are_those_of_kombus_options() {
    let Some(mut bench) = Bench::new().await else { return };
    bench.options.fanout_patterns = false;
    bench.options.fanout_prefix = Some(String::new());
    let broker = bench.broker().await;
    let inbox = broker.subscribe(&Subscription::events("celeryev", "celeryev", "me", "#")).await.unwrap();
    let text =
        envelope::encode(&Message::default(), &Route { exchange: "celeryev".into(), routing_key: "x".into() }, "t");
    let heard: i64 = bench.ask("PUBLISH", "celeryev", &[&text]).await;
    assert_eq!(heard, 1);
    assert_eq!(next(&*inbox).await.len(), 1);
    // What is no message is passed over.
    let heard: i64 = bench.ask("PUBLISH", "celeryev", &["no message"]).await;
    assert_eq!(heard, 1);
    broker.broadcast(Topic::Events, vec![letter("celeryev", "task.sent")]).await.unwrap();
    assert_eq!(next(&*inbox).await[0].route.routing_key, "task.sent");
    drop(inbox);
    eventually("nobody listens any more", async || {
        let heard: i64 = bench.ask("PUBLISH", "celeryev", &[&text]).await;
        heard == 0
    })
    .await;
}
