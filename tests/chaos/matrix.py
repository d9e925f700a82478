"""
The faults and promises by number and words, and what tries each: kinds of chaos faults, or tests.

Where the kinds of faults happen is `schedule.kinds_for`; a test is PATH::NAME.

F1 to F12 worker · F13 to F22m manager and supervisord · F22 to F41 servers and storage
F42 to F51 network, clocks and limits · P1 to P20 promises
"""

from __future__ import annotations

BAD = "tests/badinput/"
CLI = "tests/cli/"
CONTRACT = "tests/contract/"
MANAGER = "tests/manager/"
QUEUE = "tests/queue/"
SUPERVISOR = "tests/supervisor/"
WORKER = "tests/worker/test_worker_process.py::"
WORKER_BACK_ENDS = "tests/worker/test_back_ends.py::"

CHECKER = "tests/chaos/test_chaos.py::test_nothing_is_lost_and_everything_is_explained"
KILLED_APPLY = MANAGER + "test_change.py::test_killed_at_any_step_a_second_apply_reaches_the_goal"
OUTAGE = WORKER_BACK_ENDS + "test_an_outage_is_waited_out"
POISON = WORKER + "test_a_job_that_kills_its_workers_is_buried_and_its_neighbours_are_not"
READING = BAD + "test_reading.py::test_what_only_reads_changes_nothing"

# number: (words, kinds of faults and tests)
ROWS: dict[str, tuple[str, tuple[str, ...]]] = {
    "F1": ("kill -9 at each step", ("kill-step", "kill")),
    "F2": (
        "SIGTERM at each step, and twice",
        ("term", "term-step", WORKER + "test_a_second_sigterm_releases_the_job_at_once"),
    ),
    "F3": (
        "a worker that ignores SIGTERM",
        (MANAGER + "test_stop.py::test_a_worker_that_overstays_its_grace_is_killed_by_supervisord",),
    ),
    "F4": ("frozen for longer than its ttr", ("stop", "stop-step")),
    "F5": (
        "a handler that never returns",
        (WORKER + "test_a_handler_that_ignores_its_timeout_is_ended_with_its_process",),
    ),
    "F6": (
        "a handler that holds the interpreter",
        ("tests/worker/test_lifeline.py::test_a_handler_that_holds_the_interpreter_keeps_its_lease",),
    ),
    "F7": ("out of memory", ("oom",)),
    "F8": (
        "a fork bomb, and children that come back",
        (
            MANAGER + "test_forks.py::test_a_fork_bomb_is_contained_and_ends_with_its_worker",
            WORKER + "test_a_forked_child_that_comes_back_is_no_second_worker",
        ),
    ),
    "F9": ("every way out of a handler", (WORKER + "test_each_way_out_of_a_handler_has_its_outcome", POISON)),
    "F10": (
        "a handler's own descriptors, umask, directory and signals",
        (WORKER + "test_what_a_handler_does_to_its_process_is_not_for_the_next_job",),
    ),
    "F11": ("nobody reads stdout", ("stdout", WORKER + "test_a_full_stdout_stops_no_job")),
    "F12": (
        "an import that fails",
        (CLI + "test_up_and_down.py::test_a_worker_that_cannot_start_ends_in_exit_7_and_its_last_words",),
    ),
    "F13": (
        "kill -9 of supervisord",
        ("supervisord", MANAGER + "test_apply.py::test_a_killed_supervisord_is_brought_back"),
    ),
    "F14": (
        "a frozen supervisord",
        ("stdout", SUPERVISOR + "test_client.py::test_a_stopped_supervisord_is_told_within_the_time_out"),
    ),
    "F15": (
        "many groups end together",
        (MANAGER + "test_stop.py::test_a_hundred_groups_stop_in_the_time_of_one",),
    ),
    "F16": ("fleet apply killed at each step", ("apply", KILLED_APPLY)),
    "F17": (
        "something else in the socket's place",
        (BAD + "test_supervisord.py::test_x1_what_lies_at_the_address_is_said",),
    ),
    "F18": (
        "a broken or doubled file of others",
        (
            MANAGER + "test_apply.py::test_a_broken_file_of_others_is_named_and_nothing_is_written",
            MANAGER + "test_apply.py::test_a_program_of_the_same_name_in_a_foreign_file_is_refused",
        ),
    ),
    "F19": ("the partition of the logs is full", ("log-full",)),
    "F20": (
        "supervisord's clock jumps while it stops",
        (
            MANAGER + "test_supervisord_changes.py"
            "::test_a_clock_that_jumps_while_a_worker_drains_costs_an_attempt_and_no_job",
        ),
    ),
    "F21": (
        "an upgrade of supervisord under load",
        (
            MANAGER + "test_supervisord_changes.py"
            "::test_an_upgrade_under_load_costs_no_job_and_none_runs_twice",
        ),
    ),
    "F22m": (
        "one event for each change of state",
        ("tests/dashboard/test_changes.py::test_a_process_that_goes_down_is_an_event",),
    ),
    "F22": ("kill -9 of the server", ("server",)),
    "F23": ("an orderly stop of the server", ("server-stop",)),
    "F24": ("a frozen server", ("freeze",)),
    "F25": ("cut at byte N", ("cut-byte",)),
    "F26": ("no connection to be had", ("connections",)),
    "F27": ("deadlocks and locks", ("deadlock", "lock")),
    "F28": ("ended by an administrator", ("admin-kill",)),
    "F29": ("disk full, then space again", ("disk-full",)),
    "F30": (
        "fsync fails once",
        ("fsync", QUEUE + "beanstalkd/test_server.py::test_a_log_that_is_no_longer_written_is_noticed"),
    ),
    "F31": (
        "write fails once",
        ("write", QUEUE + "beanstalkd/test_server.py::test_a_log_that_is_no_longer_written_is_noticed"),
    ),
    "F32": (
        "read-only",
        (BAD + "test_disks.py::test_r4_d8_nothing_is_half_written_on_a_read_only_disk",),
    ),
    "F33": ("power cut", ("power",)),
    "F34": ("a damaged file", (BAD + "test_disks.py::test_a_damaged_queue_is_said_and_left_as_it_is",)),
    "F35": (
        "failover",
        (BAD + "test_servers.py::test_d11_a_standby_is_named_and_works_once_promoted",),
    ),
    "F36": (
        "Galera: the other node is frozen, then killed",
        (QUEUE + "mysql/test_galera.py::test_a_node_that_is_cut_off_is_away_and_loses_nothing",),
    ),
    "F37": (
        "PgBouncer",
        ("pooler", QUEUE + "postgres/test_connections.py::test_the_contract_holds_behind_pgbouncer"),
    ),
    "F38": (
        "migration under load",
        ("migrate", WORKER + "test_tables_that_are_too_new_end_the_worker_in_words"),
    ),
    "F39": (
        "a transaction that stays open",
        (QUEUE + "test_old_snapshot.py::test_an_old_snapshot_keeps_no_worker_from_its_pace",),
    ),
    "F40": (
        "a draining server",
        (QUEUE + "beanstalkd/test_cuts.py::test_a_draining_server_takes_no_jobs_and_its_workers_go_on",),
    ),
    "F41": (
        "too large, out of range",
        (
            CONTRACT + "test_put.py::test_the_largest_payload_fits_and_one_byte_more_is_refused",
            CONTRACT + "test_put.py::test_a_number_out_of_range_is_refused_before_anything_is_sent",
        ),
    ),
    "F42": ("connections reset", ("cut",)),
    "F43": ("half-open", ("stall",)),
    "F44": ("a slow line", (WORKER_BACK_ENDS + "test_a_slow_line_costs_no_lease",)),
    "F45": (
        "answers that are none",
        (QUEUE + "beanstalkd/test_cuts.py::test_after_an_answer_that_cannot_be_the_connection_is_closed",),
    ),
    "F46": (
        "names that do not resolve",
        (WORKER_BACK_ENDS + "test_a_name_that_does_not_resolve_is_waited_for",),
    ),
    "F47": ("a worker's clock", ("worker-clock",)),
    "F48": ("the server's clock", ("clock",)),
    "F49": (
        "a host that slept",
        (
            QUEUE + "test_suspended.py::test_a_lease_in_a_file_is_over_for_everybody_after_a_sleep",
            QUEUE + "test_suspended.py::test_a_handle_of_beanstalkd_is_over_after_a_sleep",
        ),
    ),
    "F50": (
        "limits on files and memory",
        (
            WORKER + "test_a_worker_that_may_open_too_few_files_ends_in_words",
            WORKER + "test_a_job_that_needs_more_memory_than_there_is_fails_alone",
            BAD + "test_limits.py::test_an_apply_that_may_open_too_few_files_changes_nothing",
            BAD + "test_limits.py::test_a_supervisord_that_may_open_too_few_files_is_not_there",
        ),
    ),
    "F51": ("two at once", (MANAGER + "test_apply.py::test_two_applies_at_once_take_turns",)),
    "P1": ("nothing is lost", (CHECKER,)),
    "P2": ("at least once", (CHECKER,)),
    "P3": ("one holder", (CHECKER, CONTRACT + "test_reserve.py::test_two_workers_never_hold_the_same_job")),
    "P4": (
        "late verbs are refused",
        (CHECKER, CONTRACT + "test_lease.py::test_a_lease_that_ran_out_cannot_settle_the_job"),
    ),
    "P5": (
        "a settlement repeated",
        (CONTRACT + "test_lease.py::test_a_job_that_was_settled_cannot_be_settled_again",),
    ),
    "P6": (
        "an unknown put says so",
        (
            QUEUE + "postgres/test_cuts.py::test_a_put_that_is_cut_off_is_unknown_and_safe_to_repeat",
            QUEUE + "mysql/test_cuts.py::test_a_put_that_is_cut_says_that_it_may_be_stored",
            QUEUE + "beanstalkd/test_cuts.py::test_a_put_whose_answer_is_lost_is_unknown",
        ),
    ),
    "P7": (
        "the caller's transaction",
        (CONTRACT + "test_transactions.py::test_a_put_appears_with_the_callers_own_rows_or_not_at_all",),
    ),
    "P8": ("order", (CHECKER, CONTRACT + "test_model.py::test_random_stories_end_as_in_the_model")),
    "P9": ("rescue", (CHECKER,)),
    "P10": ("leases are kept", (WORKER_BACK_ENDS + "test_the_lease_of_a_long_job_is_kept",)),
    "P11": (
        "a limit for one attempt",
        (WORKER + "test_a_handler_that_ignores_its_timeout_is_ended_with_its_process",),
    ),
    "P12": ("poison is buried", (CHECKER, POISON)),
    "P13": ("SIGTERM", ("term", "term-step")),
    "P14": ("supervisord's death", ("supervisord", WORKER + "test_workers_leave_when_supervisord_dies")),
    "P15": (
        "an outage of any length",
        (OUTAGE, QUEUE + "test_consumer.py::test_an_outage_is_told_once_in_thirty_seconds"),
    ),
    "P16": ("all or nothing", ("apply", KILLED_APPLY)),
    "P17": (
        "bystanders keep their pids",
        (
            MANAGER + "test_apply.py::test_other_groups_keep_their_pids",
            MANAGER + "test_apply.py::test_a_new_number_keeps_those_that_run",
        ),
    ),
    "P18": ("what only reads changes nothing", (READING,)),
    "P19": (
        "the level in force",
        (
            QUEUE + "test_sqlite.py::test_info_tells_the_level_in_force",
            QUEUE + "mysql/test_tables.py::test_the_durability_that_is_in_force_is_told",
            QUEUE + "beanstalkd/test_server.py::test_the_level_in_force_is_told",
        ),
    ),
    "P20": ("no clock loses a job", ("clock", "worker-clock")),
}

# What a trial leaves out, and why.
PARTLY: dict[str, str] = {
    "F8": "a child that calls setsid survives: it has left the group, and doctor does not look for it",
    "F10": "the locale, and more than one job at a time: both belong to the process, and stay",
    "F31": "beanstalkd by strace: its log ends with the first error, and nothing is promised after that",
    "F36": "several writers: they are told of, and not refused",
    "F39": "ten minutes: 60,000 jobs under the snapshot; only PostgreSQL tells that a transaction is old",
    "F44": "a lease of a minute: one of 3 s, and a line that is faster in the same measure",
    "F49": "a host that sleeps: a process whose CLOCK_BOOTTIME is an hour ahead; one with one thread only",
    "F50": "RLIMIT_NPROC, which does not hold root: the group of F8 takes its place",
}
