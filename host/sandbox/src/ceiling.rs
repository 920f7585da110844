//! The limits of one plugin: the operator's, and lower where its manifest asks for that.
//!
//! Pure. Enforces nothing.

use std::fmt::Display;
use std::num::NonZeroU32;
use std::time::Duration;

use crate::limits::Limits;

/// What a manifest asks for. What it leaves out is the operator's.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Wanted {
    pub(crate) memory_bytes: Option<usize>,
    pub(crate) result_bytes: Option<usize>,
    pub(crate) log_bytes: Option<usize>,
    pub(crate) state_bytes: Option<usize>,
    pub(crate) host_call_bytes: Option<usize>,
    pub(crate) handles: Option<usize>,
    pub(crate) host_calls: Option<u64>,
    pub(crate) publish: Option<u32>,
    pub(crate) concurrency: Option<NonZeroU32>,
    pub(crate) keyvalue_value_bytes: Option<usize>,
    pub(crate) cpu_time: Option<Duration>,
    pub(crate) sockets: Option<usize>,
    pub(crate) http_requests: Option<usize>,
    pub(crate) http_header_bytes: Option<usize>,
    pub(crate) http_request_bytes: Option<usize>,
    pub(crate) http_response_bytes: Option<usize>,
    pub(crate) http_timeout: Option<Duration>,
}

/// The smaller of both, and a warning where that is not the manifest's.
pub(crate) fn lower(ceiling: &Limits, wanted: &Wanted, warnings: &mut Vec<String>) -> Limits {
    let mut limits = *ceiling;
    let sizes = [
        ("memory", wanted.memory_bytes, &mut limits.memory_bytes),
        ("result", wanted.result_bytes, &mut limits.result_bytes),
        ("log", wanted.log_bytes, &mut limits.log_bytes),
        ("state", wanted.state_bytes, &mut limits.state_bytes),
        ("host_call_bytes", wanted.host_call_bytes, &mut limits.host_call_bytes),
        ("http_header", wanted.http_header_bytes, &mut limits.http_header_bytes),
        ("keyvalue_value", wanted.keyvalue_value_bytes, &mut limits.keyvalue_value_bytes),
        ("http_request_body", wanted.http_request_bytes, &mut limits.http_request_bytes),
        ("http_response_body", wanted.http_response_bytes, &mut limits.http_response_bytes),
    ];
    for (name, wanted, limit) in sizes {
        one(name, " bytes", wanted, limit, warnings);
    }
    one("handles", "", wanted.handles, &mut limits.handles, warnings);
    one("host_calls", "", wanted.host_calls, &mut limits.host_calls, warnings);
    one("sockets", "", wanted.sockets, &mut limits.sockets, warnings);
    one("http_requests", "", wanted.http_requests, &mut limits.http_requests, warnings);
    time("http_timeout", wanted.http_timeout, &mut limits.http_timeout, warnings);
    one("publish", "", wanted.publish, &mut limits.publish, warnings);
    match (wanted.concurrency, &mut limits.plugin_concurrency) {
        (wanted, Some(limit)) => one("concurrency", "", wanted, limit, warnings),
        (wanted, limit) => *limit = wanted,
    }
    match (wanted.cpu_time, limits.cpu_time) {
        (Some(wanted), Some(mut limit)) => {
            time("cpu_time", Some(wanted), &mut limit, warnings);
            limits.cpu_time = Some(limit);
        }
        (Some(wanted), None) => limits.cpu_time = Some(wanted),
        (None, _) => {}
    }
    limits
}

fn time(name: &str, wanted: Option<Duration>, limit: &mut Duration, warnings: &mut Vec<String>) {
    let mut seconds = limit.as_secs_f64();
    one(name, " s", wanted.map(|wanted| wanted.as_secs_f64()), &mut seconds, warnings);
    *limit = Duration::from_secs_f64(seconds);
}

fn one<T: PartialOrd + Display + Copy>(
    name: &str,
    unit: &str,
    wanted: Option<T>,
    limit: &mut T,
    warnings: &mut Vec<String>,
) {
    match wanted {
        Some(wanted) if wanted > *limit => warnings.push(format!(
            "the manifest asks for a {name} limit of {wanted}{unit}, the host allows {limit}: {limit} it is"
        )),
        Some(wanted) => *limit = wanted,
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(wanted: Wanted, expected: Limits, warnings: &[&str]) {
        let mut told = Vec::new();
        let ceiling = Limits { cpu_time: Some(Duration::from_secs(5)), ..Limits::default() };
        let expected = Limits { cpu_time: expected.cpu_time.or(ceiling.cpu_time), ..expected };
        assert_eq!(lower(&ceiling, &wanted, &mut told), expected);
        assert_eq!(told, warnings);
    }

    #[test]
    fn a_manifest_lowers_what_it_asks_for() {
        let all = Limits::default();
        check(Wanted::default(), all, &[]);
        check(Wanted { memory_bytes: Some(1), ..Wanted::default() }, Limits { memory_bytes: 1, ..all }, &[]);
        check(Wanted { result_bytes: Some(2), ..Wanted::default() }, Limits { result_bytes: 2, ..all }, &[]);
        check(Wanted { log_bytes: Some(3), ..Wanted::default() }, Limits { log_bytes: 3, ..all }, &[]);
        check(Wanted { state_bytes: Some(4), ..Wanted::default() }, Limits { state_bytes: 4, ..all }, &[]);
        check(Wanted { host_call_bytes: Some(5), ..Wanted::default() }, Limits { host_call_bytes: 5, ..all }, &[]);
        check(Wanted { handles: Some(6), ..Wanted::default() }, Limits { handles: 6, ..all }, &[]);
        check(Wanted { host_calls: Some(7), ..Wanted::default() }, Limits { host_calls: 7, ..all }, &[]);
        check(Wanted { sockets: Some(8), ..Wanted::default() }, Limits { sockets: 8, ..all }, &[]);
        check(Wanted { http_requests: Some(9), ..Wanted::default() }, Limits { http_requests: 9, ..all }, &[]);
        check(
            Wanted { http_request_bytes: Some(10), ..Wanted::default() },
            Limits { http_request_bytes: 10, ..all },
            &[],
        );
        check(
            Wanted { http_response_bytes: Some(11), ..Wanted::default() },
            Limits { http_response_bytes: 11, ..all },
            &[],
        );
        check(
            Wanted { http_header_bytes: Some(13), ..Wanted::default() },
            Limits { http_header_bytes: 13, ..all },
            &[],
        );
        let http_timeout = Duration::from_secs(12);
        check(Wanted { http_timeout: Some(http_timeout), ..Wanted::default() }, Limits { http_timeout, ..all }, &[]);
        check(Wanted { publish: Some(8), ..Wanted::default() }, Limits { publish: 8, ..all }, &[]);
        let two = NonZeroU32::new(2);
        check(Wanted { concurrency: two, ..Wanted::default() }, Limits { plugin_concurrency: two, ..all }, &[]);
        let keyvalue_value_bytes = 9;
        check(
            Wanted { keyvalue_value_bytes: Some(9), ..Wanted::default() },
            Limits { keyvalue_value_bytes, ..all },
            &[],
        );
        let second = Some(Duration::from_secs(1));
        check(Wanted { cpu_time: second, ..Wanted::default() }, Limits { cpu_time: second, ..all }, &[]);
    }

    #[test]
    fn a_manifest_raises_nothing() {
        let much = Wanted {
            memory_bytes: Some(1 << 30),
            handles: Some(5_000),
            host_calls: Some(2_000_000),
            cpu_time: Some(Duration::from_secs(60)),
            http_requests: Some(17),
            http_timeout: Some(Duration::from_secs(90)),
            ..Wanted::default()
        };
        check(
            much,
            Limits::default(),
            &[
                "the manifest asks for a memory limit of 1073741824 bytes, the host allows 134217728: 134217728 it is",
                "the manifest asks for a handles limit of 5000, the host allows 1000: 1000 it is",
                "the manifest asks for a host_calls limit of 2000000, the host allows 1000000: 1000000 it is",
                "the manifest asks for a http_requests limit of 17, the host allows 16: 16 it is",
                "the manifest asks for a http_timeout limit of 90 s, the host allows 60: 60 it is",
                "the manifest asks for a cpu_time limit of 60 s, the host allows 5: 5 it is",
            ],
        );
    }
}
