# What can be done with SagaMQ. `make` alone lists it.
#
# Every cargo command here says `--release --workspace` and never `-p`. That is on purpose: one profile serves the demo, the tests
# and the benchmarks, and RocksDB (15 minutes of C++ on two cores) is compiled once. Its build depends on the features that the
# selected packages ask of shared dependencies, so another selection of packages (-p) or another profile would compile it again.
# The tests ask for less optimisation of our own crates, which leaves RocksDB alone (.cargo/tests.toml).
# What is shipped has a profile of its own, and RocksDB from this one (scripts/build-dist).

SHELL       := /bin/bash
CARGO       ?= cargo
WORKSPACE   := --release --workspace --locked
# The same for the tests, with our own crates not optimised: see that file.
TESTS       := --config .cargo/tests.toml $(WORKSPACE)
TARGET_DIR  := $(or $(CARGO_TARGET_DIR),target)
BIN         := $(TARGET_DIR)/release
DIST        := $(TARGET_DIR)/dist
DEMO_ARGS   ?=
DRILL_ARGS  ?=
BENCH_ARGS  ?=
SOAK_ARGS   ?=
FUZZ_ARGS   ?=
CHAIN_ARGS  ?=
STYLES_ARGS ?=
ORACLE_RUNS ?= 100000
FOLDS_RUNS ?= 100000
FOLDS_SEED ?= 7
ORACLE_SEED ?= 7
COMPARE_ARGS ?=
# Whoever asks for `--postgres` and names no server gets one: in a container where an engine runs, else of Debian's package.
beside_postgres = $(if $(filter --postgres,$(1)),scripts/with-postgres --unless-container)
# The same for `--log` without a place: an S3 server of the trial's own.
beside_s3 = $(if $(filter --log,$(1)),$(if $(findstring ://,$(1)),,scripts/with-s3))
# Seconds after which tests that still run are ended, with the names of what ran. All of them take about a quarter of an hour.
TEST_LIMIT  ?= 2400

.DEFAULT_GOAL := help
.PHONY: help setup build demo drills drill-doubt drill-kills drill-backup drill-followers drill-2pc drill-memory drill-outage drill-streams drill-keys drill-levels drill-kinds drill-disk drill-cluster matrix styles test test-cluster test-postgres test-s3 test-containers dist test-dist deb test-deb image bench soak fuzz oracle folds chain compare bench-cluster bench-compare bench-instructions bench-log bench-memory bench-objects bench-open bench-list bench-sagas bench-security bench-wire bench-compression lint clippy fmt-check doc deny alerts fmt

help: ## List what can be done
	@echo "SagaMQ: make TARGET"
	@sed -n 's/^\([a-z0-9-]*\):.*## /  \1|/p' $(firstword $(MAKEFILE_LIST)) | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

setup: ## Install what build and tests need and is missing (C++ compiler, libclang, curl, jq, ps)
	@scripts/setup

build: setup ## Build everything
	$(CARGO) build $(WORKSPACE)

demo: setup ## Build, then run a shop through two crashes: make demo DEMO_ARGS="--orders 500 --mode choreography --postgres", or "--nodes 3"
	@$(if $(call beside_postgres,$(DEMO_ARGS)),$(call beside_postgres,$(DEMO_ARGS)) --install || exit; )\
	$(if $(call beside_s3,$(DEMO_ARGS)),$(call beside_s3,$(DEMO_ARGS)) --install || exit; )began=$$SECONDS; \
	$(CARGO) build $(WORKSPACE) && built=$$SECONDS && \
	$(call beside_postgres,$(DEMO_ARGS)) $(call beside_s3,$(DEMO_ARGS)) "$(BIN)/sagamq" demo $(DEMO_ARGS) && \
	echo "make demo: built in $$((built - began)) s, ran in $$((SECONDS - built)) s."

drills: drill-doubt drill-kills drill-backup drill-followers drill-2pc drill-memory drill-outage drill-streams drill-keys drill-levels drill-kinds drill-disk drill-cluster ## Every drill, one after the other

drill-doubt: build ## Lose the payment provider's answers in every kind of step, under kills of everybody
	$(call beside_postgres,$(DRILL_ARGS)) "$(BIN)/sagamq-shop" drill-doubt $(DRILL_ARGS)

drill-kills: build ## Kill the broker every few seconds while 10,000 orders go through: make drill-kills DRILL_ARGS="--kills 40 --mode choreography"
	$(call beside_postgres,$(DRILL_ARGS)) "$(BIN)/sagamq-shop" drill-kills $(DRILL_ARGS)

drill-backup: build ## Restore the broker from an old copy under newer services, and send all orders again
	$(call beside_postgres,$(DRILL_ARGS)) "$(BIN)/sagamq-shop" drill-backup $(DRILL_ARGS)

drill-followers: build ## Have services that only listen away, then slow, while orders go through: make drill-followers DRILL_ARGS="--mode choreography"
	$(call beside_postgres,$(DRILL_ARGS)) "$(BIN)/sagamq-shop" drill-followers $(DRILL_ARGS)

drill-2pc: build ## Kill coordinator and participants of two-phase commit at every point: make drill-2pc DRILL_ARGS="--runs 200 --postgres"
	$(call beside_postgres,$(DRILL_ARGS)) "$(BIN)/sagamq-shop" drill-2pc $(DRILL_ARGS)

drill-outage: setup ## Participants away for hours, a pause of the workers, a backlog: in minutes, with a clock of its own
	scripts/with-limit $(TEST_LIMIT) $(CARGO) test $(TESTS) --test sagas outage:: -- --nocapture --test-threads 1

# Whoever is to be asked for PostgreSQL's package is asked before the build, not after it. Built before the tests, because those from end to
# end start the binary as a user does.
test: setup ## Run every test that needs no container engine, those for PostgreSQL and S3 beside servers of their own
	@scripts/with-postgres --install; case $$? in 0) ;; 75) export SAGAMQ_SETUP=no ;; *) exit 1 ;; esac; \
	scripts/with-s3 --install; case $$? in 0 | 75) ;; *) exit 1 ;; esac; \
	$(CARGO) build $(TESTS) && CARGO="$(CARGO)" TEST_LIMIT=$(TEST_LIMIT) scripts/with-postgres --or-without scripts/with-s3 --or-without \
		scripts/run-tests $(TESTS)
	@echo "make test: all passed. Left out: the container tests (make test-containers), which need a container engine;"
	@echo "           and those for PostgreSQL or S3 if \"NOT RUN against\" stands above with its name."
	@echo "           The commands in $(BIN) are those of the tests now, not optimised: make build puts the others there."

# The commands as the tests start them.
.PHONY: build-tests
build-tests: setup
	$(CARGO) build $(TESTS)

test-cluster: build-tests ## Run the end-to-end tests with servers that are clusters of three nodes; what is about one server alone is left out by name
	SAGAMQ_TEST_CLUSTER=1 scripts/with-limit $(TEST_LIMIT) $(CARGO) test $(TESTS) --test e2e

test-postgres: setup ## Run the tests for PostgreSQL alone; a machine without a server is a failure
	SAGAMQ_CI_REQUIRE_POSTGRES=1 scripts/with-postgres --install
	$(CARGO) build $(TESTS)
	SAGAMQ_CI_REQUIRE_POSTGRES=1 scripts/with-limit $(TEST_LIMIT) scripts/with-postgres $(CARGO) test $(TESTS) --test postgres

test-s3: setup ## Run the tests of object storage against an S3 server alone; a machine without one is a failure
	SAGAMQ_CI_REQUIRE_S3=1 scripts/with-s3 --install
	SAGAMQ_CI_REQUIRE_S3=1 scripts/with-limit $(TEST_LIMIT) scripts/with-s3 $(CARGO) test $(TESTS) --test s3

test-containers: build-tests ## Build the image and test it in containers
	CARGO="$(CARGO)" BIN="$(BIN)" scripts/with-limit $(TEST_LIMIT) scripts/test-containers

dist: setup ## Build the command as it is shipped, with link-time optimisation: target/dist/sagamq
	CARGO="$(CARGO)" scripts/build-dist

test-dist: dist ## Run the end-to-end tests with the command as it is shipped
	SAGAMQ_TEST_COMMANDS="$(DIST)" scripts/with-limit $(TEST_LIMIT) $(CARGO) test $(TESTS) --test e2e

deb: dist ## Make the Debian package, in target/debian (cargo-deb, which is built if it is missing)
	@BIN="$(DIST)" scripts/make-deb

test-deb: build ## Install the package (of the release build) in a bare Debian, use it over TLS, upgrade and remove it, have systemd run it (root, debootstrap)
	@scripts/test-deb

image: ## Build the image sagamq:latest in a container, from the sources alone
	docker build --tag sagamq:latest .

bench: build ## Measure produce, consume, latency and sagas, beside the disk's own speed: make bench BENCH_ARGS="--duration 30s --rate 5000"
	@for what in produce consume latency sagas; do \
	echo && echo "sagamq bench $$what --own-server $(BENCH_ARGS)" && "$(BIN)/sagamq" bench $$what --own-server $(BENCH_ARGS) || exit 1; done

soak: build ## Half of the peak rate for 30 minutes; judges growth of memory and disk, stalls and lag: make soak SOAK_ARGS="--minutes 6"
	"$(BIN)/sagamq-soak" $(SOAK_ARGS)

fuzz: build ## Give the linter and the evaluator texts that nobody would write: make fuzz FUZZ_ARGS="--minutes 20"
	"$(BIN)/sagamq-fuzz" $(FUZZ_ARGS)

compare: build ## Sagas and two-phase commit on the same work, measured, with plots: make compare COMPARE_ARGS="--quick"
	"$(BIN)/sagamq-compare" run $(COMPARE_ARGS)

oracle: setup ## Run the saga protocol against its oracle as often as asked: make oracle ORACLE_RUNS=100000 ORACLE_SEED=7
	SAGAMQ_ORACLE_RUNS=$(ORACLE_RUNS) SAGAMQ_ORACLE_SEED=$(ORACLE_SEED) $(CARGO) test $(WORKSPACE) --lib -- --nocapture oracle::

folds: setup ## Run many nodes over a shard's log that misbehaves as often as asked: make folds FOLDS_RUNS=100000 FOLDS_SEED=7
	SAGAMQ_FOLDS_RUNS=$(FOLDS_RUNS) SAGAMQ_FOLDS_SEED=$(FOLDS_SEED) $(CARGO) test $(WORKSPACE) --lib -- --nocapture all_folds_are_equal

matrix: setup ## Write docs/fault-matrix.md anew: each kind of step under each fault, from runs of the protocol
	SAGAMQ_UPDATE_GOLDEN=1 $(CARGO) test $(WORKSPACE) --lib -- matrix::

styles: build ## The shop in four styles, measured beside each other: make styles STYLES_ARGS="--orders 2000 --in-flight 64"
	"$(BIN)/sagamq-shop" styles $(STYLES_ARGS)

chain: build ## Four services in a row, calling each other or over the queue, under a slow one, an outage and a burst: make chain CHAIN_ARGS="--rate 100"
	"$(BIN)/sagamq-chain" $(CHAIN_ARGS)

bench-compare: build ## Measure an older binary and this one in turns: make bench-compare BENCH_ARGS="--before path/to/sagamq"
	"$(BIN)/sagamq-bench-compare" $(BENCH_ARGS)

bench-cluster: build ## Measure what a log outside costs: in a folder, on an S3 server of its own, and with a longer way to it: make bench-cluster BENCH_ARGS="--rounds 5"
	scripts/with-s3 "$(BIN)/sagamq-bench-cluster" $(BENCH_ARGS)

bench-instructions: build ## Count the instructions of a record by crate, under callgrind, on a server without a log
	scripts/bench-instructions

bench-log: build ## Measure what the log costs the disk: bytes written and kept, catch-up reads, space that comes back
	"$(BIN)/sagamq-bench-log" $(BENCH_ARGS)

bench-open: build ## Measure how long an open takes: with 192,000 partitions of groups, and with 10 million records under 256 open files
	"$(BIN)/sagamq-bench-open" $(BENCH_ARGS)

bench-memory: build ## Measure the server's memory: ten million records, a hundred groups, a thousand polls that wait
	"$(BIN)/sagamq-bench-memory" $(BENCH_ARGS)

bench-objects: build ## Measure appends to a log on object storage: in a folder and on an S3 server of its own, or BENCH_ARGS="URL [APPENDS]"
	@$(if $(BENCH_ARGS),"$(BIN)/sagamq-bench-objects" $(BENCH_ARGS),mkdir -p "$(TARGET_DIR)/bench-objects" && \
	"$(BIN)/sagamq-bench-objects" "file://$$(realpath "$(TARGET_DIR)/bench-objects")"; rm -rf "$(TARGET_DIR)/bench-objects"; \
	scripts/with-s3 sh -c '"$$0" "$$SAGAMQ_TEST_S3"' "$(BIN)/sagamq-bench-objects")

bench-list: build ## Measure a page of sagas by each filter: a million at their end, 100,000 that are not
	"$(BIN)/sagamq-bench-list" $(BENCH_ARGS)

bench-wire: build ## Measure records as JSON, as binary batches, and beside Redis Streams: make bench-wire BENCH_ARGS="--prefill-gb 5 --seconds 60"
	"$(BIN)/sagamq-bench-wire" $(BENCH_ARGS)

bench-compression: build ## Measure how much smaller batches become with each compression, and what it costs
	"$(BIN)/sagamq-bench-compression" $(BENCH_ARGS)

bench-sagas: build ## Measure sagas, beside an older binary if there is one: make bench-sagas BENCH_ARGS="--before path/to/sagamq --many 100000"
	"$(BIN)/sagamq-bench-sagas" $(BENCH_ARGS)

bench-security: build ## Measure what keys, TLS and tracing cost: make bench-security BENCH_ARGS="--rounds 5 --loads sagas"
	"$(BIN)/sagamq-bench-security" $(BENCH_ARGS)

drill-streams: build ## Fifty members of a stream group join, leave and die for five minutes, under kills of the server: make drill-streams DRILL_ARGS="60 20 7"
	"$(BIN)/sagamq-drill-streams" $(DRILL_ARGS)

drill-keys: build ## The same for a queue group that keeps the order of keys: make drill-keys DRILL_ARGS="60 20 7"
	"$(BIN)/sagamq-drill-keys" $(DRILL_ARGS)

drill-levels: build ## What each level of delivery loses and repeats when workers and server are killed, as a table: make drill-levels DRILL_ARGS="400 20 1"
	"$(BIN)/sagamq-drill-levels" $(DRILL_ARGS)

drill-kinds: build ## 10,000 sagas of every kind of step under kills of broker and services, audited effect by effect: make drill-kinds DRILL_ARGS="300 5 7"
	"$(BIN)/sagamq-drill-kinds" $(DRILL_ARGS)

drill-disk: build ## Fill a small disk under the server, from within and from outside, and give it room again (mounts a tmpfs: root)
	"$(BIN)/sagamq-drill-disk"

drill-cluster: build ## Three nodes of a cluster under load: killed, paused, cut off, disks and log lost (S3 server; root, or "--no-namespaces"): make drill-cluster DRILL_ARGS="--runs 20 --seed 7"
	@scripts/with-s3 "$(BIN)/sagamq-drill-cluster" $(DRILL_ARGS) || [ $$? -eq 75 ]

drill-memory: build ## Sixteen clients send the worst bodies at once: peak memory, and whether every valid one gets through
	"$(BIN)/sagamq-drill-memory"

lint: fmt-check clippy doc deny ## Everything that CI refuses: lints, format, documentation

clippy: setup
	$(CARGO) clippy $(WORKSPACE) --all-targets --all-features -- -D warnings

fmt-check:
	$(CARGO) fmt --all -- --check

doc: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc $(WORKSPACE) --no-deps

deny: ## Check licences, sources and known advisories of the dependencies (deny.toml; cargo-deny is built if it is missing)
	@scripts/check-dependencies

alerts: ## Check the rules of monitoring/ and run their tests (promtool: installed, or Debian's package of it)
	@scripts/test-alerts

fmt: ## Format the sources
	$(CARGO) fmt --all
