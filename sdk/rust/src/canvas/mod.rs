//! Calls of tasks, and what is composed of them: Celery's signatures, chains, groups and chords.
//!
//! Sends nothing, see [`crate::Context::publish`]; and works out no ids: the host freezes what it publishes.

mod build;
mod compose;
mod json;
#[cfg(test)]
mod tests;

use serde::Serialize;

use crate::json::Json;

pub use compose::{chain, chord, chunks, group, xmap, xstarmap};

/// A call of a task, or a canvas of several: Celery's signature.
///
/// ```
/// use taskhost::{AsyncResult, Context, Signature, TaskError, chord};
///
/// fn album(context: &Context, urls: Vec<String>) -> Result<AsyncResult, TaskError> {
///     let fetch = |url: &String| Signature::new("images.fetch").args((url,));
///     let resize = Signature::new("images.resize").args((800,)).option("queue", "images");
///     let thumbnails = urls.iter().map(|url| fetch(url) | resize.clone());
///     let album = chord(thumbnails, Signature::new("albums.bind"));
///     Ok(context.apply(&album.link_error(&Signature::new("albums.discard")))?) // once this task has succeeded
/// }
/// ```
///
/// `a | b` is the chain of both, as in Python. A task may take a signature as a parameter and return one as its
/// result: both are the map that Celery makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    task: String,
    args: Json,
    shape: Shape,
    /// Without those that hang on it.
    options: Vec<(String, Json)>,
    links: Vec<Signature>,
    errbacks: Vec<Signature>,
    immutable: bool,
    /// Members of its map that only others know.
    others: Vec<(String, Json)>,
    /// What cannot be published is told when it is used.
    broken: Option<String>,
}

/// What is particular to each kind.
#[derive(Debug, Clone, PartialEq)]
enum Shape {
    Task { kwargs: Json },
    Chain(Vec<Signature>),
    Group(Vec<Signature>),
    Chord { header: Vec<Signature>, body: Option<Box<Signature>>, others: Vec<(String, Json)> },
    Chunks { task: Box<Signature>, it: Json, n: Json },
    Map { task: Box<Signature>, it: Json },
    Starmap { task: Box<Signature>, it: Json },
}

/// What a [`Signature`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// A call of one task.
    Task,
    /// Tasks one after the other, each called with the result of the one before.
    Chain,
    /// Tasks beside each other.
    Group,
    /// Tasks beside each other, and one that is called with all of their results.
    Chord,
    /// Calls of one task, so many to a message.
    Chunks,
    /// Calls of one task in one message, each with one argument.
    Map,
    /// Calls of one task in one message, each with its list of arguments.
    Starmap,
}

impl Kind {
    const ALL: [Self; 7] = [Self::Task, Self::Chain, Self::Group, Self::Chord, Self::Chunks, Self::Map, Self::Starmap];

    /// The task that stands for it, and Celery's name of it.
    fn names(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Task => None,
            Self::Chain => Some(("celery.chain", "chain")),
            Self::Group => Some(("celery.group", "group")),
            Self::Chord => Some(("celery.chord", "chord")),
            Self::Chunks => Some(("celery.chunks", "chunks")),
            Self::Map => Some(("celery.map", "xmap")),
            Self::Starmap => Some(("celery.starmap", "xstarmap")),
        }
    }
}

impl Signature {
    /// A call of a task, without arguments.
    pub fn new(task: impl Into<String>) -> Self {
        Self::of(task.into(), Shape::Task { kwargs: Json::from_text("{}") })
    }

    fn of(task: String, shape: Shape) -> Self {
        Self {
            task,
            args: Json::from_text("[]"),
            shape,
            options: Vec::new(),
            links: Vec::new(),
            errbacks: Vec::new(),
            immutable: false,
            others: Vec::new(),
            broken: None,
        }
    }

    /// The name of the task; of a canvas the name that Celery has for it, such as `celery.chain`.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// What it is.
    pub fn kind(&self) -> Kind {
        match self.shape {
            Shape::Task { .. } => Kind::Task,
            Shape::Chain(_) => Kind::Chain,
            Shape::Group(_) => Kind::Group,
            Shape::Chord { .. } => Kind::Chord,
            Shape::Chunks { .. } => Kind::Chunks,
            Shape::Map { .. } => Kind::Map,
            Shape::Starmap { .. } => Kind::Starmap,
        }
    }

    /// The steps of a chain, the members of a group, or those of a chord's header.
    pub fn tasks(&self) -> &[Signature] {
        match &self.shape {
            Shape::Chain(tasks) | Shape::Group(tasks) | Shape::Chord { header: tasks, .. } => tasks,
            Shape::Task { .. } | Shape::Chunks { .. } | Shape::Map { .. } | Shape::Starmap { .. } => &[],
        }
    }

    /// What a chord calls with the results of its header.
    pub fn body(&self) -> Option<&Signature> {
        match &self.shape {
            Shape::Chord { body, .. } => body.as_deref(),
            _ => None,
        }
    }

    /// The steps of a chain or the members of a group; anything else is one by itself. It is what Celery makes the
    /// header of a chord of: `chord(canvas.into_tasks(), body)`.
    pub fn into_tasks(self) -> Vec<Signature> {
        match self.shape {
            Shape::Chain(tasks) | Shape::Group(tasks) => tasks,
            _ => vec![self],
        }
    }

    /// Positional arguments: a tuple or a list.
    pub fn args(mut self, args: impl Serialize) -> Self {
        if let Some(json) = self.json(&args) {
            self.args = json;
        }
        self
    }

    /// Keyword arguments of a task: a struct or a map.
    pub fn kwargs(mut self, kwargs: impl Serialize) -> Self {
        let Some(json) = self.json(&kwargs) else { return self };
        match &mut self.shape {
            Shape::Task { kwargs } => *kwargs = json,
            _ => self.break_by("only a call of a task has keyword arguments"),
        }
        self
    }

    /// An option under Celery's name, as `apply_async` takes it: `queue`, `priority`, `expires`, `task_id`, ..
    pub fn option(mut self, name: &str, value: impl Serialize) -> Self {
        if let Some(json) = self.json(&value) {
            self.set(name, json);
        }
        self
    }

    /// To be run not before so many seconds have passed.
    pub fn countdown(self, seconds: f64) -> Self {
        self.option("countdown", seconds)
    }

    fn json(&mut self, value: &impl Serialize) -> Option<Json> {
        Json::from_value(value).map_err(|error| self.break_by(&format!("not JSON serializable: {error}"))).ok()
    }

    /// The first thing that is wrong is the one that is told.
    fn break_by(&mut self, why: &str) {
        self.broken.get_or_insert_with(|| why.to_owned());
    }

    fn option_json(&self, name: &str) -> Option<&Json> {
        self.options.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: Json) {
        match name {
            "link" | "link_error" => match json::attached(&value) {
                Ok(attached) if name == "link" => self.links = attached,
                Ok(attached) => self.errbacks = attached,
                Err(why) => self.break_by(&format!("option {name}: {why}")),
            },
            _ => match self.options.iter_mut().find(|(key, _)| key == name) {
                Some((_, old)) => *old = value,
                None => self.options.push((name.to_owned(), value)),
            },
        }
    }
}
