"""Findings on the untouched bars of the benchmark that are defects of the record itself, looked at one by one.

Belongs here: those findings by reason, each reason told by the record alone. Does not: counting (quality.py). A finding
that is not here counts as a false alarm, whatever may be known of it elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping

from octopus.warehouse.quality import Kind

_BY_REASON: Mapping[str, str] = {
    "the record has no price": """
        calendar_gap PTR 2016-06-29, calendar_gap REX 2016-06-29, calendar_gap SNP 2016-06-29
    """,
    "the quarter's 0.50 is recorded on two days running": "phantom_dividend SLB 2015-08-31",
    "the quarter's 0.14 is recorded twice within a week": "phantom_dividend V 2016-02-10",
    "0.039, of an instrument that paid 0.85 that quarter": "phantom_dividend PM 2012-12-20",
    "0.085, of an instrument that paid 0.85 that quarter": "phantom_dividend PM 2012-12-24",
    "0.9042 new shares for one old at the merger; no action is recorded": "scrape_seam CHTR 2016-05-18",
    "11 new shares for 12 beside a special dividend that is not recorded": "phantom_split NGG 2017-05-22",
    "follows from the one before": "wrong_dividend NGG 2012-11-28",
    "2.246 % of new shares are left in the older prices: undone, they are cents": "scrape_seam BCH 2016-07-06",
    "a distribution in units is left in the older prices": "scrape_seam IEP 2012-11-13",
    "paid at the end of every March and September but this March": "missing_dividend TM 2017-03-16",
    "the record has no bar, the exchange was open": "calendar_gap EEM 2003-08-15",
    "from 25,000 to 300 a day overnight: another unit": "volume_seam BRK-A 2013-07-29",
    "a billion a day for nine sessions, a hundred times those before and after": "volume_seam BRK-B 2010-02-01",
    "five bars without a trade carry the price on": "frozen_bar BNO 2010-09-22",
    "a low of 0.01 and a close of 294.57; another vendor's close is 400.52": "price_spike GOOGL 2008-09-30",
    "pays every quarter or month at that time, and as much before as after, but this once": """
        missing_dividend AON 2011-04-18, missing_dividend CBOE 2013-08-16, missing_dividend XLNX 2014-04-30,
        missing_dividend ZTS 2016-07-28, missing_dividend AMLP 2015-10-26, missing_dividend BAB 2020-09-09,
        missing_dividend CWB 2011-01-19, missing_dividend DIA 2010-01-04, missing_dividend GRMN 2015-03-02,
        missing_dividend LYB 2015-05-14, missing_dividend LYB 2016-08-11, missing_dividend PSA 2015-11-30,
        missing_dividend STX 2014-04-25, missing_dividend BWX 2014-07-21
    """,
    "monthly; nine funds of four houses lack the same payment of 1 November 2012": """
        missing_dividend BLV 2012-10-18, missing_dividend BND 2012-10-18, missing_dividend BSV 2012-10-18,
        missing_dividend CORP 2012-10-17, missing_dividend CWB 2012-10-18, missing_dividend BIV 2012-10-18,
        missing_dividend BOND 2012-10-17, missing_dividend BWX 2012-10-18, missing_dividend EMB 2012-10-18
    """,
    "monthly, with one at the end of December in the years around": """
        missing_dividend BND 2012-12-19, missing_dividend BSV 2012-12-19
    """,
    "the period's one payment is recorded on two days near each other, as much or in two currencies": """
        phantom_dividend CM 2012-12-24, phantom_dividend CM 2013-12-23, phantom_dividend CM 2014-12-23,
        phantom_dividend CM 2015-12-23, phantom_dividend CM 2019-12-24, phantom_dividend MFC 2008-05-19,
        phantom_dividend MFC 2009-05-18, phantom_dividend TD 2010-07-01, phantom_dividend TD 2011-07-01,
        phantom_dividend WBK 2016-11-17, phantom_dividend CWB 2016-05-03, phantom_dividend CHRW 2010-12-10,
        phantom_dividend CINF 2015-12-14, phantom_dividend CINF 2015-12-01, phantom_dividend APD 2016-10-06,
        phantom_dividend NSC 2015-04-29, phantom_dividend BAM 2014-11-25, phantom_dividend BAM 2017-05-26,
        phantom_dividend BAM 2019-11-29, phantom_dividend BMO 2015-07-29, phantom_dividend BNS 2008-06-27,
        phantom_dividend BNS 2010-12-30, phantom_dividend BNS 2014-06-27, phantom_dividend BNS 2015-07-06,
        phantom_dividend BNS 2016-07-01, phantom_dividend IBN 2015-06-11, phantom_dividend LFC 2017-06-06,
        phantom_dividend RY 2018-01-25, phantom_dividend BBH 2009-10-30
    """,
    "0.334 new shares for one old at the merger; no action is recorded": "scrape_seam EVHC 2016-12-02",
    "the adjusted close takes off a third that the price does not show": "phantom_split EXPE 2011-12-21",
    "a payment of 0.01, too small for the reader of the record": "adjusted_close PRGO 2013-12-19",
    "volumes before one share for fifteen are in other shares than prices": "volume_seam LVLT 2011-10-19",
    "bars without a trade carry the price on": """
        frozen_bar WBK 2015-10-14, frozen_bar BIB 2010-11-22, frozen_bar EUFN 2010-02-04, frozen_bar EUFN 2010-03-04,
        frozen_bar CURE 2012-05-23, frozen_bar DBEF 2011-06-17, frozen_bar DBJP 2011-06-10
    """,
    "73,100 shares at the four prices of the session before, again": "frozen_bar BIL 2014-07-28",
    "the last bar was fetched before its range was final": """
        impossible_bar EDZ 2021-01-27, impossible_bar EWC 2021-01-27, impossible_bar EWX 2021-01-27,
        impossible_bar EWY 2021-01-27, impossible_bar DBJP 2021-01-27, impossible_bar DUST 2021-01-27,
        impossible_bar ECH 2021-01-27, impossible_bar EMLP 2021-01-27, impossible_bar EPHE 2021-01-27,
        impossible_bar EZA 2021-01-27
    """,
}
"""Reason: findings as kind, symbol and first session."""

GENUINE: Mapping[tuple[str, str, str], str] = {
    (kind, symbol, day): reason
    for reason, findings in _BY_REASON.items()
    for kind, symbol, day in (one.split() for one in findings.split(","))
}
EXACT: frozenset[Kind] = frozenset({Kind.CALENDAR_GAP, Kind.ZERO_VOLUME, Kind.FROZEN_BAR, Kind.IMPOSSIBLE_BAR})
"""Findings that only say what the record says: no bar, no volume, the last bar once more, a close outside of its range.
They cannot be false, and are counted apart."""
