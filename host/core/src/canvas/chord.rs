//! Chords, applied: the header is sent, and each of its members carries the body (`_chord.apply_async` and
//! `_chord.run` of celery/canvas.py).

use crate::chord::ChordStyle;
use crate::protocol::content::{Json, MapWriter};
use crate::signature::SignatureError;

use super::freeze::Frame;
use super::node::{Node, Shape, overlaid, prepended};
use super::options::Options;
use super::results::Promise;
use super::run::Run;
use super::write;

/// When the header is due, and not the body.
const DELAYS: [&str; 2] = ["countdown", "eta"];

impl Run<'_> {
    pub(super) fn apply_chord(
        &mut self,
        node: Node,
        args: &[Json],
        kwargs: Option<&Json>,
        given: &Options,
    ) -> Result<Promise, SignatureError> {
        let Node { options: own, args: own_args, shape, immutable, .. } = node;
        let Shape::Chord(chord) = shape else { return Err(SignatureError::Bodyless) };
        let mut body = chord.body.ok_or(SignatureError::Bodyless)?;
        let args = if immutable { own_args } else { prepended(args, &own_args) };
        let args: Vec<Json> = args.elements().collect();
        let kwargs = overlaid(&chord.kwargs, kwargs);

        let mut given = given.clone();
        let id = given.take_text("task_id");
        let delays = DELAYS.map(|key| given.get(key).filter(|value| !value.is_null()).cloned());
        let callbacks = ["link", "link_error"].map(|key| given.take(key));
        for (key, delay) in DELAYS.iter().zip(&delays) {
            if delay.is_some() {
                given.take(key);
            }
        }
        body.renew_with(&[], None, &of_body(&given));
        let mut header = chord.header.group.clone().unwrap_or_default();
        if chord.header.group.is_none()
            && let Some(id) = own.text("task_id")
        {
            header.set_text("task_id", &id);
        }
        // Celery draws the header's id first; this way the first id is that of the result.
        let mut options = own.clone();
        options.update(&given);
        for (key, value) in ["link", "link_error"].iter().zip(callbacks) {
            if let Some(value) = value {
                options.set(key, value);
            }
        }
        let id = id.or_else(|| options.text("task_id"));
        let body_id = match id {
            Some(id) => Some(id),
            None if body.is_group() => None,
            None => Some(self.next_id()),
        };
        let group_id = match header.text("task_id") {
            Some(id) => id,
            None => self.next_id(),
        };

        let root_id = body.options.text("root_id");
        let mut header_options = Options::default();
        for (key, delay) in DELAYS.iter().zip(delays) {
            let stored = options.take(key).filter(|value| !value.is_null());
            if let Some(delay) = delay.or(stored) {
                header_options.set(key, delay);
            }
        }
        options.take("task_id");
        if !options.is_empty() {
            self.add_callbacks(&mut body, &mut options)?;
            body.options.update(&of_body(&options));
        }
        body.unroll_chords(&self.terms)?;
        let frame = Frame {
            id: body_id.as_deref(),
            group_id: Some(&group_id),
            root_id: root_id.as_deref(),
            ..Frame::default()
        };
        let result = self.freeze(&mut body, &frame)?;
        body.strip();
        // What follows the chord follows its body.
        options.take("chain");
        options.take("chord");

        header.set_text("task_id", &group_id);
        // Python takes an empty group for no body at all.
        let carried = (!body.is_empty_group()).then(|| write::signature(&body));
        let size = chord.header.tasks.iter().map(Node::size).sum();
        let carried = match self.sender.settings.chords {
            ChordStyle::Counter => carried.map(|body| with_size(&body, size)),
            _ => carried,
        };
        let frame = Frame {
            group_id: Some(&group_id),
            chord: carried.as_ref(),
            root_id: root_id.as_deref(),
            ..Frame::default()
        };
        let mut tasks = chord.header.tasks;
        let mut header_result = self.freeze_group(&mut header, &mut tasks, &frame)?;
        if tasks.is_empty() {
            self.apply(body, &[Json::empty_list()], None, &Options::default())?;
        } else {
            self.announce_chord(&group_id, header_result, size, &body, &options)?;
            for (key, value) in header_options.iter() {
                options.set(key, value.clone());
            }
            options.set_text("task_id", &group_id);
            let header = Node { options: header, ..Node::group(tasks) };
            header_result = self.apply_group(header, &args, Some(&kwargs), &options)?;
        }
        self.results.set_parent(result, Some(header_result));
        Ok(result)
    }

    /// Moves callbacks and errbacks to the body (`_add_body_callbacks`).
    fn add_callbacks(&self, body: &mut Node, options: &mut Options) -> Result<(), SignatureError> {
        let [callbacks, errbacks] =
            ["link", "link_error"].map(|key| options.take(key).map_or_else(Vec::new, |value| value.links()));
        if !callbacks.is_empty() || !errbacks.is_empty() {
            body.renew();
        }
        for callback in callbacks {
            let callback = callback.changed(|_| {})?;
            match body.is_empty_group() {
                true => body.options.append_link("link", callback, &self.terms)?,
                false => body.link(callback, &self.terms)?,
            }
        }
        for errback in errbacks {
            match body.is_group() {
                true => body.link_error_to_members(&errback, true, &self.terms)?,
                false => body.options.append_link("link_error", errback, &self.terms)?,
            }
        }
        Ok(())
    }
}

/// The body as members carry it where its parts are only counted. Celery's workers count the results of the header
/// unless they are told (`chord_size`), and a chain that ends in a group has one for many members.
fn with_size(body: &Json, size: u64) -> Json {
    let mut sized = MapWriter::new();
    for (key, value) in body.members() {
        sized.put(&key, &value);
    }
    sized.put("chord_size", &size);
    sized.finish()
}

/// Options that the body gets: the member of the header that completes the chord is its parent.
fn of_body(options: &Options) -> Options {
    options.filtered(|key, _| key != "parent_id")
}
