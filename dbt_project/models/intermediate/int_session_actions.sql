-- Which actions a bar carries, and when that was known. An action counts at the first bar on or after its ex-session.
{{ session_actions() }}
