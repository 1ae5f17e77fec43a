"""Where what must survive a restart is kept."""
