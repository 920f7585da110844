//! What goes wrong, and what is said then.

use taskhost_core::Publication;

use super::options::Backoff;
use super::*;

#[tokio::test]
async fn a_server_that_is_not_there_is_a_transient_error_without_the_secret() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("sqs://key:hush@127.0.0.1:{port}//");
    let error = SqsBroker::connect(&url, &SqsOptions::default()).await.err().unwrap();
    assert!(error.is_transient(), "{error:?}");
    assert_eq!(error.to_string(), format!("connect to sqs://key:**@127.0.0.1:{port}//"));
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_given_up_in_time() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("sqs://key:hush@{}//", listener.local_addr().unwrap());
    let options = SqsOptions { timeout: Duration::from_millis(300), ..SqsOptions::default() };
    let error = within("an error", SqsBroker::connect(&url, &options)).await.err().unwrap();
    assert!(error.is_transient(), "{error:?}");
}

#[tokio::test]
async fn a_queue_that_was_deleted_is_made_again() {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    publish(&broker, "q", &["before"]).await;
    let at = broker.link.queues.ensure(&queue("q")).await.unwrap();
    bench.clients().await.call.delete_queue().queue_url(&at.url).send().await.unwrap();
    publish(&broker, "q", &["after"]).await;
    let consumer = consume(&broker, "q", 1).await;
    assert_eq!(text(&take(&*consumer, 1).await[0]), "after");
    // Under a consumer, too: the worker consumes again.
    let at = broker.link.queues.ensure(&queue("q")).await.unwrap();
    bench.clients().await.call.delete_queue().queue_url(&at.url).send().await.unwrap();
    let lost = within("the end", consumer.next()).await;
    assert!(matches!(lost, Err(BrokerError::Lost { .. })), "{lost:?}");
    let broker = bench.broker().await;
    let consumer = consume(&broker, "q", 1).await;
    publish(&broker, "q", &["again"]).await;
    assert_eq!(text(&take(&*consumer, 1).await[0]), "again");
}

#[tokio::test]
async fn a_message_that_is_too_large_is_refused_for_good() {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    let large = Publication { message: message(&"x".repeat(700_000)), route: Route::queue(&queue("q")) };
    let error = broker.publish(&[large]).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.contains("SQS takes 1048576"), "{said}");
}

#[tokio::test]
async fn a_name_that_sqs_does_not_allow_is_refused_for_good() {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    let error = broker.declare(&queue(&"n".repeat(60)).into()).await.unwrap_err();
    assert!(!error.is_transient(), "{error:?}");
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert!(said.contains("longer than the 80 characters"), "{said}");
}

#[tokio::test]
async fn only_predefined_queues_are_used_where_there_are_such() {
    let Some(mut bench) = Bench::new() else { return };
    let client = bench.clients().await.call;
    let name = format!("{}theirs", bench.options.queue_name_prefix);
    let url = client.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
    let credentials = Some(("other".to_owned(), "secret".to_owned(), None));
    let predefined = PredefinedQueue { url, credentials, ..PredefinedQueue::default() };
    bench.options.predefined_queues = BTreeMap::from([("orders".to_owned(), predefined)]);
    let broker = bench.broker().await;
    publish(&broker, "orders", &["one"]).await;
    let consumer = consume(&broker, "orders", 1).await;
    assert_eq!(text(&take(&*consumer, 1).await[0]), "one");
    let error = broker.declare(&queue("other").into()).await.unwrap_err();
    assert!(!error.is_transient());
    let said = std::error::Error::source(&error).unwrap().to_string();
    assert_eq!(said, "queue `other` must be defined in predefined_queues");
    assert!(broker.purge(&queue("other")).await.is_err());
}

#[tokio::test]
async fn what_is_refused_of_a_task_with_a_backoff_comes_again() {
    let Some(mut bench) = Bench::new() else { return };
    let client = bench.clients().await.call;
    let name = format!("{}backoff", bench.options.queue_name_prefix);
    let url = client.create_queue().queue_name(&name).send().await.unwrap().queue_url.unwrap();
    let policy = [(1, Duration::ZERO), (2, Duration::from_secs(600))].into();
    let backoff = Some(Backoff { policy, tasks: ["tasks.again".to_owned()].into() });
    let predefined = PredefinedQueue { url, backoff, ..PredefinedQueue::default() };
    bench.options.predefined_queues = BTreeMap::from([("orders".to_owned(), predefined)]);
    let broker = bench.broker().await;
    let of_task = |text: &str, task: &str| {
        let mut message = message(text);
        message.headers.set("task", HeaderValue::Text(task.to_owned()));
        Publication { message, route: Route::queue(&queue("orders")) }
    };
    broker.publish(&[of_task("again", "tasks.again"), of_task("never", "tasks.other")]).await.unwrap();
    let consumer = consume(&broker, "orders", 10).await;
    settle(&*consumer, take(&*consumer, 2).await, Acknowledgement::Reject).await;
    // Of the two only one comes again, and after that not for ten minutes.
    let again = take(&*consumer, 1).await;
    assert_eq!((text(&again[0]).as_str(), count(&again[0]), again[0].info.redelivered), ("again", 1, false));
    settle(&*consumer, again, Acknowledgement::Reject).await;
    let call =
        client.get_queue_attributes().queue_url(&broker.link.queues.find(&queue("orders")).await.unwrap().unwrap().url);
    let hidden = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
    let told = call.attribute_names(hidden.clone()).send().await.unwrap().attributes.unwrap();
    assert_eq!(told[&hidden], "1");
    assert_eq!(broker.depth(&queue("orders")).await.unwrap(), 0);
}

#[tokio::test]
async fn what_is_refused_goes_to_the_dead_letter_queue_of_its_owner() {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    for name in ["q", "graveyard"] {
        broker.declare(&queue(name).into()).await.unwrap();
    }
    let grave = broker.link.queues.ensure(&queue("graveyard")).await.unwrap();
    let client = bench.clients().await.call;
    let answer = client.get_queue_attributes().queue_url(&grave.url).attribute_names(QueueAttributeName::QueueArn);
    let arn = answer.send().await.unwrap().attributes.unwrap().remove(&QueueAttributeName::QueueArn).unwrap();
    let at = broker.link.queues.ensure(&queue("q")).await.unwrap();
    let policy = format!(r#"{{"deadLetterTargetArn": "{arn}", "maxReceiveCount": "2"}}"#);
    let set = client.set_queue_attributes().queue_url(&at.url).attributes(QueueAttributeName::RedrivePolicy, policy);
    set.send().await.unwrap();

    publish(&broker, "q", &["refused"]).await;
    let consumer = consume(&broker, "q", 1).await;
    settle(&*consumer, take(&*consumer, 1).await, Acknowledgement::Reject).await;
    let mourner = consume(&broker, "graveyard", 1).await;
    let dead = take(&*mourner, 1).await;
    // Moved by us: SQS moves only what was received too often.
    assert_eq!((text(&dead[0]).as_str(), count(&dead[0])), ("refused", 0));
    settle(&*mourner, dead, Acknowledgement::Ack).await;

    // And what is given back too often is moved by SQS.
    publish(&broker, "q", &["too often"]).await;
    for _ in 0..2 {
        settle(&*consumer, take(&*consumer, 1).await, Acknowledgement::Requeue).await;
    }
    assert_eq!(text(&take(&*mourner, 1).await[0]), "too often");
}

#[tokio::test]
async fn a_large_queue_is_purged_by_sqs_and_a_small_one_twice_in_a_minute() {
    let Some(bench) = Bench::new() else { return };
    let broker = bench.broker().await;
    for _ in 0..2 {
        publish(&broker, "q", &["a", "b", "c"]).await;
        assert_eq!(broker.purge(&queue("q")).await.unwrap(), 3);
    }
    let many: Vec<String> = (0..1001).map(|number| number.to_string()).collect();
    publish(&broker, "q", &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    assert_eq!(broker.purge(&queue("q")).await.unwrap(), 1001);
    assert_eq!(broker.depth(&queue("q")).await.unwrap(), 0);
}
