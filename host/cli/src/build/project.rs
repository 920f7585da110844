//! A plugin's project: the folder with `plugin.toml`, its sources, and where the component goes.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};

use super::embedded;
use super::language::Language;
use super::settings::{self, Settings};
use crate::exit::Failure;

/// The file that makes a folder a project.
pub(crate) const MANIFEST: &str = "plugin.toml";

/// What lies between sources and component, and only this program needs.
const SCRATCH: &str = ".taskhost";

/// Where `host plugin new` puts the SDK.
const SDK: &str = "sdk";

/// A project whose manifest is in order.
#[derive(Debug)]
pub(crate) struct Project {
    /// Absolute.
    pub(crate) dir: PathBuf,
    pub(crate) name: String,
    /// Where the component goes: a file beside the manifest.
    pub(crate) component: PathBuf,
    pub(crate) language: Language,
    pub(crate) settings: Settings,
}

impl Project {
    /// Reads what there is to know before anything is built.
    pub(crate) fn open(dir: &Path) -> Result<Self, Failure> {
        let manifest = dir.join(MANIFEST);
        if !manifest.is_file() {
            let error = if dir.is_dir() {
                anyhow!("{}: there is no {MANIFEST}, which makes a folder a plugin", dir.display())
            } else {
                anyhow!("{}: there is no such folder", dir.display())
            };
            return Err(Failure::usage(error).hint("`host plugin new --lang rust NAME` makes a plugin to start with"));
        }
        let dir = dir.canonicalize().with_context(|| format!("cannot open {}", dir.display()))?;
        let (name, component) = sandbox::name_and_component(&manifest).map_err(Failure::usage)?;
        let text = fs::read_to_string(&manifest).with_context(|| format!("cannot read {}", manifest.display()))?;
        let settings = settings::read(&manifest, &text).map_err(Failure::usage)?;
        let language = settings.language.map_or_else(|| Language::of(&dir), Ok)?;
        let component = dir.join(component.file_name().expect("it is a file beside the manifest"));
        Ok(Self { name: name.to_string(), component, language, settings, dir })
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.dir.join(MANIFEST)
    }

    /// The folder for what is made on the way. It exists afterwards, and no version control wants it.
    pub(crate) fn scratch(&self) -> Result<PathBuf, Failure> {
        let folder = self.dir.join(SCRATCH);
        embedded::write(&folder.join(".gitignore"), b"*\n")?;
        Ok(folder)
    }

    /// Keeps other builds of this project waiting, until the file is dropped or this process ends.
    pub(crate) fn lock(&self, say: &mut dyn FnMut(&str)) -> Result<File, Failure> {
        let path = self.scratch()?.join("lock");
        let what = || format!("cannot lock {}", path.display());
        let file = File::create(&path).with_context(what)?;
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => say("waiting for another build of this plugin"),
            Err(TryLockError::Error(error)) => return Err(anyhow::Error::from(error).context(what()).into()),
        }
        file.lock().with_context(what)?;
        Ok(file)
    }

    /// The main source file, or what the language has for it.
    pub(crate) fn entry(&self, default: &str) -> PathBuf {
        self.settings.entry.clone().unwrap_or_else(|| default.into())
    }

    /// The folder of the SDK, which is there, as seen from the project's.
    pub(crate) fn sdk(&self) -> Result<&Path, Failure> {
        let named = self.settings.sdk.as_deref();
        let sdk = named.unwrap_or(Path::new(SDK));
        let path = self.dir.join(sdk);
        if path.is_dir() {
            return Ok(sdk);
        }
        let hint = match named {
            Some(_) => "it is named by `sdk` under [build] in plugin.toml".to_owned(),
            None => format!(
                "`host plugin new --lang {} NAME` writes one, to be copied from there; or name another folder as `sdk` under [build] \
                 in plugin.toml",
                self.language.name()
            ),
        };
        Err(Failure::from(anyhow!("the SDK is not there: no folder {}", path.display())).hint(hint))
    }

    /// A folder with the interface, written down for tools that want one.
    pub(crate) fn our_wit(&self) -> Result<PathBuf, Failure> {
        let folder = self.scratch()?.join("wit");
        embedded::write_wit(&folder)?;
        Ok(folder)
    }

    /// Everything that the component is made from, as far as it is there: files and folders.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        let mut found = vec![self.manifest()];
        for pattern in self.language.sources() {
            match (pattern.strip_prefix("*."), pattern.strip_prefix("*/*.")) {
                (Some(extension), _) => found.extend(with_extension(&self.dir, extension)),
                (None, Some(extension)) => found.extend(folders_with(&self.dir, extension)),
                (None, None) => found.push(self.dir.join(pattern)),
            }
        }
        found.push(self.dir.join(self.settings.sdk.as_deref().unwrap_or(Path::new(SDK))));
        // Of a command it is what comes out.
        let entry = self.settings.entry.iter().filter(|_| self.settings.command.is_none());
        let named = self.settings.sources.iter().chain(&self.settings.wit).chain(entry);
        found.extend(named.map(|path| self.dir.join(path)));
        found.retain(|path| path.exists());
        found.dedup();
        found
    }
}

/// The files of a folder, and not those deeper, with this ending.
pub(crate) fn with_extension(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.map(|entry| entry.path());
    let mut files: Vec<_> = files.filter(|path| path.extension().is_some_and(|found| found == extension)).collect();
    files.sort();
    files
}

/// Folders in which somewhere a file has this ending; none of those that tools make.
fn folders_with(dir: &Path, extension: &str) -> Vec<PathBuf> {
    const NOT: [&str; 5] = [SDK, "node_modules", "target", "__pycache__", "venv"];
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        entry.path().is_dir() && !name.starts_with('.') && !NOT.contains(&&*name)
    });
    let mut folders: Vec<_> = folders.map(|entry| entry.path()).collect();
    folders
        .retain(|folder| !with_extension(folder, extension).is_empty() || !folders_with(folder, extension).is_empty());
    folders.sort();
    folders
}
