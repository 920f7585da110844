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
use crate::archive::{self, create_dir, output};
use crate::cache;

pub(crate) const TARGET: &str = "wasm32-wasip2";

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
    } else if let Some(lacking) = archive::lacking() {
        lacking
    } else {
        return Ok(());
    };
    let toolchain = active.sysroot.display();
    Err(format!("the Rust toolchain in {toolchain} has no standard library for {TARGET}, and {problem}.\n{ADVICE}"))
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
    let packages = archive::download(&prefix.join("apt"), &["rustc", "libstd-rust-dev-wasm32"], packages)
        .map_err(|message| format!("cannot fetch Debian's rustc: {message}"))?;
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
    let is_compiler = |name: &str| {
        COMPILER.iter().any(|start| name.starts_with(start)) || (name.starts_with("libgcc-") && name.ends_with("-dev"))
    };
    archive::installed(plan).filter(|name| !is_compiler(name)).collect()
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
