//! Tasks straight from WIT: runs what a component exports as plain functions, with arguments and results as JSON.
//!
//! What each call needs of a function is made when the plugin is loaded. Nothing here knows of messages, and limits are kept
//! where those of all calls are.

mod bind;
mod encode;
mod exports;
mod lift;
mod lower;
mod scalar;
mod schema;
mod shape;
#[cfg(test)]
mod tests;
mod text;
mod values;

use std::collections::HashMap;
use std::sync::Arc;

use taskhost_core::{Attempt, Exception, Json, Outcome, Request, TaskName, Trap};
use tokio::task::spawn_blocking;
use wasmtime::Store;
use wasmtime::component::types::ComponentFunc;
use wasmtime::component::{ComponentExportIndex, Instance, Type, Val};

use crate::abi::exports::taskhost::task::tasks::TaskInfo;
use crate::instance::Guest;
use crate::invoke::Broken;
use crate::limits::Limits;

use self::shape::{Field, Kind, Layout, Name, Shape, Shapes};

use self::bind::Refusal;
use self::lower::Arguments;

pub(crate) use self::exports::{Found, find};
pub(crate) use self::lift::Reply;

/// Arguments of more bytes are converted where nobody else waits for that.
const BYTES_AT_ONCE: usize = 256 << 10;

/// The functions of a plugin, by the tasks that they are.
pub(crate) type Functions = HashMap<TaskName, Arc<Function>>;

/// The call for an attempt. What does not fit is the attempt's outcome, and nothing of the plugin runs
/// for it.
pub(crate) async fn prepare(functions: &Functions, attempt: &Attempt, limits: &Limits) -> Result<Call, Outcome> {
    let Some(function) = functions.get(&attempt.spec.name) else {
        let why = format!("the plugin has no function for `{}`", attempt.spec.name);
        return Err(Outcome::Trapped(Trap::NotInstantiated(why)));
    };
    let limit_bytes = limits.memory_bytes;
    let input = function.input(&attempt.request, limit_bytes).await.map_err(|refusal| match refusal {
        Refusal::TypeError(text) => {
            Outcome::Failure(Exception::new("builtins", "TypeError", [Json::text(&text)]), None)
        }
        // The instance could not take them either.
        Refusal::TooLarge => Outcome::Trapped(Trap::MemoryLimit { limit_bytes: limit_bytes as u64 }),
    })?;
    Ok(Call { function: Arc::clone(function), input, result_bytes: limits.result_bytes })
}

/// A function with its arguments.
pub(crate) struct Call {
    function: Arc<Function>,
    input: Input,
    /// Longest result.
    result_bytes: usize,
}

enum Input {
    Block(Arguments),
    Values(Vec<Val>),
}

impl Call {
    /// Calls the function of this instance.
    pub(crate) async fn run(self, store: &mut Store<Guest>, instance: &Instance) -> Result<Reply, Broken> {
        let Self { function, input, result_bytes } = self;
        let values = match input {
            Input::Block(arguments) => {
                let called = instance.get_typed_func::<Arguments, Reply>(&mut *store, &function.index);
                return called.map_err(Broken::Instantiate)?.call_async(store, arguments).await.map_err(Broken::Call);
            }
            Input::Values(values) => values,
        };
        let called = instance.get_func(&mut *store, &function.index);
        let called = called.ok_or_else(|| Broken::Instantiate(wasmtime::Error::msg("the function is gone")))?;
        let mut results = vec![Val::Bool(false); usize::from(function.result.is_some())];
        called.call_async(&mut *store, &values, &mut results).await.map_err(Broken::Call)?;
        Ok(values::reply(function.result.as_ref(), results.first(), result_bytes))
    }
}

/// A function that is a task.
#[derive(Debug)]
pub(crate) struct Function {
    /// As Python would write it.
    name: String,
    index: ComponentExportIndex,
    /// It takes a while, or others of the component do.
    is_concurrent: bool,
    pub(crate) is_async: bool,
    parameters: Vec<Parameter>,
    /// All parameters together.
    shape: Arc<Shape>,
    result: Option<Shape>,
}

#[derive(Debug)]
struct Parameter {
    name: Name,
    shape: Shape,
    offset: usize,
}

impl Parameter {
    /// One that is not is none where it is not given.
    fn is_required(&self) -> bool {
        !self.shape.is_option()
    }
}

impl Function {
    /// Says why it cannot be a task, if it cannot. `names` are those of the interface's types.
    fn new(
        name: &str,
        kind: &ComponentFunc,
        index: ComponentExportIndex,
        is_concurrent: bool,
        names: &[(String, Type)],
    ) -> Result<Self, String> {
        if name.starts_with('[') {
            return Err("it belongs to a resource".to_owned());
        }
        let mut shapes = Shapes::new(names);
        let (mut layout, mut parameters) = (Layout::default(), Vec::new());
        for (name, kind) in kind.params() {
            let shape = shapes.of(&kind).map_err(|why| format!("its parameter `{name}` cannot be JSON: {why}"))?;
            parameters.push(Parameter { name: Name::new(name), offset: layout.add(&shape), shape });
        }
        let result = kind.results().next().map(|kind| shapes.of(&kind)).transpose();
        let result = result.map_err(|why| format!("its result cannot be JSON: {why}"))?;
        let fields = parameters.iter().map(|Parameter { name, shape, offset }| Field {
            name: name.clone(),
            offset: *offset,
            shape: shape.clone(),
        });
        let (size, align, flat) = (layout.size(), layout.align, layout.flat);
        let shape = Shape { kind: Kind::Record(fields.collect()), name: None, size, align, flat };
        let (name, is_async, shape) = (Name::new(name).snake, kind.async_(), Arc::new(shape));
        Ok(Self { name, index, is_concurrent, is_async, parameters, shape, result })
    }

    /// What the task is for those who call it.
    pub(crate) fn describe(&self, task: &TaskName) -> TaskInfo {
        let schema = Some(schema::of_arguments(&self.parameters).to_string());
        TaskInfo { name: task.as_str().to_owned(), summary: String::new(), schema, options: Vec::new() }
    }

    /// How WIT declares it, with the names that JSON has.
    pub(crate) fn signature(&self) -> String {
        let parameters: Vec<String> =
            self.parameters.iter().map(|it| format!("{}: {}", it.name.snake, it.shape)).collect();
        let result = self.result.as_ref().map_or(String::new(), |shape| format!(" -> {shape}"));
        format!("{}({}){result}", self.name, parameters.join(", "))
    }

    /// The definitions of the named types in its signature, each after those that it consists of.
    pub(crate) fn types(&self) -> Vec<String> {
        let mut types = Vec::new();
        let mut visitor = |shape: &Shape| {
            if let Some(definition) = shape.definition().filter(|definition| !types.contains(definition)) {
                types.push(definition);
            }
        };
        for shape in self.parameters.iter().map(|parameter| &parameter.shape).chain(&self.result) {
            shape.visit(&mut visitor);
        }
        types
    }

    /// The arguments of a request, ready for the component, of which there may be so many bytes. Nothing runs for this but
    /// the conversion.
    async fn input(self: &Arc<Self>, request: &Request, bytes_max: usize) -> Result<Input, Refusal> {
        let (args, kwargs) = (&request.args, &request.kwargs);
        let block = if args.byte_len() + kwargs.byte_len() <= BYTES_AT_ONCE {
            self.encode(args, kwargs, bytes_max)
        } else {
            let (function, args, kwargs): (Arc<Self>, Json, Json) = (Arc::clone(self), args.clone(), kwargs.clone());
            let encoded = spawn_blocking(move || function.encode(&args, &kwargs, bytes_max)).await;
            encoded.unwrap_or(Err(Refusal::TooLarge))
        };
        block.map(|block| match self.is_concurrent {
            false => Input::Block(Arguments::new(Arc::clone(&self.shape), block)),
            true => Input::Values(values::of_arguments(&self.shape, block)),
        })
    }
}
