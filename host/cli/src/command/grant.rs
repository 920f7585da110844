//! `host plugin grant`: gives a plugin what it declares, by writing it into `host.toml`.
//!
//! Shows what it is going to write. Values, folders and where a secret is only the operator knows, so he
//! names them; a plugin gets nothing that it does not declare.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, IsTerminal, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use sandbox::{GRANT_OPTIONS, Grant, PluginReport};
use toml::de::{DeTable, DeValue};

use super::wiring;
use crate::args::PluginGrantArgs;
use crate::config::{self, Config};
use crate::exit::Failure;
use crate::logging::print;

/// Entries by the option of the grant that they are for.
type Entries = BTreeMap<&'static str, Vec<String>>;

/// Says what is missing, asks, and writes.
pub(crate) fn run(args: &PluginGrantArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    let path = find(&args.plugin, &config)?;
    let sandbox = wiring::sandbox(&config)?;
    let report = wiring::client_runtime()?.block_on(sandbox.check(&path));
    if report.powers.iter().all(|power| !power.declared) {
        let why = report.refused.map_or_else(String::new, |reason| format!("; it is refused: {reason}"));
        return Err(Failure::from(anyhow!(
            "plugin `{}` declares no needs: there is nothing to grant{why}",
            report.name
        )));
    }
    let mut entries = complete(&report, named(&args.entries)?)?;
    if args.pin {
        entries.insert("sha256", vec![report.sha256.clone()]);
    }
    if entries.is_empty() {
        print(&format!("plugin `{}` is granted all that it declares\n", report.name))?;
        return Ok(ExitCode::SUCCESS);
    }
    let file = args.settings.config.clone().unwrap_or_else(|| PathBuf::from(config::FILE));
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(Failure::from(error)),
    };
    let lines = lines(&entries);
    print(&format!("to be added to {}:\n\n[grants.\"{}\"]\n{lines}\n", file.display(), report.name))?;
    let edited = add(&text, &report.name, &entries).map_err(|problem| {
        Failure::from(anyhow!("cannot write into {}: {problem}", file.display())).hint("add the lines above by hand")
    })?;
    if !args.force && !std::io::stdin().is_terminal() {
        let error = Failure::usage(anyhow!("cannot ask whether to grant this: stdin is not a terminal"));
        return Err(error.hint("give -f to grant it without being asked"));
    }
    if !args.force && !agrees()? {
        return Ok(ExitCode::FAILURE);
    }
    write(&file, &edited).with_context(|| format!("cannot write {}", file.display()))?;
    print("granted; workers have it when they start again\n")?;
    Ok(ExitCode::SUCCESS)
}

/// The plugin of that name in the plugins folder, or at that path.
fn find(plugin: &Path, config: &Config) -> Result<PathBuf, Failure> {
    let in_folder = config.plugins.dir.join(plugin);
    let component = in_folder.with_added_extension("wasm");
    let places = [plugin.to_owned(), in_folder, component];
    let found = places.into_iter().find(|path| path.exists());
    found.ok_or_else(|| {
        let dir = config.plugins.dir.display();
        Failure::usage(anyhow!("there is no plugin {} in {dir}, and no such file or folder", plugin.display()))
    })
}

/// The entries of the command line, `OPTION=ENTRY` each.
fn named(texts: &[String]) -> Result<Entries, Failure> {
    let mut entries = Entries::new();
    for text in texts {
        let known = GRANT_OPTIONS.iter().map(|(option, _)| *option);
        let (option, entry) = text.split_once('=').unwrap_or((text, ""));
        let Some(option) = known.clone().find(|known| *known == option) else {
            let known = known.collect::<Vec<_>>().join(", ");
            return Err(Failure::usage(anyhow!(
                "`{option}` cannot be granted; expected OPTION=ENTRY with one of {known}"
            )));
        };
        entries.entry(option).or_default().push(entry.to_owned());
    }
    let mut grant = Grant::default();
    for (option, values) in &entries {
        grant.set(option, values).map_err(|problem| Failure::usage(anyhow!("{option}: {problem}")))?;
    }
    Ok(entries)
}

/// Adds what follows from the name alone, and asks for the rest.
fn complete(report: &PluginReport, mut entries: Entries) -> Result<Entries, Failure> {
    let mut grant = Grant::default();
    for (option, values) in &entries {
        grant.set(option, values).expect("it was tried when it was read");
    }
    let missing = report.powers.iter().filter(|power| power.declared && !power.granted).map(|power| &power.need);
    let mut open = Vec::new();
    for need in missing.filter(|need| !grant.gives(need)) {
        match need.entry() {
            Some(entry) => entries.entry(need.capability()).or_default().push(entry),
            None => open.push(format!("  '{}={}'", need.capability(), need.example())),
        }
    }
    if open.is_empty() {
        return Ok(entries);
    }
    let error = Failure::usage(anyhow!("plugin `{}` declares what only you can know; add to the command", report.name));
    Err(error.hint(format!("with your words for those in capitals:\n{}", open.join("\n"))))
}

fn lines(entries: &Entries) -> String {
    entries.iter().map(|(option, values)| format!("{option} = {}\n", value(option, values))).collect()
}

/// The value of an option as TOML.
fn value(option: &str, values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| toml::Value::from(value.as_str()).to_string()).collect();
    if option == "sha256" { quoted.concat() } else { format!("[{}]", quoted.join(", ")) }
}

/// The text of `host.toml` with these entries in it; everything else stays as it was written.
fn add(text: &str, plugin: &str, entries: &Entries) -> Result<String, String> {
    let document = DeTable::parse(text).map_err(|error| error.message().trim_end().to_owned())?;
    let tables = document.get_ref().iter().find(|(key, _)| key.get_ref() == "grants");
    let tables = tables.and_then(|(_, value)| value.get_ref().as_table());
    let table = tables.and_then(|tables| tables.iter().find(|(key, _)| key.get_ref() == plugin));
    let Some((name, table)) = table else {
        let gap = if text.is_empty() {
            ""
        } else if text.ends_with('\n') {
            "\n"
        } else {
            "\n\n"
        };
        return Ok(format!("{text}{gap}[grants.\"{plugin}\"]\n{}", lines(entries)));
    };
    let table = table.get_ref().as_table().ok_or("its grant is no table")?;
    let header = text[..name.span().start].rfind('\n').map_or(0, |newline| newline + 1);
    if !text[header..].trim_start().starts_with('[') {
        return Err("its grant is not written as a table of its own".to_owned());
    }
    let mut edits: Vec<(Range<usize>, String)> = Vec::new();
    let mut new = Entries::new();
    for (option, values) in entries {
        match table.iter().find(|(key, _)| key.get_ref() == *option) {
            Some((_, old)) => edits.push((old.span(), value(option, &merge(old.get_ref(), option, values)))),
            None => drop(new.insert(option, values.clone())),
        }
    }
    let after = text[header..].find('\n').map_or(text.len(), |newline| header + newline + 1);
    let newline = if text[..after].ends_with('\n') { "" } else { "\n" };
    edits.push((after..after, format!("{newline}{}", lines(&new))));
    edits.sort_by_key(|(place, _)| std::cmp::Reverse(place.start));
    let mut edited = text.to_owned();
    for (place, by) in edits {
        edited.replace_range(place, &by);
    }
    Ok(edited)
}

/// What was granted before and the new entries; of two about the same thing the new one.
fn merge(old: &DeValue<'_>, option: &str, new: &[String]) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let old: Vec<String> = match old {
        _ if option == "sha256" => Vec::new(),
        DeValue::Array(items) => items.iter().filter_map(|item| item.get_ref().as_str()).map(str::to_owned).collect(),
        DeValue::String(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
        _ => Vec::new(),
    };
    let kept = old.into_iter().filter(|entry| new.iter().all(|other| name(other) != name(entry)));
    kept.chain(new.iter().cloned()).collect()
}

/// Replaces the file as a whole, so that a worker that starts meanwhile reads the old one or the new one.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    // A link stays a link.
    let place = file.canonicalize().unwrap_or_else(|_| file.to_owned());
    let beside = place.with_added_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, text)?;
    if let Ok(before) = place.metadata() {
        fs::set_permissions(&beside, before.permissions())?;
    }
    fs::rename(&beside, &place)
}

fn agrees() -> std::io::Result<bool> {
    let mut stderr = std::io::stderr();
    write!(stderr, "Grant it? [y/N] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, entries: &[(&'static str, &[&str])], expected: Result<&str, &str>) {
        let entries: Entries = entries
            .iter()
            .map(|(option, values)| (*option, values.iter().map(|value| (*value).to_owned()).collect()))
            .collect();
        let edited = add(text, "images", &entries);
        assert_eq!(edited.as_deref().map_err(String::as_str), expected);
        if let Ok(edited) = edited {
            DeTable::parse(&edited).expect("it is TOML still");
        }
    }

    #[test]
    fn a_grant_is_added_and_the_rest_of_the_file_stays_as_it_is() {
        let env: (&str, &[&str]) = ("env", &["LANG"]);
        check("", &[env], Ok("[grants.\"images\"]\nenv = [\"LANG\"]\n"));
        check(
            "# mine\n[log]\nlevel = \"info\" # loud",
            &[env, ("config", &["a=\"b\""])],
            Ok(
                "# mine\n[log]\nlevel = \"info\" # loud\n\n[grants.\"images\"]\nconfig = ['a=\"b\"']\nenv = [\"LANG\"]\n",
            ),
        );
        check(
            "[grants.images] # theirs\nfs = [\"/in=/srv\",\n  \"/out=/srv/out\"]\n\n[log]\n",
            &[env, ("fs", &["/out=/srv/out:rw"])],
            Ok("[grants.images] # theirs\nenv = [\"LANG\"]\nfs = [\"/in=/srv\", \"/out=/srv/out:rw\"]\n\n[log]\n"),
        );
        check("[grants.images]", &[env], Ok("[grants.images]\nenv = [\"LANG\"]\n"));
        check(
            "[grants.other]\nenv = [\"A\"]\n",
            &[("sha256", &["ab"])],
            Ok("[grants.other]\nenv = [\"A\"]\n\n[grants.\"images\"]\nsha256 = \"ab\"\n"),
        );
        check("[grants]\nimages = { env = [\"A\"] }\n", &[env], Err("its grant is not written as a table of its own"));
    }
}
