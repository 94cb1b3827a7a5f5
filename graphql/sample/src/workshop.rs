//! A weaver's workshop: the schema whose answers graphql-js gives, too (`tests/outside/answers` has it in JavaScript). Fields
//! that take their time, fields that fail at once or late, where null may stand and where it may not.
//!
//! Whoever drives it holds the clock still: a delay then says only what comes before what.

use std::{
    sync::atomic::{AtomicI32, Ordering},
    time::Duration,
};

use async_graphql::*;
use tokio::time::sleep;

async fn after(ms: i32) {
    sleep(Duration::from_millis(ms.unsigned_abs().into())).await;
}

fn failed(what: &str) -> Error {
    Error::new(what).extend_with(|_, extensions| extensions.set("code", "BROKEN"))
}

/// A length, with its unit.
pub struct Length(u32);

/// Centimetres, as `12cm`.
#[Scalar]
impl ScalarType for Length {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let number = text.strip_suffix("cm").and_then(|text| text.parse().ok());
        number
            .map(Self)
            .ok_or_else(|| InputValueError::custom("no length"))
    }

    fn to_value(&self) -> Value {
        Value::String(format!("{}cm", self.0))
    }
}
json_scalar!(Length);

#[derive(Enum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Weave {
    Plain,
    Twill,
    Satin,
}
json_enum!(Weave);

#[derive(InputObject)]
pub struct Border {
    #[graphql(default = 2)]
    width: i32,
    colour: Option<String>,
}

#[derive(InputObject)]
pub struct Wish {
    #[graphql(default_with = "Weave::Twill")]
    weave: Weave,
    length: Option<Length>,
    #[graphql(default_with = "vec![\"red\".to_owned()]")]
    colours: Vec<String>,
    borders: Option<Vec<Option<Border>>>,
    rate: Option<f64>,
    note: MaybeUndefined<String>,
}

pub struct Loom(i32);

plain!(Loom as loom_gql {
    "id" => id, "name" => name, "weave" => weave, "width" => width, "load" => load, "note" => note, "fails" => fails,
    "mayFail" => may_fail,
});

#[Object(crate = "loom_gql")]
impl Loom {
    async fn id(&self) -> ID {
        self.0.into()
    }
    async fn name(&self) -> String {
        format!("Loom \"{}\"\t\u{8}\u{c}\u{1b}\\ größer 织机 🧵", self.0)
    }
    async fn weave(&self) -> Weave {
        [Weave::Plain, Weave::Twill, Weave::Satin][self.0.unsigned_abs() as usize % 3]
    }
    async fn width(&self) -> Length {
        Length(100 + self.0.unsigned_abs())
    }
    async fn load(&self) -> f64 {
        f64::from(self.0) + 0.125
    }
    async fn note(&self) -> Option<String> {
        None
    }
    async fn slow(&self, ms: i32) -> i32 {
        after(ms).await;
        ms
    }
    async fn fails(&self) -> Result<String> {
        Err(failed("fails"))
    }
    async fn may_fail(&self) -> Result<Option<String>> {
        Err(failed("may fail"))
    }
    async fn slow_fails(&self, ms: i32) -> Result<String> {
        after(ms).await;
        Err(failed(&format!("fails after {ms}")))
    }
    async fn slow_may_fail(&self, ms: i32) -> Result<Option<String>> {
        after(ms).await;
        Err(failed(&format!("may fail after {ms}")))
    }
    async fn next(&self) -> Option<Self> {
        Some(Self(self.0 + 1))
    }
    async fn surely(&self) -> Self {
        Self(self.0 + 1)
    }
    async fn cloths(&self, #[graphql(default = 2)] first: i32) -> Vec<Cloth> {
        after(3).await;
        (0..first).map(Cloth).collect()
    }
    /// Of these, those with an odd number are broken.
    async fn shuttles(&self) -> Vec<Option<Shuttle>> {
        (0..4).map(|n| (n != 2).then_some(Shuttle(n))).collect()
    }
    async fn all_shuttles(&self) -> Option<Vec<Shuttle>> {
        Some((0..3).map(Shuttle).collect())
    }
    async fn sure_shuttles(&self) -> Vec<Shuttle> {
        (0..3).map(Shuttle).collect()
    }
    async fn marks(&self) -> Vec<Option<Result<i32>>> {
        vec![Some(Ok(1)), Some(Err(failed("no mark"))), None, Some(Ok(4))]
    }
    async fn all_marks(&self) -> Option<Vec<Result<i32>>> {
        Some(vec![Ok(1), Err(failed("no mark")), Ok(3)])
    }
    async fn grid(&self) -> Vec<Option<Vec<Result<i32>>>> {
        vec![
            Some(vec![Ok(1), Ok(2)]),
            Some(vec![Ok(3), Err(failed("no mark"))]),
            None,
            Some(vec![]),
        ]
    }
}

pub struct Cloth(i32);

plain!(Cloth as cloth_gql { "id" => id, "name" => name });

#[Object(crate = "cloth_gql")]
impl Cloth {
    async fn id(&self) -> ID {
        format!("c{}", self.0).into()
    }
    async fn name(&self) -> String {
        format!("cloth {}", self.0)
    }
    async fn length(
        &self,
        #[graphql(default_with = "Some(Length(7))")] less: Option<Length>,
    ) -> Option<Length> {
        less.map(|less| Length(50 - less.0))
    }
    async fn loom(&self) -> Loom {
        after(2).await;
        Loom(self.0)
    }
    async fn dyed(&self, ms: i32) -> Result<Option<String>> {
        after(ms).await;
        if self.0 == 1 {
            Err(failed("the dye ran"))
        } else {
            Ok(Some("blue".into()))
        }
    }
}

#[derive(Clone)]
pub struct Shuttle(i32);

#[Object]
impl Shuttle {
    async fn number(&self) -> i32 {
        self.0
    }
    async fn whole(&self) -> Result<bool> {
        // the later it stands, the sooner it is known
        after(40 - 10 * self.0).await;
        if self.0 % 2 == 1 {
            Err(failed(&format!("shuttle {} is broken", self.0)))
        } else {
            Ok(true)
        }
    }
    async fn loom(&self) -> Loom {
        Loom(self.0)
    }
}

#[derive(SimpleObject)]
pub struct Lost {
    word: String,
}

#[derive(Interface)]
#[graphql(
    crate = "thing_gql",
    field(name = "id", ty = "ID"),
    field(name = "name", ty = "String")
)]
pub enum Thing {
    Loom(Loom),
    Cloth(Cloth),
}

plain_abstract!(Thing as thing_gql { Loom, Cloth });

#[derive(Union)]
#[graphql(crate = "found_gql")]
pub enum Found {
    Loom(Loom),
    Cloth(Cloth),
    Lost(Lost),
}

plain_abstract!(Found as found_gql { Loom, Cloth, Lost });

/// A union that is not `plain_abstract!`.
#[derive(Union)]
pub enum Kept {
    Loom(Loom),
    Cloth(Cloth),
}

/// Nothing in it may be null, down to the place that fails.
pub struct Knot(i32);

#[Object]
impl Knot {
    async fn depth(&self) -> i32 {
        self.0
    }
    async fn inner(&self) -> Self {
        after(1).await;
        Self(self.0 + 1)
    }
    async fn inners(&self) -> Vec<Self> {
        vec![Self(self.0 + 1), Self(self.0 + 2)]
    }
    async fn loose(&self) -> Option<Self> {
        Some(Self(self.0 + 1))
    }
    /// Fails from the third on.
    async fn end(&self) -> Result<String> {
        after(5).await;
        if self.0 > 2 {
            Err(failed(&format!("cut at {}", self.0)))
        } else {
            Ok(format!("end of {}", self.0))
        }
    }
}

/// The root of the workshop's queries.
#[derive(Default)]
pub struct Workshop;

#[Object(name = "Query")]
impl Workshop {
    async fn loom(&self, id: ID) -> Option<Loom> {
        id.parse().ok().map(Loom)
    }
    async fn looms(&self, #[graphql(default = 2)] first: i32) -> Vec<Loom> {
        after(4).await;
        (0..first).map(Loom).collect()
    }
    async fn things(&self) -> Vec<Option<Thing>> {
        after(6).await;
        vec![
            Some(Thing::Cloth(Cloth(1))),
            None,
            Some(Thing::Loom(Loom(1))),
        ]
    }
    async fn thing(&self, loom: bool) -> Option<Thing> {
        Some(if loom {
            Thing::Loom(Loom(5))
        } else {
            Thing::Cloth(Cloth(5))
        })
    }
    async fn find(&self, word: String, #[graphql(default = 3)] limit: usize) -> Vec<Found> {
        let all = [
            Found::Lost(Lost { word }),
            Found::Loom(Loom(2)),
            Found::Cloth(Cloth(1)),
        ];
        all.into_iter().take(limit).collect()
    }
    async fn kept(&self) -> Vec<Kept> {
        vec![Kept::Cloth(Cloth(3)), Kept::Loom(Loom(3))]
    }
    async fn knot(&self) -> Knot {
        Knot(0)
    }
    async fn may_fail(&self, ms: i32) -> Result<Option<i32>> {
        after(ms).await;
        Err(failed("the root may fail"))
    }
    async fn told(&self, wish: Wish) -> String {
        let note = match wish.note {
            MaybeUndefined::Undefined => "not given".to_owned(),
            MaybeUndefined::Null => "null".to_owned(),
            MaybeUndefined::Value(note) => format!("'{note}'"),
        };
        let borders = wish.borders.map_or("none".to_owned(), |borders| {
            let border = |border: Option<Border>| {
                border.map_or("-".to_owned(), |border| {
                    format!(
                        "{} {}",
                        border.width,
                        border.colour.unwrap_or("grey".into())
                    )
                })
            };
            borders
                .into_iter()
                .map(border)
                .collect::<Vec<_>>()
                .join(", ")
        });
        format!(
            "{} {} [{}] [{borders}] {} {note}",
            format!("{:?}", wish.weave).to_uppercase(),
            wish.length
                .map_or("any".to_owned(), |length| length.0.to_string()),
            wish.colours.join(", "),
            wish.rate.unwrap_or(0.5)
        )
    }
    async fn marked(&self, by: Mark) -> String {
        match by {
            Mark::Word(word) => word,
            Mark::Number(number) => number.to_string(),
            Mark::Border(border) => border.width.to_string(),
        }
    }
    async fn counted(
        &self,
        ids: Vec<ID>,
        marks: Option<Vec<Option<Vec<i32>>>>,
        weaves: Option<Vec<Weave>>,
    ) -> i32 {
        let counts = [
            ids.len(),
            marks.map_or(0, |marks| marks.iter().flatten().flatten().count()),
            weaves.map_or(0, |weaves| weaves.len()),
        ];
        i32::try_from(counts.iter().sum::<usize>()).unwrap_or(i32::MAX)
    }
}

/// How things are marked: with one of these.
#[derive(OneofObject)]
pub enum Mark {
    Word(String),
    Number(i32),
    Border(Border),
}

/// Counts what was done, so that answers show in which order.
#[derive(Default)]
pub struct Work(AtomicI32);

#[derive(SimpleObject)]
pub struct Done {
    turn: i32,
    loom: Option<Loom>,
}

#[Object(name = "Mutation")]
impl Work {
    /// Takes so long, and says as the how many-th it was done.
    async fn weave(&self, ms: i32) -> Done {
        after(ms).await;
        Done {
            turn: self.0.fetch_add(1, Ordering::Relaxed) + 1,
            loom: Some(Loom(ms)),
        }
    }
    async fn tear(&self, ms: i32) -> Result<Option<Done>> {
        after(ms).await;
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(failed("torn"))
    }
    async fn surely_tear(&self, ms: i32) -> Result<Done> {
        after(ms).await;
        self.0.fetch_add(1, Ordering::Relaxed);
        Err(failed("surely torn"))
    }
}
