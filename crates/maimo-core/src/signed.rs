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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Auth, AuthSecretKey};

    #[test]
    fn an_object_is_as_long_as_its_maximum_and_no_longer() {
        let signature = Signature([7; Signature::LENGTH]);
        let whole = join(vec![1, 2, 3], &signature);
        assert_eq!(whole.len(), 3 + Signature::LENGTH);
        let (signed, found) = split(&whole, whole.len(), "object").unwrap();
        assert_eq!(signed, [1, 2, 3]);
        assert_eq!(found, signature);
        let too_large = ParseError::TooLarge {
            what: "object",
            found: 67,
            max: 66,
        };
        assert_eq!(split(&whole, whole.len() - 1, "object"), Err(too_large));
    }

    #[test]
    fn what_is_shorter_than_a_signature_is_cut_short() {
        let bytes = [0; Signature::LENGTH];
        assert!(split(&bytes, 100, "object").unwrap().0.is_empty());
        let truncated = ParseError::Truncated { what: "signature" };
        assert_eq!(split(&bytes[1..], 100, "object"), Err(truncated));
    }

    #[test]
    fn another_algorithm_or_a_byte_after_the_end_is_refused() {
        let key = AuthSecretKey::from_seed(&[1; 32]).public();
        let mut end = Vec::new();
        encode_end(&key, &Extensions::default(), &mut end);
        let parse = |bytes: &[u8]| parse_end::<Auth>(Reader::new(bytes), "signer");
        assert_eq!(parse(&end), Ok((key, Extensions::default())));
        assert_eq!(
            parse(&[&end[..], &[0]].concat()),
            Err(ParseError::Trailing { extra: 1 })
        );
        end[0] = ALGORITHM_ED25519 + 1;
        let what = "signature algorithm";
        assert_eq!(parse(&end), Err(ParseError::Invalid { what }));
    }
}
