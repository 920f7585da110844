//! The options of a task: Celery's names, what each takes, and how it is written as JSON.

use proc_macro2::Span;
use syn::parse::{Parse, ParseStream};
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{Error, Expr, ExprArray, ExprTuple, ExprUnary, Ident, Lit, LitStr, Result, Token, UnOp};

/// What is in the parentheses of `#[task(..)]`.
pub(crate) struct Options {
    pub(crate) name: Option<LitStr>,
    /// Name and JSON text, in the order they were given.
    pub(crate) values: Vec<(String, String)>,
}

/// What an option takes. All take `None` as well, which is JSON's null.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Count,
    Seconds,
    Flag,
    Text,
    Rate,
    /// The first delay in seconds, or true for one second.
    Backoff,
    /// One class name or several.
    Classes,
}

const KNOWN: [(&str, Kind); 29] = [
    ("acks_late", Kind::Flag),
    ("acks_on_failure", Kind::Flag),
    ("acks_on_failure_or_timeout", Kind::Flag),
    ("acks_on_timeout", Kind::Flag),
    ("autoretry_for", Kind::Classes),
    ("compression", Kind::Text),
    ("default_retry_delay", Kind::Seconds),
    ("dont_autoretry_for", Kind::Classes),
    ("exchange", Kind::Text),
    ("expires", Kind::Seconds),
    ("handles_soft_limit", Kind::Flag),
    ("ignore_result", Kind::Flag),
    ("max_retries", Kind::Count),
    ("priority", Kind::Count),
    ("queue", Kind::Text),
    ("rate_limit", Kind::Rate),
    ("reject_on_worker_lost", Kind::Flag),
    ("retry_backoff", Kind::Backoff),
    ("retry_backoff_max", Kind::Seconds),
    ("retry_jitter", Kind::Flag),
    ("retry_on_worker_lost", Kind::Flag),
    ("routing_key", Kind::Text),
    ("send_events", Kind::Flag),
    ("serializer", Kind::Text),
    ("soft_time_limit", Kind::Seconds),
    ("store_errors_even_if_ignored", Kind::Flag),
    ("throws", Kind::Classes),
    ("time_limit", Kind::Seconds),
    ("track_started", Kind::Flag),
];

impl Parse for Options {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let mut options = Options { name: None, values: Vec::new() };
        for Entry { key, value } in Punctuated::<Entry, Token![,]>::parse_terminated(input)? {
            let option = key.to_string();
            if option == "name" {
                if options.name.replace(task_name(&key, value)?).is_some() {
                    return Err(Error::new(key.span(), "`name` is given twice"));
                }
                continue;
            }
            let Some((_, kind)) = KNOWN.iter().find(|(known, _)| *known == option) else {
                return Err(unknown(&key));
            };
            if options.values.iter().any(|(given, _)| *given == option) {
                return Err(Error::new(key.span(), format!("`{option}` is given twice")));
            }
            options.values.push((option, kind.json(&key, value)?));
        }
        Ok(options)
    }
}

/// `key = value`, or `key` alone.
struct Entry {
    key: Ident,
    value: Option<Expr>,
}

impl Parse for Entry {
    fn parse(input: ParseStream<'_>) -> Result<Self> {
        let key = input.parse()?;
        let value = match input.parse::<Option<Token![=]>>()? {
            Some(_) => Some(input.parse()?),
            None => None,
        };
        Ok(Entry { key, value })
    }
}

impl Kind {
    fn expectation(self) -> &'static str {
        match self {
            Kind::Count => "a number that is not negative, or None",
            Kind::Seconds => "a number of seconds, or None",
            Kind::Flag => "true, false or None",
            Kind::Text => "a string, or None",
            Kind::Rate => "a rate such as \"10/s\", \"10/m\" or \"10/h\", a number per second, or None",
            Kind::Backoff => "true, false, or a number of seconds",
            Kind::Classes => "the name of a class or an array of names",
        }
    }

    /// The JSON text of a value, if it is of this kind.
    fn json(self, key: &Ident, value: Option<Expr>) -> Result<String> {
        let Some(value) = value else {
            return match self {
                Kind::Flag | Kind::Backoff => Ok("true".to_owned()),
                _ => Err(Error::new(key.span(), format!("`{key}` needs a value: {}", self.expectation()))),
            };
        };
        let wrong = || Error::new(value.span(), format!("`{key}` takes {}", self.expectation()));
        let json = match Literal::of(&value).ok_or_else(wrong)? {
            Literal::None => Some("null".to_owned()),
            Literal::Flag(flag) if matches!(self, Kind::Flag | Kind::Backoff) => Some(flag.to_string()),
            Literal::Count(number) if matches!(self, Kind::Count | Kind::Seconds | Kind::Rate | Kind::Backoff) => {
                Some(number.to_string())
            }
            Literal::Real(number) if matches!(self, Kind::Seconds | Kind::Rate | Kind::Backoff) => {
                Some(number.to_string())
            }
            Literal::Text(text) if self == Kind::Rate => is_rate(&text).then(|| quote_json(&text)),
            Literal::Text(text) if self == Kind::Text => Some(quote_json(&text)),
            Literal::Text(text) if self == Kind::Classes => Some(format!("[{}]", quote_json(&text))),
            Literal::List(texts) if self == Kind::Classes => {
                let texts: Vec<String> = texts.iter().map(|text| quote_json(text)).collect();
                Some(format!("[{}]", texts.join(",")))
            }
            _ => None,
        };
        json.ok_or_else(wrong)
    }
}

/// A value that is written out; expressions cannot be computed here.
enum Literal {
    None,
    Flag(bool),
    Count(u32),
    Real(f64),
    Text(String),
    List(Vec<String>),
}

impl Literal {
    fn of(value: &Expr) -> Option<Literal> {
        match value {
            Expr::Path(path) if path.path.is_ident("None") => Some(Literal::None),
            Expr::Lit(literal) => match &literal.lit {
                Lit::Bool(flag) => Some(Literal::Flag(flag.value)),
                Lit::Int(number) => number.base10_parse().ok().map(Literal::Count),
                Lit::Float(number) => number.base10_parse().ok().map(Literal::Real),
                Lit::Str(text) => Some(Literal::Text(text.value())),
                _ => None,
            },
            // Nothing here may be negative; falls through to the complaint.
            Expr::Unary(ExprUnary { op: UnOp::Neg(_), .. }) => None,
            Expr::Array(ExprArray { elems, .. }) | Expr::Tuple(ExprTuple { elems, .. }) => {
                let texts = elems.iter().map(|element| match Literal::of(element) {
                    Some(Literal::Text(text)) => Some(text),
                    _ => None,
                });
                texts.collect::<Option<Vec<_>>>().map(Literal::List)
            }
            _ => None,
        }
    }
}

fn task_name(key: &Ident, value: Option<Expr>) -> Result<LitStr> {
    if let Some(Expr::Lit(literal)) = &value
        && let Lit::Str(name) = &literal.lit
        && !name.value().trim().is_empty()
    {
        return Ok(name.clone());
    }
    let span = value.map_or(key.span(), |value| value.span());
    Err(Error::new(span, "`name` takes the task's name, such as \"images.resize\""))
}

fn is_rate(text: &str) -> bool {
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    number.parse::<f64>().is_ok_and(|number| number >= 0.0) && matches!(unit, "s" | "m" | "h")
}

fn unknown(key: &Ident) -> Error {
    let given = key.to_string();
    let names = KNOWN.iter().map(|(name, _)| *name).chain(["name"]);
    let nearest = names.min_by_key(|name| distance(&given, name)).expect("there are options");
    let message = format!("unknown option `{given}`; did you mean `{nearest}`?");
    Error::new(key.span(), message)
}

/// How many letters must be inserted, removed or replaced to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Text as JSON.
pub(crate) fn quote_json(text: &str) -> String {
    let mut json = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => json.extend(['\\', c]),
            c if c < ' ' => json.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => json.push(c),
        }
    }
    json.push('"');
    json
}

/// Where a complaint points that concerns the attribute as a whole.
pub(crate) fn call_site() -> Span {
    Span::call_site()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(attribute: &str, expected: &str) {
        let found = match syn::parse_str::<Options>(attribute) {
            Ok(options) => {
                let values: Vec<_> = options.values.iter().map(|(name, json)| format!("{name}={json}")).collect();
                values.join(" ")
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "#[task({attribute})]");
    }

    #[test]
    fn options_become_json() {
        check("", "");
        check("name = \"a.b\", max_retries = 3, time_limit = 1.5,", "max_retries=3 time_limit=1.5");
        check(
            "max_retries = None, acks_late, ignore_result = false",
            "max_retries=null acks_late=true ignore_result=false",
        );
        check("rate_limit = \"10/m\", queue = \"a\\\"b\"", "rate_limit=\"10/m\" queue=\"a\\\"b\"");
        check(
            "autoretry_for = [\"IoError\", \"x.Y\"], throws = \"KeyError\"",
            "autoretry_for=[\"IoError\",\"x.Y\"] throws=[\"KeyError\"]",
        );
        check("retry_backoff = true, retry_backoff_max = 60", "retry_backoff=true retry_backoff_max=60");
    }

    #[test]
    fn an_unknown_option_is_refused_with_the_nearest_known_one() {
        check("max_retry = 3", "unknown option `max_retry`; did you mean `max_retries`?");
        check("timelimit = 3", "unknown option `timelimit`; did you mean `time_limit`?");
        check("nam = \"x\"", "unknown option `nam`; did you mean `name`?");
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        check("max_retries = -1", "`max_retries` takes a number that is not negative, or None");
        check("max_retries", "`max_retries` needs a value: a number that is not negative, or None");
        check("time_limit = \"a\"", "`time_limit` takes a number of seconds, or None");
        check("acks_late = 1", "`acks_late` takes true, false or None");
        check("queue = 5", "`queue` takes a string, or None");
        let rate = "`rate_limit` takes a rate such as \"10/s\", \"10/m\" or \"10/h\", a number per second, or None";
        check("rate_limit = \"10/d\"", rate);
        check("name = 5", "`name` takes the task's name, such as \"images.resize\"");
        check("queue = \"a\", queue = \"b\"", "`queue` is given twice");
    }
}
