//! What each capability costs an attempt that does not use it: the no-op task of the demo plugin, whose
//! manifest declares it and whose grant gives it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use ::sandbox::Grant;
use taskhost_core::PluginName;

use super::calls::{DEMO, Subject, copy_demo};
use crate::{Result, SandboxArgs};

/// All take turns, so that what else goes on at the machine meets each of them.
const ROUND_CALLS: usize = 1_000;
/// Calls after the others had theirs, until all is as before.
const WARM_UP_CALLS: usize = 200;

/// What is declared, and what is granted for that.
struct Case {
    capability: &'static str,
    declared: &'static str,
    granted: String,
}

pub(super) async fn measure(args: &SandboxArgs) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut subjects = vec![load("none", folder.path(), args, None).await?];
    for case in cases(folder.path())? {
        subjects.push(load(case.capability, folder.path(), args, Some(&case)).await?);
    }
    let mut left = args.calls;
    while left > 0 {
        let calls = left.min(ROUND_CALLS);
        for subject in &mut subjects {
            subject.warm_up(WARM_UP_CALLS).await?;
            subject.call(calls).await?;
        }
        left -= calls;
    }
    let none_us = subjects[0].median_us();
    subjects.iter().try_for_each(|subject| subject.print(Some(none_us)))
}

fn cases(folder: &Path) -> Result<Vec<Case>> {
    let (secret, input) = (folder.join("secret"), folder.join("in"));
    fs::write(&secret, "a secret")?;
    fs::create_dir_all(&input)?;
    let case = |capability, declared, granted: &str| Case { capability, declared, granted: granted.to_owned() };
    Ok(vec![
        case("env", "LANG", "LANG=C"),
        case("config", "region", "region=eu"),
        case("secrets", "key", &format!("key=file:{}", secret.display())),
        case("fs", "/in", &format!("/in={}", input.display())),
        case("scratch", "64MiB", "64MiB"),
        case("keyvalue", "cache", "cache"),
        case("http", "https://api.example.com", "https://*.example.com"),
        case("sockets", "tcp://db.example.com:5432", "tcp://db.example.com:5432"),
        case("publish", "mail.send", "mail.*"),
        case("results", "own", "own"),
    ])
}

/// The demo plugin with a manifest of its own.
async fn load(name: &str, folder: &Path, args: &SandboxArgs, case: Option<&Case>) -> Result<Subject> {
    let folder = folder.join(format!("with-{name}"));
    let mut manifest = String::new();
    let mut grants = BTreeMap::new();
    if let Some(Case { capability, declared, granted }) = case {
        manifest = format!("[needs]\n{capability} = [\"{declared}\"]\n");
        let mut grant = Grant::default();
        grant.set(capability, std::slice::from_ref(granted))?;
        grants.insert(PluginName::parse(DEMO)?, grant);
    }
    copy_demo(&args.plugins, &folder, &manifest)?;
    Subject::load(name.to_owned(), &folder, grants).await
}
