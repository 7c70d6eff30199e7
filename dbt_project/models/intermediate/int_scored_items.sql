-- Each version of a score, with its sessions: the one it belongs to, and the first and the last that decide with it.
{{ scored_items() }}
