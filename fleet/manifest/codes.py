"""
Every finding about a manifest has a stable code: E… are errors, W… are warnings.

A code is never given a second meaning; one that is no longer used stays here.
"""

from __future__ import annotations

NOT_FOUND = "E001"
SYNTAX = "E002"
UNKNOWN_KEY = "E003"
WRONG_VALUE = "E004"
HANDLER_OR_COMMAND = "E005"
BAD_NAME = "E006"
UNSET_VARIABLE = "E007"
UNKNOWN_OPTION = "E008"
NO_PIPELINES = "E009"
NO_USER = "E010"
SHORT_GRACE = "E011"
COLLISION = "E012"
NO_DIRECTORY = "E013"
SHARED_SQLITE = "E014"
NO_HOST = "E015"
BAD_HANDLER = "E021"
NO_PROGRAM = "E022"
BAD_CRON = "E030"
BAD_SCHEDULE = "E031"
BAD_ENVIRONMENT = "E040"
PASSWORD_IN_DSN = "W012"  # noqa: S105  # the code of a finding, not a password
SHARED_LOG = "W013"
RUNS_AS_ROOT = "W014"
LATER = "W015"
PASSWORD_IN_CLEAR = "W016"  # noqa: S105  # as above
SHELL_AROUND = "W017"
SHELL_SYNTAX = "W018"

MEANING = {
    NOT_FOUND: "the manifest is not there, or cannot be read",
    SYNTAX: "the file is not TOML, or not UTF-8",
    UNKNOWN_KEY: "a key that fleet does not know",
    WRONG_VALUE: "a value of the wrong type, or out of range",
    HANDLER_OR_COMMAND: "a pipeline needs exactly one of handler and command",
    BAD_NAME: "a name that supervisord or a file system would trip over",
    UNSET_VARIABLE: "a ${VARIABLE} that has no value",
    UNKNOWN_OPTION: "a raw supervisord option that does not exist, or that fleet sets itself",
    NO_PIPELINES: "no pipelines, or more than 5000",
    NO_USER: "a user that does not exist here, or that this one cannot become",
    SHORT_GRACE: "stop.grace is shorter than timeout: a restart would kill jobs",
    COLLISION: "two pipelines that would get the same group or the same log file",
    NO_DIRECTORY: "a directory that does not exist here",
    SHARED_SQLITE: "a SQLite file cannot be shared by several hosts",
    NO_HOST: "a host that is not in [hosts], or a machine that is none of them",
    BAD_HANDLER: "a handler that cannot be imported",
    NO_PROGRAM: "a program that is not found here",
    BAD_CRON: "a cron expression that means nothing",
    BAD_SCHEDULE: "a schedule for no pipeline, or in no known time zone",
    BAD_ENVIRONMENT: "a variable that must not be set, or that no process can hold",
    PASSWORD_IN_DSN: "a password in a file that everybody may read",
    SHARED_LOG: "several processes write one log file, which supervisord cannot rotate",
    RUNS_AS_ROOT: "a pipeline that would run as root",
    PASSWORD_IN_CLEAR: "a password that crosses the network for everybody to read",
    SHELL_AROUND: "a shell that gets the signal to stop in place of its program",
    SHELL_SYNTAX: "a sign that only a shell understands, in a command that no shell reads",
    LATER: "a key that is checked, and acted on by a later version",
}
