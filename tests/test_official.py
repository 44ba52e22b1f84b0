"""Official weight files: recognised, renamed, refused; and every kind of bad file gives one clear error."""

import os
import pickle

import pytest
import torch
from reference import fill_module, load_case, tensors

from posecli.errors import PoseError
from posecli.models import MODELS
from posecli.models.deform import regular_grid
from posecli.models.rescore import RescoreNet
from posecli.official import FAMILIES, load_official, load_official_rescore, read_state_dict


def official_state(architecture: str, keypoints: int) -> dict[str, torch.Tensor]:
    """A state dict with the official names of a network, by the table read backwards."""
    torch.manual_seed(0)
    network = MODELS[architecture](keypoints=keypoints)
    family = FAMILIES[0 if architecture.startswith("dekr") else 1]
    state, own = {}, network.state_dict()
    for name, sources in family.sources(network).items():
        tensor = own[name]
        if len(sources) == 1 or name.endswith("num_batches_tracked"):
            state.update(dict.fromkeys(sources, tensor))
            continue
        sizes = [4, 2] * keypoints if "geometry_conv" in name else [len(tensor) // len(sources)] * len(sources)
        state.update(zip(sources, tensor.split(sizes), strict=True))
    if architecture.startswith("dekr"):
        for joint in range(keypoints):
            for block in range(2):
                name = f"offset_feature_layers.{joint}.{block}.regular_matrix"
                state[name] = regular_grid(torch.zeros(())).T.contiguous()
    return state


@pytest.fixture(scope="module")
def hrnet_state():
    return official_state("hrnet-w32", 17)


def save(path, content):
    torch.save(content, path)
    return path


@pytest.mark.parametrize("case", ["dekr_w32_coco", "hrnet_w32_coco"])
def test_reference_case(shared, tmp_path, case):
    loaded = load_case(shared, case)
    path = save(tmp_path / "release.pth", tensors(loaded["params"]))
    warnings = []
    network, meta = load_official(path, warn=warnings.append)
    assert not network.training
    assert meta.skeleton.name == "coco17" and meta.mean == (0.485, 0.456, 0.406)
    with torch.no_grad():
        output = network(torch.from_numpy(loaded["input"]))
    for name, golden in loaded["golden"].items():
        limit = 1e-4 * loaded["case"]["outputs"][name]["absmax"]
        assert (getattr(output, name) - torch.from_numpy(golden)).abs().max() < limit
    if case == "hrnet_w32_coco":
        assert meta.input_size == (192, 256)
        assert "256x192" in warnings[0] and "384x288" in warnings[0]  # two releases fit: the one taken is named
    else:
        assert meta.input_size == (512, 512) and meta.codec == "dekr" and not warnings


@pytest.mark.parametrize(
    ("architecture", "keypoints", "skeleton", "size"),
    [
        ("dekr-w32", 14, "crowdpose14", (512, 512)),
        ("dekr-w48", 17, "coco17", (640, 640)),
        ("hrnet-w32", 16, "mpii16", (256, 256)),
        ("hrnet-w48", 17, "coco17", (192, 256)),
    ],
)
def test_other_releases(tmp_path, architecture, keypoints, skeleton, size):
    state = official_state(architecture, keypoints)
    network, meta = load_official(save(tmp_path / "a.pth", state), warn=lambda text: None)
    assert (meta.architecture, meta.skeleton.name, meta.input_size) == (architecture, skeleton, size)
    torch.manual_seed(0)
    loaded = network.state_dict()
    for name, tensor in MODELS[architecture](keypoints=keypoints).state_dict().items():
        assert torch.equal(loaded[name], tensor), name


def test_forms_of_saving(tmp_path, hrnet_state):
    """Training checkpoint, data-parallel prefix, no batch counters, the oldest file format."""
    bare = {k: v for k, v in hrnet_state.items() if not k.endswith("num_batches_tracked")}
    wrapped = {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in bare.items()}}
    path = tmp_path / "checkpoint.pth"
    torch.save(wrapped, path, _use_new_zipfile_serialization=False)
    network, _ = load_official(path, warn=lambda text: None)
    assert torch.equal(network.final_layer.weight, hrnet_state["final_layer.weight"])


def test_overrides(tmp_path, hrnet_state):
    path = save(tmp_path / "a.pth", hrnet_state)
    warnings = []
    with pytest.raises(PoseError, match="multiples of 32, not 100 x 128"):
        load_official(path, input_size=(100, 128), warn=warnings.append)
    warnings.clear()
    _, meta = load_official(path, input_size=(288, 384), warn=warnings.append)
    assert meta.input_size == (288, 384) and meta.extra["release"] == "pose_hrnet_w32_384x288" and not warnings
    _, meta = load_official(path, skeleton="posetrack18", input_size=(96, 128), warn=warnings.append)
    assert meta.skeleton.name == "posetrack18" and meta.input_size == (96, 128) and not warnings
    with pytest.raises(PoseError, match=r"17 joints.*'mpii16' has 16"):
        load_official(path, skeleton="mpii16")


def test_unknown_joint_count_needs_a_skeleton(tmp_path, hrnet_state):
    state = dict(hrnet_state)
    state["final_layer.weight"] = torch.zeros(13, 32, 1, 1)
    state["final_layer.bias"] = torch.zeros(13)
    path = save(tmp_path / "a.pth", state)
    with pytest.raises(PoseError, match=r"13 joints.*skeleton="):
        load_official(path)
    _, meta = load_official(path, skeleton="pennaction13", input_size=(192, 256))
    assert meta.skeleton.name == "pennaction13"


def test_names_that_do_not_fit_are_listed(tmp_path, hrnet_state):
    state = dict(hrnet_state)
    state["stage4.2.extra.weight"] = state.pop("stage3.1.branches.0.0.conv1.weight")
    state["conv2.weight"] = torch.zeros(1, 2, 3)
    with pytest.raises(PoseError) as caught:
        load_official(save(tmp_path / "a.pth", state), warn=lambda text: None)
    text = str(caught.value)
    assert "missing: stage3.1.branches.0.0.conv1.weight" in text
    assert "left over: stage4.2.extra.weight" in text
    assert "conv2.weight (1x2x3)" in text


def test_dekr_constant_is_checked(tmp_path):
    state = official_state("dekr-w32", 14)
    state["offset_feature_layers.3.1.regular_matrix"] = torch.zeros(2, 9)
    with pytest.raises(PoseError, match=r"offset_feature_layers\.3\.1\.regular_matrix"):
        load_official(save(tmp_path / "a.pth", state))


@pytest.mark.parametrize("name", ["openpose_body", "lightweight_openpose_1"])
def test_weights_of_other_kinds_name_the_nearest(shared, tmp_path, name):
    fill = fill_module(shared)
    manifest = fill.json.loads((shared / "reference" / name / "manifest.json").read_text())
    state = {key: torch.zeros(shape) for key, shape in manifest.items()}
    with pytest.raises(PoseError, match=r"nearest is .*it lacks .*it has"):
        load_official(save(tmp_path / "a.pth", state))


class Evil:
    """Runs a command when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def make_bad_file(kind, path):
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("<!DOCTYPE html><html>404</html>")
    elif kind in ("truncated", "truncated_old"):
        torch.save(
            {f"layer{i}.weight": torch.rand(100) for i in range(99)},
            path,
            _use_new_zipfile_serialization=kind == "truncated",
        )
        path.write_bytes(path.read_bytes()[:9000])
    elif kind == "header_only":
        path.write_bytes(b"\x80\x02")
    elif kind == "broken_middle":
        torch.save({"a": torch.rand(100)}, path)
        data = bytearray(path.read_bytes())
        data[60:160] = b"\xff" * 100
        path.write_bytes(data)
    elif kind == "code":
        torch.save({"state_dict": {"a": torch.zeros(1)}, "x": Evil(path.with_name("ran"))}, path)
    elif kind == "plain_pickle_with_code":
        path.write_bytes(pickle.dumps({"x": Evil(path.with_name("ran"))}))
    elif kind == "whole_module":
        torch.save(torch.nn.Linear(2, 2), path)
    elif kind == "list":
        torch.save([1, 2], path)
    elif kind == "mixed":
        torch.save({"a": torch.zeros(1), "b": "text"}, path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "other_zip":
        import zipfile

        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("readme.txt", "hello")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("absent", "no such file"),
        ("folder", "not a file"),
        ("empty", "empty"),
        ("text", "not a PyTorch file"),
        ("truncated", "cut off or damaged"),
        ("truncated_old", "cut off or damaged"),
        ("header_only", "cut off or damaged"),
        ("broken_middle", "cut off or damaged|refused"),
        ("code", "refused"),
        ("plain_pickle_with_code", "refused"),
        ("whole_module", "refused"),
        ("list", "no state dict"),
        ("mixed", "not only tensors"),
        ("other_zip", "cut off or damaged"),
    ],
)
def test_bad_files(tmp_path, kind, words):
    path = tmp_path / "weights.pth"
    make_bad_file(kind, path)
    with pytest.raises(PoseError, match=words) as caught:
        read_state_dict(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists(), "nothing of the file may run"


def test_rescoring_net(tmp_path):
    network = RescoreNet(59)
    path = save(tmp_path / "final_rescore.pth", network.state_dict())
    loaded, skeleton = load_official_rescore(path)
    assert skeleton == "crowdpose14"
    assert torch.equal(loaded.l3.weight, network.l3.weight)
    with pytest.raises(PoseError, match="60 features"):
        load_official_rescore(save(tmp_path / "b.pth", RescoreNet(60).state_dict()))
    with pytest.raises(PoseError, match="l4"):
        load_official_rescore(save(tmp_path / "c.pth", {**network.state_dict(), "l4.bias": torch.zeros(1)}))
