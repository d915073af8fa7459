"""Opens the ledger's SQLite file: its tables, their versions, and what to do when it is damaged."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from webui.core.errors import NotEnoughDisk, StudioError
from webui.core.text import Text

_MIGRATIONS = (
    """
    CREATE TABLE jobs (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        id TEXT NOT NULL UNIQUE,
        owner TEXT NOT NULL,
        created TEXT NOT NULL,
        state TEXT NOT NULL,
        request TEXT NOT NULL,
        plan TEXT,
        receipt TEXT,
        error TEXT,
        folder TEXT NOT NULL
    );
    CREATE INDEX jobs_by_owner ON jobs (owner, number);
    CREATE INDEX jobs_by_state ON jobs (state, number);
    CREATE TABLE speeds (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        device TEXT NOT NULL,
        model TEXT NOT NULL,
        phase TEXT NOT NULL,
        estimated_s REAL NOT NULL,
        measured_s REAL NOT NULL,
        settings TEXT NOT NULL
    );
    CREATE INDEX speeds_by_key ON speeds (device, model, phase, number);
    """,
    """
    ALTER TABLE jobs ADD COLUMN studio TEXT NOT NULL DEFAULT '';
    """,
    """
    ALTER TABLE jobs ADD COLUMN profiled INTEGER NOT NULL DEFAULT 0;
    """,
)
"""One script a schema version; the file's `user_version` says how many have run."""

_BUSY_MS = 5000


def open_database(path: Path) -> tuple[sqlite3.Connection, Path | None]:
    """A connection to the file, made or brought to this version's tables when needed.

    Returns:
        the connection (to be used under a lock), and where a damaged file was put aside, or None.

    Raises:
        StudioError: locked by another program, not readable, or made by a newer version.
        NotEnoughDisk: the disk is full.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(path, str(error)) from error
    try:
        return _connect(path), None
    except sqlite3.DatabaseError as error:
        # Operational errors are about the surroundings (locks, disk); others about the content.
        if isinstance(error, sqlite3.OperationalError) or not path.exists():
            raise explained(path, error) from error
    aside = _put_aside(path)
    try:
        return _connect(path), aside
    except sqlite3.DatabaseError as error:
        raise explained(path, error) from error


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(
        path, timeout=_BUSY_MS / 1000, check_same_thread=False, isolation_level=None
    )
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        problems = connection.execute("PRAGMA quick_check(1)").fetchall()
        if problems != [("ok",)]:
            raise sqlite3.DatabaseError(str(problems[0][0]))
        _migrate(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > len(_MIGRATIONS):
        raise StudioError(
            Text(
                f"{path.name} was made by a newer version of the studio.",
                f"{path.name} 由更新版本的工作室创建。",
            ),
            Text(
                "Update the studio, or start it with another home folder.",
                "请更新工作室，或换一个主目录启动。",
            ),
        )
    for number, script in enumerate(_MIGRATIONS[version:], version + 1):
        connection.executescript(
            f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;"
        )


def _put_aside(path: Path) -> Path:
    """Renames a damaged file (with its log), so that a new one can begin."""
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("", "-wal", "-shm"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(aside.with_name(aside.name + suffix))
    return aside


def explained(path: Path, error: sqlite3.Error) -> StudioError:
    """What users are told of a database error: full disk, locked, or not usable."""
    reason = str(error)
    if "full" in reason:
        return NotEnoughDisk(
            Text(
                "The disk is full: the history cannot be written.", "磁盘已满，无法写入历史记录。"
            ),
            Text("Free some space, or delete old runs.", "请腾出空间，或删除旧的运行结果。"),
        )
    if "locked" in reason or "busy" in reason:
        return StudioError(
            Text(f"{path.name} is locked by another program.", f"{path.name} 被其他程序锁定。"),
            Text(
                "Close the other studio that uses the same home folder.",
                "请关闭使用同一主目录的另一个工作室。",
            ),
        )
    return _unusable(path, reason)


def _unusable(path: Path, reason: str) -> StudioError:
    return StudioError(
        Text(
            f"The history {path.name} cannot be used: {reason}.",
            f"历史记录 {path.name} 无法使用：{reason}。",
        ),
        Text(
            f"Check that {path.parent} may be written to, and start again.",
            f"请确认 {path.parent} 可以写入，然后重新启动。",
        ),
    )
