{{ seen_bars() }}
