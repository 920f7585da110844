//! What is read and written, what is sampled, and what is told.

use super::*;
use crate::message::{Message, Publication, Route};
use crate::name::QueueName;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn context() -> TraceContext {
    TraceContext::parse(PARENT, Some("vendor=1")).expect("is valid")
}

#[test]
fn a_context_comes_back_as_it_went() {
    let read = context();
    assert_eq!((read.traceparent().as_str(), read.state(), read.is_sampled()), (PARENT, Some("vendor=1"), true));
    let child = read.child([7; 8], false);
    assert_eq!(child.traceparent(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0707070707070707-00");
    assert_eq!(child.state(), Some("vendor=1"));
}

#[test]
fn what_is_no_context_is_none() {
    for wrong in [
        "",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00_4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e47é-00f067aa0ba902b7-01",
        "zz-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ] {
        assert_eq!(TraceContext::parse(wrong, None), None, "{wrong}");
    }
    let later = TraceContext::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff-more", Some("\u{7}"));
    let later = later.expect("a later version may have more");
    assert_eq!(
        (later.traceparent().get(..2), later.traceparent().get(53..), later.state()),
        (Some("00"), Some("03"), None)
    );
}

#[test]
fn headers_are_read_and_written_flat() {
    let mut headers = Headers::default();
    assert_eq!(TraceContext::of(&headers), None);
    context().write(&mut headers);
    assert_eq!(TraceContext::of(&headers), Some(context()));
    TraceContext::root([1; 16], [2; 8], true).write(&mut headers);
    assert_eq!(headers.get(TRACESTATE), None, "the state of another trace");
}

#[test]
fn what_an_attempt_causes_continues_in_its_span() {
    let mut received = Headers::default();
    context().write(&mut received);
    let publication = |headers: &Headers| Publication {
        message: Message { headers: headers.clone(), ..Message::default() },
        route: Route { exchange: String::new(), routing_key: "q".to_owned() },
    };
    let mut elsewhere = Headers::default();
    TraceContext::root([9; 16], [9; 8], true).write(&mut elsewhere);
    let shelved = Step::Shelve {
        queue: QueueName::parse("dead").expect("a name"),
        message: Message { headers: received.clone(), ..Message::default() },
    };
    let steps = [&received, &Headers::default(), &elsewhere].map(|headers| Step::Send(publication(headers)));
    let before = steps.into_iter().chain([shelved]).collect();
    let mut settlement = Settlement { before, ..Settlement::default() };
    let span = context().child([7; 8], true);
    continue_in(&mut settlement, &span, &received);
    let parents = settlement.before.iter().map(|step| match step {
        Step::Send(publication) | Step::SendTo(_, publication) => TraceContext::of(&publication.message.headers),
        Step::Shelve { message, .. } => TraceContext::of(&message.headers),
        step => panic!("{step:?} publishes nothing"),
    });
    let parents: Vec<[u8; 8]> = parents.map(|parent| parent.expect("is there").span).collect();
    assert_eq!(parents, [[7; 8], [7; 8], [9; 8], context().span], "a message that is kept aside stays as it came");
}

#[test]
fn sampling_follows_the_parent_or_the_id_of_the_trace() {
    let parse = |name, ratio| Sampling::parse(name, ratio).expect("is known");
    let (sampled, unsampled) = (context(), context().child([1; 8], false));
    let ids = |first: u8| [0, 0, 0, 0, 0, 0, 0, 0, first, 0, 0, 0, 0, 0, 0, 0];
    let cases = [
        ("parentbased_always_on", 0.0, Some(&sampled), ids(0xff), true),
        ("parentbased_always_on", 0.0, Some(&unsampled), ids(0), false),
        ("parentbased_always_on", 0.0, None, ids(0xff), true),
        ("parentbased_always_off", 0.0, Some(&sampled), ids(0), true),
        ("always_on", 0.0, Some(&unsampled), ids(0xff), true),
        ("always_off", 0.0, Some(&sampled), ids(0), false),
        ("traceidratio", 0.25, Some(&sampled), ids(0x41), false),
        ("traceidratio", 0.25, None, ids(0x3f), true),
        ("parentbased_traceidratio", 0.25, None, ids(0x41), false),
        ("parentbased_traceidratio", 0.25, Some(&sampled), ids(0x41), true),
    ];
    for (name, ratio, parent, trace, expected) in cases {
        assert_eq!(parse(name, ratio).samples(parent, trace), expected, "{name} {ratio} {parent:?}");
    }
    assert_eq!(Sampling::parse("jaeger_remote", 0.0), None);
    assert_eq!(Sampling::parse("traceidratio", 1.5), None);
    assert_eq!(Sampling::parse("parentbased_always_on", 0.0), Some(Sampling::default()));
}
