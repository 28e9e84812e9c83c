"""Every setting of the agent: one declaration gives file, environment, command line, help and docs.

The tree is frozen. `agent.settings.load` builds it from four layers, of which a later one overrides an
earlier: defaults, configuration file, environment, command line. Kanto's `config.json` is a valid file.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.types import StringConstraints

from agent.settings.data_sets import PathList
from agent.settings.kinds import (
    BrokerUrl,
    BucketList,
    Count,
    Days,
    DeviceId,
    Duration,
    ExistingOrNewPath,
    FeatureId,
    HostList,
    KeptCount,
    LogLevel,
    MaxWorkFactor,
    Megabytes,
    Moment,
    OperationList,
    OptionalPath,
    PatternList,
    PemFile,
    Percent,
    PositiveDuration,
    RecipientList,
    Secret,
    Size,
    Switch,
    TenantId,
    Text,
    Threads,
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
    type: Text = setting("file", "Type of what is backed up; sent to the twin")
    context: Text = setting("edge", "Context of what is backed up; sent to the twin")
    dir: OptionalPath = setting("", "Directory that is backed up when a command names none, and the scope")
    mode: Literal["strict", "scoped", "lax"] = setting(
        "strict",
        "What a command may name: nothing but `dir`, directories inside it, any directory",
    )
    backup_cmd: Text = setting("", "Command that collects what is backed up in its directory")
    restore_cmd: Text = setting("", "Command that puts back what is unpacked in its directory")
    single_upload: Switch = setting(False, "Refuse a new backup while an upload is in progress")
    checksum: Switch = setting(False, "Send an MD5 along, which the far side checks")
    stop_timeout: Duration = setting("30s", "How long a stop waits for running jobs")
    keep_uploaded: Switch = setting(False, "Keep archives on the device after their upload")
    storage: ExistingOrNewPath = setting("./storage", "Directory for archives, downloads and the journal")
    server_cert: PemFile = setting("", "Authorities for uploads and downloads; empty for the system's")
    active: Switch = setting(False, "Make periodic backups")
    active_from: Moment = setting("", "Start of periodic backups; empty for now")
    active_till: Moment = setting("", "End of periodic backups; empty for never")
    period: PositiveDuration = setting("10h", "Time between periodic backups")
    broker: BrokerUrl = setting("tcp://localhost:1883", "Address of the local MQTT broker")
    username: Text = setting("", "User name for the broker")
    password: Secret = setting("", "Password for the broker; better given by `passwordFile`")
    ca_cert: PemFile = setting("", "Authorities for the broker's certificate; empty for the system's")
    cert: PemFile = setting("", "Client certificate for the broker")
    key: PemFile = setting("", "Private key of the client certificate")
    log_file: OptionalPath = setting("log/file-backup.log", "Log file; empty for none")
    log_level: LogLevel = setting("INFO", "Least important level that is logged")
    log_file_count: Count = setting(5, "Older log files that are kept")
    log_file_max_age: Days = setting(28, "Age at which older log files are removed; 0 keeps them")
    log_file_size: Megabytes = setting(2, "Size at which a new log file is begun")


class TargetSettings(Group):
    path: ExistingOrNewPath = Field(description="Directory that keeps archives")
    mount: Switch = setting(False, "Only usable while something is mounted there, as on a USB stick")


class StoreSettings(Group):
    provider: Text = Field(description="What keeps its archives: a value of the option `storage.provider`")
    options: StoreOptions = setting("", "The provider's options as in a command, but no secret ones")
    credentials: OptionalPath = setting(
        "", "File with the others, a JSON object that only the agent's user and group can read"
    )


class DataSetSettings(Group):
    paths: PathList = Field(description="Files and directories that belong to it")
    exclude: PatternList = setting("", "What of them is passed over: patterns of absolute paths")


class TwinSettings(Group):
    status: Switch = setting(True, "Keep a status of ours in the twin")


class ArchiveSettings(Group):
    level: Literal["store", "fast", "balanced", "small", "auto"] = setting(
        "balanced",
        "How hard to compress, from not at all to as small as possible; `auto` as the destination allows",
    )
    dialect: Literal["standard", "kanto"] = setting(
        "standard", "`kanto` writes directories as Kanto's own restore wants them"
    )
    threads: Threads = setting(0, "Threads that compress; 0 for one per core, at most 4")


class ScheduleSettings(Group):
    jitter: Duration = setting("0s", "Periodic backups of a fleet are spread over this time, each at its own")
    store: Text = setting("", "Store that periodic backups go to; empty for a request for an upload")


class RetentionSettings(Group):
    keep_last: KeptCount = setting(0, "Newest archives of each name that stay in the device's places")
    keep_daily: KeptCount = setting(0, "Days of which the newest archive stays")
    keep_weekly: KeptCount = setting(0, "Weeks of which the newest archive stays")
    keep_monthly: KeptCount = setting(
        0, "Months of which the newest archive stays; with none of these, only retention dates count"
    )
    emptied_percent: Percent = setting(
        1, "Below this percentage of the last one's files an archive is counted apart; 0 for never"
    )


class RestoreSettings(Group):
    max_size: Size = setting("64GiB", "Largest content of an archive that is restored")
    max_files: Count = setting(1_000_000, "Most entries of an archive that is restored")
    max_ratio: Count = setting(1100, "Highest ratio of content to archive that is restored; Deflate has 1032")
    owner: Switch = setting(True, "Restore owner and group, when root")
    special_bits: Switch = setting(False, "Restore set-user-id, set-group-id and sticky bits")
    foreign: Switch = setting(False, "Restore archives of other devices, too")
    health_cmd: Text = setting("", "Command that must succeed after a restore; its failure takes it back")
    preview_timeout: PositiveDuration = setting("1h", "How long a preview waits before it is discarded")
    keep_preview: Switch = setting(False, "A preview survives a restart of the agent")


class VerifySettings(Group):
    period: Duration = setting("0s", "Time between verifications of the newest archive; 0s for none")
    store: Text = setting("", "Store whose newest archive is verified then")
    max_size: Size = setting("1GiB", "Largest archive that is fetched for that; 0 for any")


class TransferSettings(Group):
    connect_timeout: PositiveDuration = setting("10s", "Longest wait for a connection")
    read_timeout: PositiveDuration = setting("60s", "Longest wait for the next byte, in either direction")
    attempts: Count = setting(5, "How often a transfer is tried")
    total_time: PositiveDuration = setting("1h", "Time after which a transfer is not tried again")
    proxy: Secret = setting("", "URL of an HTTP proxy; empty for HTTPS_PROXY and NO_PROXY")
    rate_limit: Size = setting(0, "Bytes per second in either direction; 0 for no limit")


class EncryptionSettings(Group):
    recipients: RecipientList = setting("", "Public keys (`age1…`) for which every archive is encrypted")
    min_passcode: Count = setting(8, "Fewest characters of a passcode")
    work_factor: WorkFactor = setting(14, "Cost of encryption with a passcode: 14 takes 16 MiB for a moment")
    max_work_factor: MaxWorkFactor = setting(
        15, "Highest cost of an archive that is opened; `age` encrypts with 18, which takes 256 MiB"
    )


class MetricsSettings(Group):
    textfile: OptionalPath = setting(
        "", "File for Prometheus' node exporter, ending in `.prom`, that tells how the backups are doing"
    )


class AllowSettings(Group):
    operations: OperationList = setting("*", "Operations that a command may ask for")
    hosts: HostList = setting("*", "Hosts that archives may go to and come from: names, `*.name`, networks")
    buckets: BucketList = setting("*", "S3 buckets and Azure containers that a command may name")
    loopback: Switch = setting(True, "The device itself may be such a host")
    plain_http: Switch = setting(True, "A URL may begin with `http://`")


TargetName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Settings(KantoSettings):
    """Kanto's settings and ours. Built by `agent.settings.load.load`."""

    device_id: DeviceId = setting("", "The device's id; pins the identity, which is asked for otherwise")
    tenant_id: TenantId = setting("", "The tenant's id; goes with `deviceId`")
    client_id: Text = setting("", "MQTT client id; empty for one that is made once and kept")
    short_topics: Switch = setting(False, "Also take commands on the short topics `c//+/q/#`")
    one_way_replies: Switch = setting(True, "Answer commands whose request id is empty")
    announce: Literal["modify", "merge"] = setting("modify", "How the feature is announced to the twin")
    dedupe_window: Duration = setting("2m", "Time in which an equal command is a redelivery")
    before_restore_cmd: Text = setting("", "Command that is run before a restore changes anything")
    after_restore_cmd: Text = setting("", "Command that is run after a restore; its failure takes it back")
    job_timeout: Duration = setting("24h", "How long a backup, restore or upload may take; 0s for no limit")
    hook_timeout: PositiveDuration = setting("30m", "How long each of these commands may take")
    rpo: Duration = setting(
        "0s", "How old the last good backup may become before the twin says so; 0s for any age"
    )
    strict_backup: Switch = setting(False, "Fail a backup that had to leave something out")
    skip_unchanged: Switch = setting(
        False, "Make no archive while the last one in the same place is still there and nothing has changed"
    )
    exclude: PatternList = setting("", "What backups pass over: patterns as in a .gitignore file")
    password_file: OptionalPath = setting("", "File with the password for the broker; wins over `password`")
    # In Kanto's files `storage` is a text, so this cannot be a member of a group of that name.
    storage_reserve: Size = setting(
        "64MiB", "Free space of the device's disks that jobs leave", key="storage.reserve"
    )
    storage_max_staged: Count = setting(
        3, "Archives that wait for their upload, before the oldest is given up", key="storage.maxStaged"
    )
    journal_max_jobs: Count = setting(
        1000, "Backups and restores that have ended and are kept in the journal", key="journal.maxJobs"
    )
    targets: dict[TargetName, TargetSettings] = setting(
        {}, "Directories that commands may name as `local.target`"
    )
    stores: dict[TargetName, StoreSettings] = setting(
        {}, "Places that commands may name as `backup.store` and `restore.store`"
    )
    data_sets: dict[TargetName, DataSetSettings] = setting(
        {}, "Parts of the device that commands may name as `backup.dataTypes` and `restore.dataTypes`"
    )
    unexportable: PatternList = setting(
        "", "What is of no use on another device, as keys bound to hardware: patterns of absolute paths"
    )
    twin: TwinSettings = TwinSettings()
    archive: ArchiveSettings = ArchiveSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    restore: RestoreSettings = RestoreSettings()
    retention: RetentionSettings = RetentionSettings()
    verify: VerifySettings = VerifySettings()
    transfer: TransferSettings = TransferSettings()
    encryption: EncryptionSettings = EncryptionSettings()
    allow: AllowSettings = AllowSettings()
    metrics: MetricsSettings = MetricsSettings()

    @field_validator("targets")
    @classmethod
    def _device_when_none(
        cls, targets: dict[str, TargetSettings], info: ValidationInfo
    ) -> dict[str, TargetSettings]:
        """Without configured targets there is one, `device`, inside the storage directory."""
        if targets or "storage" not in info.data:
            return targets
        return {"device": TargetSettings(path=info.data["storage"] / "archives")}
