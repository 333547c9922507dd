//! Whether the broker is one server or a cluster of nodes over a log, as the command line says it.

use super::TrialError;

/// Where `scripts/with-s3` says which bucket it has made.
const S3: &str = "SAGAMQ_TEST_S3";

/// The options of a broker that is a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct NodesArgs {
    /// Run the broker as a cluster of 2 to 5 nodes over a log; the one that serves is lost on the way, for good and with its disk
    #[arg(long, value_parser = clap::value_parser!(u8).range(2..=5))]
    pub nodes: Option<u8>,
    /// Keep the cluster's log there, below a path of its own: s3://BUCKET/PATH, gs://…, az://… or file:///FOLDER; without a value where
    /// SAGAMQ_TEST_S3 says, which scripts/with-s3 sets [default: a folder beside the nodes' data]
    #[arg(long, value_name = "URL", num_args = 0..=1, requires = "nodes")]
    pub log: Option<Option<String>>,
}

/// What a cluster is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NodesPlan {
    /// How many nodes there are at a time.
    pub(super) count: usize,
    /// Where its log is, if that is not a folder of the trial's own.
    pub(super) log: Option<String>,
}

impl NodesArgs {
    /// What was asked for; nothing if the broker is one server.
    ///
    /// # Errors
    /// [`TrialError::NoLog`].
    pub(super) fn plan(&self) -> Result<Option<NodesPlan>, TrialError> {
        self.plan_with(std::env::var(S3).ok(), rand::random())
    }

    fn plan_with(&self, s3: Option<String>, run: u32) -> Result<Option<NodesPlan>, TrialError> {
        let Some(count) = self.nodes else { return Ok(None) };
        let named = match &self.log {
            None => None,
            Some(named) => Some(named.clone().or(s3).ok_or(TrialError::NoLog)?),
        };
        // What stands there already is another cluster's.
        let log = named.map(|log| format!("{}/demo-{run:08x}", log.trim_end_matches('/')));
        Ok(Some(NodesPlan { count: count.into(), log }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        nodes: NodesArgs,
        #[arg(long, default_value_t = 7)]
        seed: u64,
    }

    fn parsed(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["demo"], args].concat())
    }

    fn planned(args: &[&str], s3: Option<&str>) -> Option<NodesPlan> {
        parsed(args).expect("legal").nodes.plan_with(s3.map(str::to_owned), 0xab).expect("a plan")
    }

    #[test]
    fn without_nodes_there_is_one_server_and_with_them_a_log_in_a_folder() {
        assert_eq!(planned(&[], None), None);
        assert_eq!(planned(&[], Some("s3://bucket")), None);
        assert_eq!(planned(&["--nodes", "3"], Some("s3://bucket")), Some(NodesPlan { count: 3, log: None }));
    }

    #[test]
    fn a_log_elsewhere_has_a_path_of_its_own_for_each_run() {
        let at = |log: &str| Some(NodesPlan { count: 2, log: Some(log.to_owned()) });
        assert_eq!(planned(&["--nodes", "2", "--log", "s3://bucket/a/"], None), at("s3://bucket/a/demo-000000ab"));
        assert_eq!(planned(&["--log=file:///mnt/log", "--nodes", "2"], None), at("file:///mnt/log/demo-000000ab"));
        let plan = parsed(&["--nodes", "2", "--log", "file:///l"]).expect("legal").nodes;
        assert_ne!(plan.plan_with(None, 1).expect("a plan"), plan.plan_with(None, 2).expect("a plan"));
    }

    #[test]
    fn a_log_without_a_value_is_where_the_test_server_is() {
        let cli = parsed(&["--nodes", "3", "--log", "--seed", "8"]).expect("legal");
        assert_eq!(cli.seed, 8);
        let plan = cli.nodes.plan_with(Some("s3://test".to_owned()), 1).expect("a plan").expect("a cluster");
        assert_eq!(plan.log.as_deref(), Some("s3://test/demo-00000001"));
        assert!(matches!(cli.nodes.plan_with(None, 1), Err(TrialError::NoLog)));
    }

    #[test]
    fn what_is_no_cluster_is_refused() {
        for args in [&["--nodes", "1"][..], &["--nodes", "6"], &["--nodes"], &["--log", "s3://bucket"]] {
            parsed(args).expect_err("no cluster");
        }
    }
}
