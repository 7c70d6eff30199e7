"""Mutation proof of the order path and its gates: each fault that is planted here must make a named test fail.

Belongs here: the list of faults and the run over it. Does not: the tests that find them.

`make mutations` copies the tree, plants one fault at a time, runs the tests named for it and prints the table that
docs/proof.md keeps. A fault that no test finds ends the run with an error. `tests/house/test_mutations.py` sees to it
that every fault can still be planted and that every named test exists.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
TREES = ("octopus", "octopus_pipelines", "assets", "resources", "config", "tests", "dbt_project")
ENGINE = "resources/execution_engine.py"
STORE = "resources/warehouse/order_store.py"
STEPS = "resources/warehouse/migrations/versions/0034_order_steps.py"
BOOKS = "resources/warehouse/account_books.py"
APPROVAL = "octopus/execution/approval.py"
STATES = "octopus/execution/states.py"
ALPACA = "resources/brokers/alpaca.py"
ANSWERS = "resources/brokers/answers.py"
PAPER = "resources/brokers/paper.py"
REPLACEMENTS = "octopus/execution/replacements.py"
STANDING = "octopus/execution/standing.py"
_ENGINE_TESTS = "tests/execution/test_execution_engine.py::"
_SWITCH_TESTS = "tests/execution/test_kill_switch.py::"
_STATE_TESTS = "tests/execution/test_order_states.py::"
_REPLACE_TESTS = "tests/execution/test_replacements.py::"
_PAPER_TESTS = "tests/execution/test_paper_broker.py::"
_ALPACA_TESTS = "tests/execution/test_alpaca_broker.py::"
_CUT_TEST = "tests/execution/test_execution_crashes.py::test_a_worker_that_ends_around_a_send"
_RISK_TESTS = "tests/risk/test_risk_gate.py::"
_COMPLIANCE_TESTS = "tests/compliance/test_compliance_gate.py::"
_SETTINGS_FUZZ = "tests/house/test_settings_fuzz.py::test_what_could_be_read_in_two_ways_is_refused"
_STORY_TESTS = "tests/execution/test_order_story.py::"
_STANDING_TESTS = "tests/execution/test_standing.py::"
_REVISION_TEST = (
    "tests/execution/test_fill_revisions.py::test_fills_and_revisions_in_any_order_and_any_number_give_one_book"
)
_CHAIN_TESTS = "tests/compliance/test_audit_chain.py::"


class MutationError(Exception):
    """A fault cannot be planted, or no test finds it; the message names it."""


@dataclass(frozen=True)
class Mutation:
    """A fault.

    Attributes:
        name: what goes wrong, in a few words.
        where: the file, or a folder in which one file has the text.
        old, new: the text, which stands there once, and what it becomes.
        test: the test that must fail.
    """

    name: str
    where: str
    old: str
    new: str
    test: str

    def file(self, root: Path = ROOT) -> Path:
        """The file to change.

        Raises:
            MutationError: the text is not there, or not once.
        """
        place = root / self.where
        files = sorted(place.rglob("*.py")) if place.is_dir() else [place]
        found = [(path, count) for path in files if (count := path.read_text(encoding="utf-8").count(self.old))]
        if [count for _, count in found] != [1]:
            raise MutationError(f"{self.name}: its text stands {sum(c for _, c in found)} times in {self.where}")
        return found[0][0]


MUTATIONS = (
    # The order of commits and sends.
    Mutation(
        "sends before `submitting` is committed",
        ENGINE,
        """        quantity = self.store.begin_send(
            claim, order_id, event, self.clock.now(), judged_under=state, swaps=self._swaps_at_once,
            alone=order.bracket is None and order.intent_id not in stored.swaps, exits_are_messages=in_many,
        )  # fmt: skip
        self.store.drain_outbox(self.audit, just_sent=True)
        return self._ask(order_id, replace(order, quantity=quantity), stored)
""",
        """        answer = self._ask(order_id, order, stored)
        self.store.begin_send(
            claim, order_id, event, self.clock.now(), judged_under=state, swaps=self._swaps_at_once,
            alone=order.bracket is None and order.intent_id not in stored.swaps, exits_are_messages=in_many,
        )  # fmt: skip
        self.store.drain_outbox(self.audit, just_sent=True)
        return answer
""",
        _CUT_TEST,
    ),
    Mutation(
        "`submitting` of an entry and its exits is not committed",
        STORE,
        """            sent = self._apply(order_id, event, now, detail, sent_under=claim.fence)
""",
        """            sent = self._status(order_id)
""",
        "tests/execution/test_bracket_orders.py::test_an_entry_and_its_exits_go_through_the_whole_path",
    ),
    Mutation(
        "an order may be sent a second time",
        STATES,
        "Event.SEND: {_S.APPROVED: _S.SUBMITTING},",
        "Event.SEND: {_S.APPROVED: _S.SUBMITTING, _S.SUBMITTING: _S.SUBMITTING},",
        _ENGINE_TESTS + "test_an_order_is_never_sent_twice_even_under_a_valid_fence",
    ),
    Mutation(
        "a fence that is not the last one sends",
        STEPS,
        "where account = of_account and fence = under and expires_at",
        "where account = of_account and fence >= under and expires_at",
        _ENGINE_TESTS + "test_a_worker_with_an_old_fence_or_an_expired_lease_cannot_send",
    ),
    Mutation(
        "a lease that ran out sends",
        STEPS,
        " and expires_at > clock_timestamp();",
        ";",
        _ENGINE_TESTS + "test_a_worker_with_an_old_fence_or_an_expired_lease_cannot_send",
    ),
    Mutation(
        "the statement that sends moves no order",
        STEPS,
        "sending, state_before, 0, 0, null, state_after,",
        "sending, state_before, 0, 0, null, state_before,",
        _ENGINE_TESTS + "test_a_batch_is_executed_booked_and_reconciled",
    ),
    Mutation(
        "the statement that sends needs no lease",
        STEPS,
        "if not execution.renew_lease(of_account, under, seconds) then",
        "if execution.renew_lease(of_account, under, seconds) is null then",
        _ENGINE_TESTS + "test_a_worker_with_an_old_fence_or_an_expired_lease_cannot_send",
    ),
    Mutation(
        "the statement that sends does not look at the kill switch",
        STEPS,
        "if look.state is distinct from judged_under or not look.here",
        "if not look.here",
        _SWITCH_TESTS
        + "test_what_opens_risk_stays_back_when_the_switch_is_turned_between_its_judgement_and_its_commit",
    ),
    Mutation(
        "the statement that sends does not look at the halt file",
        STORE,
        'if self._with_halt_file(TradingStatus(judged_under, "")).state is not judged_under:',
        "if False:",
        _SWITCH_TESTS + "test_a_halt_file_that_is_written_after_an_order_was_judged_keeps_it_back",
    ),
    Mutation(
        "the statement that sends does not look at which database it is in",
        STEPS,
        " or not look.here or look.replaces",
        " or look.replaces",
        _ENGINE_TESTS + "test_a_database_that_was_restored_since_an_order_was_judged_sends_nothing",
    ),
    Mutation(
        "the statement that sends takes a replacement for an order of its own",
        STEPS,
        "or look.replaces is not null",
        "",
        _REPLACE_TESTS + "test_the_store_sends_no_replacement_while_the_order_may_fill",
    ),
    Mutation(
        "the statement that sends does not look at frozen instruments",
        STEPS,
        "or look.freezing is not null ",
        "",
        _ENGINE_TESTS + "test_a_frozen_instrument_is_refused_in_the_transaction_that_sends",
    ),
    Mutation(
        "the statement that sends does not look for a newer batch",
        STEPS,
        " or look.successor is not null",
        "",
        _ENGINE_TESTS + "test_a_batch_that_is_superseded_while_it_is_sent_stops",
    ),
    Mutation(
        "what waits is told although the chain ends elsewhere",
        STEPS,
        "is distinct from at_end then",
        "is distinct from at_end and false then",
        "tests/execution/test_audit_store.py::test_what_waits_is_told_once_though_another_tells_meanwhile",
    ),
    Mutation(
        "an order leaves before the log was told of it",
        STORE,
        "rows = seen if seen and just_sent else self._waiting()",
        "rows = seen if just_sent else self._waiting()",
        "tests/execution/test_bracket_orders.py::test_the_log_is_told_of_a_send_before_the_broker_hears_of_the_order",
    ),
    Mutation(
        "an entry leaves and its exits stay approved",
        STEPS,
        """ where i.client_order_id = sending
                and not exists (select from execution.order_intents x where x.exit_of = i.intent_id);""",
        " where i.client_order_id = sending;",
        "tests/execution/test_bracket_orders.py::test_the_store_sends_exits_with_their_entry_whoever_asks_it",
    ),
    Mutation(
        "an order moves whatever it has become",
        STEPS,
        "where o.client_order_id = moving and o.state = state_before and o.filled_quantity = filled_before",
        "where o.client_order_id = moving",
        _ENGINE_TESTS + "test_a_fill_that_is_booked_before_the_answer_to_its_send_stays",
    ),
    Mutation(
        "a late answer moves an order that another worker has sent again",
        STEPS,
        " and o.fence = coalesce(sent_under, o.fence)",
        "",
        _ENGINE_TESTS + "test_a_late_refusal_says_nothing_of_the_second_send_that_is_on_its_way",
    ),
    Mutation(
        "a denial needs no fence",
        STORE,
        """            self._renew_lease(claim)
            row = self._row(""",
        """            row = self._row(""",
        _ENGINE_TESTS + "test_a_worker_that_was_overtaken_takes_no_approval_back",
    ),
    Mutation(
        "a later claim cancels what is being sent",
        STORE,
        " and not approved and self._status(order_id).state is OrderState.APPROVED:",
        " and not approved:",
        _ENGINE_TESTS + "test_a_worker_that_was_overtaken_takes_no_approval_back",
    ),
    Mutation(
        "what is being sent is voided",
        STORE,
        "if self._status(order.client_order_id).state is not OrderState.APPROVED:",
        "if False:",
        _ENGINE_TESTS + "test_nothing_is_voided_while_it_is_being_sent",
    ),
    Mutation(
        "no account lock",
        STORE,
        'while not _scalar(holder, "select pg_try_advisory_lock(%s)", [key]):',
        "while False:",
        _ENGINE_TESTS + "test_while_one_worker_holds_the_account_another_is_told_so",
    ),
    # What stops a send.
    Mutation(
        "the kill switch does not count in the transaction that claims or sends",
        STORE,
        "if row is None or status.state is TradingState.HALTED:",
        "if row is None:",
        _ENGINE_TESTS + "test_the_kill_switch_counts_in_the_transaction_that_claims_or_sends",
    ),
    Mutation(
        "an order leaves in another trading state than it was judged under",
        STORE,
        "        if status.state is not judged_under:",
        "        if False:",
        _SWITCH_TESTS
        + "test_what_opens_risk_stays_back_when_the_switch_is_turned_between_its_judgement_and_its_commit",
    ),
    Mutation(
        "a trading state that is over denies an order",
        STORE,
        "            self._require_state(claim.account, row, judged_under)\n",
        "",
        _SWITCH_TESTS + "test_a_state_that_is_over_denies_no_order",
    ),
    Mutation(
        "what may open risk is sent again while trading only reduces",
        ENGINE,
        "        return state if reducing_orders([order], seen) else None",
        "        return state",
        _SWITCH_TESTS + "test_an_order_of_unknown_outcome_is_sent_again_while_trading_only_reduces_if_it_reduces",
    ),
    Mutation(
        "the halt file does not count for who only looks",
        "resources/trading_state.py",
        "halts=halt_file(settings)",
        "halts=None",
        "tests/execution/test_batch_day.py::test_the_plan_tells_of_a_halt_that_is_in_the_file_alone",
    ),
    Mutation(
        "what a halt kept back is lost once the books were compared",
        "octopus_pipelines/sensors/execution.py",
        "and not waits and _is_reconciled",
        "and _is_reconciled",
        "tests/execution/test_batch_day.py::"
        "test_a_halt_lets_a_batch_that_was_begun_be_followed_and_keeps_what_was_not_sent",
    ),
    Mutation(
        "a frozen instrument is sent",
        STORE,
        'if row["freezing"]:',
        "if False:",
        _ENGINE_TESTS + "test_a_frozen_instrument_is_refused_in_the_transaction_that_sends",
    ),
    Mutation(
        "a superseded batch is sent",
        STORE,
        'if row["successor"]:',
        "if False:",
        _ENGINE_TESTS + "test_a_batch_that_is_superseded_while_it_is_sent_stops",
    ),
    Mutation(
        "a restored database trades on",
        STORE,
        'if not row["here"]:',
        "if False:",
        _ENGINE_TESTS + "test_a_restored_database_starts_halted_and_its_approvals_are_void",
    ),
    Mutation(
        "the window's last instant is too late by one",
        ENGINE,
        """        closes = min(send_by(batch.expires_at, order.order_type) for order in orders)
        if not batch.not_before <= now < closes:""",
        """        closes = min(send_by(batch.expires_at, order.order_type) for order in orders)
        if not batch.not_before <= now <= closes:""",
        _ENGINE_TESTS + "test_outside_its_window_a_batch_is_refused",
    ),
    Mutation(
        "the window may close between two orders",
        ENGINE,
        """        closes = send_by(batch.expires_at, order.order_type)
        if not batch.not_before <= now < closes:""",
        """        closes = send_by(batch.expires_at, order.order_type)
        if now < batch.not_before:""",
        _ENGINE_TESTS + "test_a_window_that_closes_between_two_orders_stops_the_rest",
    ),
    Mutation(
        "orders leave in the venue's last minutes",
        "octopus/execution/window.py",
        "OrderType.MARKET_ON_CLOSE: timedelta(minutes=10)",
        "OrderType.MARKET_ON_CLOSE: timedelta(minutes=0)",
        _ENGINE_TESTS + "test_outside_its_window_a_batch_is_refused",
    ),
    Mutation(
        "an old snapshot is judged with",
        ENGINE,
        "        if age > self.settings.max_snapshot_age:\n",
        "        if age < timedelta(0):\n",
        _ENGINE_TESTS + "test_a_stale_snapshot_is_refused",
    ),
    Mutation(
        "a snapshot may grow old between two orders",
        ENGINE,
        "        if self._is_old(claim):\n",
        "        if False:\n",
        _ENGINE_TESTS + "test_no_order_leaves_on_a_snapshot_that_grew_old_the_rest_is_judged_on_a_fresh_one",
    ),
    Mutation(
        "what a venue did not take is left",
        ENGINE,
        "if is_resumed or (is_due and self._is_kept_back(batch)):",
        "if is_resumed:",
        "tests/execution/test_sending_on.py::"
        "test_what_a_venue_did_not_take_is_sent_while_the_run_waits_for_the_auction",
    ),
    Mutation(
        "a venue that takes nothing is asked without a pause",
        ENGINE,
        "is_due = tried is None or now >= tried + self.settings.retry_interval",
        "is_due = True",
        "tests/execution/test_sending_on.py::"
        "test_a_venue_that_takes_nothing_more_is_asked_twice_in_a_minute_until_the_window_closes",
    ),
    Mutation(
        "what a halt keeps back is tried again by itself",
        ENGINE,
        "return left and self.store.trading_status(account).state is not TradingState.HALTED",
        "return left",
        "tests/execution/test_sending_on.py::test_what_a_halt_keeps_back_is_not_tried_again_by_itself",
    ),
    Mutation(
        "another account's snapshot is judged with",
        ENGINE,
        "if snapshot.account != batch.account:",
        "if False:",
        _ENGINE_TESTS + "test_a_snapshot_of_another_account_is_refused",
    ),
    Mutation(
        "limits are not judged again before each order",
        ENGINE,
        "self._resends_under(claim, order) if resend else self._approved_under(claim, stored, order)",
        "self._state(claim.account)",
        _ENGINE_TESTS + "test_limits_are_judged_again_before_each_order",
    ),
    Mutation(
        "what was sent does not count against limits",
        ENGINE,
        "if (o.state in UNRESOLVED or o.batch_id == claim.batch_id) and",
        "if o.state in UNRESOLVED and",
        _ENGINE_TESTS + "test_limits_are_judged_again_before_each_order",
    ),
    Mutation(
        "an unknown order does not count as filled",
        ENGINE,
        "seen = with_open_orders(snapshot, _open_orders(unresolved))",
        "seen = snapshot",
        _ENGINE_TESTS + "test_an_unknown_order_freezes_its_instrument_and_counts_as_filled",
    ),
    Mutation(
        "an open order counts twice",
        APPROVAL,
        "if order.client_order_id not in listed and order.remaining > 0",
        "if order.remaining > 0",
        "tests/execution/test_approval.py::test_an_order_that_the_broker_lists_counts_once",
    ),
    # Who approves.
    Mutation(
        "one gate's approval is enough",
        APPROVAL,
        "and all(order.intent_id in approved",
        "and any(order.intent_id in approved",
        _ENGINE_TESTS + "test_denials_are_stored_and_no_gate_at_all_approves_nothing",
    ),
    Mutation(
        "no gate at all approves everything",
        APPROVAL,
        "        if approved_by_all\n        and order",
        "        if order",
        _ENGINE_TESTS + "test_denials_are_stored_and_no_gate_at_all_approves_nothing",
    ),
    Mutation(
        "the risk gate keeps nothing to judge it by again",
        "octopus/risk/gate.py",
        "return replace(_judged(case), evidence=GateEvidence(case))",
        "return _judged(case)",
        _STORY_TESTS + "test_an_allowed_and_a_denied_order_are_told_with_all_that_was_judged",
    ),
    Mutation(
        "returns that were altered are judged by again",
        "octopus/risk/evidence.py",
        "if fingerprint(returns) != told.kept_as:",
        "if not told.kept_as:",
        _STORY_TESTS + "test_a_record_that_was_altered_is_seen_through",
    ),
    Mutation(
        "research's denial is forgotten",
        APPROVAL,
        "if order.intent_id in research_denials:",
        "if False:",
        _ENGINE_TESTS + "test_what_research_denied_stays_denied",
    ),
    Mutation(
        "buys go before sells",
        APPROVAL,
        "(order.side is Side.BUY, order.instrument)",
        "(order.side is Side.SELL, order.instrument)",
        _ENGINE_TESTS + "test_sells_go_first_and_pay_for_the_buys_of_the_same_auction",
    ),
    Mutation(
        "an order that turns a position round reduces it",
        "octopus/core/orders.py",
        "taken.is_finite() and taken <= held",
        "taken.is_finite() and -order.quantity <= held",
        "tests/core/test_reducing_orders.py::test_an_order_reduces_only_down_to_nothing",
    ),
    Mutation(
        "a price that moves is a fill",
        "resources/brokers/answers.py",
        "price: Decimal | None = field(default=None, compare=False)",
        "price: Decimal | None = field(default=None)",
        "tests/execution/test_alpaca_broker.py::test_prices_that_move_between_two_reads_are_no_fills",
    ),
    Mutation(
        "a slice goes beside one that stands",
        "octopus/execution/schedules.py",
        "    return any(child.remaining for child in children)",
        "    return False",
        "tests/execution/test_order_schedules.py::"
        "test_whatever_fills_and_stops_filling_one_child_stands_at_most_and_is_no_larger_than_a_slice",
    ),
    Mutation(
        "risk: the account is worth what it was at the close",
        "octopus/risk/book.py",
        "    quoted = quoted_price(instrument, snapshot)\n    if quoted is None:",
        "    quoted = None\n    if quoted is None:",
        "tests/risk/test_account_marks.py::test_a_fall_since_the_close_stops_the_account",
    ),
    Mutation(
        "risk: one session without a bar bars an instrument for two years",
        "octopus/risk/return_window.py",
        "HOLES_MAX = 0.1",
        "HOLES_MAX = 0.0",
        "tests/risk/test_reductions.py::test_sessions_without_a_bar_between_two_bars_count_as_zero_and_are_told",
    ),
    # What a send came to.
    Mutation(
        "a venue with a tag alone is sent an order again",
        ENGINE,
        "return self.broker.guarantee is Guarantee.IDEMPOTENT_KEY",
        "return self.broker.guarantee is not Guarantee.NOTHING",
        _ENGINE_TESTS + "test_another_venue_is_never_sent_an_order_twice",
    ),
    Mutation(
        "a late refusal ends an order that was sent again",
        STORE,
        "if of_send not in (None, held.fence):",
        "if of_send == 0:",
        _ENGINE_TESTS + "test_an_answer_that_an_overtaken_worker_hears_late_ends_no_order_that_was_sent_again",
    ),
    Mutation(
        "a second send's refusal ends the first",
        ENGINE,
        "isinstance(answer, OrderRejectedError) and not resent:",
        "isinstance(answer, OrderRejectedError):",
        _ENGINE_TESTS + "test_a_second_send_that_is_refused_does_not_hide_the_first",
    ),
    Mutation(
        "a second send that did not leave means the first did not",
        ENGINE,
        "Event.UNCERTAIN if resent else Event.NOT_SENT",
        "Event.NOT_SENT",
        _ENGINE_TESTS + "test_a_second_send_that_is_refused_does_not_hide_the_first",
    ),
    Mutation(
        "an unknown order is given up before it has expired",
        ENGINE,
        "return self.clock.now() >= order.expires_at + self.settings.absent_grace",
        "return True",
        _ENGINE_TESTS + "test_another_venue_is_never_sent_an_order_twice",
    ),
    Mutation(
        "an unsent order is void one moment late",
        STORE,
        "if now >= order.expires_at:",
        "if now > order.expires_at:",
        _ENGINE_TESTS + "test_a_halted_batch_is_void_when_its_window_has_passed",
    ),
    # Replacing orders.
    Mutation(
        "a replacement is sent while the order before it may fill",
        STORE,
        "if old.state not in TERMINAL:",
        "if old.state in UNRESOLVED:",
        _REPLACE_TESTS + "test_the_store_sends_no_replacement_while_the_order_may_fill",
    ),
    Mutation(
        "what fills on the way out is filled again",
        STORE,
        'rest = min(row["approved"], row["quantity"] - max(old.filled, old.net_filled))',
        'rest = row["approved"]',
        _REPLACE_TESTS + "test_elsewhere_the_old_order_ends_before_the_rest_is_sent",
    ),
    Mutation(
        "the smaller of an order and its replacement is judged",
        REPLACEMENTS,
        "quantity=max(order.quantity, live[order.intent_id].old.remaining)",
        "quantity=min(order.quantity, live[order.intent_id].old.remaining)",
        _REPLACE_TESTS + "test_the_gates_judge_the_worse_of_the_two_in_the_old_ones_place",
    ),
    Mutation(
        "an order counts beside its replacement",
        REPLACEMENTS,
        "if one.client_order_id not in gone)",
        "if one.client_order_id or gone)",
        _REPLACE_TESTS + "test_what_is_judged_is_never_less_than_either_order",
    ),
    Mutation(
        "an order is cancelled for a replacement that a gate denied",
        ENGINE,
        "if swap.new is not None and swap.is_fresh and not swap.has_way:",
        "if not swap.has_way:",
        _REPLACE_TESTS + "test_what_a_gate_denies_leaves_the_old_order_alone",
    ),
    Mutation(
        "a cancelled order comes back as its replacement",
        STORE,
        """                if swap.is_fresh:
                    self._settle(""",
        """                if swap.has_way:
                    self._settle(""",
        _REPLACE_TESTS + "test_cancelling_an_order_withdraws_what_was_to_take_its_place",
    ),
    Mutation(
        "a venue that replaces in one step is sent another order",
        ENGINE,
        "if swap is not None and isinstance(self.broker, ReplacingBroker):",
        "if swap is None and isinstance(self.broker, ReplacingBroker):",
        _REPLACE_TESTS + "test_a_limit_is_moved_and_the_replacement_fills_at_the_close",
    ),
    Mutation(
        "the paper broker lets a replaced order stand",
        PAPER,
        "ledger.end_working(replaced, OrderState.REPLACED,",
        "ledger.end_working(changed.instrument, OrderState.REPLACED,",
        _REPLACE_TESTS + "test_a_limit_is_moved_and_the_replacement_fills_at_the_close",
    ),
    Mutation(
        "the paper broker ends an order whose replacement it refuses",
        PAPER,
        "if received.state is not OrderState.REJECTED:",
        "if received.client_order_id:",
        _REPLACE_TESTS + "test_where_the_venue_refuses_the_old_order_stands",
    ),
    # Fills and books.
    Mutation(
        "an order ends before its fills are booked",
        ENGINE,
        "if report.state in _ENDS and report.filled_quantity <= max(status.filled, status.net_filled):",
        "if report.state in _ENDS:",
        _ENGINE_TESTS + "test_an_order_does_not_end_before_all_its_fills_are_booked",
    ),
    Mutation(
        "a fill told twice counts twice",
        STATES,
        "if execution.fill_id in status.fill_ids:",
        "if False:",
        _STATE_TESTS + "test_reports_in_any_order_and_any_number_give_one_end",
    ),
    Mutation(
        "an order with its last share filled is open",
        STATES,
        "if filled >= status.quantity:",
        "if filled > status.quantity:",
        _STATE_TESTS + "test_reports_in_any_order_and_any_number_give_one_end",
    ),
    Mutation(
        "a fill after the end is lost",
        STATES,
        "    filled = status.filled + execution.quantity\n",
        "    if status.state in TERMINAL:\n        return status\n    filled = status.filled + execution.quantity\n",
        _STATE_TESTS + "test_a_fill_after_the_cancel_counts_and_a_fill_of_an_unsent_order_is_not_lost",
    ),
    Mutation(
        "a fill of a struck session goes into it",
        BOOKS,
        "return session if struck is None else max(session, struck + timedelta(days=1))",
        "return session",
        _ENGINE_TESTS + "test_a_fill_that_comes_after_its_sessions_nav_is_booked_in_the_next",
    ),
    Mutation(
        "a break in cash does not halt",
        "resources/bookkeeping.py",
        "        BreakKind.CASH,\n",
        "",
        _ENGINE_TESTS + "test_a_planted_break_is_found_classified_and_halts_what_it_must",
    ),
    Mutation(
        "the books are not compared before a batch",
        "resources/execution_engine.py",
        "        if compares:\n",
        "        if False:\n",
        _ENGINE_TESTS + "test_what_differs_before_a_batch_keeps_it_from_being_sent",
    ),
    Mutation(
        "what a person booked is booked again when our data hears of it",
        "octopus/execution/corrections.py",
        "base = of_ours if sample.kind.is_action else sample.entry_id.partition(AMENDS)[0]",
        "base = sample.entry_id.partition(AMENDS)[0]",
        "tests/execution/test_breaks_command.py::test_a_split_that_a_person_booked_is_not_booked_again",
    ),
    Mutation(
        "a cent is no break",
        "octopus/execution/reconcile.py",
        "if abs(rest) >= tolerance:",
        "if abs(rest) > tolerance:",
        "tests/execution/test_reconcile_books.py::test_cash_without_a_record_and_its_tolerance",
    ),
    Mutation(
        "an event is not told to the audit log",
        STEPS,
        "insert into execution.outbox (kind, subject, payload) values (kind, moving, record);",
        "",
        _CUT_TEST,
    ),
    Mutation(
        "the chain's links are not looked at",
        "octopus/compliance/audit.py",
        "if entry.prev_hash != head.hash:",
        "if False:",
        _CHAIN_TESTS + "test_a_replaced_entry_that_was_sealed_again_breaks_the_link_or_the_head",
    ),
    # The adapters.
    Mutation(
        "alpaca-py sends again by itself",
        ALPACA,
        "            client._retry = 0\n",
        "            client._retry_wait = 0\n",
        _ALPACA_TESTS + "test_a_send_is_made_once_and_comes_to_exactly_one_outcome",
    ),
    Mutation(
        "a gateway's page means not sent",
        ANSWERS,
        "not failure.sent or failure.status == 429 or",
        "not failure.sent or failure.status in (429, 504) or",
        _ALPACA_TESTS + "test_a_send_is_made_once_and_comes_to_exactly_one_outcome",
    ),
    Mutation(
        "an order of another's under our id is taken for ours",
        ANSWERS,
        "if not found.is_of(request):",
        "if False:",
        _ALPACA_TESTS + "test_a_second_send_under_one_id_gives_the_first_order",
    ),
    Mutation(
        "a gateway's page refuses an order",
        ANSWERS,
        "failure.status in refused and failure.own:",
        "failure.status in refused:",
        "tests/execution/test_spoiled_answers.py::test_a_gateways_page_refuses_no_order_and_loses_none",
    ),
    Mutation(
        "the paper broker books a repetition",
        PAPER,
        "            if known is None:\n                request.require_in_time(self.name, ledger.now)\n"
        "                known = self._receive(ledger, request)",
        "            known = self._receive(ledger, request)",
        _PAPER_TESTS + "test_the_same_client_order_id_is_the_same_order",
    ),
    Mutation(
        "the paper broker sees tomorrow's auction",
        PAPER,
        "                if after < at <= until:",
        "                if after < at:",
        _PAPER_TESTS + "test_nothing_later_than_the_clock_is_seen",
    ),
    Mutation(
        "the paper broker lets cash go below nothing",
        PAPER,
        "return Decimal(1) if need <= cash else max(cash, Decimal(0)) / need",
        "return Decimal(1)",
        _PAPER_TESTS + "test_a_gap_scales_all_buys_down_by_one_factor",
    ),
    Mutation(
        "the paper broker fills a limit order that was sent during the session by what the session did before",
        PAPER,
        "            and order.accepted_at < opened\n",
        "",
        _PAPER_TESTS + "test_a_limit_order_that_stood_at_the_open_fills_at_its_limit_where_the_session_reaches_it",
    ),
    Mutation(
        "a limit is rounded against the trader",
        "octopus/core/limit_orders.py",
        "ROUND_FLOOR if side is Side.BUY else ROUND_CEILING",
        "ROUND_CEILING if side is Side.BUY else ROUND_FLOOR",
        "tests/backtest/test_two_engines.py::test_the_limits_of_a_backtest_are_those_of_the_plan",
    ),
    # The gates: wherever in their packages the text stands.
    Mutation(
        "risk: a halted account trades",
        "octopus/risk",
        "    if case.state == TradingState.ACTIVE:",
        "    if case.state != TradingState.REDUCING:",
        _RISK_TESTS + "test_halted_denies_all_and_reducing_lets_a_sale_of_what_is_held_through",
    ),
    Mutation(
        "risk: a snapshot from after now passes",
        "octopus/risk",
        '    if age < 0:\n        return deny_all(case, rule, "the account snapshot',
        '    if False:\n        return deny_all(case, rule, "the account snapshot',
        _RISK_TESTS + "test_an_old_or_future_or_foreign_snapshot_denies_all",
    ),
    Mutation(
        "risk: the price collar is off by one",
        "octopus/risk",
        "distance <= most",
        "distance < most",
        _RISK_TESTS + "test_price_collar_is_inclusive_and_two_sided",
    ),
    Mutation(
        "risk: an order's largest value is off by one",
        "octopus/risk",
        "return notional <= limit,",
        "return notional < limit,",
        _RISK_TESTS + "test_order_notional_takes_the_dearer_price",
    ),
    Mutation(
        "risk: a loss at its stop does not stop",
        "octopus/risk",
        "    return loss > Decimal(str(limit))",
        "    return loss > 1",
        _RISK_TESTS + "test_a_loss_beyond_its_stop_lets_only_reductions_pass",
    ),
    Mutation(
        "compliance: a restricted name passes",
        "octopus/compliance/checks.py",
        "found.append(Finding(order, True, since))",
        "found.append(Finding(order, order.side is Side.BUY, since))",
        _COMPLIANCE_TESTS + "test_a_restricted_name_is_denied_in_both_directions_while_it_is_listed",
    ),
    Mutation(
        "compliance: one share too many may be sold",
        "octopus/compliance/checks.py",
        "    if short <= 0:",
        "    if short <= 1:",
        _COMPLIANCE_TESTS + "test_a_long_only_account_sells_what_it_holds_and_no_more",
    ),
    Mutation(
        "compliance: our own open order is no rival",
        "octopus/compliance/checks.py",
        "if working.remaining > 0:",
        "if working.remaining > 10**9:",
        _COMPLIANCE_TESTS + "test_opposite_sides_of_one_name_deny_each_other",
    ),
    Mutation(
        "compliance: open orders do not count for a position's limit",
        "octopus/compliance/checks.py",
        "ends.get(key, held + self.snapshot.working(*key))",
        "ends.get(key, held)",
        _COMPLIANCE_TESTS + "test_position_limit_in_shares_counts_open_orders_and_lets_reductions_pass",
    ),
    Mutation(
        "compliance: one order too many",
        "octopus/compliance/checks.py",
        "Finding(None, count > limit,",
        "Finding(None, count > limit + 1,",
        _COMPLIANCE_TESTS + "test_too_many_orders_are_an_error_and_none_passes",
    ),
    Mutation(
        "compliance: a batch is sent before its window",
        "octopus/compliance/checks.py",
        "if context.sending and case.now < batch.not_before:",
        "if False:",
        _COMPLIANCE_TESTS + "test_a_batch_is_sent_only_within_its_session",
    ),
    Mutation(
        "risk: sales do not turn anything over",
        "octopus/risk/constraints.py",
        "    return lot.bought + lot.sold",
        "    return lot.bought",
        _RISK_TESTS + "test_turnover_leaves_reductions_for_last",
    ),
    Mutation(
        "risk: slices of one instrument do not count together for its volume",
        "octopus/risk/order_rules.py",
        "asked[name] = asked.get(name, _NOTHING) + order.quantity",
        "asked[name] = order.quantity",
        "tests/risk/test_gates_fuzz.py::test_slices_of_one_instrument_count_together_for_its_volume",
    ),
    Mutation(
        "risk: a position beyond its limit is passed over",
        "octopus/risk/constraints.py",
        "if is_beyond(values[name], bound_usd):",
        "if is_beyond(values[name], 2 * bound_usd):",
        "tests/risk/test_each_limit.py::test_at_the_limit_passes_and_one_step_beyond_is_denied",
    ),
    Mutation(
        "risk: what was left out weighs on in the exposures",
        "octopus/risk/constraints.py",
        "        elif self._removals:",
        "        elif False:",
        _RISK_TESTS + "test_gross_leaves_out_the_smallest_order_that_cures_the_breach",
    ),
    Mutation(
        "risk: what was left out weighs on in the losses",
        "octopus/risk/constraints.py",
        "        del self._sums[min(rows) // _BLOCK :]\n",
        "",
        _RISK_TESTS + "test_loss_limits_leave_out_what_adds_the_loss",
    ),
    Mutation(
        "risk: an order that just cures a breach is not chosen",
        "octopus/risk/constraints.py",
        "amounts >= _least_float(excess)",
        "amounts > _least_float(excess)",
        "tests/risk/test_choice.py::test_the_smallest_that_cures_or_else_the_largest_is_chosen",
    ),
    Mutation(
        "compliance: a denial of the batch denies no order",
        "octopus/compliance/gate.py",
        "if order is None and broken is Outcome.DENY:",
        "if False:",
        _COMPLIANCE_TESTS + "test_too_many_orders_are_an_error_and_none_passes",
    ),
    # Approvals that stand.
    Mutation(
        "an approval stands for ever",
        STANDING,
        "if not self.since <= now < self.until:",
        "if now < self.since:",
        _STANDING_TESTS + "test_it_stands_for_nothing_else",
    ),
    Mutation(
        "an approval stands though an order of it was refused",
        STANDING,
        "return found == expected and len(found) == len(snapshot.open_orders)",
        "return found.items() <= expected.items() and len(found) == len(snapshot.open_orders)",
        _STANDING_TESTS + "test_it_stands_for_nothing_else",
    ),
    Mutation(
        "a batch with a denial stands",
        "resources/gates.py",
        "return lasting and approved and not beyond",
        "return lasting and not beyond",
        _STANDING_TESTS + "test_no_batch_with_a_denial_stands",
    ),
    # What is told of an account besides the fills of our orders.
    Mutation(
        "holdings are adopted after orders of ours have filled",
        "octopus/execution/adoption.py",
        "    if ours.fills:",
        "    if False:",
        "tests/execution/test_adoption.py::test_holdings_are_the_opening_of_the_book_once",
    ),
    Mutation(
        "what is adopted has cost nothing",
        "octopus/execution/adoption.py",
        "(quantity * theirs.costs[name]).quantize(_STEP)",
        "Decimal(0)",
        "tests/execution/test_adoption.py::test_after_adoption_our_book_is_the_brokers",
    ),
    Mutation(
        "an order leaves for Interactive Brokers after the close",
        "resources/brokers/ib.py",
        "            request.require_in_time(NAME, now, there - now)\n",
        "",
        "tests/execution/test_ib_broker.py::test_nothing_is_sent_after_the_close_for_which_it_is_meant",
    ),
    Mutation(
        "a venue that has closed by its own clock is sent orders",
        "resources/brokers/base.py",
        "there = now + max(ahead, timedelta(0))",
        "there = now",
        "tests/execution/test_clock_skew.py::test_nothing_comes_to_a_venue_after_its_close",
    ),
    Mutation(
        "a fill that a slower clock dates before the adoption is lost",
        "resources/bookkeeping.py",
        "self._since(account) - _CLOCKS_APART",
        "self._since(account)",
        "tests/execution/test_clock_skew.py::"
        "test_what_fills_right_after_an_adoption_is_booked_though_the_venue_dates_it_before",
    ),
    Mutation(
        "a token that Schwab takes no longer is kept",
        "resources/brokers/schwab.py",
        "                self._distrust_token()\n",
        "                pass\n",
        "tests/execution/test_schwab_broker.py::test_a_token_that_only_our_clock_holds_for_good_is_renewed_once",
    ),
    Mutation(
        "a trade that Interactive Brokers' report cancels counts",
        "resources/brokers/flex.py",
        'if row.get("transactionType") in ("TradeCancel", "FracShareCancel"):',
        'if row.get("transactionType") == "FracShareCancel":',
        "tests/execution/test_flex_reports.py::test_trades_count_in_their_last_version_and_a_cancelled_one_does_not",
    ),
    Mutation(
        "a revision that was overtaken counts",
        BOOKS,
        'overtaken = before is not None and before["number"] > revision.number',
        "overtaken = False",
        _REVISION_TEST,
    ),
    Mutation(
        "a revision that was told before its fill is lost",
        BOOKS,
        "            if counting is not None:\n",
        "            if False:\n",
        _REVISION_TEST,
    ),
    Mutation(
        "the paper broker trades at a bar that a verdict keeps out",
        "resources/warehouse/prices.py",
        "            excluded or close is null, decision, finding_id, decided_by",
        "            false, decision, finding_id, decided_by",
        "tests/execution/test_account_actions.py::test_no_verdict_is_traded_against",
    ),
    Mutation(
        "settings: of two values of a limit the last one counts",
        "resources/plain_yaml.py",
        "                    if (key.tag, key.value) in seen:",
        "                    if False:",
        _SETTINGS_FUZZ,
    ),
    Mutation(
        "settings: yes is a number",
        "resources/plain_yaml.py",
        "if isinstance(written, bool) and read is not None and not isinstance(read, bool):",
        "if False:",
        _SETTINGS_FUZZ,
    ),
    # What lasts, and what stops.
    Mutation(
        "a difference in what is told no more has no name",
        "resources/bookkeeping.py",
        "*tolerances, self._carried(account, since))",
        "*tolerances)",
        "tests/execution/test_lasting_breaks.py::test_a_dividend_that_is_paid_weeks_later_halts_nothing",
    ),
    Mutation(
        "a child arrives at the price of the day's last attempt",
        STORE,
        " and a.claimed_at <= coalesce(o.submitted_at, 'infinity')",
        "",
        "tests/execution/test_scheduled_orders.py::test_each_child_arrives_at_the_price_of_its_own_moment",
    ),
    Mutation(
        "a cancel that a venue refuses keeps the books from being kept",
        ENGINE,
        "                self.store.tell_uncancelled(account, str(error), self.clock.now())",
        "                raise error",
        "tests/execution/test_halt_file.py::test_an_order_that_cannot_be_cancelled_keeps_the_books_from_nothing",
    ),
    Mutation(
        "a cancel that Alpaca refuses counts",
        ALPACA,
        "if _order(after).state not in TERMINAL and after",
        "if False and after",
        _ALPACA_TESTS + "test_a_cancel_that_is_refused_while_the_order_stands_is_an_error",
    ),
    Mutation(
        "an execution of a negative price at Interactive Brokers is a fill",
        "resources/brokers/ib.py",
        """_price_of_one(contract, _FIELDS.positive(vars(told), "price")) if shares""",
        """_price_of_one(contract, Decimal(str(told.price))) if shares""",
        "tests/execution/test_ib_broker.py::test_an_execution_that_makes_no_sense_is_an_error_and_no_fill",
    ),
    Mutation(
        "a second halt without the database loosens the first",
        "resources/halt_file.py",
        "max(self.state, later.state, key=_LOOSEST_FIRST.index)",
        "later.state",
        "tests/execution/test_halt_file.py::test_a_second_halt_keeps_what_the_first_asked_for",
    ),
)


@contextmanager
def planted(mutation: Mutation, root: Path) -> Iterator[None]:
    """The fault, planted in the tree at ``root`` for as long as the block lasts."""
    path = mutation.file(root)
    sound = path.read_text(encoding="utf-8")
    path.write_text(sound.replace(mutation.old, mutation.new), encoding="utf-8")
    try:
        yield
    finally:
        path.write_text(sound, encoding="utf-8")


def failures(root: Path, test: str) -> int:
    """How many tests fail under the name ``test``.

    Raises:
        MutationError: pytest did not run it.
    """
    # Bytecode of the sound file could be taken for the changed one: both may be of the same second and size.
    command = [sys.executable, "-B", "-m", "pytest", test, "-m", "not slow", "-q", "--tb=no", "-p", "no:randomly"]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode not in (0, 1):
        raise MutationError(f"pytest {test} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.returncode


def copy_tree(target: Path) -> None:
    """The parts of the repository that tests need."""
    for name in TREES:
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__", "target", "logs"))
    for name in ("pyproject.toml", "workspace.yaml"):
        shutil.copy(ROOT / name, target / name)


def main(arguments: Sequence[str]) -> int:
    """Plant each fault (or those whose name has one of ``arguments`` in it) and print the table; 1 if one lives."""
    chosen = [m for m in MUTATIONS if not arguments or any(word in m.name for word in arguments)]
    lived = []
    with tempfile.TemporaryDirectory(prefix="octopus-mutations-") as folder:
        root = Path(folder)
        copy_tree(root)
        print("| fault | in | found by |\n|---|---|---|")
        for mutation in chosen:
            with planted(mutation, root):
                found = failures(root, mutation.test)
            name = mutation.test.split("::")[-1]
            print(f"| {mutation.name} | `{mutation.where}` | {f'`{name}`' if found else '**nobody**'} |", flush=True)
            if not found:
                lived.append(mutation.name)
    print(f"\n{len(chosen) - len(lived)} of {len(chosen)} faults were found.")
    if lived:
        print("Not found: " + "; ".join(lived), file=sys.stderr)
    return int(bool(lived))


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
