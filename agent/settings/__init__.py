"""Every setting of the agent: one declaration gives file, environment, command line, help and docs.

The tree is frozen. `agent.settings.load` builds it from four layers, of which a later one overrides an
earlier: defaults, configuration file, environment, command line. Kanto's `config.json` is a valid file.
"""

from typing import Annotated, Literal

from pydantic import ValidationInfo, field_validator
from pydantic.types import StringConstraints

from agent.settings.group_defaults import (
    AllowSettings,
    ArchiveSettings,
    DataSetSettings,
    EncryptionSettings,
    HttpSettings,
    MetricsSettings,
    RepositorySettings,
    RestoreSettings,
    RetentionSettings,
    ScheduleSettings,
    StoreSettings,
    TargetSettings,
    TransferSettings,
    TwinSettings,
    VerifySettings,
)
from agent.settings.kanto_defaults import KantoSettings
from agent.settings.kinds import (
    Count,
    DeviceId,
    Duration,
    OptionalDuration,
    OptionalPath,
    PatternList,
    PositiveDuration,
    Size,
    Switch,
    TenantId,
    Text,
    setting,
)

TargetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Settings(KantoSettings):
    """Kanto's settings and ours. Built by `agent.settings.load.load`."""

    device_id: DeviceId = setting("", "The device's id; empty: the agent asks the broker's connector")
    tenant_id: TenantId = setting("", "The tenant's id, beside `deviceId`")
    client_id: Text = setting("", "MQTT client id; empty: made once and kept in `storage`")
    short_topics: Switch = setting(False, "Take commands on the short topics `c//+/q/#`, too")
    one_way_replies: Switch = setting(True, "Answer commands whose request id is empty")
    announce: Literal["modify", "merge"] = setting("modify", "How the feature is announced to the twin")
    dedupe_window: Duration = setting("2m", "Time in which an equal command counts as a redelivery")
    before_restore_cmd: Text = setting("", "Command to run before a restore changes anything")
    after_restore_cmd: Text = setting(
        "", "Command to run after a restore; if it fails, the restore is reverted"
    )
    before_backup_cmd: Text = setting("", "Command to run before a backup; if it fails, the backup fails")
    after_backup_cmd: Text = setting("", "Command to run after a backup, also after one that failed")
    on_failure_cmd: Text = setting("", "Command to run after a job that failed")
    job_timeout: Duration = setting("24h", "Longest time of a backup, restore or upload; 0s: no limit")
    hook_timeout: PositiveDuration = setting("30m", "Longest time of each command around a job")
    rpo: OptionalDuration = setting(
        "",
        "Highest age of the last good backup before `health` reports a violation; 0s: any; empty: two periods"
        " while periodic backups are on",
    )
    strict_backup: Switch = setting(False, "Fail a backup that skipped something")
    skip_unchanged: Switch = setting(
        False,
        "Make no archive if nothing has changed since the last one, and that is still at the destination",
    )
    sqlite: Literal["consistent", "bytes"] = setting(
        "consistent", "SQLite databases in use: save a consistent copy, or the bytes as they are found"
    )
    # Like `storage`, `sqlite` is a text and cannot be a group as well.
    sqlite_lock_time: Duration = setting(
        "2s",
        "Longest time that a backup keeps programs from writing to a database with a rollback journal",
        key="sqlite.lockTime",
    )
    exclude: PatternList = setting("", "Files that backups exclude: patterns as in a .gitignore file")
    password_file: OptionalPath = setting("", "File with the password for the broker; overrides `password`")
    # In Kanto's files `storage` is a text, so this cannot be a member of a group of that name.
    storage_reserve: Size = setting(
        "64MiB",
        "Free space that jobs leave on each of the device's disks; at most a quarter of the disk",
        key="storage.reserve",
    )
    storage_max_staged: Count = setting(
        3, "Largest number of pending uploads; of more, the oldest is given up", key="storage.maxStaged"
    )
    journal_max_jobs: Count = setting(
        1000, "Number of ended jobs that the journal keeps", key="journal.maxJobs"
    )
    targets: dict[TargetName, TargetSettings] = setting(
        {}, "Directories that commands may name as `local.target`"
    )
    stores: dict[TargetName, StoreSettings] = setting(
        {}, "Destinations that commands may name as `backup.store` and `restore.store`"
    )
    data_sets: dict[TargetName, DataSetSettings] = setting(
        {}, "Parts of the device that commands may name as `backup.dataTypes` and `restore.dataTypes`"
    )
    schedules: dict[TargetName, ScheduleSettings] = setting(
        {}, "Schedules of backups by the clock, and `kanto`, that of `active` and `period`"
    )
    unexportable: PatternList = setting(
        "",
        "Files of no use on another device, such as keys bound to hardware: patterns of absolute paths",
    )
    twin: TwinSettings = TwinSettings()
    archive: ArchiveSettings = ArchiveSettings()
    restore: RestoreSettings = RestoreSettings()
    retention: RetentionSettings = RetentionSettings()
    verify: VerifySettings = VerifySettings()
    repository: RepositorySettings = RepositorySettings()
    transfer: TransferSettings = TransferSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    allow: AllowSettings = AllowSettings()
    metrics: MetricsSettings = MetricsSettings()
    http: HttpSettings = HttpSettings()

    @field_validator("targets")
    @classmethod
    def _device_when_none(
        cls, targets: dict[str, TargetSettings], info: ValidationInfo
    ) -> dict[str, TargetSettings]:
        """Return the targets; without configured ones there is `device`, inside the storage directory."""
        if targets or "storage" not in info.data:
            return targets
        return {"device": TargetSettings(path=info.data["storage"] / "archives")}
