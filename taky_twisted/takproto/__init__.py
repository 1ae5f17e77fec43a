"""How it is spelled on a stream: framing, codecs, control messages; pure."""
