//! Text in the format of Prometheus (version 0.0.4).
//!
//! Knows how numbers are written, and not what they mean.

use std::fmt::{self, Display, Write as _};

use worker::Distribution;

/// What Prometheus calls its text format.
pub(super) const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page that is being written: each family once, with its samples behind it.
#[derive(Default)]
pub(super) struct Page(String);

/// Labels of a sample, in their order.
pub(super) type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Begins a family; its samples follow.
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = write!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One number.
    pub(super) fn sample(&mut self, name: &str, labels: Labels<'_>, value: f64) {
        let _ = write!(self.0, "{name}");
        self.labels(labels, None);
        let _ = writeln!(self.0, " {value}");
    }

    /// A gauge with no labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.family(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// All that belongs to one histogram.
    pub(super) fn histogram(&mut self, name: &str, labels: Labels<'_>, values: &Distribution) {
        let mut count = 0;
        for (bound, below) in &values.buckets {
            count = *below;
            let _ = write!(self.0, "{name}_bucket");
            self.labels(labels, Some(*bound));
            let _ = writeln!(self.0, " {below}");
        }
        for (part, value) in [("sum", &values.sum as &dyn Display), ("count", &count)] {
            let _ = write!(self.0, "{name}_{part}");
            self.labels(labels, None);
            let _ = writeln!(self.0, " {value}");
        }
    }

    fn labels(&mut self, labels: Labels<'_>, bound: Option<f64>) {
        if labels.is_empty() && bound.is_none() {
            return;
        }
        let mut before = '{';
        for (label, text) in labels {
            let _ = write!(self.0, "{before}{label}=\"{}\"", Escaped(text));
            before = ',';
        }
        match bound {
            Some(bound) if bound.is_infinite() => drop(write!(self.0, "{before}le=\"+Inf\"")),
            Some(bound) => drop(write!(self.0, "{before}le=\"{bound}\"")),
            None => {}
        }
        self.0.push('}');
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.0
    }
}

/// The value of a label.
struct Escaped<'a>(&'a str);

impl Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for char in self.0.chars() {
            match char {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                char => f.write_char(char)?,
            }
        }
        Ok(())
    }
}
