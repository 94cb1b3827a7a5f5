use async_graphql::*;
use futures_util::{Stream, stream};
use tokio::task::yield_now;

use crate::{
    input::{Colour, Which, Wish},
    objects::{Agent, Bad, Half, Hit, Node, Other, Rest, Thing, Tool, Whole},
};

/// The root of queries, of two parts.
#[derive(MergedObject, Default)]
pub struct Query(Reads, Kinds);

#[derive(Default)]
pub struct Reads;

#[Object]
impl Reads {
    async fn agent(&self) -> Agent {
        Agent(1)
    }
    async fn agents(&self, n: i32) -> Vec<Agent> {
        yield_now().await;
        (0..n).map(Agent).collect()
    }
    async fn node(&self, tool: bool) -> Option<Node> {
        yield_now().await;
        Some(if tool {
            Node::Tool(Tool::new(5))
        } else {
            Node::Agent(Agent(5))
        })
    }
    async fn search(&self) -> Vec<Hit> {
        vec![Hit::Agent(Agent(2)), Hit::Tool(Tool::new(9)), Hit::Bad(Bad)]
    }
    async fn others(&self) -> Vec<Other> {
        vec![Other::Agent(Agent(2)), Other::Tool(Tool::new(9))]
    }
    async fn may_fail(&self) -> Result<Option<i32>> {
        yield_now().await;
        Err("root, nullable".into())
    }
    async fn fails(&self) -> Result<i32> {
        Err("root".into())
    }
}

#[derive(Default)]
pub struct Kinds;

#[Object]
impl Kinds {
    async fn thing(&self) -> Thing {
        Thing::Agent(Agent(3))
    }
    async fn whole(&self) -> Whole {
        Whole(
            Half {
                first: 1,
                again: Some(Box::new(Half {
                    first: 10,
                    again: None,
                })),
            },
            Rest,
        )
    }
    async fn wished(&self, wish: Wish) -> Option<Agent> {
        let wanted = wish.kind.is_some() && matches!(wish.colour, Some(Colour(0xff)));
        wanted.then_some(Agent(wish.n))
    }
    async fn which(&self, which: Which) -> String {
        match which {
            Which::Number(n) => n.to_string(),
            Which::Label(label) => label.0,
        }
    }
}

/// The root of mutations.
pub struct Mutation;

#[Object]
impl Mutation {
    async fn make(&self, n: i32) -> Result<Agent> {
        if n > 5 {
            Err("too many".into())
        } else {
            Ok(Agent(n))
        }
    }
}

/// The root of subscriptions.
pub struct Subscription;

#[Subscription]
impl Subscription {
    async fn agents(&self, n: i32) -> Result<impl Stream<Item = Agent> + use<>> {
        if n > 5 {
            Err("too many".into())
        } else {
            Ok(stream::iter((0..n).map(Agent)))
        }
    }
    async fn nodes(&self) -> impl Stream<Item = Node> + use<> {
        stream::iter([Node::Agent(Agent(4)), Node::Tool(Tool::new(4))])
    }
    async fn bads(&self) -> impl Stream<Item = Bad> + use<> {
        stream::iter([Bad, Bad])
    }
    async fn may_be_bad(&self) -> impl Stream<Item = Option<Bad>> + use<> {
        stream::iter([Some(Bad), None])
    }
}
