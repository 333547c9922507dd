//! A participant with one product in memory, which is right unless it is told to be wrong in one way.

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{get, post};
use sagamq_sdk::Call;
use sagamq_sdk::api::saga::Operation;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex as StdMutex};
use std::time::Duration;
use tokio::sync::Mutex;

/// More pieces than there are.
pub(super) const TOO_MANY: i64 = 1_000;

/// How long the work of a reservation takes: so that calls meet each other.
const WORK: Duration = Duration::from_millis(30);

/// What a participant does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    /// It does every call that comes.
    ForgetsDuplicates,
    /// A compensation deletes what is known of its action.
    RunsLateActions,
    /// A compensation needs something to undo.
    NeedsAnAction,
    /// What is being done, and what it does not know, is a conflict.
    RefusesInDoubt,
    /// What is refused is answered with 200 and says so in the body.
    SaysYesToRefusals,
    /// What it cannot read, and what it does not have, is a conflict.
    RefusesWhatItDoesNotKnow,
    /// A call is the same only with the same arguments.
    KeysByArguments,
    /// An attempt that is older than one it has seen is a conflict.
    RefusesOlderAttempts,
    /// What comes too late is a conflict, and the next attempt is not.
    RefusesLateCalls,
    /// A compensation that comes again takes away again.
    UndoesTwice,
    /// A compensation says yes and does nothing.
    NeverUndoes,
    /// It says when to ask again by a date.
    SaysLaterByDate,
    /// It sends more than is kept.
    SendsTooMuch,
}

#[derive(Clone)]
enum Recorded {
    Done(Value),
    Refused(Value),
    InDoubt { pieces: i64 },
    Prevented,
}

#[derive(Default)]
struct Books {
    reserved: i64,
    /// Reservations that ever were; each has another number.
    made: u64,
    actions: HashMap<String, Recorded>,
    undone: HashSet<String>,
    /// Steps that were asked for and go on.
    begun: HashSet<String>,
    /// The newest attempt of each action.
    newest: HashMap<String, u32>,
}

struct Stock {
    wrong: Option<Wrong>,
    books: Mutex<Books>,
    in_flight: StdMutex<HashSet<String>>,
}

type Said = (StatusCode, Value);

/// Serves it on a port of its own until the test ends; its base URL.
pub(super) async fn start(wrong: Option<Wrong>) -> String {
    let stock = Arc::new(Stock { wrong, books: Mutex::default(), in_flight: StdMutex::default() });
    let routes = Router::new()
        .route("/saga/{name}", post(called))
        .route(
            "/stock",
            get(|State(stock): State<Arc<Stock>>| async move { json!({ "reserved": stock.books.lock().await.reserved }).to_string() }),
        )
        .with_state(stock);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, routes).await.expect("it serves") });
    url
}

async fn called(State(stock): State<Arc<Stock>>, Path(name): Path<String>, body: Bytes) -> Response {
    let wrong = stock.wrong;
    let unread = if wrong == Some(Wrong::RefusesWhatItDoesNotKnow) { StatusCode::CONFLICT } else { StatusCode::BAD_REQUEST };
    let (status, answer) = match serde_json::from_slice::<Call>(&body) {
        Err(error) => (unread, json!({ "code": "INVALID_CALL", "message": error.to_string() })),
        Ok(call) if call.call != name => (unread, json!({ "code": "CALL_MISMATCH" })),
        // A task of its own, as any server must do that must not stop in the middle when its caller hangs up.
        Ok(call) => tokio::spawn(async move { stock.serve(&call).await }).await.expect("no panic"),
    };
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    if status == StatusCode::ACCEPTED && wrong == Some(Wrong::SaysLaterByDate) {
        response = response.header("retry-after", "Sat, 28 Nov 2026 08:00:00 GMT");
    }
    response.body(answer.to_string().into()).expect("a response")
}

#[expect(clippy::disallowed_methods, reason = "the deadline of a call is wall time")]
fn now_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).expect("it fits")
}

fn conflict(code: &str) -> Said {
    (StatusCode::CONFLICT, json!({ "code": code, "message": "" }))
}

impl Stock {
    async fn serve(&self, call: &Call) -> Said {
        let mut step = format!("{}/{}", call.attempt.instance, call.attempt.step);
        if self.wrong == Some(Wrong::KeysByArguments) {
            step.push_str(call.arguments.as_str());
        }
        if self.is_conflict(&step, call).await {
            return conflict("TOO_OLD");
        }
        match (call.call.as_str(), call.attempt.operation) {
            ("reserve", Operation::Action) if self.wrong == Some(Wrong::RefusesInDoubt) => {
                if !self.in_flight.lock().expect("no panic").insert(step.clone()) {
                    return conflict("IN_PROGRESS");
                }
                let said = self.reserve(&step, &call.arguments.to_value()).await;
                self.in_flight.lock().expect("no panic").remove(&step);
                said
            }
            ("reserve", Operation::Action) => self.reserve(&step, &call.arguments.to_value()).await,
            ("release", Operation::Compensation) => self.release(&step, &call.arguments.to_value()).await,
            _ if self.wrong == Some(Wrong::RefusesWhatItDoesNotKnow) => conflict("UNKNOWN_CALL"),
            _ => (StatusCode::NOT_FOUND, json!({ "code": "UNKNOWN_CALL" })),
        }
    }

    async fn is_conflict(&self, step: &str, call: &Call) -> bool {
        match self.wrong {
            Some(Wrong::RefusesLateCalls) => call.deadline_ms < call.started_at_ms.max(now_ms()),
            Some(Wrong::RefusesOlderAttempts) if call.attempt.operation == Operation::Action => {
                let mut books = self.books.lock().await;
                let newest = books.newest.entry(step.to_owned()).or_default();
                *newest = call.attempt.epoch.max(*newest);
                call.attempt.epoch < *newest
            }
            _ => false,
        }
    }

    async fn reserve(&self, step: &str, arguments: &Value) -> Said {
        let mut books = self.books.lock().await;
        match books.actions.get(step) {
            Some(Recorded::Done(output)) if self.wrong != Some(Wrong::ForgetsDuplicates) => return (StatusCode::OK, output.clone()),
            Some(Recorded::Refused(failure)) => return (self.refused(), failure.clone()),
            Some(Recorded::Prevented) => return conflict("COMPENSATED"),
            Some(Recorded::InDoubt { .. }) => return (StatusCode::SERVICE_UNAVAILABLE, json!({ "code": "NO_ANSWER" })),
            Some(Recorded::Done(_)) | None => {}
        }
        if arguments["ongoing"] == true && books.begun.insert(step.to_owned()) {
            return (StatusCode::ACCEPTED, json!({}));
        }
        let pieces = arguments["pieces"].as_i64().unwrap_or(1);
        tokio::time::sleep(WORK).await;
        if pieces >= TOO_MANY {
            let failure = json!({ "code": "OUT_OF_STOCK", "message": "there are not so many" });
            books.actions.insert(step.to_owned(), Recorded::Refused(failure.clone()));
            return (self.refused(), failure);
        }
        books.reserved += pieces;
        if arguments["silent"] == true {
            // Whoever was asked has done it, and the answer was lost.
            books.actions.insert(step.to_owned(), Recorded::InDoubt { pieces });
            let status = if self.wrong == Some(Wrong::RefusesInDoubt) { StatusCode::CONFLICT } else { StatusCode::SERVICE_UNAVAILABLE };
            return (status, json!({ "code": "NO_ANSWER", "message": "the warehouse did not answer" }));
        }
        books.made += 1;
        let times = if self.wrong == Some(Wrong::SendsTooMuch) { 3 } else { 1 };
        let length = times * usize::try_from(arguments["output_bytes"].as_u64().unwrap_or(0)).expect("it fits");
        let output = json!({ "reservation": books.made, "pieces": pieces, "note": "x".repeat(length) });
        books.actions.insert(step.to_owned(), Recorded::Done(output.clone()));
        (StatusCode::OK, output)
    }

    fn refused(&self) -> StatusCode {
        if self.wrong == Some(Wrong::SaysYesToRefusals) { StatusCode::OK } else { StatusCode::CONFLICT }
    }

    async fn release(&self, step: &str, arguments: &Value) -> Said {
        let mut books = self.books.lock().await;
        if books.undone.contains(step) {
            if self.wrong == Some(Wrong::UndoesTwice) {
                books.reserved -= arguments["pieces"].as_i64().unwrap_or(1);
            }
            return (StatusCode::OK, Value::Null);
        }
        let undo = match books.actions.get(step) {
            Some(Recorded::Done(_)) => arguments["pieces"].as_i64().unwrap_or(1),
            Some(Recorded::InDoubt { pieces }) => *pieces,
            Some(Recorded::Refused(_) | Recorded::Prevented) | None if self.wrong == Some(Wrong::NeedsAnAction) => {
                return (StatusCode::NOT_FOUND, json!({ "code": "NO_RESERVATION", "message": "there is nothing to release" }));
            }
            Some(Recorded::Refused(_) | Recorded::Prevented) | None => 0,
        };
        books.reserved -= if self.wrong == Some(Wrong::NeverUndoes) { 0 } else { undo };
        books.undone.insert(step.to_owned());
        if self.wrong == Some(Wrong::RunsLateActions) {
            books.actions.remove(step);
        } else {
            books.actions.insert(step.to_owned(), Recorded::Prevented);
        }
        (StatusCode::OK, Value::Null)
    }
}
