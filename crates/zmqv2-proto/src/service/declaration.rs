//! The macro that declares a service.

/// Declares a service once for both ends: a trait for the server, and a client.
///
/// ```
/// use serde::{Deserialize, Serialize};
/// use zmqv2_proto::service;
/// use zmqv2_proto::service::{Call, MethodResult};
///
/// #[derive(Debug, Serialize, Deserialize)]
/// pub struct Reservation {
///     pub id: u64,
/// }
///
/// #[derive(Debug, Serialize, Deserialize, thiserror::Error)]
/// pub enum InventoryError {
///     #[error("only {left} left")]
///     TooFew { left: u32 },
/// }
///
/// service! {
///     /// Parts in stock.
///     pub service Inventory("inventory"), client InventoryClient, namespace "stock", version 1.2, error InventoryError {
///         /// Reserves parts.
///         fn reserve(part: String, count: u32) -> Reservation;
///         /// Gives them back.
///         fn undo(id: u64), since 1.2;
///     }
/// }
///
/// struct Shelf;
///
/// impl Inventory for Shelf {
///     fn reserve(&self, _call: &Call, _part: String, count: u32) -> MethodResult<Reservation, InventoryError> {
///         if count > 10 {
///             return Err(InventoryError::TooFew { left: 10 })?;
///         }
///         Ok(Reservation { id: 7 })
///     }
///
///     fn undo(&self, _call: &Call, _id: u64) -> MethodResult<(), InventoryError> {
///         Ok(())
///     }
/// }
///
/// // The server takes `Shelf.into_endpoint()`. A client sends `inventory.reserve("bolt".into(), 3).call()`.
/// assert_eq!(Shelf.into_endpoint().interface().methods[1].since.to_string(), "1.2");
/// ```
///
/// # The declaration
/// - `pub service NAME("TOPIC")`: the name of the trait, and the topic.
/// - `async NAME` (optional): the name of a second trait, whose methods are `async fn`.
/// - `client NAME`: the name of the client.
/// - `namespace "NAME"` (optional): the namespace of the interface.
/// - `version MAJOR.MINOR`: the version that the server offers.
/// - `error TYPE` (optional): the declared error ([`DeclaredError`](crate::service::DeclaredError)).
///   A caller gets it as it is. Without it, methods return any `std::error::Error`.
/// - `module "NAME"` (optional): the module of the declared errors for peers in Python. Default: the
///   topic.
/// - `fn NAME(ARGUMENT: TYPE, ...) -> RESULT, since MAJOR.MINOR;`: a method. The result is `()` if
///   there is none. The types need serde's `Serialize` and `Deserialize`. A method without `since`
///   exists since `MAJOR.0`.
///
/// The methods `new`, `target`, `with_context`, `into_endpoint`, and all that begin with `_`, are
/// errors: the generated code has functions of these names, and `_` marks private methods.
///
/// # What it makes
/// - `trait NAME: Send + Sync + 'static`, with one method for each of the declaration:
///   `fn reserve(&self, call: &Call, part: String, count: u32) -> MethodResult<Reservation, InventoryError>`.
///   Its `into_endpoint` makes a [`ServiceEndpoint`](crate::service::ServiceEndpoint).
/// - With `async NAME`, a trait of that name with the same methods as `async fn`. Their futures are
///   `Send`. Its `into_endpoint` makes an
///   [`AsyncServiceEndpoint`](crate::service::AsyncServiceEndpoint).
/// - `struct CLIENT<C>`, where `C` is a [`Caller`](crate::service::Caller) such as
///   `zmqv2_client::RpcClient`, with one method for each: it returns a
///   [`Prepared`](crate::service::Prepared) request. `CLIENT::target()` is the target of the caller.
///
/// The version of a request is the one since which its method exists, so an old server runs all that
/// it has, and refuses the rest with `UnsupportedVersion`.
#[macro_export]
macro_rules! service {
    (
        $(#[$meta:meta])*
        $vis:vis service $service:ident($topic:literal) $(, async $later:ident)?, client $client:ident
        $(, namespace $namespace:literal)?, version $version:literal
        $(, error $error:ty)? $(, module $module:literal)? $(,)?
        {
            $(
                $(#[$method_meta:meta])*
                fn $method:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $(, since $since:literal)?;
            )*
        }
    ) => {
        $crate::service! {
            @items [$(#[$meta])*] [$vis] $service $client ($topic) ($($namespace)?) $version ($($module)?)
            [$crate::service!(@or ($($error)?) $crate::service::NoError)]
            $(
                [$(#[$method_meta])*] $method ($($argument: $type),*)
                [$crate::service!(@or ($($result)?) ())] ($($since)?);
            )*
        }

        $crate::service! {
            @async ($($later)?) [$(#[$meta])*] [$vis] $client $version
            [$crate::service!(@or ($($error)?) $crate::service::NoError)]
            $(
                [$(#[$method_meta])*] $method ($($argument: $type),*)
                [$crate::service!(@or ($($result)?) ())] ($($since)?);
            )*
        }
    };

    // The rules below are for the macro itself.
    (
        @items [$(#[$meta:meta])*] [$vis:vis] $service:ident $client:ident
        ($topic:literal) ($($namespace:literal)?) $version:literal ($($module:literal)?) [$error:ty]
        $(
            [$(#[$method_meta:meta])*] $method:ident ($($argument:ident: $type:ty),*)
            [$result:ty] ($($since:literal)?);
        )*
    ) => {
        // These errors point at the types. Those of the code below point at the whole declaration.
        const _: fn() = || {
            $crate::service::is_error::<$error>();
            $(
                $($crate::service::is_value::<$type>();)*
                $crate::service::is_value::<$result>();
            )*
        };

        const _: () = $crate::service!(@check $topic ($($namespace)?) $version ($($module)?) $($method ($($since)?))*);

        $(#[$meta])*
        #[allow(dead_code, clippy::too_many_arguments)]
        $vis trait $service: ::core::marker::Send + ::core::marker::Sync + 'static {
            $(
                $(#[$method_meta])*
                fn $method(
                    &self,
                    call: &$crate::service::Call,
                    $($argument: $type),*
                ) -> $crate::service::MethodResult<
                    $result,
                    $error,
                >;
            )*

            /// This service as an endpoint of a server.
            #[allow(deprecated)]
            fn into_endpoint(self) -> $crate::service::ServiceEndpoint
            where
                Self: ::core::marker::Sized,
            {
                const INTERFACE: &$crate::service::Interface = &<$client<()>>::INTERFACE;
                $crate::service::ServiceEndpoint::new(INTERFACE, move |method, call, arguments| {
                    $({
                        const METHOD: &$crate::service::Method =
                            &$crate::service!(@method $version ($($since)?) $method $($argument)*);
                        if method == METHOD.name {
                            return ::core::option::Option::Some($crate::service::answer(
                                INTERFACE,
                                METHOD,
                                arguments,
                                |($($argument,)*)| <Self as $service>::$method(&self, call, $($argument),*),
                            ));
                        }
                    })*
                    ::core::option::Option::None
                })
            }
        }

        $(#[$meta])*
        #[derive(::core::fmt::Debug, ::core::clone::Clone)]
        #[allow(dead_code)]
        $vis struct $client<C> {
            stub: $crate::service::Stub<C>,
        }

        #[allow(dead_code)]
        impl $client<()> {
            /// What the declaration says.
            pub const INTERFACE: $crate::service::Interface = $crate::service::Interface::new(
                $topic,
                $crate::service!(@option $($namespace)?),
                $crate::service!(@version $version),
                $crate::service!(@or ($($module)?) $topic),
                &[$($crate::service!(@method $version ($($since)?) $method $($argument)*)),*],
            );

            /// The target of a caller: topic, namespace and version.
            #[must_use]
            pub fn target() -> $crate::Target {
                Self::INTERFACE.target()
            }
        }

        #[allow(dead_code, clippy::too_many_arguments)]
        impl<C: $crate::service::Caller> $client<C> {
            /// Sends its requests through `caller`, to the topic, exchange and server of its target.
            /// Namespace and version are those of the declaration.
            #[must_use]
            pub fn new(caller: C) -> Self {
                Self { stub: $crate::service::Stub::new(caller, &<$client<()>>::INTERFACE) }
            }

            /// Sends this context with every request.
            #[must_use]
            pub fn with_context(
                mut self,
                context: impl ::core::convert::Into<::std::sync::Arc<$crate::RequestContext>>,
            ) -> Self {
                self.stub.context = context.into();
                self
            }

            $(
                $(#[$method_meta])*
                pub fn $method(
                    &self,
                    $($argument: $type),*
                ) -> $crate::service::Prepared<
                    C,
                    ($($type,)*),
                    $result,
                    $error,
                > {
                    const METHOD: &$crate::service::Method =
                        &$crate::service!(@method $version ($($since)?) $method $($argument)*);
                    self.stub.prepare(METHOD, ($($argument,)*))
                }
            )*
        }
    };

    (@async () $($rest:tt)*) => {};
    (
        @async ($service:ident) [$(#[$meta:meta])*] [$vis:vis] $client:ident $version:literal [$error:ty]
        $(
            [$(#[$method_meta:meta])*] $method:ident ($($argument:ident: $type:ty),*)
            [$result:ty] ($($since:literal)?);
        )*
    ) => {
        $(#[$meta])*
        #[allow(dead_code, clippy::too_many_arguments)]
        $vis trait $service: ::core::marker::Send + ::core::marker::Sync + 'static {
            $(
                $(#[$method_meta])*
                fn $method(
                    &self,
                    call: &$crate::service::Call,
                    $($argument: $type),*
                ) -> impl ::core::future::Future<
                    Output = $crate::service::MethodResult<
                        $result,
                        $error,
                    >,
                > + ::core::marker::Send;
            )*

            /// This service as an endpoint of a server with asynchronous handlers.
            #[allow(deprecated, unused_variables)]
            fn into_endpoint(self) -> $crate::service::AsyncServiceEndpoint
            where
                Self: ::core::marker::Sized,
            {
                const INTERFACE: &$crate::service::Interface = &<$client<()>>::INTERFACE;
                let service = ::std::sync::Arc::new(self);
                $crate::service::AsyncServiceEndpoint::new(INTERFACE, move |method, call, arguments| {
                    $({
                        const METHOD: &$crate::service::Method =
                            &$crate::service!(@method $version ($($since)?) $method $($argument)*);
                        if method == METHOD.name {
                            let service = ::std::sync::Arc::clone(&service);
                            return ::core::option::Option::Some($crate::service::answer_later(
                                INTERFACE,
                                METHOD,
                                arguments,
                                move |($($argument,)*)| async move {
                                    <Self as $service>::$method(&service, call, $($argument),*).await
                                },
                            ));
                        }
                    })*
                    ::core::option::Option::None
                })
            }
        }
    };

    (@or () $default:ty) => { $default };
    (@or ($given:ty) $default:ty) => { $given };
    (@or () $default:literal) => { $default };
    (@or ($given:literal) $default:literal) => { $given };
    (@option) => { ::core::option::Option::None };
    (@option $given:expr) => { ::core::option::Option::Some($given) };
    (@version $version:literal) => {
        $crate::service::version(
            ::core::stringify!($version),
            ::core::concat!("version ", ::core::stringify!($version), ": write MAJOR.MINOR, such as 1.2"),
        )
    };
    (@method $version:literal ($($since:literal)?) $method:ident $($argument:ident)*) => {
        $crate::service::Method::new(
            $crate::service::plain(::core::stringify!($method)),
            $crate::service!(@version $version),
            $crate::service!(@option $($crate::service!(@version $since))?),
            &[$($crate::service::plain(::core::stringify!($argument))),*],
        )
    };
    (@check $topic:literal ($($namespace:literal)?) $version:literal ($($module:literal)?)
        $($method:ident ($($since:literal)?))*
    ) => {{
        $crate::service!(@name "topic" $topic);
        $($crate::service!(@name "namespace" $namespace);)?
        let _version = $crate::service!(@version $version);
        $(
            $crate::service::check(
                $crate::service::is_free($crate::service::plain(::core::stringify!($method))),
                ::core::concat!(
                    "method ", ::core::stringify!($method), ": choose another name; names that begin with _ are ",
                    "private, and new, target, with_context and into_endpoint are functions of the generated code",
                ),
            );
            $(
                $crate::service::check(
                    $crate::service::covers(_version, $crate::service!(@version $since)),
                    ::core::concat!(
                        "method ", ::core::stringify!($method), " exists since ", ::core::stringify!($since),
                        ", and the service has version ", ::core::stringify!($version),
                        ": raise the service's minor version; the major version is the same",
                    ),
                );
            )?
        )*
    }};
    (@name $what:literal $name:literal) => {
        $crate::service::check(
            $crate::service::is_name($name),
            ::core::concat!(
                $what, " ", ::core::stringify!($name),
                ": a name is 1 to 255 printable ASCII characters without spaces, '/' or '\\'",
            ),
        )
    };
}
