//! Fields that need no future, for hot leaf types: some 15 % on a page of them. Everything works without it.

use std::{
    borrow::Cow,
    future::Future,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Context as TaskContext, Poll, Waker},
};

use upstream_async_graphql::{
    ContainerType, Context, ContextSelectionSet, ID, Name, Pos, Positioned, ServerResult, Value,
    parser::types::{Field, SelectionSet},
};

use crate::{json, resolve::resolve};

/// Names the fields of an object that need no future. Stands beside the `#[Object]` or `SimpleObject`, which is told to look
/// into the module that this makes:
///
/// ```text
/// async_graphql::plain!(Agent as agent_gql { "id" => id, "createdAt" => created_at });
///
/// #[Object(crate = "agent_gql")]
/// impl Agent { … }
/// ```
///
/// On the left the name in the schema, on the right the method (or the field of a `SimpleObject`). Its type must be
/// [`WriteJson`].
///
/// **Never list a field that has a guard, or arguments.** The derive keeps guards in a wrapper that this goes past, and nothing
/// here can see them: macros are expanded apart from each other. So only the schema's own tests can hold it, which know who may
/// see what. Arguments don't compile. A field that turns out to wait is begun here, dropped, and done again by its
/// future, so it must do no harm by being begun twice.
#[macro_export]
macro_rules! plain {
    ($ty:ident as $module:ident { $($name:literal => $method:ident),* $(,)? }) => {
        impl $crate::plain::Plain for $ty {
            fn write(
                &self,
                ctx: &$crate::Context<'_>,
                out: &mut ::std::vec::Vec<u8>,
            ) -> ::std::option::Option<$crate::ServerResult<()>> {
                match ctx.item.node.name.node.as_str() {
                    $($name => ::std::option::Option::Some(match $crate::plain::now(self.$method(ctx))? {
                        ::std::result::Result::Ok(value) => {
                            $crate::plain::WriteJson::write_json(&value, out);
                            ::std::result::Result::Ok(())
                        }
                        ::std::result::Result::Err(error) => {
                            let error = $crate::Error::from(error).into_server_error(ctx.item.pos);
                            ::std::result::Result::Err(ctx.set_error_path(error))
                        }
                    }),)*
                    _ => ::std::option::Option::None,
                }
            }
        }
        mod $module {
            pub use $crate::*;
            pub mod resolver_utils {
                pub use $crate::plain::resolve_plain as resolve_container;
                pub use $crate::resolver_utils::*;
            }
        }
    };
}

/// Names the members of an interface or union, so that each answers itself, whatever it is:
///
/// ```text
/// async_graphql::plain_abstract!(Node as node_gql { Agent, Tool });
///
/// #[derive(Interface)]
/// #[graphql(crate = "node_gql", field(name = "id", ty = "ID"))]
/// enum Node { Agent(Agent), Tool(Tool) }
/// ```
///
/// All variants must be listed, or it doesn't compile.
#[macro_export]
macro_rules! plain_abstract {
    ($ty:ident as $module:ident { $($variant:ident),* $(,)? }) => {
        mod $module {
            pub use $crate::*;
            pub mod resolver_utils {
                pub use $crate::resolver_utils::*;
                pub async fn resolve_container<'a>(
                    ctx: &$crate::ContextSelectionSet<'a>,
                    root: &'a super::super::$ty,
                ) -> $crate::ServerResult<$crate::Value> {
                    match root {
                        $(super::super::$ty::$variant(member) => {
                            $crate::OutputType::resolve(member, ctx, &$crate::plain::ANY).await
                        })*
                    }
                }
            }
        }
    };
}

/// Lets fields of an enum of the schema be listed in [`plain!`]: `json_enum!(Status);`
#[macro_export]
macro_rules! json_enum {
    ($ty:ty) => {
        impl $crate::plain::WriteJson for $ty {
            fn write_json(&self, out: &mut ::std::vec::Vec<u8>) {
                $crate::plain::write_value(&$crate::resolver_utils::enum_value(*self), out);
            }
        }
    };
}

/// Lets fields of a scalar of the schema be listed in [`plain!`]: `json_scalar!(Cursor);`
#[macro_export]
macro_rules! json_scalar {
    ($ty:ty) => {
        impl $crate::plain::WriteJson for $ty {
            fn write_json(&self, out: &mut ::std::vec::Vec<u8>) {
                $crate::plain::write_value(&$crate::ScalarType::to_value(self), out);
            }
        }
    };
}

/// Fields that need no future; made by [`plain!`].
pub trait Plain {
    /// Appends the JSON of the field that `ctx` stands at. `None`: not one of those, or it has to wait, and nothing was written.
    ///
    /// # Errors
    /// The field's own.
    fn write(&self, ctx: &Context<'_>, out: &mut Vec<u8>) -> Option<ServerResult<()>>;
}

/// What [`plain!`] puts in place of `resolve_container` for its type.
///
/// # Errors
/// As [`resolve_container`](crate::resolver_utils::resolve_container).
pub async fn resolve_plain<'a, T: ContainerType + Plain + ?Sized>(
    ctx: &ContextSelectionSet<'a>,
    root: &'a T,
) -> ServerResult<Value> {
    resolve(ctx, root, T::write).await
}

/// What a future gives if it is ready at once.
pub fn now<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut TaskContext::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// A field to resolve members of interfaces for, who don't look at it.
pub static ANY: LazyLock<Positioned<Field>> = LazyLock::new(|| {
    let at = |name| Positioned::new(name, Pos::default());
    let selection_set = Positioned::new(SelectionSet { items: vec![] }, Pos::default());
    let field = Field {
        alias: None,
        name: at(Name::new("_")),
        arguments: vec![],
        directives: vec![],
        selection_set,
    };
    Positioned::new(field, Pos::default())
});

/// A leaf value, or a list of them, that writes itself as JSON.
pub trait WriteJson {
    /// Appends the value as JSON.
    fn write_json(&self, out: &mut Vec<u8>);
}

/// Appends a scalar's or enum's [`Value`] as JSON.
pub fn write_value(value: &Value, out: &mut Vec<u8>) {
    json::write(out, value);
}

impl WriteJson for str {
    fn write_json(&self, out: &mut Vec<u8>) {
        json::string(out, self);
    }
}

impl WriteJson for String {
    fn write_json(&self, out: &mut Vec<u8>) {
        json::string(out, self);
    }
}

impl WriteJson for ID {
    fn write_json(&self, out: &mut Vec<u8>) {
        json::string(out, self);
    }
}

impl WriteJson for bool {
    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(if *self { b"true" } else { b"false" });
    }
}

macro_rules! integers {
    ($($ty:ty)*) => { $(impl WriteJson for $ty {
        fn write_json(&self, out: &mut Vec<u8>) {
            json::integer(out, *self);
        }
    })* };
}
integers!(i8 i16 i32 i64 u8 u16 u32 u64);

json_scalar!(f32);
json_scalar!(f64);
json_scalar!(chrono::DateTime<chrono::Utc>);

macro_rules! pointers {
    ($($ty:ty)*) => { $(impl<T: WriteJson + ?Sized> WriteJson for $ty {
        fn write_json(&self, out: &mut Vec<u8>) {
            T::write_json(self, out);
        }
    })* };
}
pointers!(&T Box<T> Arc<T>);

impl<T: WriteJson + ToOwned + ?Sized> WriteJson for Cow<'_, T> {
    fn write_json(&self, out: &mut Vec<u8>) {
        T::write_json(self, out);
    }
}

impl<T: WriteJson> WriteJson for Option<T> {
    fn write_json(&self, out: &mut Vec<u8>) {
        match self {
            Some(value) => value.write_json(out),
            None => out.extend_from_slice(b"null"),
        }
    }
}

impl<T: WriteJson> WriteJson for [T] {
    fn write_json(&self, out: &mut Vec<u8>) {
        json::sequence(out, self, |out, value| value.write_json(out));
    }
}

impl<T: WriteJson> WriteJson for Vec<T> {
    fn write_json(&self, out: &mut Vec<u8>) {
        self.as_slice().write_json(out);
    }
}
