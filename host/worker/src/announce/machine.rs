//! What heartbeats tell about the machine, as Python calls and measures it.

/// `platform.system()`.
pub(super) fn operating_system() -> &'static str {
    match std::env::consts::OS {
        "linux" => "Linux",
        "macos" => "Darwin",
        "windows" => "Windows",
        "freebsd" => "FreeBSD",
        other => other,
    }
}

/// `os.getloadavg()`; zeros where nobody tells, as in celery/utils/sysinfo.py.
#[cfg(target_os = "linux")]
pub(super) fn load() -> [f64; 3] {
    parse(&std::fs::read_to_string("/proc/loadavg").unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn load() -> [f64; 3] {
    [0.0; 3]
}

#[cfg(target_os = "linux")]
fn parse(text: &str) -> [f64; 3] {
    let mut numbers = text.split_whitespace().map(|word| word.parse().unwrap_or_default());
    std::array::from_fn(|_| numbers.next().unwrap_or_default())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn the_load_is_what_the_system_says() {
        assert_eq!(parse("0.42 1.00 12.5 3/456 789\n"), [0.42, 1.0, 12.5]);
        assert_eq!(parse(""), [0.0; 3]);
    }
}
