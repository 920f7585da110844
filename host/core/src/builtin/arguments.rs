//! The arguments of Celery's own tasks, taken as Python takes those of the functions behind them, and refused in its
//! words.

use crate::exception::Exception;
use crate::protocol::content::{Json, Kind};
use crate::request::Request;

/// What a function is declared with.
pub(super) struct Parameters {
    /// Its qualified name.
    function: &'static str,
    /// It takes `self` before the others.
    bound: bool,
    required: &'static [&'static str],
    optional: &'static [&'static str],
    /// It takes other names as well.
    others: bool,
}

impl Parameters {
    /// Those of a function that takes none.
    pub(super) const fn new(function: &'static str) -> Self {
        Self { function, bound: false, required: &[], optional: &[], others: false }
    }

    pub(super) const fn required(self, required: &'static [&'static str]) -> Self {
        Self { required, ..self }
    }

    pub(super) const fn optional(self, optional: &'static [&'static str]) -> Self {
        Self { optional, ..self }
    }

    pub(super) const fn bound(self) -> Self {
        Self { bound: true, ..self }
    }

    pub(super) const fn with_others(self) -> Self {
        Self { others: true, ..self }
    }

    /// The values in the order of the parameters: those that are required are there.
    pub(super) fn bind(&self, request: &Request) -> Result<Vec<Option<Json>>, Exception> {
        let names = || self.required.iter().chain(self.optional);
        let count = self.required.len() + self.optional.len();
        let given = request.args.elements().count();
        let mut values: Vec<Option<Json>> = request.args.elements().take(count).map(Some).collect();
        values.resize(count, None);
        for (name, value) in request.kwargs.members() {
            match names().position(|parameter| *parameter == name) {
                Some(index) if index < given => {
                    return Err(self.refuse(&format!("got multiple values for argument '{name}'")));
                }
                Some(index) => values[index] = Some(value),
                None if self.others => {}
                None => return Err(self.refuse(&format!("got an unexpected keyword argument '{name}'"))),
            }
        }
        if given > count {
            return Err(self.too_many(given));
        }
        let missing: Vec<String> = self
            .required
            .iter()
            .zip(&values)
            .filter(|(_, value)| value.is_none())
            .map(|(name, _)| format!("'{name}'"))
            .collect();
        if missing.is_empty() { Ok(values) } else { Err(self.missing(&missing)) }
    }

    fn too_many(&self, given: usize) -> Exception {
        let bound = usize::from(self.bound);
        let (least, most, given) = (self.required.len() + bound, self.optional.len(), given + bound);
        let were = if given == 1 { "was" } else { "were" };
        self.refuse(&match most {
            0 => format!("takes {least} positional argument{} but {given} {were} given", plural(least)),
            more => format!("takes from {least} to {} positional arguments but {given} {were} given", least + more),
        })
    }

    fn missing(&self, missing: &[String]) -> Exception {
        let names = match missing {
            [names @ .., last] if names.len() > 1 => format!("{}, and {last}", names.join(", ")),
            names => names.join(" and "),
        };
        let count = missing.len();
        self.refuse(&format!("missing {count} required positional argument{}: {names}", plural(count)))
    }

    fn refuse(&self, why: &str) -> Exception {
        type_error(&format!("{}() {why}", self.function))
    }
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

pub(super) fn type_error(text: &str) -> Exception {
    Exception::new("builtins", "TypeError", [Json::text(text)])
}

/// What Python calls the type of a value.
pub(super) fn type_name(value: &Json) -> &'static str {
    match value.kind() {
        Kind::Null => "NoneType",
        Kind::Bool => "bool",
        Kind::Number if value.as_str().trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit()) => "int",
        Kind::Number => "float",
        Kind::Text => "str",
        Kind::List => "list",
        Kind::Map => "dict",
    }
}

/// What Python goes through in a loop over a value; none, if it is no loop: elements, characters or keys.
pub(super) fn iterate(value: &Json) -> Option<Vec<Json>> {
    match value.kind() {
        Kind::List => Some(value.elements().collect()),
        Kind::Text => {
            let text = value.text_lossy().unwrap_or_default();
            Some(text.chars().map(|char| Json::text(char.encode_utf8(&mut [0; 4]))).collect())
        }
        Kind::Map => {
            let mut keys: Vec<String> = Vec::new();
            for (key, _) in value.members() {
                if !keys.iter().any(|earlier| *earlier == key) {
                    keys.push(key.into_owned());
                }
            }
            Some(keys.iter().map(|key| Json::text(key)).collect())
        }
        Kind::Null | Kind::Bool | Kind::Number => None,
    }
}
