from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.redis_errors import RedisAway, RedisRefused, may_pass

MANUAL = Path(__file__).parents[1] / "doc" / "how-to" / "redis.rst"


class ErrorTests(SynchronousTestCase):
    def test_advice(self) -> None:
        """Whatever Redis says, the operator reads what to do; for what the manual names, something of its own."""
        unknown = RedisRefused("STRANGE thing")
        self.assertEqual((unknown.code, str(unknown)), ("STRANGE", "STRANGE thing"))
        self.assertIn("manual", unknown.advice)
        text = MANUAL.read_text("utf-8")
        for code in ("NOAUTH", "WRONGPASS", "NOPERM", "OOM", "READONLY", "LOADING", "MISCONF"):
            self.assertNotEqual(RedisRefused(f"{code} and why").advice, unknown.advice)
            self.assertIn(f"``{code}``", text)
        self.assertIn("Start Redis", RedisAway("gone").advice)
        self.assertEqual(RedisAway("gone", "Do this.").advice, "Do this.")

    def test_may_pass(self) -> None:
        """A Redis that is away or still reading its data may be there a moment later; one that refuses us will not."""
        for error in (RedisAway("gone"), RedisRefused("LOADING data"), RedisRefused("BUSY script")):
            self.assertTrue(may_pass(error))
        for error in (RedisRefused("NOAUTH"), RedisRefused("WRONGPASS x"), RedisRefused("ERR what")):
            self.assertFalse(may_pass(error))
