"""Every setting of the agent: one declaration gives file, environment, command line, help and docs.

The tree is frozen. `agent.settings.load` builds it from four layers, of which a later one overrides an
earlier: defaults, configuration file, environment, command line. Kanto's `config.json` is a valid file.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.types import StringConstraints

from agent.settings.data_sets import PathList
from agent.settings.kinds import (
    ArchiveName,
    BrokerUrl,
    BucketList,
    Count,
    CronExpression,
    Days,
    DeviceId,
    Duration,
    ExistingOrNewPath,
    FeatureId,
    HostList,
    HostNameList,
    KeptCount,
    ListenAt,
    LogLevel,
    MaxWorkFactor,
    Megabytes,
    Moment,
    NameList,
    OperationList,
    OptionalDuration,
    OptionalPath,
    OptionalWindow,
    PatternList,
    PemFile,
    Percent,
    Period,
    PositiveDuration,
    RecipientList,
    Secret,
    Size,
    Switch,
    TenantId,
    Text,
    Threads,
    TimeList,
    TimeZone,
    WorkFactor,
    setting,
)
from agent.settings.stores import StoreOptions


class Group(BaseModel):
    """Base of all settings. Defaults are written as a file would say them, and validated like it."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, hide_input_in_errors=True)


class KantoSettings(Group):
    """The 28 properties of Eclipse Kanto's file backup, with Kanto's defaults and meanings."""

    feature_id: FeatureId = setting("BackupAndRestore", "Id of the feature in the digital twin")
    type: Text = setting("file", "Type of the backups, sent to the twin")
    context: Text = setting("edge", "Context of the backups, sent to the twin")
    dir: OptionalPath = setting("", "Default directory of backups and restores, and the scope of `mode`")
    mode: Literal["strict", "scoped", "lax"] = setting(
        "strict",
        "Directories that a command may name: only `dir`, also those inside it, any",
    )
    backup_cmd: Text = setting("", "Command that writes the files to back up into its working directory")
    restore_cmd: Text = setting("", "Command that restores the files unpacked in its working directory")
    single_upload: Switch = setting(
        False, "Refuse `trigger` and delay periodic backups while an upload is in progress"
    )
    checksum: Switch = setting(False, "Send an MD5 with each archive, for the server to check")
    stop_timeout: Duration = setting("30s", "Longest wait for running jobs when the agent stops")
    keep_uploaded: Switch = setting(False, "Keep archives on the device after their upload")
    storage: ExistingOrNewPath = setting(
        "./storage", "Directory of the agent: pending uploads, downloads, the journal"
    )
    server_cert: PemFile = setting("", "Authorities for uploads and downloads; empty: the system's")
    active: Switch = setting(False, "Make periodic backups")
    active_from: Moment = setting("", "Start of periodic backups; empty: at once")
    active_till: Moment = setting("", "End of periodic backups; empty: never")
    period: Period = setting("10h", "Time between periodic backups")
    broker: BrokerUrl = setting("tcp://localhost:1883", "Address of the local MQTT broker")
    username: Text = setting("", "User name for the broker")
    password: Secret = setting("", "Password for the broker; `passwordFile` is safer")
    ca_cert: PemFile = setting("", "Authorities for the broker's certificate; empty: the system's")
    cert: PemFile = setting("", "Client certificate for the broker")
    key: PemFile = setting("", "Private key of the client certificate")
    log_file: OptionalPath = setting("log/file-backup.log", "Log file; empty: none")
    log_level: LogLevel = setting("INFO", "Lowest level that is logged")
    log_file_count: Count = setting(5, "Number of older log files to keep")
    log_file_max_age: Days = setting(28, "Age at which older log files are removed; 0: never")
    log_file_size: Megabytes = setting(2, "Size at which the log file is rotated")


class TargetSettings(Group):
    path: ExistingOrNewPath = Field(description="Directory for archives")
    mount: Switch = setting(
        False, "Use the target only while a file system is mounted there, such as a USB stick"
    )


class StoreSettings(Group):
    provider: Text = Field(description="Provider of the store: a value of the option `storage.provider`")
    options: StoreOptions = setting("", "The provider's options as in a command, without secrets")
    credentials: OptionalPath = setting(
        "", "File with the secret options, a JSON object that only the agent's user and group can read"
    )
    format: Literal["zip", "repository"] = setting(
        "zip", "Format of backups in the store: archives, or snapshots in a restic repository"
    )
    prefix: Text = setting(
        "",
        "Directory of the repository there; `{device}`, `{namespace}`, `{name}` are parts of the device's id",
    )


class RepositorySettings(Group):
    trust_for: Duration = setting(
        "336h",
        "Age from which a last snapshot that cannot be looked for is not trusted: all is sent again",
    )
    prune_window: OptionalWindow = setting(
        "", "Time of every day, in UTC, in which the operator prunes and the agent writes no snapshot"
    )
    max_unused: Percent = setting(
        5,
        "Share of a repository that may stay unused when retention has removed snapshots; less costs more"
        " rewriting",
    )


class DataSetSettings(Group):
    paths: PathList = Field(description="Files and directories of the data set")
    exclude: PatternList = setting("", "Excluded files: patterns of absolute paths")
    before_backup_cmd: Text = setting("", "Command to run before a backup of the data set")
    after_backup_cmd: Text = setting(
        "", "Command to run after a backup of the data set, also after one that failed"
    )


class TwinSettings(Group):
    status: Switch = setting(True, "Publish the feature `BackupAndRestoreStatus` in the twin")


class ArchiveSettings(Group):
    level: Literal["store", "fast", "balanced", "small", "auto"] = setting(
        "balanced",
        "Compression, from none (`store`) to `small`; `auto` adapts to the speed of the destination",
    )
    dialect: Literal["standard", "kanto"] = setting(
        "standard",
        "`kanto` writes what Kanto's own restore can restore: it skips links and names with a backslash",
    )
    threads: Threads = setting(0, "Threads that compress; 0: one per core, at most 4")


class ScheduleSettings(Group):
    times: TimeList = setting("", "Times of the clock, such as `02:00` or `Mon..Fri 13:30`")
    cron: CronExpression = setting("", "Instead of `times`: a cron expression with five fields")
    timezone: TimeZone = setting("", "Time zone of these times, such as `Europe/Berlin`; empty: the device's")
    store: NameList = setting(
        "", "Store for the archives, or several, which all get the same one; empty: ask the backend"
    )
    dir: Text = setting("", "Directory to back up; empty: the setting `dir`")
    data_sets: NameList = setting("", "Data sets to back up instead")
    name: ArchiveName = setting("", "Name of the archives, which retention counts apart")
    level: Literal["", "store", "fast", "balanced", "small", "auto"] = setting(
        "", "Compression of the archives; empty: `archive.level`"
    )
    window: Duration = setting(
        "0s", "Time in which a failed backup is tried again; 0s: until the next one is due"
    )
    jitter: Duration = setting("0s", "Time over which the devices of a fleet spread these backups")
    before_backup_cmd: Text = setting("", "Command to run before a backup of the schedule")
    after_backup_cmd: Text = setting(
        "", "Command to run after a backup of the schedule, also after one that failed"
    )
    on_failure_cmd: Text = setting("", "Command to run after a backup of the schedule that failed")


class RetentionSettings(Group):
    keep_last: KeptCount = setting(0, "Number of newest archives to keep, for each source and name")
    keep_daily: KeptCount = setting(0, "Number of days of which the newest archive is kept")
    keep_weekly: KeptCount = setting(0, "Number of weeks of which the newest archive is kept")
    keep_monthly: KeptCount = setting(
        0,
        "Number of months of which the newest archive is kept; if all four are 0, only retention dates count",
    )
    emptied_percent: Percent = setting(
        1,
        "Archives with less than this share of the last full one's files or bytes count apart; 0: never",
    )


class RestoreSettings(Group):
    max_size: Size = setting("64GiB", "Largest total size of the files in an archive to restore")
    max_files: Count = setting(1_000_000, "Largest number of entries in an archive to restore")
    max_ratio: Count = setting(
        1100, "Highest compression ratio of an archive to restore; Deflate reaches 1032"
    )
    owner: Switch = setting(True, "Restore owner and group, where the agent has the right to")
    special_bits: Switch = setting(False, "Restore set-user-id and set-group-id bits, and file capabilities")
    foreign: Switch = setting(False, "Restore archives of other devices, too")
    health_cmd: Text = setting("", "Command that must succeed after a restore, else the restore is reverted")
    preview_timeout: PositiveDuration = setting("1h", "Time after which a waiting preview is discarded")
    keep_preview: Switch = setting(False, "Keep a waiting preview when the agent restarts")


class VerifySettings(Group):
    period: Duration = setting("0s", "Time between verifications of the newest archive; 0s: never")
    store: Text = setting("", "Store whose newest archive is verified")
    max_size: Size = setting("1GiB", "Most bytes that a periodic verification fetches; 0: any number")


class TransferSettings(Group):
    connect_timeout: PositiveDuration = setting("10s", "Longest wait for a connection")
    read_timeout: PositiveDuration = setting("60s", "Longest wait for the next byte, in either direction")
    attempts: Count = setting(5, "Number of attempts of a transfer")
    total_time: PositiveDuration = setting("1h", "Time after which a failed transfer is not tried again")
    proxy: Secret = setting("", "URL of an HTTP proxy; empty: HTTPS_PROXY and NO_PROXY")
    rate_limit: Size = setting(0, "Bytes per second in either direction; 0: no limit")


class EncryptionSettings(Group):
    recipients: RecipientList = setting("", "Public keys (`age1…`) that every archive is encrypted for")
    min_passcode: Count = setting(8, "Smallest number of characters of a passcode")
    work_factor: WorkFactor = setting(14, "Cost of encryption with a passcode: 14 needs 16 MiB for a moment")
    max_work_factor: MaxWorkFactor = setting(
        15, "Highest cost of an archive to decrypt; `age` encrypts with 18, which needs 256 MiB"
    )


class MetricsSettings(Group):
    textfile: OptionalPath = setting("", "File with metrics for Prometheus' node exporter, ending in `.prom`")


class HttpSettings(Group):
    socket: OptionalPath = setting(
        "", "Unix socket for programs on the device; empty: `http.sock` in `storage`"
    )
    socket_group: Text = setting("", "Group that may open the socket, and so may read and replace all data")
    listen: ListenAt = setting(
        "", "Address and port for the network, such as `127.0.0.1:8765` or `[::]:8765`; empty: none"
    )
    token_file: OptionalPath = setting("", "File with the token that a client from the network has to know")
    cert: PemFile = setting("", "Certificate for HTTPS")
    key: PemFile = setting("", "Private key of the certificate")
    client_ca: PemFile = setting("", "Authorities of client certificates, which then replace the token")
    hosts: HostNameList = setting("", "Names of this device in URLs, beside `localhost` and IP addresses")
    plain: Switch = setting(False, "Allow HTTP without TLS beyond the device itself")


class AllowSettings(Group):
    operations: OperationList = setting("*", "Operations that a command may ask for")
    hosts: HostList = setting("*", "Hosts that archives may go to and come from: names, `*.name`, networks")
    buckets: BucketList = setting("*", "S3 buckets and Azure containers that a command may name")
    loopback: Switch = setting(True, "Allow the device itself as a host")
    plain_http: Switch = setting(True, "Allow URLs that begin with `http://`")


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
