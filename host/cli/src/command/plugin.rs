//! `host plugin check`, `list` and `reload`: plugins with and without a worker.

use std::process::ExitCode;

use anyhow::anyhow;
use sandbox::{Loaded, PluginReport, Power, Sandbox};
use taskhost_core::Json;
use taskhost_core::protocol::content::MapWriter;

use super::wiring;
use crate::args::{PluginCheckArgs, PluginListArgs, PluginReloadArgs};
use crate::config::{self, Config};
use crate::exit::{Failure, OrHint};
use crate::local::{self, LocalError, Request};
use crate::logging::print;
use crate::status;

/// Says everything about one plugin.
pub(crate) fn check(args: &PluginCheckArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, Vec::new())?;
    if !args.path.exists() {
        return Err(Failure::usage(anyhow!("{}: there is no such file or folder", args.path.display())));
    }
    let sandbox = wiring::sandbox(&config)?;
    let report = wiring::client_runtime()?.block_on(sandbox.check(&args.path));
    print(&if args.json { format!("{}\n", as_json(&report)) } else { describe(&report) })?;
    Ok(if report.refused.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Lists the plugins of the worker that runs here, or else of a folder.
pub(crate) fn list(args: &PluginListArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    let runtime = wiring::client_runtime()?;
    // Whoever names a folder wants to know what is in it.
    let socket = config.worker.control_socket.as_ref().filter(|_| args.plugins.is_none());
    let served = socket.map(|path| runtime.block_on(local::ask(path, Request::Plugins)));
    let plugins: status::Plugins = match served {
        Some(Ok(plugins)) => plugins,
        None | Some(Err(LocalError::Nobody { .. })) => {
            check_folder(&config)?;
            let sandbox = wiring::sandbox(&config)?;
            status::Plugins::new(&runtime.block_on(load(&config, &sandbox)))
        }
        Some(Err(error)) => return Err(error.into()),
    };
    show(&config, &plugins, args.json)
}

/// Makes the worker that runs here load its plugins anew.
pub(crate) fn reload(args: &PluginReloadArgs) -> Result<ExitCode, Failure> {
    let config = config::load(args.settings.config.as_deref(), &args.settings.sets, args.flags())?;
    let Some(socket) = &config.worker.control_socket else {
        let error = anyhow!("worker.control_socket is none, so no worker can be reached");
        return Err(Failure::usage(error).hint("name it as for the worker, with --statedb or --set"));
    };
    match wiring::client_runtime()?.block_on(local::ask::<status::Plugins>(socket, Request::Reload)) {
        Ok(plugins) => show(&config, &plugins, args.json),
        Err(error @ LocalError::Nobody { .. }) => {
            let hint = "name the worker as it was started, with -n or --statedb, in the folder where it was started";
            Err(error).or_hint(hint)
        }
        Err(error) => Err(error.into()),
    }
}

fn show(config: &Config, plugins: &status::Plugins, json: bool) -> Result<ExitCode, Failure> {
    let nothing = plugins.plugins.is_empty() && plugins.refused.is_empty();
    let text = match (json, nothing) {
        (true, _) => serde_json::to_string(plugins)? + "\n",
        (false, true) => format!("no plugins in {}\n", config.plugins.dir.display()),
        (false, false) => plugins.text(),
    };
    print(&text)?;
    Ok(if plugins.refused.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A folder that somebody named must be there.
pub(super) fn check_folder(config: &Config) -> Result<(), Failure> {
    let dir = &config.plugins.dir;
    if dir.is_dir() || (!config.plugins.dir_is_given && !dir.exists()) {
        return Ok(());
    }
    let what = if dir.exists() { "is not a folder" } else { "there is no such folder" };
    let origin = config.origin("plugins.dir");
    Err(Failure::usage(anyhow!("{origin}: {}: {what}", dir.display())))
}

/// Loads the folder. The default one need not be there.
pub(super) async fn load(config: &Config, sandbox: &Sandbox) -> Loaded {
    if config.plugins.dir.is_dir() { sandbox.load_folder(&config.plugins.dir).await } else { Loaded::default() }
}

fn describe(report: &PluginReport) -> String {
    let mut text = match &report.version {
        Some(version) => format!("{} {version}\n", report.name),
        None => format!("{}\n", report.name),
    };
    let mut line = |name: &str, value: &str| text.push_str(&format!("  {name:<9} {value}\n"));
    line("file", &report.path.display().to_string());
    if report.size_bytes > 0 {
        line(
            "size",
            &format!("{} KiB, compiled in {} ms", report.size_bytes.div_ceil(1024), report.compile_time.as_millis()),
        );
        line("sha256", &report.sha256);
    }
    for (index, export) in report.exports.iter().enumerate() {
        line(if index == 0 { "exports" } else { "" }, export);
    }
    for (index, import) in report.imports.iter().enumerate() {
        let unknown = if import.known { "" } else { "  (this host does not have it)" };
        line(if index == 0 { "imports" } else { "" }, &format!("{}{unknown}", import.name));
    }
    if report.is_async {
        line("tasks", "asynchronous: an attempt that waits keeps no processor");
    }
    if report.reuse > 1 {
        line(
            "instance",
            &format!("runs up to {} attempts: each sees what earlier ones left in its memory", report.reuse),
        );
    }
    let width = report.powers.iter().map(|power| power.need.to_string().chars().count()).max().unwrap_or(0);
    for (index, Power { need, declared, granted }) in report.powers.iter().enumerate() {
        let word = match (declared, granted) {
            (true, true) => "declared and granted",
            (true, false) => "declared, NOT GRANTED",
            (false, _) => "granted, but not declared: not given",
        };
        line(if index == 0 { "powers" } else { "" }, &format!("{:width$}  {word}", need.to_string()));
    }
    for task in &report.tasks {
        text.push_str(&format!("\ntask {}\n", task.spec.name));
        if !task.spec.summary.is_empty() {
            text.push_str(&format!("  {}\n", task.spec.summary));
        }
        for line in task.signature.iter().chain(&task.types) {
            text.push_str(&format!("  {line}\n"));
        }
        for (option, value) in &task.options {
            text.push_str(&format!("  {option} = {value}\n"));
        }
        if let Some(schema) = &task.schema {
            text.push_str(&format!("  schema {}\n", schema.split('\n').map(str::trim).collect::<Vec<_>>().join(" ")));
        }
    }
    if !report.warnings.is_empty() {
        text.push('\n');
    }
    for warning in &report.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    match &report.refused {
        Some(reason) => text.push_str(&format!("\nrefused: {reason}\n")),
        None => text.push_str("\nok: a worker would load this plugin\n"),
    }
    text
}

/// The same for programs.
fn as_json(report: &PluginReport) -> Json {
    // What was checked when the plugin was loaded.
    let raw = |text: &String| Json::parse(text.clone()).unwrap_or(Json::null());
    let imports = report.imports.iter().map(|import| {
        let mut map = MapWriter::new();
        map.put("name", &import.name).put("known", &import.known);
        map.finish()
    });
    let powers = report.powers.iter().map(|power| {
        let mut map = MapWriter::new();
        map.put("need", &power.need.to_string()).put("declared", &power.declared).put("granted", &power.granted);
        map.finish()
    });
    let tasks = report.tasks.iter().map(|task| {
        let mut map = MapWriter::new();
        map.put("name", task.spec.name.as_str())
            .put("summary", &task.spec.summary)
            .put("signature", &task.signature)
            .put("types", &Json::array(&task.types))
            .put("options", &Json::object(task.options.iter().map(|(name, value)| (name, raw(value)))))
            .put("schema", &task.schema.as_ref().map(raw));
        map.finish()
    });
    let mut map = MapWriter::new();
    map.put("name", &report.name)
        .put("version", &report.version)
        .put("path", &report.path.display().to_string())
        .put("size_bytes", &report.size_bytes)
        .put("sha256", &report.sha256)
        .put("compile_seconds", &report.compile_time.as_secs_f64())
        .put("reuse", &report.reuse)
        .put("asynchronous", &report.is_async)
        .put("exports", &Json::array(&report.exports))
        .put("imports", &Json::array(imports))
        .put("powers", &Json::array(powers))
        .put("tasks", &Json::array(tasks))
        .put("warnings", &Json::array(&report.warnings))
        .put("refused", &report.refused);
    map.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use expect_test::expect;
    use sandbox::{Import, Mode, Need, TaskReport};
    use taskhost_core::{PluginName, PluginVersion, TaskName, TaskOptions, TaskSpec};

    use super::*;

    #[test]
    fn a_report_says_everything_about_a_plugin() {
        let import = |name: &str, known| Import { name: name.to_owned(), known };
        let spec = TaskSpec {
            name: TaskName::parse("images.resize").unwrap(),
            plugin: PluginName::parse("images").unwrap(),
            version: PluginVersion::of("ab12"),
            plugin_concurrency: None,
            summary: "Makes a picture smaller.".to_owned(),
            takes: None,
            options: TaskOptions::default(),
        };
        let options = vec![("max_retries".to_owned(), "5".to_owned())];
        let report = PluginReport {
            name: "images".to_owned(),
            version: Some("1.2.0".to_owned()),
            path: "plugins/images/images.wasm".into(),
            sha256: "ab12".to_owned(),
            digest: Some(PluginVersion::of("ab12")),
            trial: None,
            size_bytes: 70_000,
            compile_time: Duration::from_millis(80),
            reuse: 20,
            is_async: false,
            exports: vec!["taskhost:task/tasks@0.1.0".to_owned()],
            imports: vec![import("wasi:cli/stdout@0.2.6", true), import("acme:gpu/device", false)],
            powers: vec![
                Power { need: Need::Env("LANG".to_owned()), declared: true, granted: true },
                Power { need: Need::Secret("key".to_owned()), declared: true, granted: false },
                Power { need: Need::Directory("/out".to_owned(), Mode::ReadWrite), declared: false, granted: true },
            ],
            tasks: vec![TaskReport {
                spec,
                signature: Some("resize(url: string, size: size) -> result<string, string>".to_owned()),
                types: vec!["record size { width: u16 }".to_owned()],
                schema: Some("{\n  \"type\":\n  \"object\"}".to_owned()),
                options,
            }],
            warnings: vec!["task `images.resize`: unknown option `colour` is ignored".to_owned()],
            refused: Some("it imports acme:gpu/device, which this host does not have".to_owned()),
        };
        expect![[r#"
            images 1.2.0
              file      plugins/images/images.wasm
              size      69 KiB, compiled in 80 ms
              sha256    ab12
              exports   taskhost:task/tasks@0.1.0
              imports   wasi:cli/stdout@0.2.6
                        acme:gpu/device  (this host does not have it)
              instance  runs up to 20 attempts: each sees what earlier ones left in its memory
              powers    env `LANG`     declared and granted
                        secrets `key`  declared, NOT GRANTED
                        fs `/out:rw`   granted, but not declared: not given

            task images.resize
              Makes a picture smaller.
              resize(url: string, size: size) -> result<string, string>
              record size { width: u16 }
              max_retries = 5
              schema { "type": "object"}

            warning: task `images.resize`: unknown option `colour` is ignored

            refused: it imports acme:gpu/device, which this host does not have
        "#]]
        .assert_eq(&describe(&report));
        let json = as_json(&report);
        let task = json.get("tasks").and_then(|tasks| tasks.elements().next()).expect("it is there");
        expect![[r#"
            {"name": "images.resize", "summary": "Makes a picture smaller.", "signature": "resize(url: string, size: size) -> result<string, string>", "types": ["record size { width: u16 }"], "options": {"max_retries": 5}, "schema": {
              "type":
              "object"}}"#]]
        .assert_eq(task.as_str());
        let keys: Vec<String> = json.members().map(|(key, _)| key.into_owned()).collect();
        expect![
            "name version path size_bytes sha256 compile_seconds reuse asynchronous exports imports powers tasks warnings refused"
        ]
        .assert_eq(&keys.join(" "));
    }
}
