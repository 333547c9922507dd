//! What a receiver says that it did not take of an export that it took.

use crate::client::Client;
use crate::queue::Queue;
use crate::told::Told;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use opentelemetry_http::{Bytes, HttpClient, HttpError};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
use prost::Message as _;
use std::sync::Arc;

/// How much of an export was not taken, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the receiver did not take {count} of it: {message}")]
pub(crate) struct Rejected {
    pub(crate) count: u64,
    message: String,
}

impl Rejected {
    /// Of an answer to spans. One that cannot be read says nothing.
    fn of_spans(answer: &[u8]) -> Option<Self> {
        let partial = ExportTraceServiceResponse::decode(answer).ok()?.partial_success?;
        Self::some(partial.rejected_spans, partial.error_message)
    }

    /// Of an answer to metrics.
    pub(crate) fn of_metrics(answer: &[u8]) -> Option<Self> {
        let partial = ExportMetricsServiceResponse::decode(answer).ok()?.partial_success?;
        Self::some(partial.rejected_data_points, partial.error_message)
    }

    /// A message alone is a warning of what was taken.
    fn some(count: i64, message: String) -> Option<Self> {
        u64::try_from(count).ok().filter(|count| *count > 0).map(|count| Self { count, message })
    }
}

/// The client of the export of spans, which counts what was not taken.
#[derive(Debug)]
pub(crate) struct SpanClient {
    pub(crate) client: Client,
    pub(crate) queue: Arc<Queue>,
    pub(crate) told: Told,
}

impl HttpClient for SpanClient {
    fn send_bytes<'a, 'b>(&'a self, request: Request<Bytes>) -> BoxFuture<'b, Result<Response<Bytes>, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let answer = self.client.send(request).await?;
            if answer.status().is_success() {
                let rejected = Rejected::of_spans(answer.body());
                if let Some(Rejected { count, .. }) = &rejected {
                    self.queue.rejected(*count);
                }
                self.told.of(rejected.map_or(Ok(()), Err));
            }
            Ok(answer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::Exporter;
    use crate::queue::DroppedSpans;
    use crate::settings::Settings;
    use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsPartialSuccess;
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;
    use opentelemetry_sdk::trace::SpanData;
    use std::time::UNIX_EPOCH;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    fn span() -> SpanData {
        let (trace, id) = (TraceId::from_bytes([1; 16]), SpanId::from_bytes([1; 8]));
        SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: SpanId::INVALID,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name: "a".into(),
            start_time: UNIX_EPOCH,
            end_time: UNIX_EPOCH,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: Default::default(),
            links: Default::default(),
            status: Status::Unset,
            instrumentation_scope: Exporter::scope("1"),
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn spans_that_a_receiver_does_not_take_of_an_export_are_counted() {
        let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "too old".to_owned() };
        let body = ExportTraceServiceResponse { partial_success: Some(partial) }.encode_to_vec();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 16_384]).await;
                let head = format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                let _ = stream.write_all(&[head.as_bytes(), &body].concat()).await;
            }
        });
        let settings = Settings::read(|name| match name {
            "OTEL_EXPORTER_OTLP_ENDPOINT" => Some(endpoint.clone()),
            "OTEL_METRICS_EXPORTER" => Some("none".to_owned()),
            _ => None,
        });
        let exporter = Exporter::start(&settings.expect("legal").expect("an endpoint"), "test", "1").expect("it starts");
        exporter.record(span());
        exporter.record(span());
        exporter.shutdown().await;
        assert_eq!(exporter.dropped_spans(), Some(DroppedSpans { rejected: 1, ..DroppedSpans::default() }));
    }

    #[test]
    fn a_warning_of_what_was_taken_is_none_of_this_and_neither_is_an_answer_that_cannot_be_read() {
        let answer = |rejected_data_points, error_message: &str| {
            let partial = ExportMetricsPartialSuccess { rejected_data_points, error_message: error_message.to_owned() };
            ExportMetricsServiceResponse { partial_success: Some(partial) }.encode_to_vec()
        };
        let rejected = Rejected::of_metrics(&answer(3, "too many")).expect("some were");
        assert_eq!((rejected.count, rejected.to_string().contains("too many")), (3, true));
        for nothing in [answer(0, "slowly, please"), answer(-1, ""), Vec::new(), b"{}".to_vec()] {
            assert_eq!(Rejected::of_metrics(&nothing), None);
        }
    }
}
