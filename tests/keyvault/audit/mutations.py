"""Ways to tamper with a ledger as a superuser of database and host could, drawn at random."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from django.db import connection
from hypothesis import strategies as st

from keyvault.audit import checkpoints, merkle, note
from keyvault.audit.models import Checkpoint, Event, LedgerLeaf, LedgerTree

TEXT_COLUMNS = (
    "event", "actor_kind", "actor_id", "actor_label", "on_behalf_of", "subject_kind",
    "subject_id", "subject_label", "correlation_id", "ip", "session", "user_agent",
)  # fmt: skip


def run(statement, values=()):
    """Run SQL with triggers and foreign keys off, for the current savepoint only."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute(statement, values)
        cursor.execute("SET LOCAL session_replication_role = origin")


def _leaf(data, *, below=None):
    size = LedgerLeaf.objects.count()
    return LedgerLeaf.objects.select_related("event").get(
        seq=data.draw(st.integers(1, below or size))
    )


def edited_text(data, world):
    column = data.draw(st.sampled_from(TEXT_COLUMNS))
    event = _leaf(data).event
    run(
        f"UPDATE keyvault_event SET {column} = left({column} || 'x', 16) || 'y' WHERE id = %s",
        [event.id],
    ) if getattr(event, column) else run(
        f"UPDATE keyvault_event SET {column} = 'x' WHERE id = %s", [event.id]
    )


def edited_fields(data, world):
    value = data.draw(st.sampled_from(["{}", '{"comment": 1}', '{"comment": "line 0", "b": null}']))
    run("UPDATE keyvault_event SET fields = %s WHERE id = %s", [value, _leaf(data).event.id])


def edited_outcome(data, world):
    run("UPDATE keyvault_event SET outcome = 'refused' WHERE id = %s", [_leaf(data).event.id])


def edited_request(data, world):
    run("UPDATE keyvault_event SET request_id = NULL WHERE id = %s", [_leaf(data).event.id])


def moved_clock(data, world):
    column = data.draw(st.sampled_from(["at", "acted_at"]))
    shift = timedelta(microseconds=data.draw(st.integers(1, 10**12)))
    run(
        f"UPDATE keyvault_event SET {column} = {column} + %s WHERE id = %s",
        [shift, _leaf(data).event.id],
    )


def edited_leaf(data, world):
    run(
        "UPDATE keyvault_ledgerleaf SET leaf_hash = %s WHERE seq = %s",
        [data.draw(st.binary(min_size=32, max_size=32)), _leaf(data).seq],
    )


def forged_event_and_leaf(data, world):
    """Rewrite an event and everything stored that follows from it; only signatures are left."""
    leaf = _leaf(data)
    entry = leaf.event.entry()._replace(actor_label="Mallory")
    run("UPDATE keyvault_event SET actor_label = 'Mallory' WHERE id = %s", [leaf.event_id])
    run("UPDATE keyvault_ledgerleaf SET leaf_hash = %s WHERE seq = %s", [entry.leaf(), leaf.seq])
    if data.draw(st.booleans()):
        _regrow()


def forged_and_signed_again(data, world):
    """As before, and sign every checkpoint again with another key of the same name."""
    forged_event_and_leaf(data, world)
    _regrow()
    origin = LedgerTree.objects.get().origin
    leaves = list(LedgerLeaf.objects.order_by("seq").values_list("leaf_hash", flat=True))
    for row in Checkpoint.objects.all():
        frontier = merkle.Frontier()
        for leaf in leaves[: row.size]:
            frontier.append(bytes(leaf))
        head = replace(checkpoints.head(row), root=frontier.root())
        text = note.sign(head.body(), name=origin, signer=world.foreign)
        run(
            "UPDATE keyvault_checkpoint SET root = %s, note = %s WHERE number = %s",
            [head.root, text, row.number],
        )
        world.sink.place(head).write_text(text)


def _regrow():
    frontier, nodes = merkle.Frontier(), []
    for leaf in LedgerLeaf.objects.order_by("seq").values_list("leaf_hash", flat=True):
        nodes += frontier.append(bytes(leaf))
    for height, position, node in nodes:
        run(
            "UPDATE keyvault_ledgernode SET hash = %s WHERE height = %s AND index = %s",
            [node, height, position],
        )
    LedgerTree.objects.update(peaks=b"".join(frontier.peaks), size=frontier.size)


def deleted_event_and_leaf(data, world):
    leaf = _leaf(data)
    run("DELETE FROM keyvault_ledgerleaf WHERE seq = %s", [leaf.seq])
    run("DELETE FROM keyvault_event WHERE id = %s", [leaf.event_id])


def deleted_event(data, world):
    run("DELETE FROM keyvault_event WHERE id = %s", [_leaf(data).event_id])


def deleted_and_renumbered(data, world):
    leaf = _leaf(data)
    run("DELETE FROM keyvault_ledgerleaf WHERE seq = %s", [leaf.seq])
    run("DELETE FROM keyvault_event WHERE id = %s", [leaf.event_id])
    # Twice, because a key may not stand twice even for a moment.
    run("UPDATE keyvault_ledgerleaf SET seq = seq + 100000 WHERE seq > %s", [leaf.seq])
    run("UPDATE keyvault_ledgerleaf SET seq = seq - 100001 WHERE seq > 100000")
    _regrow()


def deleted_tail(data, world):
    size = LedgerLeaf.objects.count()
    keep = data.draw(st.integers(0, size - 1))
    run("DELETE FROM keyvault_ledgerleaf WHERE seq > %s", [keep])
    run("DELETE FROM keyvault_event WHERE id NOT IN (SELECT event_id FROM keyvault_ledgerleaf)")
    if data.draw(st.booleans()):
        _regrow()
        run("DELETE FROM keyvault_checkpoint WHERE size > %s", [keep])


def swapped(data, world):
    one, two = _leaf(data), _leaf(data)
    if one.seq == two.seq:
        two = LedgerLeaf.objects.get(seq=one.seq % LedgerLeaf.objects.count() + 1)
    run("UPDATE keyvault_ledgerleaf SET seq = 100000 WHERE seq = %s", [one.seq])
    run("UPDATE keyvault_ledgerleaf SET seq = %s WHERE seq = %s", [one.seq, two.seq])
    run("UPDATE keyvault_ledgerleaf SET seq = %s WHERE seq = 100000", [two.seq])


def duplicated(data, world):
    """Put a copy of an event behind the last one that is signed for."""
    source = _leaf(data).event
    size = LedgerLeaf.objects.count()
    copy = Event(**{field.attname: getattr(source, field.attname) for field in Event._meta.fields})
    copy.id = world.fresh
    Event.objects.bulk_create([copy])
    LedgerLeaf.objects.create(seq=size + 1, event=copy, leaf_hash=source.entry().leaf())


def wrong_node(data, world):
    run("UPDATE keyvault_ledgernode SET hash = %s", [b"x" * 32])


def wrong_tree(data, world):
    tree = LedgerTree.objects.get()
    raw = bytearray(tree.peaks)
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1
    LedgerTree.objects.update(peaks=bytes(raw))


def deleted_checkpoint(data, world):
    run("DELETE FROM keyvault_checkpoint WHERE number = %s", [_checkpoint(data).number])


def edited_checkpoint(data, world):
    change = data.draw(
        st.sampled_from(["size = size + 1", "at = at + interval '1 s'", "note = note || 'x'"])
    )
    run(f"UPDATE keyvault_checkpoint SET {change} WHERE number = %s", [_checkpoint(data).number])


def _checkpoint(data):
    return data.draw(st.sampled_from(list(Checkpoint.objects.order_by("number"))))


def lost_file(data, world):
    _file(data, world).unlink()


def edited_file(data, world):
    place = _file(data, world)
    raw = bytearray(place.read_bytes())
    raw[data.draw(st.integers(0, len(raw) - 2))] ^= 1 << data.draw(st.integers(0, 6))
    place.write_bytes(bytes(raw))


def foreign_file(data, world):
    place = _file(data, world)
    body = place.read_text().rpartition("\n\n")[0] + "\n"
    place.write_text(note.sign(body, name=body.split("\n")[0], signer=world.foreign))


def forked_file(data, world):
    """Sign another root with the real key, as a stolen key would."""
    place = _file(data, world)
    head = note.Head.parse(note.read(place.read_text(), checkpoints.verifier()))
    forged = replace(head, root=data.draw(st.binary(min_size=32, max_size=32)))
    place.write_text(note.sign(forged.body(), name=head.origin, signer=checkpoints.signer()))


def _file(data, world):
    return data.draw(st.sampled_from([place for place, _ in world.sink.notes()]))


ALL = (
    edited_text, edited_fields, edited_outcome, edited_request, moved_clock, edited_leaf,
    forged_event_and_leaf, forged_and_signed_again, deleted_event_and_leaf, deleted_event,
    deleted_and_renumbered, deleted_tail, swapped, duplicated, wrong_node, wrong_tree,
    deleted_checkpoint, edited_checkpoint, lost_file, edited_file, foreign_file, forked_file,
)  # fmt: skip
