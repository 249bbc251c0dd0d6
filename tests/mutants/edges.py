"""Guards of the edges: the line to the broker and its words, the queues, the epoch, the records."""

from tests.mutants.guard import Area, Guard


def _guard(name: str, file: str, text: str, without: str, *tests: str) -> Guard:
    return Guard(name, file, text, without, tests, Area.EDGES)


# fmt: off
GUARDS = [
    # The line to the broker.
    _guard("a connection that was idle for long is replaced before the write", "broker_connector/http.py",
           " and time.monotonic() - self.used_at < IDLE_LIMIT", "", "unit/test_http_line.py::"
           "test_a_connection_that_was_idle_for_too_long_is_replaced_before_the_write_and_one_in_use_is_not"),
    _guard("what may no longer be sent is not", "broker_connector/http.py",
           "if _sending.may_send is not None and not _sending.may_send():", "if _sending is None:",
           "unit/test_http_line.py::test_what_may_not_be_sent_is_not_and_the_connection_serves_the_next"),
    _guard("a request that was begun is in doubt", "broker_connector/http.py", "    if not written:\n",
           "    if error:\n",
           "unit/test_broker_outcomes.py::test_only_what_cannot_happen_after_a_write_proves_that_nothing_was_sent"),
    _guard("an exception nobody thought of is doubt", "broker_connector/http.py",
           "return DOUBT.outcome if known is None", "return Outcome.SERVER_DOWN if known is None",
           "unit/test_broker_outcomes.py::test_an_exception_nobody_thought_of_is_doubt"),
    _guard("no redirect is followed", "broker_connector/http.py",
           "retries=False,\n                redirect=False,",
           'retries=__import__("urllib3").Retry(0, redirect=2),\n                redirect=True,',
           "unit/test_http_line.py::test_no_redirect_is_followed"),
    _guard("an order is sent once", "broker_connector/http.py", "retries=False,",
           'retries=__import__("urllib3").Retry(2, redirect=0, allowed_methods=None),',
           "unit/test_http_line.py::test_what_is_not_answered_is_in_doubt_and_not_sent_again"),
    _guard("an answer that is not the broker's own proves nothing", "broker_connector/verdicts.py",
           "if not error_type or verdict.outcome is Outcome.ACCEPTED:", "if verdict.outcome is Outcome.ACCEPTED:",
           "unit/test_broker_outcomes.py::"
           "test_an_answer_that_is_not_the_brokers_own_proves_nothing_whatever_its_status"),
    _guard("a server's error proves nothing", "broker_connector/verdicts.py",
           "return ASK_THE_BODY if HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR else DOUBT",
           "return ASK_THE_BODY", "unit/test_broker_outcomes.py::test_what_an_error_proves"),
    _guard("a refusal that speaks of a timeout is doubt", "broker_connector/kite_errors.py",
           "if verdict.outcome is Outcome.REJECTED and _PERHAPS_PLACED.search(message):",
           "if not message is message:", "unit/test_broker_outcomes.py::test_what_an_error_proves"),
    _guard("no answer holds an exit for long", "broker_connector/kite_errors.py",
           "return min(seconds, LONGEST_PAUSE) if 0 <= seconds < math.inf else None", "return seconds",
           "unit/test_broker_poison.py::test_no_answer_holds_an_exit_for_longer_than_its_backoff"),
    _guard("a row that could be ours fails the book", "broker_connector/kite_book.py",
           "            if _could_be_ours(row, ours):\n                raise\n", "", "property/test_broker_rows.py::"
           "test_an_order_that_could_be_ours_is_read_whole_or_fails_the_book_and_names_its_field"),
    _guard("a row that does not say whose it is could be ours", "broker_connector/kite_book.py",
           "    except Unreadable:\n        return True\n", "    except Unreadable:\n        return False\n",
           "property/test_broker_rows.py::test_a_row_that_does_not_say_whose_it_is_could_be_ours"),
    _guard("our tag is found behind the broker's own", "broker_connector/kite_book.py",
           "tag = main if ours is None or ours(main) else next(filter(ours, others), main)", "tag = main",
           "property/test_broker_rows.py::test_our_tag_behind_the_brokers_own_is_found_and_makes_the_row_ours"),
    _guard("what a position carries over night counts once", "broker_connector/kite_portfolio.py",
           'return quantity - read_field(row, "overnight_quantity", _signed, "position", default=0)',
           "return quantity", "property/test_broker_rows.py::"
           "test_delivery_shares_are_counted_once_whichever_exchange_the_holding_names"),
    _guard("shares sold at the other exchange are gone", "broker_connector/kite_portfolio.py",
           "+ net.units.get(own, 0) + sold_elsewhere)", "+ net.units.get(own, 0))", "property/test_broker_rows.py::"
           "test_shares_sold_at_the_other_exchange_are_gone_and_those_bought_there_today_are_not_here_yet"),
    _guard("a quantity that cannot be read is not nothing", "broker_connector/kite_portfolio.py",
           "        tally.fail(key, error.field)\n", "        pass\n",
           "property/test_broker_rows.py::test_a_quantity_that_cannot_be_read_is_not_nothing"),
    _guard("a read is not tried for long", "broker_connector/reads.py", " | stop_after_delay(READ_WITHIN)", "",
           "unit/test_broker_reads.py::test_once_its_time_is_over_it_is_not_tried_again"),
    _guard("a quantity has a limit", "broker_connector/kite_words.py",
           "if not least <= number <= MOST_UNITS or number != number.to_integral_value():",
           "if not least <= number or number != number.to_integral_value():",
           "unit/test_broker_poison.py::test_a_poisoned_update_is_one_malformed_frame"),
    _guard("a price is a finite number", "broker_connector/kite_words.py", "    if not number.is_finite():\n",
           "    if number is None:\n", "unit/test_broker_poison.py::"
           "test_an_instrument_dump_that_cannot_be_read_is_an_answer_that_did_not_come"),
    # Queues and threads.
    _guard("messages of an instant are all served", "tasks/lane.py",
           "if at is None and does is not None and self._waiting[does]:",
           "if does is not None and self._waiting[does]:",
           "unit/test_tasks_lane.py::"
           "test_what_comes_for_an_instant_is_kept_though_another_alike_waits_for_a_thread"),
    _guard("of two alike that wait one is served", "tasks/lane.py",
           "if at is None and does is not None and self._waiting[does]:",
           "if at is None and does is None and self._waiting[does]:", "unit/test_tasks_lane.py::"
           "test_of_two_alike_that_wait_one_runs_and_what_comes_once_it_has_begun_is_news"),
    _guard("what comes once another has begun is news", "tasks/lane.py",
           "                del self._waiting[job.does]\n", "                pass\n", "unit/test_tasks_lane.py::"
           "test_of_two_alike_that_wait_one_runs_and_what_comes_once_it_has_begun_is_news"),
    _guard("exits have threads no entry can take", "tasks/lane.py",
           "may_enter = bool(entries) and self._entries < self._entry_limit", "may_enter = bool(entries)",
           "unit/test_tasks_lane.py::test_a_thread_that_served_an_exit_takes_no_entry_of_those_that_wait"),
    _guard("no account holds more than its share of the threads", "tasks/shares.py",
           "if self._held[owner] >= self._most:", "if self._most < 0:", "unit/test_tasks_lane.py::"
           "test_an_owner_whose_jobs_hang_leaves_threads_to_others_and_its_own_jobs_follow"),
    _guard("what was put aside follows", "tasks/shares.py", "job = heapq.heappop(waiting) if waiting else None",
           "job = None", "unit/test_tasks_lane.py::"
           "test_an_owner_whose_jobs_hang_leaves_threads_to_others_and_its_own_jobs_follow"),
    _guard("a breach's message tells its reading", "tasks/direct.py", "run(*asked.arguments, **asked.more)",
           "run(*asked.arguments)", "integration/test_direct.py::test_a_message_tells_its_reading_to_its_task"),
    _guard("a task that fails ends no thread of the direct line", "tasks/direct.py",
           '        except Exception:\n            logger.exception("a task failed")\n',
           "        finally:\n            pass\n",
           "integration/test_direct.py::test_a_task_that_fails_and_a_message_that_is_none_end_nothing"),
    _guard("what is no message of ours is told and ends nothing", "tasks/direct.py",
           "        intake.refuse(queue, refusal, raw)\n", "",
           "integration/test_direct.py::test_a_task_that_fails_and_a_message_that_is_none_end_nothing"),
    _guard("a message may not be larger than any of ours", "tasks/intake.py",
           '    _expect(len(raw) <= LARGEST, f"larger than {LARGEST} bytes")\n', "",
           "unit/test_tasks_intake.py::test_what_is_no_message_of_this_engine_is_refused_with_a_short_reason"),
    _guard("a message may not ask for a day far off", "tasks/intake.py",
           "return isinstance(eta, str) and -LAST <= ahead <= NEXT", "return isinstance(eta, str)",
           "unit/test_tasks_intake.py::test_what_is_no_message_of_this_engine_is_refused_with_a_short_reason"),
    _guard("a message may ask for our tasks alone", "tasks/intake.py", "isinstance(task, str) and task in tasks,",
           "isinstance(task, str),",
           "unit/test_tasks_intake.py::test_what_is_no_message_of_this_engine_is_refused_with_a_short_reason"),
    # Epochs and records.
    _guard("an epoch of another start is closed", "engine/runtime/epoch.py", "        if stored[1] != run_id:\n",
           "        if stored is None:\n",
           "integration/test_epoch_guard.py::test_an_epoch_of_another_servers_start_is_closed"),
    _guard("a connection that reaches another server touches nothing", "engine/runtime/epoch.py",
           "if f\"run_id:{epoch.split(':')[1]}\" not in told:", 'if told == "":',
           "integration/test_epoch_guard.py::test_a_connection_that_reaches_another_server_touches_nothing_there"),
    _guard("each epoch reads its server's records from the start", "engine/ledger.py",
           "return stored.stream_id if stored.epoch == epoch else drain.START.stream_id", "return stored.stream_id",
           "integration/test_ledger_epochs.py::test_records_of_a_server_whose_clock_is_behind_are_stored"),
    _guard("records are forgotten only once they are stored", "engine/ledger.py",
           "        stored = self._carrier.apply(parsed, behind)\n",
           "        self._carrier.trim(behind)\n        stored = self._carrier.apply(parsed, behind)\n",
           "unit/test_ledger.py::test_what_could_not_be_stored_is_neither_forgotten_nor_passed_by"),
    _guard("a drainer of an older epoch stores nothing", "models/drain.py", "    if newest > epoch:\n",
           "    if newest > epoch + 10**6:\n",
           "integration/test_models_drain.py::test_a_drainer_of_an_older_epoch_is_fenced_out"),
    _guard("a run never goes back to an older state", "models/drain.py",
           ".where(RunRow.id == new.id, tuple_(RunRow.last_epoch, RunRow.last_seq) < "
           "tuple_(new.last_epoch, new.last_seq))", ".where(RunRow.id == new.id)",
           "integration/test_models_drain.py::test_a_run_never_goes_back_to_an_older_state"),
    _guard("an order never goes back to an older state", "models/drain.py", "where=newer & (new.run == OrderRow.run)",
           "where=new.run == OrderRow.run",
           "integration/test_models_drain.py::test_a_run_never_goes_back_to_an_older_state"),
    _guard("an order id cannot wander to another run", "models/drain.py", "where=newer & (new.run == OrderRow.run)",
           "where=newer", "integration/test_models_drain.py::test_an_order_id_cannot_wander_to_another_run"),
    _guard("what the database refuses does not stop the others", "models/drain.py",
           "            new = _store_singly(session, entries)\n", "            raise\n",
           "integration/test_models_drain.py::"
           "test_what_postgresql_refuses_becomes_a_dead_letter_and_the_rest_is_stored"),
    _guard("a strategy that repeats is not ended by a run", "models/drain.py",
           "            StrategyRow.repeat.is_(None),\n", "",
           "integration/test_models_drain.py::test_the_end_of_a_run_does_not_end_a_strategy_that_repeats"),
]
# fmt: on
