"""Agents' sessions on this host: tmux, session folders, and the patrol's eyes."""
