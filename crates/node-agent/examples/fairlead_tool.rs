//! The tool as a program of its own: what tests make the tool image of. Run as `fairlead_tool tool <command>`.

use std::process::ExitCode;

use tool_image::ToolCommand;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(2).collect();
    match ToolCommand::from_words(&words) {
        Ok(command) => container_images::tool::run(&command),
        Err(why) => {
            eprintln!("{why}");
            ExitCode::from(2)
        }
    }
}
