//! The name of this worker, from a pattern such as `taskhost@%h` (celery/utils/nodenames.py).
//!
//! Does not ask the machine for its name.

/// What stands before the `@` if the pattern has none.
const NAME: &str = "taskhost";

/// Fills in `%h` (host), `%n` (host without domain), `%d` (domain) and `%%`. A pattern without `@` is a
/// host, as in Celery.
pub(crate) fn expand(pattern: &str, host: &str) -> Result<String, String> {
    let (short, domain) = host.split_once('.').unwrap_or((host, ""));
    let mut name = if pattern.contains('@') { String::new() } else { format!("{NAME}@") };
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '%' {
            name.push(c);
            continue;
        }
        match chars.next() {
            Some('h') => name.push_str(host),
            Some('n') => name.push_str(short),
            Some('d') => name.push_str(domain),
            Some('%') => name.push('%'),
            Some(other) => return Err(format!("`%{other}` is not one of %h, %n, %d and %%")),
            None => return Err("ends with a single %; write %% for a percent sign".to_owned()),
        }
    }
    match name.split_once('@') {
        Some((before, after)) if !before.is_empty() && !after.is_empty() => Ok(name),
        _ => Err(format!("expected a name such as \"taskhost@%h\", found \"{pattern}\"")),
    }
}

/// Fills the name of a worker into the path of a file, as Celery does: `%p` (the name), `%n` (what stands
/// before the `@`), `%h` (what stands behind it), `%d` (its domain) and `%%`.
pub(crate) fn expand_file(pattern: &str, node: &str) -> Result<String, String> {
    let (name, host) = node.split_once('@').unwrap_or((node, ""));
    let domain = host.split_once('.').map_or("", |(_, domain)| domain);
    let mut path = String::new();
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        let part = match c {
            '%' => match chars.next() {
                Some('p') => node,
                Some('n') => name,
                Some('h') => host,
                Some('d') => domain,
                Some('%') => "%",
                Some(other) => return Err(format!("`%{other}` is not one of %p, %n, %h, %d and %%")),
                None => return Err("ends with a single %; write %% for a percent sign".to_owned()),
            },
            c => {
                path.push(c);
                continue;
            }
        };
        // A name is no path.
        path.push_str(&part.replace(['/', '\\'], "_"));
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_worker_goes_into_the_path_of_its_file() {
        let expanded = |pattern| expand_file(pattern, "w/1@box.example.org");
        assert_eq!(expanded("/var/%n-%h-%d.%%"), Ok("/var/w_1-box.example.org-example.org.%".to_owned()));
        assert_eq!(expanded("%p.state.db"), Ok("w_1@box.example.org.state.db".to_owned()));
        assert_eq!(expand_file("%n-%h", "w"), Ok("w-".to_owned()));
        assert_eq!(expanded("%i"), Err("`%i` is not one of %p, %n, %h, %d and %%".to_owned()));
        assert_eq!(expanded("x%"), Err("ends with a single %; write %% for a percent sign".to_owned()));
    }

    #[track_caller]
    fn check(pattern: &str, expected: Result<&str, &str>) {
        let found = expand(pattern, "box.example.org");
        assert_eq!(found.as_deref().map_err(String::as_str), expected);
    }

    #[test]
    fn patterns_are_filled_in_as_celery_does() {
        check("taskhost@%h", Ok("taskhost@box.example.org"));
        check("w1@%n", Ok("w1@box"));
        check("w1-%d@%%", Ok("w1-example.org@%"));
        check("images", Ok("taskhost@images"));
        check("%h", Ok("taskhost@box.example.org"));
        check("w1@%i", Err("`%i` is not one of %h, %n, %d and %%"));
        check("w1@%", Err("ends with a single %; write %% for a percent sign"));
        check("@%h", Err("expected a name such as \"taskhost@%h\", found \"@%h\""));
    }
}
