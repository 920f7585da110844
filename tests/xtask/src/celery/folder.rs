//! The folder in which Celery's tests are run: its own files with our additions, and the plugin.
//!
//! The tests come from the source distribution of Celery and are never kept in this repository.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::say;
use crate::{Result, cache, python};

/// Name, version and hash of the source distribution, as pip reads them.
const SOURCE: &str = include_str!("../../../celery/source.txt");
/// Unpacks `t/`, the tests, from the archive that pip has put into a folder.
const UNPACK: &str = r#"
import glob, sys, tarfile
folder, target = sys.argv[1:]
[archive] = glob.glob(folder + "/*.tar.gz")
with tarfile.open(archive) as tar:
    top = tar.getnames()[0].split("/")[0] + "/"
    members = [member for member in tar if member.name.startswith(top + "t/")]
    for member in members:
        member.name = member.name[len(top):]
    tar.extractall(target, members, filter="data")
"#;
/// As Celery's own, without what only its reports need, and without `xfail_strict`: what Celery itself does not do may work.
/// The time that a test may take is its own: what it has left in the queue is run or purged afterwards.
const PYTEST_INI: &str = "\
[pytest]
addopts = -p no:cacheprovider -p celery.contrib.pytest --tb=short -v
python_classes = test_*
timeout_func_only = true
";

/// Where the tests have their temporary files, in the folder in which they run: the plugin gets to see it.
pub(super) const FILES: &str = "files";

/// The folder with Celery's `t/`, fetched once.
pub(super) fn obtain_tests(python: &Path) -> Result<PathBuf> {
    let folder = cache::folder()?.join(format!("celery-tests-{:08x}", python::hash(SOURCE)));
    let marker = folder.join("complete");
    let _lock = cache::lock(&folder.with_extension("lock"), "the folder of Celery's tests")?;
    if marker.exists() {
        return Ok(folder);
    }
    say("fetching the source distribution of Celery (once, 2 MB)");
    let _ = fs::remove_dir_all(&folder); // what an interrupted process left behind
    let archive = folder.join("archive");
    let describe = |error: std::io::Error| format!("write {}: {error}", folder.display());
    fs::create_dir_all(&archive).map_err(describe)?;
    let list = folder.join("source.txt");
    fs::write(&list, SOURCE).map_err(describe)?;
    let mut pip = Command::new(python);
    pip.args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--retries", "5", "--no-deps"]);
    pip.args(["--no-binary", "celery", "--require-hashes", "--dest"]).arg(&archive).arg("--requirement").arg(&list);
    python::run(&mut pip)?;
    python::run(Command::new(python).args(["-c", UNPACK]).arg(&archive).arg(&folder))?;
    fs::write(&marker, "").map_err(describe)?;
    Ok(folder)
}

/// Puts Celery's tests, our additions, and the plugin into a fresh folder.
pub(super) fn lay_out(folder: &Path, tests: &Path, root: &Path) -> Result<()> {
    let describe = |error: std::io::Error| format!("prepare {}: {error}", folder.display());
    let ours = root.join("tests/celery");
    let text = |name: &str| fs::read_to_string(ours.join(name)).map_err(|error| format!("read {name}: {error}"));
    let _ = fs::remove_dir_all(folder);
    let integration = folder.join("t/integration");
    fs::create_dir_all(&integration).map_err(describe)?;
    for (from, to) in [(tests.join("t"), folder.join("t")), (tests.join("t/integration"), integration.clone())] {
        for entry in fs::read_dir(&from).map_err(describe)? {
            let entry = entry.map_err(describe)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if entry.path().is_file() && (!name.starts_with("test_") || listed(&text("tests.txt")?, &name)) {
                fs::copy(entry.path(), to.join(name)).map_err(describe)?;
            }
        }
    }
    let conftest = integration.join("conftest.py");
    let theirs = fs::read_to_string(&conftest).map_err(describe)?;
    fs::write(&conftest, format!("{theirs}\n\n{}", text("conftest.py")?)).map_err(describe)?;
    fs::write(folder.join("pytest.ini"), PYTEST_INI).map_err(describe)?;
    let settings = text("host.toml")?.replace("FOLDER", &folder.to_string_lossy());
    fs::write(folder.join("host.toml"), settings).map_err(describe)?;
    let plugin = folder.join("plugins/integration");
    fs::create_dir_all(&plugin).map_err(describe)?;
    fs::create_dir_all(folder.join(FILES)).map_err(describe)?;
    for (from, to) in [
        (ours.join("tests.txt"), folder.join("tests.txt")),
        (ours.join("plugin/plugin.toml"), plugin.join("plugin.toml")),
        (ours.join("plugin/integration.wasm"), plugin.join("integration.wasm")),
    ] {
        fs::copy(&from, to).map_err(|error| format!("copy {}: {error}", from.display()))?;
    }
    Ok(())
}

/// True if the list has tests of this file. The others stay away: some need servers that nobody starts.
fn listed(list: &str, file: &str) -> bool {
    let mut lines = list.lines().filter(|line| !line.starts_with('#'));
    lines.any(|line| line.split_whitespace().nth(1).is_some_and(|test| test.starts_with(file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_listed_by_its_tests() {
        let list = "# test_b.py::test\nrun   test_a.py::test_x::test_y\nnever test_c.py::test_z  # why\n";
        let found = ["test_a.py", "test_b.py", "test_c.py"].map(|file| listed(list, file));
        assert_eq!(found, [true, false, true]);
    }
}
