//! What guests print becomes lines of the host's log.

use std::io;
use std::sync::{Arc, Mutex, Once};

use taskhost_core::{Outcome, Trap};
use tracing::Level;
use tracing_subscriber::fmt::MakeWriter;

use crate::guest::{Guest, Import, LOGGING, OUTPUT};
use crate::world::World;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic while it was held").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

/// Runs the task `t` and gives the outcome and the lines of the log.
async fn logged(guest: Guest) -> (Outcome, Vec<String>) {
    logged_with(guest, OUTPUT, Level::INFO).await
}

async fn logged_with(guest: Guest, import: Import, level: Level) -> (Outcome, Vec<String>) {
    let manifest = b"name = \"guest\"\nversion = \"1.2\"".to_vec();
    let world = World::new(&[("g/plugin.toml", manifest), ("g/guest.wasm", guest.import(import).build())]).await;
    run(&world, level).await
}

async fn run(world: &World, level: Level) -> (Outcome, Vec<String>) {
    let (outcome, log) = capture(level, async { world.run(world.attempt("t")).await.outcome }).await;
    world.check_alive().await;
    (outcome, log)
}

/// Has somebody want all that a test looks at, for as long as this process lives. Without, a place in the code that is first reached on
/// another thread just while a capture begins may be taken for one that interests nobody, for good.
pub(crate) fn listen() {
    static LISTENING: Once = Once::new();
    LISTENING.call_once(|| {
        let everything = tracing_subscriber::fmt().with_max_level(Level::DEBUG).with_writer(io::sink);
        everything.try_init().expect("nobody else listens");
    });
}

/// The lines that are logged meanwhile, on this thread.
pub(crate) async fn capture<T>(level: Level, work: impl Future<Output = T>) -> (T, Vec<String>) {
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(level).with_writer(captured.clone());
    let subscriber = subscriber.with_ansi(false).without_time().finish();
    let done = {
        let _guard = tracing::subscriber::set_default(subscriber);
        work.await
    };
    let bytes = captured.0.lock().expect("no panic while it was held").clone();
    (done, String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect())
}

/// Writes a text to a stream, byte by byte into the memory that `$write` reads.
fn print(stream: &str, text: &str) -> String {
    let puts: String =
        text.bytes().enumerate().map(|(at, byte)| format!("(call $put (i32.const {at}) (i32.const {byte}))")).collect();
    format!("{puts} (call $write (call {stream}) (i32.const 0) (i32.const {}) (i32.const 8192))", text.len())
}

const OK: &str = "(call $ok (local.get 4) (local.get 5))";

#[tokio::test]
async fn lines_carry_the_task_and_are_cleaned() {
    let body = [
        print("$stdout", "first\nsec"),
        print("$stderr", "\u{1b}[31mtrouble\u{1b}[0m\n"),
        print("$stdout", "ond\nlast"),
        OK.to_owned(),
    ];
    let (outcome, lines) = logged(Guest::new(&body.concat())).await;
    assert!(matches!(outcome, Outcome::Success(_)));
    let fields = "task.id=id-1 task.name=t plugin=guest version=1.2";
    assert_eq!(
        lines.iter().map(|line| line.trim_start()).collect::<Vec<_>>(),
        [
            format!("INFO task: first {fields}"),
            format!("WARN task: trouble {fields}"),
            format!("INFO task: second {fields}"),
            format!("INFO task: last {fields}"),
        ]
    );
}

#[tokio::test]
async fn a_flood_is_cut_and_the_cut_is_stated() {
    // 1000 times 4096 bytes of 64-byte lines.
    let flood = "(local.set 0 (i32.const 0))
        (loop $fill (call $put (local.get 0) (select (i32.const 10) (i32.const 120)
            (i32.eq (i32.and (local.get 0) (i32.const 63)) (i32.const 63))))
          (local.set 0 (i32.add (local.get 0) (i32.const 1)))
          (br_if $fill (i32.lt_u (local.get 0) (i32.const 4096))))
        (local.set 0 (i32.const 0)) (local.set 1 (call $stdout))
        (loop $flood (call $write (local.get 1) (i32.const 0) (i32.const 4096) (i32.const 8192))
          (local.set 0 (i32.add (local.get 0) (i32.const 1)))
          (br_if $flood (i32.lt_u (local.get 0) (i32.const 1000))))";
    let (outcome, lines) = logged(Guest::new(&format!("{flood} {OK}"))).await;
    assert!(matches!(outcome, Outcome::Success(_)));
    // 64 KiB at 63 bytes and 32 for the line.
    assert_eq!(lines.len(), 691);
    let last = lines.last().expect("a last line");
    assert!(last.contains("bytes of output dropped; raise limits.log "), "{last}");
    assert!(lines.iter().all(|line| line.len() < 200));
}

#[tokio::test]
async fn a_trap_tells_what_the_guest_said_last() {
    let panic = "thread 'main' panicked at src/lib.rs:7:5:\nboom\nnote: run with `RUST_BACKTRACE=1`\n";
    let (outcome, _) = logged(Guest::new(&format!("{} unreachable", print("$stderr", panic)))).await;
    let Outcome::Trapped(Trap::Instruction(why)) = outcome else { panic!("no trap: {outcome:?}") };
    assert!(why.ends_with("; stderr: thread 'main' panicked at src/lib.rs:7:5: boom"), "{why}");
}

/// Logs a message in a context.
fn log(level: u8, context: &str, message: &str) -> String {
    let both = format!("{context}{message}");
    let puts: String =
        both.bytes().enumerate().map(|(at, byte)| format!("(call $put (i32.const {at}) (i32.const {byte}))")).collect();
    let (at, length) = (context.len(), message.len());
    format!(
        "{puts} (call $log (i32.const {level}) (i32.const 0) (i32.const {at}) (i32.const {at}) (i32.const {length}))"
    )
}

#[tokio::test]
async fn wasi_logging_keeps_level_and_context() {
    let body = [
        log(0, "db", "traced"),
        log(1, "db", "debugged"),
        log(2, "db\u{1b}[31m", "two\nlines\n"),
        log(3, "", "no context"),
        log(4, "db", "broken"),
        log(5, "db", "very\u{7} broken"),
        OK.to_owned(),
    ]
    .concat();
    let fields = "task.id=id-1 task.name=t plugin=guest version=1.2";
    let expected = [
        format!("DEBUG task: db: traced {fields}"),
        format!("DEBUG task: db: debugged {fields}"),
        format!("INFO task: db: two {fields}"),
        format!("INFO task: db: lines {fields}"),
        format!("WARN task: no context {fields}"),
        format!("ERROR task: db: broken {fields}"),
        format!("ERROR task: db: very broken {fields}"),
    ];
    for (level, first) in [(Level::DEBUG, 0), (Level::INFO, 2)] {
        let (outcome, lines) = logged_with(Guest::new(&body), LOGGING, level).await;
        assert!(matches!(outcome, Outcome::Success(_)));
        let task = |line: &&str| line.contains(" task: ");
        assert_eq!(lines.iter().map(|line| line.trim_start()).filter(task).collect::<Vec<_>>(), expected[first..]);
    }
}

#[tokio::test]
async fn wasi_logging_has_the_bounds_of_what_is_printed() {
    // A line of a megabyte without an end, a thousand times; and what nobody sees counts for nothing.
    let flood = "(local.set 0 (i32.const 0))
        (loop $l (call $log (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 100000))
          (call $log (i32.const 2) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 100000))
          (local.set 0 (i32.add (local.get 0) (i32.const 1)))
          (br_if $l (i32.lt_u (local.get 0) (i32.const 1000))))";
    let fill = "(local.set 0 (i32.const 0)) (loop $f (call $put (local.get 0) (i32.const 120))
        (local.set 0 (i32.add (local.get 0) (i32.const 1))) (br_if $f (i32.lt_u (local.get 0) (i32.const 100000))))";
    let guest = Guest::new(&format!("{fill} {flood} {OK}"));
    let (outcome, lines) = logged_with(guest, LOGGING, Level::INFO).await;
    assert!(matches!(outcome, Outcome::Success(_)));
    // 64 KiB in lines of 8 KiB, cut, and what was dropped.
    assert_eq!(lines.len(), 9, "{}", lines.len());
    assert!(lines[0].contains("x…"));
    let dropped = 1000 * 100_000 - (64 << 10) + 7 * 32;
    assert!(lines[8].contains(&format!("… {dropped} bytes of output dropped; raise limits.log ")), "{}", lines[8]);
}

#[tokio::test]
async fn a_plugin_without_a_version_is_known_by_its_hash() {
    let body = format!("{} {OK}", log(2, "", "hello"));
    let world = World::guest(&Guest::new(&body).import(LOGGING)).await;
    let report = world.loaded.plugins.iter().find(|plugin| plugin.name == "guest").expect("it is loaded");
    let (_, lines) = run(&world, Level::INFO).await;
    assert!(lines[0].ends_with(&format!("version={}", &report.sha256[..12])), "{}", lines[0]);
}
