"""
The security requirements by number and words, and the tests that prove them.

S1 to S5 supervisord · S6 to S11 secrets · S12 to S16 data and SQL · S17 to S21 rendering
S22 to S24 terminal and logs · S25 to S27 files · S28, S29 XML · S30, S31 web page
S32, S33 least privilege · S34 to S40 supply chain and source
"""

from __future__ import annotations

BAD = "tests/badinput/"
CONTRACT_PUT = "tests/contract/test_put.py::"
MANAGER = "tests/manager/"
QUEUE = "tests/queue/"
SECURITY = "tests/security/"
SUPERVISOR = "tests/supervisor/"
WORKER_PROCESS = "tests/worker/test_worker_process.py::"

CANARY = SECURITY + "test_secrets.py::test_no_secret_comes_out_anywhere"
PRIVATE_SECRET = WORKER_PROCESS + "test_a_secret_that_everybody_can_read_is_refused"

# number: (words, tests)
ITEMS: dict[str, tuple[str, tuple[str, ...]]] = {
    "S1": (
        "a private socket in a private folder",
        (
            SECURITY + "test_ini.py::test_a_folder_of_any_name_makes_a_main_file_or_is_refused",
            SECURITY + "test_races.py::test_a_place_for_a_socket_that_somebody_made_first_is_refused",
            SECURITY + "test_races.py::test_nobody_else_reaches_the_socket_of_a_private_supervisord",
        ),
    ),
    "S3": (
        "a supervisord without known holes",
        (
            SECURITY + "test_versions.py::test_this_environment_has_none_of_the_known_holes",
            BAD + "test_supervisord.py::test_a_bad_supervisord_gets_nothing_written",
        ),
    ),
    # A worker's umask is the manifest's to choose (supervisor = { umask = … }), and not 027 by itself.
    "S4": (
        "safe settings, always",
        (
            MANAGER + "test_render.py::test_safe_settings_are_always_there",
            SECURITY + "test_ini.py::test_a_folder_of_any_name_makes_a_main_file_or_is_refused",
        ),
    ),
    "S5": (
        "a clean environment",
        (SUPERVISOR + "test_private.py::test_children_get_a_clean_environment", CANARY),
    ),
    "S6": ("secrets by file, credential or variable, never rendered", (CANARY, PRIVATE_SECRET)),
    "S7": ("the mode of a secret's file", (PRIVATE_SECRET,)),
    "S8": (
        "no secret in any output",
        (CANARY, BAD + "test_any_source.py::test_no_message_shows_any_part_of_a_password"),
    ),
    # Not PR_SET_DUMPABLE: it would hide a worker from its own user's py-spy, gdb and `fleet status`.
    "S9": ("no core files", (WORKER_PROCESS + "test_a_process_with_secrets_leaves_no_core",)),
    "S10": (
        "as few rights in the database as will do",
        (
            QUEUE + "postgres/test_tables.py::test_a_missing_right_is_told_with_the_grant_that_gives_it",
            QUEUE + "mysql/test_tables.py::test_a_missing_right_is_told_as_the_grant_that_mends_it",
        ),
    ),
    # Another host that is not verified is told by `queue info` and doctor, not refused: networks of one's
    # own are common.
    "S11": (
        "the server is who its certificate says",
        (
            BAD + "test_servers.py::test_s11_postgresql_is_who_its_certificate_says",
            BAD + "test_servers.py::test_s11_mariadb_is_who_its_certificate_says",
        ),
    ),
    "S12": (
        "data stays data",
        (SECURITY + "test_source.py::test_nothing_is_unpickled_evaluated_or_given_to_a_shell",),
    ),
    # ruff's S608 forbids SQL in f-strings outside of the back ends.
    "S13": (
        "no text is read as SQL",
        (
            QUEUE + "mysql/test_values.py::test_no_text_is_ever_read_as_sql",
            BAD + "test_sources.py::test_q1_only_plain_names_reach_sql",
        ),
    ),
    "S14": (
        "libraries without known holes",
        (
            SECURITY + "test_versions.py::test_an_open_hole_cannot_be_installed_with_fleet",
            SECURITY + "test_versions.py::test_doctor_tells_of_an_old_library_and_what_mends_it",
        ),
    ),
    "S15": ("payloads are bytes", (CONTRACT_PUT + "test_any_bytes_come_back_as_they_were_put",)),
    "S16": (
        "a beanstalkd that is open to others is told",
        (
            QUEUE + "beanstalkd/test_server.py::test_a_server_of_another_host_is_told_to_be_open",
            QUEUE + "beanstalkd/test_server.py::test_doctor_tells_of_an_open_server",
        ),
    ),
    "S17": (
        "a value without a filter fails",
        (MANAGER + "test_render.py::test_a_template_that_reaches_too_far_fails",),
    ),
    "S18": (
        "two outcomes: it arrives, or it is refused",
        (SECURITY + "test_ini.py::test_every_text_of_a_manifest_arrives_or_is_refused",),
    ),
    "S19": (
        "templates stay in their sandbox",
        (BAD + "test_manifest.py::test_m34_a_bad_template_is_an_error_with_its_line",),
    ),
    "S20": (
        "the output is what was meant",
        (MANAGER + "test_render.py::test_values_of_the_manifest_arrive_in_the_process",),
    ),
    "S21": (
        "supervisord's own parser has the last word",
        (
            MANAGER + "test_apply.py::test_files_that_the_daemon_refuses_after_all_are_taken_back",
            SUPERVISOR + "test_parser.py::test_code_that_a_file_names_is_not_imported",
        ),
    ),
    "S22": (
        "nothing steers a terminal",
        (SECURITY + "test_terminal.py::test_no_command_passes_an_escape_on",),
    ),
    "S23": ("markup stays text", (SECURITY + "test_terminal.py::test_no_command_passes_an_escape_on",)),
    "S24": (
        "log lines that cannot be forged",
        (
            "tests/worker/test_log.py::test_text_lines_can_be_split_again",
            "tests/worker/test_log.py::test_json_lines_hold_the_detail_too",
        ),
    ),
    "S25": (
        "links and strangers in the way of a file",
        (
            SECURITY + "test_races.py::test_a_link_that_flickers_in_a_files_place_is_never_followed",
            MANAGER + "test_files.py::test_a_folder_in_everybodys_reach_is_refused",
        ),
    ),
    "S26": (
        "private folders, and locks that cannot be traps",
        (
            SUPERVISOR + "test_private.py::test_the_state_folder_is_private_and_ignored_by_git",
            SECURITY + "test_races.py::test_a_lock_behind_a_link_is_refused_and_its_target_kept",
        ),
    ),
    "S27": ("modes of files", (SECURITY + "test_races.py::test_modes_do_not_depend_on_the_umask",)),
    "S28": (
        "XML that costs too much",
        (SECURITY + "test_xml.py::test_an_answer_that_is_too_much_is_refused",),
    ),
    "S29": (
        "replies have a form",
        (SUPERVISOR + "test_hostile_server.py::test_a_hostile_server_ends_in_a_clear_error_in_time",),
    ),
    # Not no_new_privs, which would take sendmail and sudo away from handlers: docs/worker.md.
    "S33": (
        "a worker keeps nothing of root",
        (MANAGER + "test_system_place.py::test_a_process_of_another_user_keeps_nothing_of_root",),
    ),
    "S34": ("a worker stands on little", (WORKER_PROCESS + "test_a_worker_is_lean",)),
    "S37": (
        "what may not stand in the source",
        (SECURITY + "test_source.py::test_nothing_is_unpickled_evaluated_or_given_to_a_shell",),
    ),
    "S38": (
        "commands are lists of words",
        (SECURITY + "test_source.py::test_every_child_process_has_a_list_of_words",),
    ),
    "S39": (
        "no fault injection is shipped",
        (SECURITY + "test_source.py::test_no_fault_injection_is_shipped",),
    ),
    "S40": (
        "limits",
        (
            CONTRACT_PUT + "test_the_largest_payload_fits_and_one_byte_more_is_refused",
            BAD + "test_manifest.py::test_m38_five_thousand_and_one_pipelines_are_refused_in_two_seconds",
            BAD + "test_supervisord.py::test_x13_more_processes_than_anybody_has_are_refused",
            SUPERVISOR + "test_logfile.py::test_a_line_without_end_is_cut",
        ),
    ),
}

# What has no test, and why.
WITHOUT: dict[str, str] = {
    "S2": "fleet renders no inet_http_server, and one that somebody else made is his to guard",
    "S30 S31": "fleet serves no page; the one that it writes has no script and no action",
    "S32": "the unit that starts supervisord is the operator's",
    "S35 S36": "how a release is made, which no test of a checkout can see",
}
