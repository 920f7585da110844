//! The thread of a connection: takes files for whoever wants them, shows that we live, and gives back what others
//! had who do not.

use std::collections::HashSet;
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use taskhost_core::Publication;
use taskhost_core::protocol::envelope;
use tracing::{info, warn};

use super::consumer::aside;
use super::failure::Failure;
use super::file::{self, Look};
use super::listing::{Listing, names};
use super::owner::{self, Others};
use super::shared::{Left, Shared, Want};
use super::{folders, janitor, name, table};

/// How often we show that we live, and look at others, in the time in which we must.
const BEATS_PER_LEASE: u32 = 3;
/// How often files are looked for that nobody reads.
const JANITOR_INTERVAL: Duration = Duration::from_secs(20);
/// Most bytes that one look takes for somebody, unless a single message is larger.
const TAKE_BYTES_MAX: usize = 8 << 20;
/// Most files of which it is remembered that we may not read them.
const FORBIDDEN_MAX: usize = 1000;

/// Starts the keeper of a connection, if it does not run.
pub(super) fn start(shared: &Arc<Shared>) -> Result<(), Failure> {
    let mut started = shared.started.lock().unwrap_or_else(PoisonError::into_inner);
    if *started {
        return shared.usable();
    }
    shared.usable()?;
    owner::beat(shared, 0)?;
    let keeper = Keeper::new(Arc::clone(shared));
    std::thread::Builder::new()
        .name("folder-keeper".to_owned())
        .spawn(move || keeper.run())
        .map_err(|error| Failure::lost(error.to_string()))?;
    *started = true;
    Ok(())
}

struct Keeper {
    shared: Arc<Shared>,
    listing: Listing,
    others: Others,
    beats: u64,
    beat_at: Instant,
    poll_at: Instant,
    clean_at: Instant,
    /// There is more to do at once.
    again: bool,
    forbidden: HashSet<String>,
    /// Tells of files as long as it is there.
    _watcher: Option<RecommendedWatcher>,
}

impl Keeper {
    fn new(shared: Arc<Shared>) -> Self {
        let now = Instant::now();
        let watcher = watch(&shared);
        Self {
            shared,
            listing: Listing::new(),
            others: Others::default(),
            beats: 0,
            beat_at: now,
            poll_at: now,
            clean_at: now,
            again: false,
            forbidden: HashSet::new(),
            _watcher: watcher,
        }
    }

    fn run(mut self) {
        while !self.shared.is_closed() {
            self.shared.wait(self.pause_until());
            if let Err(failure) = self.round() {
                self.shared.close(&failure.to_string());
            }
        }
        if let Err(failure) = self.shut_down() {
            warn!(error = %failure, "cannot give back messages: {failure}; others will take them for those of a dead worker");
        }
        self.shared.end();
    }

    fn pause_until(&self) -> Instant {
        let now = Instant::now();
        if self.again {
            return now;
        }
        let due = self.shared.next_due_ms().map(|due| now + Duration::from_millis(due.saturating_sub(now_ms())));
        let poll = (!self.shared.wants().is_empty()).then_some(self.poll_at);
        [Some(self.beat_at), Some(self.clean_at), due, poll].into_iter().flatten().min().unwrap_or(self.beat_at)
    }

    fn round(&mut self) -> Result<(), Failure> {
        self.again = false;
        let shared = Arc::clone(&self.shared);
        let now = Instant::now();
        for left in shared.left(false) {
            self.give_back(left)?;
        }
        if now >= self.beat_at {
            self.beat_at = now + shared.lease / BEATS_PER_LEASE;
            self.beats += 1;
            shared.folders.check()?;
            owner::beat(&shared, self.beats)?;
            self.others.sweep(&shared, now)?;
            // Whoever makes a table empties it before it is locked: ours may have been lost in that.
            for (exchange, binding) in shared.own_bindings() {
                table::bind(&shared.folders, &exchange, &binding)?;
            }
            self.bring_due()?;
        } else if shared.next_due_ms().is_some_and(|due| due <= now_ms()) {
            self.bring_due()?;
        }
        if now >= self.clean_at {
            self.clean_at = now + JANITOR_INTERVAL;
            janitor::sweep_drafts(&shared.folders)?;
            janitor::sweep_letters(&shared.folders, &shared.broadcasts())?;
        }
        self.take()
    }

    /// Brings back what waited for its time, whoever put it there.
    fn bring_due(&mut self) -> Result<(), Failure> {
        let shared = &self.shared;
        shared.forget_due();
        let mut due = Vec::new();
        let now_ms = now_ms();
        names(&shared.folders.later, |file| match name::due(file) {
            Some((due_ms, name)) if due_ms <= now_ms => due.push((due_ms, file.to_owned(), name.to_owned())),
            Some((due_ms, _)) => shared.note_due(due_ms),
            None => {}
        })?;
        due.sort_unstable();
        for (_, file, name) in &due {
            folders::rename(&shared.folders.later.join(file), &shared.folders.inward.join(name))?;
        }
        if !due.is_empty() {
            shared.look_again();
        }
        Ok(())
    }

    /// Takes what is wanted.
    fn take(&mut self) -> Result<(), Failure> {
        let wants = self.shared.wants();
        let (fresh, mut is_stale) = self.shared.news();
        let now = Instant::now();
        if !wants.is_empty() && now >= self.poll_at {
            self.poll_at = now + self.shared.polling_interval;
            is_stale = true;
        }
        self.listing.begin(self.shared.queues(), fresh, is_stale);
        for want in wants {
            match &want.letters {
                Some(letters) => {
                    for text in self.files(&want, false)?.into_iter().map(|(_, text)| text) {
                        match envelope::decode(&text) {
                            Ok(envelope::Envelope { message, route, .. }) => {
                                letters.put(Publication { message, route })
                            }
                            Err(reason) => {
                                warn!(error = %reason, "what came by `{}` is no message ({reason})", want.queue)
                            }
                        }
                    }
                }
                None => {
                    let files = self.files(&want, true)?;
                    let unwanted = self.shared.deliver(want.id, files);
                    self.return_all(&unwanted)?;
                }
            }
        }
        Ok(())
    }

    /// Takes files of a queue. Those that are kept go to our folder, the others are gone.
    fn files(&mut self, want: &Want, keep: bool) -> Result<Vec<(String, Vec<u8>)>, Failure> {
        let shared = Arc::clone(&self.shared);
        let ours = shared.folders.owned(&shared.owner);
        let (mut files, mut bytes) = (Vec::new(), 0);
        while files.len() < want.credit && bytes < TAKE_BYTES_MAX {
            let Some(name) = self.listing.next(&shared.folders.inward, &want.queue)? else { return Ok(files) };
            let path = shared.folders.inward.join(&name);
            let file = match file::look(&path)? {
                Look::Ready(file) => file,
                Look::Gone | Look::NotYet => continue,
                Look::Forbidden(reason) => {
                    if self.forbidden.len() < FORBIDDEN_MAX && self.forbidden.insert(name) {
                        warn!("cannot read {}: {reason}; it stays where it is", path.display());
                    }
                    continue;
                }
                Look::Strange(reason) => {
                    aside(&shared.folders, &path, &name, &reason);
                    continue;
                }
            };
            // Whoever does this has it.
            let is_ours = if keep { self.claim(&path, &ours.join(&name))? } else { folders::delete(&path)? };
            if is_ours {
                let text = file::read(file, &path)?;
                bytes += text.len();
                files.push((name, text));
            }
        }
        self.again = true;
        Ok(files)
    }

    fn claim(&self, path: &std::path::Path, ours: &std::path::Path) -> Result<bool, Failure> {
        if folders::rename(path, ours)? {
            return Ok(true);
        }
        if !path.exists() {
            return Ok(false);
        }
        // Our folder is gone.
        owner::beat(&self.shared, self.beats.max(1))?;
        folders::rename(path, ours)
    }

    /// Gives back what nobody has seen.
    fn return_all(&self, names: &[String]) -> Result<(), Failure> {
        let Shared { folders, owner, .. } = &*self.shared;
        let ours = folders.owned(owner);
        for name in names {
            folders::rename(&ours.join(name), &folders.inward.join(name))?;
        }
        if !names.is_empty() {
            self.shared.look_again();
        }
        Ok(())
    }

    fn give_back(&self, left: Left) -> Result<(), Failure> {
        let Left { seen, unseen, own } = left;
        self.return_all(&unseen)?;
        let Shared { folders, owner, .. } = &*self.shared;
        let ours = folders.owned(owner);
        for name in &seen {
            file::put_marked(folders, &ours.join(name), name)?;
        }
        if !seen.is_empty() {
            self.shared.look_again();
        }
        if let Some((exchange, binding)) = own {
            owner::drop_queue(folders, &exchange, &binding)?;
            owner::record(&self.shared)?;
        }
        Ok(())
    }

    fn shut_down(&mut self) -> Result<(), Failure> {
        for left in self.shared.left(true) {
            self.give_back(left)?;
        }
        let Shared { folders, owner, .. } = &*self.shared;
        let ours = folders.owned(owner);
        for name in owner::messages(&ours)? {
            file::put_marked(folders, &ours.join(&name), &name)?;
        }
        owner::remove(&ours)
    }
}

/// Lets the file system tell of new files, where it can.
fn watch(shared: &Arc<Shared>) -> Option<RecommendedWatcher> {
    let told: Weak<Shared> = Arc::downgrade(shared);
    let watched = notify::recommended_watcher(move |event| {
        if let Some(shared) = told.upgrade() {
            hear(&shared, event);
        }
    });
    let watched = watched.and_then(|mut watcher| {
        watcher.watch(&shared.folders.inward, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    let folder = shared.folders.inward.display();
    let every = shared.polling_interval;
    watched.inspect_err(|error| info!("{folder} is looked at every {every:?}: {error}")).ok()
}

fn hear(shared: &Shared, event: notify::Result<Event>) {
    let Ok(event) = event else { return shared.look_again() };
    if event.need_rescan() {
        return shared.look_again();
    }
    // What is only made is written next.
    let is_complete = matches!(
        event.kind,
        EventKind::Access(AccessKind::Close(AccessMode::Write))
            | EventKind::Modify(ModifyKind::Name(RenameMode::To | RenameMode::Both | RenameMode::Any))
    );
    if is_complete && let Some(name) = event.paths.last().and_then(|path| path.file_name()?.to_str()) {
        shared.tell(name);
    }
}

/// Wall time, which all who share the folder have in common.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
