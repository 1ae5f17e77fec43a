"""What is said: CoT events, pure and without Twisted."""
