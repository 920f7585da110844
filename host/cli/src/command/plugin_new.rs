//! `host plugin new`: a new plugin, and what to type next.

use std::process::ExitCode;

use crate::args::PluginNewArgs;
use crate::build::scaffold;
use crate::exit::Failure;
use crate::logging::print;

/// Makes the folder.
pub(crate) fn run(args: &PluginNewArgs) -> Result<ExitCode, Failure> {
    let name = scaffold::create(args.lang, &args.dir)?;
    let dir = args.dir.display();
    let prepare = args.lang.preparing().map_or_else(String::new, |command| format!("  {command}\n"));
    print(&format!(
        "{dir} is a plugin in {} with the tasks {name}.add and {name}.letters. Next:\n\n  \
         cd {dir}\n{prepare}  host plugin build\n  host plugin test\n\nIts README.md says how to go on.\n",
        args.lang.title()
    ))?;
    Ok(ExitCode::SUCCESS)
}
