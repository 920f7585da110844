//! What becomes of what a plugin declares and its operator grants.

use super::*;

fn grant(options: &[(&str, &[&str])]) -> Grant {
    let mut grant = Grant::default();
    for (option, values) in options {
        let values: Vec<String> = values.iter().map(|value| (*value).to_owned()).collect();
        grant.set(option, &values).unwrap_or_else(|problem| panic!("{option}: {problem}"));
    }
    grant
}

fn needs(needs: &[Need]) -> Needs {
    needs.iter().cloned().collect()
}

fn env(name: &str) -> Need {
    Need::Env(name.to_owned())
}

fn directory(guest: &str, mode: Mode) -> Need {
    Need::Directory(guest.to_owned(), mode)
}

const HASH: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

#[test]
fn a_plugin_may_do_what_it_declares_and_is_granted() {
    use Mode::{ReadOnly, ReadWrite};
    let all = grant(&[
        ("env", &["LANG", "TZ=UTC"]),
        ("config", &["region=eu=1"]),
        ("secrets", &["key=env:KEY", "token=file:/run/token"]),
        ("fs", &["/data=/srv/data", "/out/=/srv/out:rw"]),
        ("tasks", &["images.*"]),
    ]);
    let wanted = needs(&[
        env("TZ"),
        Need::Config("region".to_owned()),
        Need::Secret("key".to_owned()),
        directory("/data", ReadOnly),
        directory("/out", ReadOnly),
    ]);
    let powers = meet(&wanted, &all, HASH).expect("all is granted");
    assert_eq!(powers.env, [("TZ".to_owned(), Some("UTC".to_owned()))]);
    assert_eq!(powers.config, BTreeMap::from([("region".to_owned(), "eu=1".to_owned())]));
    assert_eq!(powers.secrets, [("key".to_owned(), SecretSource::Variable("KEY".to_owned()))]);
    // What is granted for writing and declared for reading can be read.
    let folder = |guest: &str, host: &str| (guest.to_owned(), PathBuf::from(host), ReadOnly);
    assert_eq!(powers.fs, [folder("/data", "/srv/data"), folder("/out", "/srv/out")]);
    assert_eq!(powers.tasks, ["images.*"]);
    // Who declares nothing may do nothing.
    assert_eq!(meet(&Needs::new(), &all, HASH), Ok(Powers::default()));
    let writing = needs(&[directory("/data", ReadWrite), directory("/out", ReadWrite)]);
    assert_eq!(meet(&writing, &all, HASH), Err(Denial::Missing(vec![directory("/data", ReadWrite)])));
}

#[test]
fn what_is_missing_is_named_with_the_line_to_add() {
    let name = PluginName::parse("images").expect("a name");
    let wanted = needs(&[
        env("LANG"),
        env("TZ"),
        Need::Config("region".to_owned()),
        Need::Secret("key".to_owned()),
        directory("/out", Mode::ReadWrite),
    ]);
    let Err(Denial::Missing(missing)) = meet(&wanted, &grant(&[("env", &["LANG"])]), HASH) else {
        panic!("not all is granted")
    };
    assert_eq!(
        advice(&name, &missing),
        "env `TZ`, config `region`, fs `/out:rw`, secrets `key`, not granted: \
         add `config = [\"region=VALUE\"]` and `env = [\"TZ\"]` and `fs = [\"/out=/FOLDER:rw\"]` and \
         `secrets = [\"key=env:VARIABLE\"]` to [grants.\"images\"] of host.toml"
    );
}

fn http(pattern: &str) -> Need {
    Need::read("http", pattern).expect("a pattern")
}

#[test]
fn a_plugin_goes_where_it_says_even_if_more_is_granted() {
    let granted = grant(&[("http", &["https://*.example.com", "http://10.1.2.3:8080"]), ("networks", &["loopback"])]);
    let wanted = needs(&[http("https://api.example.com"), http("http://10.1.2.3:8080")]);
    let powers = meet(&wanted, &granted, HASH).expect("all is granted").http.expect("it has http");
    let destination = |scheme, authority| Destination::parse(scheme, authority).expect("a destination");
    let networks =
        |destination: &Destination| powers.networks(destination).map(|networks| networks == &granted.networks);
    let (api, other) = (destination(Scheme::Https, "api.example.com"), destination(Scheme::Https, "other.example.com"));
    assert!(powers.allow(&api) && !powers.allow(&other));
    assert_eq!(networks(&api), Some(true));
    let private = destination(Scheme::Http, "10.1.2.3:8080");
    assert!(powers.allow(&private));
    assert_eq!(networks(&private), None);
    let beyond = needs(&[http("http://api.example.com"), http("https://*.example.com:*")]);
    let Err(Denial::Missing(missing)) = meet(&beyond, &granted, HASH) else { panic!("nothing of it is granted") };
    let name = PluginName::parse("images").expect("a name");
    assert_eq!(
        advice(&name, &missing),
        "http `http://api.example.com`, http `https://*.example.com:*`, not granted: \
         add `http = [\"http://api.example.com\", \"https://*.example.com:*\"]` to [grants.\"images\"] of host.toml"
    );
    let rows = side_by_side(&wanted, &grant(&[("http", &["https://*.example.com", "https://other.example"])]));
    let rows: Vec<_> = rows.into_iter().map(|row| (row.need.name(), row.declared, row.granted)).collect();
    let row = |name: &str, declared, granted| (name.to_owned(), declared, granted);
    assert_eq!(
        rows,
        [
            row("http://10.1.2.3:8080", true, false),
            row("https://api.example.com", true, true),
            row("https://other.example", false, true),
        ]
    );
}

#[test]
fn a_pinned_grant_is_for_one_component() {
    let pinned = grant(&[("sha256", &[HASH]), ("env", &["LANG"])]);
    assert!(meet(&needs(&[env("LANG")]), &pinned, HASH).is_ok());
    let other = meet(&needs(&[env("LANG")]), &pinned, "bb");
    assert_eq!(other, Err(Denial::OtherComponent { pinned: HASH.to_owned() }));
    assert!(meet(&Needs::new(), &pinned, "bb").is_ok());
}

#[test]
fn both_sides_are_shown_beside_each_other() {
    let granted = grant(&[("env", &["LANG", "HOME"]), ("fs", &["/data=/srv:rw"])]);
    let wanted = needs(&[env("LANG"), env("TZ"), directory("/data", Mode::ReadOnly)]);
    let rows: Vec<_> = side_by_side(&wanted, &granted)
        .into_iter()
        .map(|Power { need, declared, granted }| (need.to_string(), declared, granted))
        .collect();
    let row = |need: &str, declared, granted| (need.to_owned(), declared, granted);
    assert_eq!(
        rows,
        [
            row("env `LANG`", true, true),
            row("env `TZ`", true, false),
            row("fs `/data`", true, true),
            row("env `HOME`", false, true),
        ]
    );
}

#[test]
fn a_grant_that_cannot_be_read_says_what_was_expected() {
    for (option, value, expected) in [
        ("env", "=x", "has no name"),
        ("config", "region", "expected key=value, found \"region\""),
        ("secrets", "key=hunter2", "expected name=env:VARIABLE or name=file:/path"),
        ("secrets", "key=file:token", "expected name=env:VARIABLE or name=file:/path"),
        ("fs", "/data", "expected /path/for/the/plugin=/folder/of/this/machine"),
        ("fs", "/data=srv", "`srv` is no absolute path"),
        ("fs", "data=/srv", "\"data\" is no path for a plugin, such as /data"),
        ("fs", "/a/../b=/srv", "is no path for a plugin"),
        ("fs", "/=/srv", "is no path for a plugin"),
        ("tasks", "*.resize", "is no name of tasks"),
        ("sha256", "abc", "expected 64 hexadecimal digits"),
        ("http", "api.example.com", "is no address such as https://api.example.com: it has no ://"),
        ("sockets", "db:5432", "is nothing such as tcp://db.example.com:5432: it has no ://"),
        ("networks", "lan", "is no block of addresses such as 10.1.0.0/16"),
        ("gpu", "1", "a grant has no `gpu`"),
    ] {
        let problem = Grant::default().set(option, &[value.to_owned()]).expect_err(value);
        assert!(problem.contains(expected), "{option} {value}: {problem}");
        assert!(!problem.contains("hunter2"));
    }
    let twice = Grant::default().set("env", &["A".to_owned(), "A=1".to_owned()]);
    assert_eq!(twice, Err("`A` is there twice".to_owned()));
}

#[test]
fn patterns_name_one_task_or_all_that_begin_alike() {
    for (patterns, task, expected) in [
        (vec![], "any", true),
        (vec!["images.*"], "images.resize", true),
        (vec!["images.*"], "image", false),
        (vec!["a", "b"], "b", true),
        (vec!["a"], "ab", false),
        (vec!["*"], "ab", true),
    ] {
        let patterns: Vec<String> = patterns.into_iter().map(str::to_owned).collect();
        assert_eq!(covers(&patterns, task), expected, "{patterns:?} {task}");
    }
}

#[test]
fn one_tree_is_never_both_read_only_and_writable() {
    use Mode::{ReadOnly, ReadWrite};
    let path = Path::new;
    let both = [(path("/srv/a"), ReadOnly), (path("/srv"), ReadWrite)];
    assert_eq!(conflict(&both), Some((path("/srv/a"), path("/srv"))));
    assert!(conflict(&[(path("/srv"), ReadOnly), (path("/srv/a"), ReadWrite)]).is_some());
    assert!(conflict(&[(path("/srv"), ReadOnly), (path("/srv"), ReadWrite)]).is_some());
    assert_eq!(conflict(&[(path("/srv/a"), ReadOnly), (path("/srv/ab"), ReadWrite)]), None);
    assert_eq!(conflict(&[(path("/srv/a"), ReadWrite), (path("/srv"), ReadWrite)]), None);
}

#[test]
fn a_scratch_folder_is_as_large_as_it_is_needed_if_that_much_is_granted() {
    let scratch = |size: &str| Need::read("scratch", size).expect("a size");
    let granted = grant(&[("scratch", &["256MiB"])]);
    let powers = meet(&needs(&[scratch("64MiB")]), &granted, HASH).expect("it is not larger");
    assert_eq!(powers.scratch.map(|size| size.to_string()).as_deref(), Some("64MiB"));
    assert!(meet(&needs(&[scratch("256MiB")]), &granted, HASH).is_ok());
    let more = scratch("268435457");
    assert_eq!(meet(&needs(std::slice::from_ref(&more)), &granted, HASH), Err(Denial::Missing(vec![more.clone()])));
    // Both sides are about the one folder.
    assert_eq!(side_by_side(&needs(std::slice::from_ref(&more)), &granted).len(), 1);
    assert_eq!(scratch("1024KiB").entry().as_deref(), Some("1MiB"));
    for wrong in [&[][..], &["1MiB", "2MiB"], &["much"]] {
        let wrong: Vec<String> = wrong.iter().map(|&text| text.to_owned()).collect();
        assert!(Grant::default().set("scratch", &wrong).is_err(), "{wrong:?}");
    }
}
