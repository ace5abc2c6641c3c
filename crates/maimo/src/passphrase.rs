//! The passphrase of the node's key: from a variable, a file, a command or a prompt, never from an argument, which every process can read.

use std::{
    env, fs, io,
    path::Path,
    process::{Command, Stdio},
};

use zeroize::Zeroizing;

use crate::{
    config::{Config, Origin},
    error::{CommandError, Exit},
    ui::Ui,
};

/// The variable that holds it.
const VARIABLE: &str = "MAIMO_PASSPHRASE";

/// A secret text, wiped when it goes.
pub(crate) type Secret = Zeroizing<String>;

/// Returns the passphrase that the variable, the file or the command gives; nothing where none of them is set.
///
/// # Errors
///
/// One is set and gives nothing.
pub(crate) fn given(config: &Config) -> Result<Option<Secret>, CommandError> {
    let (file, command) = (&config.passphrase_file, &config.passphrase_command);
    let is_flag = [file, command]
        .iter()
        .any(|setting| setting.origin == Origin::Flag);
    if !is_flag && let Some(value) = env::var_os(VARIABLE) {
        let text = value
            .into_string()
            .map_err(|_| CommandError::config(format!("the variable {VARIABLE} is not UTF-8")))?;
        return Ok(Some(Secret::new(text)));
    }
    // Of two that speak, the one that is said more directly.
    let by_command = !command.value.is_empty()
        && (file.value.is_empty() || command.origin.rank() > file.origin.rank());
    if by_command {
        return from_command(&command.value).map(Some);
    }
    if file.value.is_empty() {
        return Ok(None);
    }
    let path = Path::new(&file.value);
    let text = fs::read(path)
        .map_err(|error| CommandError::io("read the passphrase from", path, &error))?;
    first_line(&Zeroizing::new(text), "the passphrase file").map(Some)
}

/// Asks for it on the terminal; nothing where there is none to ask on.
pub(crate) fn ask(ui: &Ui, prompt: &str) -> Result<Option<Secret>, CommandError> {
    if !ui.is_terminal() || !io::IsTerminal::is_terminal(&io::stdin()) {
        return Ok(None);
    }
    match rpassword::prompt_password(prompt) {
        Ok(text) => Ok(Some(Secret::new(text))),
        Err(error) => Err(CommandError::new(
            Exit::Failed,
            "local_io",
            format!("cannot read from the terminal: {error}"),
        )),
    }
}

/// Asks for a new one, twice.
pub(crate) fn ask_new(ui: &Ui) -> Result<Secret, CommandError> {
    let none = || {
        CommandError::usage("there is no terminal to ask for a passphrase on")
            .hint("use --passphrase-file, --passphrase-command or MAIMO_PASSPHRASE")
    };
    let first = ask(ui, "New passphrase: ")?.ok_or_else(none)?;
    let again = ask(ui, "Once more: ")?.ok_or_else(none)?;
    if first != again {
        return Err(CommandError::usage("the two passphrases differ"));
    }
    if first.is_empty() {
        return Err(CommandError::usage("an empty passphrase protects nothing"));
    }
    Ok(first)
}

fn from_command(command: &str) -> Result<Secret, CommandError> {
    let failed = |why: String| {
        CommandError::new(
            Exit::WrongPassphrase,
            "config",
            format!("the passphrase command {why}"),
        )
    };
    let output = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::inherit())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| failed(format!("cannot be run: {error}")))?;
    if !output.status.success() {
        return Err(failed(format!("failed: {}", output.status)));
    }
    first_line(&Zeroizing::new(output.stdout), "the passphrase command")
}

fn first_line(bytes: &[u8], whose: &str) -> Result<Secret, CommandError> {
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or(&[]);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    match std::str::from_utf8(line) {
        Ok("") => Err(CommandError::config(format!("{whose} gives an empty line"))),
        Ok(text) => Ok(Secret::new(text.to_owned())),
        Err(_) => Err(CommandError::config(format!("{whose} does not give UTF-8"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &[u8]) -> Result<String, String> {
        first_line(text, "it")
            .map(|secret| secret.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_secret_is_the_first_line_without_its_end() {
        assert_eq!(
            line(b"correct horse\nstaple").as_deref(),
            Ok("correct horse")
        );
        assert_eq!(line(b" spaces stay \r\n").as_deref(), Ok(" spaces stay "));
        assert!(line(b"\nsecond").is_err());
        assert!(line(b"\xff\n").is_err());
    }

    #[test]
    fn a_command_that_fails_gives_no_secret() {
        assert_eq!(*from_command("echo s3cret; echo more").unwrap(), "s3cret");
        let error = from_command("echo s3cret; exit 3").unwrap_err();
        assert_eq!(error.exit(), Exit::WrongPassphrase);
        assert!(!error.to_string().contains("s3cret"));
    }
}
