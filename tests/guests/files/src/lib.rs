//! Does with files what it is told, one step after the other. Errors are results here: tests want to read them.

use std::collections::HashMap;

use serde::Deserialize;
use taskhost::{TaskError, task};
use wasip2::clocks::wall_clock::Datetime;
use wasip2::filesystem::preopens;
use wasip2::filesystem::types::{
    Descriptor, DescriptorFlags, ErrorCode, NewTimestamp, OpenFlags, PathFlags, filesystem_error_code,
};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

taskhost::plugin!(run, variables);

/// A step. What is opened keeps the name that it is given until it is closed.
#[derive(Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Step {
    /// Makes the file if it is not there.
    Open {
        name: String,
        path: String,
        #[serde(default)]
        truncate: bool,
        #[serde(default)]
        follow: bool,
    },
    OpenFolder {
        name: String,
        path: String,
    },
    /// A stream into an open file, from a place or at its end.
    Stream {
        name: String,
        file: String,
        at: Option<u64>,
    },
    /// A stream out of an open file.
    Reader {
        name: String,
        file: String,
    },
    Close {
        name: String,
    },
    /// Into a file at a place, or into a stream.
    Write {
        name: String,
        bytes: usize,
        #[serde(default)]
        at: u64,
    },
    /// Into a stream, without waiting until that is done.
    WriteLater {
        name: String,
        bytes: usize,
    },
    SetSize {
        name: String,
        bytes: u64,
    },
    SetTimes {
        name: String,
        seconds: u64,
        nanoseconds: u32,
    },
    Size {
        path: String,
    },
    Read {
        path: String,
    },
    List {
        path: String,
    },
    Unlink {
        path: String,
    },
    MakeFolder {
        path: String,
    },
    RemoveFolder {
        path: String,
    },
    Link {
        from: String,
        to: String,
    },
    Rename {
        from: String,
        to: String,
    },
    Symlink {
        from: String,
        to: String,
    },
    /// Makes so many of one kind until that fails, and says how many there were.
    Many {
        kind: Kind,
        path: String,
        count: u32,
    },
    /// Writes into an open file until that fails, and says how much there was.
    Fill {
        name: String,
    },
    Say {
        text: String,
    },
    Wait {
        seconds: f64,
    },
    /// Folders in folders.
    Nest {
        path: String,
        depth: u32,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    File,
    Folder,
    Symlink,
    Link,
    /// Opened and not closed.
    Open,
}

enum Open {
    File(Descriptor),
    Writer(OutputStream),
    Reader(#[expect(dead_code, reason = "it is only held")] InputStream),
}

struct World {
    roots: Vec<(Descriptor, String)>,
    open: HashMap<String, Open>,
    /// In the order in which they were opened; closed before the files they belong to.
    kept: Vec<Descriptor>,
}

type Done = Result<String, ErrorCode>;

/// Does all steps and says what came of each.
#[task(name = "files.run")]
fn run(steps: Vec<Step>) -> Vec<String> {
    let mut world = World { roots: preopens::get_directories(), open: HashMap::new(), kept: Vec::new() };
    let told = steps.into_iter().map(|step| world.step(step).unwrap_or_else(|code| code.name().to_owned())).collect();
    // Streams go before their files.
    world.open.retain(|_, open| matches!(open, Open::File(_)));
    told
}

/// The environment, the arguments and what stdin has.
#[task(name = "files.variables")]
fn variables() -> Result<Vec<String>, TaskError> {
    let mut told: Vec<String> = std::env::vars().map(|(name, value)| format!("{name}={value}")).collect();
    told.sort();
    told.extend(std::env::args());
    told.push(std::io::read_to_string(std::io::stdin()).unwrap_or_else(|error| error.to_string()));
    Ok(told)
}

impl World {
    fn place(&self, path: &str) -> Result<(&Descriptor, String), ErrorCode> {
        let inside = |root: &str| path == root || path.starts_with(&format!("{root}/"));
        let root = self.roots.iter().find(|(_, root)| inside(root)).ok_or(ErrorCode::NoEntry)?;
        let rest = path[root.1.len()..].trim_start_matches('/');
        Ok((&root.0, if rest.is_empty() { ".".to_owned() } else { rest.to_owned() }))
    }

    fn file(&self, name: &str) -> Result<&Descriptor, ErrorCode> {
        match self.open.get(name) {
            Some(Open::File(file)) => Ok(file),
            _ => Err(ErrorCode::BadDescriptor),
        }
    }

    fn create(&self, path: &str, more: OpenFlags, follow: bool) -> Result<Descriptor, ErrorCode> {
        let (root, path) = self.place(path)?;
        let flags = if follow { PathFlags::SYMLINK_FOLLOW } else { PathFlags::empty() };
        root.open_at(flags, &path, OpenFlags::CREATE | more, DescriptorFlags::READ | DescriptorFlags::WRITE)
    }

    fn step(&mut self, step: Step) -> Done {
        match step {
            Step::Open { name, path, truncate, follow } => {
                let more = if truncate { OpenFlags::TRUNCATE } else { OpenFlags::empty() };
                let file = self.create(&path, more, follow)?;
                self.open.insert(name, Open::File(file));
            }
            Step::OpenFolder { name, path } => {
                let (root, path) = self.place(&path)?;
                let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
                let folder = root.open_at(PathFlags::empty(), &path, OpenFlags::DIRECTORY, flags)?;
                self.roots.push((folder, name));
            }
            Step::Stream { name, file, at } => {
                let file = self.file(&file)?;
                let stream = match at {
                    Some(at) => file.write_via_stream(at)?,
                    None => file.append_via_stream()?,
                };
                self.open.insert(name, Open::Writer(stream));
            }
            Step::Reader { name, file } => {
                let stream = self.file(&file)?.read_via_stream(0)?;
                self.open.insert(name, Open::Reader(stream));
            }
            Step::Close { name } => drop(self.open.remove(&name)),
            Step::Write { name, bytes, at } => match self.open.get(&name) {
                Some(Open::File(file)) => return Ok(file.write(&vec![b'x'; bytes], at)?.to_string()),
                Some(Open::Writer(stream)) => return through(stream, bytes),
                _ => return Err(ErrorCode::BadDescriptor),
            },
            Step::WriteLater { name, bytes } => match self.open.get(&name) {
                Some(Open::Writer(stream)) => stream.write(&vec![b'x'; bytes]).map_err(code)?,
                _ => return Err(ErrorCode::BadDescriptor),
            },
            Step::SetSize { name, bytes } => self.file(&name)?.set_size(bytes)?,
            Step::SetTimes { name, seconds, nanoseconds } => {
                let time = || NewTimestamp::Timestamp(Datetime { seconds, nanoseconds });
                self.file(&name)?.set_times(time(), time())?;
            }
            Step::Size { path } => {
                let (root, path) = self.place(&path)?;
                return Ok(root.stat_at(PathFlags::empty(), &path)?.size.to_string());
            }
            Step::Read { path } => {
                let (root, path) = self.place(&path)?;
                let flags = PathFlags::SYMLINK_FOLLOW;
                let file = root.open_at(flags, &path, OpenFlags::empty(), DescriptorFlags::READ)?;
                let (bytes, _) = file.read(1 << 16, 0)?;
                return Ok(String::from_utf8_lossy(&bytes).into_owned());
            }
            Step::List { path } => {
                let (root, path) = self.place(&path)?;
                let flags = DescriptorFlags::READ;
                let folder = root.open_at(PathFlags::SYMLINK_FOLLOW, &path, OpenFlags::DIRECTORY, flags)?;
                let entries = folder.read_directory()?;
                let mut names = Vec::new();
                while let Some(entry) = entries.read_directory_entry()? {
                    names.push(entry.name);
                }
                names.sort();
                return Ok(names.join(" "));
            }
            Step::Unlink { path } => {
                let (root, path) = self.place(&path)?;
                root.unlink_file_at(&path)?;
            }
            Step::MakeFolder { path } => {
                let (root, path) = self.place(&path)?;
                root.create_directory_at(&path)?;
            }
            Step::RemoveFolder { path } => {
                let (root, path) = self.place(&path)?;
                root.remove_directory_at(&path)?;
            }
            Step::Link { from, to } => {
                let ((from_root, from), (to_root, to)) = (self.place(&from)?, self.place(&to)?);
                from_root.link_at(PathFlags::empty(), &from, to_root, &to)?;
            }
            Step::Rename { from, to } => {
                let ((from_root, from), (to_root, to)) = (self.place(&from)?, self.place(&to)?);
                from_root.rename_at(&from, to_root, &to)?;
            }
            Step::Symlink { from, to } => {
                let (root, to) = self.place(&to)?;
                root.symlink_at(&from, &to)?;
            }
            Step::Say { text } => println!("{text}"),
            Step::Wait { seconds } => std::thread::sleep(std::time::Duration::from_secs_f64(seconds)),
            Step::Many { kind, path, count } => return Ok(self.many(&kind, &path, count)),
            Step::Fill { name } => return self.fill(&name),
            Step::Nest { path, depth } => {
                let (root, path) = self.place(&path)?;
                let flags = DescriptorFlags::READ | DescriptorFlags::MUTATE_DIRECTORY;
                let mut folder = root.open_at(PathFlags::empty(), &path, OpenFlags::DIRECTORY, flags)?;
                for level in 0..depth {
                    let deeper = folder
                        .create_directory_at("d")
                        .and_then(|()| folder.open_at(PathFlags::empty(), "d", OpenFlags::DIRECTORY, flags));
                    match deeper {
                        Ok(deeper) => folder = deeper,
                        Err(code) => return Ok(format!("{level} {}", code.name())),
                    }
                }
                return Ok(depth.to_string());
            }
        }
        Ok("ok".to_owned())
    }

    fn many(&mut self, kind: &Kind, path: &str, count: u32) -> String {
        for number in 0..count {
            let each = format!("{path}{number}");
            let made = match kind {
                Kind::File => self.create(&each, OpenFlags::empty(), false).map(drop),
                Kind::Open => self.create(&each, OpenFlags::empty(), false).map(|file| self.kept.push(file)),
                Kind::Folder => self.place(&each).and_then(|(root, each)| root.create_directory_at(&each)),
                Kind::Symlink => self.place(&each).and_then(|(root, each)| root.symlink_at("nowhere", &each)),
                Kind::Link => self
                    .place(path)
                    .and_then(|(root, path)| root.link_at(PathFlags::empty(), &path, root, &format!("{path}{number}"))),
            };
            if let Err(code) = made {
                return format!("{number} {}", code.name());
            }
        }
        count.to_string()
    }

    fn fill(&self, name: &str) -> Done {
        let file = self.file(name)?;
        let mut total = 0;
        loop {
            match file.write(&[b'x'; 1 << 15], total) {
                Ok(bytes) => total += bytes,
                Err(code) => return Ok(format!("{total} {}", code.name())),
            }
        }
    }
}

/// Writes in portions of what one call takes.
fn through(stream: &OutputStream, bytes: usize) -> Done {
    let mut left = bytes;
    while left > 0 {
        let portion = left.min(4096);
        stream.blocking_write_and_flush(&vec![b'x'; portion]).map_err(code)?;
        left -= portion;
    }
    Ok(bytes.to_string())
}

fn code(error: StreamError) -> ErrorCode {
    match error {
        StreamError::LastOperationFailed(error) => filesystem_error_code(&error).unwrap_or(ErrorCode::Io),
        StreamError::Closed => ErrorCode::BadDescriptor,
    }
}
