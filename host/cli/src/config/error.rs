//! What is wrong with the configuration: every mistake that was found, not only the first.

use std::fmt;

use crate::config::origin::Origin;

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub(crate) struct ConfigError {
    place: String,
    /// Line and column, if it is in a file.
    position: Option<(usize, usize)>,
    problem: String,
}

impl ConfigError {
    /// A mistake that was made outside of all settings.
    pub(crate) fn elsewhere(place: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { place: place.into(), position: None, problem: problem.into() }
    }

    /// A mistake at a place.
    pub(crate) fn new(origin: &Origin, problem: impl Into<String>) -> Self {
        Self { place: origin.exact(), position: origin.position(), problem: problem.into() }
    }

    /// A value that cannot be read.
    pub(crate) fn value(origin: &Origin, key: &str, problem: &str) -> Self {
        match origin.names_the_setting() {
            true => Self::new(origin, problem),
            false => Self::new(origin, format!("{key}: {problem}")),
        }
    }

    /// A name that is no setting, with the one that was probably meant.
    pub(crate) fn unknown<'a>(origin: &Origin, what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> Self {
        let mut problem = format!("unknown {what}");
        if !origin.names_the_setting() {
            problem.push_str(&format!(" `{name}`"));
        }
        if let Some(nearest) = nearest(name, known) {
            problem.push_str(&format!("; did you mean `{nearest}`?"));
        }
        Self::new(origin, problem)
    }
}

/// All mistakes, those in a file first and from top to bottom; at least one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigErrors(Vec<ConfigError>);

impl ConfigErrors {
    /// Sorts them.
    pub(crate) fn new(mut errors: Vec<ConfigError>) -> Self {
        errors.sort_by_key(|error| (error.position.is_none(), error.position));
        Self(errors)
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ConfigError> {
        self.0.iter()
    }

    /// Where to look things up, if a setting was not known.
    pub(crate) fn hint(&self) -> Option<String> {
        let unknown = self.0.iter().any(|error| error.problem.starts_with("unknown "));
        unknown.then(|| "`host config --help` lists all settings".to_owned())
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The known name that is most like `name`, unless none is.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // One wrong letter in three is still a slip; more is another word.
    let distance_max = (name.chars().count() / 3).max(1);
    known
        .map(|known| (strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase()), known))
        .filter(|(distance, _)| *distance <= distance_max)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
