//! Services that are declared once for client and server, with [`service!`](crate::service!).
//!
//! A generated trait gives the server an [endpoint](ServiceEndpoint), or one whose methods are
//! [asynchronous](AsyncServiceEndpoint). The generated client sends [prepared](Prepared) requests
//! through a [`Caller`]. This module has no sockets: the crates `zmqv2_server` and `zmqv2_client`
//! know its types, and not each other.

mod arguments;
mod async_caller;
mod async_endpoint;
mod call;
mod caller;
mod declaration;
mod declared;
mod endpoint;
mod error;
mod interface;
mod variant;

pub use async_caller::{AsyncCaller, ServiceFuture};
pub use async_endpoint::{AsyncServiceEndpoint, MethodFuture};
pub use call::Call;
pub use caller::{Caller, Pending, Prepared, ServiceRequest};
pub use endpoint::{MethodAnswer, Raised, ServiceEndpoint};
pub use error::{DeclaredError, MethodError, MethodResult, NoError, ServiceError};
pub use interface::{Interface, Method};

// For the code that the macro makes.
#[doc(hidden)]
pub use arguments::{Arguments, Named, Value, is_value};
#[doc(hidden)]
pub use async_endpoint::answer_later;
#[doc(hidden)]
pub use caller::Stub;
#[doc(hidden)]
pub use endpoint::answer;
#[doc(hidden)]
pub use error::is_error;
#[doc(hidden)]
pub use interface::{check, covers, is_free, is_name, plain, version};
