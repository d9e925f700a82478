"""
The table of bad inputs: every row by number and words, and the tests that prove it.

HERE rows are parametrised in this folder, with the row's number in the test's
id or name: `pytest tests/badinput -k "M11 or X7"`.  The others name a test of
another room, which has the servers or processes that the row needs.  Every row
ends in the documented error and exit code, and with nothing changed.

M manifest · C command line · D data sources and servers · J payloads · Q names in SQL and tubes
R files · X supervisord's answers · T terminal and logs · W the page that `status --html` writes
"""

from __future__ import annotations

HERE = "tests/badinput"
CLI_SHELL = "tests/cli/test_shell.py::"
CLI_UP_AND_DOWN = "tests/cli/test_up_and_down.py::"
CONTRACT_PUT = "tests/contract/test_put.py::"
DASHBOARD_LIVE = "tests/dashboard/test_live.py::"
DASHBOARD_TEXT = "tests/dashboard/test_text.py::"
MANAGER_APPLY = "tests/manager/test_apply.py::"
MANAGER_CHANGE = "tests/manager/test_change.py::"
MANAGER_ESCAPE = "tests/manager/test_escape.py::"
MANAGER_FILES = "tests/manager/test_files.py::"
MANAGER_RENDER = "tests/manager/test_render.py::"
MANIFEST_LOAD = "tests/manifest/test_load.py::"
MANIFEST_MACHINE = "tests/manifest/test_machine.py::"
MANIFEST_PROBLEMS = "tests/manifest/test_problems.py::"
QUEUE_MYSQL = "tests/queue/mysql/test_tables.py::"
QUEUE_MYSQL_CUTS = "tests/queue/mysql/test_cuts.py::"
QUEUE_POSTGRES = "tests/queue/postgres/test_tables.py::"
QUEUE_SQLITE = "tests/queue/test_sqlite.py::"
SECURITY_SOURCE = "tests/security/test_source.py::"
SECURITY_TERMINAL = "tests/security/test_terminal.py::"
SECURITY_XML = "tests/security/test_xml.py::"
SUPERVISOR_CLIENT = "tests/supervisor/test_client.py::"
SUPERVISOR_HOSTILE_SERVER = "tests/supervisor/test_hostile_server.py::"
SUPERVISOR_LOGFILE = "tests/supervisor/test_logfile.py::"
SUPERVISOR_PARSER = "tests/supervisor/test_parser.py::"
SUPERVISOR_PRIVATE = "tests/supervisor/test_private.py::"
WORKER_SPEC = "tests/worker/test_spec.py::"

# number: (words, tests).  A test is PATH::NAME, or HERE.
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "M1": ("missing", (HERE,)),
    "M2": (
        "unreadable",
        (HERE, MANIFEST_PROBLEMS + "test_a_file_that_cannot_be_read_is_told_with_owner_and_mode"),
    ),
    "M4": ("empty, only comments", (HERE,)),
    "M5": ("not UTF-8, a NUL", (HERE,)),
    "M7": ("syntax error", (HERE,)),
    "M8": ("a YAML tag: nothing is executed", (HERE,)),
    "M10": ("a key or pipeline twice", (HERE,)),
    "M11": ("unknown key", (HERE,)),
    "M13": ("numprocs out of range", (HERE,)),
    "M14": ("what YAML would misread", (HERE,)),
    "M16": ("names that supervisord trips over", (HERE,)),
    "M17": ("names that differ in case only", (HERE,)),
    "M19": ("blank command", (HERE,)),
    "M20": ("program not found, not executable", (HERE,)),
    "M22": (
        "texts that supervisord would cut",
        (HERE, MANAGER_ESCAPE + "test_a_nasty_command_arrives_unchanged"),
    ),
    "M23": ("percent signs and expansions", (HERE, MANAGER_RENDER + "test_a_command_injects_nothing")),
    "M25": ("no such user", (HERE, MANIFEST_MACHINE + "test_only_root_can_become_somebody_else")),
    "M26": ("no such directory", (HERE,)),
    "M28": ("names of variables", (HERE,)),
    "M29": (
        "values of variables",
        (HERE, MANAGER_ESCAPE + "test_a_nasty_variable_arrives_unchanged_or_is_refused"),
    ),
    "M31": (
        "ttr, delay and priority out of range",
        (HERE, CONTRACT_PUT + "test_a_number_out_of_range_is_refused_before_anything_is_sent"),
    ),
    "M32": ("times that contradict each other", (HERE,)),
    "M34": ("templates", (HERE, MANAGER_RENDER + "test_a_template_that_reaches_too_far_fails")),
    "M35": (
        "a password in the DSN",
        (HERE, MANIFEST_PROBLEMS + "test_a_password_in_a_file_that_everybody_may_read_is_a_warning"),
    ),
    "M37": ("changed while a command runs", (HERE, MANAGER_CHANGE + "test_a_plan_is_for_one_world_only")),
    "M38": (
        "5,000 pipelines, long names",
        (HERE, MANIFEST_LOAD + "test_five_thousand_pipelines_load_in_time"),
    ),
    "M40": (
        "two pipelines share a log or a group",
        (HERE, MANIFEST_PROBLEMS + "test_two_pipelines_cannot_share_a_log_file"),
    ),
    "C1": ("unknown command or option", (HERE,)),
    "C2": ("unknown pipeline", (HERE,)),
    "C4": ("more processes than allowed", (HERE,)),
    "C5": ("times and numbers that make no sense", (HERE,)),
    "C7": (
        "a reader that leaves early",
        (HERE, CLI_SHELL + "test_a_reader_that_leaves_early_causes_no_noise"),
    ),
    "C8": (
        "Ctrl-C",
        (
            HERE,
            CLI_UP_AND_DOWN + "test_ctrl_c_while_waiting_leaves_what_the_next_up_finishes",
            MANAGER_CHANGE + "test_killed_at_any_step_a_second_apply_reaches_the_goal",
        ),
    ),
    "C10": (
        "a lock whose holder died",
        (MANAGER_APPLY + "test_an_apply_that_ends_in_the_middle_is_finished_by_the_next",),
    ),
    "C11": ("ESC and bytes that are not UTF-8", (HERE,)),
    "C13": ("no permission", (HERE,)),
    "C14": ("a poor terminal", (HERE,)),
    "D1": ("no or unknown scheme", (HERE,)),
    "D2": ("port out of range", (HERE,)),
    "D4": ("control characters", (HERE,)),
    "D5": ("unknown or dangerous parameter", (HERE,)),
    "D7": ("in memory, a folder, no parent", (HERE,)),
    "D8": ("network and read-only file systems, files of somebody else", (HERE,)),
    "D10": (
        "wrong password, no database, a certificate of another name or time",
        (HERE, QUEUE_MYSQL_CUTS + "test_a_wrong_password_is_refused_at_once_and_not_shown"),
    ),
    "D11": ("a standby", (HERE,)),
    "D13": (
        "a table engine that loses jobs, a lower level",
        (
            QUEUE_MYSQL + "test_a_table_that_loses_jobs_is_refused",
            QUEUE_MYSQL + "test_the_durability_that_is_in_force_is_told",
        ),
    ),
    "D16": ("nobody answers", (HERE,)),
    "D17": (
        "no right, foreign table",
        (
            QUEUE_POSTGRES + "test_a_missing_right_is_told_with_the_grant_that_gives_it",
            QUEUE_MYSQL + "test_a_missing_right_is_told_as_the_grant_that_mends_it",
            QUEUE_MYSQL + "test_somebody_elses_table_is_left_alone",
            QUEUE_POSTGRES + "test_somebody_elses_table_is_left_alone",
            QUEUE_SQLITE + "test_somebody_elses_table_is_left_alone",
        ),
    ),
    "J1": (
        "no JSON value",
        (HERE, CONTRACT_PUT + "test_a_value_that_json_cannot_hold_is_refused_with_its_place"),
    ),
    "J2": (
        "NaN and Infinity, both ways",
        (HERE, CONTRACT_PUT + "test_bytes_that_are_no_json_are_kept_and_not_decoded"),
    ),
    "J4": (
        "a NUL",
        (
            CONTRACT_PUT + "test_any_json_value_comes_back_equal",
            CONTRACT_PUT + "test_any_bytes_come_back_as_they_were_put",
        ),
    ),
    "J5": (
        "keys that are no text",
        (CONTRACT_PUT + "test_a_value_that_json_cannot_hold_is_refused_with_its_place",),
    ),
    "J7": ("deep nesting, very long numbers", (HERE, CONTRACT_PUT + "test_nesting_without_end_is_refused")),
    "J8": ("too large", (HERE, CONTRACT_PUT + "test_the_largest_payload_fits_and_one_byte_more_is_refused")),
    "J10": (
        "numbers of put out of range",
        (CONTRACT_PUT + "test_a_number_out_of_range_is_refused_before_anything_is_sent",),
    ),
    "J11": ("pickles", (SECURITY_SOURCE + "test_nothing_is_unpickled_evaluated_or_given_to_a_shell",)),
    "J14": ("a handler that is none", (WORKER_SPEC + "test_handlers_are_found_by_their_import_path",)),
    "J16": ("a uid with another payload", (CONTRACT_PUT + "test_a_uid_with_another_payload_is_a_conflict",)),
    "J17": ("escapes and markup in payloads", (SECURITY_TERMINAL + "test_no_command_passes_an_escape_on",)),
    "Q1": ("statements and quotes", (HERE,)),
    "Q2": ("too long", (HERE,)),
    "Q4": ("schemas", (HERE,)),
    "Q5": ("upper case", (HERE,)),
    "Q7": (
        "line ends in tubes",
        (HERE, CONTRACT_PUT + "test_a_name_that_some_server_would_misread_is_refused"),
    ),
    "Q8": (
        "tubes that are too long, blanks",
        (HERE, CONTRACT_PUT + "test_a_name_that_some_server_would_misread_is_refused"),
    ),
    "R1": (
        "links, folders, pipes in a file's place",
        (HERE, MANAGER_APPLY + "test_links_are_neither_followed_nor_replaced"),
    ),
    "R2": (
        "a folder in everybody's reach",
        (HERE, MANAGER_FILES + "test_a_folder_in_everybodys_reach_is_refused"),
    ),
    "R4": (
        "a full disk, a read-only one",
        (
            HERE,
            MANAGER_FILES + "test_a_full_disk_leaves_the_old_file_and_no_rest",
            QUEUE_SQLITE + "test_a_full_disk_rejects_the_put_and_keeps_what_was_there",
        ),
    ),
    "R5": (
        "killed between write and rename",
        (MANAGER_APPLY + "test_left_over_temporary_files_are_swept_and_never_included",),
    ),
    "R7": (
        "[DEFAULT] and doubled sections",
        (
            SUPERVISOR_PARSER + "test_a_broken_file_is_named",
            MANAGER_APPLY + "test_a_program_of_the_same_name_in_a_foreign_file_is_refused",
        ),
    ),
    "R8": (
        "temporary names",
        (MANAGER_APPLY + "test_left_over_temporary_files_are_swept_and_never_included",),
    ),
    "R10": ("identifier", (HERE,)),
    "R11": (
        "stale socket, reused pid",
        (
            SUPERVISOR_PRIVATE + "test_a_killed_supervisord_is_started_again",
            SUPERVISOR_PRIVATE + "test_a_pid_file_that_names_another_program_is_not_believed",
        ),
    ),
    "X1": ("no socket", (HERE, SUPERVISOR_CLIENT + "test_no_permission_names_owner_and_mode")),
    "X2": ("401, 403", (HERE,)),
    "X4": ("a redirect", (HERE,)),
    "X5": (
        "silence, a byte a second",
        (HERE, SUPERVISOR_HOSTILE_SERVER + "test_a_hostile_server_ends_in_a_clear_error_in_time"),
    ),
    "X7": ("compressed", (HERE,)),
    "X8": ("a DOCTYPE", (HERE, SECURITY_XML + "test_a_document_type_is_refused_whatever_it_holds")),
    "X10": (
        "control characters",
        (HERE, SUPERVISOR_CLIENT + "test_the_tail_of_a_log_and_the_one_that_xml_cannot_carry"),
    ),
    "X11": (
        "wrong types",
        (HERE, SUPERVISOR_HOSTILE_SERVER + "test_a_hostile_server_ends_in_a_clear_error_in_time"),
    ),
    "X13": ("too many processes: refused, for a part of them would mislead a plan", (HERE,)),
    "X14": ("hostile names", (HERE, SECURITY_TERMINAL + "test_no_command_passes_an_escape_on")),
    "X16": (
        "the pid of another program",
        (SECURITY_SOURCE + "test_only_private_supervisords_and_children_are_signalled",),
    ),
    "X17": (
        "a fault in the middle of apply",
        (MANAGER_APPLY + "test_files_that_the_daemon_refuses_after_all_are_taken_back",),
    ),
    "X19": ("too old", (HERE,)),
    "X20": ("a stranger's socket", (SUPERVISOR_CLIENT + "test_a_strangers_socket_gets_no_password",)),
    "T1": (
        "escape sequences",
        (
            SECURITY_TERMINAL + "test_no_command_passes_an_escape_on",
            DASHBOARD_TEXT + "test_nothing_that_steers_or_hides_passes",
        ),
    ),
    "T2": ("C1, CR, backspace, bell", (DASHBOARD_TEXT + "test_known_tricks_become_visible",)),
    "T4": ("markup", (SECURITY_TERMINAL + "test_no_command_passes_an_escape_on",)),
    "T5": (
        "a line without end",
        (
            SUPERVISOR_LOGFILE + "test_a_line_without_end_is_cut",
            DASHBOARD_TEXT + "test_a_huge_line_is_cut_before_it_is_looked_at",
        ),
    ),
    "T7": (
        "rotated, cut, removed while read",
        (
            HERE,
            SUPERVISOR_LOGFILE + "test_a_follower_goes_on_after_rotation_truncation_and_removal",
        ),
    ),
    "T8": (
        "a tiny terminal",
        (DASHBOARD_LIVE + "test_a_terminal_that_is_resized_a_hundred_times_down_to_nothing",),
    ),
    "W5": ("markup in the page", (SECURITY_TERMINAL + "test_no_command_passes_an_escape_on",)),
}

# What has no case, and why.
WITHOUT: dict[str, str] = {
    "D14": "beanstalkd without a log is a level that doctor and queue info tell, and no error",
    "J13": "there is one version of the stored form so far",
    "W1 W2 W4 W7 W8": "fleet serves no page; the one that it writes has no script and no action",
}
