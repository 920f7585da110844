//! Finds or makes a Rust compiler that can build components for `wasm32-wasip2`.
//!
//! First choice is the active toolchain, if its user has added the target. Otherwise Debian's prebuilt
//! standard library is unpacked, with the rustc it belongs to, into a private folder of the cache.
//! Nothing is installed on the machine, and rustup is never asked to download.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::time::Instant;

use crate::Result;
use crate::cache;
use crate::debian;

pub(crate) const TARGET: &str = "wasm32-wasip2";

/// Testing comes first, since it holds still for longer; either carries the package.
const SUITES: [&str; 2] = ["forky", "sid"];
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const ADVICE: &str = "With rustup: `rustup target add wasm32-wasip2`, then try again.";

/// A compiler for [`TARGET`] and where its linkers are.
pub(crate) struct Toolchain {
    pub(crate) rustc: PathBuf,
    pub(crate) version: String,
    pub(crate) linkers: Vec<PathBuf>,
}

impl Toolchain {
    /// Finds the toolchain, or makes it, which takes about half a minute the first time.
    pub(crate) fn obtain() -> Result<Toolchain> {
        let active = Active::find()?;
        let linkers = vec![active.linkers(), active.linkers().join("gcc-ld")];
        let rustc = if has_std(&active.sysroot) {
            active.rustc.clone()
        } else {
            let prefix = cache::folder()?.join("wasm-toolchain");
            debian(&prefix, &active)?
        };
        let version = output(Command::new(&rustc).arg("--version"))?.trim().to_owned();
        Ok(Toolchain { rustc, version, linkers })
    }

    /// `PATH` with the linkers in front.
    pub(crate) fn path(&self) -> OsString {
        let inherited = env::var_os("PATH").unwrap_or_default();
        let all = self.linkers.iter().cloned().chain(env::split_paths(&inherited));
        env::join_paths(all).unwrap_or(inherited)
    }
}

/// Makes a command independent of the cargo and rustup that started us: their settings are for this
/// machine's code, not for guests. What concerns the network and the place of downloads stays.
pub(crate) fn isolate(command: &mut Command) {
    const KEPT: [&str; 7] =
        ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTR", "CARGO_SOURCE_", "CARGO_TERM_", "RUSTUP_HOME"];
    for (name, _) in env::vars_os() {
        let Some(text) = name.to_str() else { continue };
        let ours = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS", "RUSTUP_"].iter().any(|start| text.starts_with(start));
        if ours && !KEPT.iter().any(|start| text.starts_with(start)) {
            command.env_remove(&name);
        }
    }
    // `cargo run` points this at its own libraries, which another rustc must not load.
    command.env_remove("LD_LIBRARY_PATH");
    command.env("RUSTUP_AUTO_INSTALL", "0");
}

/// The rustc that cargo would use now.
struct Active {
    rustc: PathBuf,
    sysroot: PathBuf,
    host: String,
}

impl Active {
    fn find() -> Result<Active> {
        let chosen = env::var_os("RUSTC");
        let rustc = chosen.clone().unwrap_or_else(|| "rustc".into());
        let run = |arguments: &[&str]| {
            output(Command::new(&rustc).args(arguments).env("RUSTUP_AUTO_INSTALL", "0").env_remove("LD_LIBRARY_PATH"))
        };
        let sysroot = PathBuf::from(run(&["--print", "sysroot"])?.trim());
        let details = run(&["--version", "--verbose"])?;
        let host = details.lines().find_map(|line| line.strip_prefix("host: "));
        let host = host.ok_or_else(|| format!("`rustc -vV` names no host: {details}"))?.to_owned();
        // rustup's proxy would choose again, in the folder of the guest.
        let own = sysroot.join("bin").join(format!("rustc{}", env::consts::EXE_SUFFIX));
        let rustc = if chosen.is_none() && own.exists() { own } else { rustc.into() };
        Ok(Active { rustc, sysroot, host })
    }

    /// rustup's toolchains carry `rust-lld`, `wasm-component-ld` and `gcc-ld/wasm-ld` here.
    fn linkers(&self) -> PathBuf {
        self.sysroot.join("lib").join("rustlib").join(&self.host).join("bin")
    }
}

fn has_std(sysroot: &Path) -> bool {
    let libraries = sysroot.join("lib").join("rustlib").join(TARGET).join("lib");
    let Ok(entries) = fs::read_dir(libraries) else { return false };
    entries.flatten().any(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })
}

/// Debian's rustc and standard library under `prefix`, made now if they are not there yet.
fn debian(prefix: &Path, active: &Active) -> Result<PathBuf> {
    let rustc = prefix.join("bin/rustc");
    if rustc.exists() {
        return Ok(rustc);
    }
    check_machine(active)?;
    let parent = prefix.parent().expect("a cache folder has a parent");
    let _lock = cache::lock(&prefix.with_extension("lock"), "the wasm toolchain")?;
    if rustc.exists() {
        return Ok(rustc); // made by the process that held the lock
    }
    remove_leftovers(parent);
    let started = Instant::now();
    progress(&format!("{TARGET} is not in the active toolchain; fetching Debian's prebuilt one (once, about 200 MB)"));
    let temporary = parent.join(format!("wasm-toolchain.tmp.{}", process::id()));
    create_dir(&temporary)?;
    let made = make(&temporary);
    if let Err(message) = made {
        let _ = fs::remove_dir_all(&temporary);
        return Err(format!("{message}\n{ADVICE}"));
    }
    let _ = fs::remove_dir_all(prefix); // an incomplete one, whose rustc someone deleted
    fs::rename(&temporary, prefix)
        .map_err(|error| format!("rename {} to {}: {error}", temporary.display(), prefix.display()))?;
    progress(&format!("ready in {} s: {}", started.elapsed().as_secs(), prefix.display()));
    Ok(rustc)
}

fn check_machine(active: &Active) -> Result<()> {
    let problem = if !cfg!(target_os = "linux") {
        "it can be fetched only on Debian and its relatives"
    } else if !active.linkers().join("wasm-component-ld").exists() {
        "it has no wasm-component-ld either, which toolchains of rustup carry"
    } else if !in_path("apt-get") || !in_path("dpkg-deb") {
        "there is no apt-get and dpkg-deb to fetch it with"
    } else if !Path::new(KEYRING).exists() {
        "there is no keyring of Debian (package debian-archive-keyring) to check it with"
    } else {
        return Ok(());
    };
    let toolchain = active.sysroot.display();
    Err(format!("the Rust toolchain in {toolchain} has no standard library for {TARGET}, and {problem}.\n{ADVICE}"))
}

fn in_path(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// What an interrupted process left behind; the caller holds the lock, so nobody works in there.
fn remove_leftovers(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with("wasm-toolchain.tmp.") {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

/// Fetches, unpacks and tries; `prefix` may be renamed afterwards.
fn make(prefix: &Path) -> Result<()> {
    let root = prefix.join("root");
    create_dir(&root)?;
    let suites = match env::var("TASKHOST_DEBIAN_SUITE") {
        Ok(suite) => vec![suite],
        Err(_) => SUITES.map(str::to_owned).to_vec(),
    };
    let mut failures = Vec::new();
    let mut packages = None;
    for suite in &suites {
        match download(&prefix.join("apt"), suite) {
            Ok(found) => {
                packages = Some(found);
                break;
            }
            Err(message) => failures.push(format!("{suite}: {message}")),
        }
    }
    let packages = packages.ok_or_else(|| format!("cannot fetch Debian's rustc: {}", failures.join("; ")))?;
    progress(&format!("unpacking {} packages", packages.len()));
    for package in packages {
        output(Command::new("dpkg-deb").arg("--extract").arg(package).arg(&root))?;
    }
    remove_dir(&prefix.join("apt"))?;
    remove_dir(&root.join("usr/share"))?;
    write_wrapper(prefix)?;
    let rustc = prefix.join("bin/rustc");
    let sysroot = output(Command::new(&rustc).args(["--print", "sysroot"]).env_remove("LD_LIBRARY_PATH"))?;
    if !has_std(Path::new(sysroot.trim())) {
        return Err(format!("Debian's rustc in {} has no {TARGET}", sysroot.trim()));
    }
    Ok(())
}

/// Downloads rustc, the standard library and the libraries it runs on, with an apt of our own.
fn download(apt: &Path, suite: &str) -> Result<Vec<PathBuf>> {
    let _ = fs::remove_dir_all(apt);
    for folder in ["lists/partial", "cache/archives/partial", "debs"] {
        create_dir(&apt.join(folder))?;
    }
    let architecture = output(Command::new("dpkg").arg("--print-architecture"))?;
    let source = format!("deb [arch={} signed-by={KEYRING}] {} {suite} main\n", architecture.trim(), mirror()?);
    for (name, content) in [("sources.list", source.as_str()), ("status", "")] {
        let path = apt.join(name);
        fs::write(&path, content).map_err(|error| format!("write {}: {error}", path.display()))?;
    }
    let apt_get = || {
        let mut command = Command::new("apt-get");
        let folder = apt.display();
        for option in [
            format!("Dir::Etc::sourcelist={folder}/sources.list"),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            "Dir::Etc::preferencesparts=/dev/null".to_owned(),
            format!("Dir::State={folder}"),
            format!("Dir::State::lists={folder}/lists"),
            format!("Dir::State::status={folder}/status"),
            format!("Dir::Cache={folder}/cache"),
            "APT::Get::List-Cleanup=0".to_owned(),
            "APT::Sandbox::User=".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::Retries=3".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.env("LC_ALL", "C");
        command
    };
    output(apt_get().args(["-qq", "update"]))?;
    let plan = output(apt_get().args(["-s", "--no-install-recommends", "install", "rustc", "libstd-rust-dev-wasm32"]))?;
    let names = packages(&plan);
    progress(&format!("downloading {} packages of Debian {suite}", names.len()));
    let debs = apt.join("debs");
    output(apt_get().args(["-qq", "download"]).args(&names).current_dir(&debs))?;
    let entries = fs::read_dir(&debs).map_err(|error| format!("read {}: {error}", debs.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

/// The archive that this machine uses already, whatever its address.
fn mirror() -> Result<String> {
    if let Ok(mirror) = env::var("TASKHOST_DEBIAN_MIRROR") {
        return Ok(mirror);
    }
    debian::ensure_lists()?;
    let format = "$(REPO_URI) $(COMPONENT) $(ORIGIN)";
    let targets = output(Command::new("apt-get").args(["indextargets", "--format", format])).unwrap_or_default();
    for line in targets.lines() {
        let mut words = line.split_whitespace();
        let (Some(uri), Some("main"), Some("Debian")) = (words.next(), words.next(), words.next()) else { continue };
        if !uri.contains("security") {
            return Ok(uri.to_owned());
        }
    }
    Err(format!("apt knows no archive of Debian: name one with TASKHOST_DEBIAN_MIRROR. {ADVICE}"))
}

/// What apt would install, without the C compiler: the machine's own links build scripts.
fn packages(plan: &str) -> Vec<&str> {
    const COMPILER: [&str; 22] = [
        "binutils",
        "cpp",
        "gcc",
        "libasan",
        "libatomic",
        "libbinutils",
        "libc-dev-bin",
        "libc-gconv",
        "libc6-dev",
        "libcc1",
        "libctf",
        "libgomp",
        "libgprofng",
        "libhwasan",
        "libisl",
        "libitm",
        "liblsan",
        "libmp",
        "libquadmath",
        "libtsan",
        "libubsan",
        "linux-libc-dev",
    ];
    let installed = plan.lines().filter_map(|line| line.strip_prefix("Inst ")?.split([' ', ':']).next());
    let is_compiler = |name: &str| {
        COMPILER.iter().any(|start| name.starts_with(start)) || (name.starts_with("libgcc-") && name.ends_with("-dev"))
    };
    installed.filter(|name| !is_compiler(name)).collect()
}

/// Debian's rustc needs a newer libc than this machine may have, so it runs through the unpacked loader.
fn write_wrapper(prefix: &Path) -> Result<()> {
    let triplet = format!("{}-linux-gnu", env::consts::ARCH);
    let loader = format!("ld-linux-{}.so", env::consts::ARCH.replace('_', "-"));
    let libraries = format!("root/usr/lib/{triplet}");
    let loader = [&*libraries, "root/usr/lib64", "root/lib64", "root/usr/lib", "root/lib"].iter().find_map(|folder| {
        let entries = fs::read_dir(prefix.join(folder)).ok()?;
        let name = entries
            .flatten()
            .map(|entry| entry.file_name())
            .find(|name| name.to_string_lossy().starts_with(&loader))?;
        Some(format!("{folder}/{}", name.to_string_lossy()))
    });
    let loader = loader.ok_or_else(|| format!("no loader for {triplet} in Debian's libc6"))?;
    let script = format!(
        "#!/bin/sh\np=${{0%/*}}/..\nexec \"$p/{loader}\" --library-path \"$p/{libraries}\" \"$p/root/usr/bin/rustc\" \"$@\"\n"
    );
    create_dir(&prefix.join("bin"))?;
    let path = prefix.join("bin/rustc");
    fs::write(&path, script).map_err(|error| format!("write {}: {error}", path.display()))?;
    output(Command::new("chmod").arg("755").arg(&path)).map(drop)
}

/// Runs a command to its end and gives what it printed; what it complained about becomes the error.
fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("start `{name}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{name}` ended with {}: {}", output.status, complaint.trim()))
}

fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).map_err(|error| format!("create {}: {error}", path.display()))
}

fn remove_dir(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if path.exists() => Err(format!("remove {}: {error}", path.display())),
        _ => Ok(()),
    }
}

fn progress(message: &str) {
    eprintln!("plugins: {message}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_c_compiler_is_left_out() {
        let plan = "\
NOTE: This is only a simulation!
Inst gcc-16-base (16.2.0-3 Debian:testing [amd64])
Inst libgcc-s1:amd64 (16.2.0-3 Debian:testing [amd64]) []
Inst libc6 (2.43-7 Debian:testing [amd64])
Inst libc6-dev (2.43-7 Debian:testing [amd64])
Inst libgcc-16-dev (16.2.0-3 Debian:testing [amd64])
Inst libstd-rust-dev-wasm32 (1.97.1+dfsg1-1 Debian:testing [all])
Inst rustc [1.63] (1.97.1+dfsg1-1 Debian:testing [amd64])
Conf rustc (1.97.1+dfsg1-1 Debian:testing [amd64])";
        assert_eq!(packages(plan), ["libgcc-s1", "libc6", "libstd-rust-dev-wasm32", "rustc"]);
    }
}
