//! Every rule of the linter: its stable code, how bad a breach is, and what it protects. The documentation of the codes is here.

use sagamq_api::error::Severity;

macro_rules! rules {
    ($( $(#[$doc:meta])* $variant:ident = $code:literal, $severity:ident; )*) => {
        /// A rule of the linter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Rule {
            $( $(#[$doc])* $variant, )*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Self] = &[ $( Self::$variant, )* ];

            /// Its stable code.
            #[must_use]
            pub const fn code(self) -> &'static str {
                match self { $( Self::$variant => $code, )* }
            }

            /// Whether a breach forbids publishing.
            #[must_use]
            pub const fn severity(self) -> Severity {
                match self { $( Self::$variant => Severity::$severity, )* }
            }
        }
    };
}

rules! {
    /// The text is no YAML, or uses what a definition must not: several documents, tags, merge keys.
    YamlSyntax = "yaml_syntax", Error;
    /// The text, its nesting, its aliases or the number of its faults passes a bound.
    TooLarge = "too_large", Error;
    /// A mapping has the same key twice; one of the values would be lost.
    DuplicateKey = "duplicate_key", Error;
    /// A field that does not exist here; most often a slip.
    UnknownField = "unknown_field", Error;
    /// A keyword that is planned and not built.
    NotSupported = "not_supported", Error;
    /// A value has another type than the field takes.
    WrongType = "wrong_type", Error;
    /// A field that must be there is not.
    MissingField = "missing_field", Error;
    /// A step that sleeps or waits for a signal says what belongs to a call, is optional, or does both: it calls nobody, and does one of the
    /// two.
    CallsNobody = "calls_nobody", Error;
    /// A step that starts a saga says what belongs to a call of a participant: a time, or attempts where it need not succeed.
    StartsSaga = "starts_saga", Error;
    /// A saga starts itself, directly or by way of others: it would never end.
    StartsItself = "starts_itself", Error;
    /// A step starts a saga that is not published. Only the server can tell.
    UnknownSaga = "unknown_saga", Error;
    /// A step that is undone with its saga starts one that has a pivot, and does not say what undoes that. The server can tell, and whoever is
    /// given both texts.
    SagaWithPivot = "saga_with_pivot", Error;
    /// A step starts what can be run in two phases only. The server can tell, and whoever is given both texts.
    SagaNotPossible = "saga_not_possible", Error;
    /// What a step gives to the saga that it starts can never be an input of that one: it is no object, or does not fit the schema. Of the
    /// schema the server can tell, and whoever is given both texts.
    SubSagaInput = "sub_saga_input", Error;
    /// In two phases, a step sleeps or waits for a signal: what was called before it holds its locks meanwhile.
    SleepsWithLocks = "sleeps_with_locks", Error;
    /// A step behind the pivot is to fail when its signal does not come, or its lock is not free, in time: nothing is undone there.
    FailsBehindPivot = "fails_behind_pivot", Error;
    /// Neither a timeout of the step nor one of the saga ends a wait for a signal or a lock.
    EndlessWait = "endless_wait", Warning;
    /// A step behind the pivot asks for a lock that no step before it is sure to have asked for: it can neither fail nor be undone, so it may
    /// wait for ever, and nobody could end a circle of such waits.
    LockBehindPivot = "lock_behind_pivot", Error;
    /// Two instances may take two locks in opposite orders: then they wait for each other, and the younger one is undone.
    LockOrder = "lock_order", Warning;
    /// A name of a saga, a step, a service or a topic is not legal.
    BadName = "bad_name", Error;
    /// A duration cannot be read, or is out of its range; or a time cannot be read.
    BadDuration = "bad_duration", Error;
    /// A number is out of its range, or is not written as JSON writes it, so that it would arrive as another one.
    BadNumber = "bad_number", Error;
    /// A retry without an end: a saga that retries for ever is neither done nor seen by an operator.
    UnlimitedRetry = "unlimited_retry", Error;
    /// The URL of a service cannot be called.
    BadUrl = "bad_url", Error;
    /// A service is reached through a topic or over HTTP, not both, and not through a topic that belongs to the orchestrator.
    BadService = "bad_service", Error;
    /// What a step tells goes to a topic that cannot take it, or has a header that every such record has.
    BadEmit = "bad_emit", Error;
    /// A call names a service that is not declared.
    UnknownService = "unknown_service", Error;
    /// A call is not `service.operation`.
    BadCall = "bad_call", Error;
    /// A declared service is never called.
    UnusedService = "unused_service", Warning;
    /// More steps than a saga may have.
    TooManySteps = "too_many_steps", Error;
    /// Two steps have the same id.
    DuplicateStep = "duplicate_step", Error;
    /// `after` names a step that does not exist.
    UnknownStep = "unknown_step", Error;
    /// Steps wait for each other in a circle.
    Cycle = "cycle", Error;
    /// Some steps use `after` and this one does not: it starts at once, which list order suggests it does not.
    MixedOrder = "mixed_order", Warning;
    /// Two pivots on one path: there is one point of no return.
    TwoPivots = "two_pivots", Error;
    /// A step is neither before nor behind the pivot. If it is refused after the pivot succeeded, the saga could go neither on nor back.
    BesidePivot = "beside_pivot", Error;
    /// A pivot or a step behind it has a compensation, which could never run: from there a saga only goes forward.
    CompensationAfterPivot = "compensation_after_pivot", Error;
    /// A step before a pivot says neither how it is undone nor that there is nothing to undo.
    MissingCompensation = "missing_compensation", Error;
    /// A pivot has a condition, or the saga is to go on without it. It decides whether the saga goes forward or back, so it must be called, and
    /// known to have succeeded.
    ConditionalPivot = "conditional_pivot", Error;
    /// In a saga without a pivot, a step says neither how it is undone nor that there is nothing to undo.
    NoCompensation = "no_compensation", Warning;
    /// In two phases, a service that an action calls has a topic: a record in a queue waits for whoever comes, and locks must not.
    QueuedService = "queued_service", Error;
    /// In two phases, the name of a service that an action calls is too long to be a part of the name of a prepared transaction.
    LongServiceName = "long_service_name", Error;
    /// What only a saga can do: a step with a condition or a lock, one that it goes on without, or one that starts another saga. In two phases all steps take effect or none does.
    OnlyInSagas = "only_in_sagas", Error;
    /// What has no effect in two phases: a compensation, a pivot, a time in the queue, attempts of an action and codes that end them.
    NotInTwoPhases = "not_in_two_phases", Warning;
    /// In two phases, steps at two services have no order: two transactions may come to them in two orders, and then each waits for the
    /// other's locks until the lock timeout, because no database sees a circle that goes over two.
    UnorderedBranches = "unordered_branches", Warning;
    /// An expression is no CEL, or passes a bound of expressions.
    BadExpression = "bad_expression", Error;
    /// An expression refers to what is not there when it is evaluated: an unknown variable, a step that does not exist or need not be
    /// done by then, `failure` in an action.
    UnknownReference = "unknown_reference", Error;
    /// The schema of the input is no JSON Schema, or uses what is not looked at here.
    BadSchema = "bad_schema", Error;
    /// An expression reads a field of the input that its schema forbids.
    UnknownInput = "unknown_input", Error;
    /// An expression reads a field of the input that its schema does not declare, or a step gives one to the saga that it starts; an input may
    /// have it all the same.
    UndeclaredInput = "undeclared_input", Warning;
    /// An expression reads a field of the input that its schema does not require, and nothing guards it.
    UnguardedInput = "unguarded_input", Warning;
    /// By its schema the field of the input that is the key is neither text nor a number, or the one that a step fans out over is no list.
    WrongInputType = "wrong_input_type", Error;
    /// A value that stands there can never be: the input's schema does not allow what it is compared with, or a schema not its own default.
    ImpossibleLiteral = "impossible_literal", Error;
    /// A compensation reads the output of its own action unguarded; it is not there when the action's outcome is unknown.
    UnguardedOutput = "unguarded_output", Warning;
    /// An expression reads the output of a step that may have been left out, or that the saga may have gone on without, where no guard covers
    /// it: without the output it has no value.
    MaybeAbsent = "maybe_absent", Error;
    /// `for_each` is never a list.
    BadForEach = "bad_for_each", Error;
    /// A step says how many items are called at a time, and fans out over none.
    MaxParallelAlone = "max_parallel_alone", Error;
    /// A list that stands there has more items than a step may fan out over.
    TooManyItems = "too_many_items", Error;
    /// The schema of the input lets a list have more items than a step may fan out over: such a saga would start, and fail there.
    UnboundedFanOut = "unbounded_fan_out", Warning;
    /// A pivot fans out: there would be as many points of no return as the list has items.
    PivotFansOut = "pivot_fans_out", Error;
    /// A condition that is neither true nor false.
    BadCondition = "bad_condition", Error;
    /// A condition that is the same for every instance.
    ConstantCondition = "constant_condition", Warning;
    /// A pivot, or a step behind it, names failure codes that are not worth another attempt. It is called until it is known to have
    /// succeeded, whatever the code.
    IgnoredNeverOn = "ignored_never_on", Warning;
    /// The key is the same for every input: only one instance could ever be started.
    ConstantKey = "constant_key", Warning;
    /// The saga's timeout ends before one attempt of a step may, or before a way up to the pivot has slept or a wait for a signal or a lock
    /// is over.
    TimeoutTooShort = "timeout_too_short", Error;
    /// The saga's timeout ends before the steps up to its pivot may, one after the other, or before a step has had the attempts it asks for.
    BudgetTooSmall = "budget_too_small", Warning;
}
