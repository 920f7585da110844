//! Tells whether anything has changed that a component is made from, for tools that never make the same twice.
//!
//! Guards against nothing but changes: whoever can write into a project can write its component as well.

use std::fs;
use std::hash::{DefaultHasher, Hasher};
use std::path::Path;

/// Folders and files that say nothing about the component.
const LEFT_OUT: [&str; 6] = ["venv", "tests", "node_modules", "target", "__pycache__", "dist"];
const LEFT_OUT_ENDINGS: [&str; 5] = ["wasm", "db", "db-shm", "db-wal", "log"];

/// Of everything that was added.
#[derive(Default)]
pub(crate) struct Fingerprint(DefaultHasher);

impl Fingerprint {
    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    /// A file, or all files of a folder but those that tools and workers make.
    pub(crate) fn files(&mut self, path: &Path) -> std::io::Result<()> {
        if path.is_file() {
            self.text(&path.file_name().unwrap_or_default().to_string_lossy());
            self.bytes(&fs::read(path)?);
            return Ok(());
        }
        let mut entries = fs::read_dir(path)?.collect::<Result<Vec<_>, _>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
            if !name.starts_with('.') && !LEFT_OUT.contains(&&*name) && !LEFT_OUT_ENDINGS.contains(&ending) {
                self.text(&name);
                self.files(&entry.path())?;
            }
        }
        // Else a file could move from the end of one folder to the beginning of the next.
        self.0.write_u8(0);
        Ok(())
    }

    /// The names of what is in a folder, if it is there.
    pub(crate) fn names(&mut self, folder: &Path) {
        let entries = fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names.iter().for_each(|name| self.text(name));
    }

    pub(crate) fn finish(&self) -> String {
        format!("{:016x}", self.0.finish())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.write_usize(bytes.len());
        self.0.write(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_count_and_what_tools_make_does_not() {
        let dir = crate::build::testing::project("python", &["app.py", "shop/__init__.py", "shop/prices.json"]);
        let of = || {
            let mut fingerprint = Fingerprint::default();
            fingerprint.files(dir.path()).unwrap();
            fingerprint.finish()
        };
        let first = of();
        for made in [".taskhost/x", "host.db", "images.wasm", "__pycache__/app.pyc"] {
            fs::create_dir_all(dir.path().join(made).parent().unwrap()).unwrap();
            fs::write(dir.path().join(made), "made").unwrap();
        }
        assert_eq!(of(), first);
        fs::write(dir.path().join("shop/prices.json"), "{}").unwrap();
        let second = of();
        assert_ne!(second, first);
        fs::rename(dir.path().join("shop/prices.json"), dir.path().join("shop/price.json")).unwrap();
        assert_ne!(of(), second);
    }
}
