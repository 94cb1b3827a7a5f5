//! What tokens cost, exactly.

use entities::{Usage, llm_model};
use providers::TokenUsage;
use rust_decimal::Decimal;

/// Tokens with what they cost, by the model's prices per million.
pub(crate) fn priced(model: &llm_model::Model, currency: &str, tokens: TokenUsage) -> Usage {
    let number = |tokens: u64| i64::try_from(tokens).unwrap_or(i64::MAX);
    let price = |price: &Option<String>| {
        price
            .as_deref()
            .and_then(|price| price.parse::<Decimal>().ok())
    };
    let cost = match (
        price(&model.input_per_million),
        price(&model.output_per_million),
    ) {
        (None, None) => None,
        (input, output) => {
            let cached = price(&model.cached_input_per_million).or(input);
            let of = |tokens: u64, price: Option<Decimal>| {
                Decimal::from(tokens) * price.unwrap_or_default() / Decimal::from(1_000_000)
            };
            let fresh = tokens.input.saturating_sub(tokens.cached_input);
            Some(
                (of(fresh, input) + of(tokens.cached_input, cached) + of(tokens.output, output))
                    .round_dp(9)
                    .normalize()
                    .to_string(),
            )
        }
    };
    Usage {
        input: number(tokens.input),
        output: number(tokens.output),
        cached_input: number(tokens.cached_input),
        reasoning: number(tokens.reasoning),
        cost,
        currency: currency.to_owned(),
    }
}

/// Adds one call's tokens and money to a sum.
pub(crate) fn add(sum: &mut Usage, one: &Usage) {
    sum.input += one.input;
    sum.output += one.output;
    sum.cached_input += one.cached_input;
    sum.reasoning += one.reasoning;
    sum.currency.clone_from(&one.currency);
    let cost = |usage: &Usage| {
        usage
            .cost
            .as_deref()
            .and_then(|cost| cost.parse::<Decimal>().ok())
    };
    sum.cost = match (cost(sum), cost(one)) {
        (None, None) => None,
        (a, b) => Some(
            (a.unwrap_or_default() + b.unwrap_or_default())
                .normalize()
                .to_string(),
        ),
    };
}
