//! What a user names a provider by: a folder, an address, or an invitation's line.
//!
//! The line is a secret until it is redeemed, and as an argument every process of the machine can read it for that moment. It is taken so
//! all the same, because that is how one is handed over; `-` reads it from standard input or asks for it.

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read as _},
    path::Path,
};

use maimo_core::{
    address::{Address, ParseAddressError},
    invitation::{Invitation, InvitationError},
    line::LINE_CHARACTERS_MAX,
};
use zeroize::Zeroizing;

use crate::{
    connect,
    context::Context,
    daemon::now,
    error::{CommandError, Exit},
    passphrase,
};

/// What lines begin with; as a URI scheme, in capitals too.
const SCHEME: &str = "maimo:";

/// A provider as a user names it.
pub(super) enum Target {
    /// A folder, as an address.
    Folder(String),
    /// A network address.
    Address(String),
    /// The line of an invitation that may still be redeemed, by its date.
    Invitation(Zeroizing<String>),
}

impl Target {
    /// Reads what was given.
    ///
    /// # Errors
    ///
    /// A line that is damaged or has expired; a folder that cannot be.
    pub(super) fn read(text: &OsStr, ctx: &Context) -> Result<Self, CommandError> {
        if text == "-" && ctx.guest.is_none() {
            let line = read_line(ctx)?;
            return invitation(line.trim());
        }
        if let Some(text) = text.to_str() {
            if is_line(text) {
                return invitation(text.trim());
            }
            // A folder may have a colon in its name; `./` before it says that it is one.
            match text.parse::<Address>() {
                _ if ctx.folder.path(Path::new(text))?.exists() => {}
                Ok(address) => return Ok(Self::Address(address.to_string())),
                // Mistyped: a folder of that name, made without a word, is not what was meant.
                Err(error @ ParseAddressError::Onion(_)) => {
                    return Err(CommandError::classified(Exit::Usage, &error)
                        .hint("copy the whole address again, and its port"));
                }
                Err(ParseAddressError::Port | ParseAddressError::Host)
                    if text.contains(':') && !text.contains('/') =>
                {
                    return Err(CommandError::usage(format!(
                        "{text} is neither an address nor a folder that is there"
                    ))
                    .hint("an address is host.example:4243; a new folder with a colon in its name is ./NAME"));
                }
                Err(_) => {}
            }
        }
        connect::address_of(&ctx.folder.path(Path::new(text))?).map(Self::Folder)
    }
}

/// Reads what `-` stands for, to be sent to another process in its place.
pub(super) fn gather(target: &mut OsString, ctx: &Context) -> Result<(), CommandError> {
    if target == "-" {
        *target = read_line(ctx)?.trim().into();
    }
    Ok(())
}

fn is_line(text: &str) -> bool {
    let start = text.trim_start().get(..SCHEME.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(SCHEME))
}

fn invitation(line: &str) -> Result<Target, CommandError> {
    let invitation = Invitation::from_line(line);
    let checked = invitation.and_then(|invitation| invitation.check(now()).map(|()| invitation));
    match checked {
        Ok(invitation) => Ok(Target::Invitation(invitation.to_line())),
        // What was typed is right: who made it has to make another.
        Err(error @ InvitationError::Expired) => {
            Err(CommandError::classified(Exit::Provider, &error))
        }
        Err(error) => Err(CommandError::classified(Exit::Usage, &error)),
    }
}

fn read_line(ctx: &Context) -> Result<Zeroizing<String>, CommandError> {
    if let Some(line) = passphrase::ask(&ctx.ui, "The invitation (it is not shown): ")? {
        return Ok(line);
    }
    let mut text = Zeroizing::new(String::with_capacity(LINE_CHARACTERS_MAX + 2));
    let mut input = io::stdin().lock().take(LINE_CHARACTERS_MAX as u64 + 2);
    input
        .read_to_string(&mut text)
        .map_err(|error| CommandError::usage(format!("cannot read the invitation: {error}")))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use maimo_core::{
        address::Addresses,
        clock::Timestamp,
        custody::Grace,
        identity::AuthSecretKey,
        invitation::{InvitationToken, Offer},
    };

    use super::*;

    #[test]
    fn a_line_is_known_by_its_beginning_in_any_case() {
        assert!(is_line("maimo:invite1xyz") && is_line(" MAIMO:INVITE1XYZ"));
        assert!(!is_line("maimo") && !is_line("/mnt/maimo:x") && !is_line(""));
    }

    #[test]
    fn an_invitation_that_expired_is_the_providers_to_renew() {
        let at: Address = "127.0.0.1:1".parse().unwrap();
        let offer = Offer {
            provider: AuthSecretKey::from_seed(&[2; 32]).public(),
            addresses: Addresses::new(vec![at]).unwrap(),
            expires: Timestamp(1000),
            cap: 1,
            reserve: 1,
            grace: Grace::DEFAULT,
        };
        let line = Invitation::new(offer, InvitationToken::from_bytes(&[5; 16])).unwrap();
        let error = invitation(&line.to_line()).err().unwrap();
        assert_eq!(error.exit(), Exit::Provider);
        let hint = error.hint_text().unwrap();
        assert!(hint.contains("new invitation"), "{hint}");
    }

    #[test]
    fn a_damaged_line_is_a_wrong_argument() {
        let error = invitation("maimo:invite1qqqq").err().unwrap();
        assert_eq!(error.exit(), Exit::Usage);
        assert!(
            error.hint_text().is_some_and(|hint| hint.contains("copy")),
            "{error}"
        );
    }
}
