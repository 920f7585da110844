//! Tasks that do something with their arguments.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use taskhost::{Context, Json, TaskError, task};

/// A number as Python has it: an integer unless it has a fraction.
#[derive(Clone, Copy, Deserialize, Serialize)]
#[serde(untagged, expecting = "not a number that fits into 64 bits")]
pub(crate) enum Number {
    Integer(i64),
    Real(f64),
}

impl Number {
    fn real(self) -> f64 {
        match self {
            Number::Integer(integer) => integer as f64,
            Number::Real(real) => real,
        }
    }

    fn plus(self, other: Number) -> Result<Number, TaskError> {
        self.combine(other, i64::checked_add, |x, y| x + y)
    }

    fn combine(
        self,
        other: Number,
        integers: impl Fn(i64, i64) -> Option<i64>,
        reals: impl Fn(f64, f64) -> f64,
    ) -> Result<Number, TaskError> {
        match (self, other) {
            (Number::Integer(x), Number::Integer(y)) => match integers(x, y) {
                Some(integer) => Ok(Number::Integer(integer)),
                None => Err(TaskError::new("OverflowError", "does not fit into 64 bits")),
            },
            _ => Ok(Number::Real(reals(self.real(), other.real()))),
        }
    }

    pub(crate) fn sum(numbers: &[Number]) -> Result<Number, TaskError> {
        numbers.iter().try_fold(Number::Integer(0), |sum, number| sum.plus(*number))
    }
}

/// What `+` takes.
#[derive(Deserialize, Serialize)]
#[serde(untagged, expecting = "not a number that fits into 64 bits, a text or a list")]
pub(crate) enum Operand {
    Number(Number),
    Text(String),
    List(Vec<Value>),
}

impl Operand {
    fn plus(self, other: Operand) -> Result<Operand, TaskError> {
        match (self, other) {
            (Operand::Number(x), Operand::Number(y)) => Ok(Operand::Number(x.plus(y)?)),
            (Operand::Text(x), Operand::Text(y)) => Ok(Operand::Text(x + &y)),
            (Operand::List(x), Operand::List(y)) => Ok(Operand::List(x.into_iter().chain(y).collect())),
            (x, y) => {
                let why = format!("unsupported operand type(s) for +: '{}' and '{}'", x.class(), y.class());
                Err(TaskError::new("TypeError", why))
            }
        }
    }

    fn class(&self) -> &'static str {
        match self {
            Operand::Number(Number::Integer(_)) => "int",
            Operand::Number(Number::Real(_)) => "float",
            Operand::Text(_) => "str",
            Operand::List(_) => "list",
        }
    }
}

/// Returns its argument.
#[task(name = "t.integration.tasks.identity")]
pub(crate) fn identity(x: Json) -> Json {
    x
}

/// Adds two or three numbers, texts or lists.
#[task(name = "t.integration.tasks.add")]
pub(crate) fn add(x: Operand, y: Operand, z: Option<Operand>) -> Result<Operand, TaskError> {
    let sum = x.plus(y)?;
    match z {
        None | Some(Operand::Number(Number::Integer(0))) => Ok(sum),
        Some(z) => sum.plus(z),
    }
}

/// Multiplies two numbers.
#[task(name = "t.integration.tasks.mul")]
pub(crate) fn mul(x: Number, y: Number) -> Result<Number, TaskError> {
    x.combine(y, i64::checked_mul, |x, y| x * y)
}

/// Adds two numbers, which its clients do not check.
#[task(name = "t.integration.tasks.add_not_typed")]
pub(crate) fn add_not_typed(x: Number, y: Number) -> Result<Number, TaskError> {
    x.plus(y)
}

/// Adds two numbers for nobody.
#[task(name = "t.integration.tasks.add_ignore_result", ignore_result = true)]
pub(crate) fn add_ignore_result(x: Number, y: Number) -> Result<Number, TaskError> {
    x.plus(y)
}

/// Adds two numbers and keeps the sum, whatever the worker does otherwise.
#[task(name = "t.integration.tasks.add_with_result", ignore_result = false)]
pub(crate) fn add_with_result(x: Number, y: Number) -> Result<Number, TaskError> {
    x.plus(y)
}

#[derive(Deserialize)]
pub(crate) struct Summands {
    x: i64,
    y: i64,
}

#[derive(Serialize)]
pub(crate) struct Sum {
    result: i64,
}

/// Adds the two fields of a map.
#[task(name = "t.integration.tasks.add_pydantic")]
pub(crate) fn add_pydantic(data: Summands) -> Sum {
    Sum { result: data.x + data.y }
}

/// Adds the two fields of a map.
#[task(name = "t.integration.tasks.add_pydantic_string_annotations")]
pub(crate) fn add_pydantic_string_annotations(data: Summands) -> Sum {
    add_pydantic(data)
}

/// Sums a list.
#[task(name = "t.integration.tasks.tsum")]
pub(crate) fn tsum(nums: Vec<Number>) -> Result<Number, TaskError> {
    Number::sum(&nums)
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum Nested {
    One(Number),
    Many(Vec<Number>),
}

/// Sums numbers and lists of them.
#[task(name = "t.integration.tasks.xsum")]
pub(crate) fn xsum(nums: Vec<Nested>) -> Result<Number, TaskError> {
    nums.iter().try_fold(Number::Integer(0), |sum, nested| match nested {
        Nested::One(number) => sum.plus(*number),
        Nested::Many(numbers) => sum.plus(Number::sum(numbers)?),
    })
}

/// Sums a list after a pause.
#[task(name = "t.integration.tasks.delayed_sum")]
pub(crate) fn delayed_sum(numbers: Vec<Number>, #[default = 1.0] pause_time: f64) -> Result<Number, TaskError> {
    thread::sleep(seconds(pause_time)?);
    Number::sum(&numbers)
}

/// Sums a list after a pause, and gives 0 when the pause is cut short.
#[task(name = "t.integration.tasks.delayed_sum_with_soft_guard", handles_soft_limit)]
pub(crate) fn delayed_sum_with_soft_guard(
    context: &Context,
    numbers: Vec<Number>,
    #[default = 1.0] pause_time: f64,
) -> Result<Number, TaskError> {
    let end = Instant::now() + seconds(pause_time)?;
    while Instant::now() < end {
        if context.cancelled() {
            return Ok(Number::Integer(0));
        }
        thread::sleep(Duration::from_millis(10));
    }
    Number::sum(&numbers)
}

/// Appends its number to a file, and returns it. Of the file's path only its name counts: all are in one folder.
#[task(name = "t.integration.tasks.write_to_file_and_return_int")]
pub(crate) fn write_to_file_and_return_int(file_name: String, i: i64) -> Result<i64, TaskError> {
    let name = Path::new(&file_name).file_name().unwrap_or_default();
    let mut file = OpenOptions::new().append(true).create(true).open(Path::new("/files").join(name))?;
    writeln!(file, "{i}")?;
    Ok(i)
}

/// Sleeps so many seconds.
#[task(name = "t.integration.tasks.sleeping")]
pub(crate) fn sleeping(i: f64, #[kwargs] _ignored: BTreeMap<String, Json>) -> Result<(), TaskError> {
    thread::sleep(seconds(i)?);
    Ok(())
}

fn seconds(number: f64) -> Result<Duration, TaskError> {
    Duration::try_from_secs_f64(number).map_err(|error| TaskError::new("ValueError", error))
}

/// Writes letters that not every encoding has.
#[task(name = "t.integration.tasks.print_unicode")]
pub(crate) fn print_unicode(
    #[default = "håå®ƒ valmuefrø"] log_message: String,
    #[default = "hiöäüß"] print_message: String,
) {
    eprintln!("{log_message}");
    println!("{print_message}");
}

/// Returns what it is given, and that it was here.
#[task(name = "t.integration.tasks.return_exception")]
pub(crate) fn return_exception(e: Json) -> (Json, bool) {
    (e, true)
}

/// Stands in for another.
#[task(name = "t.integration.tasks.replaced_with_me")]
pub(crate) fn replaced_with_me() -> bool {
    true
}
