use std::fmt;
use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::{hkdf, hmac, rand};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The first byte of everything sealed; another one means another rule of sealing.
const VERSION: u8 = 1;
/// Bytes of a GCM tag.
const TAG_LEN: usize = 16;

/// Why something sealed did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Shorter than an empty sealed value.
    #[error("sealed value is cut short")]
    Short,
    /// Sealed by a rule that this version does not know.
    #[error("sealed value has the unknown version {0}")]
    Version(u8),
    /// Sealed with another key, for another place, or changed since: which of them can't be told.
    #[error("sealed value does not open with this key at this place")]
    Refused,
}

/// The place a sealed value belongs to. It opens nowhere else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    /// The table's name.
    pub table: &'a str,
    /// The column's name.
    pub column: &'a str,
    /// The tenant of the row; nil for rows of the installation.
    pub tenant: Uuid,
    /// The row's id.
    pub row: Uuid,
}

impl Place<'_> {
    /// The additional data of the seal: a fixed start, each name with its length before it, the ids. No two places
    /// have the same encoding.
    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.table.len() + self.column.len());
        out.extend_from_slice(b"weft.seal");
        out.push(VERSION);
        for name in [self.table, self.column] {
            out.extend_from_slice(&(name.len() as u64).to_be_bytes());
            out.extend_from_slice(name.as_bytes());
        }
        out.extend_from_slice(self.tenant.as_bytes());
        out.extend_from_slice(self.row.as_bytes());
        out
    }
}

/// AES-256-GCM with a random 96-bit nonce (NIST SP 800-38D): good for 2³² values per key.
struct SealingKey(LessSafeKey);

impl SealingKey {
    fn new(key: &[u8; 32]) -> Self {
        Self(LessSafeKey::new(
            UnboundKey::new(&AES_256_GCM, key).expect("the key has the length of AES-256"),
        ))
    }

    /// Version, nonce, ciphertext, tag.
    fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Vec<u8> {
        let mut nonce = [0; NONCE_LEN];
        fill(&mut nonce);
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + TAG_LEN);
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let tag = self
            .0
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(place.encode()),
                &mut sealed[1 + NONCE_LEN..],
            )
            .expect("a value in memory is shorter than the 64 GiB that GCM can seal");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (&version, rest) = sealed.split_first().ok_or(SealError::Short)?;
        if version != VERSION {
            return Err(SealError::Version(version));
        }
        let (nonce, rest) = rest
            .split_first_chunk::<NONCE_LEN>()
            .ok_or(SealError::Short)?;
        if rest.len() < TAG_LEN {
            return Err(SealError::Short);
        }
        let mut plain = Zeroizing::new(rest.to_vec());
        let length = self
            .0
            .open_in_place(
                Nonce::assume_unique_for_key(*nonce),
                Aad::from(place.encode()),
                &mut plain,
            )
            .map_err(|_| SealError::Refused)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }
}

/// The key that a tenant's values are sealed with. Clones are the same key.
#[derive(Clone)]
pub struct DataKey(Arc<SealingKey>);

impl DataKey {
    /// Seals `plain` for `place`: a version byte, a random nonce, the ciphertext and its tag, 29 bytes more than `plain`.
    #[must_use]
    pub fn seal(&self, place: &Place<'_>, plain: &[u8]) -> Vec<u8> {
        self.0.seal(place, plain)
    }

    /// Opens what was sealed for the same `place`; the answer is wiped from memory when it is dropped.
    ///
    /// # Errors
    ///
    /// [`SealError`] for anything not sealed with this key for this place.
    pub fn open(&self, place: &Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.0.open(place, sealed)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(***)")
    }
}

/// What follows from one secret key.
struct Keys {
    root: hkdf::Prk,
    wrapping: SealingKey,
    system: SealingKey,
}

impl Keys {
    fn new(secret_key: &[u8; 32]) -> Self {
        let root = extract(secret_key);
        Self {
            wrapping: SealingKey::new(&expand(&root, "wrap", "data-key")),
            system: SealingKey::new(&expand(&root, "seal", "system")),
            root,
        }
    }
}

fn extract(key: &[u8; 32]) -> hkdf::Prk {
    hkdf::Salt::new(hkdf::HKDF_SHA256, b"weft").extract(key)
}

/// One subkey. The use stands before the label, so that no label can name the subkey of another use.
fn expand(root: &hkdf::Prk, usage: &str, label: &str) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    root.expand(
        &[usage.as_bytes(), b":", label.as_bytes()],
        hkdf::HKDF_SHA256,
    )
    .and_then(|okm| okm.fill(key.as_mut()))
    .expect("32 bytes are within what HKDF-SHA256 gives");
    key
}

/// The installation's secret key, and the one before it while a rotation is under way.
///
/// The secret key itself seals nothing: each use has a subkey of its own (HKDF-SHA256, RFC 5869). Clones are the same.
///
/// What is handed out, or stored, as a keyed digest can't be made anew when the secret key changes. [`Keyring::mac`] therefore takes
/// the subkeys of another one, which is stored sealed and stays the same: [`Keyring::with_installation_key`].
#[derive(Clone)]
pub struct Keyring {
    secret: Arc<(Keys, Option<Keys>)>,
    installation: Option<Arc<hkdf::Prk>>,
}

impl Keyring {
    /// A keyring of `secret_key`; what `previous` sealed still opens.
    #[must_use]
    pub fn new(secret_key: [u8; 32], previous: Option<[u8; 32]>) -> Self {
        let (secret_key, previous) = (Zeroizing::new(secret_key), previous.map(Zeroizing::new));
        Self {
            secret: Arc::new((Keys::new(&secret_key), previous.map(|key| Keys::new(&key)))),
            installation: None,
        }
    }

    /// The same, where keyed digests follow from `key`, whatever the secret key is.
    #[must_use]
    pub fn with_installation_key(&self, key: &[u8; 32]) -> Self {
        Self {
            secret: self.secret.clone(),
            installation: Some(Arc::new(extract(key))),
        }
    }

    /// A subkey of the current secret key, by a label that says what it is for.
    #[must_use]
    pub fn derive(&self, label: &str) -> [u8; 32] {
        *expand(&self.secret.0.root, "key", label)
    }

    /// HMAC-SHA256 (RFC 2104) of `bytes`, with a subkey that belongs to `label` alone: of the installation's key, or, in a keyring
    /// that was not given it, of the current secret key.
    #[must_use]
    pub fn mac(&self, label: &str, bytes: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(hmac::sign(&self.mac_key(label), bytes).as_ref());
        out
    }

    /// Whether `mac` is what [`Keyring::mac`] gives for `bytes`. Takes a time that does not depend on where they differ.
    #[must_use]
    pub fn verify_mac(&self, label: &str, bytes: &[u8], mac: &[u8]) -> bool {
        hmac::verify(&self.mac_key(label), bytes, mac).is_ok()
    }

    fn mac_key(&self, label: &str) -> hmac::Key {
        let root = self.installation.as_deref().unwrap_or(&self.secret.0.root);
        hmac::Key::new(hmac::HMAC_SHA256, expand(root, "mac", label).as_ref())
    }

    /// A new data key for `tenant`, and its wrapped form to store.
    #[must_use]
    pub fn new_data_key(&self, tenant: Uuid) -> (DataKey, Vec<u8>) {
        let mut key = Zeroizing::new([0; 32]);
        fill(key.as_mut());
        let wrapped = self
            .secret
            .0
            .wrapping
            .seal(&wrapped_place(tenant), key.as_ref());
        (DataKey(Arc::new(SealingKey::new(&key))), wrapped)
    }

    /// Opens the stored data key of `tenant`.
    ///
    /// # Errors
    ///
    /// [`SealError`] where neither the current nor the previous secret key wrapped it for this tenant.
    pub fn open_data_key(&self, tenant: Uuid, wrapped: &[u8]) -> Result<DataKey, SealError> {
        let key = self.unwrap(tenant, wrapped)?;
        Ok(DataKey(Arc::new(SealingKey::new(&key))))
    }

    /// Wraps the stored data key of `tenant` anew, with the current secret key; `None` where it is wrapped by it already.
    ///
    /// # Errors
    ///
    /// As [`Keyring::open_data_key`].
    pub fn rewrap_data_key(
        &self,
        tenant: Uuid,
        wrapped: &[u8],
    ) -> Result<Option<Vec<u8>>, SealError> {
        self.anew(&wrapped_place(tenant), wrapped, |keys| &keys.wrapping)
    }

    fn unwrap(&self, tenant: Uuid, wrapped: &[u8]) -> Result<Zeroizing<[u8; 32]>, SealError> {
        let plain = self.first(|keys| keys.wrapping.open(&wrapped_place(tenant), wrapped))?;
        let key = plain.as_slice().try_into().map_err(|_| SealError::Short)?;
        Ok(Zeroizing::new(key))
    }

    /// Seals a value of the installation itself, which belongs to no tenant (a signing key).
    #[must_use]
    pub fn seal_system(&self, place: &Place<'_>, plain: &[u8]) -> Vec<u8> {
        self.secret.0.system.seal(place, plain)
    }

    /// Opens a value that [`Keyring::seal_system`] sealed for the same `place`, under the current or the previous
    /// secret key.
    ///
    /// # Errors
    ///
    /// [`SealError`] for anything else.
    pub fn open_system(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.first(|keys| keys.system.open(place, sealed))
    }

    /// Seals anew, with the current secret key, what [`Keyring::seal_system`] sealed for the same `place`; `None` where it is sealed
    /// by it already.
    ///
    /// # Errors
    ///
    /// As [`Keyring::open_system`].
    pub fn reseal_system(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, SealError> {
        self.anew(place, sealed, |keys| &keys.system)
    }

    /// What the previous secret key sealed, sealed by the current one.
    fn anew(
        &self,
        place: &Place<'_>,
        sealed: &[u8],
        by: impl Fn(&Keys) -> &SealingKey,
    ) -> Result<Option<Vec<u8>>, SealError> {
        let (current, previous) = &*self.secret;
        match (by(current).open(place, sealed), previous) {
            (Ok(_), _) => Ok(None),
            (Err(SealError::Refused), Some(previous)) => {
                let plain = by(previous).open(place, sealed)?;
                Ok(Some(by(current).seal(place, &plain)))
            }
            (Err(error), _) => Err(error),
        }
    }

    /// The first key's answer that is one, else the current key's error.
    fn first<T>(&self, open: impl Fn(&Keys) -> Result<T, SealError>) -> Result<T, SealError> {
        let (current, previous) = &*self.secret;
        let current = open(current);
        match (&current, previous) {
            (Err(SealError::Refused), Some(previous)) => open(previous),
            _ => current,
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(***)")
    }
}

/// Where a wrapped data key belongs. Its sealing key is not used for anything else.
fn wrapped_place(tenant: Uuid) -> Place<'static> {
    Place {
        table: "",
        column: "data_key",
        tenant,
        row: tenant,
    }
}

fn fill(bytes: &mut [u8]) {
    rand::fill(bytes)
        .expect("the random source of aws-lc answers once it is seeded, which start proves");
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENANT: Uuid = Uuid::from_u128(1);
    const ROW: Uuid = Uuid::from_u128(2);
    const PLACE: Place<'static> = Place {
        table: "model",
        column: "api_key",
        tenant: TENANT,
        row: ROW,
    };

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn what_was_sealed_opens() {
        let (key, wrapped) = Keyring::new([1; 32], None).new_data_key(TENANT);
        let again = Keyring::new([1; 32], None)
            .open_data_key(TENANT, &wrapped)
            .unwrap();
        for plain in [&b""[..], b"sk-123", &[7; 100_000]] {
            let sealed = key.seal(&PLACE, plain);
            assert_eq!(sealed.len(), plain.len() + 29);
            assert_eq!(again.open(&PLACE, &sealed).unwrap().as_slice(), plain);
        }
        assert_ne!(
            key.seal(&PLACE, b"same"),
            key.seal(&PLACE, b"same"),
            "the nonce is random"
        );
    }

    #[test]
    fn it_opens_at_no_other_place_and_with_no_other_key() {
        let ring = Keyring::new([1; 32], None);
        let (key, wrapped) = ring.new_data_key(TENANT);
        let sealed = key.seal(&PLACE, b"sk-123");
        for other in [
            Place {
                table: "tool",
                ..PLACE
            },
            Place {
                column: "headers",
                ..PLACE
            },
            Place {
                tenant: ROW,
                ..PLACE
            },
            Place {
                row: TENANT,
                ..PLACE
            },
            Place {
                tenant: ROW,
                row: TENANT,
                ..PLACE
            },
            Place {
                table: "modelapi_",
                column: "key",
                ..PLACE
            },
            Place {
                table: "",
                column: "modelapi_key",
                ..PLACE
            },
        ] {
            assert_eq!(
                key.open(&other, &sealed),
                Err(SealError::Refused),
                "{other:?}"
            );
        }
        let (stranger, _) = ring.new_data_key(TENANT);
        assert_eq!(stranger.open(&PLACE, &sealed), Err(SealError::Refused));
        assert_eq!(ring.open_system(&PLACE, &sealed), Err(SealError::Refused));
        assert_eq!(
            ring.open_data_key(ROW, &wrapped).unwrap_err(),
            SealError::Refused
        );
        assert_eq!(
            Keyring::new([2; 32], None)
                .open_data_key(TENANT, &wrapped)
                .unwrap_err(),
            SealError::Refused
        );
        // A wrapped data key can't be had opened as if it were a value.
        assert_eq!(
            ring.open_system(&wrapped_place(TENANT), &wrapped),
            Err(SealError::Refused)
        );
    }

    #[test]
    fn a_changed_byte_or_a_cut_is_seen() {
        let (key, _) = Keyring::new([1; 32], None).new_data_key(TENANT);
        let sealed = key.seal(&PLACE, b"sk-123");
        for at in 1..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(key.open(&PLACE, &changed), Err(SealError::Refused), "{at}");
        }
        for length in 0..29 {
            assert_eq!(
                key.open(&PLACE, &sealed[..length]),
                Err(SealError::Short),
                "{length}"
            );
        }
        assert_eq!(
            key.open(&PLACE, &sealed[..sealed.len() - 1]),
            Err(SealError::Refused)
        );
        let mut later = sealed;
        later[0] = 2;
        assert_eq!(key.open(&PLACE, &later), Err(SealError::Version(2)));
    }

    #[test]
    fn what_the_previous_secret_key_made_still_holds() {
        let before = Keyring::new([1; 32], None);
        let (key, wrapped) = before.new_data_key(TENANT);
        let sealed = key.seal(&PLACE, b"sk-123");
        let system = before.seal_system(&PLACE, b"signing");
        let stays = |ring: &Keyring| {
            ring.with_installation_key(&[9; 32])
                .mac("refresh", b"token")
        };
        let mac = stays(&before);
        assert_ne!(mac, before.mac("refresh", b"token"));

        let during = Keyring::new([2; 32], Some([1; 32]));
        assert_eq!(
            during
                .open_data_key(TENANT, &wrapped)
                .unwrap()
                .open(&PLACE, &sealed)
                .unwrap()
                .as_slice(),
            b"sk-123"
        );
        assert_eq!(
            during.open_system(&PLACE, &system).unwrap().as_slice(),
            b"signing"
        );
        assert_eq!(
            stays(&during),
            mac,
            "keyed digests do not follow the secret key"
        );

        let rewrapped = during.rewrap_data_key(TENANT, &wrapped).unwrap().unwrap();
        let resealed = during.reseal_system(&PLACE, &system).unwrap().unwrap();
        assert_eq!(
            during.rewrap_data_key(TENANT, &rewrapped).unwrap(),
            None,
            "once is enough"
        );
        assert_eq!(during.reseal_system(&PLACE, &resealed).unwrap(), None);
        let after = Keyring::new([2; 32], None);
        assert_eq!(stays(&after), mac);
        assert_eq!(
            after.open_system(&PLACE, &resealed).unwrap().as_slice(),
            b"signing"
        );
        assert_eq!(after.open_system(&PLACE, &system), Err(SealError::Refused));
        for neither in [
            Keyring::new([3; 32], Some([4; 32])),
            Keyring::new([3; 32], None),
        ] {
            assert_eq!(
                neither.rewrap_data_key(TENANT, &wrapped).unwrap_err(),
                SealError::Refused
            );
            assert_eq!(
                neither.reseal_system(&PLACE, &system),
                Err(SealError::Refused)
            );
        }
        assert_eq!(
            after.open_data_key(TENANT, &wrapped).unwrap_err(),
            SealError::Refused
        );
        assert_eq!(
            after
                .open_data_key(TENANT, &rewrapped)
                .unwrap()
                .open(&PLACE, &sealed)
                .unwrap()
                .as_slice(),
            b"sk-123"
        );
        assert!(!after.verify_mac("refresh", b"token", &mac));
        let after = after.with_installation_key(&[9; 32]);
        assert!(after.verify_mac("refresh", b"token", &mac));
    }

    #[test]
    fn labels_and_uses_have_keys_of_their_own() {
        let ring = Keyring::new([1; 32], None);
        assert_eq!(
            ring.derive("setup"),
            Keyring::new([1; 32], None).derive("setup")
        );
        assert_ne!(ring.derive("setup"), ring.derive("bus"));
        assert_ne!(
            ring.derive("setup"),
            Keyring::new([2; 32], None).derive("setup")
        );
        assert_ne!(ring.mac("a", b"x"), ring.mac("b", b"x"));
        assert!(!ring.verify_mac("a", b"x", &ring.mac("b", b"x")));
        assert!(!ring.verify_mac("a", b"x", &ring.mac("a", b"x")[..31]));
    }

    /// Fixed for ever: stored values depend on them. Computed by HKDF and HMAC of another library.
    #[test]
    fn the_derivations_do_not_change() {
        let ring = Keyring::new([1; 32], None);
        assert_eq!(
            hex(&ring.derive("setup")),
            "a03f3ce5bb0f10eb1f60d39622eff364eb6c646a31f4cde348a749060d485178"
        );
        assert_eq!(
            hex(&ring.mac("refresh", b"token")),
            "5aa73d6c4afa0139a580af6852ee4980cfde070214ebcb1ad1bbe48aa47be867"
        );
        assert_eq!(
            ring.open_system(
                &PLACE,
                &[
                    0x01, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09, 0x09,
                    0x93, 0x2e, 0x2f, 0x62, 0x0f, 0x99, 0x5e, 0xd5, 0xa0, 0xea, 0x5f, 0x87, 0x5c,
                    0x39, 0xf2, 0x1a, 0xf3, 0x21, 0x4a, 0xe3, 0x3a, 0x0b
                ]
            )
            .unwrap()
            .as_slice(),
            b"sk-123"
        );
    }

    #[test]
    fn keys_do_not_print() {
        let ring = Keyring::new([1; 32], None);
        assert_eq!(
            format!("{ring:?} {:?}", ring.new_data_key(TENANT).0),
            "Keyring(***) DataKey(***)"
        );
    }
}
