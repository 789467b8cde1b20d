"""Sequencing: contiguous, nothing lost, nothing twice, whatever the order of commits."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from django.db import connection, connections, transaction
from django.utils import timezone

from keyvault.audit import ledger, merkle, sequencer, tree
from keyvault.audit.models import Event, LedgerLeaf, LedgerNode, LedgerTree
from tests.keyvault.audit.conftest import ALICE, KEY


def _in_thread(work, *arguments):
    def run():
        try:
            work(*arguments)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def _one(comment="x"):
    return ledger.record(
        "request.commented",
        actor=ALICE,
        subject=KEY,
        now=timezone.now(),
        fields={"comment": comment},
    )


def _assert_complete(count):
    seqs = list(LedgerLeaf.objects.order_by("seq").values_list("seq", flat=True))
    assert seqs == list(range(1, count + 1))
    assert Event.objects.filter(leaf=None).count() == 0
    assert LedgerTree.objects.get().size == count
    assert tree.root(count) == tree.frontier(tree.state()).root()


@pytest.mark.django_db
def test_each_event_gets_the_next_number(write):
    write(3)
    assert sequencer.run_once() == 3
    write(2)
    assert sequencer.run_once() == 2
    assert sequencer.run_once() == 0

    _assert_complete(5)


@pytest.mark.django_db
def test_small_batches_reach_the_end_and_store_subtrees(write):
    write(600)

    while sequencer.run_once(limit=7):
        pass

    _assert_complete(600)
    assert list(LedgerNode.objects.values_list("height", "index").order_by("index")) == [
        (8, 0),
        (8, 1),
    ]


@pytest.mark.django_db(transaction=True)
def test_a_transaction_that_commits_late_is_not_left_out(write):
    began, may_commit = threading.Event(), threading.Event()

    def slow():
        with transaction.atomic():
            _one("late")
            began.set()
            may_commit.wait(10)

    thread = _in_thread(slow)
    began.wait(10)
    for _ in range(3):
        write(2)
        sequencer.run_once()
    assert LedgerLeaf.objects.count() == 6
    may_commit.set()
    thread.join()

    assert sequencer.run_once() == 1
    _assert_complete(7)
    assert LedgerLeaf.objects.select_related("event").get(seq=7).event.fields == {"comment": "late"}


@pytest.mark.django_db
def test_a_restored_database_is_swept_from_the_start(write):
    write(4)
    sequencer.run_once()
    write(3)
    LedgerTree.objects.update(cluster="another", swept_xact=2**50)

    assert sequencer.run_once(limit=2) == 2
    assert sequencer.run_once() == 1
    assert sequencer.run_once() == 0
    _assert_complete(7)
    assert LedgerTree.objects.get().swept_xact < 2**50


@pytest.mark.django_db
def test_an_idle_pass_in_a_restored_database_sweeps_once(write):
    write(1)
    sequencer.run_once()
    LedgerTree.objects.update(cluster="another", swept_xact=2**50)

    sequencer.run_once()

    assert LedgerTree.objects.get().cluster != "another"


@pytest.mark.django_db(transaction=True)
def test_two_sequencers_never_work_at_once(write):
    write(5)
    held, release = threading.Event(), threading.Event()

    def hold():
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [sequencer.LOCK])
            held.set()
            release.wait(10)

    thread = _in_thread(hold)
    held.wait(10)
    assert sequencer.run_once() == 0
    release.set()
    thread.join()
    assert sequencer.run_once() == 5


@pytest.mark.django_db(transaction=True)
def test_r51_sixteen_writers_lose_nothing():
    barrier, each = threading.Barrier(16), 20

    def writer(number):
        barrier.wait(20)
        for turn in range(each):
            with transaction.atomic():
                _one(f"{number}/{turn}")
                if turn % 5 == 0:
                    time.sleep(0.005)

    threads = [_in_thread(writer, number) for number in range(16)]
    while any(thread.is_alive() for thread in threads):
        sequencer.run_once(limit=50)
    sequencer.drain()

    _assert_complete(16 * each)


KILLED = """
import django; django.setup()
import time
from keyvault.audit import sequencer
print("up", flush=True)
while True:
    sequencer.run_once(limit=3)
    time.sleep(0.001)
"""


@pytest.mark.slow
@pytest.mark.django_db(transaction=True)
def test_r51_a_sequencer_that_is_killed_again_and_again_loses_nothing(write, request):
    kills = 20 if request.config.getoption("-m") == "campaign" else 4
    address = connection.get_connection_params()
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": "postgresql://{user}@/{dbname}?host={host}&port={port}".format(**address),
    }
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", KILLED], env=env, stdout=subprocess.PIPE)
        child.stdout.readline()
        write(25)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()

    sequencer.drain()
    _assert_complete(25 * kills)


@pytest.mark.django_db
def test_a_proof_leads_from_each_event_to_the_root(write):
    write(300)
    sequencer.drain()

    for seq in (1, 2, 255, 256, 257, 299, 300):
        tree.inclusion(seq, size=300).check()
    with pytest.raises(IndexError):
        tree.inclusion(301, size=300)
    assert tree.root(0) == merkle.EMPTY_ROOT
