use async_graphql::*;

/// A colour, as three bytes in hexadecimal.
pub struct Colour(pub u32);

/// `#RRGGBB`
#[Scalar]
impl ScalarType for Colour {
    fn parse(value: Value) -> InputValueResult<Self> {
        match &value {
            Value::String(text) => {
                let number = text
                    .strip_prefix('#')
                    .and_then(|text| u32::from_str_radix(text, 16).ok());
                number
                    .map(Self)
                    .ok_or_else(|| InputValueError::custom("not a colour"))
            }
            _ => Err(InputValueError::expected_type(value)),
        }
    }

    fn to_value(&self) -> Value {
        Value::String(format!("#{:06x}", self.0))
    }
}
json_scalar!(Colour);

/// A name of its own.
#[derive(NewType)]
pub struct Label(pub String);

#[derive(Enum, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Writer,
    FactChecker,
}
json_enum!(Kind);

#[derive(InputObject)]
pub struct Wish {
    #[graphql(default = 1)]
    pub n: i32,
    pub kind: Option<Kind>,
    pub colour: Option<Colour>,
}

#[derive(OneofObject)]
pub enum Which {
    Number(i32),
    Label(Label),
}
