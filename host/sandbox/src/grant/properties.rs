//! What holds for every text and every address, tried with thousands of made-up ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;

#[test]
fn what_is_read_is_read_again_as_the_same() {
    bolero::check!().with_type::<String>().for_each(|text| {
        if let Ok(host) = Host::parse(text) {
            assert_eq!(Host::parse(&host.to_string()), Ok(host), "{text:?}");
        }
        for text in [text.clone(), format!("https://{text}"), format!("*://*.{text}:*"), format!("http://[{text}]:1")] {
            if let Ok(pattern) = HttpPattern::parse(&text) {
                assert_eq!(HttpPattern::parse(&pattern.to_string()), Ok(pattern), "{text:?}");
            }
        }
        for text in [format!("tcp://{text}"), format!("udp://{text}:1"), format!("tcp://[{text}]:*")] {
            if let Ok(pattern) = SocketPattern::parse(&text) {
                assert_eq!(SocketPattern::parse(&pattern.to_string()), Ok(pattern), "{text:?}");
            }
        }
        if let Ok(destination) = Destination::parse(Scheme::Https, text) {
            let authority = destination.authority();
            assert_eq!(Destination::parse(Scheme::Https, &authority), Ok(destination), "{text:?}");
            // Nothing in it could be taken for something else by whoever reads it next.
            assert!(!authority.contains(['@', '/', '\\', '?', '#', '%', ' ', '\r', '\n']), "{authority:?}");
            assert!(authority.is_ascii(), "{authority:?}");
        }
        let _ = Networks::parse(std::slice::from_ref(text));
    });
}

#[test]
fn an_address_is_refused_in_ipv6_if_it_is_in_ipv4() {
    bolero::check!().with_type::<u32>().for_each(|bits| {
        let none = Networks::default();
        let v4 = Ipv4Addr::from_bits(*bits);
        let low = u128::from(*bits);
        let mapped = Ipv6Addr::from_bits(0xffff_0000_0000 | low);
        let nat64 = Ipv6Addr::from_bits(0x0064_ff9b << 96 | low);
        let six_to_four = Ipv6Addr::from_bits(0x2002 << 112 | low << 80 | 1);
        let refused = none.refuse(IpAddr::V4(v4));
        for v6 in [mapped, nat64, six_to_four] {
            assert_eq!(none.refuse(IpAddr::V6(v6)), refused, "{v4} {v6}");
        }
        let compatible = none.refuse(IpAddr::V6(Ipv6Addr::from_bits(low)));
        assert!(compatible.is_some(), "::{v4}");
        // What is granted as an address is granted, and nothing else is by that.
        let only = Networks::parse(&[v4.to_string()]).expect("an address");
        assert_eq!(only.refuse(IpAddr::V4(v4)), None, "{v4}");
        assert_eq!(
            only.refuse(IpAddr::V4(Ipv4Addr::LOCALHOST)).is_none(),
            v4.is_loopback() && v4 == Ipv4Addr::LOCALHOST
        );
    });
}
