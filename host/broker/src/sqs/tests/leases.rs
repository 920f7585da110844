//! Whose a message is: ours while we live, and somebody else's soon after.

use super::*;

#[tokio::test]
async fn what_runs_for_longer_than_its_lease_stays_ours() {
    let Some(mut bench) = Bench::new() else { return };
    bench.options.visibility_timeout = Duration::from_secs(2);
    let (broker, other) = (bench.broker().await, bench.broker().await);
    publish(&broker, "q", &["long"]).await;
    let consumer = consume(&broker, "q", 1).await;
    let held = take(&*consumer, 1).await;
    let waiting = consume(&other, "q", 1).await;
    // Three leases.
    let came = tokio::time::timeout(Duration::from_secs(6), waiting.next()).await;
    assert!(came.is_err(), "{came:?}");
    settle(&*consumer, held, Acknowledgement::Ack).await;
    expect_quiet(&*waiting).await;
    assert_eq!(broker.depth(&queue("q")).await.unwrap(), 0);
}

#[tokio::test]
async fn what_a_lost_worker_had_is_given_to_another_and_counted() {
    let Some(mut bench) = Bench::new() else { return };
    // The queue says what a Python worker has; ours has its lease.
    bench.options.visibility_timeout = Duration::from_secs(2);
    let broker = bench.broker().await;
    publish(&broker, "q", &["precious"]).await;
    for lost in 0..2 {
        let broker = bench.broker().await;
        let consumer = consume(&broker, "q", 1).await;
        let held = take(&*consumer, 1).await;
        assert_eq!((held[0].info.redelivered, count(&held[0])), (lost > 0, lost));
        // As a process that is killed: nothing is given back.
        drop(broker);
        std::mem::forget(consumer);
    }
    let consumer = consume(&broker, "q", 1).await;
    let held = take(&*consumer, 1).await;
    assert_eq!((text(&held[0]).as_str(), count(&held[0])), ("precious", 2));
    settle(&*consumer, held, Acknowledgement::Ack).await;
}

#[tokio::test]
async fn a_queue_that_we_make_hides_for_the_visibility_timeout() {
    let Some(mut bench) = Bench::new() else { return };
    bench.options.creation_attributes = BTreeMap::from([("DelaySeconds".to_owned(), "1".to_owned())]);
    bench.options.queue_tags = BTreeMap::from([("team".to_owned(), "backend".to_owned())]);
    let broker = bench.broker().await;
    broker.declare(&queue("made.for-all").into()).await.unwrap();
    let client = bench.clients().await.call;
    let name = format!("{}made-for-all", bench.options.queue_name_prefix);
    let url = client.get_queue_url().queue_name(name).send().await.unwrap().queue_url.unwrap();
    let answer = client.get_queue_attributes().queue_url(&url).attribute_names(QueueAttributeName::All);
    let attributes = answer.send().await.unwrap().attributes.unwrap();
    assert_eq!(attributes[&QueueAttributeName::VisibilityTimeout], "1800");
    assert_eq!(attributes[&QueueAttributeName::DelaySeconds], "1");
    let tags = client.list_queue_tags().queue_url(&url).send().await.unwrap().tags.unwrap();
    assert_eq!(tags["team"], "backend");
}

#[tokio::test]
async fn what_is_due_later_than_sqs_can_delay_says_so_and_waits_again() {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    broker.declare(&queue("q").into()).await.unwrap();
    let at = broker.link.queues.ensure(&queue("q")).await.unwrap();
    // As if the first 15 minutes were over: due in three seconds, and here already.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let due = (now + Duration::from_secs(3)).as_micros() as i64;
    let body = text::encode(&message("later"), &Route::queue(&queue("q")), true);
    let outgoing = batch::Outgoing { body, delay: Duration::ZERO, due: Some(due), group: None };
    batch::send(&at, &[outgoing]).await.remove(0).unwrap();
    let consumer = consume(&broker, "q", 1).await;
    let held = take(&*consumer, 1).await;
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(now + Duration::from_secs(1) >= Duration::from_micros(due as u64), "it came too early");
    // It is a new message: nobody was lost.
    assert_eq!((text(&held[0]).as_str(), held[0].info.redelivered), ("later", false));
    settle(&*consumer, held, Acknowledgement::Ack).await;
    assert_eq!(broker.depth(&queue("q")).await.unwrap(), 0);
}

#[tokio::test]
async fn what_has_an_eta_is_delayed_by_sqs() {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    let eta = taskhost_core::Timestamp::from_micros(0)
        + std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap()
        + Duration::from_secs(3);
    let mut message = message("later");
    message.headers.set("eta", HeaderValue::Text(eta.isoformat()));
    broker.publish(&[Publication { message, route: Route::queue(&queue("q")) }]).await.unwrap();
    assert_eq!(broker.depth(&queue("q")).await.unwrap(), 0);
    let consumer = consume(&broker, "q", 1).await;
    expect_quiet(&*consumer).await;
    assert_eq!(text(&take(&*consumer, 1).await[0]), "later");
}

#[tokio::test]
async fn many_polls_bring_much_and_no_more_than_is_wanted() {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    let texts: Vec<String> = (0..120).map(|number| number.to_string()).collect();
    publish(&broker, "q", &texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let consumer = consume(&broker, "q", 64).await;
    let held = take(&*consumer, 64).await;
    assert_eq!(held.len(), 64);
    expect_quiet(&*consumer).await;
    settle(&*consumer, held, Acknowledgement::Ack).await;
    let held = take(&*consumer, 56).await;
    settle(&*consumer, held, Acknowledgement::Ack).await;
    assert_eq!(broker.depth(&queue("q")).await.unwrap(), 0);
}
