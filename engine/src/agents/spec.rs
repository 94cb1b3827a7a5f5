use entities::{Refusal, input};

use crate::models::Checks;

/// Characters of what an agent says first.
const GREETING: usize = 20_000;
/// How many starters there are, and characters of each.
const STARTERS: usize = 20;
const STARTER: usize = 500;
/// Model calls in one run.
const STEPS: (i64, i64) = (1, 100);
/// Model calls in one run where nothing is said.
pub(super) const DEFAULT_STEPS: i32 = 20;

impl Checks {
    pub(super) fn instructions(&mut self, instructions: Option<&str>) {
        self.filled(
            &["input", "instructions"],
            instructions,
            input::INSTRUCTIONS,
        );
    }

    pub(super) fn description(&mut self, description: Option<&str>) {
        if let Some(description) = description {
            self.take(input::text(
                &["input", "description"],
                description,
                input::DESCRIPTION,
            ));
        }
    }

    pub(super) fn greeting(&mut self, greeting: Option<&str>) {
        self.filled(&["input", "greeting"], greeting, GREETING);
    }

    pub(super) fn starters(&mut self, starters: &[String]) {
        self.count(&["input", "starters"], starters.len(), STARTERS);
        for (at, starter) in starters.iter().enumerate().take(STARTERS) {
            // Named for the message; the place is told by the path.
            let checked = input::filled(&["a starter"], starter, STARTER);
            self.take(checked.map_err(|mut refusal| {
                if let Refusal::InvalidInput { path, .. } = &mut refusal {
                    *path = vec!["input".to_owned(), "starters".to_owned(), at.to_string()];
                }
                refusal
            }));
        }
    }

    pub(super) fn temperature(&mut self, temperature: Option<f64>) {
        if let Some(temperature) =
            temperature.filter(|temperature| !(0.0..=2.0).contains(temperature))
        {
            let path = &["input", "temperature"];
            self.take::<()>(Err(Refusal::invalid(
                path,
                format!("temperature must be from 0 to 2, got {temperature}"),
            )));
        }
    }

    pub(super) fn max_steps(&mut self, steps: Option<i32>) {
        if let Some(steps) = steps {
            self.take(input::range(
                &["input", "maxSteps"],
                steps.into(),
                STEPS.0,
                STEPS.1,
            ));
        }
    }
}
