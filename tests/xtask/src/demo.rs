//! Starts a worker with the demo plugin on the embedded broker, and says what to type next.

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::{Result, cargo, plugins};

/// `cargo xtask demo`: ends when the worker does.
pub(crate) fn run(arguments: &[String]) -> Result<ExitCode> {
    let root = crate::root()?;
    plugins::run(&["demo".to_owned()])?;
    eprintln!("demo: building the host (the first time takes some minutes)");
    let host = cargo::build_host(&root)?;
    eprint!("{}", next_steps(&root, &host));
    let mut command = Command::new(&host);
    command.args(["run", "--plugins", "./plugins"]).args(arguments).current_dir(&root);
    run_in_our_place(&mut command)
}

fn next_steps(root: &Path, host: &Path) -> String {
    // A path below the folder where the person is reads better.
    let current = env::current_dir().unwrap_or_default();
    let host = host.strip_prefix(&current).unwrap_or(host).display();
    let (go, database) = (root.display(), root.join("host.db"));
    let database = database.display();
    format!(
        r#"
Once the worker below says `ready`, type in another terminal

    cd {go}
    {host} call tasks.add --args '[2, 2]' --wait

or send the task from Python, with nothing but `pip install "celery[sqlalchemy]"`:

    from celery import Celery
    app = Celery(broker="sqla+sqlite:///{database}", backend="db+sqlite:///{database}")
    print(app.send_task("tasks.add", (2, 2)).get())

Ctrl-C ends the worker.

"#
    )
}

/// On Unix the worker replaces this process, so that signals reach it and its exit code is ours.
#[cfg(unix)]
fn run_in_our_place(command: &mut Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    let name = command.get_program().to_string_lossy().into_owned();
    Err(format!("start {name}: {}", command.exec()))
}

#[cfg(not(unix))]
fn run_in_our_place(command: &mut Command) -> Result<ExitCode> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| format!("start {name}: {error}"))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
