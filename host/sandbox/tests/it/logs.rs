//! What guests print becomes lines of the host's log.

use std::io;
use std::sync::{Arc, Mutex};

use taskhost_core::{Outcome, Trap};
use tracing_subscriber::fmt::MakeWriter;

use crate::guest::{Guest, OUTPUT};
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
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt().with_writer(captured.clone()).with_ansi(false).without_time().finish();
    let world = World::guest(&guest.import(OUTPUT)).await;
    let outcome = {
        let _guard = tracing::subscriber::set_default(subscriber);
        world.run(world.attempt("t")).await.outcome
    };
    world.check_alive().await;
    let bytes = captured.0.lock().expect("no panic while it was held").clone();
    (outcome, String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect())
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
    let fields = "task.id=id-1 task.name=t plugin=guest";
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
