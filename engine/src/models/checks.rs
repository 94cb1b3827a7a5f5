use entities::{CommandError, Refusal, Visibility, input};

/// What is wrong with an input, all of it: whoever sent it mends it once.
#[derive(Debug, Default)]
pub(crate) struct Checks(Vec<Refusal>);

impl Checks {
    /// Notes a refusal and goes on; `None` where there was one.
    pub(crate) fn take<T>(&mut self, checked: Result<T, Refusal>) -> Option<T> {
        checked.map_err(|refusal| self.0.push(refusal)).ok()
    }

    /// A text that must say something, where it is given.
    pub(crate) fn filled(&mut self, path: &[&str], value: Option<&str>, limit: usize) {
        if let Some(value) = value {
            self.take(input::filled(path, value, limit));
        }
    }

    /// A count of at least one, where it is given.
    pub(crate) fn positive(&mut self, path: &[&str], value: Option<i32>) {
        let Some(value) = value.filter(|&value| value < 1) else {
            return;
        };
        let field = path.last().copied().unwrap_or_default();
        let message = format!("{field} must be at least 1, got {value}");
        self.take::<()>(Err(Refusal::beyond(path, message, 1, value.into())));
    }

    /// A slug, where it is given.
    pub(crate) fn slug(&mut self, value: Option<&str>) {
        if let Some(value) = value {
            self.take(input::slug(&["input", "slug"], value));
        }
    }

    /// The visibility of something new, which lives in a group or in none.
    pub(crate) fn visibility(&mut self, value: Option<Visibility>, has_group: bool) {
        if value == Some(Visibility::Group) && !has_group {
            let message = "visibility GROUP needs a group: give groupId";
            self.take::<()>(Err(Refusal::invalid(&["input", "visibility"], message)));
        }
    }

    /// No more of a list than that.
    pub(crate) fn count(&mut self, path: &[&str], count: usize, limit: usize) {
        if count > limit {
            let field = path.last().copied().unwrap_or_default();
            let message = format!("{field} has {count} entries, at most {limit} are allowed");
            let signed = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
            self.take::<()>(Err(Refusal::beyond(
                path,
                message,
                signed(limit),
                signed(count),
            )));
        }
    }

    /// Goes on only where nothing was wrong.
    pub(crate) fn done(self) -> Result<(), CommandError> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(CommandError::Refused(self.0))
        }
    }
}
