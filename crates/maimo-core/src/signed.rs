//! What signed objects end in: who signs and the extensions; after those the signature, on all bytes before it.
//!
//! A head's bytes end the same, but its signature is on its root. Who may have signed, and what for, each object says itself.
//! Invariant: no byte of an object is read before its length was held against its maximum.

use crate::{
    codec::{Extensions, ParseError, Put, Reader},
    head::ALGORITHM_ED25519,
    identity::{PublicKey, Role, Signature},
};

/// Appends the signature to the bytes that it is on.
pub(crate) fn join(mut signed: Vec<u8>, signature: &Signature) -> Vec<u8> {
    signed.put(signature.as_bytes());
    signed
}

/// Splits an object of at most `max` bytes into the bytes that are signed and the signature, which is not checked.
pub(crate) fn split<'b>(
    bytes: &'b [u8],
    max: usize,
    what: &'static str,
) -> Result<(&'b [u8], Signature), ParseError> {
    check_length(bytes, max, what)?;
    let (signed, signature) = bytes
        .split_last_chunk::<{ Signature::LENGTH }>()
        .ok_or(ParseError::Truncated { what: "signature" })?;
    Ok((signed, Signature(*signature)))
}

/// Returns an error if an object takes more than `max` bytes.
pub(crate) fn check_length(bytes: &[u8], max: usize, what: &'static str) -> Result<(), ParseError> {
    if bytes.len() > max {
        return Err(ParseError::TooLarge {
            what,
            found: bytes.len() as u64,
            max: max as u64,
        });
    }
    Ok(())
}

/// Appends the end of the signed bytes.
pub(crate) fn encode_end<R: Role>(
    signer: &PublicKey<R>,
    extensions: &Extensions,
    out: &mut Vec<u8>,
) {
    out.put_u8(ALGORITHM_ED25519);
    out.put(signer.as_bytes());
    extensions.encode(out);
}

/// Reads the end of the signed bytes, after which there are none; `role` is what the signer's key is called in errors.
pub(crate) fn parse_end<R: Role>(
    mut reader: Reader<'_>,
    role: &'static str,
) -> Result<(PublicKey<R>, Extensions), ParseError> {
    if reader.u8("signature algorithm")? != ALGORITHM_ED25519 {
        return Err(ParseError::Invalid {
            what: "signature algorithm",
        });
    }
    let signer = PublicKey::parse(&mut reader, role)?;
    let extensions = Extensions::parse(&mut reader)?;
    reader.finish()?;
    Ok((signer, extensions))
}
