"""``taky_dps``: taky's second program, which is not needed any more."""

from __future__ import annotations


def main() -> None:
    """Say who does its work now; scripts and units that still start it shall not fail."""
    print(
        "taky_dps: nothing to do. Data packages are served by taky itself now, on port 8443 (8080 without TLS);\n"
        "start that one only: taky -c taky.conf. Units that start taky_dps can be disabled."
    )


if __name__ == "__main__":
    main()
