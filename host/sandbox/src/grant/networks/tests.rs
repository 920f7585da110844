//! Which addresses belong to which network, and which of them a grant names.

use super::*;

fn address(text: &str) -> IpAddr {
    text.parse().unwrap_or_else(|_| panic!("{text}"))
}

fn networks(values: &[&str]) -> Networks {
    let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
    Networks::parse(&values).expect("networks")
}

#[test]
fn an_address_that_is_not_of_the_whole_internet_is_known_in_every_form() {
    let table: &[(Range, &[&str])] = &[
        (
            Range::Loopback,
            &[
                "127.0.0.1",
                "127.255.255.254",
                "127.1.2.3",
                "::1",
                "::ffff:127.0.0.1",
                "::ffff:0:127.0.0.1",
                "::127.0.0.1",
                "64:ff9b::127.0.0.1",
                "64:ff9b::7f00:1",
                "2002:7f00:1::",
                "2002:7f00:1:2:3:4:5:6",
            ],
        ),
        (
            Range::Private,
            &[
                "10.0.0.0",
                "10.255.255.255",
                "172.16.0.1",
                "172.31.255.255",
                "192.168.0.1",
                "fc00::",
                "fd12::1",
                "fdff:ffff::",
                "::ffff:10.0.0.1",
                "64:ff9b::c0a8:1",
                "2002:a00:1::1",
            ],
        ),
        (Range::LinkLocal, &["169.254.0.1", "169.254.255.255", "fe80::1", "febf::1", "::ffff:169.254.1.1"]),
        (Range::Shared, &["100.64.0.0", "100.127.255.255", "::ffff:100.64.0.1"]),
        (
            Range::Metadata,
            &[
                "169.254.169.254",
                "169.254.170.2",
                "100.100.100.200",
                "168.63.129.16",
                "fd00:ec2::254",
                "fd20:ce::254",
                "::ffff:169.254.169.254",
                "64:ff9b::169.254.169.254",
                "2002:a9fe:a9fe::",
                "::169.254.169.254",
            ],
        ),
        (
            Range::Reserved,
            &[
                "0.0.0.0",
                "0.1.2.3",
                "::",
                "192.0.0.1",
                "192.0.2.1",
                "192.88.99.1",
                "198.18.0.1",
                "198.19.255.255",
                "198.51.100.1",
                "203.0.113.1",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.1",
                "255.255.255.255",
                "ff02::1",
                "ff0e::1",
                "2001::1",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "2001:1ff::1",
                "2001:db8::1",
                "3fff::1",
                "3fff:fff::1",
                "fec0::1",
                "100::1",
                "64:ff9b:1::1",
                "5f00::1",
                "4000::1",
                "::8.8.8.8",
                "::ffff:0:8.8.8.8",
                "::ffff:0.0.0.0",
            ],
        ),
    ];
    for (expected, texts) in table {
        for text in *texts {
            assert_eq!(range(address(text)), Some(*expected), "{text}");
            assert_eq!(Networks::default().refuse(address(text)), Some(*expected), "{text}");
        }
    }
    for text in [
        "1.1.1.1",
        "8.8.8.8",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "128.0.0.1",
        "169.253.1.1",
        "172.15.1.1",
        "172.32.0.1",
        "192.0.1.1",
        "192.167.1.1",
        "198.17.1.1",
        "198.20.0.1",
        "223.255.255.255",
        "2606:4700::1111",
        "2001:200::1",
        "2001:4860:4860::8888",
        "3ffe::1",
        "64:ff9b::8.8.8.8",
        "2002:808:808::1",
        "::ffff:8.8.8.8",
    ] {
        assert_eq!(range(address(text)), None, "{text}");
    }
}

#[test]
fn an_operator_grants_ranges_by_word_and_blocks_by_number() {
    for (granted, text, expected) in [
        (&["loopback"][..], "127.0.0.1", None),
        (&["loopback"], "::1", None),
        (&["loopback"], "::ffff:127.0.0.1", None),
        (&["loopback"], "10.0.0.1", Some(Range::Private)),
        (&["private"], "10.0.0.1", None),
        (&["private"], "fd00::1", None),
        (&["private"], "fd00:ec2::254", Some(Range::Metadata)),
        (&["link-local"], "169.254.1.1", None),
        (&["link-local"], "169.254.169.254", Some(Range::Metadata)),
        (&["metadata"], "169.254.169.254", None),
        (&["shared"], "100.64.1.1", None),
        (&["10.1.0.0/16"], "10.1.255.255", None),
        (&["10.1.0.0/16"], "10.2.0.0", Some(Range::Private)),
        (&["10.1.0.0/16"], "64:ff9b::10.1.2.3", None),
        (&["127.0.0.1"], "127.0.0.1", None),
        (&["127.0.0.1"], "127.0.0.2", Some(Range::Loopback)),
        (&["fd00::/8"], "fd00::1", None),
        (&["fd00::/8"], "fc00::1", Some(Range::Private)),
        (&["::/0"], "::1", None),
        (&["::/0"], "127.0.0.1", Some(Range::Loopback)),
        (&["0.0.0.0/0"], "169.254.169.254", None),
        (&["224.0.0.0/4", "loopback"], "224.0.0.251", None),
    ] {
        assert_eq!(networks(granted).refuse(address(text)), expected, "{granted:?} {text}");
    }
    assert_eq!(entry(address("::1"), Range::Loopback), "loopback");
    assert_eq!(entry(address("::ffff:0.0.0.0"), Range::Reserved), "0.0.0.0");
}

#[test]
fn what_is_no_network_is_refused() {
    for wrong in [
        "",
        "localhost",
        "Loopback",
        "10.0.0.0/33",
        "10.0.0.0/",
        "10.0.0.0/+8",
        "10.0.0.0/-1",
        "10.0.0.1/8",
        "fd00::1/8",
        "::ffff:10.0.0.0/104",
        "fd00::/129",
        "10.0/8",
        "10.0.0.0/8/8",
        "*",
    ] {
        assert!(Networks::parse(&[wrong.to_owned()]).is_err(), "{wrong}");
    }
    assert_eq!(
        Networks::parse(&["lan".to_owned()]).unwrap_err(),
        "\"lan\" is no block of addresses such as 10.1.0.0/16, and none of link-local, loopback, metadata, private, shared"
    );
}
