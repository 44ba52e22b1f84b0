"""Every trainable network learns eight pictures by heart: targets, loss, network, decoding and crops fit together."""

import pytest
from learning import Pupil, make_people


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "rate", "steps", "settings"),
    [
        pytest.param("hrnet-tiny", 2e-3, 300, {}, id="hrnet"),
        pytest.param("simple-baseline-tiny", 2e-3, 300, {}, id="simple-baseline"),
        pytest.param("fastpose-tiny", 2e-3, 300, {}, id="fastpose"),
        pytest.param("fastpose-tiny", 2e-3, 300, {"model_arguments": '{"dcn": true}'}, id="fastpose-dcn"),
        pytest.param("fastpose-tiny", 2e-3, 300, {"model_arguments": '{"duc": [4, 2, 1]}'}, id="fastpose-duc"),
        pytest.param("hourglass-tiny", 2e-3, 300, {}, id="hourglass"),
        pytest.param("hourglass-tiny", 2e-3, 300, {"model_arguments": '{"separable": true}'}, id="hourglass-separable"),
        pytest.param("hg-tiny", 2e-3, 300, {}, id="hg"),
        pytest.param("cpm-tiny", 2e-3, 300, {"input_size": [192, 192]}, id="cpm"),
        pytest.param("cpn-tiny", 5e-3, 300, {}, id="cpn"),
        pytest.param("deeppose-tiny", 1e-3, 300, {}, id="deeppose"),
        pytest.param("deeppose-resnet-tiny", 1e-3, 300, {}, id="deeppose-resnet"),
        pytest.param("deeppose-pooled", 1e-3, 300, {}, id="deeppose-pooled"),
        pytest.param("unipose-tiny", 2e-3, 300, {"input_size": [192, 192]}, id="unipose"),
    ],
)
def test_eight_pictures(tmp_path, model, rate, steps, settings):
    assert Pupil(make_people(tmp_path / "data"), model, **settings).learn_by_heart(rate, steps) == 1.0


@pytest.mark.slow
def test_eight_pictures_in_three_phases(tmp_path):
    """Tompson et al.: the fine network finds joints three times as close as the coarse one needs to."""
    pupil, steps = Pupil(make_people(tmp_path / "data"), "tompson-tiny"), 200
    found = {}
    for step in range(steps):
        phase = pupil.learner.network.phase
        pupil.task.begin_step(pupil.learner.network, step / steps)
        if phase == "coarse" and pupil.learner.network.phase == "fine":
            found["coarse"] = pupil.pck(0.03)
        pupil.step(2e-3 if step < 140 else 6e-4)
    assert pupil.pck(0.1) == 1.0
    assert pupil.pck(0.03) > max(0.9, found["coarse"] + 0.2)
