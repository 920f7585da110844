//! Tasks as a Python module: what Celery clients import, and Flower knows tasks by.
//!
//! Only text; the same tasks always give the same. What a task takes is in `signature`, what things are called in `names`.

mod names;
mod signature;

use std::fmt::Write as _;

use sandbox::{FOR_CLIENTS, PluginReport, TaskReport};
use serde_json::Value;

use names::Names;
use signature::Signature;

/// Longer lines are broken.
const LINE_MAX: usize = 110;

/// What is the same in every module. Type checkers see `_Task`; at run time it is Celery's own. Pyright knows `TYPE_CHECKING`
/// by its name alone.
const FRAME: &str = r#"
from __future__ import annotations

import typing as _typing
from typing import Any as _Any

from celery import Celery as _Celery  # type: ignore[import-untyped,unused-ignore]
from celery import shared_task as _shared_task

if _typing.TYPE_CHECKING:
    from typing import Callable as _Callable
    from typing import Literal as _Literal
    from typing import ParamSpec as _ParamSpec
    from typing import Protocol as _Protocol

    from celery.canvas import Signature as _Signature  # type: ignore[import-untyped,unused-ignore]
    from celery.result import AsyncResult as _AsyncResult  # type: ignore[import-untyped,unused-ignore]

    _P = _ParamSpec("_P")

    class _Task(_Protocol[_P]):
        name: str

        def delay(self, *args: _P.args, **kwargs: _P.kwargs) -> _AsyncResult: ...
        def apply_async(self, args: _Any = None, kwargs: _Any = None, **options: _Any) -> _AsyncResult: ...
        def s(self, *args: _Any, **kwargs: _Any) -> _Signature: ...
        def si(self, *args: _P.args, **kwargs: _P.kwargs) -> _Signature: ...
        def signature(self, args: _Any = None, kwargs: _Any = None, **options: _Any) -> _Signature: ...
        def AsyncResult(self, task_id: str) -> _AsyncResult: ...

    def _task(name: str, **options: _Any) -> _Callable[[_Callable[_P, _Any]], _Task[_P]]:
        raise NotImplementedError

else:
    # Belongs to every app of the process that imports this module.
    _task = _shared_task

# For `celery -A`, where no other app imports this module. No other app is changed by it.
app = _Celery("taskhost", set_as_current=False)

# Stands for a default that only the task itself knows; it is never sent.
_OWN: _Any = None


def _elsewhere(name: str) -> NotImplementedError:
    return NotImplementedError(f"{name} runs in a Taskhost worker: call it with .delay() or .apply_async()")
"#;

/// The module with the tasks of these plugins. `command` writes it anew.
pub(crate) fn python(plugins: &[PluginReport], command: &str) -> String {
    let mut tasks: Vec<(&PluginReport, &TaskReport)> =
        plugins.iter().flat_map(|plugin| plugin.tasks.iter().map(move |task| (plugin, task))).collect();
    tasks.sort_by(|(_, a), (_, b)| a.spec.name.as_str().cmp(b.spec.name.as_str()));
    // Of a plugin that is on trial, the version that comes.
    tasks.reverse();
    tasks.dedup_by(|(_, a), (_, b)| a.spec.name == b.spec.name);
    tasks.reverse();
    let mut names = Names::default();
    let mut body = String::new();
    for (plugin, task) in tasks {
        let function = names.function(task.spec.name.as_str());
        write_task(&mut body, &function, plugin, task);
    }
    let mut all = names.taken();
    all.sort_unstable();
    let mut text = format!(
        "\"\"\"Tasks of Taskhost plugins, for clients that publish them and for Flower.\n\n\
         Do not edit: this module is written by\n\n    {}\n\n\
         Import it where a Celery app is, and call the tasks with .delay(), .apply_async() or .s(). Flower knows them\n\
         with an app that imports this module, or with `celery -A` and this module's name.\n\"\"\"\n",
        names::in_docstring(command)
    );
    text.push_str(FRAME);
    text.push_str("\n\n__all__ = [\n");
    for name in all {
        let _ = writeln!(text, "    \"{name}\",");
    }
    text.push_str("]\n");
    text.push_str(&body);
    text
}

fn write_task(text: &mut String, function: &str, plugin: &PluginReport, task: &TaskReport) {
    let name = names::quoted(task.spec.name.as_str());
    let mut decorator = vec![format!("name={name}")];
    let mut others = Vec::new();
    for (option, json) in &task.options {
        let value: Value = serde_json::from_str(json).unwrap_or_default();
        match signature::literal(&value) {
            Some(value) if option == "ignore_result" || FOR_CLIENTS.contains(&option.as_str()) => {
                decorator.push(format!("{option}={value}"))
            }
            _ => others.push(format!("{option} = {json}")),
        }
    }
    let signature = Signature::of(task.schema.as_deref());
    let line = format!("def {function}({}) -> _Any:", signature.parameters.join(", "));
    let line = match line.chars().count() > LINE_MAX {
        true => format!("def {function}(\n    {},\n) -> _Any:", signature.parameters.join(",\n    ")),
        false => line,
    };
    let _ = write!(text, "\n\n@_task({})\n{line}\n", decorator.join(", "));
    let summary = match task.spec.summary.as_str() {
        "" => task.spec.name.as_str(),
        summary => summary,
    };
    let version = plugin.version.as_ref().map(|version| format!(" {version}")).unwrap_or_default();
    let _ = write!(
        text,
        "    \"\"\"{}\n\n    Of plugin {}{}.\n",
        names::in_docstring(summary),
        names::in_docstring(&plugin.name),
        names::in_docstring(&version)
    );
    for option in others {
        let _ = writeln!(text, "    {}", names::in_docstring(&option));
    }
    let _ = write!(text, "    \"\"\"\n    raise _elsewhere({name})\n");
}

#[cfg(test)]
mod tests;
