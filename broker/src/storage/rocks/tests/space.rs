//! Files: those with values, whose space comes back, and how many are looked at.

use super::*;

/// Quick, with many small files of values.
fn small_files() -> RocksOptions {
    RocksOptions { log_buffer_bytes: 128 << 10, space_interval: QUICK, dead_bytes_max: 0, ..options() }
}

const BATCHES: u32 = 400;

/// Two topics side by side in every file, `a` and `b`, with batches of 8 KiB.
fn write_two_topics(storage: &RocksStorage) {
    for n in 0..BATCHES {
        write(storage, &["a", "b"].map(|topic| put(Family::Log, format!("{topic}{n:04}"), [n.to_le_bytes()[0]; 8 << 10])));
    }
}

fn bytes_of_values(path: &Path) -> u64 {
    // A file may go while it is looked at.
    files(path, "blob").iter().filter_map(|file| file.metadata().ok()).map(|file| file.len()).sum()
}

fn wait_until_values_take_at_most(bytes: u64, path: &Path) {
    wait_until(&format!("values take {bytes} bytes"), || bytes_of_values(path) <= bytes);
}

fn only_the_first_topic_is_there(storage: &RocksStorage) {
    let expected: Vec<String> = (0..BATCHES).map(|n| format!("a{n:04}")).collect();
    assert_eq!(all_keys(storage, Family::Log), expected.join(" "));
    for n in 0..BATCHES {
        let value = get(storage, Family::Log, format!("a{n:04}")).expect("it was not deleted");
        assert_eq!(value.as_ref(), [n.to_le_bytes()[0]; 8 << 10]);
    }
}

/// What is kept and a fourth of it, with what a record in a file takes beyond its value.
const KEPT_BYTES_MAX: u64 = BATCHES as u64 * (8 << 10) * 5 / 4;

#[test]
fn the_space_of_a_deleted_topic_comes_back_though_others_lie_in_the_same_files() {
    let directory = directory();
    let storage = RocksStorage::open(directory.path(), &small_files()).expect("opens");
    write_two_topics(&storage);
    storage.db.wait_for_compact(&WaitForCompactOptions::default()).expect("the background is quiet");
    assert!(
        bytes_of_values(directory.path()) > KEPT_BYTES_MAX * 3 / 2,
        "values lie in files of their own, and nothing goes before a deletion"
    );
    write(&storage, &[Mutation::DeleteRange { family: Family::Log, range: b"b".to_vec()..b"c".to_vec() }]);
    wait_until_values_take_at_most(KEPT_BYTES_MAX, directory.path());
    only_the_first_topic_is_there(&storage);
    drop(storage);
    only_the_first_topic_is_there(&open(directory.path()));
}

#[test]
fn the_space_of_a_topic_that_was_deleted_before_a_restart_comes_back() {
    let directory = directory();
    let never = Duration::from_secs(3_600);
    let storage = RocksStorage::open(directory.path(), &RocksOptions { space_interval: never, ..small_files() }).expect("opens");
    write_two_topics(&storage);
    write(&storage, &[Mutation::DeleteRange { family: Family::Log, range: b"b".to_vec()..b"c".to_vec() }]);
    drop(storage);
    let storage = RocksStorage::open(directory.path(), &small_files()).expect("opens");
    wait_until_values_take_at_most(KEPT_BYTES_MAX, directory.path());
    only_the_first_topic_is_there(&storage);
}

#[test]
fn small_values_lie_beside_their_keys() {
    let directory = directory();
    let storage = open(directory.path());
    for (bytes, files_of_values) in [(511, 0), (512, 1)] {
        write(&storage, &[put(Family::Log, format!("k{bytes}"), vec![1; bytes])]);
        storage.db.flush_cf(storage.family(Family::Log)).expect("written to files");
        assert_eq!(files(directory.path(), "blob").len(), files_of_values, "{bytes}");
    }
    assert_eq!(all_keys(&storage, Family::Log), "k511 k512");
}

#[test]
fn nothing_is_moved_while_little_is_deleted() {
    let directory = directory();
    let storage = RocksStorage::open(directory.path(), &small_files()).expect("opens");
    write_two_topics(&storage);
    // A twentieth of all.
    write(&storage, &[Mutation::DeleteRange { family: Family::Log, range: b"b".to_vec()..b"b0040".to_vec() }]);
    let log = storage.family(Family::Log);
    let dead = || storage.db.property_int_value_cf(log, "rocksdb.live-blob-file-garbage-size").expect("known").unwrap_or(0);
    wait_until("the deletion is merged", || dead() > 0);
    // Many intervals pass: if living batches moved, the dead ones would be gone by now.
    std::thread::sleep(QUICK * 50);
    assert!(dead() > 0, "a file with few dead batches stays as it is");
}

#[test]
fn looking_at_a_database_opens_a_few_of_its_files_however_many_there_are() {
    const FILES: usize = 120;
    let path = directory();
    drop(open(path.path()));
    let database = path.path().join("rocksdb");
    let families = Family::ALL.map(Family::name);
    let mut options = Options::default();
    options.set_disable_auto_compactions(true);
    let db = DB::open_cf(&options, &database, families).expect("opens");
    let log = db.cf_handle(Family::Log.name()).expect("there");
    for number in 0..FILES {
        db.put_cf(log, number.to_be_bytes(), b"v").expect("written");
        db.flush_cf(log).expect("flushed");
    }
    let sequence = db.latest_sequence_number();
    drop(db);
    let is_sorted_file = |file: &Path| file.starts_with(&database) && file.extension().is_some_and(|extension| extension == "sst");
    assert!(content(&database).keys().filter(|file| is_sorted_file(file)).count() >= FILES);

    let db = super::super::open::open_to_look(&database).expect("opens");
    assert_eq!(db.latest_sequence_number(), sequence);
    let open_files = fs::read_dir("/proc/self/fd").expect("the system tells").filter_map(|file| fs::read_link(file.ok()?.path()).ok());
    let open_files = open_files.filter(|file| is_sorted_file(file)).count();
    assert!(open_files <= 20, "{open_files} of {FILES} files are open");
}
