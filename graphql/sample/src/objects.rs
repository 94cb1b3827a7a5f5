use async_graphql::*;
use chrono::{DateTime, Utc};
use tokio::task::yield_now;

use crate::input::{Colour, Kind, Label};

struct Deny;

impl Guard for Deny {
    async fn check(&self, _: &Context<'_>) -> Result<()> {
        Err("not you".into())
    }
}

#[derive(Clone)]
pub struct Agent(pub i32);

plain!(Agent as agent_gql {
    "id" => id, "name" => name, "tags" => tags, "waits" => waits, "kind" => kind, "score" => score, "madeAt" => made_at,
    "note" => note, "colour" => colour, "fails" => fails, "mayFail" => may_fail,
});

#[Object(crate = "agent_gql")]
impl Agent {
    async fn id(&self) -> ID {
        self.0.into()
    }
    async fn name(&self) -> String {
        format!(
            "Agent \"{}\"\n\u{1}größe 翻译 \\ {}",
            self.0,
            "x".repeat(self.0.unsigned_abs() as usize)
        )
    }
    async fn tags(&self) -> Vec<&str> {
        vec!["a", "b"]
    }
    async fn waits(&self) -> bool {
        yield_now().await;
        true
    }
    async fn kind(&self) -> Kind {
        if self.0 % 2 == 0 {
            Kind::Writer
        } else {
            Kind::FactChecker
        }
    }
    async fn score(&self) -> f64 {
        f64::from(self.0) / 3.0
    }
    async fn made_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(1_770_000_000, 123_000_000).expect("in range")
    }
    async fn note(&self) -> Option<String> {
        None
    }
    async fn colour(&self) -> Colour {
        Colour(0x0a_0b_0c)
    }
    async fn fails(&self) -> Result<String> {
        Err("plain".extend_with(|_, e| e.set("code", "NO")))
    }
    async fn may_fail(&self) -> Result<Option<String>> {
        Err("plain, nullable".into())
    }
    #[graphql(guard = "Deny")]
    async fn secret(&self) -> &str {
        "secret"
    }
    async fn slow(&self, #[graphql(default = 3)] turns: i32) -> Result<i32> {
        for _ in 0..turns {
            yield_now().await;
        }
        if turns > 9 {
            Err("too slow".into())
        } else {
            Ok(turns)
        }
    }
    async fn tool(&self) -> Option<Tool> {
        yield_now().await;
        Some(Tool::new(7))
    }
    async fn tools(&self, first: i32) -> Vec<Tool> {
        yield_now().await;
        (0..first).map(Tool::new).collect()
    }
    async fn peer(&self) -> Option<Agent> {
        Some(Agent(self.0 + 1))
    }
    async fn bad(&self) -> Option<Bad> {
        Some(Bad)
    }
    async fn surely_bad(&self) -> Bad {
        Bad
    }
    async fn bads(&self) -> Vec<Bad> {
        vec![Bad, Bad]
    }
    async fn some_bads(&self) -> Vec<Option<Bad>> {
        vec![Some(Bad), None]
    }
    async fn pair(&self) -> Pair {
        Pair {
            left: -1,
            right: Some(false),
            tool: Tool::new(1),
            label: Label("in a pair".into()),
        }
    }
    async fn others(&self) -> Vec<Option<Other>> {
        vec![Some(Other::Agent(Agent(2))), None]
    }
    async fn node(&self) -> Node {
        Node::Tool(Tool::new(1))
    }
}

pub struct Tool {
    id: ID,
    name: String,
}

impl Tool {
    pub fn new(n: i32) -> Self {
        Self {
            id: n.into(),
            name: format!("tool {n}"),
        }
    }
}

#[Object]
impl Tool {
    async fn id(&self) -> ID {
        self.id.clone()
    }
    async fn name(&self) -> &str {
        &self.name
    }
}

#[derive(SimpleObject)]
#[graphql(crate = "pair_gql", complex)]
pub struct Pair {
    left: i32,
    right: Option<bool>,
    tool: Tool,
    label: Label,
}

plain!(Pair as pair_gql { "left" => left, "right" => right });

#[ComplexObject]
impl Pair {
    async fn sum(&self) -> i32 {
        yield_now().await;
        self.left + i32::from(self.right.unwrap_or_default())
    }
}

pub struct Bad;

#[Object]
impl Bad {
    async fn ok(&self) -> i32 {
        1
    }
    async fn never(&self) -> Result<i32> {
        yield_now().await;
        Err("never".into())
    }
    async fn nor_this(&self) -> Result<i32> {
        Err("nor this".into())
    }
}

#[derive(Interface)]
#[graphql(
    crate = "node_gql",
    field(name = "id", ty = "ID"),
    field(name = "name", ty = "String")
)]
pub enum Node {
    Agent(Agent),
    Tool(Tool),
}

plain_abstract!(Node as node_gql { Agent, Tool });

#[derive(Union)]
#[graphql(crate = "hit_gql")]
pub enum Hit {
    Agent(Agent),
    Tool(Tool),
    Bad(Bad),
}

plain_abstract!(Hit as hit_gql { Agent, Tool, Bad });

/// Not `plain_abstract!`: by async-graphql's resolver.
#[derive(Union)]
pub enum Other {
    Agent(Agent),
    Tool(Tool),
}

/// Not `plain_abstract!` either.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID"))]
pub enum Thing {
    Agent(Agent),
    Tool(Tool),
}

#[derive(SimpleObject)]
pub struct Half {
    pub first: i32,
    pub again: Option<Box<Half>>,
}

pub struct Rest;

#[Object]
impl Rest {
    async fn second(&self) -> i32 {
        yield_now().await;
        2
    }
    async fn third(&self) -> i32 {
        3
    }
}

#[derive(MergedObject)]
pub struct Whole(pub Half, pub Rest);
