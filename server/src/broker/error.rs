//! Errors of the broker as problem documents: each has its code here, by matches that name every variant.

use crate::web::problem::ApiError;
use sagamq_api::record::PayloadError;
use sagamq_api::{ErrorCode, Problem};
use sagamq_broker::log::batch::EncodeError;
use sagamq_broker::log::{ReadError, ReadMemoryFull};
use sagamq_broker::storage::StorageError;
use sagamq_broker::{
    AckRecordsError, AckRecordsRefused, AddPartitionsError, AppendError, CreateGroupError, CreateTopicError, DeadLetterError,
    DeleteGroupError, DescribeGroupError, FindGroupError, OperateGroupError, ParameterError, ProduceError, ProducerNameError, QueueError,
    ReadRequestError, ReceiveError, RedriveError, ScheduleError, SettleError, StreamGroupError, TopicError, UpdateTopicError, WriteError,
};

impl From<WriteError> for ApiError {
    fn from(error: WriteError) -> Self {
        let code = match error {
            WriteError::Failed(_) | WriteError::Stopped(_) => ErrorCode::WritesStopped,
            WriteError::DiskLow { .. } => ErrorCode::DiskLow,
            WriteError::ShuttingDown => ErrorCode::ShuttingDown,
            WriteError::Lost(_) => ErrorCode::Internal,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        let code = match error {
            StorageError::Io(_) => ErrorCode::Internal,
            StorageError::Corrupt(_) => ErrorCode::StorageCorrupt,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::OutOfRange { log_start, high_watermark, .. } => {
                Problem::new(ErrorCode::OffsetOutOfRange, error.to_string()).with_offsets(log_start, high_watermark).into()
            }
            ReadError::Damaged { .. } | ReadError::Missing { .. } => Self::new(ErrorCode::StorageCorrupt, error.to_string()),
            ReadError::Storage(error) => error.into(),
        }
    }
}

impl From<EncodeError> for ApiError {
    fn from(error: EncodeError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<TopicError> for ApiError {
    fn from(error: TopicError) -> Self {
        match error {
            TopicError::NotFound(_) => Self::new(ErrorCode::TopicNotFound, format!("{error}: create it first")),
            TopicError::NotSynced(..) => Self::new(ErrorCode::TopicExists, error.to_string()),
            TopicError::DeadLetters(_) | TopicError::Owned(_) | TopicError::Compacted(_) => {
                Self::new(ErrorCode::TopicInUse, error.to_string())
            }
            TopicError::Write(error) => error.into(),
        }
    }
}

impl From<CreateTopicError> for ApiError {
    fn from(error: CreateTopicError) -> Self {
        match error {
            CreateTopicError::Config(_) | CreateTopicError::Reserved(_) => Self::invalid(error.to_string()),
            CreateTopicError::Exists(_) => Self::new(ErrorCode::TopicExists, error.to_string()),
            CreateTopicError::Write(error) => error.into(),
        }
    }
}

impl From<UpdateTopicError> for ApiError {
    fn from(error: UpdateTopicError) -> Self {
        match error {
            UpdateTopicError::Topic(error) => error.into(),
            UpdateTopicError::Config(_) => Self::invalid(error.to_string()),
            UpdateTopicError::Owned(_) => Self::new(ErrorCode::TopicInUse, error.to_string()),
            UpdateTopicError::FewerPartitions { .. } => Self::new(ErrorCode::FewerPartitions, error.to_string()),
            UpdateTopicError::AddPartitions(AddPartitionsError::Storage(error)) => error.into(),
            UpdateTopicError::AddPartitions(AddPartitionsError::Write(error)) | UpdateTopicError::Write(error) => error.into(),
            // It passes by itself.
            UpdateTopicError::AddPartitions(AddPartitionsError::OnTheirWay) => Self::new(ErrorCode::Overloaded, error.to_string()),
            UpdateTopicError::AddPartitions(
                AddPartitionsError::RecordsWait(_) | AddPartitionsError::RecordsWaited(_) | AddPartitionsError::TooOften(_),
            ) => Self::new(ErrorCode::PartitionsNotAdded, error.to_string()),
        }
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::TopicDeleted => Self::new(ErrorCode::TopicNotFound, error.to_string()),
            AppendError::KeyReused { .. } | AppendError::RequestKeyReused { .. } => {
                Self::new(ErrorCode::IdempotencyKeyReused, error.to_string())
            }
            AppendError::OutOfOrder { .. } | AppendError::SequenceReused { .. } => {
                Self::new(ErrorCode::OutOfOrderSequence, error.to_string())
            }
            AppendError::Fenced { .. } | AppendError::NameTaken { .. } => Self::new(ErrorCode::ProducerFenced, error.to_string()),
            AppendError::UnknownProducer { .. } => Self::new(ErrorCode::UnknownProducer, error.to_string()),
            AppendError::PartitionsChanged => Self::new(ErrorCode::PartitionsChanged, error.to_string()),
            AppendError::ProducerLimit => Self::new(ErrorCode::ProducerLimit, error.to_string()),
            AppendError::ScheduleLimit { .. } => Self::new(ErrorCode::ScheduleLimit, error.to_string()),
            AppendError::Write(error) => error.into(),
            AppendError::Storage(error) => error.into(),
            AppendError::Encode(error) => error.into(),
            AppendError::Batch(_) => Self::new(ErrorCode::Internal, error.to_string()),
        }
    }
}

impl From<ProduceError> for ApiError {
    fn from(error: ProduceError) -> Self {
        let detail = error.to_string();
        let code = match error {
            ProduceError::Topic(error) => return error.into(),
            ProduceError::Encode(error) => return error.into(),
            ProduceError::Append(error) => return error.into(),
            ProduceError::InPart(_) => ErrorCode::ProducedInPart,
            ProduceError::RecordsCount(_)
            | ProduceError::KeyWithoutPartition(_)
            | ProduceError::IdempotencyKey(_)
            | ProduceError::TwoIdempotencyKeys(_)
            | ProduceError::TimeAhead { .. }
            | ProduceError::TimeBehind { .. }
            | ProduceError::WithoutKey { .. }
            | ProduceError::BatchWithoutKeys { .. }
            | ProduceError::DueAhead { .. }
            | ProduceError::DueWithTime(_)
            | ProduceError::StampWithKey
            | ProduceError::StampedBeside(_)
            | ProduceError::StampWithoutPartition => ErrorCode::InvalidRequest,
            ProduceError::PartitionsChanged { partitions, .. } => {
                return Problem::new(ErrorCode::PartitionsChanged, detail).with_partitions(partitions).into();
            }
            ProduceError::PartitionNotFound { .. } => ErrorCode::PartitionNotFound,
            ProduceError::RecordTooLarge { .. } => ErrorCode::RecordTooLarge,
            ProduceError::KeyReused { .. } => ErrorCode::IdempotencyKeyReused,
            ProduceError::Overloaded(_) => ErrorCode::Overloaded,
        };
        Self::new(code, detail)
    }
}

impl From<ProducerNameError> for ApiError {
    fn from(error: ProducerNameError) -> Self {
        match error {
            ProducerNameError::TooMany => Self::new(ErrorCode::ProducerNameLimit, error.to_string()),
            ProducerNameError::NotFound(_) => Self::new(ErrorCode::ProducerNotFound, error.to_string()),
            ProducerNameError::Write(error) => error.into(),
        }
    }
}

impl From<AckRecordsError> for ApiError {
    fn from(error: AckRecordsError) -> Self {
        let detail = error.to_string();
        match error {
            AckRecordsError::Find(error) => error.into(),
            AckRecordsError::Parameter(error) => error.into(),
            AckRecordsError::Receipt { reason, .. } => Self::new(reason.code(), detail),
            AckRecordsError::ForeignReceipt(_) => Self::new(ErrorCode::InvalidReceipt, detail),
            // The code is that of the cause; the detail says of which topic the records are.
            AckRecordsError::Produce { reason, .. } => Self::new(Self::from(reason).into_problem().code, detail),
            AckRecordsError::Refused(refused) => match refused {
                AckRecordsRefused::Stale(_) => Self::new(ErrorCode::ReceiptExpired, detail),
                AckRecordsRefused::OtherRecords => Self::new(ErrorCode::IdempotencyKeyReused, detail),
                AckRecordsRefused::TopicDeleted(_) => Self::new(ErrorCode::TopicNotFound, detail),
                AckRecordsRefused::Queue(error) => error.into(),
                AckRecordsRefused::Append(error) => error.into(),
                AckRecordsRefused::Write(error) => error.into(),
            },
        }
    }
}

impl From<ScheduleError> for ApiError {
    fn from(error: ScheduleError) -> Self {
        match error {
            ScheduleError::Topic(error) => error.into(),
            ScheduleError::Parameter(error) => error.into(),
            ScheduleError::NotFound { .. } => Self::new(ErrorCode::ScheduleNotFound, error.to_string()),
            ScheduleError::Storage(error) => error.into(),
            ScheduleError::Append(error) => error.into(),
        }
    }
}

impl From<ReadRequestError> for ApiError {
    fn from(error: ReadRequestError) -> Self {
        match error {
            ReadRequestError::Topic(error) => error.into(),
            ReadRequestError::Read(error) => error.into(),
            ReadRequestError::PartitionNotFound { .. } => Self::new(ErrorCode::PartitionNotFound, error.to_string()),
            ReadRequestError::Parameter(error) => error.into(),
            ReadRequestError::Overloaded(full) => full.into(),
        }
    }
}

impl From<QueueError> for ApiError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::GroupDeleted => Self::new(ErrorCode::GroupNotFound, error.to_string()),
            QueueError::Write(error) => error.into(),
        }
    }
}

impl From<ParameterError> for ApiError {
    fn from(error: ParameterError) -> Self {
        Self::invalid(error.to_string())
    }
}

impl From<ReadMemoryFull> for ApiError {
    fn from(full: ReadMemoryFull) -> Self {
        Self::new(ErrorCode::Overloaded, full.to_string())
    }
}

impl From<FindGroupError> for ApiError {
    fn from(error: FindGroupError) -> Self {
        match error {
            FindGroupError::Topic(error) => error.into(),
            FindGroupError::NotFound { .. } => Self::new(ErrorCode::GroupNotFound, format!("{error}: its first receive makes it")),
        }
    }
}

impl From<CreateGroupError> for ApiError {
    fn from(error: CreateGroupError) -> Self {
        match error {
            CreateGroupError::Topic(error) => error.into(),
            CreateGroupError::DeadLetterName(_) => Self::new(ErrorCode::InvalidName, error.to_string()),
            CreateGroupError::OfDeadLetters(_) => Self::new(ErrorCode::TopicInUse, error.to_string()),
            CreateGroupError::StreamGroup { .. } => Self::new(ErrorCode::GroupKindConflict, error.to_string()),
            CreateGroupError::DeadLetterTopicTaken(_) => Self::new(ErrorCode::TopicExists, error.to_string()),
            CreateGroupError::Write(error) => error.into(),
        }
    }
}

impl From<OperateGroupError> for ApiError {
    fn from(error: OperateGroupError) -> Self {
        let detail = error.to_string();
        match error {
            OperateGroupError::Find(error) => error.into(),
            OperateGroupError::Parameter(error) => error.into(),
            OperateGroupError::Queue(error) => error.into(),
            OperateGroupError::Read(error) => error.into(),
            OperateGroupError::Write(error) => error.into(),
            OperateGroupError::Owned { .. } => Self::new(ErrorCode::GroupInUse, detail),
            OperateGroupError::PartitionNotFound { .. } => Self::new(ErrorCode::PartitionNotFound, detail),
            OperateGroupError::BehindEnd { log_start, end, .. } => {
                Problem::new(ErrorCode::OffsetOutOfRange, detail).with_offsets(log_start, end).into()
            }
        }
    }
}

impl From<StreamGroupError> for ApiError {
    fn from(error: StreamGroupError) -> Self {
        let detail = error.to_string();
        let code = match error {
            StreamGroupError::Topic(error) => return error.into(),
            StreamGroupError::Parameter(error) => return error.into(),
            StreamGroupError::Read(error) => return error.into(),
            StreamGroupError::Write(error) => return error.into(),
            StreamGroupError::NotFound(_) => ErrorCode::GroupNotFound,
            StreamGroupError::NotRead { .. } => ErrorCode::InvalidRequest,
            StreamGroupError::PartitionNotFound { .. } => ErrorCode::PartitionNotFound,
            StreamGroupError::BehindEnd { .. } => ErrorCode::OffsetOutOfRange,
            StreamGroupError::QueueGroup { .. } => ErrorCode::GroupKindConflict,
            StreamGroupError::OfDeadLetters(_) => ErrorCode::TopicInUse,
            StreamGroupError::TopicsMax { .. } | StreamGroupError::GroupsMax { .. } | StreamGroupError::MembersMax(_) => {
                ErrorCode::GroupLimit
            }
            StreamGroupError::InUse { .. } => ErrorCode::GroupInUse,
            StreamGroupError::Fenced(_) => ErrorCode::Fenced,
        };
        Self::new(code, detail)
    }
}

impl From<DeleteGroupError> for ApiError {
    fn from(error: DeleteGroupError) -> Self {
        match error {
            DeleteGroupError::Find(error) => error.into(),
            DeleteGroupError::InUse { .. } => Self::new(ErrorCode::GroupInUse, error.to_string()),
            DeleteGroupError::Queue(error) => error.into(),
            DeleteGroupError::Write(error) => error.into(),
        }
    }
}

impl From<DescribeGroupError> for ApiError {
    fn from(error: DescribeGroupError) -> Self {
        match error {
            DescribeGroupError::Find(error) => error.into(),
            DescribeGroupError::Queue(error) => error.into(),
            DescribeGroupError::Read(error) => error.into(),
        }
    }
}

impl From<ReceiveError> for ApiError {
    fn from(error: ReceiveError) -> Self {
        match error {
            ReceiveError::Create(error) => error.into(),
            ReceiveError::Gone(error) => error.into(),
            ReceiveError::Parameter(error) => error.into(),
            ReceiveError::Queue(error) => error.into(),
            ReceiveError::Read(error) => error.into(),
            ReceiveError::Overloaded(full) => full.into(),
        }
    }
}

impl From<SettleError> for ApiError {
    fn from(error: SettleError) -> Self {
        match error {
            SettleError::Find(error) => error.into(),
            SettleError::Parameter(error) => error.into(),
            SettleError::Receipt { reason, .. } => Self::new(reason.code(), error.to_string()),
            SettleError::ForeignReceipt { .. } => Self::new(ErrorCode::InvalidReceipt, error.to_string()),
            SettleError::AllExpired => Self::new(ErrorCode::ReceiptExpired, error.to_string()),
            SettleError::Queue(error) => error.into(),
        }
    }
}

impl From<DeadLetterError> for ApiError {
    fn from(error: DeadLetterError) -> Self {
        match error {
            DeadLetterError::Find(error) => error.into(),
            DeadLetterError::Parameter(error) => error.into(),
            DeadLetterError::Queue(error) => error.into(),
            DeadLetterError::Read(error) => error.into(),
            DeadLetterError::Overloaded(full) => full.into(),
        }
    }
}

impl From<RedriveError> for ApiError {
    fn from(error: RedriveError) -> Self {
        match error {
            RedriveError::Find(error) => error.into(),
            RedriveError::Parameter(error) => error.into(),
            RedriveError::Queue(error) => error.into(),
            RedriveError::Read(error) => error.into(),
            RedriveError::Overloaded(full) => full.into(),
            RedriveError::Payload(error @ PayloadError::Base64 { .. }) => Self::new(ErrorCode::InvalidBase64, format!("`edit`: {error}")),
            RedriveError::Payload(error) => Self::invalid(format!("`edit`: {error}")),
            RedriveError::TooLarge { .. } => Self::new(ErrorCode::RecordTooLarge, error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_while_partitions_are_added_may_be_tried_again_and_nothing_else() {
        let problem = |error| ApiError::from(UpdateTopicError::AddPartitions(error)).into_problem();
        let busy = problem(AddPartitionsError::OnTheirWay);
        assert_eq!((busy.code, busy.retryable, busy.outcome_unknown), (ErrorCode::Overloaded, true, false));
        let topic = || "t".parse().expect("legal");
        for error in
            [AddPartitionsError::RecordsWait(topic()), AddPartitionsError::RecordsWaited(topic()), AddPartitionsError::TooOften(topic())]
        {
            let refused = problem(error);
            assert_eq!((refused.code, refused.retryable), (ErrorCode::PartitionsNotAdded, false), "{}", refused.detail);
        }
    }
}
