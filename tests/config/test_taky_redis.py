from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from taky_twisted.config.conf_file import ConfFile
from taky_twisted.config.taky_redis import parse_redis, read_redis
from taky_twisted.config.values import ConfigError, RedisSettings


class ParseRedisTests(SynchronousTestCase):
    def test_as_taky(self) -> None:
        """The switch of taky is a truth value, where true is the Redis of this machine, or an address as redis-py's."""
        local = RedisSettings("tcp:localhost:6379")
        for text, settings in {
            "true": local,
            "Yes": local,
            "false": None,
            "0": None,
            "localhost": local,
            "redis.example:6380": RedisSettings("tcp:redis.example:6380"),
            "redis://localhost": local,
            "redis://:hush@host": RedisSettings("tcp:host:6379", password="hush"),
            "redis://anna:p%40%2Fw@host:1/3": RedisSettings("tcp:host:1", "anna", None, 3, "p@/w"),
            "redis://host?db=4": RedisSettings("tcp:host:6379", db=4),
            "rediss://host": RedisSettings("tls:host:6379"),
            "redis://[::1]:6380": RedisSettings(r"tcp:\:\:1:6380"),
            "redis://": local,
            "unix:///run/a=b.sock?db=1": RedisSettings(r"unix:/run/a\=b.sock", db=1),
            "unix://anna:hush@/run/redis.sock": RedisSettings("unix:/run/redis.sock", "anna", None, 0, "hush"),
        }.items():
            self.assertEqual(parse_redis(text), settings, text)

    def test_refused(self) -> None:
        """Anything else is refused with what is allowed, and without its password."""
        for text in (
            *("a:b:c", "a:0", "[::1]", "a b", "http://host", "redis://anna:hush@host:x", "redis://:hush@host/x"),
            *("redis://:hush@host:99999", "redis://a:hush#x@host", "redis://:hush@host?timeout=1", "redis://[:hush@a"),
            *("unix://host/path", "redis://a:hush/x@host"),
        ):
            error = self.assertRaises(ValueError, parse_redis, text)
            self.assertIn("allowed: ", str(error), text)
            self.assertNotIn("hush", str(error))


class ReadRedisTests(SynchronousTestCase):
    def read(self, **keys: str) -> RedisSettings:
        """Read a file with some keys."""
        return read_redis(ConfFile({"taky": keys}, Path("/site/taky.conf"), Path("/site")))

    def test_keys(self) -> None:
        """The new keys stand beside taky's."""
        self.assertEqual(self.read(), RedisSettings(""))
        self.assertEqual(
            self.read(redis_user="anna", redis_password_file="pw", redis_db="2"),
            RedisSettings("", "anna", Path("/site/pw"), 2),
        )
        self.assertEqual(
            self.read(redis="redis://host/3", redis_user="anna", redis_db="3"),
            RedisSettings("tcp:host:6379", "anna", None, 3),
        )

    def test_contradictions(self) -> None:
        """One thing that is said in two ways is refused."""
        for keys in (
            {"redis": "redis://anna@host", "redis_user": "bert"},
            {"redis": "redis://host/1", "redis_db": "2"},
            {"redis": "redis://:hush@host", "redis_password_file": "pw"},
        ):
            error = self.assertRaises(ConfigError, self.read, **keys)
            self.assertIn("allowed: one of the two", str(error))
            self.assertNotIn("hush", str(error))
