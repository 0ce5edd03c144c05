"""Pictures behind URLs: how long they are kept, and how many."""

from eclipse.serve.files_store import FilesStore


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def store(max_bytes=10, seconds=5.0):
    clock = Clock()
    return FilesStore(max_bytes, seconds, clock), clock


def test_a_picture_is_there_until_its_time_is_up():
    files, clock = store()
    name = files.put(b"abc")
    clock.now = 4.9
    assert files.get(name) == b"abc"
    clock.now = 5.0  # asking for it does not make it live longer
    assert files.get(name) is None


def test_the_one_longest_unasked_for_makes_room():
    files, _ = store()
    first, second = files.put(b"aaaa"), files.put(b"bbbb")
    assert files.get(first) == b"aaaa"
    third = files.put(b"cccc")
    assert files.get(second) is None
    assert files.get(first) == b"aaaa" and files.get(third) == b"cccc"


def test_room_is_counted_in_bytes_and_given_back():
    files, clock = store()
    for _ in range(3):
        names = [files.put(b"12345") for _ in range(2)]
        assert [files.get(name) for name in names] == [b"12345"] * 2
        clock.now += 6
    whole = files.put(b"0123456789")
    assert files.get(whole) == b"0123456789"


def test_one_that_is_larger_than_all_room_pushes_nothing_out():
    files, _ = store()
    small = files.put(b"abc")
    assert files.get(files.put(b"x" * 11)) is None
    assert files.get(small) == b"abc"


def test_names_cannot_be_guessed():
    files, _ = store(10**6)
    names = {files.put(b"a") for _ in range(1000)}
    assert len(names) == 1000 and min(map(len, names)) >= 22  # 128 bits in base64
