"""The properties of Eclipse Kanto's file backup, and the base of all settings."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

from agent.settings.kinds import (
    BrokerUrl,
    Count,
    Days,
    Duration,
    ExistingOrNewPath,
    FeatureId,
    LogLevel,
    Megabytes,
    Moment,
    OptionalPath,
    PemFile,
    Period,
    Secret,
    Switch,
    Text,
    setting,
)


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
