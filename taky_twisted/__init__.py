"""A TAK server: routes Cursor-on-Target events for ATAK, WinTAK, iTAK and everything that speaks to them."""

__version__ = "0.1.0"
