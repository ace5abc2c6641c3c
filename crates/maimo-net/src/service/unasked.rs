//! The calls that a provider of a test is not asked, written once for all such providers.

use super::{Reply, ServiceError};

/// Writes, within an `impl Session`, the calls that are named: each answers with an error.
#[doc(hidden)]
#[macro_export]
macro_rules! unasked {
    (@status) => { $crate::unasked!(@fn status() -> $crate::service::ChannelStatus); };
    (@put) => { $crate::unasked!(@fn put($crate::service::Put) -> $crate::service::PutReply); };
    (@put_node) => { $crate::unasked!(@fn put_node(::bytes::Bytes) -> ()); };
    (@move_head) => { $crate::unasked!(@fn move_head(::bytes::Bytes) -> ::bytes::Bytes); };
    (@head) => {
        $crate::unasked!(@fn head($crate::service::WhichHead) -> Option<$crate::service::ShownHead>);
    };
    (@prove) => { $crate::unasked!(@fn prove(u64) -> ::bytes::Bytes); };
    (@nodes) => {
        $crate::unasked!(@fn nodes(Vec<::maimo_core::reference::ObjectRef>) -> Vec<::bytes::Bytes>);
    };
    (@read) => { $crate::unasked!(@fn read(Vec<$crate::service::Read>) -> Vec<::bytes::Bytes>); };
    (@audit) => { $crate::unasked!(@fn audit(::bytes::Bytes) -> ::bytes::Bytes); };
    (@digest) => { $crate::unasked!(@fn digest(::bytes::Bytes) -> [u8; 32]); };
    (@fn $call:ident($($request:ty)?) -> $answer:ty) => {
        fn $call(&self $(, _: $request)?) -> $crate::service::Reply<'_, $answer> {
            $crate::service::unasked(stringify!($call))
        }
    };
    ($($call:ident),+ $(,)?) => { $($crate::unasked!(@$call);)+ };
}

/// Answers a call that is not asked.
#[doc(hidden)]
pub fn unasked<T: Send + 'static>(call: &str) -> Reply<'static, T> {
    let detail = format!("{call} is not asked here");
    Box::pin(async { Err(ServiceError::BadRequest { detail }) })
}
