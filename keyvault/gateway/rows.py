"""Read from PostgreSQL what a gateway must know, whole or subject by subject.

The same statements serve the first load and every change, so that both see
alike. All of one look run in one REPEATABLE READ transaction of the caller.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from typing import Any
from uuid import UUID

from psycopg import AsyncConnection

from keyvault.gateway import entries
from keyvault.gateway.cache import Agent, Cache, Changes, Stay, Token
from keyvault.gateway.entries import Entry, Grant, Version

Link = AsyncConnection[tuple[Any, ...]]
_BATCH = 2000

_KEY_IDS = """
SELECT id FROM keyvault_key
WHERE state = 'live' AND delivery_mode = 'pull' AND id > %s ORDER BY id LIMIT %s
"""
_KEYS = """
SELECT id, name, state = 'live' AND delivery_mode = 'pull', expires_at
FROM keyvault_key WHERE id = ANY(%s) AND released_at IS NULL
"""
_KEYS_OF_GRANTS = "SELECT DISTINCT key_id FROM keyvault_grant WHERE id = ANY(%s)"
_GRANTS = """
SELECT key_id, agent_id, group_id, starts_at, ends_at FROM keyvault_grant
WHERE key_id = ANY(%s) AND permission = 'use' AND user_id IS NULL AND ended_at IS NULL
    AND (ends_at IS NULL OR ends_at > clock_timestamp())
"""
_VERSIONS = """
SELECT v.key_id, v.number, v.state = 'current', v.expires_at, v.public, s.field, s.blob
FROM keyvault_version v JOIN keyvault_sealed s
    ON s.subject_kind = 'key' AND s.subject_id = v.key_id AND s.number = v.number
WHERE v.key_id = ANY(%s) AND v.state IN ('current', 'previous')
ORDER BY v.key_id, v.number, s.field
"""
# Tried at the provider, and not yet current; a rotation that is held there goes on from there.
_LAID_READY = "(r.state IN ('staged', 'promoting') OR r.held_from IN ('staged', 'promoting'))"
_PENDING = f"""
SELECT v.key_id, v.number, false, v.expires_at, v.public, s.field, s.blob
FROM keyvault_rotation r JOIN keyvault_version v ON v.id = r.new_id AND v.key_id = r.key_id
    JOIN keyvault_sealed s
    ON s.subject_kind = 'key' AND s.subject_id = v.key_id AND s.number = v.number
WHERE r.key_id = ANY(%s) AND v.state = 'pending' AND {_LAID_READY}
ORDER BY v.key_id, v.number, s.field
"""  # noqa: S608 - constants of this module only
_DEPENDENTS = f"""
SELECT r.key_id, d.agent_id FROM keyvault_rotation r
    JOIN keyvault_delivery part ON part.rotation_id = r.id
    JOIN keyvault_dependent d ON d.id = part.dependent_id
WHERE r.key_id = ANY(%s) AND {_LAID_READY} AND d.agent_id IS NOT NULL AND d.ended_at IS NULL
"""  # noqa: S608 - constants of this module only
_AGENTS = "SELECT id, name, state = 'active' FROM keyvault_agent WHERE id = ANY(%s)"
_ACTIVE = "SELECT id FROM keyvault_agent WHERE state = 'active'"
_STAYS = """
SELECT agent_id, group_id, joined_at, left_at FROM keyvault_agentmembership
WHERE agent_id = ANY(%s) AND (left_at IS NULL OR left_at > clock_timestamp())
"""
_BEARERS = """
SELECT public_id, ended_at IS NULL AND expires_at > clock_timestamp(),
    digest, agent_id, expires_at, keys
FROM keyvault_accesstoken
"""
_CHANGED_BEARERS = _BEARERS + "WHERE id = ANY(%s)"
_OPEN_BEARERS = _BEARERS + "WHERE ended_at IS NULL AND expires_at > clock_timestamp()"


async def everything(link: Link) -> Cache:
    """Return a new cache with all that this transaction sees."""
    cache = Cache()
    tokens = _tokens(await _all(link, _OPEN_BEARERS))
    active = [row[0] for row in await _all(link, _ACTIVE)]
    cache.apply(Changes(agents=await _agents(link, active), tokens=tokens))
    last = UUID(int=0)
    while True:
        ids = [row[0] for row in await _all(link, _KEY_IDS, last, _BATCH)]
        if not ids:
            return cache
        cache.apply(Changes(keys=await _keys(link, ids)))
        last = ids[-1]


async def changed(link: Link, subjects: Iterable[tuple[str, UUID]]) -> Changes:
    """Read the subjects of noted changes again: kinds `key`, `grant`, `agent` and `token`."""
    by_kind: dict[str, set[UUID]] = defaultdict(set)
    for kind, subject in subjects:
        by_kind[kind].add(subject)
    found = Changes()
    keys = by_kind["key"]
    if by_kind["grant"]:
        keys |= {row[0] for row in await _all(link, _KEYS_OF_GRANTS, list(by_kind["grant"]))}
    if keys:
        found.keys = await _keys(link, list(keys))
    if by_kind["agent"]:
        found.agents = await _agents(link, list(by_kind["agent"]))
    if by_kind["token"]:
        found.tokens = _tokens(await _all(link, _CHANGED_BEARERS, list(by_kind["token"])))
    return found


async def _keys(link: Link, ids: Collection[UUID]) -> dict[str, bytes | None]:
    grants = _grants(await _all(link, _GRANTS, ids))
    versions = _versions(await _all(link, _VERSIONS, ids))
    pending = _versions(await _all(link, _PENDING, ids))
    dependents: dict[UUID, tuple[bytes, ...]] = defaultdict(tuple)
    if pending:
        for key, agent in await _all(link, _DEPENDENTS, list(pending)):
            dependents[key] += (agent.bytes,)
    found: dict[str, bytes | None] = {}
    for ident, name, is_open, expires_at in await _all(link, _KEYS, ids):
        entry = Entry(
            ident,
            expires_at,
            grants.get(ident, ()),
            versions.get(ident, ()),
            pending.get(ident, (None,))[0],
            dependents.get(ident, ()),
        )
        found[name] = entries.pack(entry) if is_open else None
    return found


async def _agents(link: Link, ids: Collection[UUID]) -> dict[UUID, Agent | None]:
    stays: dict[UUID, tuple[Stay, ...]] = defaultdict(tuple)
    for agent, *stay in await _all(link, _STAYS, ids):
        stays[agent] += (Stay(*stay),)
    return {
        ident: Agent(ident, name, ident.bytes, stays[ident]) if is_active else None
        for ident, name, is_active in await _all(link, _AGENTS, ids)
    }


def _tokens(rows: Iterable[tuple[Any, ...]]) -> dict[str, Token | None]:
    return {
        public_id: Token(
            public_id, digest, agent, expires_at, None if keys is None else frozenset(keys)
        )
        if is_open
        else None
        for public_id, is_open, digest, agent, expires_at, keys in rows
    }


def _grants(rows: Iterable[tuple[Any, ...]]) -> dict[UUID, tuple[Grant, ...]]:
    found: dict[UUID, tuple[Grant, ...]] = defaultdict(tuple)
    for key, agent, group, starts_at, ends_at in rows:
        holder = agent.bytes if agent is not None else group
        found[key] += (Grant(holder, starts_at, ends_at),)
    return found


def _versions(rows: Iterable[tuple[Any, ...]]) -> dict[UUID, tuple[Version, ...]]:
    """Gather the fields of each version; the rows come in the order of key and number."""
    found: dict[UUID, tuple[Version, ...]] = defaultdict(tuple)
    for (key, number, is_current, expires_at, public), fields in _by_version(rows):
        # A plug-in wrote them, and one that is no text would make the whole entry unreadable.
        texts = {name: str(text) for name, text in public.items()}
        found[key] += (Version(number, is_current, expires_at, texts, fields),)
    return found


def _by_version(
    rows: Iterable[tuple[Any, ...]],
) -> Iterator[tuple[tuple[Any, ...], dict[str, bytes]]]:
    """Yield what is said of each version once, with its sealed fields."""
    last: tuple[Any, ...] = ()
    fields: dict[str, bytes] = {}
    for *version, field, blob in rows:
        if tuple(version) != last:
            if last:
                yield last, fields
            last, fields = tuple(version), {}
        fields[field] = blob
    if last:
        yield last, fields


async def _all(link: Link, statement: str, *arguments: object) -> list[tuple[Any, ...]]:
    cursor = link.cursor(binary=True)
    await cursor.execute(statement, arguments)
    return await cursor.fetchall()
