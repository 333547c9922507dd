//! Endpoints that are ejected and come back, as the services of a server know them.

use super::*;
use prometheus_client::encoding::text::encode;

#[test]
fn what_is_left_alone_and_what_comes_back_is_counted_by_service() {
    let (services, mut registry) = (Services::new(Duration::from_millis(300)), Registry::default());
    services.register(&mut registry);
    let name: ServiceName = "stock".parse().expect("legal");
    let address = ServiceAddress { eject_after: 2, break_after: 2, ..ServiceAddress::at(&["http://a"]) };
    services.learn(&name, Some(address));
    let target = HttpTarget::Service { name: "stock".to_owned(), default: None };
    let chosen = |now_ms| match services.choose((&target, Kind::Work), None, &[], |_| 1, now_ms) {
        Choice::At(chosen) => chosen,
        Choice::Nowhere { failure, .. } => panic!("{failure:?}"),
    };
    let counted = || {
        let mut text = String::new();
        encode(&mut text, &registry).expect("text");
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(&format!("{name}_total{{service=\"stock\"}}")));
            line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or(0)
        };
        (of("sagamq_endpoint_ejections"), of("sagamq_endpoint_readmissions"))
    };
    chosen(1).refused(1);
    assert_eq!(counted(), (0, 0), "not yet");
    chosen(2).refused(2);
    assert_eq!(counted(), (1, 0));
    chosen(1_002).refused(1_002);
    assert_eq!(counted(), (1, 0), "it was left alone already");
    chosen(2_002).connected();
    assert_eq!(counted(), (1, 1));
    chosen(2_003).connected();
    assert_eq!(counted(), (1, 1), "it was there");

    let mut late = chosen(2_004);
    late.refused(2_004);
    services.learn(&name, None);
    late.refused(2_005);
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    assert!(!text.contains("stock"), "the series of a service go with its address: {text}");
}

#[test]
fn what_is_shown_is_for_the_place_that_was_put_with_it() {
    let services = Services::new(Duration::ZERO);
    let name: ServiceName = "stock".parse().expect("legal");
    let target = HttpTarget::Service { name: "stock".to_owned(), default: Some("http://default".to_owned()) };
    let chosen = || match services.choose((&target, Kind::Work), None, &[], |_| 1, 1) {
        Choice::At(chosen) => chosen,
        Choice::Nowhere { failure, .. } => panic!("{failure:?}"),
    };
    let of_definition = chosen();
    assert!(!of_definition.is_of_the_service() && services.still(&target, &of_definition, 1).is_ok_and(|shown| shown.is_none()));
    services.learn(&name, Some(ServiceAddress::at(&["http://a"])));
    assert!(services.still(&target, &of_definition, 1).is_err(), "it has a place of its own now");
    let first = chosen();
    assert!(first.is_of_the_service() && services.still(&target, &first, 1).is_ok_and(|shown| shown.is_none()));
    let headers = BTreeMap::from([("authorization".to_owned(), "Bearer ${secret:token}".to_owned())]);
    services.learn(&name, Some(ServiceAddress { headers, ..ServiceAddress::at(&["http://b"]) }));
    assert!(services.still(&target, &first, 1).is_err(), "it was moved, and what it is shown is for where it is now");
    let second = chosen();
    assert!(services.still(&target, &second, 1).is_ok_and(|shown| shown.is_some()));
    for is_foreign in [true, false] {
        let worker = HttpTarget::Worker { service: "stock".to_owned(), base: "http://w".to_owned(), is_foreign };
        assert_eq!(services.still(&worker, &second, 1).is_ok_and(|shown| shown.is_some()), !is_foreign);
    }
}
