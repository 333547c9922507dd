//! What must hold, and what is wrong when it does not.

/// What must hold on every way that an instance can go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Property {
    /// Every instance ends or is blocked for a reason, whatever has gone wrong, once nothing more does.
    Ends,
    /// Every effect is kept by a saga that completed, undone, or named in what the instance shows.
    Effects,
    /// What was done is undone in reverse order.
    Order,
    /// Nothing is undone once the pivot is in effect.
    Pivot,
    /// Every attempt of a call has the same arguments.
    Arguments,
    /// No expression is without a value.
    Expressions,
    /// What a step tells others is told once, when it is so.
    Told,
    /// The saga's timeout leads to compensation, if it comes before the pivot.
    Timeout,
    /// A restart goes on from the state that was left.
    Restart,
    /// An invariant of the definition, by its place in the list.
    Invariant(u16),
}

impl Property {
    /// The ones that hold for every definition.
    pub const BUILT_IN: [Self; 9] =
        [Self::Ends, Self::Effects, Self::Order, Self::Pivot, Self::Arguments, Self::Expressions, Self::Told, Self::Timeout, Self::Restart];

    /// Its name in reports.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Ends => "ends".to_owned(),
            Self::Effects => "effects".to_owned(),
            Self::Order => "order".to_owned(),
            Self::Pivot => "pivot".to_owned(),
            Self::Arguments => "arguments".to_owned(),
            Self::Expressions => "expressions".to_owned(),
            Self::Told => "told".to_owned(),
            Self::Timeout => "timeout".to_owned(),
            Self::Restart => "restart".to_owned(),
            Self::Invariant(at) => format!("invariant-{}", at + 1),
        }
    }

    /// What it says.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::Ends => "every instance ends, or is blocked for a reason",
            Self::Effects => "every effect is kept, undone, or named in what the instance shows",
            Self::Order => "what was done is undone in reverse order",
            Self::Pivot => "nothing is undone once the pivot is in effect",
            Self::Arguments => "every attempt of a call has the same arguments",
            Self::Expressions => "no expression is without a value",
            Self::Told => "what a step tells others is told once, when it is so",
            Self::Timeout => "the saga's timeout leads to compensation",
            Self::Restart => "a restart goes on from the state that was left",
            Self::Invariant(_) => "an invariant of the definition",
        }
    }

    /// Its place among the counters.
    pub(super) fn slot(self) -> usize {
        match self {
            Self::Invariant(at) => Self::BUILT_IN.len() + usize::from(at),
            other => Self::BUILT_IN.iter().position(|known| *known == other).expect("it is built in"),
        }
    }
}

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) property: Property,
    /// In words.
    pub(super) what: String,
}

/// How often each property was put to the test: one that never was could not fail.
#[derive(Clone, Debug)]
pub(super) struct Tried(Vec<u64>);

impl Tried {
    pub(super) fn new(invariants: usize) -> Self {
        Self(vec![0; Property::BUILT_IN.len() + invariants])
    }

    pub(super) fn note(&mut self, property: Property) {
        self.0[property.slot()] += 1;
    }

    pub(super) fn count(&self, property: Property) -> u64 {
        self.0[property.slot()]
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own += other);
    }
}
