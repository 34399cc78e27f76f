import numpy as np

from sum3dcam.evaluation.datasets.labelled import Tube, boxes_by_frame


def test_actors_of_one_frame_come_together_and_holes_have_no_box():
    first = Tube("a", 1, np.array([[0, 0, 1, 1], [np.nan] * 4, [0, 0, 3, 3]], np.float32))
    second = Tube("a", 3, np.array([[5, 5, 6, 6], [5, 5, 7, 7], [5, 5, 8, 8]], np.float32))
    frames = boxes_by_frame((first, second), num_frames=5)
    assert [frame.tolist() for frame in frames] == [
        [],
        [[0, 0, 1, 1]],
        [],
        [[0, 0, 3, 3], [5, 5, 6, 6]],
        [[5, 5, 7, 7]],
    ]
    assert all(frame.shape == (len(frame), 4) for frame in frames)
