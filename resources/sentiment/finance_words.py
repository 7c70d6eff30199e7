"""The words of `finance.py`: what is measured, which way it goes, and what is good or bad by itself.

Belongs here: tables, written for this project from general knowledge of business English. Does not: how they combine.

No word or weight is taken from a licensed dictionary or estimated from a labelled corpus.
"""

from __future__ import annotations


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


PHRASES: dict[str, str] = {
    r"cash flows?(?: from operations)?": "cash_flow",
    r"order (?:book|backlog|intake|stock|inflow)s?|orders received|new orders|backlogs?": "order_book",
    r"price targets?|target prices?|pts?(?= (?:to|from|of|at|on)\b)": "price_target",
    r"market shares?": "market_share",
    r"net (?:sales|revenues?|income|profits?|earnings)": "net_sales",
    r"(?:job|staff|personnel|headcount|workforce|employment) (?:cuts?|reductions?|cutbacks?)|"
    r"(?:cut|cuts|cutting|slash|slashes|axe|axes|shed|sheds|reduce|reduces|reducing|eliminate|eliminates)"
    r" (?:(?:its|the|about|around|some|up to|a total of|\d[\d.,]*|of) )*(?:\w+ )?"
    r"(?:jobs|staff|personnel|workforce|headcount|employees|positions|workers)": "job_cuts",
    r"(?:laid|lay|lays|laying) off|lay-?offs?|lay-?off": "job_cuts",
    r"(?:personnel|statutory|employee|co-determination|cooperation|codetermination) negotiations|"
    r"temporary (?:layoffs?|dismissals?)|made redundant|redundanc(?:y|ies)": "job_cuts",
    r"profit warnings?|warn(?:s|ed|ing)? (?:on|of|about|that)": "warn",
    r"(?:better|higher|stronger|more|greater) than (?:\w+ )?(?:expected|anticipated|forecast|estimated|expectations|consensus)|"
    r"(?:above|ahead of|exceed\w*|beat\w*|top(?:s|ped)?|surpass\w*|outstrip\w*) (?:\w+['’]? ){0,3}"
    r"(?:expectations?|estimates?|est\.?|consensus|forecasts?|views?|guidance|street)": "beat_x",
    r"(?:worse|lower|weaker|less|slower|smaller) than (?:\w+ )?(?:expected|anticipated|forecast|estimated|expectations|consensus)|"
    r"(?:below|short of|under|miss\w*|lag(?:s|ged)?|trail\w*|behind) (?:\w+['’]? ){0,3}"
    r"(?:expectations?|estimates?|est\.?|consensus|forecasts?|views?|guidance|street)": "miss_x",
    r"(?:in line|inline) with|as expected|on par with|unchanged from|remain(?:s|ed)? unchanged": "steady_x",
    r"(?:swing|swings|swung|turn|turns|turned|return|returns|returned|back) (?:in)?to (?:a |an )?(?:\w+ )?(?:profit\w*|black|growth)|"
    r"(?:back in|in) the black|turnaround": "to_profit",
    r"(?:swing|swings|swung|turn|turns|turned|slip|slips|slipped|fell|fall|falls|plunged?) (?:in)?to (?:a |an )?(?:\w+ )?(?:loss\w*|red)|"
    r"in the red|loss-?making|unprofitable": "to_loss",
    r"(?:net|operating|pre-?tax|quarterly|annual|full-year|heavy|deeper|wider) loss(?:es)?|(?:made|posted|reported|recorded|"
    r"posts|reports|books?|booked|suffer(?:s|ed)?) (?:a |an )?(?:\w+ )?loss(?:es)?": "a_loss",
    r"(?:raise[sd]?|hike[sd]?|lift(?:s|ed)?|increase[sd]?|boost(?:s|ed)?|up(?:s|ped)) (?:\w+ ){0,3}(?:guidance|outlook|forecasts?|"
    r"estimates?|price_target|dividends?|targets?)": "raise_guidance",
    r"(?:cut(?:s|ting)?|lower(?:s|ed|ing)?|trim(?:s|med)?|slash(?:es|ed)?|reduce[sd]?|withdraw(?:s|n)?|withdrew|suspend(?:s|ed)?) "
    r"(?:\w+ ){0,3}(?:guidance|outlook|forecasts?|estimates?|price_target|dividends?|targets?)": "cut_guidance",
    r"(?:share|stock) (?:buy-?backs?|repurchases?)|buy-?back": "buyback",
    r"(?:won|wins|win|winning|awarded|awards|secured|secures|land(?:s|ed)|clinche[sd]|received|receives|gets|got|bags|bagged)"
    r" (?:\w+ ){0,5}?(?:orders?|contracts?|deals?|tenders?|bids?|approvals?|awards?)": "won_order",
    r"all[- ]time highs?|52[- ]w(?:ee)?k highs?|new highs?|record[- ](?:high|breaking)s?": "record_high",
    r"all[- ]time lows?|52[- ]w(?:ee)?k lows?|new lows?|record lows?|multi-?year lows?": "record_low",
    r"(?:go|goes|going|went|get|getting|stay|adding|add|loading|load|buying|bought|i'm|am|very|super) long|long here|"
    r"bull(?:s|ish)? (?:flag|trend|run|market|setup)|break(?:s|ing)?[- ]?out|broke out": "bullish",
    r"(?:go|goes|going|went|get|getting|stay|adding|buying|i'm|am) short|short(?:ed|ing)|short (?:here|this|it)|"
    r"bear(?:s|ish)? (?:flag|trend|market|setup|raid)|break(?:s|ing)?[- ]?down|broke down|death cross|sell-?off|sold off": "bearish",
    r"no longer|by no means|far from|nowhere near|rather than|instead of": "not",
    r"due to|because of|as a result of|thanks to|owing to": "because",
    r"other than|apart from": "except",
    r"compared (?:with|to)|in comparison (?:with|to)|as against|as compared to|up from|down from": "compared",
}
"""Groups of words that mean one thing, as patterns on small letters, replaced in this order."""

GOOD_WHEN_UP = _words("""
    aum backlog bookings capacity cash_flow consumption customers deliveries demand dividend dividends earnings ebit
    ebita ebitda efficiency eps exports ffo growth guidance income margin margins market_share net_sales order_book
    orders outlook output passengers payout price price_target prices production productivity profit profitability
    profits results revenue revenues roi sales share shares shipments stock stocks subscribers surplus throughput traffic
    turnover users utilisation utilization valuation value visitors volume volumes yield yields rating liquidity
    investment investments equity performance competitiveness sentiment confidence assets popularity quality royalties
    receipts rents occupancy position index futures
""")
BAD_WHEN_UP = _words("""
    a_loss charge charges churn claims complaints cost costs debt debts deficit default defaults delays delinquencies
    dilution emissions expense expenses fees impairment impairments indebtedness interest_rates layoffs liabilities loss
    losses outflows overcapacity penalties pollution provisions receivables risk risks shortfall unemployment waste
    writedown writedowns write-down write-downs write-offs volatility competition uncertainty inflation breakdowns
""")
UP = _words("""
    accelerate accelerated accelerates accelerating advance advanced advances advancing appreciated climb climbed climbing
    climbs double doubled doubles doubling doubles expand expanded expanding expands gain gained gaining gains grew grow
    growing grown grows high higher increase increased increases increasing increasingly jump jumped jumping jumps
    quadrupled rally rallied rallies rallying rebound rebounded rebounds recover recovered recovering recovers rise risen
    rises rising rocketed rose skyrocket skyrocketed skyrockets soar soared soaring soars spike spiked spikes strengthen
    strengthened strengthening strengthens surge surged surges surging swell swelled triple tripled triples up upped upturn
    uptick upward upwards uptrend
""")
DOWN = _words("""
    contracted crash crashed crashes crashing crater cratered decline declined declines declining decrease decreased
    decreases decreasing deteriorate deteriorated deteriorates dip dipped dips dive dived dives down downturn downward
    downwards downtrend drop dropped dropping drops dwindle dwindled ease eased eases erode eroded fall fallen falling falls
    fell halve halved halves low lower lowered lowering lost lose loses losing plummet plummeted plummets plunge plunged
    plunges plunging recede receded reduce reduced reduces reducing reduction reductions retreat retreated retreats sag
    sagged shed shrank shrink shrinking shrinks shrunk sink sinking sinks slide slides sliding slid slip slipped slipping
    slips slow slowed slowing slowdown slows slump slumped slumping slumps sank tank tanked tanking tanks tumble tumbled
    tumbles tumbling weaken weakened weakening weakens
""")
"""Verbs and adverbs of direction: their tone is that of what goes up or down."""

NARROW = _words("narrow narrowed narrows narrowing shrank shrunk cut cuts cutting trim trimmed trims save saved saves saving")
WIDEN = _words("widen widened widens widening deepen deepened deepens deepening balloon ballooned")
"""Directions that are said of losses, gaps and costs: alone they say nothing."""

GOOD = {
    "strong": 2.0, "amazing": 1, "awarded": 1, "award": 1, "beat": 2, "beats": 2, "beat_x": 3, "beating": 1, "benefit": 1, "benefits": 1,
    "benefited": 1, "best": 1, "better": 1.5, "boost": 1.5, "boosted": 1.5, "boosts": 1.5, "boosting": 1.5, "breakthrough": 1.5, "brisk": 1.5, "bull": 1, "bulls": 1,
    "bullish": 2.5, "buyback": 1, "cheap": 0.5, "cost-effective": 1, "delighted": 1, "efficient": 1, "enhance": 1, "enhanced": 1, "enhances": 1,
    "enhancing": 1, "enables": 0.7, "excellent": 2, "exceed": 2, "exceeded": 2, "exceeds": 2, "exceeding": 2, "favorable": 1.5,
    "favourable": 1.5, "good": 1.2, "great": 1.2, "healthy": 1.5, "impressive": 1.5, "improve": 2, "improved": 2, "improves": 2,
    "improvement": 2, "improvements": 1.5, "improving": 2, "innovative": 0.5, "love": 1, "lucrative": 1, "moon": 1, "nice": 0.8, "optimistic": 1.5,
    "outperform": 2, "outperformed": 2, "outperforms": 2, "overweight": 1.5, "pleased": 1, "positive": 2, "positively": 1.5,
    "profitable": 1.5, "promising": 1.5, "raise_guidance": 3, "record": 1, "record_high": 2, "recovery": 1.5, "reward": 0.5, "robust": 1.5,
    "satisfied": 1, "solid": 1.5, "strength": 1, "stronger": 1.5, "strongest": 1.5, "strongly": 1.5, "success": 1.5, "successful": 1.5,
    "successfully": 1.2, "surpass": 2, "surpassed": 2, "surpasses": 2, "thrive": 1.5, "to_profit": 3, "tops": 1.5, "topped": 1.5, "undervalued": 1.5,
    "upbeat": 1.5, "upgrade": 2, "upgraded": 2, "upgrades": 2, "upside": 1.5, "win": 1, "winner": 1, "winners": 1, "wins": 1, "won": 1, "won_order": 2,
    "hike": 0.5, "hikes": 0.5, "savings": 1, "synergies": 1, "synergy": 1, "cheers": 0.5, "happy": 1, "leading": 0.3, "attractive": 1, "advantage": 0.8, "excited": 1,
    "expansion": 0.8, "flourishing": 1.5, "booming": 2, "boom": 1.5, "accretive": 1.5, "rosy": 1.5, "speeds": 0.5, "faster": 0.8, "easier": 0.6, "monster": 0.5,
}
"""Good by themselves, with weights."""
BAD = {
    "a_loss": 2.5, "to_loss": 3, "abandon": 1, "abandoned": 1, "abandons": 1, "accident": 1, "adverse": 1.5, "adversely": 1.5,
    "allegations": 1.5, "alleged": 1, "avoid": 0.7, "bad": 1.5, "bankrupt": 2.5, "bankruptcy": 2.5, "bear": 1, "bears": 1, "bearish": 2.5,
    "bleak": 1.5, "breach": 1.5, "bubble": 1, "cancel": 1.5, "cancelled": 1.5, "canceled": 1.5, "cancels": 1.5, "challenging": 1,
    "close_plant": 1.5, "closure": 1.2, "closing": 0, "collapse": 2, "collapsed": 2, "collapses": 2, "complaint": 1, "crisis": 1.5, "cut_guidance": 3,
    "damage": 1, "damages": 1, "dead": 1, "defect": 1.5, "defective": 1.5, "delay": 1.5, "delayed": 1.5, "delays": 1, "difficult": 1.5,
    "difficulties": 1.5, "disappoint": 2, "disappointed": 2, "disappointing": 2, "disappointment": 2, "disappoints": 2, "dismiss": 1, "dispute": 1, "disruption": 1.2,
    "downbeat": 2, "downgrade": 2, "downgraded": 2, "downgrades": 2, "downside": 1, "dump": 1.2, "dumped": 1.2, "dumping": 1.2, "expensive": 0.7,
    "fail": 1.5, "failed": 1.5, "failing": 1.5, "fails": 1.5, "failure": 1.5, "fear": 1, "fears": 1, "fined": 1.5, "fire": 0.5, "fraud": 2, "halt": 1,
    "halted": 1, "halts": 1, "hit": 0.5, "hurt": 1.5, "hurts": 1.5, "hurting": 1.5, "illegal": 1.5, "impairment": 1.5, "insolvency": 2, "insolvent": 2, "investigation": 1,
    "job_cuts": 2.5, "lawsuit": 1.5, "lawsuits": 1.5, "litigation": 1, "loss": 1.5, "losses": 1.5, "miss": 1.5, "miss_x": 3,
    "missed": 1.5, "misses": 2, "negative": 2, "negatively": 2, "overvalued": 1.5, "penalty": 1, "plight": 1.5, "poor": 1.5, "probe": 1.2,
    "problem": 1, "problems": 1.2, "recall": 1.2, "recalls": 1.2, "recession": 1.2, "record_low": 2, "reject": 1, "rejected": 1, "rejects": 1,
    "resign": 0.7, "resigned": 0.7, "resigns": 0.7, "sadly": 1, "scandal": 2, "scam": 2, "shut": 1, "shutdown": 1, "shutting": 1, "slowdown": 1.5, "sluggish": 1.5, "soft": 1,
    "strike": 1, "strikes": 0.7, "struggle": 1.2, "struggled": 1.2, "struggles": 1.2, "struggling": 1.5, "sucks": 1.5, "sue": 1.5, "sued": 1.5, "sues": 1.2, "suffer": 1.5,
    "suffered": 1.5, "suffers": 1.5, "suspend": 1.2, "suspended": 1.2, "suspends": 1.2, "terminate": 1, "terminated": 1.2, "terminates": 1, "threat": 1, "tough": 1.2,
    "trouble": 1.2, "troubled": 1.5, "uncertain": 1, "underperform": 2, "underperformed": 2, "underweight": 1.5, "unfavorable": 1.5,
    "unfavourable": 1.5, "warn": 2, "warned": 1.5, "warns": 1.5, "warning": 1.5, "weak": 2, "weaker": 2, "weakness": 1.8, "worried": 1, "worries": 1.2,
    "worry": 1, "worse": 2, "worsen": 2, "worsened": 2, "worsens": 2, "worst": 1.8, "write-down": 1.5, "writedown": 1.5, "trap": 1, "dilutive": 1, "stagnant": 1, "slack": 1,
    "burden": 1, "burdened": 1.2, "downsize": 1.5, "downsizing": 1.5, "dismissals": 2, "dismissed": 1, "unable": 1, "loser": 1, "losers": 1, "ugly": 1, "crap": 1, "overbought": 1,
}
"""Bad by themselves, with weights."""

LEVELS = _words("high higher low lower lose lost loses losing advance advanced expand expanding expands expanded up down grow growing growth")
"""Without a thing that they are said of, these are no news."""

NEGATIONS = _words("not no n't never without neither nor hardly barely cannot won't isn't doesn't don't didn't can't wasn't aren't ain't fail fails failed")
BEFORE = _words("compared versus vs vs. against from")
"""What follows is the past or the yardstick, up to the end of the clause."""
