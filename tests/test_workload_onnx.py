"""ONNX files as operator graphs: products by hand, a transformer block against ours, and every kind of bad file."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from report_samples import check_against_schema

import archsim
from archsim.cli import main as cli
from archsim.config.schemas.model import Model
from archsim.errors import ArchsimError, InfeasibleError, InputError, UsageError
from archsim.workload import build_graph, operators
from archsim.workload.onnx_import import load_onnx

onnx = pytest.importorskip("onnx")
helper, Kind = onnx.helper, onnx.TensorProto

HIDDEN, HEADS, WIDTH, VOCABULARY = 64, 4, 256, 1000


class Build:
    """Collects nodes and weights of a model and saves it."""

    def __init__(self) -> None:
        self.nodes, self.weights = [], []

    def weight(self, name, *shape, dtype=np.float16):
        """A weight of zeros."""
        self.weights.append(onnx.numpy_helper.from_array(np.zeros(shape, dtype), name))
        return name

    def constant(self, name, *values):
        """A vector of whole numbers."""
        self.weights.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def node(self, op, inputs, *outputs, **attributes):
        """A node named after its first output, which is returned."""
        self.nodes.append(helper.make_node(op, inputs, outputs, name=outputs[0], **attributes))
        return outputs[0]

    def save(self, path, inputs, output, domains=(), opset=20):
        """Write the model; `inputs` maps a name to its shape, or to (type, shape)."""
        values = []
        for name, given in inputs.items():
            kind, shape = given if isinstance(given, tuple) else (Kind.FLOAT16, given)
            values.append(helper.make_tensor_value_info(name, kind, shape))
        made = helper.make_tensor_value_info(output, Kind.FLOAT16, None)
        graph = helper.make_graph(self.nodes, "g", values, [made], self.weights)
        sets = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
        onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=9 if opset < 21 else 11), path)
        return path


def transformer(path, batch="batch", length="seq"):
    """An encoder layer in the form exporters write: reshapes, transposes, shape arithmetic, biases."""
    b = Build()
    b.node("Gather", [b.weight("table", VOCABULARY, HIDDEN), "ids"], "embedding")
    b.node("LayerNormalization", ["embedding", b.weight("scale", HIDDEN), b.weight("shift", HIDDEN)], "norm1")
    b.node("MatMul", ["norm1", b.weight("w_qkv", HIDDEN, 3 * HIDDEN)], "qkv")
    b.node("Add", ["qkv", b.weight("b_qkv", 3 * HIDDEN)], "qkv_bias")
    b.node("Split", ["qkv_bias", b.constant("parts", *[HIDDEN] * 3)], "q", "k", "v", axis=-1)
    b.node("Shape", ["ids"], "sizes")
    b.node("Concat", ["sizes", b.constant("head", HEADS, HIDDEN // HEADS)], "heads", axis=0)
    for name, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
        b.node("Reshape", [name, "heads"], f"{name}_heads")
        b.node("Transpose", [f"{name}_heads"], f"{name}_turned", perm=order)
    b.node("MatMul", ["q_turned", "k_turned"], "score")
    b.node("Softmax", ["score"], "softmax", axis=-1)
    b.node("MatMul", ["softmax", "v_turned"], "context")
    b.node("Transpose", ["context"], "context_turned", perm=[0, 2, 1, 3])
    b.node("Concat", ["sizes", b.constant("width", HIDDEN)], "flat", axis=0)
    b.node("Reshape", ["context_turned", "flat"], "joined")
    b.node("MatMul", ["joined", b.weight("w_out", HIDDEN, HIDDEN)], "attention_out")
    b.node("Add", ["attention_out", "embedding"], "residual1")
    b.node("LayerNormalization", ["residual1", "scale", "shift"], "norm2")
    b.node("MatMul", ["norm2", b.weight("w_up", HIDDEN, WIDTH)], "ffn_up")
    b.node("Gelu", ["ffn_up"], "activation")
    b.node("MatMul", ["activation", b.weight("w_down", WIDTH, HIDDEN)], "ffn_down")
    b.node("Add", ["ffn_down", "residual1"], "out")
    return b.save(path, {"ids": (Kind.INT64, [batch, length])}, "out")


def one(path):
    """The only operator of a file."""
    (operator,) = operators(load_onnx(path).graph)
    return operator


def sides(operator):
    """What a product is."""
    return operator.kind, operator.m, operator.n, operator.k, operator.count


def test_a_transformer_layer_is_the_one_we_build(tmp_path):
    found = load_onnx(transformer(tmp_path / "layer.onnx"), {"batch": 3, "seq": 20})
    model = Model(
        name="same", description="", sources={}, architecture="encoder", layers=1, hidden=HIDDEN, heads=HEADS,
        ffn_hidden=WIDTH, vocab=VOCABULARY, max_positions=64,
    )  # fmt: skip
    ours = {o.name: o for o in operators(build_graph(model, "prefill", 3, 20, 20))}
    theirs = {o.name: o for o in operators(found.graph)}
    for name in (
        "embedding",
        "qkv",
        "score",
        "softmax",
        "context",
        "attention_out",
        "ffn_up",
        "activation",
        "ffn_down",
    ):
        assert theirs[name].flop == ours[name].flop
        assert theirs[name].kind == ours[name].kind
        assert theirs[name].read_bytes == ours[name].read_bytes
        assert theirs[name].write_bytes == ours[name].write_bytes
    assert set(theirs) - set(ours) == {"norm1", "norm2", "residual1", "out"}
    assert set(found.graph.predecessors("context")) == {"softmax", "qkv"}
    assert set(found.graph.predecessors("residual1")) == {"attention_out", "embedding"}
    weights = VOCABULARY * HIDDEN + HIDDEN * (3 * HIDDEN + HIDDEN + 2 * WIDTH) + 2 * HIDDEN + 3 * HIDDEN
    assert found.weight_bytes == weights * 2 + 6 * 8  # and six indices
    assert (found.batch, found.tokens) == (3, 20)


def test_convolutions_are_unrolled(tmp_path):
    b = Build()
    b.node("Conv", ["image", b.weight("filters", 32, 3, 5, 3)], "out", pads=[2, 1, 2, 1], strides=[2, 2])
    found = one(b.save(tmp_path / "conv.onnx", {"image": [4, 3, 16, 10]}, "out"))
    # 8 x 5 output pixels of 4 images; a patch has 3 channels of 5 x 3.
    assert sides(found) == ("gemm", 4 * 8 * 5, 32, 3 * 5 * 3, 1)
    b = Build()
    b.node("Conv", ["image", b.weight("filters", 32, 1, 3, 3)], "out", group=16)
    assert sides(one(b.save(tmp_path / "groups.onnx", {"image": [1, 16, 6, 6]}, "out"))) == ("gemm", 16, 2, 9, 16)


def test_products_of_all_forms(tmp_path):
    b = Build()
    b.node("Gemm", ["x", b.weight("w", 7, 5), b.weight("c", 7)], "out", transB=1)
    assert sides(one(b.save(tmp_path / "gemm.onnx", {"x": [3, 5]}, "out"))) == ("gemm", 3, 7, 5, 1)
    b = Build()
    b.node("MatMul", [b.weight("w", 7, 5), "x"], "out")  # weights on the left
    assert sides(one(b.save(tmp_path / "left.onnx", {"x": [5, 3]}, "out"))) == ("gemm", 3, 7, 5, 1)
    b = Build()
    b.node("Einsum", ["x", "y"], "out", equation="bhqd,bhkd->bhqk")
    path = b.save(tmp_path / "einsum.onnx", {"x": [2, 3, 4, 5], "y": [2, 3, 6, 5]}, "out")
    assert sides(one(path)) == ("score", 4, 6, 5, 6)


def test_quantised_weights_are_read_as_stored(tmp_path):
    b = Build()
    scale = b.weight("scale")
    b.node("DequantizeLinear", [b.weight("w", 8, 4, dtype=np.int8), scale], "wide")
    b.node("MatMul", ["x", "wide"], "out")
    found = one(b.save(tmp_path / "int8.onnx", {"x": [2, 8]}, "out"))
    assert (found.a_bytes, found.b_bytes, found.c_bytes) == (2.0, 1.0, 2.0)


def test_whole_numbers_are_multiplied_too(tmp_path):
    b = Build()
    scale, zero = b.weight("scale", dtype=np.float32), b.weight("zero", dtype=np.int8)
    b.node("QuantizeLinear", ["x", scale, zero], "small")
    b.node("MatMulInteger", ["small", b.weight("w", 8, 4, dtype=np.int8)], "wide")
    b.node("Cast", ["wide"], "out", to=Kind.FLOAT16)
    path = b.save(tmp_path / "int8.onnx", {"x": (Kind.FLOAT, [2, 8])}, "out")
    small, product = operators(load_onnx(path).graph)
    assert (small.kind, small.a_bytes, small.c_bytes) == ("activation", 4.0, 1.0)
    assert sides(product) == ("gemm", 2, 4, 8, 1)
    assert (product.a_bytes, product.b_bytes, product.c_bytes) == (1.0, 1.0, 4.0)


def test_one_attention_node_is_three_operators(tmp_path):
    b = Build()
    b.node("Attention", ["q", "k", "v"], "out", q_num_heads=8, kv_num_heads=2, is_causal=1)
    shapes = {"q": [3, 10, 8 * 16], "k": [3, 10, 2 * 16], "v": [3, 10, 2 * 16]}
    score, softmax, context = operators(load_onnx(b.save(tmp_path / "a.onnx", shapes, "out", opset=23)).graph)
    assert sides(score) == ("score", 4 * 10, 10, 16, 3 * 2)
    assert sides(context) == ("context", 4 * 10, 16, 10, 3 * 2)
    assert (softmax.m, softmax.n, softmax.count) == (40, 10, 6)
    assert score.fill == softmax.fill == 55 / 100  # 1 + 2 + ... + 10 of 10 x 10


def test_evaluation_adds_up_and_goes_through_the_command_line(tmp_path, capsys):
    path = transformer(tmp_path / "layer.onnx", 3, 20)
    system = archsim.load_system("dgx-a100")
    report = archsim.evaluate_onnx(system, load_onnx(path))
    assert sum(row.seconds - row.overlap_s for row in report.operators) == pytest.approx(report.latency.prefill_s)
    assert sum(report.latency.breakdown["prefill"].values()) == pytest.approx(report.latency.prefill_s)
    assert sum(report.energy.breakdown.values()) == pytest.approx(report.energy.prefill_j)
    assert sum(row.flop for row in report.operators) == 8 * sum(o.flop for o in operators(load_onnx(path).graph))
    files = ["--hdf5", str(tmp_path / "r.h5"), "--perfetto", str(tmp_path / "t.json")]
    assert cli.run(["evaluate", "tpuv4-4", str(path), *files, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    check_against_schema(document, "report")
    assert document["model"] == "layer"
    assert (tmp_path / "t.json").stat().st_size > 0
    assert cli.run(["evaluate", "dgx-a100", str(path), "--input-len", "9"]) == 2
    assert "--input-len does not apply" in capsys.readouterr().err


def test_a_file_runs_as_a_program_of_an_npu(tmp_path, capsys):
    path = transformer(tmp_path / "layer.onnx")
    sizes = ["--set", "workload.batch=2", "--set", "workload.seq=16"]
    assert cli.run(["npu", "layer", "tpuv4-like", str(path), *sizes, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {row["name"] for row in document["operators"]} == {
        o.name for o in operators(load_onnx(path, {"batch": 2, "seq": 16}).graph)
    }
    assert document["seconds"] <= document["alone_s"]
    assert cli.run(["npu", "layer", "tpuv4-like", str(path), "--tokens", "9"]) == 2
    assert "--tokens does not apply" in capsys.readouterr().err
    assert cli.run(["npu", "layer", "tpuv4-like", str(path), "--set", "workload.seq=many"]) == 2
    assert "expected workload.DIMENSION=SIZE" in capsys.readouterr().err


def test_what_does_not_fit_is_said(tmp_path):
    found = replace(load_onnx(transformer(tmp_path / "layer.onnx", 1, 8)), weight_bytes=1e15)
    with pytest.raises(InfeasibleError, match="cannot hold layer: a device of gpu needs"):
        archsim.evaluate_onnx(archsim.load_system("dgx-a100"), found)


def test_all_unsupported_operators_are_listed(tmp_path):
    b = Build()
    b.node("Foo", ["x"], "a", domain="com.acme")
    b.node("NonMaxSuppression", ["a", "a"], "b")
    b.node("Foo", ["b"], "c", domain="com.acme")
    b.node("Relu", ["c"], "out")
    path = b.save(tmp_path / "odd.onnx", {"x": [2, 8]}, "out", domains=("com.acme",))
    with pytest.raises(InputError) as raised:
        load_onnx(path)
    assert str(raised.value) == (f"{path}: operators that are not supported: NonMaxSuppression, com.acme.Foo (2)")


def test_missing_shapes_are_one_line(tmp_path):
    path = transformer(tmp_path / "free.onnx")
    with pytest.raises(
        UsageError, match=r"sizes without a value: batch \(of input 'ids'\), seq .* --set workload.batch"
    ):
        load_onnx(path)
    with pytest.raises(UsageError, match="unknown free dimension 'sequ'; did you mean 'seq'"):
        load_onnx(path, {"batch": 1, "sequ": 8})
    fixed = transformer(tmp_path / "fixed.onnx", 2, 8)
    with pytest.raises(UsageError, match="dimension 'seq' is given, but every input has its sizes"):
        load_onnx(fixed, {"seq": 8})
    b = Build()
    b.node("Relu", ["x"], "out")
    with pytest.raises(InputError, match="input 'x' has no shape"):
        load_onnx(b.save(tmp_path / "none.onnx", {"x": (Kind.FLOAT16, None)}, "out"))
    b = Build()
    b.node("Reshape", ["x", "sizes"], "y")  # sizes known at run time only
    b.node("Relu", ["y"], "out")
    path = b.save(tmp_path / "late.onnx", {"x": [2, 8], "sizes": (Kind.INT64, [2])}, "out")
    with pytest.raises(InputError, match=r"Relu 'out': the shape of '(y|out)' is unknown"):
        load_onnx(path)


def test_shapes_that_do_not_fit_are_one_line(tmp_path):
    b = Build()
    b.node("MatMul", ["x", b.weight("w", 7, 5)], "out")
    with pytest.raises(InputError) as raised:
        load_onnx(b.save(tmp_path / "bad.onnx", {"x": [2, 8]}, "out"))
    assert "\n" not in str(raised.value)


def problem_of(path):
    """What is said about a file; nothing if it can be read."""
    try:
        load_onnx(path)
    except ArchsimError as error:
        return str(error)
    return ""


def test_files_cut_off_or_damaged_never_end_in_a_traceback(tmp_path):
    whole = transformer(tmp_path / "whole.onnx", 2, 8).read_bytes()
    damaged = tmp_path / "damaged.onnx"
    for length in np.linspace(0, len(whole) - 1, 60).astype(int):
        damaged.write_bytes(whole[:length])
        with pytest.raises((InputError, UsageError), match=r"damaged\.onnx"):
            load_onnx(damaged)
    random = np.random.default_rng(5)
    start = whole.rindex(b"embedding") - 2000  # the nodes, not the zeros of the weights
    for _ in range(150):
        broken = bytearray(whole)
        broken[int(random.integers(max(start, 0), len(whole)))] ^= 1 << int(random.integers(8))
        damaged.write_bytes(broken)
        assert "\n" not in problem_of(damaged)
    with pytest.raises(InputError, match="No such file"):
        load_onnx(tmp_path / "missing.onnx")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    path = transformer(tmp_path / "layer.onnx", 1, 8)
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UsageError, match=r"pip install 'archsim\[onnx\]'"):
        load_onnx(path)
