//! Every operation with a key of each kind.

use super::*;

/// What the operation is about when everything is called `mine`, as far as the table tells.
fn about(operation: &Operation) -> Resource<'static> {
    let part = |place: Place, name| match place {
        Place::Nowhere => Part::None,
        Place::Path(_) | Place::Query(_) | Place::Later => Part::Named(name),
        Place::Seen | Place::Whichever => Part::Some,
        Place::Every => Part::All,
    };
    let group = if operation.path.contains("stream-groups") { "mine-stream" } else { "mine" };
    Resource { topic: part(operation.topic, "mine"), group: part(operation.group, group), saga: part(operation.saga, "mine") }
}

/// Whether it may be done. The call that is replied to is one over HTTP, which takes an operator as well.
fn may(operation: &Operation, rights: &Rights) -> bool {
    let is_reply = operation.path == "/v1/saga-calls:complete";
    rights.allows(operation.need, &about(operation)) && (!is_reply || rights.allows(Need::OneOf(&[Role::Operate]), &about(operation)))
}

/// Whether it is about one saga that is named by its id, to somebody who has the role for others and none for it: there is no such saga then. The
/// outcome of a transaction is refused instead.
fn is_hidden(operation: &Operation, rights: &Rights) -> bool {
    let is_named_by_id = operation.path.contains("{id}") || operation.path == "/v1/saga-calls:complete";
    let has_some = rights.allows(operation.need, &Resource { saga: Part::Some, ..Resource::SERVER });
    is_named_by_id
        && operation.saga == Place::Later
        && !operation.path.ends_with("/outcome")
        && has_some
        && !rights.allows(Need::AnyRole, &about(operation))
}

/// A key of each kind.
fn kinds() -> Vec<String> {
    let of = |role: Role| {
        let mut all = vec![String::new()];
        for name in ["mine", "mi*", "*", "other"] {
            all.push(format!(":topic={name}"));
            all.push(format!(":saga={name}"));
            if role != Role::Produce {
                all.push(format!(":topic={name},group=mine*"));
                all.push(format!(":topic=mine,group={name}"));
                all.push(format!(":group={name}"));
            }
        }
        all.into_iter().map(move |of| format!("{role}{of}")).collect::<Vec<_>>()
    };
    Role::ALL.into_iter().flat_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_role_reaches_what_the_table_says_and_whoever_may_not_changes_nothing() {
    let guarded = Guarded::start().await;
    let mut keys = vec![(String::new(), None)];
    for (number, grant) in kinds().into_iter().enumerate() {
        let secret = guarded.key(&format!("key-{number}"), &[&grant]).await;
        keys.push((secret, Some(grant.parse::<Grant>().expect("a grant"))));
    }
    let mut allowed = Vec::new();
    let (before, mut refused) = (guarded.state().await, 0);
    for operation in OPERATIONS {
        for (secret, grant) in &keys {
            let rights = Rights::new(grant.iter().cloned().collect());
            if may(operation, &rights) {
                allowed.push((operation, secret, grant));
                continue;
            }
            let answer = guarded.try_out(secret, operation).await;
            let wanted = match grant {
                None => (401, "UNAUTHENTICATED"),
                Some(_) if is_hidden(operation, &rights) => {
                    (404, if operation.path.contains("transactions") { "TRANSACTION_NOT_FOUND" } else { "SAGA_NOT_FOUND" })
                }
                Some(_) => (403, "FORBIDDEN"),
            };
            let told = (answer.status.as_u16(), answer.body["code"].as_str().unwrap_or_default());
            let who = grant.as_ref().map_or_else(|| "nobody".to_owned(), Grant::to_string);
            assert_eq!(told, wanted, "{who}: {} {}: {}", operation.method, operation.path, answer.body);
            refused += 1;
        }
    }
    assert_eq!(guarded.state().await, before, "nothing was done for whoever may not");
    assert!(refused > 3_000 && allowed.len() > 1_000, "{refused} {}", allowed.len());
    // What changes most comes last: deletions leave nothing to be asked about, and without its topic a stream group is for those with all of them.
    allowed.sort_by_key(|(operation, ..)| (operation.method == "DELETE", operation.path == "/v1/topics/{topic}"));
    for (operation, secret, grant) in allowed {
        let answer = guarded.try_out(secret, operation).await;
        let is_let_through = !matches!(answer.status.as_u16(), 401 | 403);
        assert!(is_let_through, "{grant:?}: {} {}: {}", operation.method, operation.path, answer.body);
    }
    guarded.parts.shutdown().await;
}

#[test]
fn the_table_has_every_operation_that_is_described_and_no_other() {
    let mut document = crate::broker::openapi();
    document.merge(crate::saga::openapi());
    let document = serde_json::to_value(document).expect("JSON");
    let mut described = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            described.insert((path.clone(), method.to_uppercase()));
            let is_open = OPERATIONS.iter().any(|of| of.path == path && of.need == Need::Nothing);
            assert_eq!(operation.get("security") == Some(&json!([])), is_open, "{method} {path}");
        }
    }
    let listed: BTreeSet<_> = OPERATIONS.iter().map(|of| (of.path.to_owned(), of.method.to_owned())).collect();
    assert_eq!(listed, described, "each route has its entry in api/src/access/table.rs");
    assert_eq!(document["security"], json!([{ "api_key": [] }]));
    assert_eq!(document["components"]["securitySchemes"]["api_key"]["scheme"], "bearer");
}
