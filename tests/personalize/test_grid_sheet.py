import numpy as np
import pytest

from eclipse.personalize.grid_sheet import draw_grid

COLOURS = np.array([[(250, 0, 0), (0, 250, 0), (0, 0, 250)], [(9, 9, 9), (99, 99, 99), (200, 200, 0)]], np.uint8)


def cells(side):
    return np.broadcast_to(COLOURS[:, :, None, None], (2, 3, side, side, 3))


@pytest.mark.parametrize(("side", "shown"), [(32, 96), (128, 128)])
def test_cells_stand_in_order_between_the_captions(side, shown):
    sheet = np.asarray(draw_grid(cells(side), ["top left", "top right", "below left", "below right"]))
    assert sheet.shape[1] == 3 * (shown + 6) + 6
    top = (sheet.shape[0] - 2 * (shown + 6)) // 2  # one line of captions above and one below
    for row in range(2):
        for column in range(3):
            y, x = top + row * (shown + 6) + shown // 2, 6 + column * (shown + 6) + shown // 2
            assert tuple(sheet[y, x]) == tuple(COLOURS[row, column])
    middle = sheet.shape[1] // 2
    for band in (sheet[:top], sheet[-top:]):
        assert (band[:, :middle] < 128).any() and (band[:, middle:] < 128).any()


def test_a_row_has_captions_above_only():
    one = draw_grid(cells(96)[:1], ["left", "right"])
    four = draw_grid(cells(96)[:1], ["left", "right", "left", "right"])
    assert one.height < four.height


def test_long_captions_are_wrapped_apart_and_cut():
    short, long = (draw_grid(cells(96), [text, "b", "c", "d"]) for text in ("a", "many words " * 60))
    assert long.width == short.width and short.height < long.height < short.height + 90
    middle = np.asarray(long)[: long.height - short.height, long.width // 2 - 2 : long.width // 2 + 2]
    assert (middle > 200).all()  # the left caption does not run into the right one's half
