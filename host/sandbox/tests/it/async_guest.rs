//! Writes small components with asynchronous tasks, in WAT as [`crate::guest`] does.

use std::fmt::Write as _;

use crate::guest::{Data, TYPES};

/// Where static data begins. Below 512 is the return area, below 1024 a text.
const DATA_AT: u32 = 1024;

/// A component that exports `taskhost:task/tasks-async` with one task.
pub(crate) struct AsyncGuest {
    task: String,
    options: Vec<(String, String)>,
    run: String,
    callback: String,
    /// What comes before the import of `waiting`, and what that has besides.
    before: String,
    waiting: String,
    component: String,
    with: String,
    core: String,
    exports: String,
}

impl AsyncGuest {
    /// A guest with the task `t`. The body of `run` has the parameters 0/1 id, 2/3 task, 4/5 args, 6/7 kwargs, 8 retries,
    /// that of `callback` 0 event, 1 subtask, 2 status. Both leave what is to happen: `(i32.const 0)` after `$ok` (text and
    /// length), `(call $wait)` after `$begin`.
    ///
    /// `$sleep` (milliseconds) begins one, which is joined to the set that `$wait` waits for; its answer comes to address
    /// 400. `$open` counts those that have not ended; `$ended` (subtask) counts one off.
    pub(crate) fn new(run: &str, callback: &str) -> Self {
        Self {
            task: "t".to_owned(),
            options: Vec::new(),
            run: run.to_owned(),
            callback: callback.to_owned(),
            before: String::new(),
            waiting: String::new(),
            component: String::new(),
            with: String::new(),
            core: String::new(),
            exports: String::new(),
        }
    }

    /// Sleeps as often and as long at a time, and answers with whether the last one was not cut short.
    pub(crate) fn sleeps(times: u32, milliseconds: u64) -> Self {
        Self::new(
            &format!(
                "(local $n i32) (loop $l (call $sleep (i64.const {milliseconds}))
                   (local.set $n (i32.add (local.get $n) (i32.const 1)))
                   (br_if $l (i32.lt_u (local.get $n) (i32.const {times}))))
                 (call $wait)"
            ),
            "(call $ended (local.get 1))
             (if (result i32) (i32.eqz (global.get $open))
               (then (if (result i32) (i32.load8_u (i32.const 400))
                 (then (call $ok (i32.const 600) (i32.const 4)))
                 (else (call $ok (i32.const 608) (i32.const 5)))))
               (else (call $wait)))",
        )
    }

    pub(crate) fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.to_owned(), value.to_owned()));
        self
    }

    /// What the task is called.
    pub(crate) fn named(mut self, task: &str) -> Self {
        self.task = task.to_owned();
        self
    }

    /// The same with other code.
    pub(crate) fn replace(mut self, from: &str, to: &str) -> Self {
        assert!(self.run.contains(from), "{}", self.run);
        self.run = self.run.replace(from, to);
        self
    }

    /// Further functions of `waiting`, and imports that come before them.
    pub(crate) fn waiting(mut self, before: &str, functions: &str) -> Self {
        self.before.push_str(before);
        self.waiting.push_str(functions);
        self
    }

    /// Component-level WAT, the arguments of the core instance, and core-level WAT.
    pub(crate) fn import(mut self, component: &str, with: &str, core: &str) -> Self {
        self.component.push_str(component);
        self.with.push_str(with);
        self.core.push_str(core);
        self
    }

    /// Another export of the component.
    pub(crate) fn export(mut self, name: &str) -> Self {
        write!(self.exports, r#"(export "{name}" (instance $tasks))"#).expect("writing to a String");
        self
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let text = self.wat();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    fn wat(&self) -> String {
        let mut data = Data::at(DATA_AT);
        let options = self.options.iter().map(|(key, value)| [data.text(key), data.text(value)].concat());
        let options: Vec<u8> = options.collect::<Vec<_>>().concat();
        let info = [data.text(&self.task), data.text("waits"), vec![0; 12], data.list(&options, 16)].concat();
        let infos = data.list(&info, 36);
        let described = data.put(&infos);
        let Self { run, callback, before, waiting, component, with, core, exports, .. } = self;
        let data = data.fields();
        format!(
            r#"(component $C
            {TYPES}
            (core module $libc
              (memory (export "memory") 2)
              (global $heap (mut i32) (i32.const 65536))
              (func (export "realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
                (global.set $heap (i32.add (local.get $at) (local.get 3)))
                (block $fits (loop $more
                  (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                  (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                  (br $more)))
                (local.get $at)))
            (core instance $libc (instantiate $libc))
            (alias core export $libc "memory" (core memory $memory))
            (alias core export $libc "realloc" (core func $realloc))
            {before}
            (import "taskhost:task/waiting@0.1.0" (instance $waiting {waiting}
              (export "sleep" (func async (param "milliseconds" u64) (result bool)))))
            (core func $sleep (canon lower (func $waiting "sleep") async (memory $memory)))
            (core func $return (canon task.return (result (result string (error $failure))) (memory $memory)))
            (core func $new-set (canon waitable-set.new))
            (core func $join (canon waitable.join))
            (core func $drop-subtask (canon subtask.drop))
            {component}
            (core module $m
              (import "libc" "memory" (memory 2))
              (import "async" "sleep" (func $begin-sleep (param i64 i32) (result i32)))
              (import "async" "return" (func $return (param i32)))
              (import "async" "new-set" (func $new-set (result i32)))
              (import "async" "join" (func $join (param i32 i32)))
              (import "async" "drop" (func $drop-subtask (param i32)))
              {core}
              {data}
              (data (i32.const 600) "true\00\00\00\00false")
              (global $set (mut i32) (i32.const 0))
              (global $open (mut i32) (i32.const 0))
              (func $ok (param i32 i32) (result i32)
                (i32.store (i32.const 0) (i32.const 0))
                (i32.store (i32.const 8) (local.get 0))
                (i32.store (i32.const 12) (local.get 1))
                (call $return (i32.const 0))
                (i32.const 0))
              ;; What an asynchronous call gave: its state, and the subtask above that.
              (func $begin (param $status i32)
                (if (i32.eqz (global.get $set)) (then (global.set $set (call $new-set))))
                (if (i32.ne (i32.and (local.get $status) (i32.const 15)) (i32.const 2)) (then
                  (global.set $open (i32.add (global.get $open) (i32.const 1)))
                  (call $join (i32.shr_u (local.get $status) (i32.const 4)) (global.get $set)))))
              (func $sleep (param i64) (call $begin (call $begin-sleep (local.get 0) (i32.const 400))))
              (func $ended (param i32)
                (call $drop-subtask (local.get 0))
                (global.set $open (i32.sub (global.get $open) (i32.const 1))))
              (func $wait (result i32) (i32.or (i32.const 2) (i32.shl (global.get $set) (i32.const 4))))
              (func (export "describe") (result i32) (i32.const {described}))
              (func (export "run") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {run})
              (func (export "callback") (param i32 i32 i32) (result i32) {callback}))
            (core instance $i (instantiate $m (with "libc" (instance $libc))
              (with "async" (instance (export "sleep" (func $sleep)) (export "return" (func $return))
                (export "new-set" (func $new-set)) (export "join" (func $join)) (export "drop" (func $drop-subtask))))
              {with}))
            (func $describe (result (list $task-info))
              (canon lift (core func $i "describe") (memory $memory) (realloc $realloc)))
            (func $run async (param "call" $invocation) (result (result string (error $failure)))
              (canon lift (core func $i "run") (memory $memory) (realloc $realloc) async (callback (core func $i "callback"))))
            (instance $tasks (export "describe" (func $describe)) (export "run" (func $run)))
            (export "taskhost:task/tasks-async@0.1.0" (instance $tasks))
            {exports})"#
        )
    }
}
