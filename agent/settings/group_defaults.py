"""The settings that are grouped in the file: `restore.maxSize` is `max_size` in `RestoreSettings`."""

from typing import Literal

from pydantic import Field

from agent.settings.data_sets import PathList
from agent.settings.kanto_defaults import Group
from agent.settings.kinds import (
    ArchiveName,
    BucketList,
    Count,
    CronExpression,
    Duration,
    ExistingOrNewPath,
    HostList,
    HostNameList,
    KeptCount,
    ListenAt,
    MaxWorkFactor,
    NameList,
    OperationList,
    OptionalPath,
    OptionalWindow,
    PatternList,
    PemFile,
    Percent,
    PositiveDuration,
    RecipientList,
    Secret,
    Size,
    Switch,
    Text,
    Threads,
    TimeList,
    TimeZone,
    WorkFactor,
    setting,
)
from agent.settings.stores import StoreOptions


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
