//! What is broadcast reaches all who listen, and nobody else.

use std::sync::Arc;

use taskhost_core::{HeaderValue, Publication, Route};

use super::{Capabilities, QUIET, case, message, numbered, within};
use crate::broadcast::{Inbox, Subscription, Topic};
use crate::port::{Broker, BrokerError};

/// More than any inbox keeps.
const FLOOD: usize = 20_000;

pub(super) async fn run<C: AsyncFn() -> Arc<dyn Broker>>(capabilities: Capabilities, connect: &C) {
    if !connect().await.capabilities().broadcasts {
        case("who cannot broadcast says so");
        refused_plainly(&*connect().await).await;
        return;
    }
    case("every mailbox gets each message, as it was sent and in order");
    every_mailbox_gets_each(connect).await;
    case("what nobody listens to vanishes without an error");
    nobody_listens(&*connect().await).await;
    case("replies reach whoever asked and nobody else");
    replies_find_their_way(connect).await;
    case("events are chosen by a pattern of their key");
    events_by_pattern(connect).await;
    case("a closed inbox takes nothing, and others go on");
    closed_inboxes_are_gone(connect).await;
    case("giving up a wait loses nothing");
    waits_can_be_given_up(&*connect().await).await;
    case("whoever does not read slows nobody down");
    slow_readers_are_left_behind(connect).await;
    case("an inbox ends with its connection");
    inboxes_end_with_their_connection(connect).await;
    if capabilities.knows_taken {
        case("a mailbox belongs to one connection, until that has gone");
        mailboxes_have_one_owner(connect).await;
    }
}

/// A name that no other case uses.
fn unique(what: &str) -> String {
    format!("{what}-{}", uuid::Uuid::new_v4().simple())
}

fn letter(exchange: &str, routing_key: &str, text: &str) -> Publication {
    let mut message = message(text);
    message.properties.delivery_mode = Some(1);
    let route = Route { exchange: exchange.to_owned(), routing_key: routing_key.to_owned() };
    Publication { message, route }
}

async fn listen(broker: &dyn Broker, subscription: &Subscription) -> Box<dyn Inbox> {
    within("subscribe", broker.subscribe(subscription)).await.expect("subscribe")
}

async fn send(broker: &dyn Broker, topic: Topic, publications: Vec<Publication>) {
    within("broadcast", broker.broadcast(topic, publications)).await.expect("broadcast");
}

async fn take(inbox: &dyn Inbox, wanted: usize) -> Vec<Publication> {
    let mut taken = Vec::new();
    while taken.len() < wanted {
        let what = format!("message {} of {wanted}", taken.len() + 1);
        taken.extend(within(&what, inbox.next()).await.expect("next").expect("not closed"));
    }
    taken
}

async fn expect_quiet(inbox: &dyn Inbox) {
    if let Ok(came) = tokio::time::timeout(QUIET, inbox.next()).await {
        panic!("something came: {came:?}");
    }
}

fn texts(letters: &[Publication]) -> Vec<String> {
    letters.iter().map(|letter| String::from_utf8_lossy(&letter.message.body).into_owned()).collect()
}

async fn refused_plainly(broker: &dyn Broker) {
    let refused = broker.subscribe(&Subscription::mailbox("celery", "node@box")).await.err().expect("refused");
    assert!(matches!(refused, BrokerError::CannotBroadcast) && !refused.is_transient());
    let refused = broker.broadcast(Topic::Events, Vec::new()).await.expect_err("refused");
    assert!(matches!(refused, BrokerError::CannotBroadcast));
}

async fn every_mailbox_gets_each<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let (first, second, sender) = (connect().await, connect().await, connect().await);
    let namespace = unique("mail");
    let exchange = Topic::Mailboxes.exchange(&namespace);
    let inboxes = [
        listen(&*first, &Subscription::mailbox(&namespace, "one@box")).await,
        listen(&*second, &Subscription::mailbox(&namespace, "two@box")).await,
        // One connection may have several.
        listen(&*second, &Subscription::mailbox(&namespace, "three@box")).await,
    ];
    let mut sent = letter(&exchange, "", "command");
    sent.message.properties.content_type = Some("application/json".to_owned());
    sent.message.headers.set("clock", HeaderValue::Int(7));
    sent.message.headers.set("expires", HeaderValue::Double(0.5));
    let others: Vec<String> = numbered(300);
    send(&*sender, Topic::Mailboxes, vec![sent.clone()]).await;
    for part in others.chunks(100) {
        let letters = part.iter().map(|text| letter(&exchange, "", text)).collect();
        send(&*sender, Topic::Mailboxes, letters).await;
    }
    for inbox in &inboxes {
        let mut taken = take(&**inbox, 301).await;
        let first = taken.remove(0);
        assert_eq!(first.route, sent.route);
        assert_eq!(first.message.body, sent.message.body);
        assert_eq!(first.message.properties.content_type, sent.message.properties.content_type);
        assert_eq!(first.message.properties.delivery_mode, Some(1));
        assert_eq!(first.message.headers.get("clock"), Some(&HeaderValue::Int(7)));
        assert_eq!(first.message.headers.get("expires"), Some(&HeaderValue::Double(0.5)));
        assert_eq!(texts(&taken), others);
        assert_eq!(inbox.dropped(), 0);
    }
}

async fn nobody_listens(broker: &dyn Broker) {
    let namespace = unique("mail");
    for topic in [Topic::Mailboxes, Topic::Replies, Topic::Events] {
        let exchange = topic.exchange(&namespace);
        send(broker, topic, vec![letter(&exchange, "nobody", "lost")]).await;
    }
    // Nothing of it was kept for whoever comes later.
    let mailbox = listen(broker, &Subscription::mailbox(&namespace, "late@box")).await;
    expect_quiet(&*mailbox).await;
    send(broker, Topic::Mailboxes, vec![letter(&Topic::Mailboxes.exchange(&namespace), "", "in time")]).await;
    assert_eq!(texts(&take(&*mailbox, 1).await), ["in time"]);
}

async fn replies_find_their_way<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let (client, worker) = (connect().await, connect().await);
    let namespace = unique("mail");
    let exchange = Topic::Replies.exchange(&namespace);
    let mine = listen(&*client, &Subscription::replies(&namespace, "me")).await;
    let other = listen(&*client, &Subscription::replies(&namespace, "other")).await;
    let letters = vec![
        letter(&exchange, "me", "one"),
        letter(&exchange, "gone", "lost"),
        letter(&exchange, "other", "not mine"),
        letter(&exchange, "me", "two"),
    ];
    send(&*worker, Topic::Replies, letters).await;
    assert_eq!(texts(&take(&*mine, 2).await), ["one", "two"]);
    assert_eq!(texts(&take(&*other, 1).await), ["not mine"]);
    expect_quiet(&*mine).await;
}

async fn events_by_pattern<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let (monitor, worker) = (connect().await, connect().await);
    let exchange = unique("events");
    let subscription = |pattern: &str| Subscription::events(&exchange, "events", &unique("monitor"), pattern);
    let all = listen(&*monitor, &subscription("#")).await;
    let workers = listen(&*monitor, &subscription("worker.#")).await;
    let letters = ["worker.online", "task.sent", "worker.heartbeat", "task.multi"];
    let letters: Vec<_> = letters.into_iter().map(|key| letter(&exchange, key, key)).collect();
    send(&*worker, Topic::Events, letters).await;
    let taken = take(&*all, 4).await;
    assert_eq!(texts(&taken), ["worker.online", "task.sent", "worker.heartbeat", "task.multi"]);
    assert_eq!(taken[1].route, Route { exchange, routing_key: "task.sent".to_owned() });
    assert_eq!(texts(&take(&*workers, 2).await), ["worker.online", "worker.heartbeat"]);
}

async fn closed_inboxes_are_gone<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let (broker, sender) = (connect().await, connect().await);
    let namespace = unique("mail");
    let exchange = Topic::Mailboxes.exchange(&namespace);
    let closed = listen(&*broker, &Subscription::mailbox(&namespace, "closed@box")).await;
    let dropped = listen(&*broker, &Subscription::mailbox(&namespace, "dropped@box")).await;
    let open = listen(&*broker, &Subscription::mailbox(&namespace, "open@box")).await;
    let replies = listen(&*broker, &Subscription::replies(&namespace, "me")).await;
    let waiting = async { within("the wait ends", closed.next()).await.expect("no error") };
    let (end, ()) = tokio::join!(waiting, closed.close());
    assert_eq!(end, None);
    drop(dropped);
    replies.close().await;
    assert_eq!(within("next", replies.next()).await.expect("no error"), None);
    // Closing twice is no trouble.
    replies.close().await;
    send(&*sender, Topic::Mailboxes, vec![letter(&exchange, "", "after")]).await;
    assert_eq!(texts(&take(&*open, 1).await), ["after"]);
    assert_eq!(within("next", closed.next()).await.expect("no error"), None);
    // The name is free again; what came before is not there.
    let again = listen(&*broker, &Subscription::mailbox(&namespace, "closed@box")).await;
    send(&*sender, Topic::Mailboxes, vec![letter(&exchange, "", "again")]).await;
    assert_eq!(texts(&take(&*again, 1).await), ["again"]);
}

async fn waits_can_be_given_up(broker: &dyn Broker) {
    let namespace = unique("mail");
    let exchange = Topic::Replies.exchange(&namespace);
    let inbox = listen(broker, &Subscription::replies(&namespace, "me")).await;
    let mut taken = Vec::new();
    for text in numbered(50) {
        send(broker, Topic::Replies, vec![letter(&exchange, "me", &text)]).await;
        let moment = std::time::Duration::from_millis(1);
        if let Ok(came) = tokio::time::timeout(moment, inbox.next()).await {
            taken.extend(came.expect("next").expect("not closed"));
        }
    }
    let missing = 50 - taken.len();
    taken.extend(take(&*inbox, missing).await);
    assert_eq!(texts(&taken), numbered(50));
}

async fn slow_readers_are_left_behind<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let (monitor, worker) = (connect().await, connect().await);
    let exchange = unique("events");
    let slow = listen(&*monitor, &Subscription::events(&exchange, "events", &unique("slow"), "#")).await;
    let all: Vec<_> =
        (0..FLOOD).map(|number| letter(&exchange, "task.sent", &format!("{number:05} {:0>500}", 0))).collect();
    for part in all.chunks(500) {
        // One that is not sent since those before it are still under way is as good: it is said.
        match within("broadcast", worker.broadcast(Topic::Events, part.to_vec())).await {
            Ok(()) => {}
            Err(error) => assert!(error.is_transient(), "{error}"),
        }
    }
    // What it still gets is in order, and it has some.
    let taken = texts(&take(&*slow, 100).await);
    assert!(taken.is_sorted());
    drop(slow);
    // The same connections still work.
    let fresh = listen(&*monitor, &Subscription::events(&exchange, "events", &unique("fresh"), "task.failed")).await;
    let arrives = async {
        loop {
            let sent = worker.broadcast(Topic::Events, vec![letter(&exchange, "task.failed", "last")]).await;
            if sent.is_ok() {
                return take(&*fresh, 1).await;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    assert_eq!(texts(&within("the last one", arrives).await), ["last"]);
}

async fn inboxes_end_with_their_connection<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let broker = connect().await;
    let namespace = unique("mail");
    let inboxes = [
        listen(&*broker, &Subscription::mailbox(&namespace, "one@box")).await,
        listen(&*broker, &Subscription::replies(&namespace, "me")).await,
    ];
    broker.close().await;
    for inbox in &inboxes {
        let end = within("the end", inbox.next()).await;
        assert!(matches!(end, Err(BrokerError::Lost { .. })), "{end:?}");
    }
    assert!(broker.subscribe(&Subscription::mailbox(&namespace, "two@box")).await.is_err());
}

async fn mailboxes_have_one_owner<C: AsyncFn() -> Arc<dyn Broker>>(connect: &C) {
    let (first, second) = (connect().await, connect().await);
    let subscription = Subscription::mailbox(&unique("mail"), "one@box");
    let inbox = listen(&*first, &subscription).await;
    let refused = within("subscribe", second.subscribe(&subscription)).await.err().expect("it is taken");
    assert!(refused.is_taken() && refused.is_transient(), "{refused:?}");
    assert!(refused.to_string().contains(&subscription.queue));
    drop(inbox);
    first.close().await;
    let reach = async {
        while second.subscribe(&subscription).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    within("the mailbox is free", reach).await;
}
