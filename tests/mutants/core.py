"""Guards of what carries decisions out: evidence, readings, the steps of an event, recovery and arming."""

from tests.mutants.guard import Area, Guard


def _guard(name: str, file: str, text: str, without: str, *tests: str) -> Guard:
    return Guard(name, f"engine/{file}.py", text, without, tests, Area.CORE)


# fmt: off
GUARDS = [
    _guard("a server that is swapped while it is waited for is opened under its own name", "recovery",
           "if self._epoch.run_id() != run_id:", "if False:",
           "integration/test_rebuilding.py::"
           "test_a_server_that_is_swapped_once_more_meanwhile_is_opened_under_its_own_name"),
    _guard("a connection that cannot be made is heard of the line", "actions",
           "was_late = bool(sent_at) and sent_at[0] > order.send_by",
           "was_late = not sent_at or sent_at[0] > order.send_by",
           "integration/test_pipeline_answers.py::test_connections_that_are_refused_open_the_breaker"),
    _guard("an order that cannot be canceled is told of, once", "lifecycle",
           "if order.cancels != CANCELS_IN_VAIN + 1:", "if order.cancels:",
           "integration/test_pipeline_standing_orders.py::"
           "test_an_entry_whose_cancel_comes_to_nothing_is_told_of_once"),
    _guard("of several orders under one id the whole book alone tells", "lifecycle",
           " and not order.double_alerted\n", "\n",
           "unit/test_lifecycle.py::test_of_an_order_that_has_a_double_only_the_whole_book_tells_the_end"),
    _guard("an exit whose price is changed in vain is canceled and sent anew", "actions",
           "if quote is None or order.reprices >= REPRICES:", "if quote is None:",
           "integration/test_pipeline_standing_orders.py::"
           "test_an_exit_whose_price_is_changed_in_vain_is_canceled_and_sent_anew"),
    _guard("a quote that cannot be read counts as none once it was asked for twice", "actions",
           "if order.reprices < REPRICES or run.unread_since is not None:", "if order is not None:",
           "integration/test_pipeline_resting_orders.py::"
           "test_an_exit_no_quote_can_be_read_for_is_canceled_and_sent_anew"),
    _guard("an exit rests on while its book cannot be read either", "actions",
           "if order.reprices < REPRICES or run.unread_since is not None:", "if order.reprices < REPRICES:",
           "integration/test_pipeline_resting_orders.py::"
           "test_an_exit_stays_where_it_rests_while_nothing_can_be_read"),
    _guard("where a quote cannot be read the book is asked", "actions", 'f"left: {error}", dirty=True)',
           'f"left: {error}")', "integration/test_pipeline_resting_orders.py::"
           "test_an_exit_stays_where_it_rests_while_nothing_can_be_read"),
    _guard("an exit that is taken back because nobody takes it is told of", "actions",
           "return replace(canceled, note=replace(canceled.note, alerts=alerts))", "return canceled",
           "integration/test_pipeline_standing_orders.py::"
           "test_an_exit_nobody_takes_that_no_quote_can_lower_is_told_of_once"),
    _guard("an order that ended short is settled no sooner than its next attempt is due", "lifecycle",
           "is_told and now.real >= run.settles_from(order):", "is_told:",
           "integration/test_pipeline_unproven.py::"
           "test_a_reading_within_an_exits_pause_does_not_prove_that_it_rests_nowhere"),
    _guard("an exit that was late by itself is followed at once", "actions",
           "if was_late and order.leg is Leg.EXIT:", "if reply is None:",
           "integration/test_pipeline_crashes.py::"
           "test_an_exit_whose_deadline_passed_before_the_write_is_followed_at_once"),
    # What a worker knows outlives a server that refuses.
    _guard("what a worker knows is stored once the live state takes it", "pipeline", "or now >= until:",
           "or now < until:", "integration/test_pipeline_crashes.py::"
           "test_an_answer_is_stored_once_the_live_state_takes_it"),
    _guard("a run is let go of whose step the live state refused", "pipeline",
           "if not isinstance(error, StoreFault):", "if error is None:",
           "integration/test_pipeline_crashes.py::test_a_run_is_let_go_of_once_the_live_state_takes_it"),
    _guard("what was signaled stays in a run that is let go of", "pipeline",
           "replace(holding, evidence=(), consumed=())", "holding", "integration/test_pipeline_crashes.py::"
           "test_a_fill_that_meets_an_account_without_a_slot_is_not_lost"),
    # What is made of evidence.
    _guard("another order under an id of ours is not believed", "lifecycle",
           "if order is None or not (by_book or _is_alone(order, item)):", "if order is None:",
           "unit/test_lifecycle.py::"
           "test_another_order_under_an_id_of_ours_sends_its_run_to_the_book_and_only_the_book_is_believed"),
    _guard("an order called filled whose fills are not told sends its run to the book", "lifecycle",
           "if is_behind(item) and not by_book:", "if at is None:", "integration/test_pipeline_unproven.py::"
           "test_an_order_called_filled_whose_fills_come_later_is_filled_by_its_trades"),
    _guard("an attempt nobody knows sends its run to the book", "lifecycle",
           "            after = replace(after, dirty=True, unread=True)\n            continue\n",
           "            continue\n",
           "unit/test_lifecycle.py::test_evidence_of_an_attempt_the_run_does_not_know_sends_it_to_the_book"),
    _guard("one reading that lacks what is held flags nothing", "lifecycle",
           "if missing <= run.uncovered_told or run.net.at < run.uncovered_since + CONFIRMED_AFTER:",
           "if missing <= run.uncovered_told:", "unit/test_lifecycle.py::"
           "test_only_two_readings_that_are_a_second_apart_say_that_the_account_lacks_what_is_held"),
    _guard("an exit that its account has nothing for is told of", "lifecycle",
           "now.real if is_without and is_exit_due(run, now) else None", "None",
           "integration/test_pipeline_waiting_exits.py::"
           "test_an_exit_that_waits_for_positions_that_lag_is_told_of_after_two_seconds_once"),
    _guard("a run that lacks nothing loses its flag", "lifecycle",
           '(replace(healed, status=RunStatus.ACTIVE, failure=""), ())', "(healed, ())",
           "integration/test_account_pool.py::"
           "test_positions_that_stay_empty_are_alerted_in_two_seconds_and_the_flag_goes_with_them"),
    _guard("what is not covered is told once", "lifecycle", "if missing <= run.uncovered_told or run.net.at",
           "if run.net.at", "integration/test_account_pool.py::test_what_is_covered_is_sold_and_the_rest_alerted"),
    _guard("a run that failed before it lacked something is told of that once", "lifecycle",
           "return replace(flagged, uncovered_told=missing), (", "return flagged, (", "unit/test_lifecycle.py::"
           "test_of_a_run_that_failed_before_it_is_told_once_that_it_is_not_covered_and_once_more_after_it_was"),
    _guard("what fills after an abort is told of", "lifecycle",
           "if is_aborted and before.filled(Leg.ENTRY)", "if before is None and before.filled(Leg.ENTRY)",
           "unit/test_lifecycle.py::test_a_fill_after_an_abort_is_told_of"),
    _guard("an exit that filled ends the trouble of the exits before it", "lifecycle",
           "if not has_sold or after.held <= 0", "if has_sold or after.held <= 0",
           "unit/test_lifecycle.py::test_an_exit_that_filled_ends_the_trouble_of_the_exits_before_it"),
    _guard("where more is not covered than was told, that is told as well", "lifecycle",
           "if missing <= run.uncovered_told or", "if run.uncovered_told or",
           "unit/test_lifecycle.py::test_whoever_was_told_of_one_unit_is_told_of_the_others"),
    _guard("an order of an ended session that the book lacks has expired", "lifecycle",
           "if is_over and now.real >= order.settles_at:", "if now is None:",
           "integration/test_pipeline_unproven.py::"
           "test_an_order_of_an_ended_session_that_the_new_book_lacks_has_expired"),
    _guard("what the book lacks after its session has ended as any other", "lifecycle",
           "routed = apply_ends(learned.run, after, now.real)", "routed = apply_ends(after, after, now.real)",
           "unit/test_lifecycle.py::test_an_exit_that_the_book_lacks_after_its_session_failed_as_any_other"),
    _guard("an order the book showed and lost is in doubt again", "lifecycle", "        elif order.seen:\n",
           "        elif now is None:\n",
           "integration/test_pipeline_unproven.py::test_an_exit_its_book_showed_once_and_lost_is_in_doubt_again"),
    _guard("two orders under one id are told of, once", "lifecycle",
           "if len(found) > 1 and not order.double_alerted:", "if len(found) > 1:",
           "unit/test_lifecycle.py::test_two_orders_under_one_id_are_alerted_once_and_their_fills_added"),
    _guard("an exit nobody takes is told of", "lifecycle",
           "if why != RESTS_TOO_LONG or is_told:", "if order is not None:",
           "integration/test_pipeline_standing_orders.py::test_an_exit_whose_change_is_refused_for_ever_is_told_of"),
    _guard("what ended and was read is not asked for its trades again", "account_reading",
           "if order is not None and order.settled and item.filled_quantity <= order.filled_quantity:",
           "if item is None:", "integration/test_pipeline_standing_orders.py::"
           "test_a_look_at_the_book_costs_no_more_for_every_attempt_that_ended_long_ago"),
    _guard("a position that cannot be read is told of where an exit waits", "actions",
           "if why := unread or untold:", "if why := unread if isinstance(reading, str) else untold:",
           "integration/test_pipeline_standing_orders.py::"
           "test_a_position_row_that_cannot_be_read_is_told_of_where_a_stop_waits"),
    _guard("a price that could not be changed is changed soon", "actions",
           "if reply.outcome is not Outcome.REJECTED or reply.cause is RejectCause.RATE_LIMITED:", "if now is None:",
           "integration/test_pipeline_standing_orders.py::"
           "test_a_stop_that_meets_a_resting_exit_while_the_quote_fails_once_is_priced_in_seconds"),
    _guard("an exit that waits for an unreadable book is told of at once", "lifecycle",
           "limit = EXIT_WAITS_FOR if exit_waits else UNREAD_FOR", "limit = UNREAD_FOR",
           "integration/test_pipeline_unproven.py::"
           "test_an_exit_that_waits_for_an_unreadable_book_is_alerted_at_once"),
    _guard("a refused exit that was replaced is watched on", "lifecycle",
           "if order.leg is leg and order.is_refused_unseen:", "if run is None:",
           "integration/test_pipeline_unproven.py::"
           "test_a_refused_exit_that_turns_up_after_its_replacement_is_canceled_and_alerted"),
    _guard("an order of another run is not adopted", "lifecycle", " or ours[0] != run.id or", " or",
           "unit/test_lifecycle.py::test_an_order_of_another_run_is_not_adopted"),
    _guard("what our own exits sold was not closed elsewhere", "lifecycle",
           "twice = min(run.closed_elsewhere, -run.held)", "twice = 0",
           "unit/test_lifecycle.py::test_what_our_own_exit_sold_was_not_closed_elsewhere"),
    _guard("a position that is left is told of", "lifecycle",
           '    if run.held > 0:\n        return ended, (Alert("critical", "position_left"',
           '    if run.held > 10**9:\n        return ended, (Alert("critical", "position_left"',
           "unit/test_lifecycle.py::test_a_stop_says_what_a_human_must_know"),
    _guard("an order that fills while positions are read is not counted twice", "account_reading",
           "broker.orders() if any(_may_fill(entry, deployment) for entry in book) else book", "book",
           "unit/test_account_reading.py::test_an_entry_that_fills_between_book_and_positions_is_in_both"),
    _guard("an order that ended short is settled by its trades", "account_reading",
           "is_unpriced or ended_short or (order is not None and order.is_unsettled)",
           "is_unpriced", "integration/test_pipeline_unproven.py::"
           "test_a_canceled_entry_whose_trades_tell_of_a_fill_is_not_bought_again"),
    _guard("a fill that is listed twice counts once", "account_reading",
           "{trade.trade_id: trade for trade", "{id(trade): trade for trade", "integration/test_trades_that_lie.py::"
           "test_a_canceled_exit_counts_each_of_its_own_fills_once"),
    _guard("another order's fill among an order's is none of its", "account_reading",
           " if trade.broker_order_id == broker_order_id}", "}", "integration/test_trades_that_lie.py::"
           "test_a_canceled_exit_counts_each_of_its_own_fills_once"),
    _guard("an order fills no more than its quantity", "account_reading",
           "filled = min(traded, max(item.quantity, item.filled_quantity))", "filled = traded",
           "integration/test_trades_that_lie.py::"
           "test_an_exit_sells_no_more_than_its_quantity_whatever_its_trades_tell"),
    _guard("another order's fill is not the first of the entry", "actions",
           "trade in trades_of(broker, order.broker_order_id)]", "trade in broker.trades_of(order.broker_order_id)]",
           "integration/test_trades_that_lie.py::"
           "test_a_breach_before_the_first_of_its_own_fills_does_not_count"),
    _guard("trades that cannot be read hide no book", "account_reading",
           "            except BrokerUnreachable as error:\n                why",
           "            except ZeroDivisionError as error:\n                why",
           "integration/test_trades_that_lie.py::"
           "test_a_canceled_exit_whose_trades_cannot_be_read_is_followed_by_one_for_what_is_proven"),
    _guard("an order whose trades cannot be read is not settled by its book", "lifecycle",
           "is_told = order.client_order_id not in untraded", "is_told = order is not None",
           "integration/test_trades_that_lie.py::"
           "test_what_another_run_of_the_account_holds_proves_nothing_of_a_canceled_exit_without_trades"),
    _guard("that trades cannot be read is told of where an exit waits", "actions", "if why := unread or untold:",
           "if why := unread:", "integration/test_trades_that_lie.py::"
           "test_a_canceled_exit_whose_trades_cannot_be_read_is_followed_by_one_for_what_is_proven"),
    _guard("an exit that waits for trades is not called uncovered", "lifecycle",
           "run.net.quantity + asked_for if", "run.net.quantity if", "integration/test_trades_that_lie.py::"
           "test_a_canceled_exit_whose_trades_cannot_be_read_is_followed_by_one_for_what_is_proven"),
    _guard("a book that lacks what it has shown is no whole one", "actions",
           "if why := why_not_whole(", "if why := turn.run is None and why_not_whole(",
           "integration/test_books_that_lie.py::"
           "test_an_empty_book_beside_a_resting_exit_sends_no_second_one_and_is_told_of"),
    _guard("an order that was shown once is given up late", "lifecycle", "max(grace, SHOWN_GRACE)", "grace",
           "integration/test_books_that_lie.py::test_an_empty_book_beside_a_resting_entry_sends_no_second_one"),
    # The steps of an event.
    _guard("an order whose time has passed is not written", "actions",
           "return sent_at[-1] <= order.send_by", "return True",
           "integration/test_pipeline_crashes.py::test_a_deadline_that_passed_before_the_write_sends_nothing"),
    _guard("a book is dated by when it was asked for", "actions",
           "learned = lifecycle.after_book(adopted, evidence, now,",
           "learned = lifecycle.after_book(adopted, evidence, self._clock.now(),",
           "integration/test_pipeline_answers.py::"
           "test_a_book_asked_for_within_the_grace_proves_no_absence_however_late_it_answers"),
    _guard("positions are dated by when they were asked for", "account_reading",
           "return later, AccountReading(asked_at,", "return later, AccountReading(clock.now().real,",
           "unit/test_account_reading.py::test_it_is_of_the_moment_it_was_asked_for"),
    _guard("an entry is not aborted for one word of a dead token", "actions",
           "return reply if is_dead else replace(reply,", "return reply if reply else replace(reply,",
           "integration/test_pipeline_answers.py::"
           "test_an_entry_is_tried_again_where_no_read_confirms_that_its_token_is_dead"),
    _guard("an exit whose broker asks for a long pause is told of", "actions", "alerts=(*routed.alerts, *waits)",
           "alerts=routed.alerts",
           "integration/test_pipeline_answers.py::test_an_exit_whose_broker_asks_for_a_long_pause_is_told_of"),
    _guard("an exit denied by positions alone has its book read", "actions",
           "if denied.by is DeniedBy.COVER and turn.run.net is None:", "if denied.by is None:",
           "integration/test_account_pool.py::"
           "test_what_only_positions_have_shown_to_be_less_is_sold_after_a_look_at_the_book"),
    _guard("a cancel that is refused makes the book be asked", "actions",
           "after = replace(asked, dirty=turn.run.dirty or doubtful)", "after = asked",
           "integration/test_pipeline_answers.py::"
           "test_a_cancellation_refused_because_the_order_filled_adopts_the_fill"),
    _guard("a modification that is refused makes the book be asked", "actions",
           "reprice, reply.outcome, dirty=True)",
           "reprice, reply.outcome)", "integration/test_pipeline_unproven.py::"
           "test_an_exit_whose_new_price_is_refused_is_looked_up_at_once"),
    _guard("an exit at the lowest price keeps its place in the queue", "actions",
           "if quote is not None and rests_at_the_lowest(order, quote):", "if broker is None:",
           "integration/test_pipeline_unproven.py::test_an_exit_that_rests_is_lowered_once_and_keeps_its_place"),
    _guard("a late answer of ours says nothing of the broker", "actions", "if was_late or (heard_of", "if (heard_of",
           "integration/test_pipeline_crashes.py::test_a_deadline_that_passed_before_the_write_sends_nothing"),
    _guard("a cancel that is not answered does not keep the run", "actions", ", lets_go=unanswered)", ")",
           "integration/test_pipeline_sick_broker.py::test_a_cancel_that_is_not_answered_lets_go_of_the_run"),
    _guard("a thread goes on with one run for a bounded time", "pipeline", " or now.real - began > HOLDS_FOR", "",
           "integration/test_pipeline_sick_broker.py::test_a_thread_goes_on_with_one_run_for_a_bounded_time"),
    _guard("only an order locks what was glanced at", "pipeline",
           "if holding.glanced_at and not isinstance(decision, Submit):", "if began is None:",
           "integration/test_glance.py::test_what_is_no_order_is_not_done_at_a_glance"),
    # The account, compared all the time.
    _guard("more fills in the book are news", "reconcile",
           "told = (entry.evidence.status, entry.evidence.filled_quantity, entry.evidence.average_price)",
           "told = (entry.evidence.status, 0, entry.evidence.average_price)",
           "unit/test_reconcile.py::test_every_further_fill_at_the_same_price_is_told"),
    _guard("a price that was not known is news", "reconcile",
           "told = (entry.evidence.status, entry.evidence.filled_quantity, entry.evidence.average_price)",
           "told = (entry.evidence.status, entry.evidence.filled_quantity, Decimal(0))",
           "unit/test_reconcile.py::test_a_price_that_was_not_known_at_the_fill_is_told_when_it_is"),
    _guard("what was held is dated by when it was asked for", "reconcile",
           "AccountReading(asked_at, positions, begun=begun)",
           "AccountReading(self._clock.now().real, positions, begun=begun)",
           "unit/test_reconcile.py::test_what_is_held_is_dated_by_when_it_was_asked_for"),
    _guard("an account that cannot be read is told of", "reconcile", "if known.told or now - since < UNREADABLE_FOR:",
           "if now is not None:", "unit/test_reconcile.py"),
    _guard("no account's stream speaks of another's run", "orderstream",
           "if self._store.account_of(ours[0]) not in (account, None):", "if ours is None:",
           "integration/test_poison_feeds.py::test_no_accounts_stream_can_speak_of_another_accounts_run"),
    # Recovery and arming.
    _guard("a rebuilt run is not believed before its book was read", "recovery",
           "self._arm(replace(adopted, dirty=True))", "self._arm(adopted)", "integration/test_recovery.py"),
    _guard("what was on the wire when the server went is waited for", "recovery", "            sleep_until(until)\n",
           "", "integration/test_recovery.py::"
           "test_a_flushed_redis_is_rebuilt_under_the_next_epoch_with_the_book_adopted"),
    _guard("the wait is that of the slowest broker", "bootstrap",
           "SEND_WITHIN + max(broker.profile.settles_after for broker in BROKERS.values()),", "timedelta(0),",
           "integration/test_recovery.py::test_a_recoverer_as_it_is_composed_waits_for_the_slowest_broker"),
    _guard("what was recorded is stored before runs are rebuilt", "recovery", "        self._durable.drain(n)\n", "",
           "integration/test_recovery.py", "integration/test_ledger_epochs.py"),
    _guard("nothing of the old state is kept", "recovery", "        self._store.forget_runs()\n", "",
           "integration/test_recovery.py"),
    _guard("accounts are written to a new server", "recovery", "        self._accounts.clear()\n", "",
           "integration/test_recovery.py::"
           "test_a_flushed_redis_is_rebuilt_under_the_next_epoch_with_the_book_adopted"),
    _guard("runs are armed anew on a new server", "recovery", "        self._armed.clear()\n", "",
           "integration/test_recovery.py::"
           "test_a_flushed_redis_is_rebuilt_under_the_next_epoch_with_the_book_adopted"),
    _guard("an account whose book cannot be read stays down", "recovery",
           "                self._down.heard(account, str(answer))\n",
           "                answer = []\n                count += sum(map(self._arm, waiting.pop(account)))\n",
           "integration/test_recovery.py"),
    _guard("no second run is made while one may hold", "arming",
           "        if earlier is not None:\n            # Two open",
           "        if times is None:\n            # Two open", "unit/test_recovery_arming.py",
           "integration/test_recovery.py"),
    _guard("a run left holding goes on in the next session", "overnight",
           "self._store.prolong(holder.run_id, closes_at, now.real)", '""',
           "integration/test_left_overnight.py::test_it_is_sold_while_postgresql_is_away"),
    _guard("what was left over night needs no PostgreSQL", "processes/sweeper", "            overnight.look()\n", "",
           "integration/test_rounds_of_processes.py::"
           "test_the_sweeper_gives_what_was_left_over_night_its_session_without_postgresql"),
    _guard("what the operator says of the calendar is kept beside the runs", "processes/recoverer",
           "            word.keep(days)\n", "", "integration/test_rounds_of_processes.py::"
           "test_the_recoverer_keeps_what_the_operator_says_of_the_calendar"),
    _guard("a live state that takes no writes is told of", "processes/recoverer",
           "        watch.takes_writes()\n", "", "integration/test_rounds_of_processes.py::"
           "test_a_redis_that_only_refuses_writes_is_told_to_every_tenant"),
    _guard("a rebuilding that takes its time is told of", "processes/recoverer",
           "partial(_wait_closed, outage, shared.real)", "shared.real.sleep_until",
           "integration/test_rounds_of_processes.py::"
           "test_a_rebuilding_that_takes_its_time_is_told_to_every_tenant"),
    _guard("the recoverer follows a clock that is set right", "processes/recoverer",
           "    bootstrap.watch_clock(shared)\n", "", "integration/test_rounds_of_processes.py::"
           "test_a_clock_that_was_wrong_as_its_process_started_is_right_again"),
    _guard("the sweeper follows a clock that is set right", "processes/sweeper",
           "    bootstrap.watch_clock(shared)\n", "", "integration/test_rounds_of_processes.py::"
           "test_a_clock_that_was_wrong_as_its_process_started_is_right_again"),
    _guard("a run that holds nothing holds nobody back unsaid", "arming",
           "if _may_hold(earlier) or self._clock.now().market >= times.buy_at - NEAR:", "if _may_hold(earlier):",
           "unit/test_recovery_arming.py::"
           "test_a_strategy_held_back_by_a_run_that_holds_nothing_is_told_of_as_its_time_is_near"),
    _guard("a date that passed while an earlier run was open has no run of its own", "arming",
           "            if open_run is None:\n", "            if open_run is None or self:\n",
           "integration/test_nobody_untold.py::"
           "test_a_date_on_which_an_earlier_run_was_held_is_told_once_as_held_back_and_has_no_run"),
    _guard("a date that passed while an earlier run was held is told as held back", "arming",
           "elif _may_hold(open_run) or not", "elif not",
           "integration/test_nobody_untold.py::"
           "test_a_date_on_which_an_earlier_run_was_held_is_told_once_as_held_back_and_has_no_run"),
    _guard("a date that an idle run held back is missed once that has ended", "arming",
           "self._looked_on, self._passed = day, self._left", "self._looked_on, self._passed = day, []",
           "integration/test_nobody_untold.py::"
           "test_a_date_that_passed_while_an_idle_run_was_open_is_missed_once_that_one_has_ended"),
    _guard("a last date that was held back is told", "arming", " or not any(each.strategy.dates(day)):", ":",
           "integration/test_nobody_untold.py::"
           "test_a_last_date_that_passed_while_an_earlier_run_was_open_is_told_though_no_run_can_follow"),
    _guard("a recoverer that restarts alone asks no book of what lives", "recovery",
           "if self._store.account_of(run.id) is None:", "if run.id:", "integration/test_rebuilding.py::"
           "test_a_recoverer_that_restarts_alone_asks_no_book_of_what_lives"),
    _guard("nothing goes on by a calendar nobody told of", "overnight", "if not self._learn():",
           "if self._learn() is None:", "integration/test_left_overnight.py::"
           "test_it_waits_for_a_word_on_the_calendar_and_goes_on_with_the_one_it_knew"),
    _guard("an exit that waits for a login is due when there is one", "recovery",
           "                self._try_again(account)\n", "                pass\n", "integration/test_recovery.py"),
    _guard("a symbol that is gone is told of", "arming", "            elif run.strategy.symbol not in listed:\n",
           "            elif run is None:\n", "unit/test_recovery_arming.py"),
    _guard("a recoverer that another replaced opens nothing", "recovery",
           "if not holds() or self._durable.epoch() != (n, run_id):", "if n is None:",
           "integration/test_rebuilding.py::test_a_recoverer_that_another_replaced_while_it_waited_opens_nothing"),
    _guard("a call under way is waited for until its own deadline", "recovery",
           "*(min(each, went_at + LONGEST_WAIT) for each in known), went_at)", "went_at)",
           "integration/test_rebuilding.py::test_calls_under_way_are_waited_for_from_their_own_deadline"),
    _guard("a deadline of a wrong clock is not waited for", "recovery", "min(each, went_at + LONGEST_WAIT)", "each",
           "integration/test_rebuilding.py::test_calls_under_way_are_waited_for_from_their_own_deadline"),
    _guard("whoever holds what cannot be read hears of it as it is swept", "runtime/store",
           "                self.unreadable(name, str(error))\n", "", "integration/test_store_upkeep.py::"
           "test_a_run_that_cannot_be_read_and_may_hold_something_is_told_to_its_tenant_once"),
    _guard("what cannot be read and holds nothing alarms nobody", "runtime/store", "if may_hold(stored):", "if stored:",
           "integration/test_store_upkeep.py::"
           "test_a_run_that_cannot_be_read_and_may_hold_something_is_told_to_its_tenant_once"),
    _guard("whoever holds what a worker cannot read hears of it", "pipeline",
           "            self._store.unreadable(str(event.run_id), str(error))\n", "",
           "integration/test_pipeline_day.py::"
           "test_a_worker_that_cannot_read_a_run_that_holds_something_tells_its_tenant_once"),
    _guard("a run that cannot be read keeps nobody untold", "blindness",
           "with suppress(CorruptState):", "with suppress(KeyError):", "integration/test_feeds_by_market.py::"
           "test_a_run_that_cannot_be_read_keeps_nobody_from_being_told_of_a_dead_feed"),
    _guard("a live state that is away is told of", "store_outage",
           'if not self.notice(why) or "" in self._known():', "if self.notice(why):",
           "unit/test_store_outage.py::"
           "test_who_holds_or_may_hold_something_and_the_operator_are_told_once_and_when_it_is_over"),
    _guard("a lost live state is told of though PostgreSQL ended its rebuilding", "processes/recoverer",
           "watch.why_away() if isinstance(error, SQLAlchemyError) else first_line(error)",
           '"" if isinstance(error, SQLAlchemyError) else first_line(error)',
           "integration/test_both_servers_away.py::"
           "test_an_empty_redis_is_told_of_while_postgresql_ends_every_drain"),
    _guard("how long Redis is away counts while PostgreSQL is away", "processes/recoverer",
           "            outage.notice(why)\n", "            pass\n", "integration/test_both_servers_away.py::"
           "test_how_long_redis_is_away_counts_while_postgresql_is_away_too"),
    _guard("a rebuilding waits for nobody who must be told", "processes/recoverer",
           "with suppress(SQLAlchemyError):", "with suppress(KeyError):", "integration/test_both_servers_away.py::"
           "test_a_rebuilding_goes_on_though_postgresql_ends_what_tells_of_it"),
    _guard("whoever takes over knows who was told", "store_outage",
           "self._told = self._rows.told_last(AWAY, BACK)", "self._told = set()",
           "integration/test_both_servers_away.py::test_who_takes_over_knows_who_was_told"),
    _guard("where both servers are away the log tells", "store_outage", "if not self._is_logged:",
           "if self._since is None:", "unit/test_store_outage.py::test_where_postgresql_is_away_too_the_log_tells"),
    _guard("an outage that ended untold is over", "store_outage",
           "        self._since, self._is_logged = None, False\n", "        self._is_logged = False\n",
           "unit/test_store_outage.py::"
           "test_an_outage_that_ended_while_nobody_could_be_told_makes_the_next_no_longer"),
    _guard("an account that is back is told of though Redis failed", "accountsdown",
           "known = self._known.get(account.id)", "known = self._known.pop(account.id, None)",
           "integration/test_rebuilding.py::"
           "test_what_redis_could_not_be_told_of_an_account_is_told_once_it_can"),
    _guard("an account's new login is told its runs though PostgreSQL failed", "recovery",
           "            if known is not None and known.version != account.version:\n",
           "            self._accounts[account.id] = account\n"
           "            if known is not None and known.version != account.version:\n",
           "integration/test_recovery.py::test_an_exit_that_waits_for_a_token_is_due_as_soon_as_there_is_one"),
    _guard("an account sealed with another key is as one never logged in", "brokers",
           "except InvalidToken:", "except KeyError:", "integration/test_models_repositories.py::"
           "test_accounts_are_told_though_one_was_sealed_with_another_key"),
    _guard("a session nobody vouches for ends no recoverer", "rescheduling",
           "except UnconfirmedYear as error:", "except KeyError as error:", "unit/test_rescheduling.py::"
           "test_a_special_session_taken_back_in_a_year_nobody_vouches_for_leaves_the_times_as_they_are"),
    _guard("a list that takes its time keeps nobody waiting", "recovery",
           "threads=min(threads, DUMPS_AT_ONCE)", "threads=0",
           "integration/test_dripping_lists.py::test_what_another_tenant_holds_is_armed"),
    _guard("arming that broke off is taken up again", "recovery",
           "            self._all_armed = False\n            self._durable", "            self._durable",
           "integration/test_rebuilding.py::test_arming_that_broke_off_is_taken_up_again"),
    _guard("a missed day is stored before its strategy is ended", "recovery",
           "        self._create(missed)\n", "        due_of = missed\n", "integration/test_nobody_untold.py::"
           "test_a_missed_day_whose_row_the_history_refused_once_is_told_of_all_the_same"),
    _guard("an account that stays down is told of", "recovery",
           "            self._down.look(self._accounts[account], runs, now)\n", "            pass\n",
           "integration/test_rebuilding.py::"
           "test_an_account_that_stays_down_is_told_of_once_and_again_when_it_is_back"),
    _guard("one that cannot be armed in time is told of", "arming",
           "        if times.is_canceled or now.market < times.buy_at - NEAR:\n            return None\n",
           "        return None\n", "integration/test_nobody_untold.py"),
    _guard("a date that passed unarmed is told of", "arming", "            if fits or strategy.repeat is None:\n",
           "            if strategy is None:\n", "integration/test_nobody_untold.py"),
    # Feeds.
    _guard("a feed whose ticks all are old is not vouched for", "listener",
           "return now - self._old_since >= LAGS_FOR and now - self._old_at <= FLOWS_WITHIN", "return False",
           "integration/test_listener.py::test_a_feed_whose_ticks_all_are_old_lags_until_one_is_of_now"),
    _guard("while the store is away the low of each symbol is kept", "listener",
           "lows([*self._missed.get(symbol, []), *own])", "[own[-1]]", "integration/test_listener.py::"
           "test_while_the_store_is_away_the_low_of_each_symbol_is_kept_and_played_back"),
    _guard("ticks the store did not take are kept", "listener",
           "            self._is_away = True\n            self._keep(ticks)\n", "            self._is_away = True\n",
           "integration/test_listener.py::"
           "test_while_the_store_is_away_the_low_of_each_symbol_is_kept_and_played_back"),
    _guard("one symbol's broken state holds no other back", "listener",
           "latched, alone = 0, alone | _by_symbol(ticks)", "latched = 0", "integration/test_redis_refuses.py::"
           "test_what_one_symbols_state_breaks_holds_no_other_symbol_back_and_is_told_once"),
    _guard("a feed refused for what it is counts as dead", "listener", "return refused | self._faulty",
           "return self._faulty", "integration/test_listener.py::"
           "test_a_feed_whose_stamps_are_an_hour_ahead_is_not_believed_and_said_to_be_unreadable"),
    _guard("a clock that is slow is allowed for", "listener", "believed = guard.judge(tick, self._lead.shifted(now))",
           "believed = guard.judge(tick, now)",
           "integration/test_listener.py::test_a_clock_that_is_slow_refuses_a_whole_feed_for_seconds_only"),
    _guard("nothing is judged blind before a listener could say what lives", "blindness",
           "if not self._store.may_judge(market):", "if self._store is None:",
           "integration/test_feeds_by_market.py::"
           "test_after_the_live_state_was_away_nobody_is_told_before_a_listener_had_its_chance"),
    _guard("a quiet symbol is deaf only by a later trade at another price", "deafness",
           "word.price != last[1] and (last[2] is None or word.at >= last[2])", "True", "unit/test_deafness.py::"
           "test_only_a_later_trade_at_another_price_was_missed"),
    _guard("a packet that tells no price leaves its symbol quiet", "deafness",
           "if price == 0 and symbol in self._last:", "if price < 0:",
           "unit/test_deafness.py::test_packets_that_tell_no_price_leave_the_symbol_to_be_asked_about"),
    _guard("a packet that was on its way clears its line", "deafness", " and self._last[symbol][0] < asked_at}", "}",
           "unit/test_deafness.py::test_a_packet_that_came_since_the_question_clears_its_symbol"),
    _guard("a line that only beats proves no symbol", "deafness", "for symbol in symbols if symbol in self._last]",
           "for symbol in symbols]", "integration/test_poison_feeds.py::"
           "test_a_line_that_only_beats_vouches_for_no_symbol"),
    _guard("a renamed symbol has the prices of its token", "processes/marketfeed", "        self._also = also\n", "",
           "integration/test_poison_feeds.py::"
           "test_a_renamed_symbol_that_keeps_its_token_is_watched_under_both_names"),
    _guard("a token that went to another symbol prices the one that is gone no more", "processes/marketfeed",
           "                self._listed.pop(symbol)\n", "", "integration/test_poison_feeds.py::"
           "test_a_token_that_went_to_another_symbol_prices_the_one_that_is_gone_no_more"),
    _guard("a stronger cause that cannot be met is given up", "actions",
           "reprice.exit_reason is not None and order.reprices > REPRICES", "False",
           "integration/test_pipeline_resting_orders.py::"
           "test_a_stop_that_meets_an_exit_while_nothing_can_be_read_leaves_the_run_looked_after"),
    _guard("one refused tick proves no dead feed", "listener",
           "return guard.refused_at - guard.unreadable_since >= UNREADABLE_FOR", "return True",
           "integration/test_listener.py::test_one_refused_tick_of_a_symbol_that_is_quiet_then_proves_no_dead_feed"),
    _guard("what nobody has a run of makes room", "processes/marketfeed", "if no_room and (unwanted :=",
           "if not no_room and (unwanted :=", "integration/test_poison_feeds.py::"
           "test_a_symbol_that_nobody_has_a_run_of_makes_room_for_another_and_goes_for_no_other_reason"),
    _guard("who holds what is blind is told", "blindness", "if each.is_blind:", "if each is None:",
           "integration/test_feeds_by_market.py::"
           "test_each_tenant_whose_position_is_blind_is_told_once_and_again_when_it_is_over"),
    _guard("a dump that shrank is not believed", "instruments",
           "if found and len(found) >= SHRUNK * len(shelf.listed):", "if found:",
           "unit/test_instruments.py::test_an_empty_or_shrunken_dump_is_refused_and_yesterdays_kept"),
    _guard("an empty dump is not believed", "instruments", "if found and len(found) >= SHRUNK",
           "if len(found) >= SHRUNK",
           "unit/test_instruments.py::test_a_dump_of_a_header_alone_is_none_where_nothing_is_known"),
    _guard("a missing symbol has the dump read again", "instruments",
           " or any(symbol not in shelf.listed for symbol in wanted)", "",
           "unit/test_instruments.py::test_a_missing_symbol_has_it_read_again_but_not_all_the_time"),
]
# fmt: on
