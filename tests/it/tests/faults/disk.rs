//! The embedded file on a full disk, and locked by somebody else.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use it::{Engine, Host, Site};
use serde_json::json;

/// A file system of some megabytes, gone with its test.
struct SmallDisk {
    folder: PathBuf,
}

impl SmallDisk {
    /// None where this process may not mount one, which is said.
    #[expect(clippy::print_stdout, reason = "libtest shows it and `cargo xtask test` counts it")]
    fn mount(folder: &Path) -> Option<SmallDisk> {
        fs::create_dir_all(folder).expect("the temporary folder is writable");
        let mut mount = Command::new("mount");
        let mounted = mount.args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(folder).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk { folder: folder.to_owned() }),
            Ok(output) => {
                println!("skipped: cannot mount a small disk: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: cannot mount a small disk: {error}");
                None
            }
        }
    }

    /// Leaves no room at all.
    fn fill(&self) {
        use std::io::Write;
        let mut ballast = fs::File::create(self.ballast()).expect("the disk is writable");
        while ballast.write_all(&[0; 512]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).expect("it was filled before");
    }

    fn ballast(&self) -> PathBuf {
        self.folder.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
    }
}

/// All ten tasks succeeded, and each did so once.
#[track_caller]
fn ran_once(host: &Host) {
    for n in 0..10 {
        assert_eq!(host.lines_with(&format!("[t{n}] succeeded")).len(), 1, "task {n}");
    }
}

const PUBLISH: &str = r#"
results = [send("tasks.sleep", 0.4 + n / 1024, task_id=f"t{n}") for n in range(10)]
emit("published")
"#;

const COLLECT: &str = r#"
results = [app.AsyncResult(f"t{n}") for n in range(10)]
emit([get(result) == 0.4 + n / 1024 for n, result in enumerate(results)].count(True))
"#;

#[test]
fn a_full_disk_is_waited_for() {
    let Some(mut site) = Site::open(Engine::Embedded) else { return };
    let Some(disk) = SmallDisk::mount(&site.path("disk")) else { return };
    let file = disk.folder.join("host.db");
    site.broker = format!("sqla+sqlite:///{}", file.display());
    site.backend = format!("db+sqlite:///{}", file.display());
    (site.host_broker, site.host_backend) = (Some(site.broker.clone()), Some(site.backend.clone()));
    let mut host = site.host(&["-c", "1"]);
    site.client(PUBLISH);
    host.wait_for("[t1] succeeded");
    disk.fill();
    host.wait_for("the disk is full");
    // It ran all the same, and waits for room with what came of it.
    host.wait_for("[t2] received");
    disk.make_room();
    assert_eq!(site.client(COLLECT), json!(10));
    ran_once(&host);
    assert_eq!(
        site.client("until(lambda: depth() == 0, 'the queue is empty'); emit(call('tasks.add', 2, 2))"),
        json!(4)
    );
    assert!(host.stop().success());
}

#[test]
fn a_file_that_somebody_keeps_locked_is_waited_for() {
    let Some(site) = Site::open(Engine::Embedded) else { return };
    let mut host = site.host(&["-c", "1"]);
    site.client(PUBLISH);
    host.wait_for("[t1] succeeded");
    // Longer than a lease is valid, and than SQLite waits for a lock.
    let code = r#"
import sqlite3
file = sqlite3.connect(os.environ["BROKER"].partition("///")[2], isolation_level=None)
file.execute("BEGIN IMMEDIATE")
emit("locked")
time.sleep(16)
file.execute("ROLLBACK")
"#;
    let locker = site.start_client(code);
    locker.wait_for("locked");
    locker.finish();
    assert_eq!(site.client(COLLECT), json!(10));
    ran_once(&host);
    assert_eq!(
        site.client("until(lambda: depth() == 0, 'the queue is empty'); emit(call('tasks.add', 2, 2))"),
        json!(4)
    );
    assert!(host.stop().success());
}
