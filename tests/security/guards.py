"""Every guard of the server, by its text: what it is, how it is taken out, and which test should miss it then.

`tests.security.mutate` takes them out one by one. `tests/security/test_guards.py` sees to it that each is still where
this list says, and that nothing in the server looks like a guard without being in it.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCESS, GROUPS = "tests.security.test_marti_access", "tests.security.test_marti_groups"
STREAMS, LOGINS = "tests.security.test_streams", "tests.security.test_logins"
OPERATORS = "tests.security.test_operators"
QUICK = f"{ACCESS}.RoutesTests.test_one_of_each"
ENROLLING = f"{ACCESS}.RoutesTests.test_enrollment"
PAGES = f"{ACCESS}.PagesTests.test_other_sites"
STRANGERS = f"{GROUPS}.ChangesTests.test_strangers"
REFUSED = f"{GROUPS}.ChangesTests.test_how_strangers_are_refused"
MATES = f"{GROUPS}.ChangesTests.test_mates"
NOBODY = f"{GROUPS}.ChangesTests.test_anonymous"
OTHERS = f"{GROUPS}.LooksTests.test_others"
ACTIONS = f"{STREAMS}.ActionsTests"
TABLE = f"{LOGINS}.LoginsTests.test_table"


@dataclass(frozen=True)
class Guard:
    """One place where somebody is refused, or kept from seeing something."""

    module: str
    """A file below ``taky_twisted``."""
    text: str
    """What stands there, once in that file."""
    without: str
    """What stands there when the guard is taken out."""
    by: str
    """Which test misses it."""


GUARDS = (
    # Who may call a route
    Guard("marti/site.py", "if not self.anonymous:", "if False:", QUICK),
    Guard("marti/site.py", 'elif access is not Access.EVERYBODY and self.auth != "none":', "elif False:", QUICK),
    Guard(
        "marti/site.py",
        "if request.invited is None and not request.principal.by_password:",
        "if False:",
        QUICK,
    ),
    Guard(
        "marti/site.py", "elif request.invited is not None and access is not Access.EVERYBODY:", "elif False:", QUICK
    ),
    Guard("marti/site.py", "if access is Access.ADMIN and not request.principal.admin:", "if False:", QUICK),
    Guard("marti/request.py", "self.site.check_access(self, route.access)", "pass", QUICK),
    Guard(
        "marti/request.py",
        "self.site.check_access(self, Access.CALLER)  #",
        "pass  #",
        f"{ACCESS}.RoutesTests.test_unknown",
    ),
    Guard("marti/request.py", 'if route.methods != {"GET"}:', "if False:", PAGES),
    Guard(
        "marti/request.py",
        "any(not is_same_place(origin, host, public_url) for origin in origins)",
        "False",
        PAGES,
    ),
    Guard(
        "marti/request.py", 'if foreign or self.getHeader(b"sec-fetch-site") == b"cross-site":', "if foreign:", PAGES
    ),
    Guard(
        "marti/request.py",
        "self.principal = self.site.marti.granted(self.granted, host_of(self.getClientAddress()))",
        "self.principal = self.granted",
        f"{GROUPS}.LooksTests.test_switched_off",
    ),
    Guard("marti/request.py", "if caller.by_password:", "if False:", f"{ACCESS}.CuttingTests.test_passwords"),
    Guard(
        "marti/origins.py",
        "return any(place == _place(url) for url in ours if url is not None)",
        "return True",
        PAGES,
    ),
    Guard(
        "marti/origins.py", "if place is None:\n        return False", "if place is None:\n        return True", PAGES
    ),
    Guard(
        "marti/websocket.py",
        'if not is_same_place(origin, request.getHeader(b"host"), self._info.public_url):',
        "if False:",
        PAGES,
    ),
    # Who asks
    Guard("marti/callers.py", "if refusal is not None:", "if False:", QUICK),
    Guard("marti/callers.py", "shown = ANONYMOUS  #", "pass  #", ENROLLING),
    Guard("marti/callers.py", "return replace(certified, admin=False)", "return certified", ENROLLING),
    Guard(
        "marti/callers.py",
        'return self._both(self.accounts, request, said) if scheme == "basic" else ANONYMOUS',
        'return self._both(self.accounts, request, said) if scheme == "basic" else certified',
        f"{ACCESS}.RoutesTests.test_both",
    ),
    Guard(
        "marti/callers.py",
        'if site.auth == "password" and shown.anonymous and scheme == "basic":',
        'if scheme == "basic":',
        f"{ACCESS}.RoutesTests.test_certificates",
    ),
    Guard(
        "marti/callers.py",
        "admin=principal.admin and admin",
        "admin=principal.admin",
        f"{ACCESS}.RoutesTests.test_passwords",
    ),
    Guard("marti/callers.py", " or self.accounts.find(invited.name) is None or", " or", ENROLLING),
    Guard("marti/callers.py", " or self.accounts.is_barred(invited.name):", ":", ENROLLING),
    Guard("marti/callers.py", "request.invited = invited", "pass", ENROLLING),
    Guard(
        "marti/callers.py",
        "if certificate is None or account_key(certificate.common_name) != account_key(name):",
        "if certificate is None:",
        f"{ACCESS}.RoutesTests.test_both",
    ),
    Guard(
        "marti/callers.py",
        "if certificate is None or account_key(certificate.common_name) != account_key(name):",
        "if certificate is not None and account_key(certificate.common_name) != account_key(name):",
        f"{ACCESS}.RoutesTests.test_both",
    ),
    Guard(
        "marti/callers.py",
        'raise WrongCredentials("the access token does not count (any more)", str(error)) from error',
        "return ANONYMOUS",
        ENROLLING,
    ),
    Guard(
        "marti/channel.py",
        "refusal, accounts = refusal_of(self.transport, self.principal), self",
        "refusal, accounts = None, self",
        f"{ACCESS}.CuttingTests.test_certificates",
    ),
    Guard(
        "marti/channel.py",
        "refusal = accounts.refusal_of(self.account)",
        "pass",
        f"{ACCESS}.CuttingTests.test_passwords",
    ),
    Guard(
        "admitting.py",
        "if before is not None and ends_passwords(before, after):",
        "if False:",
        f"{ACCESS}.CuttingTests.test_passwords",
    ),
    Guard(
        "opening.py",
        "anonymous = not asking if settings.anonymous_http is None else settings.anonymous_http",
        "anonymous = True",
        f"{ACCESS}.WiringTests.test_anonymous",
    ),
    Guard(
        "enrolling.py",
        'if getattr(endpoint, "tls", None) is None:',
        "if False:",
        f"{ACCESS}.WiringTests.test_passwords_in_the_clear",
    ),
    Guard(
        "endpoints/doors.py",
        'if _auth(keys) not in (None, "none"):',
        "if False:",
        f"{ACCESS}.WiringTests.test_passwords_in_the_clear",
    ),
    Guard("endpoints/doors.py", 'return cast("ClientCert", said or fitting[0])', 'return "optional"', TABLE),
    # Accounts, tokens, invites, the register
    Guard(
        "identity/accounts.py",
        "admin=account.admin and account.enabled",
        "admin=account.admin",
        f"{ACCESS}.RoutesTests.test_certificates",
    ),
    Guard("identity/accounts.py", "if refusal is None and not right:", "if False:", TABLE),
    Guard("identity/accounts.py", "if not account.enabled:", "if False:", TABLE),
    Guard("identity/accounts.py", "if self._banned(account.name):", "if False:", TABLE),
    Guard(
        "identity/accounts.py",
        "return self._banned(name) or (account is not None and not account.enabled)",
        "return self._banned(name)",
        ENROLLING,
    ),
    Guard("identity/accounts.py", "if issued <= account.since:", "if False:", ENROLLING),
    Guard(
        "identity/accounts.py",
        "if refusal is not None or account is None:\n            raise BadCredentials(refusal)",
        "if account is None:\n            raise BadCredentials(refusal)",
        ENROLLING,
    ),
    Guard("identity/revocation.py", "if certificate.serial in revoked:", "if False:", TABLE),
    Guard("identity/revocation.py", "ban = self._ban_of(certificate.common_name)", "ban = None", TABLE),
    Guard("identity/revocation.py", "return ban is not None and ban.until is None", "return False", TABLE),
    Guard(
        "identity/revocation.py",
        "return ban is not None and (ban.until is None or ban.until.timestamp() >= since)",
        "return ban is not None and ban.until is None",
        ENROLLING,
    ),
    Guard(
        "identity/revocation.py",
        "return certificate.serial not in valid and certificate.begins <= ban.until.timestamp()",
        "return False",
        TABLE,
    ),
    Guard("identity/tls.py", "if register is not None and register.is_revoked(certificate):", "if False:", TABLE),
    Guard(
        "identity/tls.py",
        "if (certificate.issuer, certificate.serial) in self._revoked:",
        "if False:",
        f"{LOGINS}.LoginsTests.test_revocation_list",
    ),
    Guard("identity/tls.py", "if not ok:", "if False:", TABLE),
    Guard("identity/tls.py", "return handshake.refusal is None", "return True", TABLE),
    Guard(
        "identity/transport.py",
        "return tls.factory.creator.refusal_of(principal.certificate)",
        "return None",
        QUICK,
    ),
    Guard(
        "enrollment/access_tokens.py",
        "key.public_key().verify(_decoded(parts[2]), signed, PKCS1v15(), SHA256())",
        "pass",
        ENROLLING,
    ),
    Guard("enrollment/access_tokens.py", "if audience != AUDIENCE or", "if", ENROLLING),
    Guard("enrollment/access_tokens.py", "if now >= ends:", "if False:", ENROLLING),
    Guard(
        "enrollment/invites.py",
        "if invite is not None and invite.expires > now:",
        "if invite is not None:",
        f"{ACCESS}.RoutesTests.test_head",
    ),
    Guard("enrollment/invites.py", "return found if _same(found.name, name) else None", "return found", ENROLLING),
    Guard(
        "enrollment/invites.py",
        "for use in self._spent.get(hashed, {}).values() if use.expires > now]",
        "for use in self._spent.get(hashed, {}).values()]",
        f"{ACCESS}.CuttingTests.test_grace",
    ),
    Guard(
        "enrollment/invites.py",
        "return any(use.client_uid == client_uid and use.expires > now for use in uses)",
        "return any(use.expires > now for use in uses)",
        ENROLLING,
    ),
    Guard(
        "enrollment/service.py",
        "if not self.invites.is_open(invited):",
        "if False:",
        ENROLLING,
    ),
    Guard(
        "enrollment/issuing.py",
        "if request.common_name is not None and _folded(request.common_name) != _folded(name):",
        "if False:",
        f"{GROUPS}.CertificatesTests.test_own_name",
    ),
    Guard(
        "enrolling.py",
        "return None if found is None or self._was_banned(found.name, found.since) else found",
        "return found",
        ENROLLING,
    ),
    Guard(
        "marti/tls.py",
        "if not self._enrollment.invites.was_spent_by(invited, device_of(request).client_uid):",
        "if False:",
        ENROLLING,
    ),
    Guard(
        "marti/tls.py",
        "if accounts is not None and accounts.is_barred(name):",
        "if False:",
        f"{ACCESS}.CuttingTests.test_while_a_request_comes",
    ),
    # What is shown over HTTP
    Guard("marti/contacts.py", "if contact.shown_to(principal.groups_out) and", "if", OTHERS),
    Guard(
        "marti/contacts.py",
        "if not groups <= request.principal.groups_out:",
        "if False:",
        f"{GROUPS}.LooksTests.test_group_by_name",
    ),
    Guard(
        "marti/subscriptions.py",
        "            and not subscription.principal.groups_in.isdisjoint(principal.groups_out)\n",
        "",
        OTHERS,
    ),
    Guard(
        "marti/subscriptions.py",
        "            and (not subscription.incognito or subscription.principal.same_as(principal))\n",
        "",
        f"{GROUPS}.LooksTests.test_incognito",
    ),
    Guard(
        "marti/subscriptions.py",
        "names = own.groups_in | own.groups_out",
        "names = theirs.groups_in | theirs.groups_out",
        f"{GROUPS}.LooksTests.test_others_groups",
    ),
    Guard(
        "marti/groups.py",
        "if (chosen_in, chosen_out) != (who.groups_in, who.groups_out):",
        "if False:",
        NOBODY,
    ),
    Guard(
        "marti/files.py",
        "if contact is None or contact.groups_in.isdisjoint(caller.principal.groups_out):",
        "if contact is None:",
        f"{GROUPS}.LooksTests.test_others_callsigns",
    ),
    Guard("marti/kml.py", "groups_out=query.groups_out & groups", "groups_out=groups", OTHERS),
    Guard(
        "history/keeper.py",
        "readers = self._readers(destinations, source)",
        "readers = None",
        f"{GROUPS}.LooksTests.test_directed",
    ),
    Guard("stores/history_past.py", "f\"group_set IN ({', '.join(seen)})\",", '"1",', OTHERS),
    Guard(
        "stores/history_past.py",
        '"(readers IS NULL OR EXISTS (SELECT 1 FROM json_each(readers) WHERE value = :reader))",',
        '"1",',
        f"{GROUPS}.LooksTests.test_directed",
    ),
    # Files and videos
    Guard(
        "enterprise_sync/files.py",
        "return not record.groups.isdisjoint(self.principal.groups_out)",
        "return True",
        OTHERS,
    ),
    Guard(
        "enterprise_sync/files.py",
        "record.submitter is not None and record.submitter == self.principal.name",
        "True",
        MATES,
    ),
    Guard("enterprise_sync/files.py", "return record.submitter is not None and", "return", NOBODY),
    Guard(
        "enterprise_sync/files.py", "if self._there(record) and caller.sees(record)]", "if self._there(record)]", OTHERS
    ),
    Guard("enterprise_sync/files.py", "                and caller.sees(record)\n", "", OTHERS),
    Guard("enterprise_sync/files.py", "if not groups:", "if False:", QUICK),
    Guard("enterprise_sync/files.py", "if not groups <= caller.principal.groups_in:", "if False:", STRANGERS),
    Guard(
        "enterprise_sync/files.py",
        "if not any(self._there(record) and (caller.sees(record) or caller.owns(record)) for record in records):",
        "if False:",
        REFUSED,
    ),
    Guard(
        "enterprise_sync/files.py",
        "if self._may_change(caller, record):\n                self._put(",
        "if True:\n                self._put(",
        MATES,
    ),
    Guard("enterprise_sync/files.py", "if caller.principal.anonymous and not caller.admin:", "if False:", QUICK),
    Guard(
        "enterprise_sync/files.py",
        "if wanted(record)]\n        mine = [record for record in found if caller.admin or caller.owns(record)]",
        "if wanted(record)]\n        mine = found",
        MATES,
    ),
    Guard(
        "enterprise_sync/files.py",
        "if not any(self._there(record) and caller.sees(record) for record in found):",
        "if not found:",
        REFUSED,
    ),
    Guard(
        "enterprise_sync/files.py",
        "record.submitter is None and self._addresses.get(record.number) == caller.address",
        "True",
        NOBODY,
    ),
    Guard("enterprise_sync/files.py", "if same and self._may_change(caller, record):", "if same:", STRANGERS),
    Guard("enterprise_sync/search.py", "if record.tool == PRIVATE:", "if False:", f"{GROUPS}.LooksTests.test_private"),
    Guard("video/videos.py", "return not groups_out.isdisjoint(held.record.groups)", "return True", OTHERS),
    Guard(
        "video/videos.py",
        "if owner != who.name and not (owner == UNKNOWN and _sees(who.groups_out, held)):",
        "if False:",
        MATES,
    ),
    Guard("video/videos.py", "if groups is not None and not groups <= who.groups_in:", "if False:", REFUSED),
    Guard("video/videos.py", "if held is None or not _sees(groups_out, held):", "if held is None:", OTHERS),
    Guard("video/videos.py", "if not groups:", "if False:", QUICK),
    Guard(
        "video/videos.py",
        "if home != connection.uid or homes.setdefault(feed.uid, home) != home:",
        "if homes.setdefault(feed.uid, home) != home:",
        f"{GROUPS}.ChangesTests.test_feeds_of_others",
    ),
    # Streams: who comes in
    Guard(
        "streaming/protocol.py",
        "if refusal is not None:\n            self._refused(refusal)",
        "if False:\n            self._refused(refusal)",
        f"{LOGINS}.LoginsTests.test_resumed",
    ),
    Guard("streaming/protocol.py", "if self.factory.wants_password(principal):", "if False:", TABLE),
    Guard(
        "streaming/protocol.py",
        "refusal = refusal_of(self.transport, principal)\n            if refusal is None",
        "refusal = None\n            if refusal is None",
        f"{LOGINS}.LoginsTests.test_while_connected",
    ),
    Guard(
        "streaming/protocol.py",
        'refusal = accounts.refusal_of(principal.name or "")',
        "pass",
        f"{LOGINS}.LoginsTests.test_while_connected",
    ),
    Guard(
        "streaming/protocol.py",
        "if certificate is not None and account_key(certificate.common_name) != account_key(said.username):",
        "if False:",
        TABLE,
    ),
    Guard("streaming/factory.py", 'if self._auth == "cert+password":', "if False:", TABLE),
    Guard(
        "streaming/factory.py",
        'return principal.anonymous and (self._auth == "password" or self.accounts.any_password)',
        "return False",
        TABLE,
    ),
    Guard("admitting.py", "return _WITHOUT_A_WORD[tls.settings.client_cert]", 'return "none"', TABLE),
    Guard(
        "routing/granting.py",
        "if (had.by_password and ends_passwords(before, after)) or granted.name != had.name:",
        "if granted.name != had.name:",
        f"{LOGINS}.LoginsTests.test_while_connected",
    ),
    Guard(
        "routing/granting.py",
        "switching.grant(router, stream, granted, now)",
        "pass",
        f"{LOGINS}.LoginsTests.test_other_groups",
    ),
    # Streams: who hears whom
    Guard("routing/router.py", "and self.pins.refuse(event, source, now)", "and False", ACTIONS),
    Guard("routing/router.py", "if not groups.issuperset(destinations.groups):", "if False:", ACTIONS),
    Guard(
        "routing/router.py",
        "hears = not receiver.node and not record.groups.isdisjoint(receiver.principal.groups_out)",
        "hears = not receiver.node",
        ACTIONS,
    ),
    Guard("routing/router.py", "if newcomer.principal.groups_out >= groups_out\n", "if True\n", ACTIONS),
    Guard("routing/router.py", "if not alert.record.callsigns and not alert.record.uids\n", "if True\n", ACTIONS),
    Guard("routing/router.py", "if not record.callsigns and not record.uids:", "if True:", ACTIONS),
    Guard("routing/router.py", "and self.contacts.take_off_map(uid, groups):", "and True:", ACTIONS),
    Guard(
        "routing/router.py",
        "if groups and is_retained(type_, detail.archive)",
        "if is_retained(type_, detail.archive)",
        ACTIONS,
    ),
    Guard("routing/router.py", "if holder.principal.name == subscription.principal.name and", "if", ACTIONS),
    Guard(
        "routing/subscription.py", "if not self.incognito and not self.from_server:", "if not self.incognito:", ACTIONS
    ),
    Guard("routing/subscription.py", "self._router.hide(self)", "pass", ACTIONS),
    Guard(
        "routing/audience.py",
        "audience for audience in self._audiences.values() if not groups.isdisjoint(audience.groups_out)",
        "audience for audience in self._audiences.values()",
        ACTIONS,
    ),
    Guard(
        "routing/audience.py",
        "if groups.isdisjoint(audience.groups_out) or not others.isdisjoint(audience.groups_out):",
        "if not others.isdisjoint(audience.groups_out):",
        f"{STREAMS}.SwitchedOffTests.test_third",
    ),
    Guard(
        "routing/offers.py",
        "if key[0] == uid and not key[1].isdisjoint(groups)]",
        "if key[0] == uid]",
        ACTIONS,
    ),
    Guard("routing/directing.py", "if not groups.isdisjoint(holder.principal.groups_out):", "if True:", ACTIONS),
    Guard("routing/directing.py", "if is_chat and not groups.isdisjoint(contact.groups_out):", "if is_chat:", ACTIONS),
    Guard(
        "routing/emergencies.py", "if older is not None and not self._is_raiser(older, source):", "if False:", ACTIONS
    ),
    Guard("routing/emergencies.py", "if device not in source.uids or", "if", ACTIONS),
    Guard("routing/emergencies.py", "if not self._is_raiser(alert, source):", "if False:", ACTIONS),
    Guard("routing/emergencies.py", "return record.principal == source.principal.name", "return True", ACTIONS),
    Guard(
        "routing/emergencies.py", 'return record.raiser != "" and record.raiser in source.uids', "return True", ACTIONS
    ),
    Guard("routing/emergencies.py", "if not groups_out.isdisjoint(alert.record.groups):", "if True:", ACTIONS),
    Guard(
        "routing/emergencies.py",
        "if until > now and not groups_out.isdisjoint(alert.record.groups):",
        "if until > now:",
        ACTIONS,
    ),
    Guard("routing/emergencies.py", " or alert.record.groups.isdisjoint(groups_out):", ":", ACTIONS),
    Guard(
        "routing/emergencies.py",
        "if alert is None or alert.record.callsigns or alert.record.uids or",
        "if alert is None or",
        ACTIONS,
    ),
    Guard("routing/retained.py", "if held is not None and held.groups.isdisjoint(groups):", "if False:", ACTIONS),
    Guard(
        "routing/retained.py",
        "if held.groups.isdisjoint(groups):\n                return",
        "if False:\n                return",
        ACTIONS,
    ),
    Guard(
        "routing/retained.py",
        "if held is not None and not held.groups.isdisjoint(groups):\n            self._drop(uid)",
        "if held is not None:\n            self._drop(uid)",
        ACTIONS,
    ),
    Guard("routing/retained.py", " or held.groups.isdisjoint(groups_out):", ":", ACTIONS),
    Guard(
        "routing/retained.py",
        "and held.expires > now and not groups_out.isdisjoint(held.groups):",
        "and held.expires > now:",
        ACTIONS,
    ),
    Guard(
        "routing/retained.py",
        " and event.time <= tombstone.deleted and not tombstone.groups.isdisjoint(groups)",
        " and event.time <= tombstone.deleted",
        ACTIONS,
    ),
    Guard(
        "routing/retained.py",
        "elif held is None:\n                return  #",
        "elif False:\n                return  #",
        ACTIONS,
    ),
    Guard(
        "routing/contacts.py",
        "if contact.present or contact.groups_in.isdisjoint(groups):",
        "if contact.present:",
        ACTIONS,
    ),
    Guard(
        "routing/contacts.py",
        "if contact.present or contact.groups_in.isdisjoint(groups):",
        "if contact.groups_in.isdisjoint(groups):",
        ACTIONS,
    ),
    Guard("routing/contacts.py", " or newcomer.principal.groups_out.isdisjoint(contact.groups_in):", ":", ACTIONS),
    Guard("routing/contacts.py", "<= REPLAY_SECONDS and not contact.incognito:", "<= REPLAY_SECONDS:", ACTIONS),
    Guard("routing/contacts.py", "if older.principal.same_as(newer.principal):", "if True:", ACTIONS),
    Guard("routing/contacts.py", "            or (contact is not None and contact.holders)\n", "", ACTIONS),
    Guard(
        "routing/contact.py", "if self.incognito or self.groups_in.isdisjoint(groups_out)", "if self.incognito", ACTIONS
    ),
    Guard(
        "routing/contact.py",
        "if self.incognito or self.groups_in.isdisjoint(groups_out)",
        "if self.groups_in.isdisjoint(groups_out)",
        f"{GROUPS}.LooksTests.test_incognito",
    ),
    Guard(
        "routing/missed_chat.py",
        "if is_off or (chat.principal is not None and chat.principal != principal):",
        "if is_off:",
        ACTIONS,
    ),
    Guard(
        "routing/missed_chat.py",
        "if chat.expires > now and not groups_out.isdisjoint(chat.groups):",
        "if chat.expires > now:",
        f"{STREAMS}.WaitingTests.test_no_longer_there",
    ),
    Guard("routing/pins.py", "return contact.principal if now - heard < PIN_SECONDS else None", "return None", ACTIONS),
    Guard(
        "routing/groups.py",
        "return replace(principal, groups_in=groups_in, groups_out=groups_out)",
        "return principal",
        f"{STREAMS}.SwitchedOffTests.test_hears_nothing",
    ),
    Guard("routing/offers.py", "if name == uid and not groups.isdisjoint(groups_out):", "if name == uid:", ACTIONS),
    # Operators
    Guard(
        "admin/sockets.py",
        "factory, mode=MODE, wantPID=False)",
        "factory, mode=0o666, wantPID=False)",
        f"{OPERATORS}.SocketsTests.test_modes",
    ),
    Guard(
        "admin/sockets.py",
        "mask = os.umask(0o777 & ~MODE)",
        "mask = os.umask(0)",
        f"{OPERATORS}.SocketsTests.test_never_open",
    ),
    Guard("admin/sockets.py", 'if kind != "unix":', "if False:", f"{OPERATORS}.CommandsTests.test_no_network"),
    Guard("admin/sockets.py", "if mode not in _MODES:", "if False:", f"{OPERATORS}.CommandsTests.test_no_network"),
)

NOT_IN_THE_MATRIX = {
    "enrollment/invite_requests.py _invite": "tells an operator early; the door refuses such an invite all the same",
    "enrollment/issuing.py Issuing.issue": "of a name that is banned while its request waits; the register refuses too",
    "enrollment/register.py CertificateRegister.add": "the same, for programs that write the register meanwhile",
    "marti/callers.py _name_and_password": "what cannot be read is nobody's name and password all the same",
    "marti/injectors.py InjectorsArea._read": "says that a body is no event; the router decides who may speak",
    "marti/oauth.py OAuthArea.token": "passes on what the accounts have decided",
    "metrics/site.py MetricsProtocol.handshakeCompleted": "no door of ours; end_to_end/test_metrics.py tries it",
    "routing/contacts.py Contacts.is_present": "spares an item that is its sender's report as well",
    "routing/contacts.py Contacts.doubtful": "is about contacts that the newcomer is proved to have been himself",
    "routing/groups.py GroupChoices.choose": "keeps people from switching off everything; a choice only takes away",
    "routing/retained.py Retained.merge": "of another node, which is trusted",
    "routing/retained.py Retained.merge_tombstone": "of another node, which is trusted",
    "routing/switching.py _untold": "leaves out what was told already",
    "routing/tracing.py Tracing._stopped": "explains to operators what the router did",
    "routing/tracing.py Tracing._why_not": "explains to operators what the router did",
    "stores/redis_reading.py Reading._is_deleted": "of what other programs wrote into Redis, which is trusted",
    "tap.py make_server": "hands over who was banned; tests/end_to_end sees whether it does",
}
"""What looks like a guard and is not taken out: file and function, and why the matrix need not miss it."""
