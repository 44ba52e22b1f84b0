"""Every trainable network learns eight pictures by heart: targets, loss, network, decoding and crops fit together."""

import pytest
from learning import Pupil, make_people


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "rate", "steps", "settings"),
    [
        pytest.param("hourglass-tiny", 2e-3, 300, {}, id="hourglass"),
        pytest.param("hourglass-tiny", 2e-3, 300, {"model_arguments": '{"separable": true}'}, id="hourglass-separable"),
        pytest.param("hg-tiny", 2e-3, 300, {}, id="hg"),
        pytest.param("cpm-tiny", 2e-3, 300, {"input_size": [192, 192]}, id="cpm"),
        pytest.param("cpn-tiny", 2e-3, 300, {}, id="cpn"),
        pytest.param("deeppose-tiny", 1e-3, 300, {}, id="deeppose"),
        pytest.param("deeppose-resnet-tiny", 1e-3, 300, {}, id="deeppose-resnet"),
        pytest.param("unipose-tiny", 2e-3, 300, {"input_size": [192, 192]}, id="unipose"),
    ],
)
def test_eight_pictures(tmp_path, model, rate, steps, settings):
    assert Pupil(make_people(tmp_path / "data"), model, **settings).learn_by_heart(rate, steps) == 1.0
