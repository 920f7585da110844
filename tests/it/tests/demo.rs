//! The first of the README's two commands: `cargo xtask demo`.

use std::path::Path;
use std::process::Command;

use it::process::Stream;
use it::{Engine, Process, Site, settings};

#[test]
fn the_demo_runs_and_says_what_to_type_next() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let Some(xtask) = settings::required_path(settings::XTASK) else { return };
    // The checkout's own file may be in use.
    let file = format!("sqlite:///{}", site.path("demo.db").display());
    let mut command = it::host::command(&xtask, site.folder());
    command.args(["demo", "-n", "demo@localhost", "-b", &file, "-r", &file]);
    let mut demo = Process::start("cargo xtask demo", &mut command);
    demo.wait_for("demo@localhost ready.");
    let call = demo.wait_for(" call tasks.add ");
    let call = format!("{} -b {file} -r {file}", call.trim());
    let mut shell = it::host::command(Path::new("sh"), site.folder());
    let mut called = Process::start(&call, shell.args(["-c", &call]));
    assert!(called.wait().success());
    assert_eq!(called.written(Stream::Out), "4\n");
    // The program that it proposes, with the file of this test.
    let text = demo.written(Stream::Err);
    let program = text.lines().skip_while(|line| !line.contains("from celery import")).take(3);
    let code: String = program.map(|line| line.trim().to_owned() + "\n").collect();
    let host_db =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("it exists").join("host.db");
    let code = code.replace(&*host_db.to_string_lossy(), &site.path("demo.db").to_string_lossy());
    let Some(python) = settings::required_path(settings::PYTHON) else { return };
    let mut client = Process::start("python", Command::new(python).args(["-E", "-s", "-c", &code]));
    assert!(client.wait().success());
    assert_eq!(client.written(Stream::Out), "4\n");
    demo.signal("INT");
    assert!(demo.wait().success());
}
