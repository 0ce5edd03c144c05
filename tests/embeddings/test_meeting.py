"""The lock of processes that meet in files. What they do under it: tests/stages/test_embed_ranks.py."""

import threading
import time

from eclipse.embeddings.meeting import Meeting


def test_one_at_a_time_is_alone_and_readers_are_together(tmp_path):
    meeting = Meeting(tmp_path / "store.parts-4", tmp_path / "store", 4, {"encoder": "x"})
    inside, most = [], []

    def enter():
        with meeting.alone():
            inside.append(None)
            most.append(len(inside))
            time.sleep(0.002)
            inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8
    with meeting.alone(reading=True), meeting.alone(reading=True):
        writer = threading.Thread(target=enter)
        writer.start()
        writer.join(0.05)
        assert writer.is_alive(), "who writes waits for those who read"
    writer.join(30)
    assert not writer.is_alive() and most == [1] * 9
    assert not meeting.folder.exists(), "the lock outlives the parts, and does not need them"
