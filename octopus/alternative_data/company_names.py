"""What companies are called besides their names, and which names are also something else.

Belongs here: tables for linking.py. Does not: matching.

Aliases and former names are facts of public record. Which words are ambiguous is our own judgement, made on headlines
and posts; the benchmark benchmarks/texts.py measures it.
"""

from __future__ import annotations

# fmt: off
ALIASES: dict[str, tuple[str, ...]] = {
    "3M": ("Minnesota Mining",),
    "Adobe": ("Adobe Systems",),
    "Advanced Micro Devices": ("AMD",),
    "Alibaba": ("Alibaba.com", "Aliexpress"),
    "AllianceBernstein": ("Alliance Capital Management", "Alliance Bernstein"),
    "Alphabet": ("Google", "$GOOG", "$GOOGL"),
    "Altria": ("Philip Morris USA",),
    "Amazon.com": ("Amazon",),
    "American Electric Power": ("AEP",),
    "American Express": ("AmEx",),
    "American International": ("AIG",),
    "Anheuser-Busch InBev": ("AB InBev", "Anheuser-Busch", "Anheuser Busch", "InBev"),
    "AT&T": ("AT & T",),
    "Bank of America": ("BofA", "B of A", "BAML", "Merrill Lynch", "Bank of America Merrill Lynch"),
    "Berkshire Hathaway": ("Berkshire", "$BRK-A", "$BRK-B"),
    "BHP": ("BHP Billiton",),
    "BHP Billiton": ("BHP",),
    "Block": ("Square Inc",),
    "Booking": ("Booking.com", "Priceline"),
    "BP": ("British Petroleum",),
    "China Petroleum & Chemical": ("Sinopec",),
    "Cisco Systems": ("Cisco",),
    "Cisco": ("Cisco Systems",),
    "Citigroup": ("Citi", "Citibank"),
    "Coca-Cola": ("Coke", "Coca Cola"),
    "ConocoPhillips": ("Conoco",),
    "Costco Wholesale": ("Costco",),
    "Deere": ("John Deere",),
    "Dominion Energy": ("Dominion Resources", "Dominion"),
    "Dominion Resources": ("Dominion Energy", "Dominion"),
    "Duke Energy": ("Duke",),
    "Eli Lilly": ("Lilly",),
    "Exxon Mobil": ("Exxon", "ExxonMobil"),
    "Facebook": ("Meta Platforms", "Meta", "$META"),
    "Ford Motor": ("Ford",),
    "General Electric": ("GE",),
    "General Motors": ("GM",),
    "Gilead Sciences": ("Gilead",),
    "Goldman Sachs": ("Goldman",),
    "Hewlett-Packard": ("Hewlett Packard", "HP Inc"),
    "Home Depot": ("Homedepot",),
    "Honeywell International": ("Honeywell",),
    "International Business Machines": ("IBM",),
    "Johnson & Johnson": ("J&J",),
    "JPMorgan Chase": ("JPMorgan", "JP Morgan", "J.P. Morgan", "J.P. Morgan Chase"),
    "Kraft Heinz": ("Kraft",),
    "Lockheed Martin": ("Lockheed",),
    "McDonald's": ("McDonalds", "McDonald’s"),
    "Merck": ("Merck & Co",),
    "Meta Platforms": ("Facebook", "Meta", "$FB"),
    "Netflix": ("Netflix.com",),
    "NextEra Energy": ("NextEra",),
    "NIKE": ("Nike",),
    "PepsiCo": ("Pepsi",),
    "PG&E": ("Pacific Gas & Electric", "Pacific Gas and Electric"),
    "Philip Morris International": ("Philip Morris",),
    "Priceline": ("Priceline.com", "Booking.com", "$BKNG"),
    "Procter & Gamble": ("P&G", "Procter and Gamble"),
    "QUALCOMM": ("Qualcomm",),
    "Range Resources": (),
    "Raytheon Technologies": ("Raytheon", "United Technologies"),
    "Royal Dutch Shell": ("Shell", "$RDS-A", "$RDS-B"),
    "RTX": ("Raytheon", "United Technologies"),
    "Shell": ("Royal Dutch Shell", "$RDS-A", "$RDS-B"),
    "Taiwan Semiconductor Manufacturing": ("TSMC", "Taiwan Semiconductor", "Taiwan Semi"),
    "Tesla": ("Tesla Motors",),
    "Total": ("TotalEnergies", "Total SA"),
    "TotalEnergies": ("Total SA",),
    "Toyota Motor": ("Toyota",),
    "Twenty-First Century Fox": ("21st Century Fox",),
    "Twitter": (),
    "United Parcel Service": ("UPS",),
    "UnitedHealth": ("United Health",),
    "Verizon Communications": ("Verizon",),
    "Wal-Mart Stores": ("Wal-Mart", "Walmart", "Wal Mart"),
    "Walgreens Boots Alliance": ("Walgreens",),
    "Walmart": ("Wal-Mart", "Wal-Mart Stores"),
    "Walt Disney": ("Disney",),
    "Wells Fargo": ("WellsFargo",),
}
"""Further and former names, by name without legal form; with a $, tickers of other share classes or of the past."""

COINED = frozenset((
    "abbvie", "abiomed", "alibaba", "allstate", "altria", "amgen", "astrazeneca", "berkshire hathaway",
    "bank of america", "bofa", "celgene", "chevron", "cisco", "citigroup", "citibank", "coca-cola", "coca cola",
    "comcast", "costco", "disney", "exelon", "exxon", "exxonmobil", "exxon mobil", "facebook", "fedex",
    "general electric", "gilead", "goldman", "goldman sachs", "google", "halliburton", "home depot", "honeywell",
    "hsbc", "johnson & johnson", "jpmorgan", "jp morgan", "lockheed", "lockheed martin", "mastercard", "mcdonalds",
    "mcdonald's", "medtronic", "microsoft", "netflix", "novartis", "nvidia", "paypal", "pepsi", "pepsico", "petrochina",
    "pfizer", "philip morris", "procter & gamble", "qualcomm", "salesforce", "sanofi", "schlumberger", "sinopec",
    "starbucks", "tesla", "toyota", "tsmc", "twitter", "unilever", "unitedhealth", "verizon", "wal-mart", "walgreens",
    "walmart", "walt disney", "wells fargo",
))
"""Names that mean nothing else: they count in small letters too."""

STRICT = frozenset((
    "advance", "alphabet street", "best", "block", "carnival", "discover", "gap", "general", "match", "national",
    "progressive", "range", "snap", "southern", "square", "target", "total", "travelers", "unity",
))
"""Names that begin any sentence or headline: they count with their legal form, a possessive, or after "shares of"."""

OTHER_MEANINGS = (
    r"(?:big|candy|caramel|toffee|adam['’]?s|green|red|baked|bad|rotten|golden|an|crab|custard|bitten|fresh) apple",
    r"apple (?:pie|cider|juice|sauce|tree|orchard|picking|crumble|cake|valley|blossom|butter|martini|grower|harvest|"
    r"variet|farm|core|crop|peel|tart|turnover|strudel|cheeks|of (?:my|his|her|the) eye)\w*",
    r"amazon(?:'s|’s)? (?:rain ?forest|river|basin|jungle|forest|tribe|fires?|delta|deforestation)\w*",
    r"(?:work|works|travel|tourist|student|entry|transit|schengen|golden|spouse|family|graduate|business|"
    r"skilled worker|h-?1b|uk|us|eu|e-?|your|my|a|the|of|for|on|exit|temporary|seasonal|talent|residence) visa",
    r"visa (?:application|requirement|holder|waiver|rule|restriction|ban|scheme|programme|program|overstay|polic|free|"
    r"system|route|status|sponsor|processing|office|is (?:granted|required))\w*",
    r"shell (?:compan|corporation|script|casing|shock|out|entit|game|hole|suit|structure)\w*",
    r"(?:egg|sea|nut|bomb|artillery|empty|hard|soft|in a nut|tortoise|snail) ?shells?",
    r"(?:toronto|old)[ -]dominion\w*",
    r"dominion (?:voting|diamond|bank|status|over)\w*",
    r"(?:the|a|royal|united nations|city|un|bank|greenhouse) charter",
    r"charter (?:school|flight|plane|boat|trust|rate|of|hire|yacht|airline)\w*",
    r"(?:grand |arch|the |iron )duke",
    r"duke (?:university|of|basketball|blue|medical|health|ellington|nukem|fan)\w*",
    r"(?:coal and|metallurgical|snort\w*|diet|line of|of) coke",
    r"coke (?:oven|plant|price|batter|and coal)\w*",
    r"ford (?:madox|foundation|prefect|theat)\w*",
    r"(?:harrison|tom|gerald|betty|doug|rob|henry|ben) ford",
    r"(?:counter|the|an|share|gather\w*|military|signals?|human) intel",
    r"intel (?:briefing|report|agenc|officer|source|community|committee|chief)\w*",
    r"oracle (?:of|at delphi)\w*",
    r"(?:the|an) oracle",
    r"sesame street",
    r"meta (?:analys|data|description|game|tag|level|search)\w*",
    r"very meta|so meta",
    r"price target\w*|target (?:price|date|rate)\w*|pt target",
    r"gilead (?:\d|balm)|balm in gilead",
    r"(?:san|st\.?|saint) (?:francisco|cisco)",
    r"lilly (?:pulitzer|singh|pad)",
    r"kraft paper",
    r"(?:snl|john|mrs?\.?|adam) citi",
    r"citi (?:field|bike)",
    r"chase (?:down|the|after|yield)",
    r"caterpillar (?:moth|butterfl|track|drive)\w*|(?:hungry|very hungry|the|a|hairy) caterpillar",
    r"mcdonald's farm",
)
"""Phrases in which a company's name means something else, without regard to capitals; one pattern each."""

ENTITY_NOUNS = frozenset((
    "academy", "bank", "bancorp", "capital", "church", "club", "college", "council", "county", "foundation", "hall",
    "hospital", "hotel", "institute", "island", "lake", "museum", "park", "partners", "river", "road", "school",
    "securities", "street", "theatre", "trust", "university", "valley",
))
"""After a name that is also a word they make another name of it: "Charter Trust", "Duke University"."""

DESCRIPTORS = frozenset((
    "biopharma", "biosciences", "biotechnologies", "brands", "chemical", "communications", "electronics", "energy",
    "enterprises", "gold", "industries", "international", "laboratories", "materials", "mining", "motor", "motors",
    "optoelectronics", "petroleum", "pharma", "pharmaceuticals", "resources", "sciences", "semiconductor", "software",
    "solutions", "stores", "systems", "technologies", "technology", "therapeutics",
))
"""Last words of a company's name that writers leave out."""

ORDINARY_FIRST_WORDS = frozenset((
    "active", "advance", "advanced", "advantage", "alliance", "alpha", "american", "anchor", "applied", "arctic",
    "atlantic", "atlas", "avalanche", "beyond", "broad", "canadian", "capital", "cardinal", "central", "century",
    "charter", "china", "choice", "church", "cincinnati", "citizens", "clean", "coastal", "columbia", "comfort",
    "commerce", "community", "compass", "computer", "constellation", "consolidated", "continental", "crown", "delta",
    "digital", "discovery", "diversified", "dollar", "dominion", "eagle", "eastern", "edison", "electronic", "element",
    "emerald", "energy", "enterprise", "equity", "essential", "european", "express", "extreme", "federal", "fidelity",
    "financial", "first", "fortune", "forward", "foundation", "franklin", "freedom", "frontier", "fusion", "gaming",
    "general", "genuine", "global", "golden", "granite", "graphic", "green", "growth", "harbor", "health", "heritage",
    "horizon", "hudson", "illinois", "independence", "independent", "industrial", "innovative", "insight", "integrated",
    "interactive", "international", "investors", "jackson", "journal", "kansas", "keystone", "liberty", "lincoln",
    "living", "madison", "marathon", "marine", "martin", "master", "matrix", "medical", "meridian", "middle", "midwest",
    "mobile", "modern", "molecular", "monster", "mountain", "national", "natural", "newport", "norfolk", "northern",
    "northwest", "ocean", "omega", "optical", "orient", "pacific", "packaging", "paragon", "parker", "patriot",
    "penguin", "people", "phoenix", "pilgrim", "pilot", "pinnacle", "pioneer", "planet", "platinum", "power",
    "precision", "premier", "principal", "progress", "provident", "public", "quality", "quantum", "quest", "radiant",
    "range", "regency", "regional", "reliance", "republic", "resolute", "retail", "rigel", "rocket", "royal", "santa",
    "science", "security", "select", "service", "silicon", "silver", "simply", "southern", "southwest", "spectrum",
    "spirit", "standard", "sterling", "strategic", "summit", "superior", "synergy", "taiwan", "target", "texas",
    "tractor", "transition", "tribune", "trinity", "triumph", "union", "united", "universal", "urban", "valley",
    "vector", "velocity", "venture", "victory", "virginia", "vista", "waters", "western", "world",
))
"""First words of companies' names that do not stand for the company alone."""

AMBIGUOUS = frozenset((
    "amazon", "apple", "berkshire", "block", "booking", "caterpillar", "charter", "chase", "citi", "coke", "dominion",
    "duke", "ford", "intel", "kraft", "lilly", "meta", "oracle", "shell", "square", "visa",
))
"""Names that are words or people too: they count with a capital letter, or in small letters beside market words."""

ORDINARY_TICKERS = frozenset((
    "ABC", "AI", "ALL", "AM", "ANY", "ARE", "BIG", "BUD", "BUY", "CAN", "CAR", "CAT", "CEO", "CFO", "COST", "CPI", "CT",
    "DAY", "DIS", "DOW", "EAT", "EDIT", "EDT", "EPS", "EST", "ET", "ETF", "EU", "EVER", "FAST", "FDA", "FED", "FOR",
    "FUN", "FX", "GDP", "HAS", "HD", "HOPE", "IPO", "IT", "JOB", "KEY", "LIFE", "LOVE", "LOW", "MAIN", "MAN", "NEW",
    "NICE", "NOW", "ODD", "OPEN", "OUT", "PAY", "PEAK", "PLAY", "PM", "POST", "PPL", "PT", "Q", "REAL", "REX", "RUN",
    "SAFE", "SEC", "SEE", "SNP", "STAY", "SUN", "TEAM", "TOT", "TRUE", "TV", "TWO", "UK", "US", "USA", "WELL", "WORK",
    "YOU", "YTD",
))
"""Tickers that are also words or common abbreviations: in capitals they mean the word; in a list of tickers, with an
exchange or as a cashtag they count."""

FOREIGN_NAMESAKES = {"T": r"(?i)\btelus\b"}
"""Cashtags that another exchange's company uses too, and a sign that it is meant."""
# fmt: on
