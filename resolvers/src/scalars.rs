//! Scalars, under exactly the names that clients know.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value, json_scalar};
use chrono::{SecondsFormat, SubsecRound, Utc};
use rust_decimal::Decimal as Exact;

/// A point in time as in RFC 3339. In answers always UTC, ending in `Z`; any offset is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DateTime(pub chrono::DateTime<Utc>);

/// A point in time as in RFC 3339. In answers always UTC, ending in `Z`; any offset is taken.
#[Scalar(
    name = "DateTime",
    specified_by_url = "https://datatracker.ietf.org/doc/html/rfc3339"
)]
impl ScalarType for DateTime {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let parsed = chrono::DateTime::parse_from_rfc3339(text);
        parsed
            .map(|time| Self(time.with_timezone(&Utc)))
            .map_err(|_| {
                InputValueError::custom(
                    "not a date and time as in RFC 3339: `2026-02-03T04:05:06Z`",
                )
            })
    }

    fn to_value(&self) -> Value {
        // As precise as a database keeps it, so that it reads the same before and after it was stored.
        Value::String(
            self.0
                .trunc_subsecs(6)
                .to_rfc3339_opts(SecondsFormat::AutoSi, true),
        )
    }
}
json_scalar!(DateTime);

impl From<chrono::DateTime<Utc>> for DateTime {
    fn from(time: chrono::DateTime<Utc>) -> Self {
        Self(time)
    }
}

/// A place in a list or in a log, as a string without meaning to clients. Only good for the list, and the order of it, or the
/// log that it came from; of a log it can be kept for as long as that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor(pub String);

/// A place in a list or in a log, as a string without meaning to clients. Only good for the list, and the order of it, or the
/// log that it came from; of a log it can be kept for as long as that is.
#[Scalar(name = "Cursor")]
impl ScalarType for Cursor {
    fn parse(value: Value) -> InputValueResult<Self> {
        match value {
            Value::String(text) => Ok(Self(text)),
            other => Err(InputValueError::expected_type(other)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.clone())
    }
}
json_scalar!(Cursor);

/// Any JSON value.
#[derive(Debug, Clone, PartialEq)]
pub struct Json(pub serde_json::Value);

/// Any JSON value.
#[Scalar(
    name = "JSON",
    specified_by_url = "https://datatracker.ietf.org/doc/html/rfc8259"
)]
impl ScalarType for Json {
    fn parse(value: Value) -> InputValueResult<Self> {
        value
            .into_json()
            .map(Self)
            .map_err(|_| InputValueError::custom("not JSON"))
    }

    fn to_value(&self) -> Value {
        // Only a map whose keys are no text can't be one.
        Value::from_json(self.0.clone()).unwrap_or_default()
    }
}
json_scalar!(Json);

/// The greatest integer up to which all are exact in a double, and so in JSON as most programs read it.
const EXACT: i64 = 1 << 53;

/// A 64-bit integer: a JSON number up to 2⁵³ either way, a string of digits beyond. Both are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Long(pub i64);

/// A 64-bit integer: a JSON number up to 2⁵³ either way, a string of digits beyond. Both are taken.
#[Scalar(name = "Long")]
impl ScalarType for Long {
    fn parse(value: Value) -> InputValueResult<Self> {
        let number = match &value {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => return Err(InputValueError::expected_type(value)),
        };
        number
            .map(Self)
            .ok_or_else(|| InputValueError::custom("not a whole number of 64 bits"))
    }

    fn to_value(&self) -> Value {
        if (-EXACT..=EXACT).contains(&self.0) {
            Value::Number(self.0.into())
        } else {
            Value::String(self.0.to_string())
        }
    }
}
json_scalar!(Long);

impl From<i64> for Long {
    fn from(number: i64) -> Self {
        Self(number)
    }
}

/// An exact decimal number, as a string: `"0.001250"`. Whole numbers are taken as numbers, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(pub Exact);

/// An exact decimal number, as a string: `"0.001250"`. Whole numbers are taken as numbers, too.
#[Scalar(name = "Decimal")]
impl ScalarType for Decimal {
    fn parse(value: Value) -> InputValueResult<Self> {
        let exact = match &value {
            Value::String(text) => Exact::from_str_exact(text).ok(),
            // A fraction was a double on its way here, and no longer what the client wrote.
            Value::Number(number) => number.as_i64().map(Exact::from),
            _ => return Err(InputValueError::expected_type(value)),
        };
        exact.map(Self).ok_or_else(|| {
            InputValueError::custom(
                "not an exact decimal number: write it as a string, \"0.00125\"",
            )
        })
    }

    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}
json_scalar!(Decimal);

#[cfg(test)]
mod tests {
    use super::*;

    fn round<T: ScalarType>(json: serde_json::Value) -> Option<serde_json::Value> {
        let parsed = T::parse(Value::from_json(json).unwrap()).ok()?;
        Some(parsed.to_value().into_json().unwrap())
    }

    #[test]
    fn what_goes_in_comes_out() {
        use serde_json::json;
        let time = |text: &str| round::<DateTime>(json!(text));
        assert_eq!(
            time("2026-02-03T04:05:06Z"),
            Some(json!("2026-02-03T04:05:06Z"))
        );
        assert_eq!(
            time("2026-02-03T04:05:06.120+02:00"),
            Some(json!("2026-02-03T02:05:06.120Z"))
        );
        assert_eq!(
            time("2026-02-03T04:05:06.123456789Z"),
            Some(json!("2026-02-03T04:05:06.123456Z"))
        );
        for wrong in [
            "",
            "now",
            "2026-02-03",
            "2026-02-30T00:00:00Z",
            "99999-01-01T00:00:00Z",
        ] {
            assert_eq!(time(wrong), None, "{wrong}");
        }
        assert_eq!(round::<DateTime>(json!(5)), None);

        for (given, answered) in [
            (json!(5), Some(json!(5))),
            (json!("-5"), Some(json!(-5))),
            (
                json!(9_007_199_254_740_992i64),
                Some(json!(9_007_199_254_740_992i64)),
            ),
            (
                json!(9_007_199_254_740_993i64),
                Some(json!("9007199254740993")),
            ),
            (json!(i64::MIN), Some(json!("-9223372036854775808"))),
            (json!(u64::MAX), None),
            (json!(1.5), None),
            (json!("1.5"), None),
            (json!(true), None),
        ] {
            assert_eq!(round::<Long>(given.clone()), answered, "{given}");
        }

        for (given, answered) in [
            (json!("0.001250"), Some(json!("0.001250"))),
            (json!(3), Some(json!("3"))),
            (json!(0.1), None),
            (json!("1e5"), None),
            (json!("x"), None),
            (json!("9".repeat(40)), None),
        ] {
            assert_eq!(round::<Decimal>(given.clone()), answered, "{given}");
        }

        let nested = json!({"a": [1, null, {"b": "c"}], "d": 1.5});
        assert_eq!(round::<Json>(nested.clone()), Some(nested));
        assert_eq!(round::<Cursor>(json!("abc")), Some(json!("abc")));
        assert_eq!(round::<Cursor>(json!(1)), None);
    }
}
