"""The doors that speak CoT: TCP and TLS streams, UDP, multicast, the monitor port."""
