use aws_lc_rs::{constant_time, digest as sha, hmac};

/// The SHA-256 digest of `bytes` (FIPS 180-4).
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(sha::digest(&sha::SHA256, bytes).as_ref());
    out
}

/// HMAC-SHA-256 (RFC 2104) of `bytes` under a key of the caller's own.
#[must_use]
pub fn keyed_digest(key: &[u8; 32], bytes: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut out = [0; 32];
    out.copy_from_slice(hmac::sign(&key, bytes).as_ref());
    out
}

/// Whether two values are equal, in a time that depends on their lengths alone.
#[must_use]
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_sha_256() {
        let hex: String = digest(b"abc")
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        assert_eq!(
            hex,
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn equal_compares_length_and_bytes() {
        assert!(equal(b"", b"") && equal(b"ab", b"ab"));
        assert!(!equal(b"ab", b"ac") && !equal(b"ab", b"abc") && !equal(b"", b"a"));
    }
}
