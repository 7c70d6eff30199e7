"""Findings on the untouched bars of the benchmark that are defects of the record itself, looked at one by one.

Belongs here: those findings by reason. Does not: counting (quality.py). A finding that is not here counts as a false
alarm. A reason is told by the record itself, or by a second history of the same instrument, where there is one: another
vendor's, or the same vendor's fetched years later. Second histories are Alpha Vantage's (of github.com/tareqalyousef/
Backtester, December 2020) and Yahoo's (github.com/Bluefin-Tuna/Yahoo-Finance-Historical-Data, December 2020;
github.com/dieperdev/yfinance-stock-data, March 2024; of github.com/dsturdy/Factor_Attribution, 2026, adjusted closes,
whose returns beside those of printed closes give the payments).
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
        missing_dividend LYB 2015-05-13, missing_dividend LYB 2016-08-12, missing_dividend PSA 2015-11-30,
        missing_dividend STX 2014-04-28,
        missing_dividend STX 2014-04-25, missing_dividend BWX 2014-07-21,
        missing_dividend BWX 2014-07-22
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
    "0.334 new shares for one old at the merger; no action is recorded": "missing_split EVHC 2016-12-02",
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
    "the period's one payment is recorded on two days within eight sessions, as much or in two currencies": """
        phantom_dividend ARGO 2004-05-03, phantom_dividend ARGO 2004-08-12, phantom_dividend ATNI 2013-06-20,
        phantom_dividend ATNI 2015-04-01, phantom_dividend BCO 2016-11-09, phantom_dividend BTG 2019-11-29,
        phantom_dividend CHE 2017-08-10, phantom_dividend CMRE 2014-01-17, phantom_dividend CMRE 2017-10-12,
        phantom_dividend CNSL 2017-10-11, phantom_dividend CTB 2014-08-29, phantom_dividend DNP 2017-09-27,
        phantom_dividend DNP 2020-08-31, phantom_dividend EQNR 2020-05-14, phantom_dividend ETJ 2019-11-20,
        phantom_dividend EVR 2013-08-27, phantom_dividend EVR 2014-11-25, phantom_dividend CIB 2007-09-12,
        phantom_dividend CIB 2010-12-20, phantom_dividend CS 2012-04-30, phantom_dividend ERIC 2015-04-14,
        phantom_dividend FRO 2016-03-07, phantom_dividend HIMX 2007-10-02, phantom_dividend RYAAY 2015-10-23,
        phantom_dividend SHG 2012-12-28, phantom_dividend SSL 2018-03-14, phantom_dividend TS 2017-05-19,
        phantom_dividend TX 2011-06-06, phantom_dividend VEDL 2014-07-02, phantom_dividend FXE 2008-04-03,
        phantom_dividend FXF 2008-04-03, phantom_dividend GVI 2008-04-03, phantom_dividend TUR 2016-06-23,
        phantom_dividend CP 2013-12-24
    """,
    "the period's one payment is recorded on two days near each other; a second history has it once": """
        phantom_dividend AZZ 2012-07-18, phantom_dividend AZZ 2015-10-07, phantom_dividend CLF 2014-11-12,
        phantom_dividend COLB 2015-11-06, phantom_dividend CP 2019-12-24, phantom_dividend CR 2019-08-30,
        phantom_dividend CVA 2012-10-08, phantom_dividend CVA 2017-09-29, phantom_dividend CVI 2017-08-04,
        phantom_dividend DRE 2015-02-13, phantom_dividend ECOL 2014-01-16, phantom_dividend EDD 2018-03-27,
        phantom_dividend EGP 2015-06-26, phantom_dividend ETY 2019-11-20, phantom_dividend VCLT 2014-02-05,
        phantom_dividend VGLT 2014-02-03, phantom_dividend VGLT 2014-03-03, phantom_dividend RYAAY 2010-09-15,
        phantom_dividend GOLD 2005-05-27, phantom_dividend GOLD 2010-05-26, phantom_dividend GOLD 2011-05-27,
        phantom_dividend GOLD 2013-11-27, phantom_dividend GOLD 2014-11-26, phantom_dividend GOLD 2015-11-25,
        phantom_dividend GOLD 2016-05-26, phantom_dividend GOLD 2017-05-26, phantom_dividend GOLD 2019-11-29,
        phantom_dividend GPK 2018-09-13, phantom_dividend HCSG 2016-08-18, phantom_dividend OFG 2016-03-24,
        phantom_dividend SIX 2016-02-12, phantom_dividend STBA 2018-08-01, phantom_dividend WAB 2017-08-10,
        phantom_dividend INT 2004-03-16, phantom_dividend INT 2005-03-15, phantom_dividend INT 2006-03-22,
        phantom_dividend IVC 2004-03-30, phantom_dividend IVC 2005-03-29, phantom_dividend IVR 2012-03-21,
        phantom_dividend PSB 2010-03-03, phantom_dividend RNP 2005-03-10, phantom_dividend RNP 2017-09-20,
        phantom_dividend SCHN 2008-05-14, phantom_dividend SCHN 2011-02-15, phantom_dividend SU 2017-08-31,
        phantom_dividend WWW 2004-03-29, phantom_dividend WWW 2005-03-30, phantom_dividend WWW 2006-03-29
    """,
    "0.075 on two days running; a second history under this name is another company's": """
        phantom_dividend TCF 2016-11-10
    """,
    "off the beat, and not in a second history": """
        phantom_dividend AMJ 2014-11-06, phantom_dividend CASY 2017-08-30, phantom_dividend CBU 2016-08-10,
        phantom_dividend CCJ 2009-02-27, phantom_dividend PGF 2015-02-20, phantom_dividend SSL 2011-04-20,
        phantom_dividend IVR 2012-09-27, phantom_dividend IVR 2018-09-04, phantom_dividend MGRC 2019-12-16,
        phantom_dividend PENN 2017-03-09, phantom_dividend RNP 2008-10-13, phantom_dividend WWW 2015-03-11
    """,
    "a second history has it on the next session; on this one the price does not fall": """
        phantom_dividend SVC 2007-01-31
    """,
    "10 of 13, of which the price shows nothing, and not in a second history": "wrong_dividend FOE 2014-05-28",
    "one special share for each old one is recorded as 20.262; the price halves, as a second history does": """
        scrape_seam TDS 2005-05-16
    """,
    "a trust's unit, 0.2089 Weatherford shares and 6.83 Canadian dollars for each share; no action is recorded": """
        missing_split PDS 2005-11-07
    """,
    "volumes of before are in other shares than prices and those of after; a second history has them in the same": """
        volume_seam GRPN 2020-04-03, volume_seam NBR 2020-04-03, volume_seam NMM 2019-03-11
    """,
    "3.12 of 11.76, of which the price shows nothing, and not in a second history": "wrong_dividend ENV 2011-09-16",
    "a second history has 5.071, a quarter of it; the price does not show 20.284": "wrong_dividend TECL 2010-03-23",
    "about a hundredth of what a second history has": "wrong_dividend PBR 2007-08-20, wrong_dividend SSL 2012-10-10",
    "the stock dividend of four in a hundred, recorded as a split, is recorded as cash as well": """
        phantom_dividend CX 2013-04-23
    """,
    "monthly or quarterly, and a second history has the payment": """
        missing_dividend CIB 2020-03-23, missing_dividend HWC 2009-11-20, missing_dividend IGSB 2013-05-20,
        missing_dividend IGSB 2014-04-17
    """,
    "the year's one payment is recorded twice, 0.61 and 0.587 nine sessions later": "phantom_dividend SAP 2011-06-06",
    "the same 6.3 is recorded twice within a week; a second history has it on the later day": """
        wrong_dividend IHG 2016-05-04
    """,
    "pays in spring and autumn of every year around, but this once": """
        missing_dividend CRH 2018-02-26, missing_dividend TS 2006-10-30
    """,
    "monthly, and as much before as after, but this once": """
        missing_dividend IGLB 2013-05-20, missing_dividend IGLB 2014-04-17
    """,
    "six new shares for ten old at a merger; no action is recorded": "scrape_seam VEDL 2013-09-09",
    "5.62 without a trade between 43.50 and 43.50": "price_spike DOOR 2010-05-03",
    "bars of another instrument, 11.99 without a trade, come before": "scrape_seam GLL 2008-12-03",
    "bars of before are another exchange's: fractions of cents, and a twelfth of the volume": """
        scrape_seam SAND 2012-08-21, volume_seam SAND 2012-08-20
    """,
    "one price for all four of 6 May 2010, from 11 to 30 % off: trades that were cancelled": """
        price_spike IJT 2010-05-06, price_spike ITA 2010-05-06, price_spike IWF 2010-05-06, price_spike IWN 2010-05-06,
        price_spike IWV 2010-05-06, price_spike IYE 2010-05-06, price_spike PRF 2010-05-06, price_spike IHF 2010-05-06,
        price_spike IWD 2010-05-06
    """,
    "a whole bar 3 to 26 % off, one of dozens from January to October 2014; a second history has no such move": """
        price_spike FXL 2014-10-30, price_spike GXC 2014-01-31, price_spike ITB 2014-07-03, price_spike PRF 2014-08-13,
        price_spike RPG 2014-08-05, price_spike RWR 2014-04-29, price_spike TAN 2014-01-30, price_spike VAW 2014-06-02,
        price_spike VB 2014-08-06, price_spike VBK 2014-08-05, price_spike VBR 2014-08-01, price_spike VOE 2014-08-05,
        price_spike VOT 2014-08-05, price_spike VSS 2014-08-06, price_spike VTV 2014-08-06, price_spike XLP 2014-08-05,
        price_spike XLY 2014-08-15, price_spike EXK 2014-07-03, price_spike IHF 2014-08-05, price_spike IYW 2014-08-05,
        price_spike XLK 2014-08-11, price_spike HXL 2014-05-19, price_spike HXL 2014-10-30, price_spike LXU 2014-10-30
    """,
    "a whole bar 24 % off; two other funds of the same market fell by 3.7 % on that day": "price_spike PIN 2014-01-24",
    "45.38 for all four prices; a second history has 62.45 and 76.85": """
        price_spike NAV 2007-06-07, price_spike NAV 2008-05-28
    """,
    "the next session opens at 10.58, at 11.15 in a second history": "price_spike XAN 2018-08-02",
    "the return into, or out of, a bar or level that is wrong, or on a payment that was not made (all above)": """
        outlier_return DOOR 2010-05-03, outlier_return DOOR 2010-05-04, outlier_return ENV 2011-09-16,
        outlier_return GLL 2008-12-03, outlier_return IHF 2010-05-07, outlier_return PRF 2010-05-06,
        outlier_return PRF 2010-05-07, outlier_return SAND 2014-07-03, outlier_return SAND 2014-07-07,
        outlier_return VEDL 2013-09-09, outlier_return FOE 2014-05-28, outlier_return NAV 2007-06-07,
        outlier_return NAV 2007-06-08, outlier_return PDS 2005-11-07
    """,
    "a quarter off on the same day as EXK, on ordinary volume": "price_spike SAND 2014-07-03",
    "fourth draw: the period's one payment is recorded on two days near each other; a second history has it once": """
        phantom_dividend GBDC 2017-09-05, phantom_dividend GLT 2014-12-31, phantom_dividend KMPR 2016-02-12,
        phantom_dividend LANC 2013-12-06, phantom_dividend MXIM 2008-05-12, phantom_dividend SCS 2014-03-31,
        phantom_dividend SCS 2014-07-03, phantom_dividend TXRH 2017-06-14, phantom_dividend WERN 2014-07-03,
        phantom_dividend HMN 2004-03-11, phantom_dividend HMN 2005-03-16, phantom_dividend HMN 2006-03-15,
        phantom_dividend IEX 2007-07-16, phantom_dividend SHO 2005-03-28, phantom_dividend SHO 2006-03-29,
        phantom_dividend SLF 2011-05-20, phantom_dividend X 2008-11-10
    """,
    "fourth draw: off the beat, and not in a second history": """
        phantom_dividend SKYW 2016-11-28, phantom_dividend FCNCA 2012-11-07, phantom_dividend MIC 2015-02-19,
        phantom_dividend TK 2013-02-28, phantom_dividend UMBF 2008-09-29
    """,
    "fourth draw: off the beat; of three second histories two have none, and one four times as much": """
        phantom_dividend HOMB 2012-12-13
    """,
    "fourth draw: monthly or quarterly, and a second history has the payment": """
        missing_dividend GDV 2005-05-03, missing_dividend GDV 2006-06-01, missing_dividend IGR 2005-05-05,
        missing_dividend PSEC 2012-10-15, missing_dividend SLF 2017-05-15
    """,
    "fourth draw: prices halve and no split is recorded; a second history, adjusted for splits, goes on": """
        missing_split JCOM 2006-05-25, missing_split KEX 2006-06-02, missing_split TRMB 2007-02-26,
        missing_split WST 2004-09-30, outlier_return JCOM 2006-05-25, outlier_return KEX 2006-06-02,
        outlier_return TRMB 2007-02-26, outlier_return WST 2004-09-30
    """,
    "the adjusted close halves for that split one session before the price does": "adjusted_close TRMB 2007-02-23",
    "the bar of the session before, one price for all four, is 4 and 67 % above that of a second history": """
        scrape_seam SHO 2005-01-13, missing_split HMN 2008-10-10
    """,
    "4.06 for each old share beside prices of new ones, half of what a second history has": """
        scrape_seam TMUS 2013-05-01
    """,
    "0.54 in old shares beside prices of new ones; a second history has 0.22": "wrong_dividend SNN 2014-10-22",
    "a stock dividend of eight in a hundred is recorded as cash of 2.0016; a second history has no payment": """
        wrong_dividend HOMB 2008-08-11
    """,
    "25.61, more than the price: what was spun off, in the shares after one for three, which is not recorded": """
        wrong_dividend RRD 2016-10-03, outlier_return RRD 2016-10-03
    """,
    "the recorded payment is not in the adjusted close; a second history has it in both": """
        adjusted_close PKG 2020-09-14
    """,
    "27.30 where a second history has 25.14, and 25.64 on the next session": "price_spike UIS 2014-10-30",
    "one share for forty is recorded between 16.00 and 16.00, and a second history has none": """
        wrong_split ZIOP 2005-11-09, outlier_return ZIOP 2005-08-25
    """,
    "shares of before and after a bankruptcy, 0.82 and 28.00, 0.16 and 40.85, in one history without an action": """
        outlier_return WLL 2020-09-02, outlier_return OAS 2020-11-20
    """,
    "3.65 for all four prices of the session before, where a second history has 1.32": "outlier_return YRCW 2009-11-03",
}
"""Reason: findings as kind, symbol and first session."""

GENUINE: Mapping[tuple[str, str, str], str] = {
    (kind, symbol, day): reason
    for reason, findings in _BY_REASON.items()
    for kind, symbol, day in (one.split() for one in findings.split(","))
}
EXACT: frozenset[Kind] = frozenset({
    Kind.CALENDAR_GAP, Kind.ZERO_VOLUME, Kind.FROZEN_BAR, Kind.IMPOSSIBLE_BAR,
    Kind.STALE_PRICE, Kind.LATE_LISTING, Kind.ENDED, Kind.DISAGREEMENT,
})  # fmt: skip
"""Findings that only say what the record says: no bar, no volume, the last bar once more, a close outside of its range,
equal closes, a first or last bar, two records that differ. They cannot be false, and are counted apart."""
