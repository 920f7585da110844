//! Writes small components in WAT: the interface is spelled out here once, a test brings the body.

use std::fmt::Write as _;

/// Where static data begins; below it is the return area.
const DATA_AT: u32 = 1024;

/// A component that exports `taskhost:task/tasks`.
pub(crate) struct Guest {
    tasks: Vec<(String, Vec<(String, String)>)>,
    run: String,
    describe: Option<String>,
    memory: String,
    fields: String,
    imports: Vec<Import>,
    version: &'static str,
    realloc: &'static str,
    post_return: &'static str,
}

/// What a guest may import, as component-level WAT and as core-level WAT.
pub(crate) struct Import {
    component: &'static str,
    /// The arguments of the core instance.
    with: &'static str,
    core: &'static str,
}

impl Guest {
    /// A guest with one task `t`. The body of `run` has the parameters 0/1 id, 2/3 task, 4/5 args, 6/7
    /// kwargs (each pointer and length), 8 retries, and leaves a pointer to the answer.
    pub(crate) fn new(run: &str) -> Self {
        Self {
            tasks: vec![("t".to_owned(), Vec::new())],
            run: run.to_owned(),
            describe: None,
            memory: "(memory (export \"memory\") 2)".to_owned(),
            fields: String::new(),
            imports: Vec::new(),
            version: "0.1.0",
            realloc: "cabi_realloc",
            post_return: "",
        }
    }

    /// Gives its arguments back.
    pub(crate) fn echo(task: &str) -> Self {
        Self::new("(call $ok (local.get 4) (local.get 5))").task(task, &[])
    }

    /// Answers with a text of its own.
    pub(crate) fn answer(text: &str) -> Self {
        let escaped: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        Self::new(&format!("(call $ok (i32.const 512) (i32.const {}))", text.len()))
            .field(&format!("(data (i32.const 512) \"{escaped}\")"))
    }

    /// The only task and its options.
    pub(crate) fn task(mut self, name: &str, options: &[(&str, &str)]) -> Self {
        self.tasks.clear();
        self.and_task(name, options)
    }

    pub(crate) fn and_task(mut self, name: &str, options: &[(&str, &str)]) -> Self {
        let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        self.tasks.push((name.to_owned(), options.collect()));
        self
    }

    /// No tasks at all.
    pub(crate) fn no_tasks(mut self) -> Self {
        self.tasks.clear();
        self
    }

    /// The body of `describe` instead of the table of tasks.
    pub(crate) fn describe(mut self, body: &str) -> Self {
        self.describe = Some(body.to_owned());
        self
    }

    pub(crate) fn memory(mut self, memory: &str) -> Self {
        self.memory = memory.to_owned();
        self
    }

    /// Adds fields to the core module.
    pub(crate) fn field(mut self, field: &str) -> Self {
        self.fields.push_str(field);
        self
    }

    pub(crate) fn import(mut self, import: Import) -> Self {
        self.imports.push(import);
        self
    }

    /// The version of the exported interface.
    pub(crate) fn version(mut self, version: &'static str) -> Self {
        self.version = version;
        self
    }

    /// Which export allocates.
    pub(crate) fn realloc(mut self, realloc: &'static str) -> Self {
        self.realloc = realloc;
        self
    }

    /// What is called once the answer has been read: a function of a field.
    pub(crate) fn post_return(mut self, post_return: &'static str) -> Self {
        self.post_return = post_return;
        self
    }

    pub(crate) fn build(&self) -> Vec<u8> {
        let text = self.wat();
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }

    pub(crate) fn wat(&self) -> String {
        let mut data = Data::at(DATA_AT);
        let tasks = self.tasks.iter().map(|(name, options)| {
            let name = data.text(name);
            let options = options.iter().map(|(key, value)| [data.text(key), data.text(value)].concat());
            let options: Vec<u8> = options.collect::<Vec<_>>().concat();
            let list = data.list(&options, 16);
            [name, data.text("a task"), vec![0; 12], list].concat()
        });
        let tasks: Vec<u8> = tasks.collect::<Vec<_>>().concat();
        let tasks = data.list(&tasks, 36);
        let described = data.put(&tasks);

        let describe = self.describe.clone().unwrap_or_else(|| format!("(i32.const {described})"));
        let each = |part: fn(&Import) -> &'static str| self.imports.iter().map(part).collect::<Vec<_>>().join("\n");
        let heap = data.at.next_multiple_of(1024);
        let mut text = String::from("(component $C\n");
        text.push_str(TYPES);
        text.push_str(&each(|import| import.component));
        write!(
            text,
            r#"
            (core module $m
              {core_imports}
              {memory}
              {data}
              {fields}
              (global $heap (mut i32) (i32.const {heap}))
              (func $ok (param i32 i32) (result i32)
                (i32.store (i32.const 0) (i32.const 0))
                (i32.store (i32.const 8) (local.get 0))
                (i32.store (i32.const 12) (local.get 1))
                (i32.const 0))
              (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 15)) (i32.const -16)))
                (global.set $heap (i32.add (local.get $at) (local.get 3)))
                (block $fits (loop $more
                  (br_if $fits (i32.le_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536))))
                  (if (i32.eq (memory.grow (i32.const 1)) (i32.const -1)) (then unreachable))
                  (br $more)))
                (local.get $at))
              (func $describe (export "describe") (result i32) {describe})
              (func $run (export "run") (param i32 i32 i32 i32 i32 i32 i32 i32 i32) (result i32) {run}))
            (core instance $i (instantiate $m {with}))
            (func $describe (result (list $task-info))
              (canon lift (core func $i "describe") (memory (core memory $i "memory")) (realloc (core func $i "cabi_realloc"))))
            (func $run (param "call" $invocation) (result (result string (error $failure)))
              (canon lift (core func $i "run") (memory (core memory $i "memory")) (realloc (core func $i "{realloc}"))
                {post_return}))
            (instance $tasks (export "describe" (func $describe)) (export "run" (func $run)))
            (export "taskhost:task/tasks@{version}" (instance $tasks)))"#,
            core_imports = each(|import| import.core),
            with = each(|import| import.with),
            memory = self.memory,
            data = data.fields,
            fields = self.fields,
            run = self.run,
            version = self.version,
            realloc = self.realloc,
            post_return = self.post_return,
        )
        .expect("writing to a String");
        text
    }
}

/// Static data of the core module.
pub(crate) struct Data {
    at: u32,
    fields: String,
}

impl Data {
    pub(crate) fn at(at: u32) -> Self {
        Self { at, fields: String::new() }
    }

    /// As fields of the module.
    pub(crate) fn fields(&self) -> &str {
        &self.fields
    }

    pub(crate) fn put(&mut self, bytes: &[u8]) -> u32 {
        let at = self.at;
        let escaped: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
        writeln!(self.fields, "(data (i32.const {at}) \"{escaped}\")").expect("writing to a String");
        self.at += u32::try_from(bytes.len()).expect("little data").next_multiple_of(8);
        at
    }

    /// Pointer and length of a text.
    pub(crate) fn text(&mut self, text: &str) -> Vec<u8> {
        self.list(text.as_bytes(), 1)
    }

    /// Pointer and number of elements.
    pub(crate) fn list(&mut self, bytes: &[u8], element_bytes: usize) -> Vec<u8> {
        let count = u32::try_from(bytes.len() / element_bytes).expect("little data");
        [self.put(bytes).to_le_bytes(), count.to_le_bytes()].concat()
    }
}

pub(crate) const TYPES: &str = r#"
(import "taskhost:task/types@0.1.0" (instance $types
  (type $error-def (record (field "exc-type" string) (field "exc-module" (option string))
    (field "arguments" string) (field "traceback" (option string))))
  (export "error" (type $error (eq $error-def)))
  (type $delay-def (variant (case "default") (case "countdown" f64) (case "eta" string)))
  (export "delay" (type $delay (eq $delay-def)))
  (type $retry-def (record (field "cause" (option $error)) (field "delay" $delay)
    (field "max-retries" (option u32)) (field "args" (option string)) (field "kwargs" (option string))))
  (export "retry" (type $retry (eq $retry-def)))
  (type $failure-def (variant (case "failed" $error) (case "retry" $retry) (case "reject" bool)
    (case "ignore") (case "replace" string)))
  (export "failure" (type $failure (eq $failure-def)))
  (type $invocation-def (record (field "id" string) (field "task" string) (field "args" string)
    (field "kwargs" string) (field "retries" u32)))
  (export "invocation" (type $invocation (eq $invocation-def)))
  (type $task-info-def (record (field "name" string) (field "summary" string) (field "schema" (option string))
    (field "options" (list (tuple string string)))))
  (export "task-info" (type $task-info (eq $task-info-def)))))
(alias export $types "failure" (type $failure))
(alias export $types "invocation" (type $invocation))
(alias export $types "task-info" (type $task-info))
"#;

/// `$subscribe` (nanoseconds) gives a pollable, `$block` waits for one, `$forget` drops it.
pub(crate) const SLEEP: Import = Import {
    component: r#"
(import "wasi:io/poll@0.2.0" (instance $poll
  (export "pollable" (type $pollable (sub resource)))
  (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
(alias export $poll "pollable" (type $pollable))
(import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
  (alias outer $C $pollable (type $p))
  (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
(core func $subscribe (canon lower (func $clock "subscribe-duration")))
(core func $block (canon lower (func $poll "[method]pollable.block")))
(core func $forget (canon resource.drop $pollable))
"#,
    with: r#"(with "sleep" (instance (export "subscribe" (func $subscribe)) (export "block" (func $block))
      (export "forget" (func $forget))))"#,
    core: r#"
(import "sleep" "forget" (func $forget (param i32)))
(import "sleep" "subscribe" (func $subscribe (param i64) (result i32)))
(import "sleep" "block" (func $block (param i32)))
"#,
};

/// As `$sleep`, and `$drop` (handle) gives a timer back.
pub(crate) const DROPPED_SLEEP: Import = Import {
    component: r#"
(import "wasi:io/poll@0.2.0" (instance $poll
  (export "pollable" (type $pollable (sub resource)))
  (export "[method]pollable.block" (func (param "self" (borrow $pollable))))))
(alias export $poll "pollable" (type $pollable))
(import "wasi:clocks/monotonic-clock@0.2.0" (instance $clock
  (alias outer $C $pollable (type $p))
  (export "subscribe-duration" (func (param "when" u64) (result (own $p))))))
(core func $subscribe (canon lower (func $clock "subscribe-duration")))
(core func $block (canon lower (func $poll "[method]pollable.block")))
(core func $drop (canon resource.drop $pollable))
"#,
    with: r#"(with "sleep" (instance (export "subscribe" (func $subscribe)) (export "block" (func $block))
      (export "drop" (func $drop))))"#,
    core: r#"
(import "sleep" "subscribe" (func $subscribe (param i64) (result i32)))
(import "sleep" "block" (func $block (param i32)))
(import "sleep" "drop" (func $drop (param i32)))
"#,
};

/// `$exit` (code).
pub(crate) const EXIT: Import = Import {
    component: r#"
(import "wasi:cli/exit@0.2.0" (instance $exit
  (export "exit-with-code" (func (param "status-code" u8)))))
(core func $exit (canon lower (func $exit "exit-with-code")))
"#,
    with: r#"(with "exit" (instance (export "exit" (func $exit))))"#,
    core: r#"(import "exit" "exit" (func $exit (param i32)))"#,
};

/// `$cancelled` and `$remaining`.
pub(crate) const CONTEXT: Import = Import {
    component: r#"
(import "taskhost:task/context@0.1.0" (instance $context
  (export "cancelled" (func (result bool)))
  (export "remaining-ms" (func (result u64)))))
(core func $cancelled (canon lower (func $context "cancelled")))
(core func $remaining (canon lower (func $context "remaining-ms")))
"#,
    with: r#"(with "context" (instance (export "cancelled" (func $cancelled)) (export "remaining" (func $remaining))))"#,
    core: r#"
(import "context" "cancelled" (func $cancelled (result i32)))
(import "context" "remaining" (func $remaining (result i64)))
"#,
};

/// `$random` (count, return pointer).
pub(crate) const RANDOM: Import = Import {
    component: r#"
(core module $libc (memory (export "memory") 64)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1024)))
(core instance $libc (instantiate $libc))
(import "wasi:random/random@0.2.0" (instance $random
  (export "get-random-bytes" (func (param "len" u64) (result (list u8))))))
(core func $random (canon lower (func $random "get-random-bytes")
  (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
"#,
    with: r#"(with "random" (instance (export "random" (func $random))))"#,
    core: r#"(import "random" "random" (func $random (param i64 i32)))"#,
};

/// `$stdout` and `$stderr` give a stream, `$write` (stream, pointer, length) writes at most 4096 bytes
/// of the libc memory, which `$libc_fill` fills with lines of 64 bytes.
pub(crate) const OUTPUT: Import = Import {
    component: r#"
(core module $libc (memory (export "memory") 2)
  (func (export "put") (param i32 i32) (i32.store8 (local.get 0) (local.get 1))))
(core instance $libc (instantiate $libc))
(import "wasi:io/error@0.2.0" (instance $ioerror (export "error" (type $error (sub resource)))))
(alias export $ioerror "error" (type $io-error))
(import "wasi:io/streams@0.2.0" (instance $streams
  (alias outer $C $io-error (type $e'))
  (export "output-stream" (type $output (sub resource)))
  (type $stream-error-def (variant (case "last-operation-failed" (own $e')) (case "closed")))
  (export "stream-error" (type $stream-error (eq $stream-error-def)))
  (export "[method]output-stream.blocking-write-and-flush"
    (func (param "self" (borrow $output)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
(alias export $streams "output-stream" (type $output))
(import "wasi:cli/stdout@0.2.0" (instance $out (alias outer $C $output (type $o))
  (export "get-stdout" (func (result (own $o))))))
(import "wasi:cli/stderr@0.2.0" (instance $err (alias outer $C $output (type $o))
  (export "get-stderr" (func (result (own $o))))))
(core func $stdout (canon lower (func $out "get-stdout")))
(core func $stderr (canon lower (func $err "get-stderr")))
(core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
  (memory (core memory $libc "memory"))))
"#,
    with: r#"(with "io" (instance (export "stdout" (func $stdout)) (export "stderr" (func $stderr))
      (export "write" (func $write)))) (with "libc" (instance $libc))"#,
    core: r#"
(import "io" "stdout" (func $stdout (result i32)))
(import "io" "stderr" (func $stderr (result i32)))
(import "io" "write" (func $write (param i32 i32 i32 i32)))
(import "libc" "put" (func $put (param i32 i32)))
"#,
};

/// An answer of `run` as it lies in memory.
pub(crate) struct Answer {
    bytes: [u8; 128],
    texts: String,
}

impl Answer {
    const AT: u32 = 256;
    const TEXTS_AT: u32 = 512;

    /// The case of `failure`.
    pub(crate) fn failure(case: u8) -> Self {
        Self { bytes: [0; 128], texts: String::new() }.byte(0, 1).byte(8, case)
    }

    pub(crate) fn byte(mut self, at: usize, byte: u8) -> Self {
        self.bytes[at] = byte;
        self
    }

    pub(crate) fn float(mut self, at: usize, float: f64) -> Self {
        self.bytes[at..at + 8].copy_from_slice(&float.to_le_bytes());
        self
    }

    pub(crate) fn text(mut self, at: usize, text: &str) -> Self {
        let pointer = Self::TEXTS_AT + u32::try_from(self.texts.len()).expect("short texts");
        let length = u32::try_from(text.len()).expect("short texts");
        self.bytes[at..at + 4].copy_from_slice(&pointer.to_le_bytes());
        self.bytes[at + 4..at + 8].copy_from_slice(&length.to_le_bytes());
        self.texts.push_str(text);
        self
    }

    /// An optional text, whose discriminant is at `at`.
    pub(crate) fn some(self, at: usize, text: &str) -> Self {
        self.byte(at, 1).text(at + 4, text)
    }

    pub(crate) fn guest(&self) -> Guest {
        let escape = |bytes: &[u8]| bytes.iter().map(|byte| format!("\\{byte:02x}")).collect::<String>();
        Guest::new(&format!("(i32.const {})", Self::AT))
            .field(&format!("(data (i32.const {}) \"{}\")", Self::AT, escape(&self.bytes)))
            .field(&format!("(data (i32.const {}) \"{}\")", Self::TEXTS_AT, escape(self.texts.as_bytes())))
    }
}

/// `$request` (return pointer): the text is put at 1 MiB of a memory that the core module imports.
pub(crate) const REQUEST: Import = Import {
    component: r#"
(core module $shared (memory (export "memory") 32)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1048576)))
(core instance $shared (instantiate $shared))
(import "taskhost:task/context@0.1.0" (instance $context (export "request" (func (result string)))))
(core func $request (canon lower (func $context "request")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
"#,
    with: r#"(with "request" (instance (export "request" (func $request)))) (with "shared" (instance $shared))"#,
    core: r#"(import "request" "request" (func $request (param i32)))"#,
};

/// `$update` (state pointer and length, meta pointer and length, return pointer): texts are read from the
/// memory that the core module imports, and the answer is put there. An error's text lies at 1 MiB.
/// And `$cancelled`.
pub(crate) const UPDATE: Import = Import {
    component: r#"
(core module $shared (memory (export "memory") 32)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1048576)))
(core instance $shared (instantiate $shared))
(import "taskhost:task/context@0.1.0" (instance $context
  (type $update-error-def (variant (case "invalid" string) (case "limited" string) (case "unavailable" string)))
  (export "update-error" (type $update-error (eq $update-error-def)))
  (export "cancelled" (func (result bool)))
  (export "update-state" (func (param "state" string) (param "meta" string) (result (result (error $update-error)))))))
(core func $update (canon lower (func $context "update-state")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
(core func $cancelled (canon lower (func $context "cancelled")))
"#,
    with: r#"(with "update" (instance (export "update" (func $update)) (export "cancelled" (func $cancelled)))) (with "shared" (instance $shared))"#,
    core: r#"
(import "update" "update" (func $update (param i32 i32 i32 i32 i32)))
(import "update" "cancelled" (func $cancelled (result i32)))
"#,
};

/// `$tell` (kind pointer and length, fields pointer and length, return pointer), with memory and errors as for
/// [`UPDATE`].
pub(crate) const TELL: Import = Import {
    component: r#"
(core module $shared (memory (export "memory") 32)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1048576)))
(core instance $shared (instantiate $shared))
(import "taskhost:task/context@0.1.0" (instance $context
  (type $event-error-def (variant (case "invalid" string) (case "limited" string)))
  (export "event-error" (type $event-error (eq $event-error-def)))
  (export "send-event" (func (param "kind" string) (param "fields" string) (result (result (error $event-error)))))))
(core func $tell (canon lower (func $context "send-event")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
"#,
    with: r#"(with "tell" (instance (export "tell" (func $tell)))) (with "shared" (instance $shared))"#,
    core: r#"
(import "tell" "tell" (func $tell (param i32 i32 i32 i32 i32)))
"#,
};

/// `$log` (level, context pointer and length, message pointer and length): texts are read from a memory that
/// `$put` (address, byte) writes.
pub(crate) const LOGGING: Import = Import {
    component: r#"
(core module $libc (memory (export "memory") 2)
  (func (export "put") (param i32 i32) (i32.store8 (local.get 0) (local.get 1))))
(core instance $libc (instantiate $libc))
(import "wasi:logging/logging@0.1.0-draft" (instance $logging
  (type $level-def (enum "trace" "debug" "info" "warn" "error" "critical"))
  (export "level" (type $level (eq $level-def)))
  (export "log" (func (param "level" $level) (param "context" string) (param "message" string)))))
(core func $log (canon lower (func $logging "log") (memory (core memory $libc "memory"))))
"#,
    with: r#"(with "logging" (instance (export "log" (func $log)))) (with "libc" (instance $libc))"#,
    core: r#"
(import "logging" "log" (func $log (param i32 i32 i32 i32 i32)))
(import "libc" "put" (func $put (param i32 i32)))
"#,
};

/// `$send` and `$immediately` (signature pointer and length, return pointer), `$get` (id pointer and length, return
/// pointer), `$wait` (the same, with milliseconds before the return pointer): as `$update` with memory. All
/// answer with a text, whatever it is: that of a success lies 4 bytes after the answer, of an error 8.
///
/// This is the interface as it was before canvases: it has to go on being linked.
pub(crate) const CALLS: Import = Import {
    component: r#"
(core module $shared (memory (export "memory") 32)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1048576)))
(core instance $shared (instantiate $shared))
(import "taskhost:task/publish@0.1.0" (instance $publish
  (type $publish-error-def (variant (case "denied" string) (case "invalid" string) (case "limited" string)
    (case "unavailable" string)))
  (export "publish-error" (type $publish-error (eq $publish-error-def)))
  (export "send" (func (param "signature" string) (result (result string (error $publish-error)))))
  (export "immediately" (func (param "signature" string) (result (result string (error $publish-error)))))))
(import "taskhost:task/results@0.1.0" (instance $results
  (type $result-error-def (variant (case "denied" string) (case "invalid" string) (case "unpublished" string)
    (case "timed-out" string) (case "cancelled" string) (case "unavailable" string)))
  (export "result-error" (type $result-error (eq $result-error-def)))
  (export "get" (func (param "id" string) (result (result string (error $result-error)))))
  (export "wait" (func (param "id" string) (param "timeout-ms" u64) (result (result string (error $result-error)))))))
(core func $send (canon lower (func $publish "send")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
(core func $immediately (canon lower (func $publish "immediately")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
(core func $get (canon lower (func $results "get")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
(core func $wait (canon lower (func $results "wait")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
"#,
    with: r#"(with "calls" (instance (export "send" (func $send)) (export "immediately" (func $immediately))
      (export "get" (func $get)) (export "wait" (func $wait)))) (with "shared" (instance $shared))"#,
    core: r#"
(import "calls" "send" (func $send (param i32 i32 i32)))
(import "calls" "immediately" (func $immediately (param i32 i32 i32)))
(import "calls" "get" (func $get (param i32 i32 i32)))
(import "calls" "wait" (func $wait (param i32 i32 i64 i32)))
"#,
};

/// `$apply` (signature, args and kwargs, each pointer and length, 1 for immediately, return pointer) and
/// `$add-to-chord` (signature pointer and length, 1 for immediately, return pointer), with `$get` as in [`CALLS`].
pub(crate) const CANVAS: Import = Import {
    component: r#"
(core module $shared (memory (export "memory") 32)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1048576)))
(core instance $shared (instantiate $shared))
(import "taskhost:task/publish@0.1.0" (instance $publish
  (type $publish-error-def (variant (case "denied" string) (case "invalid" string) (case "limited" string)
    (case "unavailable" string)))
  (export "publish-error" (type $publish-error (eq $publish-error-def)))
  (export "apply" (func (param "signature" string) (param "args" string) (param "kwargs" string)
    (param "immediately" bool) (result (result string (error $publish-error)))))
  (export "add-to-chord" (func (param "signature" string) (param "immediately" bool)
    (result (result string (error $publish-error)))))))
(import "taskhost:task/results@0.1.0" (instance $results
  (type $result-error-def (variant (case "denied" string) (case "invalid" string) (case "unpublished" string)
    (case "timed-out" string) (case "cancelled" string) (case "unavailable" string)))
  (export "result-error" (type $result-error (eq $result-error-def)))
  (export "get" (func (param "id" string) (result (result string (error $result-error)))))))
(core func $get (canon lower (func $results "get")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
(core func $apply (canon lower (func $publish "apply")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
(core func $add-to-chord (canon lower (func $publish "add-to-chord")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
"#,
    with: r#"(with "calls" (instance (export "apply" (func $apply)) (export "add-to-chord" (func $add-to-chord))
      (export "get" (func $get)))) (with "shared" (instance $shared))"#,
    core: r#"
(import "calls" "apply" (func $apply (param i32 i32 i32 i32 i32 i32 i32 i32)))
(import "calls" "add-to-chord" (func $add-to-chord (param i32 i32 i32 i32)))
(import "calls" "get" (func $get (param i32 i32 i32)))
"#,
};

/// What only asynchronous tasks can use.
pub(crate) const WAITING: Import = Import {
    component: r#"(import "taskhost:task/waiting@0.1.0" (instance $waiting
      (export "sleep" (func async (param "milliseconds" u64) (result bool)))))"#,
    with: "",
    core: "",
};

/// `$new` and `$drop` of a resource of the guest's own, whose destructor is this function.
macro_rules! resource {
    ($destructor:literal) => {
        Import {
            component: concat!(
                "(core module $destructor (func (export \"destroy\") (param i32) ",
                $destructor,
                r#"))
(core instance $destroying (instantiate $destructor))
(type $thing (resource (rep i32) (dtor (core func $destroying "destroy"))))
(core func $new (canon resource.new $thing))
(core func $drop (canon resource.drop $thing))
"#
            ),
            with: r#"(with "thing" (instance (export "new" (func $new)) (export "drop" (func $drop))))"#,
            core: r#"
(import "thing" "new" (func $new (param i32) (result i32)))
(import "thing" "drop" (func $drop (param i32)))
"#,
        }
    };
}

pub(crate) const THING: Import = resource!("");
pub(crate) const THING_THAT_SPINS: Import = resource!("(loop $l (br $l))");

/// `$open` (name pointer and length, return pointer) and `$increment` (bucket, key pointer and length, number, return
/// pointer) of the first draft of `wasi:keyvalue`, as `$update` with memory.
pub(crate) const KEYVALUE: Import = Import {
    component: r#"
(core module $shared (memory (export "memory") 32)
  (func (export "realloc") (param i32 i32 i32 i32) (result i32) (i32.const 1048576)))
(core instance $shared (instantiate $shared))
(import "wasi:keyvalue/store@0.2.0-draft" (instance $store
  (export "bucket" (type $bucket' (sub resource)))
  (type $kv-error-def (variant (case "no-such-store") (case "access-denied") (case "other" string)))
  (export "error" (type $kv-error' (eq $kv-error-def)))
  (type $keys-def (record (field "keys" (list string)) (field "cursor" (option u64))))
  (export "key-response" (type $keys (eq $keys-def)))
  (export "open" (func (param "identifier" string) (result (result (own $bucket') (error $kv-error')))))
  (export "[method]bucket.list-keys" (func (param "self" (borrow $bucket')) (param "cursor" (option u64))
    (result (result $keys (error $kv-error')))))))
(alias export $store "bucket" (type $bucket))
(alias export $store "error" (type $kv-error))
(import "wasi:keyvalue/atomics@0.2.0-draft" (instance $atomics
  (alias outer $C $bucket (type $b)) (export "bucket" (type $b' (eq $b)))
  (alias outer $C $kv-error (type $e)) (export "error" (type $e' (eq $e)))
  (export "increment" (func (param "bucket" (borrow $b')) (param "key" string) (param "delta" u64)
    (result (result u64 (error $e')))))))
(core func $open (canon lower (func $store "open")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
(core func $increment (canon lower (func $atomics "increment")
  (memory (core memory $shared "memory")) (realloc (core func $shared "realloc"))))
"#,
    with: r#"(with "keyvalue" (instance (export "open" (func $open)) (export "increment" (func $increment))))
      (with "shared" (instance $shared))"#,
    core: r#"
(import "keyvalue" "open" (func $open (param i32 i32 i32)))
(import "keyvalue" "increment" (func $increment (param i32 i32 i32 i64 i32)))
"#,
};
