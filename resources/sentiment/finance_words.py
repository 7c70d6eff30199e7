"""The words of `finance.py`: what is measured, which way it goes, and what is good or bad by itself.

Belongs here: tables, written for this project from general knowledge of business English. Does not: how they combine.

No word or weight is taken from a licensed dictionary or estimated from a labelled corpus.
"""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _weighted(groups: Mapping[float, str]) -> dict[str, float]:
    return {word: weight for weight, text in groups.items() for word in text.split()}


_EXPECTED = r"(?:expected|anticipated|forecast|estimated|expectations|consensus)"
_THE_EXPECTED = r"(?:[\w-]+['’]? ){0,3}(?:expectations?|estimates?|est\.?|consensus|forecasts?|views?|guidance|street)"
_PLANNED = r"(?:[\w-]+ ){0,3}(?:guidance|outlook|forecasts?|estimates?|price_target|dividends?|targets?)"
_STAFF = r"(?:jobs|staff|personnel|workforce|headcount|employees|positions|workers)"
_A_KIND_OF = r"(?:a |an )?(?:\w+ )?"
_TURNED = r"(?:swings?|swung|turn(?:s|ed)?|return(?:s|ed)?|back|slip(?:s|ped)?|fell|falls?|plunged?) (?:in)?to"
_RATING = r"(?:an? )?['`‘]?\s?(?:strong )?"

PHRASES: dict[str, str] = {
    r"cash flows?(?: from operations)?": "cash_flow",
    r"order (?:book|backlog|intake|stock|inflow)s?|orders received|new orders|backlogs?": "order_book",
    r"price targets?|target prices?|pts?(?= (?:to|from|of|at|on)\b)": "price_target",
    r"market shares?": "market_share",
    r"share capital": "share_capital",
    r"net (?:sales|revenues?|income|profits?|earnings)": "net_sales",
    r"(?:job|staff|personnel|headcount|workforce|employment) (?:cuts?|reductions?|cutbacks?)": "job_cuts",
    r"(?:cut(?:s|ting)?|slash(?:es)?|axes?|sheds?|reduc(?:es?|ing)|eliminates?) "
    r"(?:(?:its|the|about|around|some|up to|a total of|\d[\d.,]*|of) )*(?:\w+ )?" + _STAFF: "job_cuts",
    r"(?:laid|lays?|laying) off|lay-?offs?|temporary dismissals?|made redundant|redundanc(?:y|ies)": "job_cuts",
    r"(?:personnel|statutory|employee|co-?determination|co-?operation) negotiations": "job_cuts",
    r"profit warnings?|warn(?:s|ed|ing)? (?:on|of|about|that)": "warn",
    r"(?:better|higher|stronger|more|greater) than (?:\w+ )?" + _EXPECTED: "beat_x",
    r"(?:above|ahead of|exceed\w*|beat\w*|top(?:s|ped)?|surpass\w*|outstrip\w*) " + _THE_EXPECTED: "beat_x",
    r"(?:worse|lower|weaker|less|slower|smaller) than (?:\w+ )?" + _EXPECTED: "miss_x",
    r"(?:below|short of|under|miss\w*|lag(?:s|ged)?|trail\w*|behind) " + _THE_EXPECTED: "miss_x",
    _TURNED + " " + _A_KIND_OF + r"(?:profit\w*|black|growth)|(?:back in|in) the black|turnaround": "to_profit",
    _TURNED + " " + _A_KIND_OF + r"(?:loss\w*|red)|in the red|loss-?making|unprofitable": "to_loss",
    r"(?:net|operating|pre-?tax|quarterly|annual|full-year|heavy|deeper|wider) loss(?:es)?": "a_loss",
    r"(?:made|post(?:s|ed)|report(?:s|ed)|recorded|books?|booked|suffer(?:s|ed)?) "
    + _A_KIND_OF
    + r"loss(?:es)?": "a_loss",
    r"(?:raise[sd]?|hike[sd]?|lift(?:s|ed)?|increase[sd]?|boost(?:s|ed)?|up(?:s|ped)) " + _PLANNED: "raise_guidance",
    r"(?:cut(?:s|ting)?|lower(?:s|ed|ing)?|trim(?:s|med)?|slash(?:es|ed)?|reduce[sd]?|withdraw(?:s|n)?|withdrew|"
    r"suspend(?:s|ed)?) " + _PLANNED: "cut_guidance",
    r"(?:share|stock) (?:buy-?backs?|repurchases?)|buy-?back": "buyback",
    r"(?:won|wins?|winning|award(?:s|ed)|secure[sd]|land(?:s|ed)|clinche[sd]|receive[sd]|gets|got|bags|bagged) "
    r"(?:\w+ ){0,5}?(?:orders?|contracts?|deals?|tenders?|bids?|approvals?|awards?)": "won_order",
    r"all[- ]time highs?|52[- ]w(?:ee)?k highs?|new highs?|record[- ](?:high|breaking)s?": "record_high",
    r"all[- ]time lows?|52[- ]w(?:ee)?k lows?|new lows?|record lows?|multi-?year lows?": "record_low",
    r"(?:go|goes|going|went|get|getting|stay|adding|add|loading|load|buying|bought|i'm|am|very|super) long|long here|"
    r"bull(?:s|ish)? (?:flag|trend|run|market|setup)|break(?:s|ing)?[- ]?out|broke out": "bullish",
    r"(?:go|goes|going|went|get|getting|stay|adding|buying|i'm|am) short|short(?:ed|ing)|short (?:here|this|it)|"
    r"bear(?:s|ish)? (?:flag|trend|market|setup|raid)|break(?:s|ing)?[- ]?down|broke down|death cross|sell-?off|"
    r"sold off": "bearish",
    r"no longer|by no means|far from|nowhere near|rather than|instead of": "not",
    r"compared (?:with|to)|in comparison (?:with|to)|as against|as compared to": "compared",
    r"from " + _RATING + r"(?:buy|hold|neutral|sell|overweight|underweight|outperform|underperform|equal[- ]weight|"
    r"market perform|sector perform|in-line|accumulate|reduce|add)": "from_rating",
    r"(?:at|to|with|on) " + _RATING + r"(?:buy|overweight|(?:market )?outperform|accumulate)|buy rating": "rated_good",
    r"(?:at|to|with|on) " + _RATING + r"(?:sell|underweight|underperform|reduce)|sell rating": "rated_bad",
}
"""Groups of words that mean one thing, as patterns on small letters, replaced in this order."""

GOOD_WHEN_UP = _words("""
    assets aum backlog bookings capacity cash_flow competitiveness confidence consumption customers deliveries
    demand dividend dividends earnings ebit ebita ebitda efficiency eps equity exports ffo futures growth
    guidance income index investment investments liquidity margin margins market_share net_sales occupancy
    order_book orders outlook output passengers payout performance popularity position price price_target prices
    production productivity profit profitability profits quality rating receipts rents result results revenue
    revenues roi royalties sales sentiment share shares shipments stock stocks subscribers surplus throughput
    traffic turnover users utilisation utilization valuation value visitors volume volumes yield yields
""")
"""Measures of which more is better."""

BAD_WHEN_UP = _words("""
    a_loss breakdowns charge charges churn claims complaints cost costs debt debts default defaults deficit
    delays delinquencies dilution expense expenses fees impairment impairments indebtedness inflation
    interest_rates layoffs liabilities loss losses outflows overcapacity penalties provisions receivables risk
    risks shortfall uncertainty unemployment volatility write-down write-downs write-offs writedown writedowns
""")
"""Measures of which more is worse."""

UP = _words("""
    accelerate accelerated accelerates accelerating advance advanced advances advancing appreciated climb
    climbed climbing climbs double doubled doubles doubling gain gained gaining gains grew grow growing grown
    grows high higher increase increased increases increasing increasingly jump jumped jumping jumps quadrupled
    rallied rallies rally rallying rebound rebounded rebounds recover recovered recovering recovers rise risen
    rises rising rocketed rose skyrocket skyrocketed skyrockets soar soared soaring soars spike spiked spikes
    strengthen strengthened strengthening strengthens surge surged surges surging swell swelled triple tripled
    triples up upped uptick uptrend upturn upward upwards
""")

DOWN = _words("""
    contracted crash crashed crashes crashing crater cratered decline declined declines declining decrease
    decreased decreases decreasing deteriorate deteriorated deteriorates diminish diminished diminishes dip
    dipped dips dive dived dives down downtrend downturn downward downwards drop dropped dropping drops dwindle
    dwindled ease eased eases erode eroded fall fallen falling falls fell fewer halve halved halves lose loses
    losing lost low lower lowered lowering plummet plummeted plummets plunge plunged plunges plunging recede
    receded reduce reduced reduces reducing reduction reductions retreat retreated retreats sag sagged sank shed
    shrank shrink shrinking shrinks shrunk sink sinking sinks slid slide slides sliding slip slipped slipping
    slips slow slowdown slowed slowing slows slump slumped slumping slumps smaller tank tanked tanking tanks
    tumble tumbled tumbles tumbling weaken weakened weakening weakens
""")
"""Directions: their tone is that of what goes up or down."""

NARROW = _words("""
    cut cuts cutting narrow narrowed narrowing narrows save saved saves saving shrank shrunk trim trimmed trims
""")

WIDEN = _words("""
    balloon ballooned deepen deepened deepening deepens widen widened widening widens
""")
"""Directions that are said of losses, gaps and costs."""

LEVELS = (
    NARROW
    | WIDEN
    | _words("""
    advance advanced down expand expanded expanding expands fewer grow growing growth high higher lose loses
    losing lost low lower smaller up
""")
)
"""Without a thing that they are said of, these are no news."""

GOOD = _weighted({
    3.0: """
    beat_x raise_guidance to_profit
    """,
    2.5: """
    bullish
    """,
    2.0: """
    beat beats booming exceed exceeded exceeding exceeds excellent improve improved improvement improves
    improving outperform outperformed outperforms positive record_high strong surpass surpassed surpasses
    upgrade upgraded upgrades won_order
    """,
    1.5: """
    accretive better boom boost boosted boosting boosts breakthrough brisk favorable favourable flourishing
    healthy impressive improvements optimistic overweight positively profitable promising rated_good recovery
    robust rosy solid stronger strongest strongly success successful thrive topped tops undervalued upbeat
    upside
    """,
    1.2: """
    good great successfully
    """,
    1.0: """
    amazing attractive award awarded beating benefit benefited benefits best bull bulls buyback cost-effective
    delighted efficient enhance enhanced enhances enhancing excited happy love lucrative moon pleased record
    satisfied savings strength synergies synergy win winner winners wins won
    """,
    0.8: """
    advantage expanding expands expansion faster nice
    """,
    0.6: """
    easier expanded
    """,
    0.5: """
    cheap cheers hike hikes innovative monster reward speeds
    """,
    0.3: """
    leading
    """,
})  # fmt: skip
"""Good by themselves, by weight."""

BAD = _weighted({
    3.0: """
    cut_guidance miss_x to_loss
    """,
    2.5: """
    a_loss bankrupt bankruptcy bearish job_cuts
    """,
    2.0: """
    collapse collapsed collapses disappoint disappointed disappointing disappointment disappoints dismissals
    downbeat downgrade downgraded downgrades fraud insolvency insolvent misses negative negatively record_low
    scam scandal underperform underperformed warn weak weaker worse worsen worsened worsens
    """,
    1.8: """
    weakness worst
    """,
    1.5: """
    adverse adversely allegations bad bleak breach cancel canceled cancelled cancels close_plant crisis defect
    defective delay delayed difficult difficulties downsize downsizing fail failed failing fails failure fined
    hurt hurting hurts illegal impairment lawsuit lawsuits loss losses miss missed overvalued plight poor
    rated_bad slowdown sluggish struggling sucks sue sued suffer suffered suffers troubled underweight
    unfavorable unfavourable warned warning warns write-down writedown
    """,
    1.2: """
    burdened closure disruption dump dumped dumping probe problems recall recalls recession struggle struggled
    struggles sues suspend suspended suspends terminated tough trouble worries
    """,
    1.0: """
    abandon abandoned abandons accident alleged bear bears bubble burden challenging complaint crap damage
    damages dead delays dilutive dismiss dismissed dispute downside fear fears halt halted halts investigation
    litigation loser losers overbought penalty problem reject rejected rejects sadly shut shutdown shutting
    slack soft stagnant strike terminate terminates threat trap ugly unable uncertain worried worry
    """,
    0.7: """
    avoid expensive resign resigned resigns strikes
    """,
    0.5: """
    fire hit
    """,
})  # fmt: skip
"""Bad by themselves, by weight."""

NEGATIONS = _words("""
    ain't aren't barely can't cannot didn't doesn't don't fail failed fails hardly isn't n't neither never no
    nor not wasn't without won't
""")

BEFORE = _words("after against compared from versus vs vs.")
"""What follows is the past or the yardstick, up to the end of the clause."""
