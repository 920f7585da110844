//! `wasi:filesystem` in place of wasmtime's own: the same, but what is done in a scratch folder is counted, and
//! pipes and devices are not opened.
//!
//! Handles that lead elsewhere pass through. Between a scratch folder and another no file is moved or linked:
//! they are different file systems, as far as the guest can tell.

use std::io::{Error, ErrorKind};
use std::sync::Arc;

use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::filesystem::{Descriptor, WasiFilesystemCtxView, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::filesystem::types::{
    Advice, DescriptorFlags, DescriptorStat, DescriptorType, DirectoryEntry, DirectoryEntryStream, ErrorCode, Filesize,
    Host, HostDescriptor, HostDirectoryEntryStream, MetadataHashValue, NewTimestamp, OpenFlags, PathFlags,
};
use wasmtime_wasi::p2::bindings::filesystem::{preopens, types};
use wasmtime_wasi::p2::{DynInputStream, DynOutputStream, FsError, FsResult};

use super::ledger::{Full, Key};
use super::stream::{Place, QuotaStream};
use super::{GUEST_PATH, Handle, Scratch};
use crate::instance::Guest;

/// Takes the place of what is linked already.
pub(crate) fn link(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    types::add_to_linker::<Guest, Layer>(linker, view)?;
    preopens::add_to_linker::<Guest, Layer>(linker, view)
}

struct Layer;

impl HasData for Layer {
    type Data<'a> = View<'a>;
}

struct View<'a> {
    fs: WasiFilesystemCtxView<'a>,
    /// None, if this attempt has none.
    scratch: Option<Arc<Scratch>>,
}

fn view(guest: &mut Guest) -> View<'_> {
    let scratch = guest.scratch();
    View { fs: guest.filesystem(), scratch }
}

type Fd = Resource<Descriptor>;

/// The same handle once more, for one more call.
fn again(fd: &Fd) -> Fd {
    Resource::new_borrow(fd.rep())
}

impl View<'_> {
    /// The scratch folder, if this leads into it, and to what.
    fn inside(&self, fd: &Fd) -> Option<(Arc<Scratch>, Handle)> {
        let scratch = self.scratch.as_ref()?;
        let handle = scratch.state().handles.get(&fd.rep()).copied()?;
        Some((Arc::clone(scratch), handle))
    }

    /// The same for what has to be a file.
    fn file_inside(&self, fd: &Fd) -> Option<(Arc<Scratch>, Key)> {
        match self.inside(fd)? {
            (scratch, Handle::File(key)) => Some((scratch, key)),
            (_, Handle::Folder) => None,
        }
    }

    /// The scratch folder, if both lead into it; an error if only one does.
    fn both_inside(&self, one: &Fd, other: &Fd) -> FsResult<Option<Arc<Scratch>>> {
        match (self.inside(one), self.inside(other)) {
            (Some((scratch, _)), Some(_)) => Ok(Some(scratch)),
            (None, None) => Ok(None),
            _ => Err(ErrorCode::CrossDevice.into()),
        }
    }

    /// What has this name, if anything has: a file by its key, or something else.
    async fn look(&mut self, folder: &Fd, path: &str, flags: PathFlags) -> Option<Handle> {
        let stat = self.fs.stat_at(again(folder), flags, path.to_owned()).await.ok()?;
        if stat.type_ != DescriptorType::RegularFile {
            return Some(Handle::Folder);
        }
        let hash = self.fs.metadata_hash_at(again(folder), flags, path.to_owned()).await.ok()?;
        Some(Handle::File(hash.lower))
    }

    /// Lets nothing be opened that is neither a file nor a folder. Whoever opens a pipe that nobody writes to waits
    /// until somebody does, in a thread that nothing can stop; and a device is no file.
    async fn check_kind(&mut self, folder: &Fd, path: &str, flags: PathFlags) -> FsResult<()> {
        match self.fs.stat_at(again(folder), flags, path.to_owned()).await {
            Ok(stat) => match stat.type_ {
                DescriptorType::RegularFile | DescriptorType::Directory | DescriptorType::SymbolicLink => Ok(()),
                _ => Err(ErrorCode::NotPermitted.into()),
            },
            // Opening it says why.
            Err(_) => Ok(()),
        }
    }

    /// Makes a name, if there is room for one.
    fn check_entry(scratch: &Scratch) -> FsResult<()> {
        let room = scratch.state().ledger.room_for_entry();
        room.map_err(|full| refuse(scratch, full))
    }

    /// How long the file is now.
    fn measure(&mut self, scratch: &Scratch, fd: &Fd, key: Key) {
        let Ok(Descriptor::File(file)) = self.fs.table.get(fd) else { return };
        // Without an answer it keeps the room that it took.
        let Ok(meta) = file.file.metadata() else { return };
        scratch.state().ledger.measured(key, meta.len());
    }

    /// Puts the counting stream in the place of wasmtime's.
    fn count(
        &mut self,
        fd: &Fd,
        stream: Resource<DynOutputStream>,
        place: Place,
    ) -> FsResult<Resource<DynOutputStream>> {
        let Some((scratch, key)) = self.file_inside(fd) else { return Ok(stream) };
        let Descriptor::File(file) = self.fs.table.get(fd)? else { return Err(ErrorCode::BadDescriptor.into()) };
        let file = Arc::clone(&file.file);
        let inner = self.fs.table.delete(stream)?;
        let counting: DynOutputStream = Box::new(QuotaStream::new(inner, scratch, file, key, place));
        Ok(self.fs.table.push(counting)?)
    }
}

fn refuse(scratch: &Scratch, full: Full) -> FsError {
    scratch.remark(full);
    ErrorCode::Quota.into()
}

impl preopens::Host for View<'_> {
    fn get_directories(&mut self) -> wasmtime::Result<Vec<(Fd, String)>> {
        let folders = preopens::Host::get_directories(&mut self.fs)?;
        if let Some(scratch) = &self.scratch {
            for (fd, _) in folders.iter().filter(|(_, path)| path == GUEST_PATH) {
                scratch.state().handles.insert(fd.rep(), Handle::Folder);
            }
        }
        Ok(folders)
    }
}

impl Host for View<'_> {
    fn convert_error_code(&mut self, error: FsError) -> wasmtime::Result<ErrorCode> {
        self.fs.convert_error_code(error)
    }

    fn filesystem_error_code(&mut self, error: Resource<wasmtime::Error>) -> wasmtime::Result<Option<ErrorCode>> {
        let cause = self.fs.table.get(&error)?.downcast_ref::<Error>();
        match cause.is_some_and(|cause| cause.kind() == ErrorKind::QuotaExceeded) {
            true => Ok(Some(ErrorCode::Quota)),
            false => self.fs.filesystem_error_code(error),
        }
    }
}

impl HostDescriptor for View<'_> {
    async fn write(&mut self, fd: Fd, bytes: Vec<u8>, offset: Filesize) -> FsResult<Filesize> {
        let Some((scratch, key)) = self.file_inside(&fd) else { return self.fs.write(fd, bytes, offset).await };
        let end = offset.saturating_add(bytes.len() as u64);
        let reserved = scratch.state().ledger.reserve(key, end);
        reserved.map_err(|full| refuse(&scratch, full))?;
        let written = self.fs.write(again(&fd), bytes, offset).await;
        self.measure(&scratch, &fd, key);
        written
    }

    fn write_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.fs.write_via_stream(again(&fd), offset)?;
        self.count(&fd, stream, Place::At(offset))
    }

    fn append_via_stream(&mut self, fd: Fd) -> FsResult<Resource<DynOutputStream>> {
        let stream = self.fs.append_via_stream(again(&fd))?;
        self.count(&fd, stream, Place::End)
    }

    async fn set_size(&mut self, fd: Fd, size: Filesize) -> FsResult<()> {
        let Some((scratch, key)) = self.file_inside(&fd) else { return self.fs.set_size(fd, size).await };
        let reserved = scratch.state().ledger.reserve(key, size);
        reserved.map_err(|full| refuse(&scratch, full))?;
        let set = self.fs.set_size(again(&fd), size).await;
        self.measure(&scratch, &fd, key);
        set
    }

    async fn open_at(
        &mut self,
        fd: Fd,
        path_flags: PathFlags,
        path: String,
        open_flags: OpenFlags,
        flags: DescriptorFlags,
    ) -> FsResult<Fd> {
        let Some((scratch, _)) = self.inside(&fd) else {
            self.check_kind(&fd, &path, path_flags).await?;
            return self.fs.open_at(fd, path_flags, path, open_flags, flags).await;
        };
        if open_flags.contains(OpenFlags::CREATE) && self.look(&fd, &path, path_flags).await.is_none() {
            Self::check_entry(&scratch)?;
        }
        let opened = self.fs.open_at(fd, path_flags, path, open_flags, flags).await?;
        let Descriptor::File(file) = self.fs.table.get(&opened)? else {
            scratch.state().handles.insert(opened.rep(), Handle::Folder);
            return Ok(opened);
        };
        let open = Arc::downgrade(&file.file);
        let key = self.fs.metadata_hash(again(&opened)).await?.lower;
        {
            let mut state = scratch.state();
            state.ledger.opened(key, open);
            state.handles.insert(opened.rep(), Handle::File(key));
        }
        if open_flags.contains(OpenFlags::TRUNCATE) {
            self.measure(&scratch, &opened, key);
        }
        Ok(opened)
    }

    async fn create_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let Some((scratch, _)) = self.inside(&fd) else { return self.fs.create_directory_at(fd, path).await };
        Self::check_entry(&scratch)?;
        self.fs.create_directory_at(fd, path).await?;
        scratch.state().ledger.entered();
        Ok(())
    }

    async fn symlink_at(&mut self, fd: Fd, old_path: String, new_path: String) -> FsResult<()> {
        let Some((scratch, _)) = self.inside(&fd) else { return self.fs.symlink_at(fd, old_path, new_path).await };
        Self::check_entry(&scratch)?;
        self.fs.symlink_at(fd, old_path, new_path).await?;
        scratch.state().ledger.entered();
        Ok(())
    }

    async fn link_at(
        &mut self,
        fd: Fd,
        old_flags: PathFlags,
        old_path: String,
        new_fd: Fd,
        new_path: String,
    ) -> FsResult<()> {
        let Some(scratch) = self.both_inside(&fd, &new_fd)? else {
            return self.fs.link_at(fd, old_flags, old_path, new_fd, new_path).await;
        };
        Self::check_entry(&scratch)?;
        let linked = self.look(&fd, &old_path, old_flags).await;
        self.fs.link_at(fd, old_flags, old_path, new_fd, new_path).await?;
        match linked {
            Some(Handle::File(key)) => scratch.state().ledger.linked(key),
            _ => scratch.state().ledger.entered(),
        }
        Ok(())
    }

    async fn rename_at(&mut self, fd: Fd, old_path: String, new_fd: Fd, new_path: String) -> FsResult<()> {
        let Some(scratch) = self.both_inside(&fd, &new_fd)? else {
            return self.fs.rename_at(fd, old_path, new_fd, new_path).await;
        };
        let moved = self.look(&fd, &old_path, PathFlags::empty()).await;
        let replaced = self.look(&new_fd, &new_path, PathFlags::empty()).await;
        let (fd, new) = (again(&fd), again(&new_fd));
        self.fs.rename_at(again(&fd), old_path.clone(), new_fd, new_path.clone()).await?;
        let mut name_went = replaced.is_some();
        if let (Some(Handle::File(_)), true) = (moved, moved == replaced) {
            // Two names of one file stay as they are, and so does one name.
            name_went = false;
        } else if moved == Some(Handle::Folder) && replaced == Some(Handle::Folder) {
            // Folders and links: one to itself is no less than before.
            name_went = self.look(&fd, &old_path, PathFlags::empty()).await.is_none()
                || self.look(&new, &new_path, PathFlags::empty()).await.is_none();
        }
        if name_went {
            match replaced {
                Some(Handle::File(key)) => scratch.state().ledger.unlinked(key),
                _ => scratch.state().ledger.left(),
            }
        }
        Ok(())
    }

    async fn unlink_file_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let Some((scratch, _)) = self.inside(&fd) else { return self.fs.unlink_file_at(fd, path).await };
        let removed = self.look(&fd, &path, PathFlags::empty()).await;
        self.fs.unlink_file_at(fd, path).await?;
        match removed {
            Some(Handle::File(key)) => scratch.state().ledger.unlinked(key),
            Some(Handle::Folder) => scratch.state().ledger.left(),
            None => {}
        }
        Ok(())
    }

    async fn remove_directory_at(&mut self, fd: Fd, path: String) -> FsResult<()> {
        let inside = self.inside(&fd);
        self.fs.remove_directory_at(fd, path).await?;
        if let Some((scratch, _)) = inside {
            scratch.state().ledger.left();
        }
        Ok(())
    }

    fn drop(&mut self, fd: Fd) -> wasmtime::Result<()> {
        if let Some(scratch) = &self.scratch {
            scratch.state().handles.remove(&fd.rep());
        }
        HostDescriptor::drop(&mut self.fs, fd)
    }

    // The rest changes nothing that is counted.

    fn read_via_stream(&mut self, fd: Fd, offset: Filesize) -> FsResult<Resource<DynInputStream>> {
        self.fs.read_via_stream(fd, offset)
    }

    async fn advise(&mut self, fd: Fd, offset: Filesize, length: Filesize, advice: Advice) -> FsResult<()> {
        self.fs.advise(fd, offset, length, advice).await
    }

    async fn sync_data(&mut self, fd: Fd) -> FsResult<()> {
        self.fs.sync_data(fd).await
    }

    async fn sync(&mut self, fd: Fd) -> FsResult<()> {
        self.fs.sync(fd).await
    }

    async fn get_flags(&mut self, fd: Fd) -> FsResult<DescriptorFlags> {
        self.fs.get_flags(fd).await
    }

    async fn get_type(&mut self, fd: Fd) -> FsResult<DescriptorType> {
        self.fs.get_type(fd).await
    }

    async fn set_times(&mut self, fd: Fd, accessed: NewTimestamp, modified: NewTimestamp) -> FsResult<()> {
        self.fs.set_times(fd, accessed, modified).await
    }

    async fn set_times_at(
        &mut self,
        fd: Fd,
        flags: PathFlags,
        path: String,
        accessed: NewTimestamp,
        modified: NewTimestamp,
    ) -> FsResult<()> {
        self.fs.set_times_at(fd, flags, path, accessed, modified).await
    }

    async fn read(&mut self, fd: Fd, length: Filesize, offset: Filesize) -> FsResult<(Vec<u8>, bool)> {
        self.fs.read(fd, length, offset).await
    }

    async fn read_directory(&mut self, fd: Fd) -> FsResult<Resource<DirectoryEntryStream>> {
        self.fs.read_directory(fd).await
    }

    async fn stat(&mut self, fd: Fd) -> FsResult<DescriptorStat> {
        self.fs.stat(fd).await
    }

    async fn stat_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<DescriptorStat> {
        self.fs.stat_at(fd, flags, path).await
    }

    async fn readlink_at(&mut self, fd: Fd, path: String) -> FsResult<String> {
        self.fs.readlink_at(fd, path).await
    }

    async fn is_same_object(&mut self, one: Fd, other: Fd) -> wasmtime::Result<bool> {
        self.fs.is_same_object(one, other).await
    }

    async fn metadata_hash(&mut self, fd: Fd) -> FsResult<MetadataHashValue> {
        self.fs.metadata_hash(fd).await
    }

    async fn metadata_hash_at(&mut self, fd: Fd, flags: PathFlags, path: String) -> FsResult<MetadataHashValue> {
        self.fs.metadata_hash_at(fd, flags, path).await
    }
}

impl HostDirectoryEntryStream for View<'_> {
    async fn read_directory_entry(
        &mut self,
        stream: Resource<DirectoryEntryStream>,
    ) -> FsResult<Option<DirectoryEntry>> {
        self.fs.read_directory_entry(stream).await
    }

    fn drop(&mut self, stream: Resource<DirectoryEntryStream>) -> wasmtime::Result<()> {
        HostDirectoryEntryStream::drop(&mut self.fs, stream)
    }
}
