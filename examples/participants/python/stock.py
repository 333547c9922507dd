"""A participant of sagas over plain HTTP: stock that is reserved and released. Nothing but Python's standard library.

    python3 stock.py PORT FOLDER

Each call's outcome is a row of the table `barrier`, written in the transaction of the call's own changes: what is repeated, late or out of
order finds the row and changes nothing.
"""

import json
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SCHEMA = """
CREATE TABLE IF NOT EXISTS stock (sku TEXT PRIMARY KEY, on_hand INTEGER NOT NULL, reserved INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS barrier (
    instance TEXT NOT NULL, step TEXT NOT NULL, item INTEGER NOT NULL, operation TEXT NOT NULL,
    outcome TEXT NOT NULL,  -- succeeded, refused, or prevented: an action that is compensated
    answer TEXT NOT NULL,   -- JSON, given again to every repetition
    PRIMARY KEY (instance, step, item, operation)
);
INSERT INTO stock VALUES ('mug', 1000000, 0) ON CONFLICT DO NOTHING;
"""


class Refused(Exception):
    """The call took no effect, and never will under its key. Everything else that is raised says that nobody knows."""

    def __init__(self, code, message):
        super().__init__(message)
        self.answer = {"code": code, "message": message}


def reserve(db, arguments):
    sku, pieces = arguments["sku"], int(arguments["pieces"])
    row = db.execute(
        "UPDATE stock SET on_hand = on_hand - :n, reserved = reserved + :n WHERE sku = :sku AND on_hand >= :n RETURNING on_hand",
        {"n": pieces, "sku": sku},
    ).fetchall()
    if not row:
        raise Refused("OUT_OF_STOCK", f"there are no {pieces} of {sku}")
    return {"order": arguments["order"], "left": row[0][0]}


def release(db, arguments):
    # Runs only if the reservation succeeded, with the same arguments, and once: the barrier sees to it.
    db.execute(
        "UPDATE stock SET on_hand = on_hand + :n, reserved = reserved - :n WHERE sku = :sku",
        {"n": int(arguments["pieces"]), "sku": arguments["sku"]},
    )
    return None


OPERATIONS = {"reserve": reserve, "release": release}


def recorded(db, call, operation):
    key = (call["instance"], call["step"], call.get("item", -1), operation)
    query = "SELECT outcome, answer FROM barrier WHERE instance = ? AND step = ? AND item = ? AND operation = ?"
    row = db.execute(query, key).fetchone()
    return (row[0], json.loads(row[1])) if row else (None, None)


def record(db, call, operation, outcome, answer):
    key = (call["instance"], call["step"], call.get("item", -1), operation)
    db.execute("INSERT OR REPLACE INTO barrier VALUES (?, ?, ?, ?, ?, ?)", (*key, outcome, json.dumps(answer)))


def once(db, call, effect):
    """Runs `effect` at most once for this call. Returns the HTTP status and the answer."""
    operation = call["operation"]
    outcome, answer = recorded(db, call, operation)
    if outcome is not None:
        return (200 if outcome == "succeeded" else 409), answer
    compensated = {"code": "COMPENSATED", "message": "the step is compensated: its action must not take effect any more"}
    # What is refused leaves nothing, nor that its action is compensated.
    db.execute("SAVEPOINT effect")
    if operation == "compensation":
        acted, _ = recorded(db, call, "action")
        record(db, call, "action", "prevented", compensated)
        if acted != "succeeded":
            # There is nothing to undo, and from now on there never will be.
            record(db, call, operation, "succeeded", None)
            return 200, None
    try:
        answer = effect(db, call["arguments"])
    except Refused as refused:
        db.execute("ROLLBACK TO effect")
        if not call["must_succeed"]:
            record(db, call, operation, "refused", refused.answer)
        return 409, refused.answer
    record(db, call, operation, "succeeded", answer)
    return 200, answer


class Database:
    """A connection for each thread. `PRAGMA synchronous = FULL`: what is committed is on disk."""

    def __init__(self, path):
        self.path, self.local = path, threading.local()
        self.connection().executescript(SCHEMA)

    def connection(self):
        if not hasattr(self.local, "db"):
            self.local.db = sqlite3.connect(self.path, timeout=10, isolation_level=None)
            self.local.db.execute("PRAGMA journal_mode = WAL")
            self.local.db.execute("PRAGMA synchronous = FULL")
        return self.local.db

    def call(self, call, effect):
        db = self.connection()
        # The only writer until the commit: neither a duplicate nor the compensation comes in between.
        db.execute("BEGIN IMMEDIATE")
        try:
            result = once(db, call, effect)
            db.execute("COMMIT")
            return result
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")

    def stock(self):
        rows = self.connection().execute("SELECT sku, on_hand, reserved FROM stock")
        return {sku: {"on_hand": on_hand, "reserved": reserved} for sku, on_hand, reserved in rows}


def read_call(body):
    call = json.loads(body)
    texts = all(isinstance(call[name], str) for name in ("instance", "step", "call"))
    is_of_saga = call["operation"] in ("action", "compensation") or call.get("transaction") is not None
    if not texts or not is_of_saga or not isinstance(call["must_succeed"], bool):
        raise ValueError("not the fields of a call")
    call["arguments"]
    return call


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    database = None

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        name = self.path.removeprefix("/saga/")
        try:
            call = read_call(body)
        except (ValueError, KeyError, TypeError) as error:
            return self.answer(400, {"code": "INVALID_CALL", "message": f"the body is no call: {error!r}"})
        if call.get("transaction") is not None:
            # Its action may not take effect before all have voted, and nothing here waits for that. Nothing was done, so this is a refusal.
            return self.answer(409, {"code": "SAGAS_ONLY", "message": "this participant takes part in sagas only, not in transactions"})
        if call["call"] != name or name not in OPERATIONS:
            return self.answer(404, {"code": "UNKNOWN_CALL", "message": f"there is no operation {name}"})
        try:
            status, answer = self.database.call(call, OPERATIONS[name])
        except Exception as error:  # Not a refusal: it may have happened, so the saga asks again under the same key.
            return self.answer(503, {"code": "HANDLER_ERROR", "message": repr(error)})
        self.answer(status, answer)

    def do_GET(self):
        self.answer(200, self.database.stock())

    def answer(self, status, answer):
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    Handler.database = Database(folder / "stock.db")
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
