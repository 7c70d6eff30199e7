"""The user's own files: what is read, and which line is wrong."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from octopus.core.errors import ConfigError
from octopus.core.sessions import Sessions
from octopus.market_data.schema import ACTIONS_SCHEMA, ADJUSTED_SCHEMA, BARS_SCHEMA, INSTRUMENTS_SCHEMA
from resources.sources.base import whole
from resources.sources.files import FileMarketData

XNYS = Sessions()
START, END = date(2022, 12, 1), date(2022, 12, 31)
NOW = datetime(2023, 1, 3, 12, tzinfo=UTC)
BARS = """volume,instrument,session,open,high,low,close,adj_close,known_at,comment
100,KO,2022-12-28,10,11,9,10.5,10.1,2022-12-28T23:00:00+01:00,
,KO,2022-12-27,,,,10.25,,,"a, b"
50,BBY,2022-12-27,20,21,19,20.5,20.5,2022-12-28T00:00:00Z,late
"""


@pytest.fixture
def write(tmp_path: Path):
    def put(text: str, name: str = "bars.csv") -> Path:
        (tmp_path / name).write_text(text)
        return tmp_path / name

    return put


def source(bars: Path, actions: Path | None = None, instruments: Path | None = None) -> FileMarketData:
    return FileMarketData(bars, actions, instruments, now=lambda: NOW)


def test_bars_are_read_stamped_and_put_in_order(write):
    data = whole(source(write(BARS)).fetch(["KO", "BBY"], START, END, XNYS))
    assert (data.bars.schema, data.adjusted.schema, data.actions.schema, data.instruments.schema) == (
        BARS_SCHEMA, ADJUSTED_SCHEMA, ACTIONS_SCHEMA, INSTRUMENTS_SCHEMA,
    )  # fmt: skip
    assert data.rejects == []
    shown = ["instrument", "session", "open", "close", "volume", "known_at", "known_at_imputed"]
    assert data.bars.select(shown).rows() == [
        ("BBY", date(2022, 12, 27), 20.0, 20.5, 50.0, datetime(2022, 12, 28, tzinfo=UTC), False),
        ("KO", date(2022, 12, 27), None, 10.25, None, datetime(2022, 12, 27, 21, 15, tzinfo=UTC), True),
        ("KO", date(2022, 12, 28), 10.0, 10.5, 100.0, datetime(2022, 12, 28, 22, tzinfo=UTC), False),
    ]  # fmt: skip
    assert data.adjusted.select("instrument", "adj_close").rows() == [("BBY", 20.5), ("KO", 10.1)]
    assert data.instruments.select("instrument", "currency", "asset_class", "lot_size", "member_from").rows() == [
        ("BBY", "USD", "equity", None, None), ("KO", "USD", "equity", None, None),
    ]  # fmt: skip


def test_parquet_and_compressed_csv_say_the_same(write, tmp_path):
    plain = whole(source(write(BARS)).fetch([], START, END, XNYS))
    (tmp_path / "bars.csv.gz").write_bytes(gzip.compress(BARS.encode()))
    typed = pl.read_csv(tmp_path / "bars.csv", try_parse_dates=True).with_columns(
        pl.col("known_at").cast(pl.String).str.to_datetime(time_zone="UTC")
    )
    typed.write_parquet(tmp_path / "bars.parquet")
    for name in ("bars.csv.gz", "bars.parquet"):
        again = whole(source(tmp_path / name).fetch([], START, END, XNYS))
        assert again.rejects == []
        assert again.bars.equals(plain.bars)
        assert again.adjusted.equals(plain.adjusted)


def test_a_wrong_line_is_named_with_its_reason_and_loses_no_other(write):
    lines = [
        "instrument,session,open,high,low,close,volume,known_at",
        "KO,2022-12-27,10,11,9,10.5,100,",
        "KO,2022-12-28,10,11,9,,100,",
        "",
        "KO,28.12.2022,10,11,9,10,100,",
        "KO,2022-12-29,10,11,9,ten,100,",
        "KO,2022-12-30,10,11,9,10,-1,",
        "KO,2022-12-26,10,11,9,10,1,",
        "KO,2022-12-27,10,11,9,10.6,100,",
        "KO,2022-12-23,10,11,9",
        "KO,2022-12-22,10,11,9,10,1,,surplus",
        'KO,"2022-12-22,10,11,9,10,1,',
        "KO,2022-12-21,10,11,9,10,1,2022-12-21T18:00:00",
        "KO,2022-12-20,10,11,9,10,1,2022-12-20T10:00:00Z",
        ",2022-12-19,10,11,9,10,1,",
        "KO,2022-12-16,10,11,9,9.5,1,",
    ]
    data = whole(source(write("\r\n".join(lines))).fetch(["KO"], START, END, XNYS))
    assert data.bars.select("session", "close").rows() == [(date(2022, 12, 16), 9.5), (date(2022, 12, 27), 10.5)]
    reasons = {int(reject.payload["line"]): reject.reason.split(": ", 1) for reject in data.rejects}
    assert {line: reason for line, (_, reason) in reasons.items()} == {
        3: "close is missing",
        5: "session 28.12.2022 is not a date like 2024-01-31",
        6: "close ten is not a number",
        7: "volume -1.0 is not a non-negative number",
        8: "the session date 2022-12-26 is not a session of XNYS",
        9: "a second record for the same (source, instrument, ts)",
        10: "it has 5 fields and the header 8",
        11: "it has 9 fields and the header 8",
        12: "a quote is not closed",
        13: "known_at 2022-12-21T18:00:00 is not a time with an offset like 2024-01-31T21:00:00Z",
        14: "known before it happened",
        15: "instrument is missing",
    }
    assert {line: place for line, (place, _) in reasons.items()} == {line: f"bars.csv line {line}" for line in reasons}
    json.dumps([dict(reject.payload) for reject in data.rejects], allow_nan=False)


def test_a_wrong_adjusted_close_loses_no_bar(write):
    data = whole(source(write(BARS.replace("10.1,", "-10.1,"))).fetch(["KO"], START, END, XNYS))
    assert data.bars.height == 2
    (reject,) = data.rejects
    assert (reject.table, reject.reason) == (
        "adjusted_closes", "bars.csv line 2: adj_close -10.1 is not a positive number",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "instrument,session,open,high,low,close\nKO,2022-12-27,1,1,1,1\n",
            r"bars\.csv: volume = .*add it to the header",
        ),
        ("ticker,date,close\nKO,2022-12-27,1\n", r"bars\.csv: instrument, session, .*only ticker, date, close"),
        ("", "it is empty"),
        ("\n \n", "it is empty"),
        ("instrument,instrument\n", "bars.csv"),
    ],
)
def test_a_file_in_another_form_is_one_message(write, text, says):
    with pytest.raises(ConfigError, match=says) as caught:
        whole(source(write(text)).fetch(["KO"], START, END, XNYS))
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_one_message(tmp_path):
    for name, body, says in [
        ("gone.csv", None, r"gone\.csv.*FileNotFoundError"),
        ("bars.xlsx", b"x", r"bars\.xlsx.*name a \.csv"),
        ("bars.parquet", b"PAR1 and then nothing", "no whole Parquet file"),
        ("latin.csv", "instrument,Größe\n".encode("latin-1"), "not UTF-8"),
        ("cut.csv.gz", gzip.compress(b"instrument,session\n" * 99)[:-20], r"cut\.csv\.gz.*whole and readable"),
    ]:
        if body is not None:
            (tmp_path / name).write_bytes(body)
        with pytest.raises(ConfigError, match=says):
            whole(source(tmp_path / name).fetch(["KO"], START, END, XNYS))


def test_a_header_alone_and_a_name_that_is_not_there(write):
    data = whole(source(write(BARS.splitlines()[0] + "\n")).fetch(["KO"], START, END, XNYS))
    assert (data.bars.schema, data.bars.height) == (BARS_SCHEMA, 0)
    assert [reject.reason for reject in data.rejects] == ["bars.csv has no line of KO; check its spelling"]


def test_actions_of_every_kind_with_the_day_they_were_announced(write):
    acts = write(
        "instrument,session,kind,value,detail,known_at\n"
        "KO,2022-12-27,split,2,,2022-12-01T14:00:00Z\n"
        "KO,2022-12-27,dividend,0.44,,\n"
        "KO,2022-12-28,spin_off,0.25,NEWCO,\n"
        "BBY,2022-12-28,symbol_change,1,BUY,\n"
        "BBY,2022-12-29,delisting,0,bankruptcy,\n"
        "KO,2022-12-29,spin_off,0.25,,\n"
        "KO,2022-12-30,merger,1,,\n"
        "KO,2022-12-24,dividend,1,,\n"
        "KO,2022-12-30,split,0,,\n",
        "actions.csv",
    )
    data = whole(source(write(BARS), acts).fetch(["KO", "BBY"], START, END, XNYS))
    assert data.actions.select("instrument", "session", "kind", "value", "detail").rows() == [
        ("BBY", date(2022, 12, 28), "symbol_change", 1.0, "BUY"),
        ("BBY", date(2022, 12, 29), "delisting", 0.0, "bankruptcy"),
        ("KO", date(2022, 12, 27), "dividend", 0.44, None),
        ("KO", date(2022, 12, 27), "split", 2.0, None),
        ("KO", date(2022, 12, 28), "spin_off", 0.25, "NEWCO"),
    ]
    split = data.actions.filter(pl.col("kind") == "split").row(0, named=True)
    assert (split["known_at"], split["known_at_imputed"]) == (datetime(2022, 12, 1, 14, tzinfo=UTC), False)
    assert split["ts"] == XNYS.open_utc(date(2022, 12, 27))
    assert sorted(reject.reason for reject in data.rejects) == [
        "actions.csv line 10: split of 0.0 is not a positive number",
        "actions.csv line 7: spin_off names no new symbol",
        "actions.csv line 8: kind merger is none of split, dividend, spin_off, symbol_change, delisting",
        "actions.csv line 9: the ex-date 2022-12-24 is not a session of XNYS",
    ]


def test_instruments_with_membership_and_delisting(write):
    listed = write(
        "instrument,name,asset_class,lot_size,tick_size,member_from,member_to,delisted,delisting_value,known_at\n"
        "KO,Coca-Cola,equity,,0.01,2020-01-02,2021-12-31,,,\n"
        "KO,Coca-Cola,equity,10,0.01,2022-06-01,,,,2022-05-15T00:00:00Z\n"
        "BBY,Best Buy,equity,,,2020-01-02,,2022-12-28,12.5,\n"
        "XYZ,Bad class,bond,,,,,,,\n"
        "ABC,No cash,etf,,,,,2022-12-28,,\n"
        "DEF,No lot,etf,0,,,,,,\n"
        "GHI,Backwards,etf,1,,2022-02-01,2022-01-01,,,\n",
        "instruments.csv",
    )
    bars = BARS + "".join(f"1,{name},2022-12-27,1,1,1,1,,,\n" for name in ("XYZ", "ABC", "DEF", "GHI", "JKL"))
    data = whole(source(write(bars), None, listed).fetch([], START, END, XNYS))
    assert data.instruments.select("instrument", "ts", "lot_size", "tick_size", "member_from", "member_to").rows() == [
        ("KO", datetime(2020, 1, 2, tzinfo=UTC), None, 0.01, date(2020, 1, 2), date(2021, 12, 31)),
        ("KO", datetime(2022, 6, 1, tzinfo=UTC), 10.0, 0.01, date(2022, 6, 1), None),
        ("BBY", datetime(2020, 1, 2, tzinfo=UTC), None, None, date(2020, 1, 2), date(2022, 12, 28)),
    ]
    assert data.instruments["known_at"][1] == datetime(2022, 5, 15, tzinfo=UTC)
    assert data.actions.select("instrument", "session", "kind", "value").rows() == [
        ("BBY", date(2022, 12, 28), "delisting", 12.5)
    ]
    assert sorted(reject.reason for reject in data.rejects) == [
        "instruments.csv has no line of JKL; check its spelling",
        "instruments.csv line 5: asset_class bond is none of equity, etf, crypto, fx",
        "instruments.csv line 6: delisted without a delisting_value: write what was paid for one share, 0 if nothing",
        "instruments.csv line 7: lot_size 0.0 is not a positive number",
        "instruments.csv line 8: member_to 2022-01-01 is before member_from 2022-02-01",
    ]
    assert {reject.table for reject in data.rejects} == {"instruments"}


def test_the_same_files_give_the_same_fingerprint(write):
    first = whole(source(write(BARS)).fetch(["KO"], START, END, XNYS))
    assert first.payload_hash == whole(source(write(BARS)).fetch(["KO"], START, END, XNYS)).payload_hash
    assert first.payload_hash != whole(source(write(BARS + "\n")).fetch(["KO"], START, END, XNYS)).payload_hash


def test_recorded_stocks_with_their_defects(test_data, tmp_path):
    """88 stocks, 108,592 lines: all are kept or named, and the three without any number are named."""
    recorded = pl.read_parquet(test_data / "prices_stocknet.parquet")
    path = tmp_path / "bars.csv"
    recorded.rename({"symbol": "instrument", "date": "session"}).write_csv(path)
    data = whole(source(path).fetch([], date(2012, 1, 1), date(2017, 12, 31), XNYS))
    missing = sorted((r.instrument, str(r.payload["session"])[:10]) for r in data.rejects if "is missing" in r.reason)
    assert missing == [("PTR", "2016-06-29"), ("REX", "2016-06-29"), ("SNP", "2016-06-29")]
    assert data.bars.height + len([reject for reject in data.rejects if reject.table == "bars"]) == recorded.height
    assert data.adjusted.height == data.bars.height


def test_each_instrument_keeps_the_calendar_of_its_exchange(write):
    """A Saturday is a session of a coin, known after its own midnight; of a share it is an error to be told."""
    bars = write(
        "instrument,session,open,high,low,close,volume\n"
        "BTC,2022-12-23,,,,100,1\nBTC,2022-12-24,,,,101,1\nBTC,2022-12-25,,,,102,1\nEURUSD,2022-12-26,,,,1.06,\n"
        "EURUSD,2022-12-25,,,,1.06,\nKO,2022-12-23,,,,60,1\nKO,2022-12-24,,,,60,1\n"
    )
    instruments = write(
        "instrument,exchange,asset_class\nBTC,24/7,crypto\nEURUSD,24/5,fx\nKO,,equity\n", "instruments.csv"
    )
    actions = write("instrument,session,kind,value\nBTC,2022-12-24,split,10\nKO,2022-12-24,split,2\n", "actions.csv")
    data = whole(source(bars, actions, instruments).fetch(["BTC", "EURUSD", "KO"], START, END, XNYS))
    assert data.bars.select("instrument", "session", "ts").rows() == [
        ("BTC", date(2022, 12, 23), datetime(2022, 12, 24, tzinfo=UTC)),
        ("BTC", date(2022, 12, 24), datetime(2022, 12, 25, tzinfo=UTC)),
        ("BTC", date(2022, 12, 25), datetime(2022, 12, 26, tzinfo=UTC)),
        ("EURUSD", date(2022, 12, 26), datetime(2022, 12, 27, tzinfo=UTC)),
        ("KO", date(2022, 12, 23), datetime(2022, 12, 23, 21, tzinfo=UTC)),
    ]
    assert data.actions.select("instrument", "ts").rows() == [("BTC", datetime(2022, 12, 24, tzinfo=UTC))]
    assert sorted(
        (reject.table, reject.instrument, reject.reason.split(":")[-1].strip()) for reject in data.rejects
    ) == [
        ("bars", "EURUSD", "the session date 2022-12-25 is not a session of 24/5"),
        ("bars", "KO", "the session date 2022-12-24 is not a session of XNYS"),
        ("corporate_actions", "KO", "the ex-date 2022-12-24 is not a session of XNYS"),
    ]
    assert dict(data.instruments.select("instrument", "exchange").iter_rows()) == {
        "BTC": "24/7", "EURUSD": "24/5", "KO": "XNYS",
    }  # fmt: skip
