//! Passwords: which are acceptable, and the work of hashing them, which is bounded.
//!
//! argon2id (RFC 9106) with 19 MiB, 2 passes and 1 lane. As many hashes run at once as there are cores; 64 more wait, for two
//! seconds at most; the rest is told to come back.

use std::{
    collections::HashSet,
    sync::{Arc, LazyLock},
    time::Duration,
};

use adapters::{clock::SharedClock, sealing::Secret, tasks::Tasks};
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use entities::{CommandError, Refusal};
use tokio::sync::Semaphore;

/// The least number of characters.
const LEAST_CHARS: usize = 10;
/// The most bytes: nobody types more, and it bounds the work.
const MOST_BYTES: usize = 1024;
/// How many wait for their turn.
const QUEUE: usize = 64;
/// For how long.
const PATIENCE: Duration = Duration::from_secs(2);

/// The most common passwords, in lower case, and the words that common ones are made of.
static COMMON: LazyLock<HashSet<&'static str>> =
    LazyLock::new(|| include_str!("common_passwords.txt").lines().collect());

/// Whether `password` may be chosen: at least 10 characters, at most 1,024 bytes, no NUL, and none of the most common ones. There
/// are no rules of composition (NIST SP 800-63B, 3.1.1.2).
///
/// # Errors
/// Says what is wrong, never what the password is.
pub(crate) fn acceptable(path: &[&str], password: &Secret) -> Result<(), Refusal> {
    possible(path, password)?;
    let password = password.expose();
    let length = password.chars().count();
    if length < LEAST_CHARS {
        let message =
            format!("password has {length} characters, at least {LEAST_CHARS} are needed");
        return Err(Refusal::beyond(
            path,
            message,
            LEAST_CHARS as i64,
            length as i64,
        ));
    }
    if is_common(password) {
        return Err(Refusal::invalid(
            path,
            "password is among the most common ones; choose another",
        ));
    }
    Ok(())
}

/// Whether `password` could be anybody's: what is asked of one that is only compared.
///
/// # Errors
/// Names the limit.
pub(crate) fn possible(path: &[&str], password: &Secret) -> Result<(), Refusal> {
    let password = password.expose();
    if password.contains('\0') {
        return Err(Refusal::invalid(path, "password must not contain NUL"));
    }
    if password.len() > MOST_BYTES {
        let message = format!(
            "password has {} bytes, at most {MOST_BYTES} are allowed",
            password.len()
        );
        return Err(Refusal::beyond(
            path,
            message,
            MOST_BYTES as i64,
            i64::try_from(password.len()).unwrap_or(i64::MAX),
        ));
    }
    Ok(())
}

/// Whether it is listed, or a listed word in another spelling with digits and signs around it (`P@ssw0rd2026!`), or made of less
/// than four different characters.
fn is_common(password: &str) -> bool {
    let lower = password.to_lowercase();
    if COMMON.contains(lower.as_str()) || lower.chars().collect::<HashSet<_>>().len() < 4 {
        return true;
    }
    let not_a_letter = |letter: char| !letter.is_alphabetic();
    // A sign in front may be a letter (`@dmin2026`) or an ornament (`!!admin`).
    [
        lower.trim_end_matches(not_a_letter),
        lower.trim_matches(not_a_letter),
    ]
    .into_iter()
    .any(|core| {
        let word: String = core.chars().map(usual).collect();
        let half = word
            .split_at_checked(word.len() / 2)
            .filter(|(first, second)| first == second)
            .map(|(first, _)| first);
        COMMON.contains(word.as_str()) || half.is_some_and(|half| COMMON.contains(half))
    })
}

/// The letter that a sign stands for.
fn usual(sign: char) -> char {
    match sign {
        '@' | '4' => 'a',
        '0' => 'o',
        '1' | '!' => 'i',
        '3' => 'e',
        '5' | '$' => 's',
        '7' => 't',
        other => other,
    }
}

/// The hashing, with its bounds.
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    places: Arc<Semaphore>,
    tasks: Tasks,
    clock: SharedClock,
}

impl Passwords {
    pub(crate) fn new(tasks: Tasks, clock: SharedClock) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            turns: Arc::new(Semaphore::new(cores)),
            places: Arc::new(Semaphore::new(cores + QUEUE)),
            tasks,
            clock,
        }
    }

    /// The PHC string of `password`, with a salt of its own.
    pub(crate) async fn hash(&self, password: Secret) -> Result<String, CommandError> {
        let mut salt = [0; 16];
        self.clock.random(&mut salt);
        let hash = self.run(move || {
            argon2()
                .hash_password_with_salt(password.expose().as_bytes(), &salt)
                .map(|hash| hash.to_string())
        });
        hash.await?
            .map_err(|error| CommandError::Internal(format!("a password was not hashed: {error}")))
    }

    /// Whether `password` is the one that `hash` was made of. Without a hash it is not, after the same work.
    pub(crate) async fn verify(
        &self,
        password: Secret,
        hash: Option<String>,
    ) -> Result<bool, CommandError> {
        self.run(move || {
            let password = password.expose().as_bytes();
            match hash {
                Some(hash) => argon2().verify_password(password, hash.as_str()).is_ok(),
                None => {
                    let work = argon2().hash_password_with_salt(password, &[0; 16]);
                    drop(std::hint::black_box(work));
                    false
                }
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, CommandError> {
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| busy())?;
        let turn = tokio::time::timeout(PATIENCE, self.turns.clone().acquire_owned())
            .await
            .map_err(|_| busy())?
            .map_err(|_| busy())?;
        let done = self.tasks.spawn_blocking("password", move || {
            // Held until the work is done, also where nobody waits for it any more.
            let _held = (place, turn);
            work()
        });
        done.await
            .map_err(|error| CommandError::Internal(format!("hashing a password broke: {error}")))
    }
}

fn busy() -> CommandError {
    CommandError::RateLimited {
        retry_after: PATIENCE,
    }
}

fn argon2() -> Argon2<'static> {
    let params =
        Params::new(19_456, 2, 1, None).expect("the parameters are within the bounds of argon2");
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
mod tests {
    use adapters::clock::SystemClock;

    use super::*;

    #[test]
    fn which_are_acceptable() {
        let ok = |text: &str| acceptable(&["input", "password"], &Secret::new(text)).is_ok();
        for good in [
            "a long enough one",
            "weaving-at-night",
            "пароль-на-ночь",
            "ten chars!",
            "1f8c93b2d7",
            "correct horse battery staple",
        ] {
            assert!(ok(good), "{good}");
        }
        for bad in [
            "",
            "short",
            "ninechars",
            "password123",
            "PASSWORD123",
            "P@ssw0rd2026!",
            "qwertyuiop",
            "1234567890",
            "aaaaaaaaaaaaaaaa",
            "Sunshine2024!",
            "passwordpassword",
            "!!Welcome!!!!",
            "@dm1n123456",
            "LetmeinLetmein!",
            "nul\0in the middle",
        ] {
            assert!(!ok(bad), "{bad}");
        }
        assert!(!ok(&"long".repeat(257)));
        assert!(
            !acceptable(&[], &Secret::new("hunter2222"))
                .unwrap_err_or_text()
                .contains("hunter2222")
        );
    }

    trait Text {
        fn unwrap_err_or_text(self) -> String;
    }
    impl Text for Result<(), Refusal> {
        fn unwrap_err_or_text(self) -> String {
            self.err()
                .map(|refusal| refusal.to_string())
                .unwrap_or_default()
        }
    }

    #[test]
    fn the_list_is_what_it_says() {
        assert!(
            COMMON
                .iter()
                .filter(|word| word.chars().count() >= LEAST_CHARS)
                .count()
                > 500
        );
        assert!(
            COMMON
                .iter()
                .all(|word| *word == word.to_lowercase() && !word.is_empty())
        );
    }

    #[tokio::test]
    async fn hashes_verify() {
        let passwords = Passwords::new(Tasks::new(), SystemClock::shared());
        let hash = passwords
            .hash(Secret::new("weaving-at-night"))
            .await
            .unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(
            passwords
                .verify(Secret::new("weaving-at-night"), Some(hash.clone()))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify(Secret::new("weaving at night"), Some(hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify(Secret::new("weaving-at-night"), None)
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify(Secret::new("weaving-at-night"), Some("no hash".into()))
                .await
                .unwrap()
        );
    }

    #[tokio::test]
    async fn a_full_queue_says_so() {
        let passwords = Passwords::new(Tasks::new(), SystemClock::shared());
        let free = passwords.places.available_permits();
        let _all = passwords
            .places
            .clone()
            .try_acquire_many_owned(u32::try_from(free).unwrap())
            .unwrap();
        let refused = passwords
            .verify(Secret::new("weaving-at-night"), None)
            .await;
        assert!(
            matches!(refused, Err(CommandError::RateLimited { .. })),
            "{refused:?}"
        );
    }
}
