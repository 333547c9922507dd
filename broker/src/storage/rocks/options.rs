//! How RocksDB is set up, with the reason beside each choice. What is not set here is RocksDB's default.

use super::settings::RocksOptions;
use crate::storage::Family;
use crate::storage::keys::{PARTITION_PREFIX_BYTES, QUEUE_PREFIX_BYTES, TAG_PREFIX_BYTES};
use rocksdb::{BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, LogLevel, Options};

/// Bits a key in a filter: one lookup in a hundred reads a block for nothing.
const BLOOM_BITS_PER_KEY: f64 = 10.0;
/// All write-ahead logs together; bounds what an open has to read, and what a quiet family can pin.
const WAL_BYTES_MAX: u64 = 128 << 20;
/// RocksDB takes no less.
const OPEN_FILES_MIN: u64 = 20;
/// Memory for new entries of a family other than the log.
const SMALL_BUFFER_BYTES: usize = 8 << 20;

/// Caches of blocks. The log has one of its own: reads that catch up are long and come once, and must not push group state and
/// idempotency entries out. In it are keys and small batches; what lies in files of values is cached by the system.
pub(super) struct Caches {
    log: Cache,
    others: Cache,
}

impl Caches {
    pub(super) fn new(options: &RocksOptions) -> Self {
        let log = options.block_cache_bytes / 4;
        // 0: the cache finds the size of its entries itself; families have blocks of different sizes.
        let cache = |bytes| Cache::new_hyper_clock_cache(bytes, 0);
        Self { log: cache(log), others: cache(options.block_cache_bytes - log) }
    }
}

pub(super) fn database_options(options: &RocksOptions) -> Options {
    let mut db = Options::default();
    db.create_if_missing(true);
    db.create_missing_column_families(true);
    durability(&mut db, options);
    // No write of ours waits for another writer: there is one, and it syncs.
    db.set_allow_concurrent_memtable_write(false);
    db.set_enable_write_thread_adaptive_yield(false);
    // Pipelining helps many writers; unordered writes break the snapshots that scans rely on.
    db.set_enable_pipelined_write(false);
    db.set_unordered_write(false);
    // A limit far above any device. Without one RocksDB slows delayed writes to 16 MB/s; with one, to its rate.
    db.set_ratelimiter(4 << 30, 100_000, 10);
    // The system reads ahead where reads are in order, as those of batches are: RocksDB does not by itself in files of values.
    db.set_advise_random_on_open(false);
    // Sorted files reach the device in steps, not in one flood that a commit's sync then waits behind.
    db.set_bytes_per_sync(1 << 20);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    db.set_max_background_jobs(i32::try_from(cores.clamp(2, 8)).expect("at most eight"));
    db.set_max_open_files(open_files_max());
    // Its own diary: warnings only, and bounded.
    db.set_log_level(LogLevel::Warn);
    db.set_keep_log_file_num(4);
    db.set_max_log_file_size(4 << 20);
    db.set_stats_dump_period_sec(0);
    db.set_stats_persist_period_sec(0);
    db
}

/// Files that the database may keep open: half of what the process may have, because merging opens some more for a while, and
/// connections need theirs. More than 512 gain nothing. An open touches only as many, however many there are.
fn open_files_max() -> i32 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    i32::try_from((limit / 2).clamp(OPEN_FILES_MIN, 512)).expect("at most 512")
}

fn durability(db: &mut Options, options: &RocksOptions) {
    // Recovery up to the first damage is the one mode that allows recycling, and a recycled file needs no change of its size at each
    // sync. That damage is not silent: the commit guard refuses a database that ends too early.
    db.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    db.set_recycle_log_file_num(4);
    db.set_max_total_wal_size(WAL_BYTES_MAX);
    // Missing or short closed logs are an error; the live one is the commit guard's. Who accepts a loss accepts this one too.
    db.set_track_and_verify_wals_in_manifest(!options.accept_data_loss);
    db.set_paranoid_checks(true);
    // Every write reaches the system when it returns: it survives the death of the process.
    db.set_manual_wal_flush(false);
    // Families may be flushed alone: the write-ahead log is always on and brings them together again.
    db.set_atomic_flush(false);
    // Batches of records are written as they came; compressing them again costs the only writer its time.
    db.set_wal_compression_type(DBCompressionType::None);
}

/// # Errors
/// When this RocksDB does not know an option.
pub(super) fn family_options(family: Family, options: &RocksOptions, caches: &Caches) -> Result<Options, rocksdb::Error> {
    // The crate has no setter for this one. Many range deletions in memory make every read slow, so they are written out.
    let mut of = Options::default().get_options_from_string("memtable_max_range_deletions=500")?;
    if let Some(bytes) = neighbours_prefix(family) {
        // Nor for this one.
        of = of.get_options_from_string(format!("memtable_insert_with_hint_prefix_extractor=fixed:{bytes}"))?;
    }
    of.set_compression_type(DBCompressionType::Lz4);
    if family == Family::Log {
        // What was just written is merged soon: small batches are compressed then.
        let levels = [DBCompressionType::None; 1].into_iter().chain([DBCompressionType::Lz4; 6]);
        of.set_compression_per_level(&levels.collect::<Vec<_>>());
    }
    // Writes may be far ahead of the merging of files: better many files for a while than writes that wait. Those of the log are small,
    // and they wait longest, while living batches move out of files with dead ones.
    let patience = if family == Family::Log { 4 } else { 1 };
    of.set_level_zero_file_num_compaction_trigger(8);
    of.set_level_zero_slowdown_writes_trigger(40 * patience);
    of.set_level_zero_stop_writes_trigger(64 * patience);
    of.set_soft_pending_compaction_bytes_limit(256 << 30);
    of.set_hard_pending_compaction_bytes_limit(512 << 30);
    match family {
        Family::Log => {
            of.set_write_buffer_size(options.log_buffer_bytes);
            // Room for a burst while the ones before it are written out.
            of.set_max_write_buffer_number(4);
            values_of_their_own(&mut of);
        }
        Family::TimeIndex | Family::Group | Family::Dedup | Family::Schedule | Family::Producer | Family::Saga | Family::Meta => {
            of.set_write_buffer_size(SMALL_BUFFER_BYTES);
            of.set_max_write_buffer_number(3);
        }
    }
    if matches!(family, Family::Dedup | Family::Schedule | Family::Saga) {
        // Entries that come and go leave tombstones, which make scans slow. A file with many of them is merged soon: half of any
        // 4096 entries, or half of the file.
        of.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
    }
    if matches!(family, Family::Dedup | Family::Saga) {
        // Most lookups find nothing, also those of a saga that begins; this answers those in memory too.
        of.set_memtable_prefix_bloom_ratio(0.05);
        of.set_memtable_whole_key_filtering(true);
    }
    of.set_block_based_table_factory(&blocks(family, caches));
    Ok(of)
}

/// Bytes in front of a key that it has in common with the one that is written next to it, as a rule: in memory, an entry begins to look for
/// its place where the last one with these bytes is, however many take turns. Batches and times of a partition come in order; the rows of a
/// queue, and those that a shard has but one of, are written again and again.
fn neighbours_prefix(family: Family) -> Option<usize> {
    match family {
        Family::Log | Family::TimeIndex | Family::Producer => Some(PARTITION_PREFIX_BYTES),
        Family::Group => Some(QUEUE_PREFIX_BYTES),
        // Lists of sagas grow by their times, and what is written of an instance at once lies together.
        Family::Meta | Family::Saga => Some(TAG_PREFIX_BYTES),
        // Hashes come in any order.
        Family::Dedup | Family::Schedule => None,
    }
}

/// Batches lie in files of their own (RocksDB calls them blob files), which are written once: merging moves only keys and where the
/// batch lies. docs/decisions/0017-log-written-once.md has what was measured.
fn values_of_their_own(log: &mut Options) {
    log.set_enable_blob_files(true);
    // Smaller ones lie beside their keys: the reference, its merging and a read of its own cost more than what they save.
    log.set_min_blob_size(512);
    // A flush makes one file of what one memtable holds. This bounds what collection makes.
    log.set_blob_file_size(256 << 20);
    // What producers compressed gains nothing, and reads would pay.
    log.set_blob_compression_type(DBCompressionType::None);
    // Off, but for the time in which the space keeper turns it on: collection as a part of every merge would move living batches
    // again and again, though none beside them is dead.
    log.set_enable_blob_gc(false);
    // The system reads ahead. RocksDB would keep a buffer for every file that a merge looks into, hundreds at a time.
    log.set_blob_compaction_readahead_size(0);
    // A file of keys is what is collected at a time, and it stands for far more bytes of batches.
    log.set_target_file_size_base(1 << 20);
}

fn blocks(family: Family, caches: &Caches) -> BlockBasedOptions {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(if family == Family::Log { &caches.log } else { &caches.others });
    // Large blocks where reads are long and in order, small ones where they are single. Producers are read at an open alone.
    blocks.set_block_size(match family {
        Family::Log | Family::TimeIndex | Family::Schedule | Family::Producer => 16 << 10,
        Family::Group | Family::Dedup | Family::Saga | Family::Meta => 4 << 10,
    });
    // Filters where single keys are asked for, many of which are not there. The log and the indices are only scanned.
    if matches!(family, Family::Group | Family::Dedup | Family::Saga | Family::Meta) {
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
        blocks.set_whole_key_filtering(true);
    }
    // Indices and filters count against the cache's size, so memory stays bounded however much is stored.
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_cache_index_and_filter_blocks_with_high_priority(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    blocks
}
