//! What of a conversation is summarised when it gets too long for a model.

/// How full a window may be before the conversation is summarised, in percent.
const FULL: u64 = 85;
/// What the last turns that are kept may take of the window, and the first one.
const LAST: u64 = 40;
const FIRST: u64 = 20;
/// The longest summary, in tokens, and what it may take of a smaller window: one part of so many.
const SUMMARY: u64 = 2048;
const SUMMARY_PART: u64 = 8;

/// What a model can be told at once, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// All that it may be told: its context window less what is reserved for the answer.
    pub(crate) room: u64,
    /// How much it is told before the conversation is summarised.
    pub(crate) full: u64,
}

impl Window {
    /// `answer`: what its answer may take, as far as that is known; a quarter of the window at most is kept for it.
    pub(crate) fn new(size: u64, answer: Option<u64>) -> Self {
        Self::of_room(size - answer.unwrap_or(0).min(size / 4))
    }

    fn of_room(room: u64) -> Self {
        Self {
            room,
            full: room * FULL / 100,
        }
    }

    /// Of a model that refused so many tokens: its window is smaller than is known, or it counts otherwise.
    pub(crate) fn below(self, refused: u64) -> Self {
        Self::of_room(self.room.min(refused * 2 / 3))
    }

    /// The longest summary.
    pub(crate) fn summary(self) -> u64 {
        (self.room / SUMMARY_PART).clamp(1, SUMMARY)
    }

    /// What a summary may be made of at once: room for the summary so far and the next one is left.
    pub(crate) fn piece(self, instructions: u64) -> Option<u64> {
        self.full
            .checked_sub(instructions + 2 * self.summary())
            .filter(|&tokens| tokens > self.room / 8)
    }
}

/// How long a section is, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Length {
    pub(crate) tokens: u64,
    pub(crate) is_summary: bool,
}

/// The sections that are summarised: the first of them, and the first that is kept again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Middle {
    pub(crate) from: usize,
    pub(crate) to: usize,
}

/// What to summarise of `sections`, which stand before a question that takes `fixed` tokens with all the rest. The first turn is
/// kept, and as many of the last as fit; `None`: no summary would make it fit.
pub(crate) fn middle(sections: &[Length], fixed: u64, window: Window) -> Option<Middle> {
    let of = |sections: &[Length]| sections.iter().map(|section| section.tokens).sum::<u64>();
    let mut last = 0;
    while last < sections.len()
        && of(&sections[sections.len() - last - 1..]) <= window.room * LAST / 100
    {
        last += 1;
    }
    // One at least, if there is any way.
    let last = last.max(1);
    let keeps_first = sections
        .first()
        .is_some_and(|first| !first.is_summary && first.tokens <= window.room * FIRST / 100);
    let fits = |middle: &Middle, limit: u64| {
        let summarised = &sections[middle.from..middle.to];
        let kept = of(&sections[..middle.from]) + of(&sections[middle.to..]);
        // A summary of a summary alone, or one that is as long as what it stands for, is no gain.
        summarised.iter().any(|section| !section.is_summary)
            && of(summarised) > window.summary()
            && fixed + kept + window.summary() <= limit
    };
    for limit in [window.full, window.room] {
        for from in if keeps_first { vec![1, 0] } else { vec![0] } {
            for kept in (0..=last.min(sections.len())).rev() {
                let to = sections.len() - kept;
                let middle = Middle { from, to };
                if from < to && fits(&middle, limit) {
                    return Some(middle);
                }
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(tokens: &[u64]) -> Vec<Length> {
        let length = |&tokens: &u64| Length {
            tokens,
            is_summary: false,
        };
        tokens.iter().map(length).collect()
    }

    #[test]
    fn the_first_turn_and_the_last_ones_are_kept() {
        let window = Window::new(1000, None);
        assert_eq!(
            (window.room, window.full, window.summary()),
            (1000, 850, 125)
        );
        let middle_of = |sections: &[Length], fixed| middle(sections, fixed, window);
        // 400 of the last
        assert_eq!(
            middle_of(&turns(&[100; 10]), 50),
            Some(Middle { from: 1, to: 6 })
        );
        // a first turn that takes too much goes with the rest
        assert_eq!(
            middle_of(&turns(&[300, 100, 100, 100, 100, 100]), 50),
            Some(Middle { from: 0, to: 2 })
        );
        // the last one is kept although it takes more than its share, unless there is no other way
        assert_eq!(
            middle_of(&turns(&[100, 300, 500]), 50),
            Some(Middle { from: 1, to: 2 })
        );
        assert_eq!(
            middle_of(&turns(&[100, 300, 500]), 400),
            Some(Middle { from: 1, to: 3 })
        );
        assert_eq!(
            middle_of(&turns(&[100, 300, 500]), 650),
            Some(Middle { from: 0, to: 3 })
        );
        // full, but within the window
        assert_eq!(
            middle_of(&turns(&[100, 300, 500]), 800),
            Some(Middle { from: 0, to: 3 })
        );
        // a question that fills the window alone
        assert_eq!(middle_of(&turns(&[100, 300, 500]), 900), None);
        assert_eq!(middle_of(&[], 900), None);
    }

    #[test]
    fn a_summary_is_made_of_what_followed_the_last_one_too() {
        let window = Window::new(1000, None);
        let mut sections = turns(&[100, 125, 100, 100, 100, 100, 100, 100]);
        sections[1].is_summary = true;
        assert_eq!(
            middle(&sections, 50, window),
            Some(Middle { from: 1, to: 4 })
        );
        // with nothing new there is nothing to gain
        assert_eq!(middle(&sections[..2], 900, window), None);
        sections[1].tokens = 300;
        assert_eq!(
            middle(&sections[..2], 700, window),
            Some(Middle { from: 0, to: 2 })
        );
    }

    #[test]
    fn no_size_is_too_small_or_too_large_to_plan_for() {
        for size in [0, 1, 7, 100, 8192, u64::from(u32::MAX)] {
            for answer in [None, Some(0), Some(5), Some(u64::MAX)] {
                let window = Window::new(size, answer);
                assert!(window.room <= size && window.room >= size - size / 4);
                for fixed in [0, 1, size, size + 1] {
                    if let Some(middle) = middle(&turns(&[5, 10, 1000, 10, 5]), fixed, window) {
                        assert!(middle.from < middle.to && middle.to <= 5);
                    }
                }
                assert!(window.piece(200).is_none_or(|piece| piece < size));
            }
        }
    }
}
