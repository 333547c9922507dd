//! `sagamq serve`. Values stay text here: flags, environment and file are read by the same rules, in [`crate::config`].

use clap::Args;
use std::path::PathBuf;

const EXAMPLES: &str = "\
EXAMPLES:
  # On this machine, data in ./data
  sagamq serve

  # For others, who need keys
  sagamq serve --listen 0.0.0.0:7070 --authentication keys --data-dir /var/lib/sagamq

  # With logs for a collector
  sagamq serve --log-format json

  # With a file; a flag or an environment variable wins over it
  sagamq serve --config /etc/sagamq.toml --log-level debug

CONFIGURATION FILE (TOML; every key may be left out, an unknown key is an error):
  listen = \"127.0.0.1:7070\"
  data_dir = \"./data\"
  shards = 16
  log_format = \"text\"
  log_level = \"info\"
  shutdown_grace = \"30s\"
  in_flight_bytes_max = \"64MiB\"
  read_bytes_max = \"64MiB\"
  tail_bytes_max = \"32MiB\"
  request_bytes_max = \"40MiB\"
  retention_interval = \"1m\"
  disk_reserve_bytes = \"1GiB\"
  disk_resume_bytes = \"1280MiB\"
  sync_interval = \"200ms\"
  client_connections_max = 5000
  client_requests_per_second = 0
  client_bytes_per_second = \"0\"
  allow_host = \"broker.example.com\"
  allow_origin = \"https://console.example.com\"
  participant_allow_host = \"payments.internal, stock.internal\"
  participant_deny_address = \"link-local\"
  secrets_dir = \"/etc/sagamq/secrets\"
  participant_proxy = \"none\"
  participant_calls_max = 64
  sagas_open_max = 1000000
  participant_connect_timeout = \"5s\"
  saga_restart_grace = \"5s\"
  saga_repair_retention = \"30d\"
  saga_events = false
  saga_verify_states_max = 0
  hold_sagas = false
  stream_session = \"45s\"
  stream_heartbeat = \"5s\"
  stream_rebalance = \"60s\"
  stream_members_max = 500
  stream_topics_max = 32
  stream_groups_max = 1000
  schedule_records_max = 1000000
  schedule_bytes_max = \"1GiB\"
  authentication = \"keys\"
  insecure_no_auth = false
  bootstrap_key_file = \"/run/secrets/sagamq-admin\"
  open_metrics = false
  audit = \"on\"
  audit_retention = \"90d\"
  audit_refusals_per_minute = 20
  tls_cert_file = \"/etc/sagamq/certificate.pem\"
  tls_key_file = \"/etc/sagamq/key.pem\"
  tls_client_ca_file = \"/etc/sagamq/clients-ca.pem\"
  jwt_jwks = \"https://login.example.com/keys\"
  jwt_issuer = \"https://login.example.com\"
  jwt_audience = \"sagamq\"
  jwt_roles_claim = \"roles\"
  jwt_clock_skew = \"60s\"
  otel_exporter_otlp_endpoint = \"http://collector:4318\"
  otel_service_name = \"sagamq\"
  otel_traces_sampler = \"parentbased_traceidratio\"
  otel_traces_sampler_arg = 0.1
  otel_metric_export_interval = 60000
  log = \"s3://my-bucket/sagamq\"
  node = \"a\"
  node_url = \"https://a.example.com:7070\"
  cluster_lease = \"5s\"
  cluster_heartbeat = \"1s\"
  cluster_claim_after = \"7s\"
  cluster_snapshot_bytes = \"64MiB\"
  cluster_key_file = \"/run/secrets/sagamq-cluster\"
  cluster_ca_file = \"/etc/sagamq/nodes-ca.pem\"
  cluster_client_cert_file = \"/etc/sagamq/node-client.pem\"
  cluster_client_key_file = \"/etc/sagamq/node-client-key.pem\"
  accept_data_loss = false

Every setting is taken from its flag, else from its environment variable, else from the file, else it has the default.
The first SIGTERM or SIGINT ends the server when the requests it has are answered; a second one ends it at once.
Exit code 1 if the data directory is in use, damaged or of a newer format; 2 if the configuration is wrong;
5 if a part of the server died: start it again; 6 if it was the active node of a cluster and is not any more: start it again, and it
stands by.";

/// `sagamq serve`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = EXAMPLES)]
pub struct ServeArgs {
    /// Configuration file (TOML) [env: SAGAMQ_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port to listen on; port 0 takes a free one [env: SAGAMQ_LISTEN] [default: 127.0.0.1:7070]
    #[arg(long, value_name = "ADDRESS")]
    pub listen: Option<String>,
    /// Directory of the data; it is made if it is not there [env: SAGAMQ_DATA_DIR] [default: ./data]
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Number of shards; fixed when the data directory is made [env: SAGAMQ_SHARDS] [default: two a core, 4 to 16]
    #[arg(long, value_name = "N")]
    pub shards: Option<String>,
    /// How logs are written to stderr: text or json [env: SAGAMQ_LOG_FORMAT] [default: text]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// What is logged: error, warn, info, debug, trace, or by module (info,sagamq_broker=debug) [env: SAGAMQ_LOG_LEVEL] [default: info]
    #[arg(long, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// How long requests may take to finish when the server is told to end [env: SAGAMQ_SHUTDOWN_GRACE] [default: 30s]
    #[arg(long, value_name = "DURATION")]
    pub shutdown_grace: Option<String>,
    /// Bound on the bytes that wait for the disk; above it, requests are answered 429 [env: SAGAMQ_IN_FLIGHT_BYTES_MAX] [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub in_flight_bytes_max: Option<String>,
    /// Memory for all answers with records together; above it they are shorter, wait, and are then refused with 429 [env: SAGAMQ_READ_BYTES_MAX] [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub read_bytes_max: Option<String>,
    /// Memory for the newest records of all partitions together [env: SAGAMQ_TAIL_BYTES_MAX] [default: 32MiB]
    #[arg(long, value_name = "SIZE")]
    pub tail_bytes_max: Option<String>,
    /// Bound on the bytes of request bodies that are worked on at a time; further ones wait [env: SAGAMQ_REQUEST_BYTES_MAX] [default: 40MiB]
    #[arg(long, value_name = "SIZE")]
    pub request_bytes_max: Option<String>,
    /// How often it is looked which records their topics do not keep any longer, 1s to 1h [env: SAGAMQ_RETENTION_INTERVAL] [default: 1m]
    #[arg(long, value_name = "DURATION")]
    pub retention_interval: Option<String>,
    /// Bytes of the disk that are kept free: below it, new records, topics, groups and sagas are refused (DISK_LOW); 0 for none
    /// [env: SAGAMQ_DISK_RESERVE_BYTES] [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub disk_reserve_bytes: Option<String>,
    /// Bytes of the disk that must be free before these are taken again
    /// [env: SAGAMQ_DISK_RESUME_BYTES] [default: a fourth more than the reserve]
    #[arg(long, value_name = "SIZE")]
    pub disk_resume_bytes: Option<String>,
    /// Within which time records of topics with the durability interval are synced, 10ms to 1m [env: SAGAMQ_SYNC_INTERVAL] [default: 200ms]
    #[arg(long, value_name = "DURATION")]
    pub sync_interval: Option<String>,
    /// Connections that one client may have at a time, by its address; further ones are closed [env: SAGAMQ_CLIENT_CONNECTIONS_MAX]
    /// [default: half of all; of this machine all]
    #[arg(long, value_name = "N")]
    pub client_connections_max: Option<String>,
    /// Requests that one client may send in a second; more are answered 429; 0 for no bound
    /// [env: SAGAMQ_CLIENT_REQUESTS_PER_SECOND] [default: 0]
    #[arg(long, value_name = "N")]
    pub client_requests_per_second: Option<String>,
    /// Bytes that one client may send and get in a second; 0 for no bound [env: SAGAMQ_CLIENT_BYTES_PER_SECOND] [default: 0]
    #[arg(long, value_name = "SIZE")]
    pub client_bytes_per_second: Option<String>,
    /// Names by which clients may address the server, divided by commas; where it listens on loopback, localhost and loopback addresses are
    /// always known and others are refused [env: SAGAMQ_ALLOW_HOST]
    #[arg(long, value_name = "NAMES")]
    pub allow_host: Option<String>,
    /// Web origins whose pages may use the server from a browser, divided by commas; others are refused [env: SAGAMQ_ALLOW_ORIGIN]
    #[arg(long, value_name = "ORIGINS")]
    pub allow_origin: Option<String>,
    /// Hosts that HTTP participants of sagas may have, divided by commas: names, `*.NAME`, addresses, networks, each with a port or without;
    /// calls to others are not made, and definitions that name others are refused [env: SAGAMQ_PARTICIPANT_ALLOW_HOST] [default: any]
    #[arg(long, value_name = "HOSTS")]
    pub participant_allow_host: Option<String>,
    /// Addresses that are not called for sagas, whatever name leads there, divided by commas: loopback, link-local, private, addresses and
    /// networks, or none; one that --participant-allow-host names is called all the same [env: SAGAMQ_PARTICIPANT_DENY_ADDRESS]
    /// [default: link-local, and loopback where others than this machine can reach the server]
    #[arg(long, value_name = "ADDRESSES")]
    pub participant_deny_address: Option<String>,
    /// Directory with a file for each secret that services are shown (`sagamq service set --header`); read anew while the server runs. Without
    /// a file the variable SAGAMQ_SECRET_NAME counts [env: SAGAMQ_SECRETS_DIR]
    #[arg(long, value_name = "DIR")]
    pub secrets_dir: Option<String>,
    /// The way to HTTP participants: none (directly), environment (as HTTP_PROXY, HTTPS_PROXY and NO_PROXY say), or a proxy's URL
    /// [env: SAGAMQ_PARTICIPANT_PROXY] [default: none]
    #[arg(long, value_name = "PROXY")]
    pub participant_proxy: Option<String>,
    /// Most calls to one HTTP service at a time; more wait [env: SAGAMQ_PARTICIPANT_CALLS_MAX] [default: 64]
    #[arg(long, value_name = "N")]
    pub participant_calls_max: Option<String>,
    /// Most sagas that are not at their end, of all shards together; then starts are refused (SAGA_OPEN_LIMIT)
    /// [env: SAGAMQ_SAGAS_OPEN_MAX] [default: 1000000]
    #[arg(long, value_name = "N")]
    pub sagas_open_max: Option<String>,
    /// How long a connection to an HTTP participant may take to come about [env: SAGAMQ_PARTICIPANT_CONNECT_TIMEOUT] [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub participant_connect_timeout: Option<String>,
    /// How long after a start no deadline, retry or timeout of a saga fires: answers given meanwhile are heard first
    /// [env: SAGAMQ_SAGA_RESTART_GRACE] [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub saga_restart_grace: Option<String>,
    /// How long repairs are kept after their end, with their results [env: SAGAMQ_SAGA_REPAIR_RETENTION] [default: 30d]
    #[arg(long, value_name = "DURATION")]
    pub saga_repair_retention: Option<String>,
    /// Tell starts, ends and stops of sagas as CloudEvents in the topic saga.events [env: SAGAMQ_SAGA_EVENTS] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub saga_events: Option<String>,
    /// Verify saga definitions before they are published, and look at so many states at most; what can end wrong is refused
    /// [env: SAGAMQ_SAGA_VERIFY_STATES_MAX] [default: 0, only if the request asks for it]
    #[arg(long, value_name = "N")]
    pub saga_verify_states_max: Option<String>,
    /// Call nobody for sagas, hand out none of their commands and let no time pass for them until `sagamq saga release`
    /// [env: SAGAMQ_HOLD_SAGAS] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub hold_sagas: Option<String>,
    /// How long a member of a stream group is one without a heartbeat, if it does not say [env: SAGAMQ_STREAM_SESSION] [default: 45s]
    #[arg(long, value_name = "DURATION")]
    pub stream_session: Option<String>,
    /// How often members of stream groups are told to send heartbeats; at most a third of the session [env: SAGAMQ_STREAM_HEARTBEAT] [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub stream_heartbeat: Option<String>,
    /// How long a member has to hand back a partition; then it is fenced [env: SAGAMQ_STREAM_REBALANCE] [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub stream_rebalance: Option<String>,
    /// Most members of a stream group [env: SAGAMQ_STREAM_MEMBERS_MAX] [default: 500]
    #[arg(long, value_name = "N")]
    pub stream_members_max: Option<String>,
    /// Most topics of a stream group [env: SAGAMQ_STREAM_TOPICS_MAX] [default: 32]
    #[arg(long, value_name = "N")]
    pub stream_topics_max: Option<String>,
    /// Most stream groups whose home is one shard [env: SAGAMQ_STREAM_GROUPS_MAX] [default: 1000]
    #[arg(long, value_name = "N")]
    pub stream_groups_max: Option<String>,
    /// Most records of one shard that wait for their time [env: SAGAMQ_SCHEDULE_RECORDS_MAX] [default: 1000000]
    #[arg(long, value_name = "N")]
    pub schedule_records_max: Option<String>,
    /// Most bytes of one shard's records that wait for their time [env: SAGAMQ_SCHEDULE_BYTES_MAX] [default: 1GiB]
    #[arg(long, value_name = "SIZE")]
    pub schedule_bytes_max: Option<String>,
    /// Who may use the server: `keys` (who shows an API key, see `sagamq key`), or `off` (everybody). Where others than this machine can
    /// reach it, one of them must be said [env: SAGAMQ_AUTHENTICATION] [default: off on loopback]
    #[arg(long, value_name = "MODE")]
    pub authentication: Option<String>,
    /// Let everybody who reaches the server do everything, although others than this machine can: a proxy or the network sees to who
    /// does [env: SAGAMQ_INSECURE_NO_AUTH] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub insecure_no_auth: Option<String>,
    /// File with the secret of an administrator's key, from `sagamq key init`. Without it, a start with no such key makes one and says where
    /// its secret lies [env: SAGAMQ_BOOTSTRAP_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub bootstrap_key_file: Option<String>,
    /// Show the metrics to everybody, also where keys are asked for [env: SAGAMQ_OPEN_METRICS] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub open_metrics: Option<String>,
    /// Whether the audit log is kept: who changed what, on or off [env: SAGAMQ_AUDIT] [default: on where keys are asked for]
    #[arg(long, value_name = "MODE")]
    pub audit: Option<String>,
    /// How long entries of the audit log are kept, 1h to 10 years [env: SAGAMQ_AUDIT_RETENTION] [default: 90d]
    #[arg(long, value_name = "DURATION")]
    pub audit_retention: Option<String>,
    /// Most refused requests (401, 403) in a minute that get an entry of the audit log; a quarter of them for one client
    /// [env: SAGAMQ_AUDIT_REFUSALS_PER_MINUTE] [default: 20]
    #[arg(long, value_name = "N")]
    pub audit_refusals_per_minute: Option<String>,
    /// File with the server's certificate (PEM), and behind it those up to the authority: then the server speaks TLS 1.2 and 1.3 and
    /// nothing else. It is read anew when it changes, and at SIGHUP [env: SAGAMQ_TLS_CERT_FILE]
    #[arg(long, value_name = "FILE")]
    pub tls_cert_file: Option<String>,
    /// File with the private key of --tls-cert-file (PEM) [env: SAGAMQ_TLS_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub tls_key_file: Option<String>,
    /// File with authorities (PEM): who shows no certificate that one of them vouches for is not let in [env: SAGAMQ_TLS_CLIENT_CA_FILE]
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca_file: Option<String>,
    /// Take tokens of an identity provider (JWT; HS256, RS256, EdDSA) beside keys: file or https address with its keys (JWKS)
    /// [env: SAGAMQ_JWT_JWKS]
    #[arg(long, value_name = "SOURCE")]
    pub jwt_jwks: Option<String>,
    /// The issuer that tokens must name [env: SAGAMQ_JWT_ISSUER]
    #[arg(long, value_name = "ISSUER")]
    pub jwt_issuer: Option<String>,
    /// The audience that tokens must be for [env: SAGAMQ_JWT_AUDIENCE]
    #[arg(long, value_name = "AUDIENCE")]
    pub jwt_audience: Option<String>,
    /// The claim of tokens that has the roles, as keys have them [env: SAGAMQ_JWT_ROLES_CLAIM] [default: roles]
    #[arg(long, value_name = "CLAIM")]
    pub jwt_roles_claim: Option<String>,
    /// How far the clocks of provider and server may be apart, 0 to 10m [env: SAGAMQ_JWT_CLOCK_SKEW] [default: 60s]
    #[arg(long, value_name = "DURATION")]
    pub jwt_clock_skew: Option<String>,
    /// Export traces and metrics with OTLP over HTTP to this address, with v1/traces and v1/metrics below it
    /// [env: SAGAMQ_OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_EXPORTER_OTLP_ENDPOINT] [default: nothing is exported]
    #[arg(long, value_name = "URL")]
    pub otel_exporter_otlp_endpoint: Option<String>,
    /// What traces and metrics call the server [env: SAGAMQ_OTEL_SERVICE_NAME, OTEL_SERVICE_NAME] [default: sagamq]
    #[arg(long, value_name = "NAME")]
    pub otel_service_name: Option<String>,
    /// Which traces are recorded: always_on, always_off, traceidratio, or one of these with parentbased_ in front
    /// [env: SAGAMQ_OTEL_TRACES_SAMPLER, OTEL_TRACES_SAMPLER] [default: parentbased_always_on]
    #[arg(long, value_name = "SAMPLER")]
    pub otel_traces_sampler: Option<String>,
    /// How many of them traceidratio records, from 0 to 1 [env: SAGAMQ_OTEL_TRACES_SAMPLER_ARG, OTEL_TRACES_SAMPLER_ARG] [default: 1]
    #[arg(long, value_name = "RATIO")]
    pub otel_traces_sampler_arg: Option<String>,
    /// Milliseconds between two exports of metrics
    /// [env: SAGAMQ_OTEL_METRIC_EXPORT_INTERVAL, OTEL_METRIC_EXPORT_INTERVAL] [default: 60000]
    #[arg(long, value_name = "MS")]
    pub otel_metric_export_interval: Option<String>,
    /// Be a node of a cluster: every commit goes to this log before it is answered, and the data directory is a copy of it. A folder
    /// (file:///mnt/log) or object storage (s3://, gs://, az://), see docs/guides/cluster.md [env: SAGAMQ_LOG] [default: no cluster]
    #[arg(long, value_name = "URL")]
    pub log: Option<String>,
    /// Name of the node; each node of a cluster has another [env: SAGAMQ_NODE]
    #[arg(long, value_name = "NAME")]
    pub node: Option<String>,
    /// Address at which clients reach this node, as others tell them [env: SAGAMQ_NODE_URL] [default: where it listens]
    #[arg(long, value_name = "URL")]
    pub node_url: Option<String>,
    /// How long the active node may answer after it has sent a heartbeat that the log took, 200ms to 5m [env: SAGAMQ_CLUSTER_LEASE] [default: 5s]
    #[arg(long, value_name = "DURATION")]
    pub cluster_lease: Option<String>,
    /// How often a node says that it lives, and how often one that stands by looks for more, 20ms to 1m; at most half of the lease
    /// [env: SAGAMQ_CLUSTER_HEARTBEAT] [default: 1s]
    #[arg(long, value_name = "DURATION")]
    pub cluster_heartbeat: Option<String>,
    /// After which time without a heartbeat of the active node another one takes over, 250ms to 10m; at least the lease and a quarter of it
    /// [env: SAGAMQ_CLUSTER_CLAIM_AFTER] [default: 7s]
    #[arg(long, value_name = "DURATION")]
    pub cluster_claim_after: Option<String>,
    /// After how many bytes of commits of a shard the active node makes a snapshot of it, and trims the log below the one before; a large shard
    /// waits for commits of half of what its last snapshot had
    /// [env: SAGAMQ_CLUSTER_SNAPSHOT_BYTES] [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub cluster_snapshot_bytes: Option<String>,
    /// File with a secret that all nodes of the cluster share, 32 bytes or more: a node that stands by then passes requests on to the active
    /// one, see docs/guides/cluster.md [env: SAGAMQ_CLUSTER_KEY_FILE] [default: nothing is passed on]
    #[arg(long, value_name = "FILE")]
    pub cluster_key_file: Option<String>,
    /// Authorities (PEM) that vouch for the other nodes, where their addresses are https. It is read anew when it changes, and at SIGHUP
    /// [env: SAGAMQ_CLUSTER_CA_FILE] [default: those that the system trusts]
    #[arg(long, value_name = "FILE")]
    pub cluster_ca_file: Option<String>,
    /// Certificate (PEM) that the other nodes are shown where they ask clients for one (--tls-client-ca-file). It is read anew as well
    /// [env: SAGAMQ_CLUSTER_CLIENT_CERT_FILE] [default: that of --tls-cert-file, which then has to be good for clients as well]
    #[arg(long, value_name = "FILE")]
    pub cluster_client_cert_file: Option<String>,
    /// File with the private key of --cluster-client-cert-file (PEM) [env: SAGAMQ_CLUSTER_CLIENT_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub cluster_client_key_file: Option<String>,
    /// Open a data directory although acknowledged records are missing from it [env: SAGAMQ_ACCEPT_DATA_LOSS] [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub accept_data_loss: Option<String>,
}
