"""What somebody may try on a stream, and in a word or two what came of it: the rows of the table of the manual."""

from __future__ import annotations

from collections.abc import Callable

from taky_twisted.cot.event import Event
from taky_twisted.identity.principal import ANONYMOUS
from taky_twisted.routing import switching
from tests.fakes import principal
from tests.samples import cancel, chat, control, delete, emergency, event, marker, sa, to, xml
from tests.security.scene import OTHERS, Phone, Scene

Action = Callable[[Scene], str]
ACTIONS: dict[str, Action] = {}
FAR_AWAY = (
    '<subscription><geospatialFilter><boundingBox minLatitude="-1" maxLatitude="0" minLongitude="-1"'
    ' maxLongitude="0"/></geospatialFilter></subscription>'
)
NOTHING = "<subscription><tests xpath=\"/event[@uid='NOTHING']\"/></subscription>"


def action(name: str) -> Callable[[Action], Action]:
    """Enter what tries something."""

    def entered(call: Action) -> Action:
        ACTIONS[name] = call
        return call

    return entered


def _heard(scene: Scene, uid: str = "NEW") -> str:
    """Say who of the group heard of a uid."""
    victim, witness = uid in scene.victim.heard(), uid in scene.witness.heard()
    return {(True, True): "heard", (True, False): "heard by him alone", (False, False): "not heard"}.get(
        (victim, witness), "heard by others"
    )


def _item(scene: Scene, uid: str = "ITEM") -> Event | None:
    return scene.router.retained.find(uid, frozenset({scene.group}), scene.now())


def _alert(scene: Scene, device: str = "VICTIM") -> bool:
    """Whether the group is still told of the victim's emergency, as it was raised."""
    scene.quiet()
    scene.pass_time(31)
    said = [each for each in scene.witness.sink.events if each.uid == f"{device}-9-1-1"]
    return bool(said) and all(each.type == "b-a-o-tbl" and b"VICTIM-Alert" in each.xml for each in said)


@action("report himself")
def _(scene: Scene) -> str:
    scene.actor.say(sa("NEW", "NEW", now=scene.now()))
    contact = scene.router.contacts.get("NEW")
    heard = _heard(scene)
    if heard != "heard":
        return heard
    return "a contact" if contact is not None and contact.present else "heard"


@action("say something to everybody")
def _(scene: Scene) -> str:
    scene.actor.say(marker("NEW", now=scene.now()))
    heard = _heard(scene)
    return "heard and kept" if heard == "heard" and _item(scene, "NEW") is not None else heard


@action("say something to a group by its name")
def _(scene: Scene) -> str:
    scene.actor.say(marker("NEW", now=scene.now(), marti=f'<dest group="{scene.group}"/>'))
    return _heard(scene)


@action("say something to a group of his and one that is not")
def _(scene: Scene) -> str:
    group = '<dest group="NOBODY"/>'
    scene.actor.say(marker("NEW", now=scene.now(), marti=f'<dest group="{scene.group}"/>{group}'))
    return _heard(scene)


@action("say something to somebody, by his uid")
def _(scene: Scene) -> str:
    scene.actor.say(marker("NEW", now=scene.now(), marti='<dest uid="VICTIM"/>'))
    return _heard(scene)


@action("say something to somebody, by his callsign")
def _(scene: Scene) -> str:
    scene.actor.say(marker("NEW", now=scene.now(), marti=to("VICTIM")))
    return _heard(scene)


@action("say something to a mission")
def _(scene: Scene) -> str:
    scene.actor.say(marker("NEW", now=scene.now(), marti='<dest mission="M"/>'))
    return _heard(scene)


@action("chat with everybody")
def _(scene: Scene) -> str:
    scene.actor.say(chat("A", now=scene.now()))
    return _heard(scene, "GeoChat.A.All Chat Rooms.m-1")


@action("chat with somebody")
def _(scene: Scene) -> str:
    scene.actor.say(chat("A", id_="VICTIM", room="VICTIM", uids=("VICTIM",), now=scene.now(), marti=to("VICTIM")))
    return _heard(scene, "GeoChat.A.VICTIM.m-1")


@action("chat with somebody without saying to whom")
def _(scene: Scene) -> str:
    scene.actor.say(chat("A", id_="VICTIM", room="VICTIM", uids=("VICTIM",), now=scene.now()))
    return _heard(scene, "GeoChat.A.VICTIM.m-1")


@action("chat with a team")
def _(scene: Scene) -> str:
    scene.actor.say(chat("A", id_="Cyan", room="Cyan", uids=(), now=scene.now()))
    return _heard(scene, "GeoChat.A.Cyan.m-1")


@action("chat with somebody who is away")
def _(scene: Scene) -> str:
    scene.actor.say(chat("A", id_="AWAY", room="AWAY", uids=("AWAY",), now=scene.now(), marti='<dest uid="AWAY"/>'))
    scene.pass_time(61)
    back = Phone(scene, scene.member("away"))
    back.say(sa("AWAY", "AWAY", now=scene.now()))
    return "waits" if "GeoChat.A.AWAY.m-1" in back.heard() else "does not wait"


@action("find out by a chat who is there")
def _(scene: Scene) -> str:
    answers = []
    for uid in ("VICTIM", "AWAY", "NOBODY"):
        scene.actor.heard()
        scene.actor.say(chat("A", id_=uid, room=uid, uids=(uid,), now=scene.now(), marti=f'<dest uid="{uid}"/>'))
        answers.append(len(scene.actor.heard()))
    return "told" if len(set(answers)) > 1 else "not told"


@action("offer a file")
def _(scene: Scene) -> str:
    offer = '<fileshare filename="x" senderUrl="https://evil.example/x" sizeInBytes="1" sha256="00" senderUid="A"/>'
    scene.actor.say(xml("NEW", "b-f-t-r", offer, now=scene.now(), marti=to("VICTIM")))
    return _heard(scene)


@action("raise an emergency")
def _(scene: Scene) -> str:
    scene.actor.say(emergency("A", "A", now=scene.now()))
    heard = _heard(scene, "A-9-1-1")
    scene.pass_time(31)
    return "heard, and again" if heard == "heard" and _heard(scene, "A-9-1-1") == "heard" else heard


@action("raise an emergency for somebody in particular")
def _(scene: Scene) -> str:
    scene.actor.say(emergency("A", "A", now=scene.now(), marti='<dest uid="VICTIM"/>'))
    heard = _heard(scene, "A-9-1-1")
    scene.pass_time(31)
    assert heard == _heard(scene, "A-9-1-1"), "the first time and again it is not the same"
    return heard


@action("cancel an emergency of somebody anonymous")
def _(scene: Scene) -> str:
    stranger = Phone(scene, ANONYMOUS)
    stranger.say(sa("STRANGER", "STRANGER", now=scene.now()), emergency("STRANGER", "STRANGER", now=scene.now()))
    scene.actor.say(cancel("STRANGER", "STRANGER", now=scene.now()))
    return "goes on" if "STRANGER-9-1-1" in scene.router.emergencies else "ended"


@action("cancel an emergency of somebody else")
def _(scene: Scene) -> str:
    scene.actor.say(cancel("VICTIM", "VICTIM", now=scene.now()))
    return "goes on" if _alert(scene) else "ended"


@action("raise an emergency of somebody else anew")
def _(scene: Scene) -> str:
    scene.actor.say(emergency("VICTIM", "SPOILED", now=scene.now()))
    return "stays" if _alert(scene) else "changed"


@action("raise an emergency anew that somebody has raised by his phone's number")
def _(scene: Scene) -> str:
    scene.victim.say(emergency("5551234", "VICTIM", now=scene.now()))
    scene.pass_time(1)
    scene.actor.say(emergency("5551234", "SPOILED", now=scene.now()))
    return "stays" if _alert(scene, "5551234") else "changed"


@action("delete an emergency of somebody else")
def _(scene: Scene) -> str:
    scene.actor.say(delete("VICTIM-9-1-1", now=scene.now()))
    return "goes on" if _alert(scene) else "ended"


@action("delete an item")
def _(scene: Scene) -> str:
    scene.pass_time(1)
    scene.actor.say(delete("ITEM", now=scene.now()))
    return "gone" if _item(scene) is None else "stays"


@action("change an item")
def _(scene: Scene) -> str:
    scene.pass_time(1)
    scene.actor.say(marker("ITEM", "SPOILED", now=scene.now()))
    item = _item(scene)
    return "gone" if item is None else "changed" if b"SPOILED" in item.xml else "stays"


@action("put a stale item in place of one")
def _(scene: Scene) -> str:
    scene.pass_time(10)
    scene.actor.say(marker("ITEM", "SPOILED", now=scene.now() - 5, stale=1))
    return "stays" if _item(scene) is not None else "gone"


@action("take somebody who is there off the map")
def _(scene: Scene) -> str:
    scene.actor.say(delete("VICTIM", now=scene.now()))
    shown = Phone(scene, scene.member("newcomer")).shown()
    return "stays" if "VICTIM" in shown else "gone"


@action("take somebody who is away off the map")
def _(scene: Scene) -> str:
    scene.actor.say(delete("AWAY", now=scene.now()))
    shown = Phone(scene, scene.member("newcomer")).shown()
    return "stays" if "AWAY" in shown else "gone"


@action("say that he is somebody who is there")
def _(scene: Scene) -> str:
    scene.actor.say(sa("VICTIM", "SPOILED", now=scene.now()))
    heard = _heard(scene, "VICTIM")
    contact = scene.router.contacts.get("VICTIM")
    assert contact is not None
    taken = contact.callsign == "SPOILED" or scene.victim.stream not in contact.holders
    return "taken" if taken else "refused" if heard == "not heard" else "heard"


@action("say that he is somebody who is there, as an item")
def _(scene: Scene) -> str:
    scene.actor.say(marker("VICTIM", "SPOILED", now=scene.now()))
    heard = _heard(scene, "VICTIM")
    return "refused" if heard == "not heard" and _item(scene, "VICTIM") is None else heard


@action("report himself with the uid of an item")
def _(scene: Scene) -> str:
    scene.pass_time(1)
    scene.actor.say(sa("ITEM", "SPOILED", now=scene.now()))
    return "gone" if _item(scene) is None else "stays"


@action("say besides that he is somebody who was silent for a minute")
def _(scene: Scene) -> str:
    scene.pass_time(61)
    scene.actor.say(sa("NEW", "NEW", now=scene.now()), sa("VICTIM", "SPOILED", now=scene.now()))
    contact = scene.router.contacts.get("VICTIM")
    assert contact is not None
    taken = scene.victim.stream not in contact.holders or contact.callsign == "SPOILED"
    return "taken" if taken else "not taken"


@action("say that he is somebody who was silent for a minute")
def _(scene: Scene) -> str:
    scene.pass_time(61)
    scene.actor.say(sa("VICTIM", "SPOILED", now=scene.now()))
    contact = scene.router.contacts.get("VICTIM")
    assert contact is not None
    if scene.victim.stream not in contact.holders:
        return "taken"
    return "heard" if "VICTIM" in scene.witness.heard() else "refused"


@action("close the connection of somebody whose uid he says")
def _(scene: Scene) -> str:
    scene.pass_time(61)
    scene.actor.say(sa("VICTIM", "SPOILED", now=scene.now()))
    scene.pass_time(30)
    return "closed" if scene.victim.sink.closed else "stays open"


@action("get what waits for somebody else")
def _(scene: Scene) -> str:
    waiting = chat("V", id_="AWAY", room="AWAY", uids=("AWAY",), now=scene.now(), marti='<dest uid="AWAY"/>')
    scene.victim.say(waiting)
    scene.pass_time(61)
    scene.actor.say(sa("AWAY", "AWAY", now=scene.now()))
    stolen = "GeoChat.V.AWAY.m-1" in scene.actor.heard()
    scene.pass_time(61)
    back = Phone(scene, scene.member("away"))
    back.say(sa("AWAY", "AWAY", now=scene.now()))
    assert stolen or "GeoChat.V.AWAY.m-1" in back.heard(), "it is lost"
    return "got" if stolen else "not got"


@action("get what could not be sent to somebody whose uid he says")
def _(scene: Scene) -> str:
    letter = marker("LETTER", now=scene.now(), marti='<dest uid="VICTIM"/>')
    scene.pass_time(61)
    scene.actor.say(sa("VICTIM", "SPOILED", now=scene.now()))
    scene.actor.heard()
    scene.victim.sink.waiting = [event(letter)]
    scene.victim.stream.close()
    scene.turn()
    return "got" if "LETTER" in scene.actor.heard() else "not got"


@action("be shown what is on the map")
def _(scene: Scene) -> str:
    phone = scene.actor.phone
    if phone is None:
        return "not shown"
    shown = set(phone.shown()) & {"ITEM", "VICTIM", "VICTIM-9-1-1", "AWAY"}
    return "shown" if len(shown) == 4 else "not shown" if not shown else f"shown {sorted(shown)}"


@action("be shown what is on the map of all groups again")
def _(scene: Scene) -> str:
    phone = scene.actor.phone
    if phone is None:
        return "not shown"
    phone.sink.replayed.clear()
    switching.show(scene.router, phone.stream, frozenset({scene.group, OTHERS}))
    return "shown" if "ITEM" in phone.shown() else "not shown"


@action("be shown that an emergency was canceled")
def _(scene: Scene) -> str:
    scene.victim.say(cancel("VICTIM", "VICTIM", now=scene.now()))
    if scene.actor.phone is None:
        return "not shown"
    again = Phone(scene, scene.actor.phone.stream.principal, everything=scene.actor.phone.stream.wants_everything)
    return "shown" if "VICTIM-9-1-1" in again.shown() else "not shown"


@action("be shown an emergency for somebody else")
def _(scene: Scene) -> str:
    scene.witness.say(emergency("WITNESS", "WITNESS", now=scene.now(), marti='<dest uid="VICTIM"/>'))
    phone = scene.actor.phone
    if phone is None:
        return "not shown"
    again = Phone(scene, phone.stream.principal, everything=phone.stream.wants_everything)
    found = scene.router.find("WITNESS-9-1-1", phone.stream.principal.groups_out)
    return "not shown" if "WITNESS-9-1-1" not in again.shown() and found is None else "shown"


@action("hear what is said to a group")
def _(scene: Scene) -> str:
    scene.actor.heard()
    scene.victim.say(marker("NEW", now=scene.now()))
    return "heard" if "NEW" in scene.actor.heard() else "not heard"


@action("hear what is said to somebody else")
def _(scene: Scene) -> str:
    scene.actor.heard()
    scene.victim.say(marker("NEW", now=scene.now(), marti='<dest uid="WITNESS"/>'))
    return "heard" if "NEW" in scene.actor.heard() else "not heard"


@action("hear what is said to one of two groups")
def _(scene: Scene) -> str:
    scene.actor.heard()
    both = Phone(scene, principal("both", [scene.group, OTHERS], [scene.group, OTHERS]))
    both.say(marker("NEW", now=scene.now(), marti=f'<dest group="{scene.group}"/>'))
    return "heard" if "NEW" in scene.actor.heard() else "not heard"


@action("hear an emergency")
def _(scene: Scene) -> str:
    scene.actor.heard()
    scene.witness.say(emergency("WITNESS", "WITNESS", now=scene.now()))
    first = "WITNESS-9-1-1" in scene.actor.heard()
    scene.pass_time(31)
    again = "WITNESS-9-1-1" in scene.actor.heard()
    assert first == again
    return "heard" if again else "not heard"


@action("hear an emergency for somebody else")
def _(scene: Scene) -> str:
    scene.actor.heard()
    scene.witness.say(emergency("WITNESS", "WITNESS", now=scene.now(), marti='<dest uid="VICTIM"/>'))
    scene.pass_time(31)
    return "heard" if "WITNESS-9-1-1" in scene.actor.heard() else "not heard"


@action("hear of somebody who comes and goes")
def _(scene: Scene) -> str:
    scene.actor.heard()
    mate = Phone(scene, scene.member("mate"))
    mate.say(sa("MATE", "MATE", now=scene.now()))
    mate.stream.close(clean=True)
    scene.turn()
    return "heard" if "MATE" in scene.actor.heard() else "not heard"


def _fetched(scene: Scene, uid: str) -> str:
    phone = scene.actor.phone
    found = phone is not None and scene.router.find(uid, phone.stream.principal.groups_out) is not None
    return "got" if found else "not got"


@action("fetch an item by its uid")
def _(scene: Scene) -> str:
    return _fetched(scene, "ITEM")


@action("fetch a report by its uid")
def _(scene: Scene) -> str:
    return _fetched(scene, "VICTIM")


@action("fetch an emergency by its uid")
def _(scene: Scene) -> str:
    return _fetched(scene, "VICTIM-9-1-1")


@action("fetch an event that was too large to be sent")
def _(scene: Scene) -> str:
    scene.victim.say(xml("LARGE", "b-x", f"<remarks>{'x' * (1 << 16)}</remarks>", now=scene.now()))
    assert scene.router.find("LARGE", frozenset({scene.group})) is not None
    return _fetched(scene, "LARGE")


@action("delete an event that was too large to be sent")
def _(scene: Scene) -> str:
    scene.victim.say(xml("LARGE", "b-x", f"<remarks>{'x' * (1 << 16)}</remarks>", now=scene.now()))
    scene.pass_time(1)
    scene.actor.say(delete("LARGE", now=scene.now()))
    return "gone" if scene.router.find("LARGE", frozenset({scene.group})) is None else "stays"


@action("set a filter for others")
def _(scene: Scene) -> str:
    scene.actor.say(control("t-x-c-f", FAR_AWAY), control("t-b", NOTHING), control("t-b-c", NOTHING))
    scene.quiet()
    scene.victim.say(marker("NEW", now=scene.now()))
    return "only for himself" if "NEW" in scene.witness.heard() else "for others"


@action("hide others")
def _(scene: Scene) -> str:
    scene.actor.say(control("t-x-c-i-e"))
    shown = Phone(scene, scene.member("newcomer")).shown()
    return "only himself" if {"VICTIM", "WITNESS"} <= set(shown) else "others"


@action("hide himself")
def _(scene: Scene) -> str:
    scene.actor.say(sa("NEW-1", "NEW-1", now=scene.now()))
    known = "NEW-1" in scene.witness.heard()
    scene.actor.say(control("t-x-c-i-e"))
    told = "NEW-1" in scene.witness.heard()
    scene.quiet()
    scene.actor.say(marker("NEW-2", now=scene.now()))
    if not known:
        return "was never seen"
    return "not hidden" if _heard(scene, "NEW-2") != "not heard" else "hidden" if told else "hidden without a word"


@action("show somebody who hides")
def _(scene: Scene) -> str:
    scene.victim.say(control("t-x-c-i-e"))
    scene.actor.say(control("t-x-c-i-d"))
    shown = Phone(scene, scene.member("newcomer")).shown()
    return "shown" if "VICTIM" in shown else "stays hidden"


@action("say that the groups of others have changed")
def _(scene: Scene) -> str:
    scene.actor.say(xml("NEW", "t-x-g-c", '<link relation="p-p"/>', now=scene.now()))
    return _heard(scene)


@action("answer pings of others")
def _(scene: Scene) -> str:
    scene.actor.say(xml("NEW", "t-x-c-t-r", now=scene.now()), xml("NEW", "t-x-c-t", now=scene.now()))
    return _heard(scene)


@action("say that a chat of somebody failed")
def _(scene: Scene) -> str:
    scene.actor.say(xml("NEW", "b-t-f-s", now=scene.now(), marti=to("VICTIM")))
    return _heard(scene)


@action("use an item's uid before others")
def _(scene: Scene) -> str:
    scene.actor.say(marker("LATER", "SPOILED", now=scene.now()))
    scene.pass_time(1)
    scene.victim.say(marker("LATER", "MINE", now=scene.now()))
    item = _item(scene, "LATER")
    return "not kept" if item is None or b"MINE" not in item.xml else "kept"


@action("use an emergency's uid before others")
def _(scene: Scene) -> str:
    scene.actor.say(emergency("WITNESS", "SPOILED", now=scene.now()))
    scene.quiet()
    scene.witness.say(emergency("WITNESS", "WITNESS", now=scene.now()))
    scene.quiet()
    scene.pass_time(31)
    said = [each for each in scene.victim.sink.events if each.uid == "WITNESS-9-1-1"]
    return "said again" if said and all(b"WITNESS-Alert" in each.xml for each in said) else "not said again"


@action("delete an item's uid before others use it")
def _(scene: Scene) -> str:
    before = scene.now()
    scene.actor.say(delete("LATER", now=before))
    scene.pass_time(2)
    scene.victim.say(marker("LATER", "MINE", now=before - 1))
    return "kept" if _item(scene, "LATER") is not None else "not kept"


@action("undo a delete by another one")
def _(scene: Scene) -> str:
    before = scene.now()
    scene.pass_time(2)
    scene.victim.say(delete("ITEM", now=scene.now()))
    scene.actor.say(delete("ITEM", now=scene.now()))
    scene.victim.say(marker("ITEM", "OLD", now=before))
    return "stays deleted" if _item(scene) is None else "undone"
