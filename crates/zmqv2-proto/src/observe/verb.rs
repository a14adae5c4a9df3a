//! What a message asks for.

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verb {
    /// One server runs the method and replies.
    Call,
    /// One server runs the method.
    Cast,
    /// Every server of the topic runs the method.
    Fanout,
    /// Every pool of listeners gets a notification.
    Notify,
}

impl Verb {
    /// `call`, `cast`, `fanout` or `notify`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Cast => "cast",
            Self::Fanout => "fanout",
            Self::Notify => "notify",
        }
    }
}
