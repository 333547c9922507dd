//! The ways of doing something with each record, and what each may cost when processes are killed.

/// What settles a record, or what makes a record of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A queue group with `auto_ack`, then the effect.
    AutoAck,
    /// A queue group: the effect, then the acknowledgement.
    Ack,
    /// As before, in a topic with `ordering: key`.
    KeyOrder,
    /// A stream group: the effects of a batch, then the commit.
    Stream,
    /// Acknowledge-with-records: the effect is a record of another topic.
    Pipeline,
    /// The inbox: the effect is in the service's own database, in the transaction that notes the record.
    Inbox,
    /// A producer that sends again what it does not know the answer of.
    ProduceAgain,
    /// As before, with an idempotency key a record.
    ProduceOnce,
}

impl Way {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 8] =
        [Self::AutoAck, Self::Ack, Self::KeyOrder, Self::Stream, Self::Pipeline, Self::Inbox, Self::ProduceAgain, Self::ProduceOnce];

    /// Its name in topics and arguments.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AutoAck => "auto-ack",
            Self::Ack => "ack",
            Self::KeyOrder => "key-order",
            Self::Stream => "stream",
            Self::Pipeline => "pipeline",
            Self::Inbox => "inbox",
            Self::ProduceAgain => "produce-again",
            Self::ProduceOnce => "produce-once",
        }
    }

    /// The way of a name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.name() == name)
    }

    /// What it promises.
    #[must_use]
    pub const fn level(self) -> &'static str {
        match self {
            Self::AutoAck => "at most once",
            Self::Ack | Self::ProduceAgain => "at least once",
            Self::KeyOrder => "at least once, each key in order",
            Self::Stream => "at least once, in order",
            Self::Pipeline => "effectively once, in pipelines",
            Self::Inbox | Self::ProduceOnce => "effectively once",
        }
    }

    /// How it is done.
    #[must_use]
    pub const fn how(self) -> &'static str {
        match self {
            Self::AutoAck => "receive with `auto_ack`, then the effect",
            Self::Ack => "receive, the effect, `ack`",
            Self::KeyOrder => "the same with `ordering: key`",
            Self::Stream => "member of a stream group: the effects, `commit`",
            Self::Pipeline => "receive, `ack-with-records`",
            Self::Inbox => "receive, the effect in the inbox's transaction, `ack`",
            Self::ProduceAgain => "produce, and again after a kill",
            Self::ProduceOnce => "the same with an idempotency key",
        }
    }

    /// Whether records may be without an effect. Where they may, kills show it.
    #[must_use]
    pub const fn loses(self) -> bool {
        matches!(self, Self::AutoAck)
    }

    /// Whether effects may happen again. Where they may, kills show it.
    #[must_use]
    pub const fn repeats(self) -> bool {
        matches!(self, Self::Ack | Self::KeyOrder | Self::Stream | Self::ProduceAgain)
    }

    /// Whether each key's effects come in the order of its records.
    #[must_use]
    pub const fn keeps_keys_in_order(self) -> bool {
        matches!(self, Self::KeyOrder)
    }

    /// Whether the worker makes records instead of reading them.
    #[must_use]
    pub const fn produces(self) -> bool {
        matches!(self, Self::ProduceAgain | Self::ProduceOnce)
    }
}
