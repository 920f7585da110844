//! Runs a program in a process group of its own, and ends the whole group when its time has come.
//!
//! A program that is killed cannot tidy up. So whatever must not outlive us is started by a small helper process
//! (`xtask guard`, `xtask serve`), out of reach of the terminal's Ctrl-C, that watches a pipe whose other
//! end only we hold: it closes when we end, however we end.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::process::{Child, Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;

/// How long a group may take to end by itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(20);

/// A running program and all that it started; killed when dropped.
pub(crate) struct Group {
    leader: Child,
}

impl Group {
    pub(crate) fn start(command: &mut Command) -> Result<Group> {
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(command, 0);
        let name = command.get_program().to_string_lossy().into_owned();
        let leader = command.spawn().map_err(|error| format!("start `{name}`: {error}"))?;
        Ok(Group { leader })
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.leader.try_wait().ok().flatten()
    }

    /// Asks every process of the group to end, and kills what does not.
    pub(crate) fn stop(&mut self) {
        self.signal("TERM");
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if self.ended().is_some() && !self.signal("0") {
                return;
            }
            thread::sleep(POLL);
        }
        self.kill();
    }

    /// Ends every process of the group at once.
    pub(crate) fn kill(&mut self) {
        self.signal("KILL");
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }

    /// True if there was a process to signal. std cannot signal groups, a shell can.
    fn signal(&self, name: &str) -> bool {
        let script = format!("kill -{name} -{}", self.leader.id());
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(script).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        shell.status().is_ok_and(|status| status.success())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A command for this very program, whose helper processes must survive the terminal's Ctrl-C.
pub(crate) fn this_program(arguments: &[&OsStr]) -> Result<Command> {
    let program = std::env::current_exe().map_err(|error| format!("find this program: {error}"))?;
    let mut command = Command::new(program);
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    command.args(arguments).stdin(Stdio::piped());
    Ok(command)
}

/// `xtask guard PROGRAM [ARGUMENT..]`: runs it until it ends or until our standard input does.
pub(crate) fn guard(arguments: &[String]) -> Result<ExitCode> {
    let (program, arguments) = arguments.split_first().ok_or("guard needs a program")?;
    let mut group = Group::start(Command::new(program).args(arguments).stdin(Stdio::null()))?;
    let input = thread::spawn(|| io::stdin().read_to_end(&mut Vec::new()));
    loop {
        if let Some(status) = group.ended() {
            return Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)));
        }
        if input.is_finished() {
            group.stop();
            return Ok(ExitCode::FAILURE);
        }
        thread::sleep(POLL);
    }
}
