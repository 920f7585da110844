//! Sentinels that are not as one would wish; real ones are met by brokers and stores.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::*;

/// One that answers every command in this way; `None` is one that never answers.
async fn sentinel(serving: &mut JoinSet<()>, answer: Option<String>) -> Host {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    serving.spawn(async move {
        let mut open = JoinSet::new();
        while let Ok((mut client, _)) = listener.accept().await {
            let answer = answer.clone();
            open.spawn(async move {
                let mut command = [0; 4096];
                while client.read(&mut command).await.is_ok_and(|bytes| bytes > 0) {
                    match &answer {
                        Some(answer) => client.write_all(answer.as_bytes()).await.unwrap(),
                        None => std::future::pending().await,
                    }
                }
            });
        }
    });
    ("127.0.0.1".to_owned(), port)
}

fn state(port: u16, flags: &str, others: u32) -> Option<String> {
    let words = ["name", "m", "ip", "10.0.0.1", "port", &port.to_string(), "flags", flags]
        .into_iter()
        .chain(["num-other-sentinels", &others.to_string()])
        .map(|word| format!("${}\r\n{word}\r\n", word.len()))
        .collect::<String>();
    Some(format!("*10\r\n{words}"))
}

fn options() -> Options {
    let mut options = Options { master_name: Some("m".to_owned()), ..Options::default() };
    options.sentinel.timeout = Some(Duration::from_millis(300));
    options
}

#[tokio::test]
async fn those_who_cannot_say_are_passed_over_and_who_can_is_asked_first_next_time() {
    let mut serving = JoinSet::new();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let hosts = [
        ("127.0.0.1".to_owned(), gone),
        sentinel(&mut serving, None).await,
        sentinel(&mut serving, state(1, "master,s_down", 2)).await,
        sentinel(&mut serving, state(2, "slave", 2)).await,
        sentinel(&mut serving, state(3, "master", 1)).await,
        sentinel(&mut serving, Some("-ERR No such master with that name\r\n".to_owned())).await,
        sentinel(&mut serving, state(4, "master", 2)).await,
    ];
    let options = Options { min_other_sentinels: 2, ..options() };
    assert_eq!(master(&hosts, &options, None).await.unwrap(), ("10.0.0.1".to_owned(), 4));
    assert_eq!(FIRST.lock().unwrap()[&hosts[..]], 6);
    assert_eq!(master(&hosts, &options, None).await.unwrap().1, 4);
    // What it said was wrong: it is the last to be asked.
    distrust(&hosts);
    assert_eq!(FIRST.lock().unwrap()[&hosts[..]], 0);
    let error = master(&hosts[1..5], &options, None).await.unwrap_err();
    assert!(matches!(error, OpenError::Other { transient: true, .. }));
    let text = error.to_string();
    for part in [
        "no Sentinel names the master `m` (",
        "no answer within 0.3 s",
        "it is down (master,s_down)",
        "it is down (slave)",
        "sees 1 others, and min_other_sentinels is 2",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn a_master_that_nobody_knows_is_a_mistake_of_the_operator() {
    let mut serving = JoinSet::new();
    let unknown = || Some("-ERR No such master with that name\r\n".to_owned());
    let hosts = [sentinel(&mut serving, unknown()).await, sentinel(&mut serving, unknown()).await];
    let error = master(&hosts, &options(), None).await.unwrap_err();
    assert!(matches!(error, OpenError::Other { transient: false, .. }), "{error}");
    // Where one cannot be asked it may know.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let hosts = [hosts[0].clone(), ("127.0.0.1".to_owned(), gone)];
    let error = master(&hosts, &options(), None).await.unwrap_err();
    assert!(matches!(error, OpenError::Other { transient: true, .. }), "{error}");
}

#[tokio::test]
async fn a_sentinel_that_wants_a_password_is_told_its_own() {
    let mut serving = JoinSet::new();
    let answer = format!("+OK\r\n{}", state(7, "master", 0).unwrap());
    let hosts = [sentinel(&mut serving, Some(answer)).await];
    let mut options = options();
    options.sentinel.password = Some("secret".to_owned());
    assert_eq!(master(&hosts, &options, None).await.unwrap().1, 7);
    let hosts = [sentinel(&mut serving, Some("-WRONGPASS invalid\r\n-NOAUTH x\r\n".to_owned())).await];
    let error = master(&hosts, &options, None).await.unwrap_err().to_string();
    assert!(error.contains("WRONGPASS") && !error.contains("secret"), "{error}");
}
