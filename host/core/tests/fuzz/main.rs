//! Whatever comes from outside is read without a panic: real messages and signatures (`tests/corpus`), changed at random.
//!
//! Each target runs for `TASKHOST_TEST_FUZZ_SECONDS`, a moment if that is not set. An input that breaks something is
//! added to the corpus, which is tried as it is first.

use std::env;
use std::fs;
use std::path::Path;
use std::time::Duration;

use taskhost_core::control::{Answer, Command, Mail};
use taskhost_core::protocol::codec::Serializer;
use taskhost_core::protocol::envelope;
use taskhost_core::protocol::repr::repr;
use taskhost_core::{Canvas, Codec, DeliveryInfo, Message, NodeName, QueueName, Request};

/// A change: what is done, where, and two more numbers for it.
type Change = (u8, u16, u8, u8);

/// What readers of these formats trip over.
const WORDS: &[&str] = &[
    "\"",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "null",
    "true",
    "-1",
    "0",
    "1e999",
    "18446744073709551616",
    "NaN",
    "\\ud800",
    "\\",
    "\n",
    "\0",
    "\u{feff}",
    "&a",
    "*a",
    "!!binary",
    "<<",
    "- ",
    "\u{7f}",
    "headers",
    "application/x-yaml",
    "application/x-python-serialize",
    "task",
    "id",
    "eta",
    "9999-12-31T23:59:59.999999+14:00",
    "\u{202e}",
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(name);
    let entries = folder.read_dir().expect("the corpus is in the repository");
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "an empty corpus proves nothing");
    paths.iter().map(|path| fs::read(path).expect("a file")).collect()
}

fn changed(mut text: Vec<u8>, changes: &[Change], corpus: &[Vec<u8>]) -> Vec<u8> {
    for &(what, at, one, two) in changes {
        let at = usize::from(at) % (text.len() + 1);
        let end = (at + usize::from(one)).min(text.len());
        match what % 6 {
            0 => text.iter_mut().skip(at).take(1).for_each(|byte| *byte = one),
            1 => text.insert(at, one),
            2 => drop(text.drain(at..end)),
            3 => {
                let again = text[at..end].repeat(usize::from(two % 16));
                text.splice(at..at, again);
            }
            4 => {
                let other = &corpus[usize::from(two) % corpus.len()];
                let from = usize::from(one) * 8 % (other.len() + 1);
                text.splice(at..end, other[from..(from + 64).min(other.len())].iter().copied());
            }
            _ => drop(text.splice(at..at, WORDS[usize::from(two) % WORDS.len()].bytes())),
        }
    }
    text
}

/// Tries the corpus as it is, and then changed, for as long as there is time.
fn fuzz(name: &str, read: impl Fn(&[u8]) + std::panic::RefUnwindSafe) {
    let corpus = corpus(name);
    corpus.iter().for_each(|text| read(text));
    let seconds = env::var("TASKHOST_TEST_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0.5);
    let time = Duration::from_secs_f64(seconds);
    bolero::check!().with_type::<(u8, Vec<Change>)>().with_test_time(time).for_each(|(which, changes)| {
        let text = corpus[usize::from(*which) % corpus.len()].clone();
        read(&changed(text, changes, &corpus));
    });
}

fn delivery() -> DeliveryInfo {
    let queue = QueueName::parse("celery").expect("a name");
    DeliveryInfo { queue, exchange: String::new(), routing_key: "celery".to_owned(), redelivered: false }
}

/// Decodes it, and looks at what came of that as a worker would.
fn look(message: Message) {
    let accept = vec![Serializer::Json, Serializer::Yaml, Serializer::Msgpack];
    let codec = Codec { accept, body_bytes_max: 1 << 20, ..Codec::default() };
    match Request::decode(message, delivery(), &codec) {
        Ok(request) => {
            let node = NodeName::parse("w@box").expect("a name");
            assert!(!request.display_name().is_empty());
            request.facts(&node, request.time_limit, request.soft_time_limit);
            assert!(repr(&request.args, 100).chars().count() <= 200);
            repr(&request.kwargs, 100);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

#[test]
fn an_envelope_is_read_or_refused() {
    fuzz("messages", |text| {
        if let Ok(envelope) = envelope::decode(text) {
            let tag = envelope.delivery_tag.as_deref().unwrap_or("tag");
            // What we write of what we read can be read again, and is the same.
            let written = envelope::encode(&envelope.message, &envelope.route, tag);
            let again = envelope::decode(written.as_bytes()).expect("we wrote it");
            assert_eq!(again.message.body, envelope.message.body);
            assert_eq!(again.route, envelope.route);
        }
    });
}

#[test]
fn a_message_is_decoded_or_refused() {
    fuzz("messages", |text| {
        if let Ok(envelope) = envelope::decode(text) {
            look(envelope.message);
        }
    });
}

#[test]
fn a_body_is_decoded_or_refused_whatever_it_says_it_is() {
    const TYPES: [&str; 5] = [
        "application/json",
        "application/x-yaml",
        "application/x-msgpack",
        "application/x-python-serialize",
        "text/plain",
    ];
    let messages = corpus("messages");
    let messages: Vec<Message> =
        messages.iter().map(|text| envelope::decode(text).expect("the corpus is real").message).collect();
    let bodies: Vec<Vec<u8>> = messages.iter().map(|message| message.body.to_vec()).collect();
    let seconds = env::var("TASKHOST_TEST_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(0.5);
    let target = bolero::check!().with_type::<(u8, u8, Vec<Change>)>();
    target.with_test_time(Duration::from_secs_f64(seconds)).for_each(|(which, kind, changes)| {
        let mut message = messages[usize::from(*which) % messages.len()].clone();
        message.body = changed(message.body.to_vec(), changes, &bodies).into();
        if let Some(content_type) = TYPES.get(usize::from(*kind) % 16) {
            message.properties.content_type = Some((*content_type).to_owned());
        }
        look(message);
    });
}

#[test]
fn a_command_of_remote_control_is_read_or_refused() {
    let node = NodeName::parse("w@box").expect("a name");
    fuzz("mails", |text| {
        let message = Message { body: text.to_vec().into(), ..Message::default() };
        match Mail::decode(&message, &Codec::default()) {
            Ok(mail) => {
                mail.is_for(&node);
                let answer = match Command::parse(&mail.method, &mail.arguments) {
                    Ok(command) => taskhost_core::control::ok(&format!("{command:?}")),
                    Err(error) => error.reply(),
                };
                if let Some(reply) = mail.reply(&node, &answer, 1, None) {
                    assert!(Answer::decode(&reply.message, &Codec::default()).is_some_and(|it| it.nodes.len() == 1));
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    });
}

#[test]
fn a_signature_is_read_or_refused() {
    fuzz("signatures", |text| match Canvas::parse(String::from_utf8_lossy(text).into_owned()) {
        Ok(canvas) => {
            let again = Canvas::read(&canvas.to_json()).expect("we wrote it");
            assert_eq!(again.to_json(), canvas.to_json());
            match canvas.signatures() {
                Ok(all) => assert!(all.iter().all(|signature| !signature.task.as_str().is_empty())),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    });
}
