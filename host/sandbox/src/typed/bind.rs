//! Gives arguments to parameters by Python's rules, and complains in Python's words.
//!
//! The order of the checks is CPython's: keywords, surplus, missing; only then the values are looked at.

use taskhost_core::Json;
use taskhost_core::protocol::content::Cursor;

use crate::typed::encode::{Block, Encoder, Problem, Step};
use crate::typed::{Function, Parameter};

/// Why a call cannot be made.
#[derive(Debug, PartialEq)]
pub(crate) enum Refusal {
    /// The text of a TypeError.
    TypeError(String),
    /// The arguments take more memory than an instance may have.
    TooLarge,
}

impl Function {
    /// The arguments as the component takes them, which may be so many bytes.
    pub(super) fn encode(&self, args: &Json, kwargs: &Json, bytes_max: usize) -> Result<Block, Refusal> {
        let bound = self.bind(args, kwargs)?;
        let mut encoder = Encoder { bytes_left: bytes_max };
        let mut block =
            encoder.block(self.shape.size, self.shape.align).map_err(|problem| self.complain(None, problem))?;
        for (parameter, given) in self.parameters.iter().zip(bound) {
            let Some(mut json) = given else { continue };
            encoder
                .value(&parameter.shape, &mut json, &mut block, parameter.offset)
                .map_err(|problem| self.complain(Some(parameter), problem))?;
        }
        Ok(block)
    }

    fn bind<'a>(&self, args: &'a Json, kwargs: &'a Json) -> Result<Vec<Option<Cursor<'a>>>, Refusal> {
        let mut bound: Vec<Option<Cursor<'a>>> = vec![None; self.parameters.len()];
        let mut given = 0;
        let mut json = args.cursor();
        json.enter();
        while json.next_element() {
            let argument = json.branch();
            if let Some(slot) = bound.get_mut(given) {
                *slot = Some(argument);
            }
            given += 1;
        }
        let mut json = kwargs.cursor();
        json.enter();
        while let Some(name) = json.next_key() {
            match self.parameters.iter().position(|parameter| parameter.name.is(&name)) {
                None => return Err(self.refuse(&format!("got an unexpected keyword argument '{name}'"))),
                Some(index) if index < given => {
                    return Err(self.refuse(&format!("got multiple values for argument '{name}'")));
                }
                Some(index) => bound[index] = Some(json.branch()),
            }
        }
        if given > self.parameters.len() {
            return Err(self.surplus(given));
        }
        let is_missing = |(parameter, slot): (&Parameter, &Option<_>)| parameter.is_required() && slot.is_none();
        if self.parameters.iter().zip(&bound).any(is_missing) {
            return Err(self.missing(&bound));
        }
        Ok(bound)
    }

    #[cold]
    fn surplus(&self, given: usize) -> Refusal {
        let most = self.parameters.len();
        let least = self.parameters.iter().filter(|parameter| parameter.is_required()).count();
        let takes = if least < most { format!("from {least} to {most}") } else { most.to_string() };
        let arguments = if most == 1 { "argument" } else { "arguments" };
        let were = if given == 1 { "was" } else { "were" };
        self.refuse(&format!("takes {takes} positional {arguments} but {given} {were} given"))
    }

    #[cold]
    fn missing(&self, bound: &[Option<Cursor<'_>>]) -> Refusal {
        let missing = self.parameters.iter().zip(bound);
        let missing = missing.filter(|(parameter, slot)| parameter.is_required() && slot.is_none());
        let names: Vec<String> = missing.map(|(parameter, _)| format!("'{}'", parameter.name.snake)).collect();
        let list = match names.as_slice() {
            [] => String::new(),
            [one] => one.clone(),
            [one, two] => format!("{one} and {two}"),
            [most @ .., last] => format!("{}, and {last}", most.join(", ")),
        };
        let arguments = if names.len() == 1 { "argument" } else { "arguments" };
        self.refuse(&format!("missing {} required positional {arguments}: {list}", names.len()))
    }

    #[cold]
    fn complain(&self, parameter: Option<&Parameter>, problem: Problem) -> Refusal {
        let Problem::Wrong { path, what } = problem else { return Refusal::TooLarge };
        let mut place = parameter.map(|parameter| parameter.name.snake.clone()).unwrap_or_default();
        for step in path.iter().rev() {
            match step {
                Step::Name(name) => place.extend([".", name]),
                Step::Index(index) => place.push_str(&format!("[{index}]")),
            }
        }
        self.refuse(&format!("argument '{place}': {what}"))
    }

    fn refuse(&self, what: &str) -> Refusal {
        Refusal::TypeError(format!("{}() {what}", self.name))
    }
}
